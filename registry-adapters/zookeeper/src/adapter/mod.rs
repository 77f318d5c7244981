// SPDX-License-Identifier: Apache-2.0
//! The adapter: follows provider lists at a ZooKeeper and publishes there, all on one session of Remora's own.
//!
//! ```text
//! Target::Service      <namespace>/<encoded name>/providers      children are the instances
//!                      /sofa-rpc/<interface>/providers           the same of SOFARPC; the data says who is offline
//! Target::Application  <namespace>/<name>                        children are nodes, an instance is a node's data
//! metadata             /dubbo/metadata/<application>/<revision>
//! ```
//! Layout: Dubbo 2.6 to 3.3, SOFARPC 5.4 to 5.14. A list is read anew when its watch fires and after each reconnect; while there is no
//! connection the last one stands.
//! Not here: whether a list is believed (the proxy's `discovery`).

mod follow;
mod nodes;
mod publish;
mod service;
mod sofa;

pub(crate) use self::nodes::{NodeContent, application_node};
pub(crate) use self::service::service_child;
pub(crate) use self::sofa::SofaChildren;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remora_naming::sofa::{GROUP, group_of};
use remora_registry::{BoxFuture, Instance, Registry, RegistryError, RegistryState, Snapshot, Target};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::follow::Follow;
use self::publish::Publications;
use crate::backend::Backend;
use crate::client::{Client, ClientError, Options, SessionState, Ticket};

/// How the adapter reads and publishes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its session.
    pub session: Options,
    /// A list is read again at most this often, however often it changes. Dubbo's own consumers do not wait; a rolling start
    /// of 2,000 providers would make 2,000 lists of it.
    pub min_reread: Duration,
    /// After a reconnect, each followed list adds up to this much to the time over which they are read again, so that the
    /// registry is not asked for all of them at once.
    pub spread_per_list: Duration,
    /// Longest such time, and longest pause after a refused read.
    pub max_spread: Duration,
    /// Node under which the metadata centre is.
    pub metadata: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            session: Options::default(),
            min_reread: Duration::from_millis(50),
            spread_per_list: Duration::from_millis(1),
            max_spread: Duration::from_secs(2),
            metadata: "/dubbo/metadata".to_owned(),
        }
    }
}

/// A ZooKeeper, or the embedded registry, as the proxy's discovery sees it.
pub struct ZookeeperRegistry {
    shared: Arc<Shared>,
    publications: Arc<Publications>,
}

// What every follow needs.
struct Shared {
    name: Arc<str>,
    client: Client,
    config: Config,
    state: watch::Receiver<RegistryState>,
    lists: Mutex<HashMap<Target, watch::Sender<Option<Arc<Snapshot>>>>>,
    stop: CancellationToken,
    /// Callers may be on other threads.
    runtime: Handle,
}

impl ZookeeperRegistry {
    /// Starts the session and the adapter on the current runtime; returns at once. `name` is the registry's configured one,
    /// for logs and errors. All tasks end with `stop`, which also closes the session: what was published goes then.
    pub fn start(name: &str, backend: Arc<dyn Backend>, config: Config, stop: CancellationToken) -> Arc<Self> {
        let client = Client::start(backend, config.session.clone(), stop.clone());
        let (sender, state) = watch::channel(RegistryState::Connecting);
        tokio::spawn(tell_state(client.state(), sender));
        let shared = Arc::new(Shared {
            name: name.into(),
            client,
            config,
            state,
            lists: Mutex::default(),
            stop,
            runtime: Handle::current(),
        });
        Arc::new(Self {
            publications: Publications::new(Arc::clone(&shared)),
            shared,
        })
    }

    /// Its session, for whoever needs other nodes of the same registry.
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Ends without closing the session: what was published stays for its timeout, or until somebody goes on with it.
    pub async fn detach(&self) -> Option<Ticket> {
        self.shared.client.detach().await
    }

    /// Waits until the session was closed, after `stop`.
    pub async fn closed(&self) {
        self.shared.client.closed().await;
    }
}

