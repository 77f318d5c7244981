// SPDX-License-Identifier: Apache-2.0
//! What the form of a configuration cannot say: names that exist, ports that do not collide, what this build serves.

use std::net::{IpAddr, SocketAddr};

use super::error::ConfigError;
use super::load::Loaded;
use super::model::{Facades, RegistryEntry};
use super::registry_url::RegistryUrl;
use super::value::Door;

/// What a build has plugins for.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Protocol names.
    pub protocols: Vec<&'static str>,
    /// Registry schemes, `embedded` among them.
    pub registries: Vec<&'static str>,
    /// Facade names.
    pub facades: Vec<&'static str>,
}

/// Something the operator should know that is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Dotted key.
    pub key: String,
    /// One line.
    pub text: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

/// In the contract of the configuration, but not in this version; such keys load and are reported, never ignored silently.
const LATER_FACADES: [&str; 3] = ["mesh", "dubbod", "sofaregistry"];
const LATER_PROTOCOLS: [&str; 1] = ["bolt"];
const LATER_REGISTRIES: [&str; 2] = ["nacos", "sofaregistry"];

/// Checks a configuration against what this build serves.
///
/// # Errors
/// Every problem found, each with its place and key.
pub fn check(loaded: &Loaded, served: &Served) -> Result<Vec<Note>, Vec<ConfigError>> {
    let mut checker = Checker {
        loaded,
        served,
        errors: Vec::new(),
        notes: Vec::new(),
        ports: Vec::new(),
    };
    checker.registries();
    checker.protocols();
    checker.publish();
    checker.rest();
    checker.port_collisions();
    match checker.errors.is_empty() {
        true => Ok(checker.notes),
        false => Err(checker.errors),
    }
}

struct Checker<'a> {
    loaded: &'a Loaded,
    served: &'a Served,
    errors: Vec<ConfigError>,
    notes: Vec<Note>,
    ports: Vec<(String, SocketAddr)>,
}

