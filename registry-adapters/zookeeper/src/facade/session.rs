// SPDX-License-Identifier: Apache-2.0
//! What is kept of an application's session while its connections come and go.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use remora_naming::framework;
use remora_registry::{Client, Lease, LeaseInfo, Params};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bridge::Estate;
use super::dirs::View;
use super::kept::Wanted;
use super::names::Names;
use super::overlap::Former;
use super::papers::Documents;
use super::rules::RulePlace;
use super::stand_in::StandIn;
use super::stats::{Raised, Stats};

/// One session's memory. Goes with the session: dropping it ends the lease.
#[derive(Debug)]
pub(super) struct State {
    /// Its number.
    pub(super) session: i64,
    pub(super) lease: Lease,
    /// Which client library it seems to be.
    pub(super) client: Client,
    /// Whether the application's name was told to discovery.
    pub(super) is_named: bool,
    /// Whether its framework was.
    is_framed: bool,
    /// It listed a root: an operator's tool, shown the registry as it is from then on.
    pub(super) is_raw: bool,
    /// It came to a Remora that knew nothing of it: what it was shown before is not known.
    pub(super) is_resumed: bool,
    /// What it published before is not asked for yet.
    pub(super) is_to_be_learned: bool,
    /// It told who it is: what it may read others may not.
    pub(super) has_identity: bool,
    /// Highest zxid it was shown.
    pub(super) high: i64,
    /// Last zxid given to an entry made here.
    pub(super) stamp: i64,
    /// The registry once had lower zxids than it was shown, so the two cannot be compared.
    pub(super) is_detached: bool,
    /// Names that it published, in its own form and in ours.
    pub(super) names: Names,
    /// Nodes that go soon, since their successors stand.
    pub(super) former: VecDeque<Former>,
    /// Lists it reads.
    pub(super) views: HashMap<String, View>,
    /// Its consumer nodes that want another service than the usual one of their interface, see `kept.rs`.
    pub(super) wanted: HashMap<String, Wanted>,
    /// Metadata documents that it wrote.
    pub(super) documents: Documents,
    /// Places of rules that it reads.
    pub(super) rule_places: BTreeMap<String, RulePlace>,
    /// Lists of rules from which some were kept, with how many.
    pub(super) hidden_rules: HashMap<String, usize>,
    /// Paths on which an `exists` found nothing and set a watch, in the application's form.
    pub(super) absent_watches: BTreeSet<String>,
    _counted: Raised,
}

impl State {
    pub(super) fn new(lease: Lease, client: Client, stats: &Arc<Stats>) -> Self {
        Self {
            session: 0,
            lease,
            client,
            is_named: false,
            is_framed: false,
            is_raw: false,
            is_resumed: false,
            is_to_be_learned: false,
            has_identity: false,
            high: 0,
            stamp: 0,
            is_detached: false,
            names: Names::default(),
            former: VecDeque::new(),
            views: HashMap::new(),
            wanted: HashMap::new(),
            documents: Documents::default(),
            rule_places: BTreeMap::new(),
            hidden_rules: HashMap::new(),
            absent_watches: BTreeSet::new(),
            _counted: Raised::new(Arc::clone(stats), |stats| &stats.sessions),
        }
    }

    /// What discovery is told when a session arrives.
    pub(super) fn info(registry: &Arc<str>, peer: String) -> LeaseInfo {
        LeaseInfo {
            facade: "zookeeper",
            registry: Arc::clone(registry),
            application: String::new(),
            peer,
        }
    }

    /// The next zxid for an entry made here: not before what the session saw, and never twice, since clients compare
    /// `mzxid` to find out whether data changed (Curator's `CuratorCacheImpl`).
    pub(super) fn next_stamp(&mut self) -> i64 {
        self.stamp = self.high.max(self.stamp.saturating_add(1));
        self.stamp
    }

