// SPDX-License-Identifier: Apache-2.0
//! Publications that Remora keeps in a registry itself, for applications that hold no session of their own there.
//!
//! Each place in the registry (list, address, service key) has one task while it is wanted or may still stand there. The
//! task asks the adapter for one thing at a time and again after a failure, for ever: what comes last is what stands, and
//! nothing is left behind. While the registry is away nothing is asked at all, so that what was never asked for needs no
//! withdrawal. Not here: staying published over lost sessions (the adapter), who wants what (`lease.rs`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use remora_registry::{Instance, PublishError, Registry, RegistryError, RegistryState, ServiceKey, Target};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::catalog::lock;
use crate::metrics::DiscoveryMetrics;
use crate::metrics::discovery::OutcomeLabel;

/// The publications kept in one registry.
pub(super) struct Kept {
    name: Arc<str>,
    registry: Arc<dyn Registry>,
    metrics: DiscoveryMetrics,
    runtime: Handle,
    tasks: TaskTracker,
    end: CancellationToken,
    table: Mutex<Table>,
    /// How many places are in use.
    in_use: watch::Sender<usize>,
}

#[derive(Default)]
struct Table {
    places: HashMap<Place, Entry>,
    next_holder: u64,
    /// Everything is being withdrawn, nothing new is taken.
    is_closing: bool,
}

/// What can stand in a registry once.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    target: Target,
    protocol: Arc<str>,
    host: Arc<str>,
    port: u16,
    key: Option<ServiceKey>,
}

struct Entry {
    /// Those who want something here; the last one gets it.
    wishes: Vec<(u64, Arc<Instance>)>,
    wanted: watch::Sender<Option<Arc<Instance>>>,
    state: KeptState,
    since: SystemTime,
    /// The last failure, while it lasts.
    error: Option<Arc<str>>,
}

/// How far a kept publication is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeptState {
    /// Not yet in the registry.
    Waiting,
    /// In the registry.
    Published,
    /// The registry cannot hold it; not tried again.
    Refused,
    /// No longer wanted, still to be taken out of the registry.
    Withdrawing,
}

impl KeptState {
    pub(super) const ALL: [Self; 4] = [Self::Waiting, Self::Published, Self::Refused, Self::Withdrawing];

    /// Word in `status`, metric label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Published => "published",
            Self::Refused => "refused",
            Self::Withdrawing => "withdrawing",
        }
    }
}

/// One kept publication, for `status`.
pub(super) struct KeptRow {
    pub(super) target: Target,
    pub(super) address: String,
    pub(super) state: KeptState,
    pub(super) since: SystemTime,
    pub(super) error: Option<Arc<str>>,
}

/// A claim on a place; its end withdraws, unless somebody else wants something there.
pub(super) struct Hold {
    kept: Arc<Kept>,
    place: Place,
    holder: u64,
}

impl Hold {
    /// State and last failure; `None` once everything is being withdrawn.
    pub(super) fn state(&self) -> Option<(KeptState, Option<Arc<str>>)> {
        let table = self.kept.table();
        let entry = table.places.get(&self.place)?;
        Some((entry.state, entry.error.clone()))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.kept.release(&self.place, self.holder);
    }
}

