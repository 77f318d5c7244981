// SPDX-License-Identifier: Apache-2.0
//! One followed list: read, tell, wait for a watch, read again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use remora_naming::sofa::is_sofa;
use remora_registry::{Instance, Snapshot, Source, Target};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::nodes::NodeList;
use super::service::ServiceList;
use super::{Shared, cannot_hold};
use crate::client::{Client, ClientError, SessionState, Watcher};

/// What a read of a list gave.
#[derive(Default)]
pub(super) struct Content {
    pub instances: Vec<Arc<Instance>>,
    /// At most [`MAX_MALFORMED`] names.
    pub malformed: Vec<Arc<str>>,
    /// See [`Snapshot::foreign`].
    pub foreign: Vec<Arc<str>>,
}

/// What to read.
pub(super) enum Scope {
    /// Everything: nothing is known, or it may be old.
    All,
    /// What stands at these paths.
    Paths(BTreeSet<Arc<str>>),
}

pub(super) struct Follow {
    shared: Arc<Shared>,
    target: Target,
    list: watch::Sender<Option<Arc<Snapshot>>>,
}

enum List {
    Service(ServiceList),
    Nodes(NodeList),
    /// What this registry cannot hold: an empty list, told once.
    Nothing {
        is_told: bool,
    },
}

impl Follow {
    pub fn new(shared: Arc<Shared>, target: Target, list: watch::Sender<Option<Arc<Snapshot>>>) -> Self {
        Self { shared, target, list }
    }

    /// Ends when nobody holds a receiver any more, with the client, or with the stop token. A read may be cut off anywhere.
    pub async fn run(self) {
        tokio::select! {
            () = self.feed() => {}
            () = self.unfollowed() => return,
            () = self.shared.stop.cancelled() => {}
        }
        self.shared.lists().remove(&self.target);
    }

    async fn unfollowed(&self) {
        loop {
            self.list.closed().await;
            // `follow` gives receivers out under this lock only.
            let mut lists = self.shared.lists();
            if self.list.receiver_count() == 0 {
                lists.remove(&self.target);
                return;
            }
        }
    }

    async fn feed(&self) {
        let client = &self.shared.client;
        let watcher = Watcher::new();
        let mut list = List::new(&self.target);
        let mut scope = Scope::All;
        let mut last_connection = None;
        let mut failures = 0;
        loop {
            let Some(connection) = connected(client).await else {
                return;
            };
            if last_connection.is_some_and(|last| last != connection) {
                scope = Scope::All;
                sleep(self.spread()).await;
            }
            last_connection = Some(connection);
            // What fired until now is read now; what fires from now on, once more.
            let fired = watcher.take();
            if let Scope::Paths(paths) = &mut scope {
                paths.extend(fired);
            }
            let read_at = Instant::now();
            match list.read(client, &watcher, &scope).await {
                Ok(content) => {
                    failures = 0;
                    self.tell(content);
                    scope = Scope::Paths(watcher.fired().await);
                    sleep_until(read_at + self.shared.config.min_reread).await;
                }
                Err(error) => {
                    self.report(&error, failures);
                    scope = Scope::All;
                    sleep(self.pause(failures)).await;
                    failures += 1;
                }
            }
        }
    }

    /// Tells a list that differs from the last one.
    fn tell(&self, content: Option<Content>) {
        let Some(content) = content else { return };
        let Content {
            instances,
            malformed,
            foreign,
        } = content;
        debug!(registry = &*self.shared.name, service = %self.target, instances = instances.len(), malformed = malformed.len(), "list read");
        self.list.send_replace(Some(Arc::new(Snapshot {
            target: self.target.clone(),
            instances,
            malformed,
            foreign,
            source: Source::Registry,
        })));
    }

    fn report(&self, error: &ClientError, failures: u32) {
        let registry = &*self.shared.name;
        let reason = error.reason();
        match error {
            // A lost connection is told once, by the registry's state.
            ClientError::Code { .. } | ClientError::Timeout { .. } if failures == 0 => {
                warn!(registry, service = %self.target, reason, %error, "list cannot be read, the last one stands");
            }
            _ => debug!(registry, service = %self.target, reason, %error, "list cannot be read"),
        }
    }

    /// When to read after a reconnect: at random within a time that grows with the lists.
    fn spread(&self) -> Duration {
        let config = &self.shared.config;
        let lists = u32::try_from(self.shared.lists().len()).unwrap_or(u32::MAX);
        let whole = config.spread_per_list.saturating_mul(lists).min(config.max_spread);
        whole.mul_f64(fastrand::f64())
    }

    fn pause(&self, failures: u32) -> Duration {
        let config = &self.shared.config;
        let doubled = config.min_reread.saturating_mul(1 << failures.min(16));
        let whole = doubled.min(config.max_spread);
        whole / 2 + (whole / 2).mul_f64(fastrand::f64())
    }
}

impl List {
    fn new(target: &Target) -> Self {
        match target {
            _ if cannot_hold(target).is_some() => Self::Nothing { is_told: false },
            Target::Service { .. } if !is_sofa(target) => Self::Service(ServiceList::new(target)),
            _ => Self::Nodes(NodeList::new(target)),
        }
    }

    async fn read(
        &mut self,
        client: &Client,
        watcher: &Watcher,
        scope: &Scope,
    ) -> Result<Option<Content>, ClientError> {
        match self {
            // It is one node: whatever fired, it is read.
            Self::Service(list) => list.read(client, watcher).await,
            Self::Nodes(list) => list.read(client, watcher, scope).await,
            Self::Nothing { is_told } => Ok((!std::mem::replace(is_told, true)).then(Content::default)),
        }
    }
}

/// Waits for a connection; gives its number, `None` when the client was closed.
pub(super) async fn connected(client: &Client) -> Option<u64> {
    let mut state = client.state();
    let is_decided = |s: &SessionState| matches!(s, SessionState::Up { .. } | SessionState::Closed);
    match *state.wait_for(is_decided).await.ok()? {
        SessionState::Up { connection, .. } => Some(connection),
        _ => None,
    }
}

/// Names of the children of `path`, none if it is absent; either way `watcher` learns of the next change.
pub(super) async fn children_or_none(
    client: &Client,
    path: &str,
    watcher: &Watcher,
) -> Result<Vec<Arc<str>>, ClientError> {
    loop {
        match client.children(path, Some(watcher)).await {
            Ok(children) => return Ok(children.iter().map(|c| Arc::from(c.as_str())).collect()),
            Err(e) if e.is_no_node() => {}
            Err(e) => return Err(e),
        }
        if client.exists(path, Some(watcher)).await?.is_none() {
            return Ok(Vec::new());
        }
    }
}

/// Names shown in `status` at most; see [`Snapshot::malformed`].
pub(super) const MAX_MALFORMED: usize = 100;