    /// An `exists` set a watch on a path where nothing is.
    pub(super) fn watch_absent(&mut self, path: &str) {
        if self.absent_watches.len() < MAX_ABSENT_WATCHES {
            self.absent_watches.insert(path.to_owned());
        }
    }

    /// Told by an entry that the application registered: its name, its framework.
    pub(super) fn meet(&mut self, application: Option<&str>, params: &Params) {
        self.name(application);
        if !self.is_framed
            && let Some(framework) = framework(params)
        {
            self.is_framed = true;
            self.lease.discovery().note_framework(self.lease.id(), &framework);
        }
    }

    /// Told by a name or parameter that the application registered.
    fn name(&mut self, application: Option<&str>) {
        if let Some(name) = application.filter(|name| !self.is_named && !name.is_empty()) {
            self.is_named = true;
            self.lease.discovery().name_lease(self.lease.id(), name);
        }
    }
}

/// As many names as one application may wait for; further ones are watched in the registry only.
const MAX_ABSENT_WATCHES: usize = 10_000;

/// Every session known, by its id. An entry stays until the session is closed, or has had no connection for its timeout
/// while the registry was in reach.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: Mutex<HashMap<i64, Known>>,
}

/// A session, and the password that it was opened with.
#[derive(Debug)]
struct Known {
    password: Bytes,
    entry: Entry,
}

#[derive(Debug)]
enum Entry {
    /// Its connection is open.
    Here {
        visit: u64,
        cancel: CancellationToken,
        left: Arc<Notify>,
    },
    /// It has none.
    Away {
        state: Box<State>,
        left: Instant,
        until: Instant,
        timeout: Duration,
    },
}

impl Known {
    fn is_stand_ins(&self) -> bool {
        StandIn::is_marked(&self.password)
    }
}

/// A connection's right to a session's state.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) id: i64,
    password: Bytes,
    number: u64,
    /// Cancelled when a newer connection of the same session arrives.
    pub(super) cancel: CancellationToken,
}

/// Time that an older connection of a session gets to give its state back. It only has to notice that it is cancelled.
const HAND_OVER: Duration = Duration::from_secs(2);

impl Sessions {
    /// Takes a session over for a new connection, from an older one if need be. `None`: nothing is known of it.
    pub(super) async fn enter(&self, id: i64, password: &Bytes) -> (Visit, Option<Box<State>>) {
        let deadline = Instant::now() + HAND_OVER;
        loop {
            let left = {
                let mut by_id = self.lock();
                let is_late = Instant::now() >= deadline;
                match by_id.get(&id).map(|known| &known.entry) {
                    Some(Entry::Here { cancel, left, .. }) if !is_late => {
                        cancel.cancel();
                        Arc::clone(left)
                    }
                    _ => return Self::take(&mut by_id, id, password),
                }
            };
            let _ = tokio::time::timeout_at(deadline, left.notified()).await;
        }
    }

    fn take(by_id: &mut HashMap<i64, Known>, id: i64, password: &Bytes) -> (Visit, Option<Box<State>>) {
        let password = Bytes::copy_from_slice(password);
        let visit = Visit {
            id,
            password: password.clone(),
            number: fastrand::u64(..),
            cancel: CancellationToken::new(),
        };
        let entry = Entry::Here {
            visit: visit.number,
            cancel: visit.cancel.clone(),
            left: Arc::new(Notify::new()),
        };
        let state = match by_id.insert(id, Known { password, entry }).map(|known| known.entry) {
            Some(Entry::Away { state, .. }) => Some(state),
            _ => None,
        };
        (visit, state)
    }

    /// The connection is gone, the session may come back within `timeout`. Gives the state of one that expired meanwhile.
    pub(super) fn leave(&self, visit: Visit, state: Box<State>, timeout: Duration) -> Option<Box<State>> {
        let now = Instant::now();
        let away = Entry::Away {
            state,
            left: now,
            until: now + timeout,
            timeout,
        };
        match self.replace(&visit, Some(away)) {
            Some(Entry::Away { state, .. }) if !self.is_known(visit.id) => Some(state),
            _ => None,
        }
    }

