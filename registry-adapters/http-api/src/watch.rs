// SPDX-License-Identifier: Apache-2.0
//! Looks after what was accepted: ports that open and close, leases that end, applications that are gone.
//!
//! Ports are looked at every `probe_every`, and at once when something new waits for its port. An application is gone
//! when nothing has shown for `forget_follows_after` that it is there: no request, none of its ports open, no connection
//! to the egress; then the services that it followed are followed no longer. Where the system does not tell of
//! connections, an application without an open port is never held to be gone.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use remora_registry::peers::Sockets;
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::application::Place;
use crate::book::{Book, Table};
use crate::liveness::Liveness;
use crate::registration::{Key, Look, Step};
use crate::stats::{State, Stats};

/// How a door's applications are looked after.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) proc_net: PathBuf,
    /// Whether all applications call the egress at one address, so that a connection does not tell whose it is.
    pub(crate) is_egress_shared: bool,
    /// Parameter that says when an application began to offer something.
    pub(crate) stamp: &'static str,
}

impl Watch {
    /// Runs until `end`.
    pub(crate) async fn run(self, book: &Book, end: CancellationToken) {
        let liveness = Liveness::new(self.proc_net.clone());
        let mut regular = interval(book.settings.probe_every);
        regular.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let signs_every = (book.settings.forget_follows_after / 4).min(SIGNS_EVERY);
        let mut signs_at = Instant::now() + signs_every;
        loop {
            let is_regular = tokio::select! {
                () = end.cancelled() => return,
                _ = regular.tick() => true,
                () = book.look_now.notified() => false,
            };
            let looks = liveness.look(book.ports(is_regular)).await;
            if end.is_cancelled() {
                return;
            }
            book.apply(&looks, is_regular, self.stamp, &end).await;
            if is_regular && Instant::now() >= signs_at {
                signs_at = Instant::now() + signs_every;
                let called = self.called(book).await;
                book.forget_the_gone(called.as_ref(), self.is_egress_shared);
            }
            if is_regular {
                Stats::count(&book.stats.looks);
            }
        }
    }

    /// Addresses of the egress to which somebody is connected; `None` if the system does not tell.
    async fn called(&self, book: &Book) -> Option<HashSet<IpAddr>> {
        let (dir, egress_port) = (self.proc_net.clone(), book.settings.egress_port);
        let read = tokio::task::spawn_blocking(move || Sockets::read(&dir, &HashSet::new(), egress_port));
        Some(read.await.ok()?.ok()?.called().clone())
    }
}

impl Book {
    /// Ports to look at, with whether they were open at the last look: all of them, or those that something waits for.
    fn ports(&self, is_regular: bool) -> BTreeMap<u16, bool> {
        let table = self.table();
        let mut ports = BTreeMap::new();
        for registration in table.applications.values().flat_map(|a| a.registrations.values()) {
            let is_open = registration.state == State::Published;
            if is_regular || !is_open {
                *ports.entry(registration.instance.port).or_insert(true) &= is_open;
            }
        }
        ports
    }

    /// Does what the looks lead to, and ends leases that were not renewed. After some steps each, everything else on this
    /// thread has its turn: thousands may have to be published at once after a restart.
    async fn apply(&self, looks: &BTreeMap<u16, Look>, is_regular: bool, stamp_key: &str, end: &CancellationToken) {
        let places: Vec<Place> = self.table().applications.keys().copied().collect();
        for place in places {
            let steps = {
                let mut table = self.table();
                let is_changed = self.end_lease(&mut table, place);
                let steps = self.steps(&mut table, place, looks, is_regular);
                self.tell(table, is_changed);
                steps
            };
            for some in steps.chunks(STEPS_AT_ONCE) {
                {
                    let mut table = self.table();
                    let mut is_changed = false;
                    for (key, step) in some {
                        is_changed |= self.take(&mut table, place, key, *step, stamp_key);
                    }
                    self.tell(table, is_changed);
                }
                yield_now().await;
                if end.is_cancelled() {
                    return;
                }
            }
            let mut table = self.table();
            if let Some(application) = table.applications.get_mut(&place)
                && application.published() > 0
            {
                application.last_sign = Instant::now();
            }
            self.tell(table, false);
        }
    }

    fn steps(
        &self,
        table: &mut Table,
        place: Place,
        looks: &BTreeMap<u16, Look>,
        is_regular: bool,
    ) -> Vec<(Key, Step)> {
        let mut steps = Vec::new();
        let Some(application) = table.applications.get_mut(&place) else {
            return steps;
        };
        for (key, registration) in &mut application.registrations {
            let Some(look) = looks.get(&key.port) else { continue };
            if is_regular && *look == Look::Closed && registration.state == State::Published {
                Stats::count(&self.stats.probes_failed);
            }
            let step = registration.look(*look, key.owner, is_regular, self.settings.forget_after);
            if step != Step::Stay {
                steps.push((key.clone(), step));
            }
        }
        steps
    }

