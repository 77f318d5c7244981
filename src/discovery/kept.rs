// SPDX-License-Identifier: Apache-2.0
//! Publications that Remora keeps in a registry itself, for applications that hold no session of their own there.
//!
//! Each place in the registry (list, address, service key) has one task while it is wanted or may still stand there. The
//! task asks the adapter for one thing at a time and again after a failure, for ever: what comes last is what stands, and
//! nothing is left behind. While the registry is away nothing is asked at all, so that what was never asked for needs no
//! withdrawal. The task is in `keeper.rs`. Not here: staying published over lost sessions (the adapter), who wants what
//! (`lease.rs`).

mod keeper;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use remora_registry::{Instance, PublishError, Registry, ServiceKey, Target};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use self::keeper::Keeper;
use super::catalog::lock;
use crate::metrics::DiscoveryMetrics;

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
    wishes: Vec<Wish>,
    /// It leads to an ingress of ours.
    leads_here: bool,
    /// What goes once this stands. Never dropped under the lock.
    former: Vec<Hold>,
    wanted: watch::Sender<Option<Arc<Instance>>>,
    state: KeptState,
    since: SystemTime,
    /// The last failure, while it lasts.
    error: Option<Arc<str>>,
}

/// What one holder wants at a place.
struct Wish {
    holder: u64,
    instance: Arc<Instance>,
    /// It has a successor elsewhere.
    is_former: bool,
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

    /// The registry has it as it is wanted, or never will.
    pub(super) fn is_settled(&self) -> bool {
        let state = self.state().map(|(state, _)| state);
        state.is_none_or(|state| matches!(state, KeptState::Published | KeptState::Refused))
    }

    /// Lets `former` go once this one stands in its place, so that whoever reads the registry always finds one of them; or with
    /// this one, whichever is first.
    pub(super) fn succeed(&self, former: Self) {
        let mut table = self.kept.table();
        let entry = table.places.get(&self.place);
        if former.place == self.place || entry.is_none_or(|entry| entry.state != KeptState::Waiting) {
            drop(table);
            return drop(former);
        }
        let wishes = table.places.get_mut(&former.place).map(|entry| &mut entry.wishes);
        for wish in wishes.into_iter().flatten() {
            wish.is_former |= wish.holder == former.holder;
        }
        if let Some(entry) = table.places.get_mut(&self.place) {
            entry.former.push(former);
        }
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
            end: end.child_token(),
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
            entry.leads_here = shown.app_port().is_some();
            entry.wishes.push(Wish {
                holder,
                instance: Arc::new(shown),
                is_former: false,
            });
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
        let mut former = Vec::new();
        if let Some(entry) = table.places.get_mut(place) {
            entry.wishes.retain(|wish| wish.holder != holder);
            if entry.wishes.is_empty() {
                former = std::mem::take(&mut entry.former);
            }
            entry.tell();
        }
        self.count(&table);
        drop(table);
        drop(former);
    }

    /// How much leads to an ingress of ours, what is still to be withdrawn included.
    pub(super) fn leading(&self) -> usize {
        self.table().places.values().filter(|entry| entry.leads_here).count()
    }

    /// How much stands, or may stand, that nobody wants any more: it is being withdrawn, or waits until everybody has heard of
    /// its successor.
    pub(super) fn passing(&self) -> usize {
        let table = self.table();
        let is_passing = |entry: &&Entry| entry.wishes.iter().all(|wish| wish.is_former);
        table.places.values().filter(is_passing).count()
    }

    /// Withdraws everything, and returns when that is done, the registry is away, or `limit` has passed, with how many were
    /// withdrawn. Nothing is published from now on.
    pub(super) async fn withdraw_all(&self, limit: Duration) -> usize {
        let published = self
            .states()
            .into_iter()
            .filter(|(state, _)| *state == KeptState::Published);
        let published: usize = published.map(|(_, n)| n).sum();
        let mut former = Vec::new();
        {
            let mut table = self.table();
            table.is_closing = true;
            for entry in table.places.values_mut() {
                former.append(&mut entry.former);
                entry.wishes.clear();
                entry.tell();
            }
            self.count(&table);
        }
        drop(former);
        let mut in_use = self.in_use.subscribe();
        let mut state = self.registry.state();
        tokio::select! {
            biased;
            _ = async { in_use.wait_for(|places| *places == 0).await.is_ok() } => return published,
            _ = async { state.wait_for(|state| !state.is_up()).await.is_ok() } => {}
            () = sleep(limit) => {}
        }
        let left = *self.in_use.borrow();
        warn!(
            registry = &*self.name,
            left, "publications are not withdrawn yet; they end with the session"
        );
        published.saturating_sub(left)
    }

    /// Nothing is published or withdrawn from now on, whatever is wanted; gives what was wanted until now.
    pub(super) fn freeze(&self) -> Vec<(Target, Arc<Instance>)> {
        self.end.cancel();
        let mut table = self.table();
        table.is_closing = true;
        let wanted = table.places.iter().filter_map(|(place, entry)| {
            let wish = entry.wishes.last()?;
            Some((place.target.clone(), Arc::clone(&wish.instance)))
        });
        wanted.collect()
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
        let keeper = Keeper::new(self, place, wishes);
        self.tasks.spawn_on(keeper.run(), &self.runtime);
        Entry {
            wishes: Vec::new(),
            leads_here: false,
            former: Vec::new(),
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
        let wanted = self.wishes.last().map(|wish| Arc::clone(&wish.instance));
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

/// Publications of one registry at a time, those that wait for their withdrawal included. A host has tens; beyond this an
/// application publishes and withdraws ever new names.
const MAX_PLACES: usize = 20_000;

#[cfg(test)]
mod tests;
