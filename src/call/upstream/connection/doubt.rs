// SPDX-License-Identifier: Apache-2.0
//! When a connection gives reason to doubt its instance, and how the instance is asked for a sign of life.

use std::rc::Rc;

use tokio::time::Instant;

use super::super::super::wire::CloseReason;
use super::super::super::worker::Worker;
use super::super::pool::Lane;
use super::{State, Upstream};
use crate::metrics::call::Ejected;

impl Upstream {
    /// Sends a heartbeat; new calls come here only once something was heard. Does nothing if the protocol has none.
    pub(in crate::call) fn ask(&self) {
        if self.state.get() != State::Ready {
            return;
        }
        let id = self.table.borrow_mut().spare_id();
        if let Some(heartbeat) = self.protocol.heartbeat(self.dialect, id) {
            self.state.set(State::Mute);
            self.wire.send_bytes(&heartbeat);
        }
    }

    /// Something came: whatever was in doubt, it lives.
    #[inline]
    pub(super) fn heard(&self, now: Instant) {
        if self.state.get() == State::Mute {
            self.state.set(State::Ready);
        }
        self.health.heard(now);
    }

    /// Looks whether the peer has owed answers for too long; gives when to look again, `None` if it owes none.
    pub(in crate::call) fn watch(&self, worker: &Worker, now: Instant) -> Option<Instant> {
        if self.in_flight() == 0 {
            return None;
        }
        let limit = worker.config().doubt_after.0;
        let mut since = self.wire.last_read().max(self.opened);
        let mut due = since + limit;
        if due <= now {
            let oldest = self.table.borrow().iter().map(|call| call.started).min()?;
            since = since.max(oldest);
            due = since + limit + worker.clock.missed.since(since);
        }
        if due <= now {
            self.is_silent(worker, now);
            due = now + limit;
        }
        Some(due)
    }

    /// Whether nothing came since; on a young connection, whether nothing ever came.
    pub(in crate::call) fn heard_nothing_since(&self, since: Instant) -> bool {
        self.wire.traffic().0 == 0 || self.wire.last_read() <= since
    }

    /// Nothing came while the peer owed answers. It may only be slow, so it is asked; meanwhile calls go elsewhere.
    pub(in crate::call) fn is_silent(&self, worker: &Worker, now: Instant) {
        let config = worker.config();
        let limit = config.doubt_after.0;
        // While we do not read, or a long request is on its way, silence is not the peer's fault.
        if self.wire.is_paused() || self.wire.is_writing(limit, now) {
            return;
        }
        self.ask();
        if self.state.get() != State::Mute {
            return;
        }
        let pool = self.pool.upgrade();
        let lives_elsewhere = pool.is_some_and(|pool| now.checked_sub(limit).is_some_and(|t| pool.is_heard_since(t)));
        if !lives_elsewhere {
            self.health.doubt(&config, Ejected::Silent, now);
        }
    }

    /// The connection is over, with or without calls in flight: what that says of the instance. One that closes a further
    /// connection while others are fine only wants no more of them.
    pub(super) fn is_lost(&self, worker: &Rc<Worker>, end: CloseReason, had_calls: bool, now: Instant) {
        let was_silent = matches!(end, CloseReason::HeartbeatMissed | CloseReason::WriteStalled);
        let is_broken = was_silent || matches!(end, CloseReason::PeerClosed | CloseReason::Broken);
        if !is_broken || self.is_going_away() || self.is_retired.get() || self.owner.is_some() {
            return;
        }
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        let was_heard = self.wire.traffic().0 > 0;
        if pool.is_connected() {
            if !was_heard && !was_silent {
                pool.is_refused_more(now);
            }
            return;
        }
        let cause = match was_silent {
            true => Ejected::Silent,
            false => Ejected::Lost,
        };
        let is_certain = !was_heard || (was_silent && !self.health.is_out(now));
        let config = worker.config();
        if is_certain {
            if self.health.eject(&config, cause, now) {
                pool.ejected(worker, cause);
            }
        } else if had_calls && self.health.doubt(&config, cause, now) {
            drop(config);
            // Made in the background, asked as soon as it is there.
            pool.open(worker, Lane::Short);
        }
    }
}
