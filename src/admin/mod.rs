// SPDX-License-Identifier: Apache-2.0
//! Health, metrics, catalog and configuration over HTTP, on loopback unless told otherwise.

mod client;
mod guard;
mod server;
mod takeover;
mod topology;
mod views;

use std::fmt;
use std::net::SocketAddr;

use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize};

use crate::config::Address;

pub use client::{Answer, Client, ClientError};
pub use server::Admin;
pub use takeover::{DecisionsView, RollBackError, RuleUseView, TakeoverView};
pub use topology::{ApplicationView, CalleeView, CallerView, Filter, FilterError, InView, OutView, TopologyView};
pub use views::{
    CallsView, CatalogView, ConnectionView, ConnectionsView, InstanceView, LeftView, ListenerView, RegistryView,
    ReloadOutcome, ReloadView, RouteView, UpgradeView, Verb, Views,
};

/// The admin port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Bind failed.
    #[error("cannot listen on {addr} (admin.listen): {cause}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The system's error.
        cause: std::io::Error,
    },
}

impl AdminError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind",
        }
    }
}

/// Keys under `admin:`; the short form is the address alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Default: 127.0.0.1:15020.
    pub listen: Address,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Address(SocketAddr::from(([127, 0, 0, 1], 15020))),
        }
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            listen: Option<Address>,
        }
        struct ShortOrLong;
        impl<'de> Visitor<'de> for ShortOrLong {
            type Value = Config;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, or a map with `listen`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Config, E> {
                let listen = text.parse().map_err(E::custom)?;
                Ok(Config { listen })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Config, A::Error> {
                let long = Long::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Config {
                    listen: long.listen.unwrap_or(Config::default().listen),
                })
            }
        }
        deserializer.deserialize_any(ShortOrLong)
    }
}

#[cfg(test)]
mod tests;