    /// The session is over.
    pub(super) fn end(&self, visit: Visit) {
        drop(self.replace(&visit, None));
    }

    // What a newer connection holds is left alone. Returns what is to be dropped, outside the lock: it ends a lease.
    fn replace(&self, visit: &Visit, next: Option<Entry>) -> Option<Entry> {
        let mut by_id = self.lock();
        match by_id.get(&visit.id).map(|known| &known.entry) {
            Some(Entry::Here {
                visit: number, left, ..
            }) if *number == visit.number => {
                // `notify_one` keeps a permit, so that a waiter that has not started to wait is not missed.
                left.notify_one();
                let before = match next {
                    Some(entry) => {
                        let password = visit.password.clone();
                        by_id.insert(visit.id, Known { password, entry })
                    }
                    None => by_id.remove(&visit.id),
                };
                before.map(|known| known.entry)
            }
            _ => next,
        }
    }

    fn is_known(&self, id: i64) -> bool {
        self.lock().contains_key(&id)
    }

    /// The registry said that there is no such session with this password. One with another password is somebody else's.
    /// Gives its state, unless an older connection has that and will give it to `leave`.
    pub(super) fn expired(&self, id: i64, password: &Bytes) -> Option<Box<State>> {
        let gone = {
            let mut by_id = self.lock();
            match by_id.get(&id) {
                Some(known) if known.password == *password => by_id.remove(&id),
                _ => None,
            }
        };
        match gone?.entry {
            Entry::Here { cancel, .. } => {
                cancel.cancel();
                None
            }
            Entry::Away { state, .. } => Some(state),
        }
    }

    /// Whether a session has a connection now.
    pub(super) fn is_here(&self, id: i64) -> bool {
        matches!(self.lock().get(&id).map(|known| &known.entry), Some(Entry::Here { .. }))
    }

    /// The application tries to come back but the registry is out of reach: the real session does not age either.
    pub(super) fn still_wanted(&self, id: i64, password: &Bytes) {
        let mut by_id = self.lock();
        let known = by_id.get_mut(&id).filter(|known| known.password == *password);
        if let Some(Entry::Away { until, timeout, .. }) = known.map(|known| &mut known.entry) {
            *until = Instant::now() + *timeout;
        }
    }

    /// Ends the sessions whose time is over. While the registry is away its sessions do not age, there neither.
    pub(super) fn sweep(&self, is_up: bool) {
        let now = Instant::now();
        let gone: Vec<Known> = {
            let mut by_id = self.lock();
            let of_registry = by_id.values_mut().filter(|known| !is_up && !known.is_stand_ins());
            for known in of_registry {
                if let Entry::Away { until, timeout, .. } = &mut known.entry {
                    *until = now + *timeout;
                }
            }
            let late: Vec<i64> = by_id
                .iter()
                .filter(|(_, known)| matches!(&known.entry, Entry::Away { until, .. } if *until <= now))
                .map(|(id, _)| *id)
                .collect();
            late.iter().filter_map(|id| by_id.remove(id)).collect()
        };
        drop(gone);
    }

    /// What the sessions published whose clients did not come back since `back`, though the registry did: a client gives a
    /// session up by itself when an outage is longer than its timeout.
    pub(super) fn given_up(&self, back: Instant) -> Vec<Estate> {
        let by_id = self.lock();
        let left_before = |known: &&Known| match &known.entry {
            Entry::Away { left, .. } => *left < back && !known.is_stand_ins(),
            Entry::Here { .. } => false,
        };
        let given_up = by_id.values().filter(left_before);
        let estates = given_up.filter_map(|known| match &known.entry {
            Entry::Away { state, .. } => Some(Estate::of(state, false)),
            Entry::Here { .. } => None,
        });
        estates.collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Known>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
