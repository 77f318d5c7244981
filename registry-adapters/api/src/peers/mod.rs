// SPDX-License-Identifier: Apache-2.0
//! Who is at the other end of a connection to a door of ours, and whether he may use it.
//!
//! Applications have no passwords for their registry, so the system's word stands in: which machine, and on this machine
//! which user. What a user may change is each door's business.

mod audit;
mod gate;
mod sockets;
mod users;

pub use audit::Audit;
pub use gate::{Access, Denied, Gate, Network};
pub use sockets::{PROC_NET, Sockets, canonical, listeners};
pub use users::{Reader, User, Users};

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Whether an address is one of this machine's own: then, and only then, the kernel would use it as the source of what is
/// sent to it. Nothing is sent.
pub fn is_this_machine(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = || -> io::Result<IpAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    ip.is_loopback() || (!ip.is_unspecified() && source().is_ok_and(|source| source == ip))
}
