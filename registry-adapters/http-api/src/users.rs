// SPDX-License-Identifier: Apache-2.0
//! Whose process sent a request.
//!
//! The system's table is read after the connection was accepted, so that it has the connection, and once for all
//! connections that wait at that moment: it may have very many lines.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use crate::error::User;
use crate::sockets::Sockets;

/// Asks for users.
#[derive(Clone, Debug)]
pub(crate) struct Users {
    asks: mpsc::Sender<oneshot::Sender<Option<Arc<Sockets>>>>,
}

/// Answers what [`Users`] asks.
#[derive(Debug)]
pub(crate) struct Reader {
    asks: mpsc::Receiver<oneshot::Sender<Option<Arc<Sockets>>>>,
    door: &'static str,
    dir: PathBuf,
    ports: HashSet<u16>,
    egress_port: u16,
}

impl Users {
    /// For a door that listens on `ports`; at most `places` connections ask at a time.
    pub(crate) fn new(
        door: &'static str,
        dir: PathBuf,
        ports: HashSet<u16>,
        egress_port: u16,
        places: usize,
    ) -> (Self, Reader) {
        let (send, asks) = mpsc::channel(places.max(1));
        let reader = Reader {
            asks,
            door,
            dir,
            ports,
            egress_port,
        };
        (Self { asks: send }, reader)
    }

    /// The user at the other end of a connection that was accepted already, and the sockets of the host.
    pub(crate) async fn of(&self, peer: SocketAddr, door: SocketAddr) -> (User, Option<Arc<Sockets>>) {
        let first = self.look(peer, door).await;
        match first {
            // The kernel may leave a line out of a table that changes while it is read.
            (User::Elsewhere(_), Some(_)) => self.look(peer, door).await,
            known => known,
        }
    }

    async fn look(&self, peer: SocketAddr, door: SocketAddr) -> (User, Option<Arc<Sockets>>) {
        let (answer, answered) = oneshot::channel();
        let asked = self.asks.try_send(answer);
        match (asked, timeout(MAX_WAIT, answered).await) {
            (Ok(()), Ok(Ok(Some(sockets)))) => {
                let user = sockets.caller(peer, door).map_or(User::Elsewhere(peer), User::Uid);
                (user, Some(sockets))
            }
            (Ok(()), Ok(Ok(None))) => (User::Unknown, None),
            // No answer is no permission.
            _ => (User::Elsewhere(peer), None),
        }
    }
}

impl Reader {
    /// Runs until every [`Users`] is gone.
    pub(crate) async fn run(mut self) {
        let mut is_told = false;
        while let Some(first) = self.asks.recv().await {
            let mut answers = vec![first];
            while let Ok(next) = self.asks.try_recv() {
                answers.push(next);
            }
            let (dir, ports, egress_port) = (self.dir.clone(), self.ports.clone(), self.egress_port);
            let read = tokio::task::spawn_blocking(move || Sockets::read(&dir, &ports, egress_port)).await;
            let sockets = match read {
                Ok(Ok(sockets)) => Some(Arc::new(sockets)),
                Ok(Err(cause)) => {
                    if !std::mem::replace(&mut is_told, true) {
                        warn!(registry = self.door, %cause, "the system does not tell whose process calls, so registrations are not protected from other users of this host");
                    }
                    None
                }
                // The runtime is going down.
                Err(_) => None,
            };
            for answer in answers {
                // Who asked may be gone.
                let _ = answer.send(sockets.clone());
            }
        }
    }
}

/// The table is made by the kernel; a slow one is not worth more of the client's patience.
const MAX_WAIT: Duration = Duration::from_secs(5);
