// SPDX-License-Identifier: Apache-2.0
//! What the applications of a door want, and what discovery is asked for them.
//!
//! `accept.rs` accepts requests, whatever the registry does; `watch.rs` looks after what was accepted; `store.rs` brings
//! it to disk. Every answer of discovery comes at once, so one lock is enough; it is never held over an await.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remora_registry::peers::{Sockets, User};
use remora_registry::{Discovery, Instance, Lease, LeaseId, LeaseInfo};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::application::{Application, Configured, Place};
use crate::config::Settings;
use crate::registration::{Key, Registration};
use crate::stats::{State, Stats};
use crate::store::Content;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) place: Place,
    pub(crate) peer: SocketAddr,
    pub(crate) user: User,
    /// The sockets of the host at the time of the request, if the system tells.
    pub(crate) sockets: Option<Arc<Sockets>>,
}

impl Caller {
    /// A process of this host that closed its end before anybody looked whose it is. What it publishes would be nobody's, and
    /// so would not be checked against who listens when the port opens.
    pub(crate) fn hidden(&self) -> Option<SocketAddr> {
        match self.user {
            User::Elsewhere(peer) => (self.sockets.is_some() && peer.ip().to_canonical().is_loopback()).then_some(peer),
            User::Uid(_) | User::Unknown => None,
        }
    }
}

/// The book of one door.
pub(crate) struct Book {
    pub(crate) door: &'static str,
    pub(crate) settings: Settings,
    pub(crate) discovery: Arc<dyn Discovery>,
    pub(crate) stats: Arc<Stats>,
    /// Which configured registry the door belongs to.
    registry: Arc<str>,
    table: Mutex<Table>,
    changed: watch::Sender<u64>,
    /// Something waits for its port.
    pub(crate) look_now: Notify,
}

#[derive(Default)]
pub(crate) struct Table {
    pub(crate) applications: BTreeMap<Place, Application>,
    generation: u64,
    /// When the figures were brought up to date.
    shown: Option<Instant>,
}

impl Book {
    /// Opens the book with what a former run kept: services are followed again at once, registrations wait for their ports.
    pub(crate) fn open(
        door: &'static str,
        settings: Settings,
        registry: &str,
        discovery: Arc<dyn Discovery>,
        stats: Arc<Stats>,
        kept: &Content,
    ) -> Self {
        let book = Self {
            door,
            settings,
            discovery,
            stats,
            registry: registry.into(),
            table: Mutex::default(),
            changed: watch::Sender::new(0),
            look_now: Notify::new(),
        };
        let mut table = book.table();
        for kept in &kept.applications {
            let application = Application::restored(kept);
            info!(
                registry = door,
                application = book.configured(kept.address).name(&application.names),
                registrations = application.registrations.len(),
                follows = application.follows.len(),
                "registered before, taken up again"
            );
            table.applications.insert(kept.address, application);
        }
        let places: Vec<Place> = table.applications.keys().copied().collect();
        for place in places {
            let lease = book.lease(&mut table, place);
            if let Some(application) = table.applications.get_mut(&place) {
                application.renew(book.configured(place).ttl());
                for target in application.follows.keys() {
                    // The list is asked for again by those who want it; discovery holds it as long as the lease.
                    drop(book.discovery.follow(lease, target));
                }
            }
        }
        book.show(&table);
        drop(table);
        book
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn configured(&self, place: Place) -> Configured<'_> {
        Configured::of(&self.settings, place)
    }

    /// Counts every change up.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// All that is to be kept, and its generation.
    pub(crate) fn content(&self) -> (u64, Content) {
        let table = self.table();
        let applications = table.applications.iter();
        let applications = applications
            .filter(|(_, application)| !application.is_empty() || !application.about.is_empty())
            .map(|(place, application)| application.kept(*place))
            .collect();
        (table.generation, Content { applications })
    }

