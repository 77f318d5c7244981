// SPDX-License-Identifier: Apache-2.0
//! Free ports and addresses for the demo, so that it runs beside anything else.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use crate::config::PortRange;

/// Addresses that stand for two hosts. Linux answers on the whole of 127.0.0.0/8; elsewhere both are 127.0.0.1 and differ in
/// their ports only.
pub(super) fn hosts() -> (IpAddr, IpAddr) {
    let host = |last: u8| Ipv4Addr::new(127, 0, 0, if cfg!(target_os = "linux") { last } else { 1 }).into();
    // 127.0.0.2 to .8 are egress aliases.
    (host(21), host(22))
}

/// An address of `ip` that nobody listens on.
pub(super) fn free(ip: IpAddr) -> io::Result<SocketAddr> {
    TcpListener::bind((ip, 0))?.local_addr()
}

/// `count` ports in a row on `ip` that nobody listens on.
pub(super) fn free_range(ip: IpAddr, count: u16) -> io::Result<PortRange> {
    let mut last_error = io::Error::other("no ports tried");
    for _ in 0..ATTEMPTS {
        let first = fastrand::u16(20_000..30_000);
        let taken = (first..first + count).find_map(|port| TcpListener::bind((ip, port)).err());
        match taken {
            None => {
                return Ok(PortRange {
                    first,
                    last: first + count - 1,
                });
            }
            Some(error) => last_error = error,
        }
    }
    Err(last_error)
}

const ATTEMPTS: usize = 50;
