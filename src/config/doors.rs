// SPDX-License-Identifier: Apache-2.0
//! Keys of the doors by which applications come in (`facades`): each plugin's settings in YAML.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use remora_http_api::{Application, Settings, dubbod, mesh};
use remora_sofaregistry::facade as sofaregistry;
use remora_zookeeper::facade;
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use super::value::{Address, ByteSize, Door, Span};

/// The doors by which applications come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facades {
    /// The ZooKeeper door.
    pub zookeeper: Door<ZooKeeperDoor>,
    /// SOFARPC's mesh API.
    pub mesh: Door<MeshDoor>,
    /// MOSN's dubbod API. Off unless named.
    pub dubbod: Door<DubbodDoor>,
    /// The SOFARegistry door.
    pub sofaregistry: Door<SofaRegistryDoor>,
}

impl Default for Facades {
    fn default() -> Self {
        Self {
            zookeeper: Door::On(ZooKeeperDoor::default()),
            mesh: Door::On(MeshDoor::default()),
            // Dubbo's own QoS server wants port 22222, and is on unless an application says otherwise.
            dubbod: Door::Off,
            sofaregistry: Door::On(SofaRegistryDoor::default()),
        }
    }
}

impl Facades {
    /// No door open.
    pub fn none() -> Self {
        Self {
            zookeeper: Door::Off,
            mesh: Door::Off,
            dubbod: Door::Off,
            sofaregistry: Door::Off,
        }
    }

    /// Whether any door is open.
    pub fn has_any(&self) -> bool {
        *self != Self::none()
    }

    /// Reads doors of which those that are not named are off.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Named::deserialize(deserializer)?.over(Self::none()))
    }
}

impl<'de> Deserialize<'de> for Facades {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Named::deserialize(deserializer)?.over(Self::default()))
    }
}

/// Doors as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    zookeeper: Option<Door<ZooKeeperDoor>>,
    mesh: Option<Door<MeshDoor>>,
    dubbod: Option<Door<DubbodDoor>>,
    sofaregistry: Option<Door<SofaRegistryDoor>>,
}

impl Named {
    fn over(self, rest: Facades) -> Facades {
        Facades {
            zookeeper: self.zookeeper.unwrap_or(rest.zookeeper),
            mesh: self.mesh.unwrap_or(rest.mesh),
            dubbod: self.dubbod.unwrap_or(rest.dubbod),
            sofaregistry: self.sofaregistry.unwrap_or(rest.sofaregistry),
        }
    }
}

/// The ZooKeeper door's keys; the plugin's own settings in YAML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ZooKeeperDoor {
    /// What the application's registry address must say. Default: 127.0.0.1:2181, ZooKeeper's own port.
    pub listen: Address,
    /// A second port that shows the registry as it is, for operators' tools and, with the embedded registry, for other
    /// Remoras. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<Address>,
    /// Roots below which services are taken over. Default: any path of the shape that Dubbo and SOFARPC use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_roots: Option<Vec<String>>,
    /// Roots of application-level lists.
    pub application_roots: Vec<String>,
    /// Longest request taken.
    pub max_frame: ByteSize,
    /// Longest reply passed on.
    pub max_reply: ByteSize,
    /// Connections at a time.
    pub max_connections: usize,
    /// How long the first read of a list waits until it is known.
    pub first_list_wait: Span,
    /// Whether applications that start while the registry is away are served from what is known.
    pub stand_in: bool,
    /// When the registry is back, those applications turn to it within this time, each at its own moment.
    pub return_spread: Span,
}

impl Default for ZooKeeperDoor {
    fn default() -> Self {
        let default = facade::Config::default();
        Self {
            listen: Address(default.listen),
            raw: default.raw.map(Address),
            service_roots: default.service_roots,
            application_roots: default.application_roots,
            max_frame: ByteSize(default.max_frame_bytes as u64),
            max_reply: ByteSize(default.max_reply_bytes as u64),
            max_connections: default.max_connections,
            first_list_wait: Span(default.first_list_wait),
            stand_in: default.stand_in,
            return_spread: Span(default.return_spread),
        }
    }
}

