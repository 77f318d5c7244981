// SPDX-License-Identifier: Apache-2.0
//! Ingress ports: one for each application port, stable over restarts.
//!
//! The configured port goes to the first application, further ones come from the range. The table is kept in
//! `ingress.json`, and all its ports are opened again at start, because an application whose session is resumed does
//! not register a second time. Nothing here waits for the disk or for an application: whoever publishes is answered at once.
//! Not here: who accepts on them (the call path, told by [`IngressChange`]), when the table is written (`sync.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use remora_registry::Ports as Sockets;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{info, warn};

use super::config::ProtocolPorts;
use super::disk::{self, Seal};
use super::error::DiscoveryError;
use super::ingress::{IngressChange, IngressListener};
use crate::config::PortRange;

/// The ingress table.
pub(super) struct IngressPorts {
    protocols: Vec<Ports>,
    sockets: Sockets,
    file: Option<PathBuf>,
    /// Changes that the call path has to be told of, in order.
    changes: Vec<IngressChange>,
}

struct Ports {
    settings: ProtocolPorts,
    name: Arc<str>,
    /// The port really bound for the configured one (they differ only where 0 is configured).
    first: u16,
    /// Application port -> ingress port.
    assigned: BTreeMap<u16, Slot>,
}

#[derive(Clone)]
struct Slot {
    ingress: u16,
    is_open: bool,
    /// Its application has said that it stops.
    is_leaving: bool,
    host: String,
}

/// One line of the table, for `status` and the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressRow {
    /// Protocol plugin.
    pub protocol: String,
    /// The application's own port.
    pub app_port: u16,
    /// The ingress port in its place.
    pub ingress_port: u16,
    /// The host it was last published with; empty if never.
    #[serde(default)]
    pub host: String,
}

impl IngressPorts {
    /// Binds the configured ports and those of the former run.
    ///
    /// # Errors
    /// `IngressBind` if a configured port cannot be had. A port of the former run that cannot be had is tried again later.
    pub(super) fn open(
        protocols: &[ProtocolPorts],
        data_dir: Option<&Path>,
        sockets: &Sockets,
    ) -> Result<Self, DiscoveryError> {
        let file = data_dir.map(|d| d.join("ingress.json"));
        let former = file.as_deref().map(read).unwrap_or_default();
        let mut table = Self {
            protocols: Vec::new(),
            sockets: sockets.clone(),
            file,
            changes: Vec::new(),
        };
        for settings in protocols {
            let bind_error = |cause| DiscoveryError::IngressBind {
                addr: settings.ingress,
                protocol: settings.name.clone(),
                cause,
            };
            let listener = listen(sockets, settings, settings.ingress).map_err(bind_error)?;
            let first = listener.local_addr().map_err(bind_error)?.port();
            let name: Arc<str> = settings.name.as_str().into();
            let mut assigned = BTreeMap::new();
            for row in former.iter().filter(|row| row.protocol == settings.name) {
                let is_ours = row.ingress_port == first || settings.ingress_range.contains(row.ingress_port);
                let is_taken = assigned.values().any(|s: &Slot| s.ingress == row.ingress_port);
                if is_ours && !is_taken {
                    let slot = Slot {
                        ingress: row.ingress_port,
                        is_open: row.ingress_port == first,
                        is_leaving: false,
                        host: row.host.clone(),
                    };
                    assigned.insert(row.app_port, slot);
                }
            }
            let app = assigned
                .iter()
                .find(|(_, slot)| slot.ingress == first)
                .map(|(port, _)| app_address(*port));
            table.changes.push(IngressChange::Open(IngressListener {
                protocol: Arc::clone(&name),
                listener,
                app,
            }));
            table.protocols.push(Ports {
                settings: settings.clone(),
                name,
                first,
                assigned,
            });
        }
        table.open_missing();
        Ok(table)
    }

    /// The ingress port of an application's port, if it has one.
    pub(super) fn known(&self, protocol: &str, app_port: u16) -> Option<u16> {
        let ports = self.protocols.iter().find(|p| &*p.name == protocol)?;
        Some(ports.assigned.get(&app_port)?.ingress)
    }