    /// Takes one step; true if something changed that must be kept.
    fn take(&self, table: &mut Table, place: Place, key: &Key, step: Step, stamp_key: &str) -> bool {
        let name = |table: &Table| {
            let names = table
                .applications
                .get(&place)
                .map(|a| a.names.clone())
                .unwrap_or_default();
            self.configured(place).name(&names)
        };
        let (service, port) = (&key.service, key.port);
        match step {
            Step::Stay => false,
            Step::Publish => {
                let mut is_back = false;
                if let Some(registration) = registration(table, place, key)
                    && registration.state == State::Away
                {
                    // The process behind the port is a new one.
                    registration.stamp(stamp_key);
                    is_back = true;
                }
                self.publish_now(table, place, key);
                if is_back {
                    info!(registry = self.door, %service, application = name(table), port, "port open again");
                }
                is_back
            }
            Step::Forbid(user) => {
                let Some(application) = table.applications.get_mut(&place) else {
                    return false;
                };
                let lease = application.lease_id();
                let Some(registration) = application.registrations.get_mut(key) else {
                    return false;
                };
                if let (State::Published, Some(lease)) = (registration.state, lease) {
                    self.discovery.withdraw(lease, &key.target, &registration.instance);
                }
                let is_told = registration.state == State::Refused && registration.is_told;
                registration.enter(State::Refused);
                registration.is_told = true;
                if !is_told {
                    warn!(registry = self.door, %service, port, user, owner = key.owner, "another user listens on the port; not published");
                }
                false
            }
            Step::Withdraw => {
                let Some(application) = table.applications.get_mut(&place) else {
                    return false;
                };
                let lease = application.lease_id();
                let Some(registration) = application.registrations.get_mut(key) else {
                    return false;
                };
                if registration.state == State::Published {
                    if let Some(lease) = lease {
                        self.discovery.withdraw(lease, &key.target, &registration.instance);
                    }
                    Stats::count(&self.stats.withdrawn);
                    info!(registry = self.door, %service, port, "port closed, withdrawn");
                }
                registration.is_restored = false;
                registration.enter(State::Away);
                false
            }
            Step::Tell => {
                let setting = self
                    .configured(place)
                    .port_setting(self.door, &protocol(table, place, key));
                warn!(registry = self.door, %service, application = name(table), port, setting, "not published: nobody accepts on this port of 127.0.0.1; does the application listen on another one?");
                false
            }
            Step::Forget => {
                info!(registry = self.door, %service, application = name(table), port, "port closed for long, forgotten");
                self.forget(table, place, key);
                true
            }
        }
    }

    /// Ends what an application with a time to live registered and follows, if it did not ask for it in time.
    fn end_lease(&self, table: &mut Table, place: Place) -> bool {
        let Some(application) = table.applications.get_mut(&place) else {
            return false;
        };
        let is_over = application.expires.is_some_and(|expires| Instant::now() >= expires);
        if !is_over || application.is_empty() {
            return false;
        }
        Stats::count(&self.stats.leases_expired);
        warn!(
            registry = self.door,
            application = self.configured(place).name(&application.names),
            registrations = application.registrations.len(),
            follows = application.follows.len(),
            "no heartbeat in time, everything is withdrawn"
        );
        // The end of the lease withdraws.
        application.lease = None;
        application.registrations.clear();
        application.follows.clear();
        true
    }

    /// Ends what applications follow that showed no sign of life for long.
    fn forget_the_gone(&self, called: Option<&HashSet<IpAddr>>, is_egress_shared: bool) {
        let mut table = self.table();
        let named: HashSet<IpAddr> = self.settings.applications.iter().map(|a| a.address).collect();
        let mut is_changed = false;
        for (place, application) in &mut table.applications {
            let is_called = match (called, place) {
                (None, _) => true,
                (Some(called), _) if is_egress_shared => !called.is_empty(),
                (Some(called), Some(address)) => called.contains(address),
                (Some(called), None) => called.iter().any(|ip| !named.contains(ip)),
            };
            if is_called {
                application.last_sign = Instant::now();
            }
            if application.last_sign.elapsed() < self.settings.forget_follows_after {
                continue;
            }
            for target in std::mem::take(&mut application.follows).into_keys() {
                info!(registry = self.door, service = %target.name(), "its application is gone, no longer followed");
                if let Some(lease) = application.lease_id() {
                    self.discovery.unfollow(lease, &target);
                }
                is_changed = true;
            }
        }
        let forget_after = self.settings.forget_follows_after;
        table
            .applications
            .retain(|_, a| !a.is_empty() || a.last_sign.elapsed() < forget_after);
        self.tell(table, is_changed);
    }
}

fn registration<'t>(
    table: &'t mut Table,
    place: Place,
    key: &Key,
) -> Option<&'t mut crate::registration::Registration> {
    table.applications.get_mut(&place)?.registrations.get_mut(key)
}

fn protocol(table: &mut Table, place: Place, key: &Key) -> String {
    registration(table, place, key)
        .map(|r| r.instance.protocol.to_string())
        .unwrap_or_default()
}

/// Steps after which others have their turn: about a millisecond.
const STEPS_AT_ONCE: usize = 32;
/// Between looks for connections to the egress.
const SIGNS_EVERY: Duration = Duration::from_secs(60);
