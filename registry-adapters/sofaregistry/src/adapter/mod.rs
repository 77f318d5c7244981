// SPDX-License-Identifier: Apache-2.0
//! The adapter: follows services of SOFARPC at a SOFARegistry and publishes there, all on one connection of Remora's own.
//!
//! ```text
//! demo.Echo:1.0:blue in /sofa-rpc         dataId demo.Echo:1.0:blue@DEFAULT, group SOFA
//! demo.Echo in /sofa-rpc (interface)      dataId demo.Echo:1.0@DEFAULT, and every service of demo.Echo that is followed
//! ```
//! Layout: SOFARPC 5.x with its `sofa` registry. While there is no connection the last lists stand. What is published goes
//! with the connection, as the server wants it, and is registered again first thing on the next one.
//! What is no service of SOFARPC is relayed for applications that speak to the facade of this crate, as it is.
//! Not here: whether a list is believed (the proxy's `discovery`); the session-server facade.

mod lists;
mod publish;
mod received;
mod registration;
mod subject;

use std::sync::Arc;
use std::time::Duration;

use remora_registry::{BoxFuture, Instance, Registry, RegistryError, RegistryState, Snapshot, Source, Target};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::lists::Lists;
use self::publish::Publications;
pub use self::publish::{RelayedPublisher, Standing};
pub use self::received::{Received, ReceivedConfig, Segment};
use self::registration::Keeping;
pub use self::subject::Subject;
use self::subject::Wanted;
use crate::client::{Client, ClientState, Endpoint, Options};
use crate::wire::{PublisherRegister, Scope};

/// How the adapter connects and waits.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its connection.
    pub connection: Options,
    /// How long `publish` and `withdraw` wait for an answer; what they want goes on afterwards.
    pub patience: Duration,
    /// On a new connection what is followed is registered at random within this time, after what is published.
    pub spread: Duration,
    /// What a process that hands over has published.
    pub former: Vec<Standing>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connection: Options::default(),
            patience: Duration::from_secs(10),
            spread: Duration::from_millis(200),
            former: Vec::new(),
        }
    }
}

/// A SOFARegistry as the proxy's discovery sees it.
pub struct SofaRegistry {
    keeping: Keeping,
    lists: Arc<Lists>,
    publications: Publications,
    state: watch::Receiver<RegistryState>,
    endpoints: String,
}

impl SofaRegistry {
    /// Starts the connection and the adapter on the current runtime; returns at once. `name` is the registry's configured one,
    /// for logs and errors. All tasks end with `stop`, which also closes the connection: what was published goes then.
    pub fn start(name: &str, endpoints: Vec<Endpoint>, config: Config, stop: CancellationToken) -> Arc<Self> {
        let lists = Arc::new(Lists::default());
        let shown: Vec<String> = endpoints.iter().map(Endpoint::to_string).collect();
        let on_push = {
            let lists = Arc::clone(&lists);
            Arc::new(move |connection, message| lists.pushed(connection, message))
        };
        let client = Client::start(endpoints, config.connection, on_push, stop);
        let (sender, state) = watch::channel(RegistryState::Connecting);
        tokio::spawn(tell_state(client.state(), sender));
        tokio::spawn(keep_settings(client.clone(), Arc::clone(&lists)));
        let keeping = Keeping {
            registry: name.into(),
            client,
            runtime: Handle::current(),
            spread: config.spread,
            frozen: CancellationToken::new(),
        };
        lists.keep(keeping.clone());
        Arc::new(Self {
            publications: Publications::new(keeping.clone(), config.patience, config.former),
            keeping,
            lists,
            state,
            endpoints: shown.join(","),
        })
    }

    /// Takes nothing back any more, whoever lets go of it; all of it stands as long as the connection. Gives what was published
    /// and not withdrawn, for the process that takes over: while both are connected, publishing it again under the same
    /// ids changes nothing that anybody sees.
    pub fn freeze(&self) -> Vec<Standing> {
        self.keeping.frozen.cancel();
        self.publications.standing()
    }

    /// Waits until the connection was closed, after `stop`.
    pub async fn closed(&self) {
        self.keeping.client.closed().await;
    }

    /// Publishes what an application published, as it is, until the answer is dropped. Id and version upstream are our own.
    pub fn relay_publish(&self, register: &PublisherRegister) -> RelayedPublisher {
        RelayedPublisher::start(&self.keeping, register)
    }

