// SPDX-License-Identifier: Apache-2.0
//! The addresses of a door: the configured one, and one for each further application.

use std::net::{SocketAddr, TcpListener};

use remora_registry::{FacadeError, Ports};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Settings;

/// Binds every address of a door, the configured one first.
///
/// # Errors
/// `Bind` with the key that changes the address.
pub(crate) fn bind(
    ports: &Ports,
    settings: &Settings,
    listen_setting: &'static str,
    applications_setting: &'static str,
) -> Result<Vec<TcpListener>, FacadeError> {
    let first = bind_one(ports, settings.listen, listen_setting)?;
    let port = first.local_addr().map_or(settings.listen.port(), |addr| addr.port());
    let mut listeners = vec![first];
    for application in &settings.applications {
        // One socket at every address has these, too.
        if settings.listen.ip().is_unspecified() || settings.listen.ip() == application.address {
            continue;
        }
        listeners.push(bind_one(
            ports,
            SocketAddr::new(application.address, port),
            applications_setting,
        )?);
    }
    Ok(listeners)
}

fn bind_one(ports: &Ports, addr: SocketAddr, key: &'static str) -> Result<TcpListener, FacadeError> {
    let listener = ports.listen(key, addr, open);
    listener.map_err(|cause| FacadeError::Bind { addr, key, cause })
}

fn open(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted Remora must have its port back while old connections linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Room for the services that all applications of a host publish at boot.
const BACKLOG: i32 = 1024;
