// SPDX-License-Identifier: Apache-2.0
//! What the form of a configuration cannot say: names that exist, ports that do not collide, what this build serves.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::data_dir;
use super::doors::{DoorApplication, Facades};
use super::error::ConfigError;
use super::limits;
use super::load::Loaded;
use super::model::{Config, RegistryEntry};
use super::registry_url::RegistryUrl;
use super::value::{Address, Door};

/// What a build has plugins for.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Protocol names.
    pub protocols: Vec<&'static str>,
    /// Registry schemes, `embedded` among them.
    pub registries: Vec<&'static str>,
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

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What takes effect: doors and protocols that are left out are off.
    pub config: Config,
    /// What the operator should know.
    pub notes: Vec<Note>,
    /// Doors and protocols (`facades.mesh`) that nobody named: left out if their ports cannot be had.
    pub optional: BTreeSet<&'static str>,
}

/// In the contract of the configuration, but not in this version.
const LATER_REGISTRIES: [&str; 1] = ["nacos"];
/// On unless said otherwise, and left out where their ports are taken and nobody named them: applications of other kinds,
/// and further Remoras on this machine, must not suffer from them.
const OPTIONAL: [&str; 3] = ["protocols.bolt", "facades.mesh", "facades.sofaregistry"];
/// A door that is of no use without a protocol.
const NEEDS: [(&str, &str); 2] = [
    ("facades.mesh", "protocols.bolt"),
    ("facades.dubbod", "protocols.dubbo"),
];

/// Checks a configuration against what this build serves.
///
/// # Errors
/// Every problem found, each with its place and key.
pub fn check(loaded: &Loaded, served: &Served) -> Result<Checked, Vec<ConfigError>> {
    let mut checker = Checker {
        loaded,
        served,
        errors: Vec::new(),
        notes: Vec::new(),
        ports: Vec::new(),
        config: loaded.config.clone(),
        optional: BTreeSet::new(),
    };
    checker.optional();
    checker.registries();
    checker.protocols();
    checker.publish();
    checker.rest();
    checker.takeover();
    checker.port_collisions();
    match checker.errors.is_empty() {
        true => Ok(Checked {
            config: checker.config,
            notes: checker.notes,
            optional: checker.optional,
        }),
        false => Err(checker.errors),
    }
}

