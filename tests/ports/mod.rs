// SPDX-License-Identifier: Apache-2.0
//! Ports for a process that a test starts: it binds them itself, a moment later.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports that are free, each given once in this process. Below those that the system gives to outgoing connections: one of
/// those would be taken again before it is bound.
pub fn free_ports<const N: usize>() -> [SocketAddr; N] {
    [(); N].map(|()| {
        loop {
            let next = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
            let port = 10_240 + (std::process::id() * 61 + next) % 20_000;
            let addr = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).expect("below 32768")));
            if TcpListener::bind(addr).is_ok() && TcpListener::bind(("0.0.0.0", addr.port())).is_ok() {
                return addr;
            }
        }
    })
}

static NEXT_PORT: AtomicU32 = AtomicU32::new(0);
