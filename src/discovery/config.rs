// SPDX-License-Identifier: Apache-2.0
//! What of this room can be configured (key `discovery`), and what the rest of the configuration hands to it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use remora_registry::Ports;
use serde::{Deserialize, Serialize};

use super::policy::{self, Mode};
use crate::config::{PortRange, Span};

/// Key `discovery`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a list is kept warm after the last application stopped following it; one that reconnects finds it at once.
    pub follow_grace: Span,
    /// How long lists read back from disk are kept after a start when no application asks for them. Longer than any
    /// session time-out: a resumed application calls before it asks again.
    pub restored_grace: Span,
    /// How often instances' host names are resolved again.
    pub resolve_interval: Span,
    /// Shortest time between two writes of the last known lists. After a long write the next one waits 20 times its length.
    pub snapshot_interval: Span,
    /// Longest wait for the metadata of an application's revision when an application asks for it. Under Dubbo's own 5 s.
    pub metadata_timeout: Span,
    /// Applications whose published port is not the one they listen on (`DUBBO_PORT_TO_REGISTRY`): published port -> own port.
    pub app_ports: BTreeMap<u16, u16>,
    /// Protection against lists that collapse.
    pub guard: GuardConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            follow_grace: Span(Duration::from_secs(60)),
            restored_grace: Span(Duration::from_secs(600)),
            resolve_interval: Span(Duration::from_secs(30)),
            snapshot_interval: Span(Duration::from_secs(1)),
            metadata_timeout: Span(Duration::from_millis(4500)),
            app_ports: BTreeMap::new(),
            guard: GuardConfig::default(),
        }
    }
}

/// Key `discovery.guard`: a provider list that suddenly loses most of its instances is held while they still answer. An
/// ordinary scale-down, and a provider that was killed, are honoured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardConfig {
    /// Whether lists are guarded at all.
    pub enabled: bool,
    /// Services, or applications of application-level lists, that are not guarded, by name; `com.example.*` is all that begin
    /// so.
    pub off_for: Vec<String>,
    /// A list that shrinks by more than this share within ten seconds is suspicious, in percent.
    pub max_drop_percent: u8,
    /// Lists with fewer instances are believed, except right after a reconnect to the registry.
    pub min_instances: usize,
    /// For this long after a reconnect lists of any size are guarded: a registry that comes back emptied is the usual cause.
    pub after_reconnect: Span,
    /// How often held instances are asked whether they are still there.
    pub probe_interval: Span,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            off_for: Vec::new(),
            max_drop_percent: 50,
            min_instances: 2,
            after_reconnect: Span(Duration::from_secs(60)),
            probe_interval: Span(Duration::from_secs(5)),
        }
    }
}

impl GuardConfig {
    /// Whether the list of this name is guarded.
    pub(super) fn guards(&self, name: &str) -> bool {
        let is_named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(begin) => name.starts_with(begin),
            None => pattern == name,
        };
        self.enabled && !self.off_for.iter().any(is_named)
    }
}

/// What the rest of the configuration says to this room.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Published host; `None`: the one that the application registered.
    pub advertise: Option<IpAddr>,
    /// Where state is kept; `None`: nothing outlives the process.
    pub data_dir: Option<PathBuf>,
    /// The protocols that are served.
    pub protocols: Vec<ProtocolPorts>,
    /// Where this Remora listens besides ingress and egress (facades, admin): never dialled because a registry said so.
    pub own_listeners: Vec<SocketAddr>,
    /// Key `discovery`; replaced whole when it changes.
    pub config: Arc<ArcSwap<Config>>,
    /// Key `mode`.
    pub mode: Mode,
    /// Key `takeover`.
    pub takeover: policy::Config,
    /// Where listening sockets come from.
    pub ports: Ports,
}

/// One protocol's ports (key `protocols.<name>`).
#[derive(Clone, Debug)]
pub struct ProtocolPorts {
    /// Plugin name, `dubbo`.
    pub name: String,
    /// Where applications here send their calls.
    pub egress: SocketAddr,
    /// First ingress port; the host of the others too.
    pub ingress: SocketAddr,
    /// Further ingress ports.
    pub ingress_range: PortRange,
}
