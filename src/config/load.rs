// SPDX-License-Identifier: Apache-2.0
//! File, then environment, then command line.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::error::{ConfigError, Place};
use super::keys::Keys;
use super::model::Config;
use super::registry_url::RegistryUrl;
use super::value::Address;

/// What the command line says; it comes last.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// `--registry`.
    pub registry: Option<RegistryUrl>,
    /// `--advertise`.
    pub advertise: Option<std::net::IpAddr>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--admin`.
    pub admin: Option<Address>,
}

/// A configuration and where its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    file: Option<(String, Keys)>,
    /// Top-level key, the variable's name, the keys in its text.
    environment: Vec<(&'static str, String, Keys)>,
    flags: Vec<(&'static str, &'static str)>,
    /// What it was read from, to read it again.
    source: Option<Source>,
}

/// The command line and the environment, which stay what they are.
#[derive(Clone, Debug)]
struct Source {
    overrides: Overrides,
    environment: BTreeMap<String, String>,
    path: Option<PathBuf>,
}

impl Loaded {
    /// A configuration made by a program.
    pub fn of(config: Config) -> Self {
        Self {
            config,
            file: None,
            environment: Vec::new(),
            flags: Vec::new(),
            source: None,
        }
    }

    /// Reads file, environment and command line again; the latter two are as they were.
    ///
    /// # Errors
    /// As [`load`]; a configuration made by a program gives itself.
    pub fn again(&self) -> Result<Self, ConfigError> {
        match &self.source {
            Some(source) => load(&source.overrides, |name| source.environment.get(name).cloned()),
            None => Ok(Self::of(self.config.clone())),
        }
    }

    /// The same places with other values.
    #[must_use]
    pub fn with(&self, config: Config) -> Self {
        Self { config, ..self.clone() }
    }

    /// The file that was read, if any.
    pub fn path(&self) -> Option<&Path> {
        self.source.as_ref()?.path.as_deref()
    }

    /// The name of the file that was read, if any.
    pub fn file(&self) -> Option<&str> {
        self.file.as_ref().map(|(name, _)| name.as_str())
    }

    /// Where the value of a dotted key came from.
    pub fn place(&self, key: &str) -> Place {
        let covers = |top: &str| {
            key.strip_prefix(top)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if let Some((_, flag)) = self.flags.iter().find(|(top, _)| covers(top)) {
            return Place::Flag(flag);
        }
        if let Some((_, name, _)) = self.environment.iter().find(|(top, ..)| covers(top)) {
            return Place::Environment(name.clone());
        }
        match &self.file {
            Some((file, keys)) => {
                let (line, column) = keys.place(key).filter(|_| !key.is_empty()).unwrap_or((0, 0));
                Place::File {
                    file: file.clone(),
                    line,
                    column,
                }
            }
            None => Place::Default,
        }
    }

    /// Whether anybody said something for a dotted key.
    pub fn is_given(&self, key: &str) -> bool {
        match self.place(key) {
            Place::File { .. } => self.file.as_ref().is_some_and(|(_, keys)| keys.holds(key)),
            Place::Environment(variable) => {
                let mut variables = self.environment.iter();
                let found = variables.find(|(_, name, _)| *name == variable);
                let rest = found.and_then(|(top, ..)| key.strip_prefix(top)).unwrap_or_default();
                rest.is_empty() || found.is_some_and(|(.., keys)| keys.holds(rest.trim_start_matches('.')))
            }
            Place::Flag(_) => true,
            Place::Default => false,
        }
    }
}

/// Reads the file that `overrides.file` or `REMORA_CONFIG` names (none: all defaults), then lays the environment and the
/// command line over it. A top-level key of the environment (`REMORA_WORKERS=2`, `REMORA_ADMIN='{listen: 127.0.0.1:1}'`)
/// is YAML and replaces that key whole.
///
/// # Errors
/// File, line, column, key, and what is allowed.
pub fn load(overrides: &Overrides, environment: impl Fn(&str) -> Option<String>) -> Result<Loaded, ConfigError> {
    let known = RefCell::new(BTreeMap::new());
    let environment = |name: &str| {
        let value = environment(name)?;
        known.borrow_mut().insert(name.to_owned(), value.clone());
        Some(value)
    };
    let named = environment("REMORA_CONFIG")
        .filter(|name| !name.is_empty())
        .map(PathBuf::from);
    let file = overrides.file.clone().or(named);
    let mut loaded = match &file {
        Some(path) => read_file(path).map_err(|error| match error {
            ConfigError::Read { file, cause } if overrides.file.is_none() => ConfigError::Read {
                file: format!("{file} ($REMORA_CONFIG)"),
                cause,
            },
            other => other,
        })?,
        None => Loaded::of(Config::default()),
    };
    lay_environment(&mut loaded, environment)?;
    lay_flags(&mut loaded, overrides);
    loaded.source = Some(Source {
        overrides: overrides.clone(),
        environment: known.into_inner(),
        path: file,
    });
    Ok(loaded)
}

fn read_file(path: &Path) -> Result<Loaded, ConfigError> {
    let file = path.display().to_string();
    let text = text_of(path)?;
    let keys = Keys::of(&text);
    let config = match is_blank(&text) {
        true => Config::default(),
        false => read(&text, |key, reported| {
            let (line, column) = keys.exactly(key).unwrap_or(reported);
            Place::File {
                file: file.clone(),
                line,
                column,
            }
        })?,
    };
    Ok(Loaded {
        config,
        file: Some((file, keys)),
        environment: Vec::new(),
        flags: Vec::new(),
        source: None,
    })
}

/// The whole file, if it is one that could be a configuration.
pub(super) fn text_of(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |cause| ConfigError::Read {
        file: path.display().to_string(),
        cause,
    };
    let mut text = String::new();
    // Opening a pipe waits for whoever writes there; the ends that we were given are open.
    let is_given = ["/dev/stdin", "/dev/fd/"]
        .iter()
        .any(|given| path.to_string_lossy().starts_with(given));
    let is_pipe = std::fs::metadata(path).map_err(unreadable)?.file_type().is_fifo();
    if is_pipe && !is_given {
        return Err(unreadable(std::io::Error::other(
            "is a pipe; allowed: a file, or /dev/stdin",
        )));
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    match text.len() as u64 > MAX_FILE_BYTES {
        true => Err(unreadable(std::io::Error::other(
            "more than 16 MiB are no configuration",
        ))),
        false => Ok(text),
    }
}

/// What the parser says where one word of a few is expected.
const ENUM: [&str; 2] = ["externally tagged enum", "unit enum variant"];
/// A hundred thousand entries of `publish` are 8 MiB.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Nothing but comments.
pub(super) fn is_blank(text: &str) -> bool {
    text.lines()
        .all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#'))
}

/// Reads YAML into `T`; an error carries the key and what `place` makes of it and of the reported line and column.
pub(super) fn read<T: DeserializeOwned>(
    text: &str,
    place: impl Fn(&str, (u64, u64)) -> Place,
) -> Result<T, ConfigError> {
    let mut key = String::new();
    serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            key = error.path().to_string();
            error.into_inner()
        })
    })
    .map_err(|error| {
        let reported = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        ConfigError::Invalid {
            place: place(&key, reported),
            key,
            problem: problem(&error),
        }
    })
}

/// The error's text without position and source lines, which are told apart.
fn problem(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as E;
    match error.without_snippet() {
        // The words of std's parsers, which do not say what is allowed.
        E::Message { msg, .. } if msg == "invalid IP address syntax" => {
            "not an IP address; allowed: one such as 10.0.0.5".to_owned()
        }
        E::Message { msg, .. } if msg == "invalid socket address syntax" => {
            "not an address; allowed: IP:PORT, such as 127.0.0.1:20880".to_owned()
        }
        E::Message { msg, .. } => msg.clone(),
        E::SerdeUnknownField { field, expected, .. } => {
            format!("unknown key `{field}`; allowed: {}", expected.join(", "))
        }
        E::SerdeUnknownVariant { variant, expected, .. } => {
            format!("unknown value `{variant}`; allowed: {}", expected.join(", "))
        }
        E::MultipleDocuments { .. } => "more than one YAML document; allowed: one".to_owned(),
        E::SerdeMissingField { field, .. } => format!("key `{field}` is missing"),
        E::DuplicateMappingKey { key, .. } => {
            format!("key `{}` stands twice; allowed: once", key.as_deref().unwrap_or("?"))
        }
        E::InvalidScalar { ty, .. } => match ty.as_bytes().first() {
            Some(b'u') => "not a whole number; allowed: 0 and above".to_owned(),
            Some(b'i') => "not a whole number".to_owned(),
            _ => format!("not a {ty}"),
        },
        E::SerdeInvalidType {
            unexpected, expected, ..
        }
        | E::SerdeInvalidValue {
            unexpected, expected, ..
        } => format!("found {unexpected}; allowed: {expected}"),
        other => {
            let text = other.to_string();
            match text.split(" at line ").next().unwrap_or(&text) {
                "expected mapping start" => "no map of keys; allowed: lines such as `registry: embedded`".to_owned(),
                "expected sequence start" => {
                    "no list; allowed: one such as [ a, b ], or lines that begin with `-`".to_owned()
                }
                "expected string scalar" => "not a text; allowed: one".to_owned(),
                text if ENUM.iter().any(|words| text.contains(words)) => "not a word; allowed: one".to_owned(),
                text => text.to_owned(),
            }
        }
    }
}

fn lay_environment(loaded: &mut Loaded, environment: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
    /// One arm per top-level key: reads the variable, if set, into the field of the same name.
    macro_rules! lay {
        ($($key:ident),* $(,)?) => {$({
            let name = format!("REMORA_{}", stringify!($key).to_uppercase());
            if let Some(text) = environment(&name).filter(|text| !text.is_empty()) {
                loaded.config.$key = read(&text, |_, _| Place::Environment(name.clone()))
                    .map_err(|error| under(stringify!($key), error))?;
                loaded.environment.push((stringify!($key), name, Keys::of(&text)));
            }
        })*};
    }
    lay!(
        registry, advertise, data_dir, facades, protocols, registries, publish, follow, admin, workers, call,
        discovery, lifecycle, log, mode, takeover
    );
    Ok(())
}

/// Puts the top-level key in front of the key of an error.
fn under(top: &str, error: ConfigError) -> ConfigError {
    match error {
        ConfigError::Invalid { place, key, problem } => ConfigError::Invalid {
            place,
            key: if key == "." {
                top.to_owned()
            } else {
                format!("{top}.{key}")
            },
            problem,
        },
        other => other,
    }
}

fn lay_flags(loaded: &mut Loaded, overrides: &Overrides) {
    let config = &mut loaded.config;
    if let Some(registry) = &overrides.registry {
        config.registry = registry.clone();
        loaded.flags.push(("registry", "--registry"));
    }
    if let Some(advertise) = overrides.advertise {
        config.advertise = Some(advertise);
        loaded.flags.push(("advertise", "--advertise"));
    }
    if let Some(data_dir) = &overrides.data_dir {
        config.data_dir = Some(data_dir.clone());
        loaded.flags.push(("data_dir", "--data-dir"));
    }
    if let Some(admin) = overrides.admin {
        config.admin.listen = admin;
        loaded.flags.push(("admin.listen", "--admin"));
    }
}