    /// The ingress port of an application's port; assigns and opens one if it has none. It is to be kept on disk once it is
    /// [published](Self::publish_with).
    ///
    /// # Errors
    /// Why none could be had.
    pub(super) fn assign(&mut self, protocol: &str, app_port: u16) -> Result<u16, String> {
        let Some(ports) = self.protocols.iter_mut().find(|p| &*p.name == protocol) else {
            return Err("the protocol is not served".into());
        };
        if let Some(slot) = ports.assigned.get_mut(&app_port) {
            if slot.is_open {
                return Ok(slot.ingress);
            }
            match open_port(&self.sockets, &ports.settings, &ports.name, slot.ingress, app_port) {
                Ok(change) => {
                    slot.is_open = true;
                    self.changes.push(change);
                    return Ok(slot.ingress);
                }
                // Somebody else has it now; consumers learn the new one from the registry.
                Err(cause) => {
                    warn!(protocol, port = slot.ingress, %cause, "an ingress port of the former run is lost, another is taken");
                    ports.assigned.remove(&app_port);
                }
            }
        }
        let ingress = self.take_port(protocol, app_port)?;
        info!(protocol, app_port, ingress, "ingress port assigned");
        Ok(ingress)
    }

    /// The application on a port has taken back all that it published there and stops, or it is back.
    pub(super) fn set_leaving(&mut self, protocol: &str, app_port: u16, is_leaving: bool) {
        let Some(ports) = self.protocols.iter_mut().find(|p| &*p.name == protocol) else {
            return;
        };
        let ip = ports.settings.ingress.ip();
        let slot = ports.assigned.get_mut(&app_port);
        if let Some(slot) = slot.filter(|slot| slot.is_leaving != is_leaving) {
            slot.is_leaving = is_leaving;
            self.changes.push(IngressChange::Leaving {
                ingress: SocketAddr::new(ip, slot.ingress),
                is_leaving,
            });
        }
    }

    /// Further ports come from `range` from now on; those assigned stay.
    pub(super) fn set_range(&mut self, protocol: &str, range: PortRange) {
        if let Some(ports) = self.protocols.iter_mut().find(|ports| &*ports.name == protocol) {
            ports.settings.ingress_range = range;
        }
    }

    /// Remembers the host that an assigned port is published with; true if it is another one than before, and the table is
    /// to be written.
    pub(super) fn publish_with(&mut self, protocol: &str, app_port: u16, host: &str) -> bool {
        let ports = self.protocols.iter_mut().find(|p| &*p.name == protocol);
        let Some(slot) = ports.and_then(|p| p.assigned.get_mut(&app_port)) else {
            return false;
        };
        if slot.host == host {
            return false;
        }
        host.clone_into(&mut slot.host);
        true
    }

    /// Tries again to open the ports of the former run that were taken; says whether any is still missing.
    pub(super) fn open_missing(&mut self) -> bool {
        let mut is_missing = false;
        for ports in &mut self.protocols {
            for (app_port, slot) in &mut ports.assigned {
                if slot.is_open {
                    continue;
                }
                match open_port(&self.sockets, &ports.settings, &ports.name, slot.ingress, *app_port) {
                    Ok(change) => {
                        slot.is_open = true;
                        self.changes.push(change);
                    }
                    Err(cause) => {
                        is_missing = true;
                        warn!(protocol = &*ports.name, port = slot.ingress, %cause, "an ingress port of the former run is taken, trying again");
                    }
                }
            }
        }
        is_missing
    }

    /// The changes since the last call, in order.
    pub(super) fn take_changes(&mut self) -> Vec<IngressChange> {
        std::mem::take(&mut self.changes)
    }

    /// The table.
    pub(super) fn rows(&self) -> Vec<IngressRow> {
        let rows = self.protocols.iter().flat_map(|ports| {
            ports.assigned.iter().map(|(app_port, slot)| IngressRow {
                protocol: ports.name.to_string(),
                app_port: *app_port,
                ingress_port: slot.ingress,
                host: slot.host.clone(),
            })
        });
        rows.collect()
    }

    /// Every ingress port, with the application behind it.
    pub(super) fn by_ingress(&self) -> BTreeMap<u16, Option<SocketAddr>> {
        let mut all = BTreeMap::new();
        for ports in &self.protocols {
            all.insert(ports.first, None);
            all.extend(
                ports
                    .assigned
                    .iter()
                    .map(|(app, slot)| (slot.ingress, Some(app_address(*app)))),
            );
        }
        all
    }

