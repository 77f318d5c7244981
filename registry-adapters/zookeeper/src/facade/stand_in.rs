// SPDX-License-Identifier: Apache-2.0
//! The stand-in: what an application meets that starts while the registry is away.
//!
//! It is a registry inside this process, in memory, for the sessions that are opened meanwhile. Lists of providers come
//! from discovery, as always; what the application writes below discovery's roots stands here until the registry is back.
//! Everything else is answered as a client answers that has lost its server: connection loss.
//! A session of the stand-in is never passed off as one of the registry. Once that is back the application is told that its
//! session expired, and its client does what every client does then: it opens another one, at the registry, publishes again
//! and reads again. Many do so at once, so each waits a random time first.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use remora_registry::{Discovery, RegistryState};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::info;

use super::door::Door;
use super::owed::Kind;
use super::paths::Shape;
use super::sent::Then;
use super::{Shared, config::Config};
use crate::backend::Embedded;
use crate::embedded::{Options, Server};
use crate::wire::request::Create;
use crate::wire::{Acl, ConnectRequest, ConnectResponse, CreateMode, OpCode, Request, Seq, Text};

/// Where a session is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// In the registry.
    Registry,
    /// In the stand-in.
    StandIn,
}

/// The stand-in of one door.
#[derive(Default)]
pub(super) struct StandIn {
    server: Mutex<Option<Embedded>>,
    /// It was needed since the registry was last there.
    was_needed: AtomicBool,
}

impl StandIn {
    /// The one in use, or a new and empty one.
    pub(super) fn backend(&self) -> Embedded {
        self.was_needed.store(true, Ordering::Relaxed);
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let options = Options {
                password_mark: Some(MARK),
                ..Options::default()
            };
            Embedded::new(Server::in_memory(options))
        };
        server.get_or_insert_with(new).clone()
    }

    /// The outage is over: the next one begins with another stand-in. Connections keep theirs until they end.
    pub(super) fn clear(&self) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(server);
    }

    /// Whether a session belongs to a stand-in: to this one, or to one that is gone.
    pub(super) fn is_own(request: &ConnectRequest) -> bool {
        request.session_id != 0 && Self::is_marked(&request.password)
    }

    /// Whether this is the password of a stand-in's session.
    pub(super) fn is_marked(password: &[u8]) -> bool {
        password.starts_with(&MARK)
    }

    /// Says that a session is over.
    pub(super) fn over(request: &ConnectRequest) -> ConnectResponse {
        ConnectResponse {
            protocol_version: 0,
            timeout_ms: 0,
            session_id: 0,
            password: Bytes::from_static(&[0; 16]),
            read_only: request.read_only.map(|_| false),
        }
    }
}

/// Whether the registry is there.
pub(super) struct Reach {
    state: Option<watch::Receiver<RegistryState>>,
}

impl Reach {
    /// Of the door's registry. One inside this process is never away.
    pub(super) fn of(shared: &Shared, discovery: &dyn Discovery) -> Self {
        let watches = shared.config.stand_in && shared.backend.can_be_away();
        Self {
            state: watches.then(|| discovery.reach()).flatten(),
        }
    }

    /// Whether it has been away for some time: a new leader is elected within seconds, and no client minds.
    pub(super) fn is_away(&self) -> bool {
        let away = |state: &watch::Receiver<RegistryState>| match &*state.borrow() {
            RegistryState::Down { since, .. } => since.elapsed() >= AWAY_AFTER,
            _ => false,
        };
        self.state.as_ref().is_some_and(away)
    }

    /// Whether it is there.
    pub(super) fn is_up(&self) -> bool {
        self.state.as_ref().is_none_or(|state| state.borrow().is_up())
    }

    /// Waits a little until it is sure that the registry is away; `false` if it is not.
    pub(super) async fn turns_out_away(&mut self) -> bool {
        let deadline = Instant::now() + DECISION;
        while !self.is_away() {
            let Some(state) = &mut self.state else { return false };
            let down_for = match &*state.borrow_and_update() {
                RegistryState::Up { .. } => return false,
                RegistryState::Connecting => Duration::ZERO,
                RegistryState::Down { since, .. } => since.elapsed(),
            };
            let next = Instant::now() + AWAY_AFTER.saturating_sub(down_for);
            match timeout_at(next.min(deadline), state.changed()).await {
                Ok(Err(_)) => return false,
                _ if Instant::now() >= deadline => return self.is_away(),
                _ => {}
            }
        }
        true
    }