    /// Publishes a registration through discovery, or says why not.
    pub(crate) fn publish_now(&self, table: &mut Table, place: Place, key: &Key) {
        let lease = self.lease(table, place);
        let Some(application) = table.applications.get_mut(&place) else {
            return;
        };
        let is_other = |(k, r): (&Key, &Registration)| k != key && r.state == State::Published;
        let is_taken = application.registrations.range(key.beside()).any(is_other);
        let Some(registration) = application.registrations.get_mut(key) else {
            return;
        };
        let failed = match self.discovery.cannot_hold(&key.target) {
            _ if is_taken => Some(("taken", "another user's registration stands there".to_owned())),
            Some(cause) => Some(("cannot_hold", cause)),
            None => match self.discovery.publish_kept(lease, &key.target, &registration.instance) {
                Ok(_) => None,
                Err(error) => Some((error.reason(), error.to_string())),
            },
        };
        match failed {
            None => registration.enter(State::Published),
            Some((reason, cause)) => {
                // What it published before with other parameters must not outlast the state that says it is there.
                if registration.state == State::Published {
                    self.discovery.withdraw(lease, &key.target, &registration.instance);
                }
                let is_told = registration.state == State::Refused && registration.is_told;
                registration.enter(State::Waiting);
                registration.enter(State::Refused);
                registration.is_told = true;
                if !is_told {
                    warn!(registry = self.door, service = %key.service, reason, cause, "accepted, but cannot be published; tried again");
                }
            }
        }
    }

    /// Withdraws a registration and forgets it.
    pub(crate) fn forget(&self, table: &mut Table, place: Place, key: &Key) {
        if let Some(application) = table.applications.get_mut(&place) {
            self.forget_one(application, key);
        }
    }

    pub(crate) fn forget_one(&self, application: &mut Application, key: &Key) {
        if let Some((lease, gone)) = remove(application, key) {
            self.discovery.withdraw(lease, &key.target, &gone);
        }
    }

    /// As [`forget`](Self::forget), when its application has said so: SOFARPC does that while it stops.
    pub(crate) fn leave(&self, table: &mut Table, place: Place, key: &Key) {
        let application = table.applications.get_mut(&place);
        if let Some((lease, gone)) = application.and_then(|application| remove(application, key)) {
            self.discovery.leave(lease, &key.target, &gone);
        }
    }

    /// The lease of an application, opened if it has none.
    pub(crate) fn lease(&self, table: &mut Table, place: Place) -> LeaseId {
        let application = table.applications.entry(place).or_insert_with(Application::new);
        let open = || {
            let info = LeaseInfo {
                facade: self.door,
                registry: Arc::clone(&self.registry),
                application: self.configured(place).name(&application.names),
                peer: application.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            };
            Lease::open(Arc::clone(&self.discovery), info)
        };
        application.lease.get_or_insert_with(open).id()
    }

    /// The application of a request, which shows that it is there.
    pub(crate) fn here<'t>(&self, table: &'t mut Table, caller: &Caller) -> &'t mut Application {
        let application = table.applications.entry(caller.place).or_insert_with(Application::new);
        application.peer = Some(caller.peer);
        application.is_here(self.configured(caller.place).ttl());
        application
    }

    /// Ends leases that nothing needs, brings the figures up to date, and gives the generation to be kept.
    pub(crate) fn tell(&self, mut table: MutexGuard<'_, Table>, is_changed: bool) -> u64 {
        for application in table.applications.values_mut().filter(|a| a.is_empty()) {
            application.lease = None;
        }
        if is_changed {
            table.generation += 1;
            self.changed.send_replace(table.generation);
        }
        // A request among very many must not look at all of them; the next look at the ports brings the figures up to date.
        let registrations: usize = table.applications.values().map(|a| a.registrations.len()).sum();
        let is_soon = table.shown.is_some_and(|at| at.elapsed() < SHOW_AGAIN);
        if registrations <= SHOW_ALWAYS || !is_soon {
            table.shown = Some(Instant::now());
            self.show(&table);
        }
        table.generation
    }

    fn show(&self, table: &Table) {
        let all = || table.applications.values().flat_map(|a| a.registrations.values());
        self.stats
            .show_registrations(|state| all().filter(|r| r.state == state).count());
        let follows: usize = table.applications.values().map(|a| a.follows.len()).sum();
        self.stats.follows.store(follows as u64, Ordering::Relaxed);
    }
}

/// Takes a registration out; gives what is published of it.
fn remove(application: &mut Application, key: &Key) -> Option<(LeaseId, Instance)> {
    let gone = application.registrations.remove(key)?;
    let lease = application.lease_id()?;
    (gone.state == State::Published).then_some((lease, gone.instance))
}

/// Registrations up to which every change brings the figures up to date.
const SHOW_ALWAYS: usize = 500;
/// With more, this long passes between.
const SHOW_AGAIN: Duration = Duration::from_millis(100);