impl Kept {
    pub(super) fn new(
        name: &str,
        registry: Arc<dyn Registry>,
        metrics: DiscoveryMetrics,
        runtime: Handle,
        tasks: TaskTracker,
        end: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            registry,
            metrics,
            runtime,
            tasks,
            end,
            table: Mutex::default(),
            in_use: watch::Sender::new(0),
        })
    }

    /// Keeps `shown`, as it must stand in the registry, until the hold is dropped. Replaces what another hold keeps in the
    /// same place for as long as both last. While everything is being withdrawn it is taken and not published.
    ///
    /// # Errors
    /// `NotKept` when there are too many.
    pub(super) fn hold(self: &Arc<Self>, target: &Target, shown: Instance) -> Result<Hold, PublishError> {
        let place = Place {
            target: target.clone(),
            protocol: Arc::clone(&shown.protocol),
            host: Arc::clone(&shown.host),
            port: shown.port,
            key: shown.key.clone(),
        };
        let mut table = self.table();
        let is_known = table.places.contains_key(&place);
        if !is_known && table.places.len() >= MAX_PLACES {
            return Err(PublishError::NotKept {
                cause: format!("{MAX_PLACES} are kept already"),
            });
        }
        let holder = table.next_holder;
        table.next_holder += 1;
        if !table.is_closing {
            let entry = table
                .places
                .entry(place.clone())
                .or_insert_with(|| self.start(place.clone()));
            entry.wishes.push((holder, Arc::new(shown)));
            entry.tell();
            self.count(&table);
        }
        drop(table);
        Ok(Hold {
            kept: Arc::clone(self),
            place,
            holder,
        })
    }

    fn release(&self, place: &Place, holder: u64) {
        let mut table = self.table();
        if let Some(entry) = table.places.get_mut(place) {
            entry.wishes.retain(|(other, _)| *other != holder);
            entry.tell();
        }
        self.count(&table);
    }

    /// Withdraws everything, and returns when that is done, the registry is away, or `limit` has passed. Nothing is
    /// published from now on.
    pub(super) async fn withdraw_all(&self, limit: Duration) {
        {
            let mut table = self.table();
            table.is_closing = true;
            for entry in table.places.values_mut() {
                entry.wishes.clear();
                entry.tell();
            }
            self.count(&table);
        }
        let mut in_use = self.in_use.subscribe();
        let mut state = self.registry.state();
        tokio::select! {
            biased;
            _ = async { in_use.wait_for(|places| *places == 0).await.is_ok() } => return,
            _ = async { state.wait_for(|state| !state.is_up()).await.is_ok() } => {}
            () = sleep(limit) => {}
        }
        let left = *self.in_use.borrow();
        warn!(
            registry = &*self.name,
            left, "publications are not withdrawn yet; they end with the session"
        );
    }

    /// Every place in use.
    pub(super) fn rows(&self) -> Vec<KeptRow> {
        let table = self.table();
        let rows = table.places.iter().map(|(place, entry)| KeptRow {
            target: place.target.clone(),
            address: format!("{}:{}", place.host, place.port),
            state: entry.state,
            since: entry.since,
            error: entry.error.clone(),
        });
        rows.collect()
    }

    fn start(self: &Arc<Self>, place: Place) -> Entry {
        let (wanted, wishes) = watch::channel(None);
        let keeper = Keeper {
            kept: Arc::clone(self),
            place,
            wishes,
            asked: Vec::new(),
            stands: None,
            refused: None,
            failures: 0,
        };
        self.tasks.spawn_on(keeper.run(), &self.runtime);
        Entry {
            wishes: Vec::new(),
            wanted,
            state: KeptState::Waiting,
            since: SystemTime::now(),
            error: None,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    fn count(&self, table: &Table) {
        let places = table.places.len();
        self.in_use.send_if_modified(|n| std::mem::replace(n, places) != places);
    }

    /// How many places are in each state.
    pub(super) fn states(&self) -> [(KeptState, usize); 4] {
        let table = self.table();
        KeptState::ALL.map(|state| (state, table.places.values().filter(|e| e.state == state).count()))
    }
}

impl Entry {
    fn tell(&mut self) {
        let wanted = self.wishes.last().map(|(_, instance)| Arc::clone(instance));
        self.wanted.send_if_modified(|last| {
            let is_news = *last != wanted;
            *last = wanted;
            is_news
        });
        if self.wishes.is_empty() {
            self.turn(KeptState::Withdrawing, None);
        } else if self.state == KeptState::Withdrawing {
            self.turn(KeptState::Waiting, None);
        }
    }

    fn turn(&mut self, state: KeptState, error: Option<Arc<str>>) {
        if self.state != state {
            self.since = SystemTime::now();
        }
        (self.state, self.error) = (state, error);
    }
}

/// Keeps one place as it is wanted.
struct Keeper {
    kept: Arc<Kept>,
    place: Place,
    wishes: watch::Receiver<Option<Arc<Instance>>>,
    /// What the adapter was asked to publish and not yet, successfully, to withdraw.
    asked: Vec<Arc<Instance>>,
    /// The one of them that is known to stand.
    stands: Option<Arc<Instance>>,
    /// What the registry cannot hold, and why.
    refused: Option<(Arc<Instance>, Arc<str>)>,
    failures: u32,
}

enum Step {
    Publish(Arc<Instance>),
    Withdraw(Arc<Instance>),
    /// All is as it should be.
    Rest,
    /// Nothing is wanted and nothing is left.
    End,
}

impl Keeper {
    async fn run(mut self) {
        let mut states = self.kept.registry.state();
        let end = self.kept.end.clone();
        loop {
            let wanted = self.wishes.borrow_and_update().clone();
            let step = self.next_step(wanted.as_ref());
            if let Step::End = step {
                if self.is_forgotten() {
                    return;
                }
                // Taken back and wanted again before we looked.
                if let Some((refused, cause)) = &self.refused {
                    self.turn(refused, KeptState::Refused, Some(Arc::clone(cause)));
                }
            }
            let mut pause = None;
            if let Step::Publish(_) | Step::Withdraw(_) = step {
                let absence = absence(&states.borrow_and_update());
                match absence {
                    Some(cause) => self.report(cause),
                    None => {
                        let Some(done) = end.run_until_cancelled(self.take(&step)).await else {
                            return;
                        };
                        match self.settle(step, done) {
                            Some(wait) => pause = Some(wait),
                            None => continue,
                        }
                    }
                }
            }
            tokio::select! {
                () = end.cancelled() => return,
                changed = self.wishes.changed() => if changed.is_err() {
                    return;
                },
                changed = states.changed() => if changed.is_err() {
                    return;
                },
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    fn next_step(&self, wanted: Option<&Arc<Instance>>) -> Step {
        let is_refused = |wanted: &Arc<Instance>| self.refused.as_ref().is_some_and(|(refused, _)| refused == wanted);
        let wanted = wanted.filter(|wanted| !is_refused(wanted));
        let stale = self.asked.iter().find(|asked| Some(*asked) != wanted).cloned();
        match (wanted, stale) {
            // The new one stands before the old one goes, so that consumers always find one of them.
            (Some(wanted), stale) if self.stands.as_ref() != Some(wanted) => match stale {
                Some(stale) if self.asked.len() >= MAX_ASKED => Step::Withdraw(stale),
                _ => Step::Publish(Arc::clone(wanted)),
            },
            (_, Some(stale)) => Step::Withdraw(stale),
            (Some(_), None) => Step::Rest,
            (None, None) => Step::End,
        }
    }

    async fn take(&mut self, step: &Step) -> Result<(), RegistryError> {
        let (registry, target) = (Arc::clone(&self.kept.registry), self.place.target.clone());
        let asking = match step {
            Step::Publish(instance) => {
                if !self.asked.contains(instance) {
                    self.asked.push(Arc::clone(instance));
                }
                registry.publish(&target, instance)
            }
            Step::Withdraw(instance) => {
                self.stands = self.stands.take().filter(|stands| stands != instance);
                registry.withdraw(&target, instance)
            }
            Step::Rest | Step::End => return Ok(()),
        };
        let too_late = |_| RegistryError::Unreachable {
            registry: self.kept.name.to_string(),
            cause: format!("no answer within {OPERATION_TIMEOUT:?}"),
        };
        timeout(OPERATION_TIMEOUT, asking).await.map_err(too_late)?
    }

    /// Takes in what came of a step; gives how long to wait before the next.
    fn settle(&mut self, step: Step, done: Result<(), RegistryError>) -> Option<Duration> {
        let (word, instance) = match &step {
            Step::Publish(instance) => ("published", instance),
            Step::Withdraw(instance) => ("withdrawn", instance),
            Step::Rest | Step::End => return None,
        };
        let outcome = done.as_ref().map_or_else(RegistryError::reason, |()| word);
        self.kept
            .metrics
            .kept_operations
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
        let is_unsupported = matches!(done, Err(RegistryError::Unsupported { .. }));
        match done {
            Err(error) if !is_unsupported => {
                let failures = self.failures;
                self.failures += 1;
                if failures == 0 {
                    warn!(registry = &*self.kept.name, service = %self.place.target, reason = error.reason(), %error, "a publication is not up to date in the registry, trying again");
                }
                self.report(error.to_string().into());
                return Some(pause_after(failures));
            }
            done => {
                self.failures = 0;
                let (service, address) = (&self.place.target, format!("{}:{}", instance.host, instance.port));
                match (&step, done) {
                    (Step::Publish(_), Ok(())) => {
                        self.stands = Some(Arc::clone(instance));
                        info!(registry = &*self.kept.name, %service, address, "published");
                        self.turn(instance, KeptState::Published, None);
                    }
                    (Step::Publish(_), Err(error)) => {
                        self.asked.retain(|asked| asked != instance);
                        let cause: Arc<str> = error.to_string().into();
                        self.refused = Some((Arc::clone(instance), Arc::clone(&cause)));
                        warn!(registry = &*self.kept.name, %service, reason = error.reason(), %error, "the registry cannot hold this publication; calls that reach our ingress are served");
                        self.turn(instance, KeptState::Refused, Some(cause));
                    }
                    _ => {
                        self.asked.retain(|asked| asked != instance);
                        info!(registry = &*self.kept.name, %service, address, "withdrawn");
                        if let Some(stands) = &self.stands {
                            self.turn(stands, KeptState::Published, None);
                        }
                    }
                }
            }
        }
        None
    }

    /// Shows how far `instance` is, if it is still the one that is wanted.
    fn turn(&self, instance: &Arc<Instance>, state: KeptState, error: Option<Arc<str>>) {
        let mut table = self.kept.table();
        if let Some(entry) = table.places.get_mut(&self.place)
            && entry.wishes.last().is_some_and(|(_, wanted)| wanted == instance)
        {
            entry.turn(state, error);
        }
    }

    /// Shows why something waits. What stands goes on standing while its successor waits.
    fn report(&self, cause: Arc<str>) {
        let mut table = self.kept.table();
        if let Some(entry) = table.places.get_mut(&self.place) {
            let state = match entry.wishes.is_empty() {
                true => KeptState::Withdrawing,
                false => KeptState::Waiting,
            };
            entry.turn(state, Some(cause));
        }
    }

    /// Ends the place, unless it is wanted again.
    fn is_forgotten(&self) -> bool {
        let mut table = self.kept.table();
        let is_over = table.places.get(&self.place).is_none_or(|e| e.wishes.is_empty());
        if is_over {
            table.places.remove(&self.place);
            self.kept.count(&table);
        }
        is_over
    }
}

/// Why there is no point in asking the registry now.
fn absence(state: &RegistryState) -> Option<Arc<str>> {
    match state {
        RegistryState::Up { .. } => None,
        RegistryState::Connecting => Some("the registry is not connected yet".into()),
        RegistryState::Down { cause, .. } => Some(Arc::clone(cause)),
    }
}

/// Half of it fixed, half by chance, so that many Remoras do not come at once.
fn pause_after(failures: u32) -> Duration {
    let whole = MIN_PAUSE.saturating_mul(1 << failures.min(16)).min(MAX_PAUSE);
    whole / 2 + (whole / 2).mul_f64(fastrand::f64())
}

/// Publications of one registry at a time, those that wait for their withdrawal included. A host has tens; beyond this an
/// application publishes and withdraws ever new names.
const MAX_PLACES: usize = 20_000;
/// Former contents of one place that may still stand in the registry. Beyond it they go first.
const MAX_ASKED: usize = 4;
/// Longer than any adapter's own limit.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(15);
const MIN_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
