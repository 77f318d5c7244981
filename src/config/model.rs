// SPDX-License-Identifier: Apache-2.0
//! Every key of the configuration, with its default. `conf/full.yaml` holds the same with comments; a test compares them.
//!
//! Rooms own their part (`call`, `discovery`, `admin`, `lifecycle`); this file only puts them together.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use remora_naming::sofa;
use remora_registry::Target;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::access::Access;
use super::doors::Facades;
use super::registry_url::RegistryUrl;
use super::value::{Address, Door, PortRange};
use crate::{admin, call, discovery, lifecycle};

/// The whole configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The real registry. Default: the embedded one.
    pub registry: RegistryUrl,
    /// Host that is published with our ingress ports. Default: the host that the application registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<IpAddr>,
    /// Where the embedded registry and the last known lists are kept. Default: see [`super::data_dir`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Whether anything is taken over at all.
    pub mode: discovery::Mode,
    /// What is taken over.
    pub takeover: discovery::TakeoverConfig,
    /// Ends that speak a registry's protocol to applications.
    pub facades: Facades,
    /// Who may use the facades.
    pub access: Access,
    /// Ports of each protocol, by the plugin's name.
    pub protocols: Protocols,
    /// Instead of `registry` and `facades`, for applications with several registries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<RegistryEntry>,
    /// Providers without a registry client.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<remora_file::Entry>,
    /// Services that applications here call without following them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub follow: Vec<Followed>,
    /// Health, metrics, catalog over HTTP.
    pub admin: admin::Config,
    /// Threads of the call path.
    pub workers: usize,
    /// The call path's limits.
    pub call: call::Config,
    /// Lists and takeover.
    pub discovery: discovery::Config,
    /// Drain.
    pub lifecycle: lifecycle::Config,
    /// Log levels and form.
    pub log: lifecycle::LogConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            registry: RegistryUrl::Embedded,
            advertise: None,
            data_dir: None,
            mode: discovery::Mode::default(),
            takeover: discovery::TakeoverConfig::default(),
            facades: Facades::default(),
            access: Access::default(),
            protocols: Protocols::default(),
            registries: Vec::new(),
            publish: Vec::new(),
            follow: Vec::new(),
            admin: admin::Config::default(),
            // 60-80 thousand calls a second fit on one worker: a sidecar needs no more.
            workers: 1,
            call: call::Config::default(),
            discovery: discovery::Config::default(),
            lifecycle: lifecycle::Config::default(),
            log: lifecycle::LogConfig::default(),
        }
    }
}

impl Config {
    /// The registries in either form; the short form is one called `default`.
    pub fn all_registries(&self) -> Vec<RegistryEntry> {
        match self.registries.is_empty() {
            true => vec![RegistryEntry {
                name: "default".to_owned(),
                registry: self.registry.clone(),
                facades: self.facades.clone(),
            }],
            false => self.registries.clone(),
        }
    }

    /// Entries of `publish` whose provider is dialled elsewhere than they say: key and what to know.
    pub(super) fn publish_notes(&self) -> Vec<(String, String)> {
        let entries = self.publish.iter().map(|entry| entry.address).enumerate();
        let elsewhere = entries.filter(|(_, addr)| addr.ip() != Ipv4Addr::LOCALHOST);
        let note = |(at, addr): (usize, SocketAddr)| {
            let text = format!(
                "calls go to 127.0.0.1:{} here, so the provider must listen there, too",
                addr.port()
            );
            (format!("publish[{at}].address"), text)
        };
        elsewhere.map(note).collect()
    }
}

/// A service that is followed for applications that only know the egress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Followed {
    /// Protocol plugin, e.g. `bolt`.
    pub protocol: String,
    /// Service name; for SOFARPC the interface.
    pub service: String,
    /// SOFARPC: version, `1.0` if empty. Lists of other services hold every version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// SOFARPC: unique id. Lists of other services hold every group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
}

