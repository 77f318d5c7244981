// SPDX-License-Identifier: Apache-2.0
//! One provider's address and metadata, in the form that every registry can be read into.

use std::fmt;
use std::sync::Arc;

/// Name, group and version of a service. Empty strings mean "none".
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Service name, e.g. `com.example.EchoService`.
    pub name: Arc<str>,
    /// Group, empty if none.
    pub group: Arc<str>,
    /// Version, empty if none (`0.0.0` is none).
    pub version: Arc<str>,
}

impl ServiceKey {
    /// Makes a key; a version of `0.0.0` becomes empty, as Dubbo means it.
    pub fn new(name: &str, group: &str, version: &str) -> Self {
        let version = if version == "0.0.0" { "" } else { version };
        Self {
            name: name.into(),
            group: group.into(),
            version: version.into(),
        }
    }
}

/// `group/name:version`, with absent parts left out: the form that Dubbo's logs use.
impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.group.is_empty() {
            write!(f, "{}/", self.group)?;
        }
        f.write_str(&self.name)?;
        if !self.version.is_empty() {
            write!(f, ":{}", self.version)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Parameters in the order the registry has them; keys may repeat (the last wins for readers, as in Java's maps).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Params(pub Vec<(String, String)>);

impl Params {
    /// The value of `key`, if present.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Sets `key`, in place if present, else at the end.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        match self.0.iter_mut().rev().find(|(k, _)| k == key) {
            Some((_, v)) => *v = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Removes every entry of `key`.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(k, _)| k != key);
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

/// One provider's address and metadata.
///
/// Interface-level lists have a `key`; an entry of an application-level list (Dubbo 3's `/services/<app>`) has none, and
/// its services come from the metadata of its `revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name in its list, unique there (for ZooKeeper the child's name as stored, still percent-encoded).
    pub id: Arc<str>,
    /// What it offers; `None` for an application-level entry.
    pub key: Option<ServiceKey>,
    /// Scheme, e.g. `dubbo`, `tri`, `bolt`.
    pub protocol: Arc<str>,
    /// Host as the registry has it: an IPv4 or IPv6 literal without brackets, or a name.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// Path of the URL without the leading slash; empty if the registry has none.
    pub path: Arc<str>,
    /// Metadata, values decoded once.
    pub params: Params,
    /// The text this was read from (a decoded URL, a JSON document), for surgical rewriting; empty if there is none.
    pub raw: Arc<str>,
}

impl Instance {
    /// Name of the parameter that marks an address published by a Remora; its value is the application's own port.
    pub const MARKER: &'static str = "remora.app.port";

    /// The application's own port, if this address is the ingress of a Remora.
    pub fn app_port(&self) -> Option<u16> {
        self.params.get(Self::MARKER).and_then(|v| v.parse().ok())
    }

    /// Revision of an application-level entry's metadata (`dubbo.metadata.revision`).
    pub fn revision(&self) -> Option<&str> {
        self.params.get("dubbo.metadata.revision")
    }
}