struct Checker<'a> {
    loaded: &'a Loaded,
    served: &'a Served,
    errors: Vec<ConfigError>,
    notes: Vec<Note>,
    ports: Vec<(String, SocketAddr)>,
    /// What takes effect.
    config: Config,
    optional: BTreeSet<&'static str>,
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

    /// Finds what nobody named, and turns off what is of no use without something that is off.
    fn optional(&mut self) {
        let config = &self.loaded.config;
        let is_short_form = config.registries.is_empty();
        for key in OPTIONAL {
            let is_named = self.loaded.is_given(key) || (key.starts_with("facades.") && !is_short_form);
            if !is_named && !self.is_needed(key) {
                self.optional.insert(key);
            }
        }
        self.needs();
    }

    /// Whether something that was asked for needs this protocol.
    fn is_needed(&self, protocol: &str) -> bool {
        let config = &self.loaded.config;
        let by_door = NEEDS
            .iter()
            .any(|(door, needed)| *needed == protocol && self.loaded.is_given(door));
        let by_entry = protocol == "protocols.bolt" && config.registries.iter().any(|r| r.facades.mesh.on().is_some());
        let by_publish = config
            .publish
            .iter()
            .any(|p| protocol.strip_prefix("protocols.") == Some(&p.protocol));
        by_door || by_entry || by_publish
    }

    /// Turns off optional doors whose protocol is off; a named one cannot do without.
    fn needs(&mut self) {
        for (door, protocol) in NEEDS {
            if is_on(&self.config, protocol) {
                continue;
            }
            if self.config.registries.is_empty() && is_on(&self.config, door) {
                match self.optional.contains(door) {
                    true => turn_off(&mut self.config, door),
                    false => self.wrong(door, format!("needs {protocol}, which is off")),
                }
            }
            for at in 0..self.config.registries.len() {
                let facades = self.config.registries.get(at).map(|entry| &entry.facades);
                let has_door = facades.is_some_and(|f| match door {
                    "facades.mesh" => f.mesh.on().is_some(),
                    _ => f.dubbod.on().is_some(),
                });
                if has_door {
                    self.wrong(
                        format!("registries[{at}].{door}"),
                        format!("needs {protocol}, which is off"),
                    );
                }
            }
        }
    }

    fn registries(&mut self) {
        let config = &self.loaded.config;
        if config.registries.is_empty() {
            self.registry_url("registry".to_owned(), &config.registry);
            let facades = self.config.facades.clone();
            self.facades("facades", &facades);
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
        if !entry.facades.has_any() {
            self.note(
                format!("{key}.facades"),
                "no facade: no application can come in to this registry",
            );
        }
    }

    fn registry_url(&mut self, key: String, url: &RegistryUrl) {
        let scheme = url.scheme();
        if self.served.registries.contains(&scheme) {
            match url.look() {
                Ok(None) => {}
                Ok(Some(note)) => self.note(key, note),
                Err(problem) => self.wrong(key, problem),
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
        for (setting, text) in limits::wrong(facades) {
            self.wrong(format!("{key}.{setting}"), text);
        }
        if let Door::On(door) = &facades.zookeeper {
            self.door_port(format!("{key}.zookeeper.listen"), door.listen.0);
            if let Some(raw) = door.raw {
                let key = format!("{key}.zookeeper.raw");
                if !raw.0.ip().is_loopback() {
                    self.note(
                        &key,
                        format!("{raw} is open to other hosts: anyone there can change the registry"),
                    );
                }
                self.ports.push((key, raw.0));
            }
        }
        if let Door::On(door) = &facades.mesh {
            let key = format!("{key}.mesh");
            self.http_door(&key, door.listen, &door.applications);
            let egress = self.config.protocols.0.get("bolt").and_then(Door::on).map(|p| p.egress);
            if let Some(egress) = egress.filter(|egress| egress.0.port() != SOFARPC_EGRESS) {
                let text = format!(
                    "SOFARPC calls port {SOFARPC_EGRESS} of this host, whatever is said here; protocols.bolt.egress is {egress}"
                );
                self.note(&key, text);
            }
        }
        if let Door::On(door) = &facades.dubbod {
            self.http_door(&format!("{key}.dubbod"), door.listen, &door.applications);
        }
        if let Door::On(door) = &facades.sofaregistry {
            for (port, addr) in [("listen", door.listen), ("session", door.session)] {
                self.door_port(format!("{key}.sofaregistry.{port}"), addr.0);
            }
        }
    }

    fn http_door(&mut self, key: &str, listen: Address, applications: &[DoorApplication]) {
        self.door_port(format!("{key}.listen"), listen.0);
        for (at, application) in applications.iter().enumerate() {
            let key = format!("{key}.applications[{at}].address");
            if !application.address.is_loopback() {
                let text = format!(
                    "{} is no address of this host alone; allowed: one of 127.0.0.0/8",
                    application.address
                );
                self.wrong(key.clone(), text);
            }
            self.ports
                .push((key, SocketAddr::new(application.address, listen.0.port())));
        }
    }

    fn door_port(&mut self, key: String, addr: SocketAddr) {
        if !addr.ip().is_loopback() {
            self.note(&key, format!("{addr} is open to other hosts: anyone there can publish"));
        }
        self.ports.push((key, addr));
    }

    fn protocols(&mut self) {
        let protocols = self.config.protocols.clone();
        for (name, door) in &protocols.0 {
            let key = format!("protocols.{name}");
            let Door::On(ports) = door else { continue };
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
        let config = &self.loaded.config;
        for (key, text) in config.publish_notes() {
            self.note(key, text);
        }
        let config = &self.loaded.config;
        let published = config.publish.iter().map(|e| (&e.protocol, &e.service)).enumerate();
        let followed = config.follow.iter().map(|e| (&e.protocol, &e.service)).enumerate();
        let published = published.map(|(at, entry)| (format!("publish[{at}]"), entry));
        let followed = followed.map(|(at, entry)| (format!("follow[{at}]"), entry));
        for (key, (protocol, service)) in published.chain(followed) {
            if !self.served.protocols.contains(&protocol.as_str()) {
                let allowed = self.served.protocols.join(", ");
                let text = format!("no plugin for protocol `{protocol}`; allowed: {allowed}");
                self.wrong(format!("{key}.protocol"), text);
            }
            if service.is_empty() {
                self.wrong(format!("{key}.service"), "is empty; allowed: a service name");
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
        if let Some(problem) = config.data_dir.as_deref().and_then(data_dir::problem) {
            self.wrong("data_dir", problem);
        }
        if !(1..=MAX_WORKERS).contains(&config.workers) {
            self.wrong(
                "workers",
                format!("{} threads; allowed: 1 to {MAX_WORKERS}", config.workers),
            );
        }
    }

    fn takeover(&mut self) {
        let takeover = &self.loaded.config.takeover;
        if takeover.percent > 100 {
            self.wrong("takeover.percent", format!("{}; allowed: 0 to 100", takeover.percent));
        }
        for (list, rules) in [("allow", &takeover.allow), ("deny", &takeover.deny)] {
            for (at, _) in rules.iter().enumerate().filter(|(_, rule)| rule.is_empty()) {
                self.wrong(
                    format!("takeover.{list}[{at}]"),
                    "an entry without service, application, group or side names everything; leave the list out instead",
                );
            }
        }
        for (at, rule) in takeover.allow.iter().enumerate() {
            if takeover.deny.contains(rule) {
                self.note(
                    format!("takeover.allow[{at}]"),
                    format!("of no use: takeover.deny has the same entry ({rule}), and deny wins"),
                );
            }
        }
        if takeover.percent == 0 {
            self.note("takeover.percent", "0: nothing is taken over");
        }
    }

    fn port_collisions(&mut self) {
        let mut ports = std::mem::take(&mut self.ports);
        // Defaults first, so that a collision is told of what somebody wrote; what may give way comes last.
        ports.sort_by_key(|(key, _)| (self.optional_of(key).is_some(), self.loaded.is_given(key)));
        let mut held: Vec<(String, SocketAddr)> = Vec::new();
        for (key, addr) in ports {
            let optional = self.optional_of(&key);
            if optional.is_some_and(|door| !is_on(&self.config, door)) {
                continue;
            }
            let taken = held.iter().find(|(_, earlier)| collide(*earlier, addr));
            match (taken, optional) {
                (None, _) => held.push((key, addr)),
                (Some((other, _)), Some(door)) => {
                    let text = format!("not opened: {addr} is taken by {other}");
                    self.note(door, text);
                    turn_off(&mut self.config, door);
                    self.needs();
                }
                (Some((other, _)), None) => {
                    let text = format!("{addr} is taken by {other}; allowed: a port of its own");
                    self.wrong(key, text);
                }
            }
        }
    }

    /// The optional door or protocol that a key belongs to.
    fn optional_of(&self, key: &str) -> Option<&'static str> {
        let belongs = |door: &str| key.strip_prefix(door).is_some_and(|rest| rest.starts_with('.'));
        self.optional.iter().copied().find(|door| belongs(door))
    }
}

fn is_on(config: &Config, key: &str) -> bool {
    match key {
        "facades.mesh" => config.facades.mesh.on().is_some(),
        "facades.dubbod" => config.facades.dubbod.on().is_some(),
        "facades.sofaregistry" => config.facades.sofaregistry.on().is_some(),
        protocol => {
            let name = protocol.trim_start_matches("protocols.");
            config.protocols.0.get(name).is_some_and(|p| p.on().is_some())
        }
    }
}

/// Turns a protocol that cannot be had off, and the doors that are of no use without it; gives those doors.
pub fn leave_out(config: &mut Config, protocol: &str) -> Vec<&'static str> {
    turn_off(config, protocol);
    let doors: Vec<&str> = NEEDS
        .iter()
        .filter(|(door, needed)| *needed == protocol && is_on(config, door))
        .map(|(door, _)| *door)
        .collect();
    for door in &doors {
        turn_off(config, door);
    }
    doors
}

/// Turns an optional door or protocol off.
fn turn_off(config: &mut Config, key: &str) {
    match key {
        "facades.mesh" => config.facades.mesh = Door::Off,
        "facades.sofaregistry" => config.facades.sofaregistry = Door::Off,
        protocol => {
            let name = protocol.trim_start_matches("protocols.");
            config.protocols.0.insert(name.to_owned(), Door::Off);
        }
    }
}

/// Whether both cannot be listened on at once.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let overlaps = |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() || b.is_unspecified();
    one.port() != 0 && one.port() == other.port() && overlaps(one.ip(), other.ip())
}

/// Compiled into SOFARPC (`MeshConstants.TCP_PORT`).
const SOFARPC_EGRESS: u16 = 12220;
/// More threads than any machine's cores are a slip of the finger.
const MAX_WORKERS: usize = 256;
