// SPDX-License-Identifier: Apache-2.0
//! Which ports the call path gets, and which are ours.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use remora_registry::Ports;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{AppError, left_out};
use crate::call::EgressListener;
use crate::config::{self, Config, Note};
use crate::discovery::ingress::IngressChange;
use crate::discovery::{Catalog, DiscoveryError, Egress, ProtocolPorts, Setup, Tools};
use crate::metrics::DiscoveryMetrics;
use crate::plugins::Plugins;

/// What ports are opened for.
pub(super) struct Site<'a> {
    pub(super) config: &'a Config,
    pub(super) plugins: &'a Plugins,
    /// Where admin listens.
    pub(super) admin: SocketAddr,
    pub(super) data_dir: &'a Path,
    /// Whether a door or protocol may be left out.
    pub(super) is_optional: &'a dyn Fn(&str) -> bool,
    pub(super) ports: &'a Ports,
    /// A former process hands over.
    pub(super) takes_over: bool,
}

/// The call path's ports, bound, and the catalog behind the ingress ones.
pub(super) struct CallPorts {
    /// With the protocols off that were left out, and the doors that need them.
    pub(super) config: Config,
    pub(super) protocols: Vec<ProtocolPorts>,
    pub(super) egress: Vec<EgressListener>,
    pub(super) ingress: mpsc::Receiver<IngressChange>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) notes: Vec<Note>,
}

