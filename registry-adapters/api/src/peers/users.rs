// SPDX-License-Identifier: Apache-2.0
//! Whose process is at the other end of a connection.
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

use super::sockets::Sockets;

/// Who is at the other end of a connection, as far as the system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// A process of this user.
    Uid(u32),
    /// The system tells nothing about users; nothing is protected from it.
    Unknown,
    /// No process that the system knows: of another host, or gone already.
    Elsewhere(SocketAddr),
}

impl User {
    /// Whether this user may change what `owner` registered.
    pub fn may_change(self, owner: Option<u32>) -> bool {
        match (self, owner) {
            (_, None) | (Self::Unknown | Self::Uid(0), _) => true,
            (Self::Uid(uid), Some(owner)) => uid == owner,
            (Self::Elsewhere(_), Some(_)) => false,
        }
    }

    /// The user as an owner.
    pub fn uid(self) -> Option<u32> {
        match self {
            Self::Uid(uid) => Some(uid),
            Self::Unknown | Self::Elsewhere(_) => None,
        }
    }

    /// In words.
    pub fn label(self) -> String {
        match self {
            Self::Uid(uid) => format!("user {uid}"),
            Self::Unknown => "an unknown user".to_owned(),
            Self::Elsewhere(peer) => format!("{peer}, whose process is not on this host or gone,"),
        }
    }
}

/// Asks for users.
#[derive(Clone, Debug)]
pub struct Users {
    asks: mpsc::Sender<oneshot::Sender<Option<Arc<Sockets>>>>,
}

/// Answers what [`Users`] asks.
#[derive(Debug)]
pub struct Reader {
    asks: mpsc::Receiver<oneshot::Sender<Option<Arc<Sockets>>>>,
    door: &'static str,
    dir: PathBuf,
    ports: HashSet<u16>,
    egress_port: u16,
}

impl Users {
    /// For a door that listens on `ports`; at most `places` connections ask at a time.
    pub fn new(
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
    pub async fn of(&self, peer: SocketAddr, door: SocketAddr) -> (User, Option<Arc<Sockets>>) {
        self.of_within(MAX_WAIT, peer, door).await
    }

    /// The same, for who would rather wait than go away unanswered: `patience` is for each look at the table.
    pub async fn of_within(
        &self,
        patience: Duration,
        peer: SocketAddr,
        door: SocketAddr,
    ) -> (User, Option<Arc<Sockets>>) {
        let mut looks = 1;
        loop {
            match self.look(patience, peer, door).await {
                // The kernel may leave a line out of a table that changes while it is read.
                (User::Elsewhere(_), Some(_)) if looks < LOOKS => looks += 1,
                known => return known,
            }
        }
    }

    async fn look(&self, patience: Duration, peer: SocketAddr, door: SocketAddr) -> (User, Option<Arc<Sockets>>) {
        let (answer, answered) = oneshot::channel();
        let asked = self.asks.try_send(answer);
        match (asked, timeout(patience, answered).await) {
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
    pub async fn run(mut self) {
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
                        warn!(registry = self.door, %cause, "the system does not tell whose process calls, so nothing is protected from other users of this host");
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
const LOOKS: u32 = 3;