impl Registry for ZookeeperRegistry {
    fn name(&self) -> &'static str {
        "zookeeper"
    }

    fn cannot_hold(&self, target: &Target) -> Option<String> {
        cannot_hold(target)
    }

    fn state(&self) -> watch::Receiver<RegistryState> {
        self.shared.state.clone()
    }

    fn follow(&self, target: Target) -> watch::Receiver<Option<Arc<Snapshot>>> {
        let mut lists = self.shared.lists();
        if let Some(list) = lists.get(&target) {
            return list.subscribe();
        }
        let (list, receiver) = watch::channel(None);
        lists.insert(target.clone(), list.clone());
        drop(lists);
        let follow = Follow::new(Arc::clone(&self.shared), target, list);
        self.shared.runtime.spawn(follow.run());
        receiver
    }

    fn publish<'a>(&'a self, target: &'a Target, instance: &'a Instance) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(self.publications.publish(target, instance))
    }

    fn withdraw<'a>(&'a self, target: &'a Target, instance: &'a Instance) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(self.publications.withdraw(target, instance))
    }

    fn metadata<'a>(
        &'a self,
        application: &'a str,
        revision: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, RegistryError>> {
        Box::pin(async move {
            // Names come from a shared registry; they must not lead elsewhere.
            if [application, revision].iter().any(|n| n.is_empty() || n.contains('/')) {
                return Ok(None);
            }
            let path = format!("{}/{application}/{revision}", self.shared.config.metadata);
            match self.shared.client.data(&path, None).await {
                Ok((data, _)) if data.is_empty() => Ok(None),
                Ok((data, _)) => match String::from_utf8(data.into()) {
                    Ok(text) => Ok(Some(text)),
                    Err(e) => Err(self.shared.refused(format!("read {path}"), e.to_string())),
                },
                Err(e) if e.is_no_node() => Ok(None),
                Err(e) => Err(self.shared.error(&format!("read {path}"), &e)),
            }
        })
    }
}

impl std::fmt::Debug for ZookeeperRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "ZookeeperRegistry({}, {})",
            self.shared.name,
            self.shared.client.server()
        )
    }
}

impl Shared {
    fn lists(&self) -> MutexGuard<'_, HashMap<Target, watch::Sender<Option<Arc<Snapshot>>>>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, operation: &str, error: &ClientError) -> RegistryError {
        match error {
            ClientError::Code { .. } => self.refused(operation.to_owned(), error.to_string()),
            ClientError::Lost { .. } | ClientError::Timeout { .. } | ClientError::Closed { .. } => {
                RegistryError::Unreachable {
                    registry: self.name.to_string(),
                    cause: error.to_string(),
                }
            }
        }
    }

    fn refused(&self, operation: String, cause: String) -> RegistryError {
        RegistryError::Refused {
            registry: self.name.to_string(),
            operation,
            cause,
        }
    }
}

/// Tells the session's state in the registry's words, until the session is closed.
async fn tell_state(mut session: watch::Receiver<SessionState>, registry: watch::Sender<RegistryState>) {
    loop {
        let state = session.borrow_and_update().clone();
        let is_last = matches!(state, SessionState::Closed);
        match state {
            SessionState::Connecting => {}
            SessionState::Up { since, .. } => {
                registry.send_replace(RegistryState::Up { since });
            }
            SessionState::Down { since, cause } => {
                registry.send_replace(RegistryState::Down { since, cause });
            }
            SessionState::Closed => {
                registry.send_replace(RegistryState::Down {
                    since: std::time::Instant::now(),
                    cause: "we closed the session".into(),
                });
            }
        }
        if is_last || session.changed().await.is_err() {
            return;
        }
    }
}

/// SOFARPC's layout in ZooKeeper has one place for an interface, whatever the group.
fn cannot_hold(target: &Target) -> Option<String> {
    let group = group_of(target).filter(|group| !group.is_empty())?;
    Some(format!(
        "SOFARPC's layout in ZooKeeper has no registry groups, only {GROUP}; leave sofa.group={group} away"
    ))
}
