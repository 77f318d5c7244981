// SPDX-License-Identifier: Apache-2.0
//! Which ports the call path gets, and which are ours.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tracing::warn;

use super::AppError;
use crate::call::EgressListener;
use crate::config::Config;
use crate::discovery::{Catalog, Egress, ProtocolPorts};
use crate::plugins::Plugins;

/// Ports of the protocols that have both a plugin and ports.
pub(super) fn protocols(config: &Config, plugins: &Plugins) -> Vec<ProtocolPorts> {
    let named = plugins.protocols().iter().filter_map(|plugin| {
        let ports = config.protocols.0.get(plugin.name())?.on()?;
        Some(ProtocolPorts {
            name: plugin.name().to_owned(),
            egress: ports.egress.0,
            ingress: ports.ingress.0,
            ingress_range: ports.ingress_range,
        })
    });
    named.collect()
}

/// Where we listen besides ingress and egress: never dialled because a registry said so.
pub(super) fn own_listeners(config: &Config, admin: SocketAddr) -> Vec<SocketAddr> {
    let mut own = vec![admin];
    for registry in config.all_registries() {
        own.extend(registry.facades.zookeeper.on().map(|door| door.listen.0));
    }
    own
}

/// Binds the egress of every protocol: the first of its addresses must be had, the aliases may fail.
pub(super) fn egress(config: &Config, plugins: &Plugins, egress: &Egress) -> Result<Vec<EgressListener>, AppError> {
    let mut listeners = Vec::new();
    for protocol in protocols(config, plugins) {
        for (at, addr) in egress.listen(&protocol.name).into_iter().enumerate() {
            let bound = TcpListener::bind(addr);
            match bound {
                Ok(listener) => listeners.push(EgressListener {
                    protocol: Arc::from(protocol.name.as_str()),
                    listener,
                }),
                Err(cause) if at == 0 => {
                    return Err(AppError::Egress {
                        addr,
                        protocol: protocol.name,
                        cause,
                    });
                }
                Err(cause) => warn!(protocol = protocol.name, %addr, %cause, "no egress on this alias"),
            }
        }
    }
    Ok(listeners)
}

/// Protocol, egress, ingress, range, for the banner.
pub(super) fn banner(config: &Config, plugins: &Plugins, catalog: &Catalog) -> Vec<(String, String, String, String)> {
    let lines = protocols(config, plugins).into_iter().map(|protocol| {
        let egress = catalog.egress().address(&protocol.name).unwrap_or(protocol.egress);
        let (ingress, range) = (protocol.ingress.to_string(), protocol.ingress_range.to_string());
        (protocol.name, egress.to_string(), ingress, range)
    });
    lines.collect()
}