impl ZooKeeperDoor {
    /// The plugin's settings.
    pub fn settings(&self) -> facade::Config {
        facade::Config {
            listen: self.listen.0,
            raw: self.raw.map(|raw| raw.0),
            service_roots: self.service_roots.clone(),
            application_roots: self.application_roots.clone(),
            max_frame_bytes: self.max_frame.bytes(),
            max_reply_bytes: self.max_reply.bytes(),
            max_connections: self.max_connections,
            first_list_wait: self.first_list_wait.0,
            stand_in: self.stand_in,
            return_spread: self.return_spread.0,
            ..facade::Config::default()
        }
    }
}

/// A door of the HTTP APIs: the keys that both have, and some of its own.
macro_rules! http_door {
    ($(#[$doc:meta])* $name:ident { $($(#[$own_doc:meta])* $own:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// Where applications connect.
            pub listen: Address,
            /// Ports on which applications of this host listen, by protocol: the API does not say them. What is not named
            /// has its default; 0 is none.
            pub app_ports: BTreeMap<String, u16>,
            /// Further applications of this host, each told by an address of its own.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            pub applications: Vec<DoorApplication>,
            /// Names that `Host` of a request may have besides addresses and `localhost`.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            pub host_names: Vec<String>,
            /// How long a registration lasts after the last `/heartbeat` of its application. Default: no heartbeat is
            /// expected, the application's port alone tells.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub lease: Option<Span>,
            /// How often applications' ports are looked at.
            pub probe_every: Span,
            /// How long a registration whose port is closed is remembered.
            pub forget_after: Span,
            /// How long what an application follows is remembered after its last sign of life.
            pub forget_follows_after: Span,
            /// Connections at a time; more wait.
            pub max_connections: usize,
            /// Longest request.
            pub max_body: ByteSize,
            /// Registrations, and follows, kept at a time.
            pub max_entries: usize,
            $($(#[$own_doc])* pub $own: $type,)*
        }

        impl $name {
            /// Every address where the door listens.
            pub fn addresses(&self) -> Vec<SocketAddr> {
                let further = self.applications.iter().map(|a| SocketAddr::new(a.address, self.listen.0.port()));
                std::iter::once(self.listen.0).chain(further).collect()
            }

            fn door(&self, egress_port: Option<u16>, default: Settings) -> Settings {
                Settings {
                    listen: self.listen.0,
                    access: default.access,
                    applications: self.applications.iter().map(DoorApplication::settings).collect(),
                    ports: default.ports.into_iter().chain(self.app_ports.clone()).collect(),
                    host_names: self.host_names.clone(),
                    lease: self.lease.map(|lease| lease.0),
                    egress_port: egress_port.unwrap_or(default.egress_port),
                    probe_every: self.probe_every.0,
                    forget_after: self.forget_after.0,
                    forget_follows_after: self.forget_follows_after.0,
                    max_connections: self.max_connections,
                    max_body_bytes: self.max_body.bytes(),
                    max_entries: self.max_entries,
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                let door = Self::plugin_default().door;
                Self {
                    listen: Address(door.listen),
                    app_ports: door.ports,
                    applications: Vec::new(),
                    host_names: door.host_names,
                    lease: door.lease.map(Span),
                    probe_every: Span(door.probe_every),
                    forget_after: Span(door.forget_after),
                    forget_follows_after: Span(door.forget_follows_after),
                    max_connections: door.max_connections,
                    max_body: ByteSize(door.max_body_bytes as u64),
                    max_entries: door.max_entries,
                    $($own: $default,)*
                }
            }
        }
    };
}

http_door! {
    /// Keys of the mesh door.
    MeshDoor {
        /// How long a subscribe waits for the first list; SOFARPC gives up after 15 s.
        first_list_wait: Span = Span(mesh::Config::default().first_list_wait),
    }
}

http_door! {
    /// Keys of the dubbod door.
    DubbodDoor {
        /// Where Dubbo's services are kept in the registry.
        namespace: String = dubbod::Config::default().namespace,
    }
}

impl MeshDoor {
    fn plugin_default() -> mesh::Config {
        mesh::Config::default()
    }

    /// The plugin's settings. `egress_port` is where applications call.
    pub fn settings(&self, egress_port: Option<u16>) -> mesh::Config {
        mesh::Config {
            door: self.door(egress_port, Self::plugin_default().door),
            first_list_wait: self.first_list_wait.0,
        }
    }
}

impl DubbodDoor {
    fn plugin_default() -> dubbod::Config {
        dubbod::Config::default()
    }

    /// The plugin's settings. `egress_port` is where applications call.
    pub fn settings(&self, egress_port: Option<u16>) -> dubbod::Config {
        dubbod::Config {
            door: self.door(egress_port, Self::plugin_default().door),
            namespace: self.namespace.clone(),
        }
    }
}

/// One of several applications of this host at a door of the HTTP APIs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorApplication {
    /// The host of its registry address: one of 127.0.0.0/8.
    pub address: IpAddr,
    /// Its name, until it says one itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Ports on which it listens, by protocol; others as the door's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub app_ports: BTreeMap<String, u16>,
    /// As the door's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Span>,
}

impl DoorApplication {
    fn settings(&self) -> Application {
        Application {
            address: self.address,
            name: self.name.clone(),
            ports: self.app_ports.clone(),
            lease: self.lease.map(|lease| lease.0),
        }
    }
}

/// Keys of the SOFARegistry door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SofaRegistryDoor {
    /// What the application's registry address must say: the list of session servers over HTTP.
    pub listen: Address,
    /// Where the list sends applications: the session itself.
    pub session: Address,
    /// How long what a lost connection published stays.
    pub grace: Span,
    /// Silence of a client after which its connection is closed.
    pub idle_limit: Span,
    /// How long a subscriber waits for a list that is not known yet.
    pub first_list_wait: Span,
    /// Shortest time between two pushes of one list to one client.
    pub debounce: Span,
    /// Wait for the answer to a push, which is then made again.
    pub push_timeout: Span,
    /// Time without progress in writing to a client after which it is closed.
    pub write_timeout: Span,
    /// Connections at a time, each port by itself.
    pub max_connections: usize,
    /// Registrations of one connection.
    pub max_registrations: usize,
    /// Data of the publishers of one connection.
    pub max_data: ByteSize,
    /// Longest frame taken.
    pub max_frame: ByteSize,
    /// Bytes kept for a client that does not read.
    pub buffer: ByteSize,
}

impl Default for SofaRegistryDoor {
    fn default() -> Self {
        let default = sofaregistry::Config::default();
        Self {
            listen: Address(default.listen),
            session: Address(default.session),
            grace: Span(default.grace),
            idle_limit: Span(default.idle_limit),
            first_list_wait: Span(default.first_list_wait),
            debounce: Span(default.debounce),
            push_timeout: Span(default.push_timeout),
            write_timeout: Span(default.write_timeout),
            max_connections: default.max_connections,
            max_registrations: default.max_registrations,
            max_data: ByteSize(default.max_data_bytes as u64),
            max_frame: ByteSize(default.max_frame_bytes as u64),
            buffer: ByteSize(default.buffer_bytes as u64),
        }
    }
}

impl SofaRegistryDoor {
    /// The plugin's settings.
    pub fn settings(&self) -> sofaregistry::Config {
        sofaregistry::Config {
            listen: self.listen.0,
            session: self.session.0,
            access: sofaregistry::Config::default().access,
            grace: self.grace.0,
            idle_limit: self.idle_limit.0,
            first_list_wait: self.first_list_wait.0,
            debounce: self.debounce.0,
            push_timeout: self.push_timeout.0,
            write_timeout: self.write_timeout.0,
            max_connections: self.max_connections,
            max_registrations: self.max_registrations,
            max_data_bytes: self.max_data.bytes(),
            max_frame_bytes: self.max_frame.bytes(),
            buffer_bytes: self.buffer.bytes(),
        }
    }
}
