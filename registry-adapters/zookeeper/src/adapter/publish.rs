// SPDX-License-Identifier: Apache-2.0
//! Publications: ephemeral nodes on our session, made again in each new session until they are withdrawn.
//!
//! One task per node, so that what is done to it is done one after the other; it ends with the withdrawal or the client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use remora_naming::sofa::is_sofa;
use remora_naming::{application, dubbo_url};
use remora_registry::{Instance, RegistryError, Target};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::Shared;
use super::cannot_hold;
use crate::client::{Client, ClientError, SessionState, Watcher};
use crate::places::{child_data, dir_of, print_child};
use crate::wire::{CreateMode, ErrorCode, check_path};

pub(super) struct Publications {
    shared: Arc<Shared>,
    by_path: Mutex<HashMap<Arc<str>, Publication>>,
}

struct Publication {
    wish: watch::Sender<Wish>,
    outcome: watch::Receiver<Outcome>,
}

/// What is to stand in the registry.
#[derive(Clone)]
struct Wish {
    /// Grows with each change.
    number: u64,
    /// The node's data; `None`: no node.
    data: Option<Bytes>,
}

/// What came of a wish, for those who wait.
#[derive(Clone)]
struct Outcome {
    number: u64,
    result: Result<(), ClientError>,
}

impl Publications {
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            by_path: Mutex::default(),
        })
    }

    /// After an error other than `Unsupported` the publication is still wanted, and made as soon as that works.
    pub async fn publish(self: &Arc<Self>, target: &Target, instance: &Instance) -> Result<(), RegistryError> {
        let (path, data) = self.place(target, instance)?;
        let (number, outcome) = {
            let mut all = self.lock();
            let publication = all
                .entry(Arc::clone(&path))
                .or_insert_with(|| self.start(&path, parents_of(target)));
            let is_done = publication.outcome.borrow().result.is_ok();
            let is_same = publication.wish.borrow().data.as_ref() == Some(&data);
            if !(is_same && is_done) {
                publication.ask(Some(data));
            }
            publication.wait_for()
        };
        self.outcome(&format!("create {path}"), number, outcome).await
    }

    pub async fn withdraw(self: &Arc<Self>, target: &Target, instance: &Instance) -> Result<(), RegistryError> {
        let (path, _) = self.place(target, instance)?;
        let (number, outcome) = {
            let all = self.lock();
            // Not ours to take back.
            let Some(publication) = all.get(&path) else {
                return Ok(());
            };
            publication.ask(None);
            publication.wait_for()
        };
        self.outcome(&format!("delete {path}"), number, outcome).await
    }

    fn start(self: &Arc<Self>, path: &Arc<str>, parents: CreateMode) -> Publication {
        let (wish, wishes) = watch::channel(Wish { number: 0, data: None });
        let (done, outcome) = watch::channel(Outcome {
            number: 0,
            result: Ok(()),
        });
        let keeper = Keeper {
            all: Arc::clone(self),
            path: Arc::clone(path),
            parents,
            wishes,
            done,
            sessions: Vec::new(),
        };
        self.shared.runtime.spawn(keeper.run());
        Publication { wish, outcome }
    }

    async fn outcome(
        &self,
        operation: &str,
        number: u64,
        mut outcome: watch::Receiver<Outcome>,
    ) -> Result<(), RegistryError> {
        let unreachable = |cause: String| RegistryError::Unreachable {
            registry: self.shared.name.to_string(),
            cause: format!("{cause}; it is done once the registry can be reached"),
        };
        if let SessionState::Down { cause, .. } = &*self.shared.client.state().borrow() {
            return Err(unreachable(cause.to_string()));
        }
        let waited = self.shared.config.session.operation_timeout;
        match timeout(waited, outcome.wait_for(|o| o.number >= number)).await {
            Ok(Ok(outcome)) => outcome.result.clone().map_err(|e| self.shared.error(operation, &e)),
            Ok(Err(_)) => Err(unreachable("the session was closed by us".to_owned())),
            Err(_) => Err(unreachable(format!("{operation} was not done within {waited:?}"))),
        }
    }

    /// Path and data of the node.
    fn place(&self, target: &Target, instance: &Instance) -> Result<(Arc<str>, Bytes), RegistryError> {
        let dir = dir_of(target);
        // Names come from applications by other doors; the server would refuse such a path again and again.
        check_path(&dir).map_err(|_| RegistryError::Unsupported {
            registry: self.shared.name.to_string(),
            operation: "hold a name with characters that ZooKeeper's paths do not have",
        })?;
        match target {
            _ if cannot_hold(target).is_some() => Err(RegistryError::Unsupported {
                registry: self.shared.name.to_string(),
                operation: "hold a group of SOFARegistry",
            }),
            Target::Service { .. } if is_sofa(target) => {
                let path = format!("{dir}/{}", print_child(target, instance));
                Ok((path.into(), child_data(target)))
            }
            // Dubbo ignores the data and puts the creator's address there.
            Target::Service { .. } => {
                let path = format!("{dir}/{}", child(instance));
                Ok((path.into(), Bytes::copy_from_slice(instance.host.as_bytes())))
            }
            Target::Application { .. } => {
                let (node, data) = application::print(instance).map_err(|_| RegistryError::Unsupported {
                    registry: self.shared.name.to_string(),
                    operation: "publish an application's instance that is not Dubbo's",
                })?;
                Ok((format!("{dir}/{node}").into(), data.into()))
            }
        }
    }

    /// Ends a publication that was taken back, unless it is wanted again.
    fn forget(&self, path: &str, number: u64) -> bool {
        let mut all = self.lock();
        let is_last = all.get(path).is_some_and(|p| p.wish.borrow().number == number);
        if is_last {
            all.remove(path);
        }
        is_last
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Publication>> {
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publication {
    fn ask(&self, data: Option<Bytes>) {
        self.wish.send_modify(|wish| {
            wish.number += 1;
            wish.data = data;
        });
    }

    fn wait_for(&self) -> (u64, watch::Receiver<Outcome>) {
        (self.wish.borrow().number, self.outcome.clone())
    }
}

/// Keeps one node as it is wanted.
struct Keeper {
    all: Arc<Publications>,
    path: Arc<str>,
    /// How nodes above it are made.
    parents: CreateMode,
    wishes: watch::Receiver<Wish>,
    done: watch::Sender<Outcome>,
    /// Those in which the node was or may have been made by us.
    sessions: Vec<i64>,
}

impl Keeper {
    async fn run(mut self) {
        let client = self.all.shared.client.clone();
        let mut state = client.state();
        // Which wish stands in which session.
        let mut stands = None;
        let mut failures = 0;
        // Tells when the node is gone, or may be.
        let watcher = Watcher::new();
        let mut made_again = 0;
        let mut looked_at = Instant::now();
        let mut look_at = None;
        loop {
            let wish = self.wishes.borrow_and_update().clone();
            let session = match &*state.borrow_and_update() {
                SessionState::Up { session, .. } => Some(*session),
                SessionState::Connecting | SessionState::Down { .. } => None,
                SessionState::Closed => return,
            };
            let mut pause = None;
            if let Some(session) = session.filter(|s| stands != Some((wish.number, *s))) {
                let result = self.fulfil(&client, &wish, session, &watcher).await;
                match &result {
                    Ok(()) => {
                        failures = 0;
                        (looked_at, look_at) = (Instant::now(), None);
                        stands = Some((wish.number, session));
                    }
                    Err(error) => {
                        self.report(error, failures);
                        pause = Some(pause_after(failures));
                        failures += 1;
                    }
                }
                let is_over = result.is_ok() && wish.data.is_none();
                let number = wish.number;
                self.done.send_replace(Outcome { number, result });
                if is_over && self.all.forget(&self.path, number) {
                    return;
                }
            }
            tokio::select! {
                changed = self.wishes.changed() => if changed.is_err() {
                    return;
                },
                changed = state.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                // Deleted or changed by somebody, or the connection was lost meanwhile: it is looked at again. After longer and
                // longer times, lest two fight over it; many at once are spread by chance.
                _ = watcher.fired(), if look_at.is_none() && stands.is_some() && wish.data.is_some() => {
                    made_again = if looked_at.elapsed() < FOUGHT_WITHIN { made_again + 1 } else { 0 };
                    look_at = Some(Instant::now() + pause_after(made_again));
                }
                () = sleep_until(look_at.unwrap_or(looked_at)), if look_at.is_some() => {
                    look_at = None;
                    stands = None;
                }
            }
        }
    }

    async fn fulfil(
        &mut self,
        client: &Client,
        wish: &Wish,
        session: i64,
        watcher: &Watcher,
    ) -> Result<(), ClientError> {
        match &wish.data {
            Some(data) => {
                if !self.sessions.contains(&session) {
                    self.sessions.push(session);
                }
                // What fired before is looked at now.
                watcher.take();
                let is_new = self.make(client, data, session).await?;
                // If it is gone already, the next look is near.
                let stat = client.exists(&self.path, Some(watcher)).await?;
                if stat.is_none_or(|stat| stat.ephemeral_owner != session) {
                    watcher.look_again(&self.path);
                }
                // Those of sessions that are gone are deleted by now.
                self.sessions.retain(|s| *s == session);
                if is_new {
                    info!(registry = &*self.all.shared.name, place = &*self.path, "published");
                }
            }
            None => {
                self.delete_ours(client).await?;
                info!(registry = &*self.all.shared.name, place = &*self.path, "withdrawn");
            }
        }
        Ok(())
    }

    /// Makes the node, or finds that it is ours and as it should be: `false` then. One that another session made is replaced: it would go
    /// with that session, which may be our own of before (apache/dubbo#5125).
    async fn make(&self, client: &Client, data: &Bytes, session: i64) -> Result<bool, ClientError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match client.create(&self.path, data.clone(), CreateMode::Ephemeral).await {
                Ok(_) => return Ok(true),
                Err(error) if tries >= MAX_TRIES => return Err(error),
                Err(error) => error,
            };
            match error.code() {
                Some(ErrorCode::NO_NODE) => client.create_parents_as(&self.path, self.parents).await?,
                Some(ErrorCode::NODE_EXISTS) => match client.data(&self.path, None).await {
                    Ok((found, stat)) if stat.ephemeral_owner == session => {
                        if found != *data {
                            client.set_data(&self.path, data.clone()).await?;
                        }
                        return Ok(false);
                    }
                    Ok(_) => absent_is_fine(client.delete(&self.path).await)?,
                    Err(e) => absent_is_fine(Err(e))?,
                },
                _ => return Err(error),
            }
        }
    }

    async fn delete_ours(&self, client: &Client) -> Result<(), ClientError> {
        match client.exists(&self.path, None).await? {
            Some(stat) if self.sessions.contains(&stat.ephemeral_owner) => {
                absent_is_fine(client.delete(&self.path).await)
            }
            // Gone, or somebody else's by now.
            _ => Ok(()),
        }
    }

    fn report(&self, error: &ClientError, failures: u32) {
        // A lost connection is told once, by the registry's state.
        if failures == 0 && !matches!(error, ClientError::Lost { .. } | ClientError::Closed { .. }) {
            warn!(registry = &*self.all.shared.name, place = &*self.path, reason = error.reason(), %error, "cannot publish or withdraw, trying again");
        }
    }
}