impl Followed {
    /// Its list. `namespace` is Dubbo's.
    pub fn target(&self, namespace: &str) -> Target {
        if !sofa::is_protocol(&self.protocol) {
            return Target::Service {
                namespace: namespace.into(),
                name: self.service.as_str().into(),
            };
        }
        let mut service = sofa::Service::of_interface(&self.service, "");
        if !self.version.is_empty() {
            service.version.clone_from(&self.version);
        }
        service.unique_id.clone_from(&self.group);
        service.target()
    }
}

/// One of several registries, each with doors of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryEntry {
    /// Unique; shows in `status`, logs and metrics, and names its folder under `data_dir`.
    pub name: String,
    /// The real registry.
    pub registry: RegistryUrl,
    /// Its doors. One that is not named is off: two registries cannot share a port.
    #[serde(default = "Facades::none", deserialize_with = "Facades::named")]
    pub facades: Facades,
}

/// Ports by protocol name. `dubbo` and `bolt` are there unless they are said to be `off`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Protocols(pub BTreeMap<String, Door<ProtocolPorts>>);

impl Default for Protocols {
    fn default() -> Self {
        let ports = |name: &str| ProtocolPorts::default_of(name).map_or(Door::Off, Door::On);
        Self(["dubbo", "bolt"].map(|name| (name.to_owned(), ports(name))).into())
    }
}

impl<'de> Deserialize<'de> for Protocols {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByName;
        impl<'de> Visitor<'de> for ByName {
            type Value = Protocols;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of protocols such as `dubbo: { egress: 127.0.0.1:20882 }`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Protocols, A::Error> {
                let mut protocols = Protocols::default();
                while let Some(name) = map.next_key::<String>()? {
                    let ports = match map.next_value::<Door<SomePorts>>()? {
                        Door::Off => Door::Off,
                        Door::On(some) => {
                            let missing =
                                |key| A::Error::custom(format!("{name}: key `{key}` is missing and has no default"));
                            Door::On(some.or_default(&name).map_err(missing)?)
                        }
                    };
                    protocols.0.insert(name, ports);
                }
                Ok(protocols)
            }
        }
        deserializer.deserialize_map(ByName)
    }
}

/// Ports of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ProtocolPorts {
    /// Where applications of this host call.
    pub egress: Address,
    /// The first application's port for calls from other hosts.
    pub ingress: Address,
    /// Further applications' ports, same host as `ingress`.
    pub ingress_range: PortRange,
}

impl ProtocolPorts {
    /// The ports of design section 6; `None` for a protocol without any, which must name all of its own.
    pub fn default_of(protocol: &str) -> Option<Self> {
        let (egress, ingress, first) = match protocol {
            "dubbo" => (20882, 20881, 20900),
            "bolt" => (12220, 12201, 12300),
            _ => return None,
        };
        Some(Self {
            egress: Address(SocketAddr::from(([127, 0, 0, 1], egress))),
            ingress: Address(SocketAddr::from(([0, 0, 0, 0], ingress))),
            ingress_range: PortRange {
                first,
                last: first + 99,
            },
        })
    }
}

/// Ports as written: what is left out has its default, if the protocol has one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SomePorts {
    egress: Option<Address>,
    ingress: Option<Address>,
    ingress_range: Option<PortRange>,
}

impl SomePorts {
    /// The error is the key that is missing.
    fn or_default(self, protocol: &str) -> Result<ProtocolPorts, &'static str> {
        let default = ProtocolPorts::default_of(protocol);
        Ok(ProtocolPorts {
            egress: self.egress.or(default.map(|d| d.egress)).ok_or("egress")?,
            ingress: self.ingress.or(default.map(|d| d.ingress)).ok_or("ingress")?,
            ingress_range: self
                .ingress_range
                .or(default.map(|d| d.ingress_range))
                .ok_or("ingress_range")?,
        })
    }
}