impl CallPorts {
    /// Binds egress ports, opens the catalog, which binds the ingress ports. Tasks end with `stop`.
    ///
    /// # Errors
    /// A port of a protocol that may not be left out.
    pub(super) fn open(
        site: &Site<'_>,
        metrics: &DiscoveryMetrics,
        stop: &CancellationToken,
    ) -> Result<Self, AppError> {
        let mut config = site.config.clone();
        let mut notes = Vec::new();
        let mut leave_out = |config: &mut Config, protocol: &str, error: AppError| {
            let key = format!("protocols.{protocol}");
            if !(site.is_optional)(&key) {
                return Err(error);
            }
            notes.push(left_out(&key, &error));
            for door in config::leave_out(config, &key) {
                notes.push(left_out(door, &format!("needs {key}")));
            }
            Ok(())
        };
        let mut ports = protocols(&config, site.plugins);
        let egress = match site.takes_over {
            true => Egress::resume(&ports, Some(site.data_dir)),
            false => Egress::open(&ports, Some(site.data_dir)),
        };
        let bound = bind_egress(&config, &ports, &egress, site.ports);
        for (protocol, error) in bound.failed {
            leave_out(&mut config, &protocol, error)?;
        }
        let (catalog, ingress) = loop {
            ports = protocols(&config, site.plugins);
            // Those beside doors, too: a call that comes back to them would go round in a circle.
            let mut own = own_listeners(&config, site.admin);
            own.extend(
                bound
                    .listeners
                    .iter()
                    .filter_map(|egress| egress.listener.local_addr().ok()),
            );
            let setup = Setup {
                advertise: config.advertise,
                data_dir: Some(site.data_dir.to_owned()),
                protocols: ports.clone(),
                own_listeners: own,
                config: Arc::new(ArcSwap::from_pointee(config.discovery.clone())),
                mode: config.mode,
                takeover: config.takeover.clone(),
                ports: site.ports.clone(),
            };
            let opened = Catalog::open(
                setup,
                egress.clone(),
                metrics.clone(),
                Tools::default(),
                Handle::current(),
                stop.clone(),
            );
            match opened {
                Ok(opened) => break opened,
                Err(DiscoveryError::IngressBind { addr, protocol, cause }) => {
                    let name = protocol.clone();
                    let error = DiscoveryError::IngressBind { addr, protocol, cause };
                    leave_out(&mut config, &name, error.into())?;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let is_served = |listener: &EgressListener| ports.iter().any(|p| *p.name == *listener.protocol);
        Ok(Self {
            egress: bound.listeners.into_iter().filter(is_served).collect(),
            config,
            protocols: ports,
            ingress,
            catalog,
            notes,
        })
    }
}

/// Ports of the protocols that have both a plugin and ports.
pub(crate) fn protocols(config: &Config, plugins: &Plugins) -> Vec<ProtocolPorts> {
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

/// Where we listen besides ingress and egress: never dialled because a registry said so, and nobody's provider.
fn own_listeners(config: &Config, admin: SocketAddr) -> Vec<SocketAddr> {
    let mut own = vec![admin];
    for registry in config.all_registries() {
        let facades = &registry.facades;
        if let Some(door) = facades.zookeeper.on() {
            own.push(door.listen.0);
            own.extend(door.raw.map(|raw| raw.0));
        }
        own.extend(facades.mesh.on().into_iter().flat_map(|door| door.addresses()));
        own.extend(facades.dubbod.on().into_iter().flat_map(|door| door.addresses()));
        if let Some(door) = facades.sofaregistry.on() {
            own.extend([door.listen.0, door.session.0]);
        }
    }
    own
}

/// Hosts where a protocol's egress must answer besides its own: SOFARPC calls the host that the address of its mesh
/// registry names, MOSN's SDKs are told the same.
fn door_hosts(config: &Config) -> BTreeMap<&'static str, Vec<IpAddr>> {
    let mut hosts: BTreeMap<&'static str, Vec<IpAddr>> = BTreeMap::new();
    for registry in config.all_registries() {
        let facades = &registry.facades;
        let mesh = facades.mesh.on().into_iter().flat_map(|door| door.addresses());
        hosts.entry("bolt").or_default().extend(mesh.map(|addr| addr.ip()));
        let dubbod = facades.dubbod.on().into_iter().flat_map(|door| door.addresses());
        hosts.entry("dubbo").or_default().extend(dubbod.map(|addr| addr.ip()));
    }
    hosts
}

/// The egress ports that were had, and the protocols that could not have theirs.
#[derive(Default)]
struct Bound {
    listeners: Vec<EgressListener>,
    failed: Vec<(String, AppError)>,
}

/// Binds the egress of every protocol: the first of its addresses and those of doors must be had, its aliases may fail.
fn bind_egress(config: &Config, protocols: &[ProtocolPorts], egress: &Egress, ports: &Ports) -> Bound {
    let door_hosts = door_hosts(config);
    let mut bound = Bound::default();
    for protocol in protocols {
        let aliases = egress.listen(&protocol.name);
        let is_everywhere = protocol.egress.ip().is_unspecified();
        let doors = door_hosts.get(protocol.name.as_str()).filter(|_| !is_everywhere);
        let doors: Vec<SocketAddr> = doors
            .into_iter()
            .flatten()
            // A door at every address says nothing about where applications call.
            .filter(|ip| !ip.is_unspecified())
            .map(|ip| SocketAddr::new(*ip, protocol.egress.port()))
            .collect();
        let mut wanted: Vec<SocketAddr> = aliases.iter().take(1).chain(&doors).copied().collect();
        let required = wanted.len();
        wanted.extend(aliases.iter().skip(1));
        let mut listeners: BTreeMap<SocketAddr, TcpListener> = BTreeMap::new();
        let mut failure = None;
        for (at, addr) in wanted.into_iter().enumerate() {
            if listeners.contains_key(&addr) {
                continue;
            }
            match ports.listen(&format!("egress/{}", protocol.name), addr, TcpListener::bind) {
                Ok(listener) => drop(listeners.insert(addr, listener)),
                Err(cause) if at < required => {
                    failure = Some(AppError::Egress {
                        addr,
                        protocol: protocol.name.clone(),
                        cause,
                    });
                    break;
                }
                Err(cause) => warn!(protocol = protocol.name, %addr, %cause, "no egress on this alias"),
            }
        }
        match failure {
            Some(failure) => bound.failed.push((protocol.name.clone(), failure)),
            None => bound
                .listeners
                .extend(listeners.into_values().map(|listener| EgressListener {
                    protocol: Arc::from(protocol.name.as_str()),
                    listener,
                })),
        }
    }
    bound
}

/// Protocol, egress, ingress, range, for the banner.
pub(super) fn banner(protocols: &[ProtocolPorts], catalog: &Catalog) -> Vec<(String, String, String, String)> {
    let lines = protocols.iter().map(|protocol| {
        let egress = catalog.egress().address(&protocol.name).unwrap_or(protocol.egress);
        let (ingress, range) = (protocol.ingress.to_string(), protocol.ingress_range.to_string());
        (protocol.name.clone(), egress.to_string(), ingress, range)
    });
    lines.collect()
}