    /// Ends when the registry is back and this application's turn has come.
    pub(super) async fn back(mut self, config: &Config) {
        loop {
            let is_up = match &mut self.state {
                Some(state) => state.wait_for(RegistryState::is_up).await.is_ok(),
                None => false,
            };
            if !is_up {
                // Discovery is going down.
                return std::future::pending().await;
            }
            sleep(config.return_spread.mul_f64(fastrand::f64())).await;
            if self.is_up() {
                return;
            }
        }
    }
}

/// Notices when an absence of the registry is over.
#[derive(Default)]
pub(super) struct Absence {
    was_away: bool,
    back: Option<Instant>,
}

impl Absence {
    /// Says once, some time after the registry came back, since when it is back: clients that still want their sessions have
    /// come back meanwhile.
    pub(super) fn is_over(&mut self, reach: &Reach, stand_in: &StandIn) -> Option<Instant> {
        self.was_away |= stand_in.was_needed.swap(false, Ordering::Relaxed);
        if reach.is_away() {
            (self.was_away, self.back) = (true, None);
        } else if reach.is_up() && std::mem::take(&mut self.was_away) {
            self.back = Some(Instant::now());
        }
        self.back.take_if(|back| back.elapsed() >= RETURN_GRACE)
    }
}

impl Door {
    /// Whether the stand-in may answer this. What it cannot know, or could not hand on later, it does not answer.
    pub(super) fn stands_in_for(&self, request: &Request) -> bool {
        match request {
            // An operator's words would be lost.
            Request::Create(_) | Request::SetData(_) | Request::Delete { .. } if self.is_word(request) => false,
            Request::Multi(ops) if ops.iter().any(|op| self.shared.kind(op.path()).is_some()) => false,
            Request::Multi(ops) | Request::MultiRead(ops) => ops.iter().all(|op| {
                let create = match &op {
                    crate::wire::Op::Create(create) => Some(create.flags),
                    _ => None,
                };
                self.is_discoverys(op.path()) && !create.is_some_and(is_sequential)
            }),
            Request::Create(create) => self.is_discoverys(&create.path) && !is_sequential(create.flags),
            Request::Sasl { .. } => false,
            other => other.path().is_none_or(|path| self.is_discoverys(path)),
        }
    }

    fn is_word(&self, request: &Request) -> bool {
        let kind = request.path().and_then(|path| self.shared.kind(path));
        kind == Some(Kind::Word)
    }

    /// Whether a path stands below a root where services are.
    fn is_discoverys(&self, path: &str) -> bool {
        let service = match self.shared.roots.shape(path) {
            Shape::Frozen => return true,
            Shape::Dir => path.rsplit_once('/').map(|(service, _)| service),
            Shape::Child { dir, .. } => dir.rsplit_once('/').map(|(service, _)| service),
            Shape::Consumer { service, .. } => Some(service),
            Shape::RuleDir => path.rsplit_once('/').map(|(service, _)| service),
            Shape::Rule | Shape::Metadata { .. } => return true,
            Shape::Other => None,
        };
        if let Some((namespace, _)) = service.and_then(|service| service.rsplit_once('/')) {
            self.shared.saw_namespace(namespace);
        }
        service.is_some() || self.shared.is_below_namespace(path)
    }

    /// How long a list may take until it is known. One that is not known while the registry is away will not be.
    pub(super) fn list_wait(&self) -> Duration {
        match self.home {
            Home::Registry => self.shared.config.first_list_wait,
            Home::StandIn => Duration::ZERO,
        }
    }