    fn take_port(&mut self, protocol: &str, app_port: u16) -> Result<u16, String> {
        let used: Vec<u16> = self
            .by_ingress()
            .into_iter()
            .filter(|(_, app)| app.is_some())
            .map(|(p, _)| p)
            .collect();
        let Some(ports) = self.protocols.iter_mut().find(|p| &*p.name == protocol) else {
            return Err("the protocol is not served".into());
        };
        if !used.contains(&ports.first) {
            let slot = Slot {
                ingress: ports.first,
                is_open: true,
                is_leaving: false,
                host: String::new(),
            };
            ports.assigned.insert(app_port, slot);
            self.changes.push(IngressChange::Assign {
                ingress: SocketAddr::new(ports.settings.ingress.ip(), ports.first),
                app: app_address(app_port),
            });
            return Ok(ports.first);
        }
        let range = ports.settings.ingress_range;
        let mut cause = format!("all ports of {range} are assigned");
        for port in range.first..=range.last {
            // An application that listens on the port itself must keep it.
            if used.contains(&port) || port == app_port {
                continue;
            }
            match open_port(&self.sockets, &ports.settings, &ports.name, port, app_port) {
                Ok(change) => {
                    self.changes.push(change);
                    let slot = Slot {
                        ingress: port,
                        is_open: true,
                        is_leaving: false,
                        host: String::new(),
                    };
                    ports.assigned.insert(app_port, slot);
                    return Ok(port);
                }
                Err(error) => cause = format!("{port}: {error}"),
            }
        }
        Err(cause)
    }

    /// When no port is left: the one of an application port where nothing listens any more. Those of `held` stand in
    /// publications: whoever calls them must not reach another application, also while theirs is not there.
    pub(super) fn reuse(&mut self, protocol: &str, app_port: u16, held: &BTreeSet<u16>) -> Option<u16> {
        let ports = self.protocols.iter_mut().find(|p| &*p.name == protocol)?;
        let free = ports
            .assigned
            .iter()
            .filter(|(app, slot)| slot.is_open && !held.contains(app));
        let old = closed_one(free.map(|(app, _)| *app))?;
        let slot = Slot {
            is_leaving: false,
            ..ports.assigned.get(&old)?.clone()
        };
        info!(
            protocol,
            app_port = old,
            ingress = slot.ingress,
            "nothing listens on this application port any more, its ingress port is given on"
        );
        ports.assigned.remove(&old);
        let ingress = slot.ingress;
        ports.assigned.insert(app_port, slot);
        self.changes.push(IngressChange::Assign {
            ingress: SocketAddr::new(ports.settings.ingress.ip(), ingress),
            app: app_address(app_port),
        });
        Some(ingress)
    }

    /// Where the table is kept, and what is to stand there.
    pub(super) fn to_keep(&self) -> Option<(PathBuf, Vec<IngressRow>)> {
        Some((self.file.clone()?, self.rows()))
    }
}

/// Brings a table to disk; blocks.
pub(super) fn write(file: &Path, rows: &[IngressRow]) -> Result<(), DiscoveryError> {
    disk::write(file, SEAL, |out| Ok(serde_json::to_writer(out, rows)?))
}

/// The first port on which nobody listens. Loopback refuses within the call, so nothing is waited for; a port that does not
/// say at once may be a busy application's.
fn closed_one(ports: impl Iterator<Item = u16>) -> Option<u16> {
    let mut asked = ports.take(MAX_LOOKS);
    asked.find(|port| is_refused(*port).unwrap_or(false))
}

fn is_refused(port: u16) -> std::io::Result<bool> {
    let addr = app_address(port);
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    let refused = match socket.connect(&addr.into()) {
        Ok(()) => None,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Some(error),
        Err(_) => socket.take_error()?,
    };
    Ok(refused.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused))
}

fn read(file: &Path) -> Vec<IngressRow> {
    let content = match disk::read(file, SEAL) {
        Ok(content) => content.unwrap_or_else(|| b"[]".to_vec()),
        Err(error) => {
            warn!(reason = error.reason(), %error, "the ingress table starts empty");
            return Vec::new();
        }
    };
    serde_json::from_slice(&content).unwrap_or_else(|error| {
        warn!(reason = "damaged", %error, "the ingress table starts empty");
        Vec::new()
    })
}

fn open_port(
    sockets: &Sockets,
    settings: &ProtocolPorts,
    name: &Arc<str>,
    port: u16,
    app_port: u16,
) -> std::io::Result<IngressChange> {
    let listener = listen(sockets, settings, SocketAddr::new(settings.ingress.ip(), port))?;
    Ok(IngressChange::Open(IngressListener {
        protocol: Arc::clone(name),
        listener,
        app: Some(app_address(app_port)),
    }))
}

/// Applications are dialled on loopback: it works for those that bind every address and for those that bind 127.0.0.1.
fn app_address(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn listen(sockets: &Sockets, settings: &ProtocolPorts, addr: SocketAddr) -> std::io::Result<TcpListener> {
    sockets.listen(&format!("ingress/{}", settings.name), addr, bind)
}

fn bind(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted Remora must have its ports back while old connections linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Room for every consumer of a large service that reconnects at the same moment; the system may lower it.
const BACKLOG: i32 = 4096;
/// A look takes some 20 µs.
const MAX_LOOKS: usize = 256;
const SEAL: Seal = Seal {
    kind: "ingress",
    version: 1,
};

#[cfg(test)]
mod tests;