impl Checker<'_> {
    fn wrong(&mut self, key: impl Into<String>, problem: impl Into<String>) {
        let key = key.into();
        self.errors.push(ConfigError::Invalid {
            place: self.loaded.place(&key),
            key,
            problem: problem.into(),
        });
    }

    fn note(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.notes.push(Note {
            key: key.into(),
            text: text.into(),
        });
    }

    fn registries(&mut self) {
        let config = &self.loaded.config;
        if config.registries.is_empty() {
            self.registry_url("registry".to_owned(), &config.registry);
            self.facades("facades", &config.facades);
            return;
        }
        for short in ["registry", "facades"] {
            if self.loaded.is_given(short) {
                self.wrong(short, "stands beside `registries`; allowed: one of the two forms");
            }
        }
        for (at, entry) in config.registries.iter().enumerate() {
            self.entry(at, entry, &config.registries);
        }
    }

    fn entry(&mut self, at: usize, entry: &RegistryEntry, all: &[RegistryEntry]) {
        let key = format!("registries[{at}]");
        let name_is_word = !entry.name.is_empty()
            && entry.name.len() <= 32
            && entry
                .name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !name_is_word {
            self.wrong(
                format!("{key}.name"),
                format!("`{}`; allowed: 1 to 32 of a-z, 0-9 and -", entry.name),
            );
        }
        if all.iter().take(at).any(|earlier| earlier.name == entry.name) {
            self.wrong(
                format!("{key}.name"),
                format!("`{}` is used twice; allowed: a name of its own", entry.name),
            );
        }
        self.registry_url(format!("{key}.registry"), &entry.registry);
        self.facades(&format!("{key}.facades"), &entry.facades);
        let has_door =
            entry.facades.zookeeper.on().is_some() || entry.facades.others.values().any(|d| d.on().is_some());
        if !has_door {
            self.note(
                format!("{key}.facades"),
                "no facade: no application can come in to this registry",
            );
        }
    }

    fn registry_url(&mut self, key: String, url: &RegistryUrl) {
        let scheme = url.scheme();
        if self.served.registries.contains(&scheme) {
            if let RegistryUrl::Url { scheme, path, .. } = url
                && scheme == "file"
                && let Err(error) = remora_file::FileRegistry::read(std::path::Path::new(path))
            {
                self.note(key, format!("{error}; it is read again every second"));
            }
            return;
        }
        let allowed = self.served.registries.join(", ");
        match LATER_REGISTRIES.contains(&scheme) {
            true => self.wrong(
                key,
                format!("{scheme}:// is not served by this version; allowed: {allowed}"),
            ),
            false => self.wrong(key, format!("no plugin for {scheme}://; allowed: {allowed}")),
        }
    }

    fn facades(&mut self, key: &str, facades: &Facades) {
        if let Door::On(door) = &facades.zookeeper {
            let key = format!("{key}.zookeeper.listen");
            if !door.listen.0.ip().is_loopback() {
                self.note(
                    &key,
                    format!("{} is open to other hosts: anyone there can publish", door.listen),
                );
            }
            self.ports.push((key.clone(), door.listen.0));
            if let Some(raw) = door.raw {
                let key = key.replace(".listen", ".raw");
                if !raw.0.ip().is_loopback() {
                    self.note(
                        &key,
                        format!("{raw} is open to other hosts: anyone there can change the registry"),
                    );
                }
                self.ports.push((key, raw.0));
            }
        }
        for (name, door) in &facades.others {
            let key = format!("{key}.{name}");
            let is_later = LATER_FACADES.contains(&name.as_str());
            if !is_later {
                let allowed = self.served.facades.join(", ");
                self.wrong(
                    key,
                    format!("unknown key `{name}`; allowed: {allowed}, {}", LATER_FACADES.join(", ")),
                );
                continue;
            }
            let Door::On(door) = door else { continue };
            if door.session.is_some() && name != "sofaregistry" {
                self.wrong(format!("{key}.session"), "unknown key `session`; allowed: listen");
            }
            self.note(
                key,
                format!("not served by this version: nothing listens on {}", door.listen),
            );
        }
    }

    fn protocols(&mut self) {
        for (name, door) in &self.loaded.config.protocols.0 {
            let key = format!("protocols.{name}");
            let Door::On(ports) = door else { continue };
            if LATER_PROTOCOLS.contains(&name.as_str()) && !self.served.protocols.contains(&name.as_str()) {
                let text = format!(
                    "not served by this version: nothing listens on {} and {}",
                    ports.egress, ports.ingress
                );
                self.note(key, text);
                continue;
            }
            if !self.served.protocols.contains(&name.as_str()) {
                let allowed = self.served.protocols.join(", ");
                self.wrong(key, format!("no plugin for protocol `{name}`; allowed: {allowed}"));
                continue;
            }
            if ports.ingress_range.contains(ports.egress.0.port()) {
                let text = format!(
                    "{} holds the egress port {}; allowed: a range without it",
                    ports.ingress_range, ports.egress
                );
                self.wrong(format!("{key}.ingress_range"), text);
            }
            self.ports.push((format!("{key}.egress"), ports.egress.0));
            self.ports.push((format!("{key}.ingress"), ports.ingress.0));
        }
        for name in &self.served.protocols {
            if !self.loaded.config.protocols.0.contains_key(*name) {
                self.note(format!("protocols.{name}"), "has no ports here, so it is not served");
            }
        }
    }

    fn publish(&mut self) {
        for (at, entry) in self.loaded.config.publish.iter().enumerate() {
            if !self.served.protocols.contains(&entry.protocol.as_str()) {
                let allowed = self.served.protocols.join(", ");
                let text = format!("no plugin for protocol `{}`; allowed: {allowed}", entry.protocol);
                self.wrong(format!("publish[{at}].protocol"), text);
            }
            if entry.service.is_empty() {
                self.wrong(format!("publish[{at}].service"), "is empty; allowed: a service name");
            }
        }
    }

    fn rest(&mut self) {
        let config = &self.loaded.config;
        self.ports.push(("admin.listen".to_owned(), config.admin.listen.0));
        if !config.admin.listen.0.ip().is_loopback() {
            let text = format!(
                "{} is open to other hosts: anyone there can read the catalog and drain",
                config.admin.listen
            );
            self.note("admin.listen", text);
        }
        if let Err(error) = config.call.check() {
            self.wrong(
                format!("call.{}", error.key),
                format!("{}; allowed: {}", error.found, error.allowed),
            );
        }
        match config.advertise {
            Some(ip) if ip.is_unspecified() || ip.is_multicast() => {
                self.wrong(
                    "advertise",
                    format!("{ip} is no host's address; allowed: an address that other hosts can dial"),
                );
            }
            Some(ip) if ip.is_loopback() => {
                self.note("advertise", format!("{ip} is published: only this machine can call"));
            }
            _ => {}
        }
        if !(1..=MAX_WORKERS).contains(&config.workers) {
            self.wrong(
                "workers",
                format!("{} threads; allowed: 1 to {MAX_WORKERS}", config.workers),
            );
        }
    }

    fn port_collisions(&mut self) {
        let ports = std::mem::take(&mut self.ports);
        for (at, (key, addr)) in ports.iter().enumerate() {
            let taken = ports.iter().take(at).find(|(_, earlier)| collide(*earlier, *addr));
            if let Some((other, _)) = taken {
                self.wrong(
                    key.clone(),
                    format!("{addr} is taken by {other}; allowed: a port of its own"),
                );
            }
        }
    }
}

/// Whether both cannot be listened on at once.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let overlaps = |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() || b.is_unspecified();
    one.port() != 0 && one.port() == other.port() && overlaps(one.ip(), other.ip())
}

/// More threads than any machine's cores are a slip of the finger.
const MAX_WORKERS: usize = 256;