fn absent_is_fine(result: Result<(), ClientError>) -> Result<(), ClientError> {
    match result {
        Err(e) if e.is_no_node() => Ok(()),
        other => other,
    }
}

/// SOFARPC makes containers, which go when they are empty; Dubbo's nodes stay.
fn parents_of(target: &Target) -> CreateMode {
    match is_sofa(target) {
        true => CreateMode::Container,
        false => CreateMode::Persistent,
    }
}

/// The child's name: the one it has, if it says what the instance does, else made anew.
fn child(instance: &Instance) -> String {
    let says_the_same = |read: &Instance| {
        read.protocol == instance.protocol
            && read.host == instance.host
            && read.port == instance.port
            && read.path == instance.path
            && read.params == instance.params
    };
    if dubbo_url::is_provider_child(&instance.id)
        && dubbo_url::parse_child(&instance.id).is_ok_and(|read| says_the_same(&read))
    {
        return instance.id.to_string();
    }
    let mut whole = instance.clone();
    if let Some(key) = &instance.key {
        if whole.path.is_empty() {
            whole.path = Arc::clone(&key.name);
        }
        for (param, value) in [
            ("interface", &key.name),
            ("group", &key.group),
            ("version", &key.version),
        ] {
            if !value.is_empty() && whole.params.get(param).is_none() {
                whole.params.set(param, &**value);
            }
        }
    }
    dubbo_url::print_child(&whole)
}

fn pause_after(failures: u32) -> Duration {
    let whole = MIN_PAUSE.saturating_mul(1 << failures.min(16)).min(MAX_PAUSE);
    whole / 2 + (whole / 2).mul_f64(fastrand::f64())
}

/// Parents absent, then a node of another session that comes back once: four tries. Beyond, somebody fights us.
const MAX_TRIES: u32 = 6;
/// A node that is gone again within this time is fought over.
const FOUGHT_WITHIN: Duration = Duration::from_secs(60);
const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(30);