    /// Puts into the stand-in what is known to be in the registry and is asked for now.
    pub(super) fn furnish(&mut self, request: &Request) {
        let Some(path) = request.path().map(ToString::to_string) else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let is_create = matches!(request, Request::Create(_));
        self.put_copy(&path);
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        match shared.roots.shape(&path) {
            // Applications remember which directories they made, and do not make them again (Dubbo 2.7).
            Shape::Dir if !is_create && shared.roots.is_service_list(&path) => self.put(&path),
            Shape::Dir if self.follow(&path) => {
                let view = self.state.views.get(&path);
                if view.is_some_and(|view| view.is_known && view.shown.names().len() > 0) {
                    self.put(&path);
                }
            }
            Shape::RuleDir if !is_create => self.put(&path),
            Shape::Child { .. } | Shape::Consumer { .. } if is_create => {
                if let Some(parent) = parent {
                    self.put(parent);
                }
            }
            _ => {}
        }
    }

    /// Makes a node, and those above it.
    fn put(&mut self, path: &str) {
        self.put_with(path, Bytes::new());
    }

    /// As [`put`](Self::put), with data.
    pub(super) fn put_with(&mut self, path: &str, data: Bytes) {
        if self.furnished.len() >= MAX_FURNISHED || !self.furnished.insert(path.to_owned()) {
            return;
        }
        for level in levels(path) {
            let mut request = node(level);
            if let (Request::Create(create), true) = (&mut request, level == path) {
                create.data = Some(data.clone());
            }
            self.send_own(request, 0, None, Then::Ignore);
        }
    }

    /// The prefix that the registry's URL names stands in the registry for sure.
    pub(super) fn put_chroot(&mut self) {
        let chroot = self.shared.chroot.real("/").to_string();
        if chroot != "/" {
            for parent in levels(&chroot) {
                self.send_plain(&node(parent));
            }
        }
    }

    /// Tells that a session begins here.
    pub(super) fn tell_of_stand_in(&self) {
        info!(
            registry = &*self.shared.registry,
            session = self.state.session,
            "an application arrived while the registry is away: it is served from what is known"
        );
    }
}

impl Shared {
    /// Whether `path` is a root of services or of applications, or stands below one.
    fn is_below_namespace(&self, path: &str) -> bool {
        let below = |root: &str| {
            let root = root.trim_end_matches('/');
            path.strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                // A root may have roots above it that are nobody else's.
                || root.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        };
        let configured = self.config.application_roots.iter();
        let configured = configured.chain(self.config.service_roots.iter().flatten());
        let known: HashSet<String> = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).clone();
        configured.map(String::as_str).any(below) || known.iter().map(String::as_str).any(below)
    }
}

/// `/a`, `/a/b`, `/a/b/c` of `/a/b/c`.
pub(super) fn levels(path: &str) -> impl Iterator<Item = &str> {
    let inner = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    inner
        .map(|at| path.get(..at).unwrap_or(path))
        .chain(std::iter::once(path))
}

/// Makes an empty node that stays.
pub(super) fn node(path: &str) -> Request {
    Request::Create(Create {
        op: OpCode::Create,
        path: Text::from(path),
        data: Some(Bytes::new()),
        acl: Seq::from_iter([Acl::open()]),
        flags: CreateMode::Persistent.number(),
        ttl_ms: 0,
    })
}

fn is_sequential(flags: i32) -> bool {
    CreateMode::from_wire(flags).is_none_or(|mode| mode.is_sequential())
}

/// Passwords of its sessions begin with this, so that they are known as its own after a restart of Remora, too.
const MARK: [u8; 8] = *b"\x8eremora\x01";
/// Shorter absences are waited for, by clients too: a new leader takes 0.2 to 2 s.
const AWAY_AFTER: Duration = Duration::from_secs(1);
/// How long a client's first frame waits until it is known whether the registry is away. Curator gives a connection 15 s.
const DECISION: Duration = Duration::from_secs(2);
/// Clients try once a second or so.
const RETURN_GRACE: Duration = Duration::from_millis(1500);
/// Lists put into the stand-in for one session.
const MAX_FURNISHED: usize = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_after_those_above_it() {
        assert_eq!(levels("/a/b/c").collect::<Vec<_>>(), ["/a", "/a/b", "/a/b/c"]);
        assert_eq!(levels("/a").collect::<Vec<_>>(), ["/a"]);
    }
}
