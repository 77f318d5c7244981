// SPDX-License-Identifier: Apache-2.0
//! A worker's clock: deadlines when they pass, instances that owe answers when they have been silent for long, everything else
//! once a second, nothing without connections.
//!
//! One task, and no timer per call: what waits says by when it must be looked at, and most calls end long before.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::dispatch::{Call, took};
use super::error::CallError;
use super::missed::Missed;
use super::reply;
use super::worker::Worker;

/// When the clock will look next.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// `None` while there are no connections.
    looks_at: Cell<Option<Instant>>,
    bell: Notify,
    /// When the thread did not run: then nobody else is to blame.
    pub(super) missed: Missed,
}

impl Clock {
    /// There is a connection to look after.
    pub(super) fn connection_opened(&self) {
        if self.looks_at.get().is_none() {
            self.bell.notify_one();
        }
    }

    /// Something waits that has to be looked at soon after `deadline`.
    pub(super) fn waits_until(&self, deadline: Instant) {
        let latest = deadline + TICK;
        if self.looks_at.get().is_none_or(|at| at > latest) {
            self.looks_at.set(Some(latest));
            self.bell.notify_one();
        }
    }
}

/// The task; ends with the worker's runtime.
pub(super) async fn run(worker: Rc<Worker>) {
    worker.may_begin().await;
    let clock = &worker.clock;
    let mut tended = Instant::now();
    loop {
        let now = Instant::now();
        let mut watch = None;
        if worker.waits() {
            expire(&worker, now);
            watch = watch_owing(&worker, now);
        }
        if now.saturating_duration_since(tended) >= TEND_EVERY {
            tended = now;
            tend(&worker, now);
        }
        if worker.downstreams.borrow().is_empty() && worker.upstreams.borrow().is_empty() {
            worker.io.store.release();
            worker.kept.release();
            clock.looks_at.set(None);
            clock.bell.notified().await;
            continue;
        }
        let deadline = worker
            .upstreams
            .borrow()
            .iter()
            .filter_map(|(_, upstream)| upstream.next_deadline())
            .min();
        let soon = [deadline, watch].into_iter().flatten().min();
        let soon = soon.map(|at| at.max(now + TICK));
        let mut at = soon.unwrap_or(tended + TEND_EVERY).min(tended + TEND_EVERY);
        let half_read_cap = worker.config().half_read_cap.bytes();
        if worker.io.half_reads.pass_on(half_read_cap, now) {
            at = at.min(now + 2 * TICK);
        }
        if worker.waits() {
            // Often enough to see when this thread does not run.
            at = at.min(now + (worker.config().doubt_after.0 / 4).max(TICK));
        }
        clock.looks_at.set(Some(at));
        // Cancel safe: nothing is lost with either.
        tokio::select! {
            () = sleep_until(at) => {}
            () = clock.bell.notified() => {}
        }
        if clock.missed.woke(at, Instant::now()) {
            // What came meanwhile is read before anybody is judged.
            yield_now().await;
        }
    }
}

fn expire(worker: &Worker, now: Instant) {
    let mut expired = Vec::new();
    each(&worker.upstreams, |upstream| {
        upstream.take_expired(worker, now, &mut expired);
        let says_nothing = |call: &Call| {
            upstream.heard_nothing_since(call.started) && worker.clock.missed.since(call.started).is_zero()
        };
        if expired.iter().any(says_nothing) {
            upstream.is_silent(worker, now);
        }
        for call in expired.drain(..) {
            let error = CallError::Timeout {
                service: call.route.label.to_string(),
                addr: upstream.addr,
                waited: took(&call, now),
            };
            reply::fail(worker, call, &error, now);
        }
    });
}

/// Looks whether instances have owed answers for too long; gives when to look again.
fn watch_owing(worker: &Worker, now: Instant) -> Option<Instant> {
    let mut next: Option<Instant> = None;
    each(&worker.upstreams, |upstream| {
        if let Some(at) = upstream.watch(worker, now) {
            next = Some(next.map_or(at, |next| next.min(at)));
        }
    });
    next
}

fn tend(worker: &Rc<Worker>, now: Instant) {
    worker.router.borrow_mut().clean();
    worker.tallies.clean(now);
    let half_read_cap = worker.config().half_read_cap.bytes();
    worker.io.half_reads.tend(half_read_cap, now);
    worker.pools.tend(worker, now);
    let mut abandoned = Vec::new();
    each(&worker.upstreams, |upstream| {
        upstream.tend(worker, now);
        upstream.take_abandoned(worker, now, &mut abandoned);
    });
    for call in abandoned {
        reply::fail(worker, call, &CallError::CallerGone, now);
    }
    each(&worker.downstreams, |downstream| {
        downstream.tend(worker, now);
        downstream.callbacks.expire(worker, now);
    });
}

/// Visits every entry that is there when its turn comes; visitors may add and remove.
fn each<T>(slab: &RefCell<Slab<Rc<T>>>, mut visit: impl FnMut(&Rc<T>)) {
    let mut key = 0;
    loop {
        let entry = {
            let slab = slab.borrow();
            if key >= slab.capacity() {
                return;
            }
            slab.get(key).cloned()
        };
        entry.iter().for_each(&mut visit);
        key += 1;
    }
}

/// How late a deadline may be noticed: small against the shortest timeouts in use (100 ms), and at most 50 wake-ups a second.
pub(super) const TICK: Duration = Duration::from_millis(20);
const TEND_EVERY: Duration = Duration::from_secs(1);
