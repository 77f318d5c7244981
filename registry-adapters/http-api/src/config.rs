// SPDX-License-Identifier: Apache-2.0
//! What can be set of a door. Each door has defaults of its own: `mesh::Config`, `dubbod::Config`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use remora_registry::peers::Access;

/// Settings that both doors have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where applications connect.
    pub listen: SocketAddr,
    /// Who may use the door at all.
    pub access: Access,
    /// Further applications of this host, each with an address of its own; the door listens there, too, at the port of
    /// `listen`. An application that is not named here is told by `listen`.
    pub applications: Vec<Application>,
    /// Ports on which applications listen, by protocol, since the API does not say them; 0 is none. A port in the
    /// request's own properties and one of the application (above) go first.
    pub ports: BTreeMap<String, u16>,
    /// Names that a request's `Host` may have besides IP addresses and `localhost`.
    pub host_names: Vec<String>,
    /// Time to live of what an application registered, from its first `/heartbeat` on, which every request renews. `None`,
    /// and without any heartbeat: its port alone tells.
    pub lease: Option<Duration>,
    /// Where applications call services that they follow; connections to it are a sign of life of an application.
    pub egress_port: u16,
    /// How often the applications' ports are looked at. A closed one is withdrawn when it was closed twice in a row.
    pub probe_every: Duration,
    /// How long a registration whose port is closed is remembered; a port open again until then brings it back.
    pub forget_after: Duration,
    /// How long the services that an application follows are followed after its last sign of life.
    pub forget_follows_after: Duration,
    /// Connections at a time; beyond it silent ones make way, and new ones wait for the others.
    pub max_connections: usize,
    /// Longest body of a request, in bytes.
    pub max_body_bytes: usize,
    /// Registrations and follows that are kept at a time, each, for one user.
    pub max_entries: usize,
}

impl Settings {
    /// Defaults of a door at 127.0.0.1: its port, the port where applications call, and one application port.
    pub fn at(port: u16, egress_port: u16, protocol: &str, app_port: u16) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            access: Access::default(),
            applications: Vec::new(),
            ports: BTreeMap::from([(protocol.to_owned(), app_port)]),
            host_names: Vec::new(),
            lease: None,
            egress_port,
            // A killed provider must be gone within 5 s: two looks, and time for the registry.
            probe_every: Duration::from_secs(1),
            // A restart by hand, or by a supervisor that backs off, is shorter.
            forget_after: Duration::from_secs(3600),
            // An application never subscribes a second time, so only one that is gone for sure may be forgotten.
            forget_follows_after: Duration::from_secs(24 * 3600),
            max_connections: 256,
            max_body_bytes: 1 << 20,
            max_entries: 10_000,
        }
    }
}

/// One of several applications on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// The address that the application has as its registry's: one of 127.0.0.0/8.
    pub address: IpAddr,
    /// Its name, until it says one itself.
    pub name: String,
    /// Ports on which it listens, by protocol; others as `Settings::ports`.
    pub ports: BTreeMap<String, u16>,
    /// Time to live; `None`: as `Settings::lease`.
    pub lease: Option<Duration>,
}
