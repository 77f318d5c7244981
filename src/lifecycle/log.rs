// SPDX-License-Identifier: Apache-2.0
//! Log levels and form.
//!
//! Levels are written as everywhere in Rust's tracing: `info`, or `warn,remora::call=debug`. `REMORA_LOG` sets them too.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, reload};

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Which events are logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Verbosity(Targets, String);

/// Not a list of levels.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not a log level; allowed: off, error, warn, info, debug, trace, or a list such as info,remora::call=debug"
)]
pub struct LogError(String);

impl FromStr for Verbosity {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        // A bare word that is no level would be taken for a module's name and hide everything else.
        let mut parts = text.split(',').map(str::trim);
        let words_are_levels = parts.all(|part| match part.split_once('=') {
            Some((_, level)) => is_level(level),
            None => is_level(part),
        });
        match text.parse::<Targets>() {
            Ok(targets) if words_are_levels => Ok(Self(targets, text.to_owned())),
            _ => Err(LogError(text.to_owned())),
        }
    }
}

fn is_level(word: &str) -> bool {
    ["off", "error", "warn", "info", "debug", "trace"].contains(&word)
}

impl fmt::Display for Verbosity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

crate::config::text_value!(Verbosity, "log levels such as info or warn,remora::call=debug");

/// Keys under `log:`; the short form is the levels alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogConfig {
    /// Default: info.
    pub level: Verbosity,
    /// Default: text.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: Verbosity(Targets::new().with_default(tracing::Level::INFO), "info".to_owned()),
            format: LogFormat::Text,
        }
    }
}

impl<'de> Deserialize<'de> for LogConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            level: Option<Verbosity>,
            #[serde(default)]
            format: LogFormat,
        }
        struct ShortOrLong;
        impl<'de> Visitor<'de> for ShortOrLong {
            type Value = LogConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("log levels, or a map with `level` and `format`")
            }
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<LogConfig, E> {
                self.visit_str(if on { "on" } else { "off" })
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<LogConfig, E> {
                Ok(LogConfig {
                    level: text.parse().map_err(E::custom)?,
                    format: LogFormat::Text,
                })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LogConfig, A::Error> {
                let long = Long::deserialize(MapAccessDeserializer::new(map))?;
                Ok(LogConfig {
                    level: long.level.unwrap_or(LogConfig::default().level),
                    format: long.format,
                })
            }
        }
        deserializer.deserialize_any(ShortOrLong)
    }
}

impl LogConfig {
    /// Sends this process's events to standard error, and gives what changes their levels. Once per process.
    ///
    /// # Errors
    /// When something else did it before.
    pub fn start(&self) -> Result<LogLevels, TryInitError> {
        let (levels, handle) = reload::Layer::new(self.level.0.clone());
        let registry = tracing_subscriber::registry().with(levels);
        // Who reads the log may go away; the layer's own word on that would panic on the same closed pipe.
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .log_internal_errors(false);
        match self.format {
            LogFormat::Text => {
                let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
                registry.with(lines.with_ansi(colour)).try_init()?;
            }
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init()?,
        }
        Ok(LogLevels(handle))
    }
}

/// Changes the levels of the events of this process.
#[derive(Clone, Debug)]
pub struct LogLevels(reload::Handle<Targets, Registry>);

impl LogLevels {
    /// From now on. `false` if the process logs no more.
    pub fn set(&self, levels: &Verbosity) -> bool {
        self.0.reload(levels.0.clone()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_and_nonsense_is_refused() {
        for text in ["info", "warn,remora::call=debug", "off"] {
            assert_eq!(text.parse::<Verbosity>().unwrap().to_string(), text);
        }
        for text in ["loud", "info,remora=loud", ""] {
            assert!(
                text.parse::<Verbosity>()
                    .unwrap_err()
                    .to_string()
                    .contains("allowed: off, error"),
                "{text}"
            );
        }
    }
}