    /// Follows a subject as it is, until every receiver is dropped. `None` until something was pushed; a lost registry leaves
    /// the last push standing.
    pub fn relay_subscribe(&self, subject: &Subject, scope: Scope) -> watch::Receiver<Option<Arc<Received>>> {
        self.lists.subscribe_to(subject, scope)
    }

    /// Follows the configuration of a subject, likewise.
    pub fn relay_configure(&self, subject: &Subject) -> watch::Receiver<Option<Arc<ReceivedConfig>>> {
        self.lists.configure(subject)
    }
}

impl Registry for SofaRegistry {
    fn name(&self) -> &'static str {
        "sofaregistry"
    }

    fn cannot_hold(&self, target: &Target) -> Option<String> {
        subject::cannot_hold(target)
    }

    fn told_within(&self) -> Duration {
        TOLD_WITHIN
    }

    fn state(&self) -> watch::Receiver<RegistryState> {
        self.state.clone()
    }

    fn follow(&self, target: Target) -> watch::Receiver<Option<Arc<Snapshot>>> {
        match Wanted::of_target(&target) {
            Some(wanted) => self.lists.follow(target, wanted),
            None => {
                let empty = Snapshot {
                    target,
                    instances: Vec::new(),
                    malformed: Vec::new(),
                    foreign: Vec::new(),
                    source: Source::Registry,
                };
                watch::channel(Some(Arc::new(empty))).1
            }
        }
    }

    fn publish<'a>(&'a self, target: &'a Target, instance: &'a Instance) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(self.publications.publish(target, instance))
    }

    fn withdraw<'a>(&'a self, target: &'a Target, instance: &'a Instance) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(self.publications.withdraw(target, instance))
    }

    /// It is no metadata centre.
    fn metadata<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<String>, RegistryError>> {
        Box::pin(async { Ok(None) })
    }
}

impl std::fmt::Debug for SofaRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SofaRegistry({}, {})", self.keeping.registry, self.endpoints)
    }
}

/// Tells the connection's state in the registry's words, until it is closed.
async fn tell_state(mut client: watch::Receiver<ClientState>, registry: watch::Sender<RegistryState>) {
    loop {
        let state = client.borrow_and_update().clone();
        let is_last = matches!(state, ClientState::Closed);
        match state {
            ClientState::Connecting => {}
            ClientState::Up { since, .. } => {
                registry.send_replace(RegistryState::Up { since });
            }
            ClientState::Down { since, cause } => {
                registry.send_replace(RegistryState::Down { since, cause });
            }
            ClientState::Closed => {
                registry.send_replace(RegistryState::Down {
                    since: std::time::Instant::now(),
                    cause: "we closed the connection".into(),
                });
            }
        }
        if is_last || client.changed().await.is_err() {
            return;
        }
    }
}

/// Takes the server's settings from each new connection, and asks for them again now and then, as Java clients do.
async fn keep_settings(client: Client, lists: Arc<Lists>) {
    let mut state = client.state();
    let mut last = None;
    loop {
        let current = state.borrow_and_update().clone();
        let settings = match current {
            ClientState::Closed => return,
            ClientState::Up {
                connection, settings, ..
            } if last != Some(connection) => {
                last = Some(connection);
                Some(settings)
            }
            ClientState::Up { .. } => match client.settings().await {
                Ok(settings) => Some(Arc::new(settings)),
                Err(error) => {
                    debug!(registry = "sofaregistry", reason = error.reason(), %error, "no settings");
                    None
                }
            },
            ClientState::Connecting | ClientState::Down { .. } => None,
        };
        let mut pause = SETTINGS_EVERY;
        if let Some(settings) = settings.filter(|settings| settings.success) {
            let asked_for = u64::try_from(settings.retry_interval).unwrap_or_default();
            pause = Duration::from_millis(asked_for).clamp(SETTINGS_EVERY, MAX_SETTINGS_PAUSE);
            lists.segments_available(settings.available_segments.clone());
        }
        tokio::select! {
            () = sleep(pause) => {}
            changed = state.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// The server holds a change back for 1 s, and a push for 0.5 s more (`SessionServerConfigBean` of 6.3.0); a bit for the way.
const TOLD_WITHIN: Duration = Duration::from_millis(1700);
/// Java: `syncConfigRetryInterval`.
const SETTINGS_EVERY: Duration = Duration::from_secs(30);
const MAX_SETTINGS_PAUSE: Duration = Duration::from_secs(600);
