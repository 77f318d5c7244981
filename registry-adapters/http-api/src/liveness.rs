// SPDX-License-Identifier: Apache-2.0
//! Whether applications listen on their ports.
//!
//! A port that was open before is looked up in the system's table: a connection every second would fill the logs of a
//! Dubbo provider, and a paused process cannot accept, but is not gone. What the table does not have, or nobody has
//! connected to yet, gets a connection.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use remora_registry::peers;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::registration::Look;

/// Looks at ports of this host.
#[derive(Clone, Debug)]
pub(crate) struct Liveness {
    proc_net: PathBuf,
}

impl Liveness {
    pub(crate) fn new(proc_net: PathBuf) -> Self {
        Self { proc_net }
    }

    /// Looks at every port of `ports`; the value says whether it was open at the last look.
    pub(crate) async fn look(&self, ports: BTreeMap<u16, bool>) -> BTreeMap<u16, Look> {
        if ports.is_empty() {
            return BTreeMap::new();
        }
        let dir = self.proc_net.clone();
        let listed = tokio::task::spawn_blocking(move || peers::listeners(&dir).ok()).await;
        let listed: Option<HashMap<u16, u32>> = listed.ok().flatten();
        let user = |port: u16| listed.as_ref().and_then(|listed| listed.get(&port)).copied();
        let mut looks = BTreeMap::new();
        let mut asked = BTreeSet::new();
        for (port, was_open) in ports {
            match user(port) {
                Some(uid) if was_open => {
                    looks.insert(port, Look::Open(Some(uid)));
                }
                _ => {
                    asked.insert(port);
                }
            }
        }
        let mut connections = JoinSet::new();
        for port in asked {
            if connections.len() >= MAX_CONNECTIONS {
                looks.extend(connections.join_next().await.and_then(Result::ok));
            }
            let user = user(port);
            connections.spawn(async move { (port, connect(port, user).await) });
        }
        looks.extend(connections.join_all().await);
        looks
    }
}

async fn connect(port: u16, user: Option<u32>) -> Look {
    // Where an ingress will dial the application.
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(addr)).await {
        Ok(Ok(stream)) if stream.local_addr().is_ok_and(|own| own == addr) => Look::Closed,
        Ok(Ok(_)) => Look::Open(user),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Look::Closed,
        Ok(Err(_)) | Err(_) => Look::Unclear,
    }
}

/// Loopback answers or refuses at once, unless the queue of the port is full.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Ports connected to at a time.
const MAX_CONNECTIONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn look(liveness: &Liveness, port: u16, was_open: bool) -> Look {
        liveness.look(BTreeMap::from([(port, was_open)])).await[&port]
    }

    #[tokio::test]
    async fn an_open_port_is_open_and_a_closed_one_is_closed_with_and_without_a_table() {
        let nothing = tempfile::tempdir().unwrap();
        for dir in [PathBuf::from(peers::PROC_NET), nothing.path().to_owned()] {
            let liveness = Liveness::new(dir);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            for was_open in [false, true] {
                assert!(matches!(look(&liveness, port, was_open).await, Look::Open(_)));
            }
            drop(listener);
            for was_open in [false, true] {
                assert_eq!(look(&liveness, port, was_open).await, Look::Closed);
            }
        }
    }

    #[tokio::test]
    async fn a_port_with_a_full_queue_is_not_closed() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(addr)).await {
            waiting.push(stream);
        }
        let nothing = tempfile::tempdir().unwrap();
        let by_connection = Liveness::new(nothing.path().to_owned());
        assert_eq!(look(&by_connection, addr.port(), true).await, Look::Unclear);
        if cfg!(target_os = "linux") {
            let by_table = Liveness::new(peers::PROC_NET.into());
            assert!(matches!(look(&by_table, addr.port(), true).await, Look::Open(Some(_))));
        }
    }
}
