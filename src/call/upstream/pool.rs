// SPDX-License-Identifier: Apache-2.0
//! The connections of one worker to one instance, opened when calls need them.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use remora_protocol::Protocol;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::super::config::Config;
use super::super::connection::Downstream;
use super::super::wire::CloseReason;
use super::super::worker::Worker;
use super::connection::Upstream;
use super::health::{Due, Health};
use crate::metrics::call::{EJECTED, Ejected, Side};

/// Connections to one instance.
#[derive(Debug)]
pub(in crate::call) struct Pool {
    pub(in crate::call) addr: SocketAddr,
    pub(in crate::call) side: Side,
    pub(in crate::call) protocol: Arc<dyn Protocol>,
    /// What its connections speak, see `Protocol::dialect`.
    pub(in crate::call) dialect: u8,
    /// Shared by all pools of this worker to the instance.
    pub(in crate::call) health: Rc<Health>,
    /// The one connection that may use it, for callbacks; `None` if all may.
    pub(in crate::call) owner: Option<Weak<Downstream>>,
    connections: RefCell<Vec<Rc<Upstream>>>,
    /// The pools of the same instance for other dialects, made when calls need them.
    others: RefCell<Vec<Rc<Pool>>>,
    /// No further connection is asked for before.
    no_more_until: Cell<Option<Instant>>,
}

/// What travels on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::call) enum Lane {
    /// Most calls.
    Short,
    /// Requests so long that others would wait behind them.
    Long,
}

impl Lane {
    /// The lane of a request of that many bytes.
    pub(in crate::call) fn of(frame_bytes: usize) -> Self {
        if frame_bytes > LONG_MIN {
            Self::Long
        } else {
            Self::Short
        }
    }
}

impl Pool {
    fn new(addr: SocketAddr, side: Side, protocol: &Arc<dyn Protocol>) -> Self {
        Self {
            addr,
            side,
            protocol: protocol.clone(),
            dialect: 0,
            health: Rc::default(),
            owner: None,
            connections: RefCell::default(),
            others: RefCell::default(),
            no_more_until: Cell::new(None),
        }
    }

    /// A pool for one connection alone, to the same instance.
    pub(in crate::call) fn own(&self, owner: &Rc<Downstream>) -> Rc<Self> {
        Rc::new(Self {
            dialect: owner.dialect(),
            health: self.health.clone(),
            owner: Some(Rc::downgrade(owner)),
            ..Self::new(self.addr, self.side, &self.protocol)
        })
    }

    /// The pool of the same instance for a dialect.
    pub(in crate::call) fn in_dialect(self: &Rc<Self>, dialect: u8) -> Rc<Self> {
        if dialect == self.dialect {
            return self.clone();
        }
        let mut others = self.others.borrow_mut();
        if let Some(other) = others.iter().find(|other| other.dialect == dialect) {
            return other.clone();
        }
        let other = Rc::new(Self {
            dialect,
            health: self.health.clone(),
            ..Self::new(self.addr, self.side, &self.protocol)
        });
        others.push(other.clone());
        other
    }

    /// Whether new calls of a dialect may go there, as far as we know.
    pub(in crate::call) fn is_usable(&self, dialect: u8, now: Instant) -> bool {
        !self.goes_away(dialect) && !self.health.is_out(now)
    }

    /// Whether a call may have luck there although the instance is left alone.
    pub(in crate::call) fn is_worth_a_try(&self, dialect: u8) -> bool {
        !self.goes_away(dialect) && !self.health.is_unreachable()
    }

    fn goes_away(&self, dialect: u8) -> bool {
        if dialect == self.dialect {
            self.all_go_away()
        } else {
            let others = self.others.borrow();
            others
                .iter()
                .any(|other| other.dialect == dialect && other.all_go_away())
        }
    }

    fn all_go_away(&self) -> bool {
        let connections = self.connections.borrow();
        !connections.is_empty() && connections.iter().all(|c| c.is_going_away())
    }

    /// The connection for the next call. Calls fill one connection before the next is opened, because calls that share a
    /// connection share its reads and writes; while the next is being opened, the others take more. Long requests have
    /// connections of their own, so that short ones do not wait behind them.
    pub(in crate::call) fn connection(self: &Rc<Self>, worker: &Rc<Worker>, lane: Lane) -> Rc<Upstream> {
        let max_streams = worker.config().max_streams;
        // A provider's requests must find back on the very connection, so an owner has one.
        let lane = if self.owner.is_some() { Lane::Short } else { lane };
        if let Some(roomy) = self.find(|c| c.takes(lane) && c.in_flight() < max_streams) {
            return roomy;
        }
        if self.may_open(&worker.config(), lane) {
            let opened = self.open(worker, lane);
            return self.least(|c| c.takes(lane)).unwrap_or(opened);
        }
        self.least(|c| c.takes(lane))
            .or_else(|| self.least(|c| c.lane == lane && !c.is_going_away()))
            // No more connections are to be had: better in a long queue than nowhere.
            .or_else(|| self.least(|c| c.is_ready() && !c.is_going_away()))
            // All say that they go away, and so does every other instance, or this one would not have been picked.
            .or_else(|| self.find(|c| c.is_ready()))
            .unwrap_or_else(|| self.open(worker, lane))
    }

    /// Opens a connection in the background.
    pub(in crate::call) fn open(self: &Rc<Self>, worker: &Rc<Worker>, lane: Lane) -> Rc<Upstream> {
        let connection = Upstream::open(worker, self, lane);
        self.connections.borrow_mut().push(connection.clone());
        connection
    }

    /// Takes in a connection that another worker had.
    pub(in crate::call) fn take_in(&self, connection: &Rc<Upstream>) {
        self.connections.borrow_mut().push(connection.clone());
    }

    /// A further connection was refused while others are fine: the instance limits them.
    pub(in crate::call) fn is_refused_more(&self, now: Instant) {
        self.no_more_until.set(Some(now + ASK_AGAIN));
    }

    fn may_open(&self, config: &Config, lane: Lane) -> bool {
        let connections = self.connections.borrow();
        let is_opening = connections.iter().any(|c| c.lane == lane && c.is_connecting());
        let staying = connections
            .iter()
            .filter(|c| c.lane == lane && !c.is_going_away())
            .count();
        let max = if self.owner.is_some() {
            1
        } else {
            config.max_connections_per_instance
        };
        let is_limited = self.no_more_until.get().is_some_and(|until| Instant::now() < until);
        let is_full = staying >= max || (is_limited && self.is_connected());
        !(is_opening || self.all_go_away() || is_full)
    }

    /// Whether something was heard on a connection of it since.
    pub(in crate::call) fn is_heard_since(&self, since: Instant) -> bool {
        self.find(|c| c.is_ready() && c.wire.last_read() > since).is_some()
    }

    /// Asks the instance for a sign of life, on a connection that is there or on a new one.
    fn ask(self: &Rc<Self>, worker: &Rc<Worker>) {
        let others = self.others.borrow().clone();
        let mut pools = std::iter::once(self).chain(&others);
        if let Some(ready) = pools.clone().find_map(|pool| pool.find(Upstream::is_ready)) {
            ready.ask();
        } else if !pools.any(|pool| pool.find(Upstream::is_connecting).is_some()) {
            self.open(worker, Lane::Short);
        }
    }

    fn find(&self, fits: impl Fn(&Upstream) -> bool) -> Option<Rc<Upstream>> {
        self.connections.borrow().iter().find(|c| fits(c)).cloned()
    }

    fn least(&self, fits: impl Fn(&Upstream) -> bool) -> Option<Rc<Upstream>> {
        let connections = self.connections.borrow();
        connections
            .iter()
            .filter(|c| fits(c))
            .min_by_key(|c| c.in_flight())
            .cloned()
    }

    /// Whether a connection is there.
    pub(in crate::call) fn is_connected(&self) -> bool {
        self.connections.borrow().iter().any(|c| c.is_ready())
    }

    /// Takes a connection out that is closed.
    pub(in crate::call) fn forget(&self, connection: &Rc<Upstream>) {
        self.connections.borrow_mut().retain(|c| !Rc::ptr_eq(c, connection));
    }

    /// Nobody will send calls here any more: those in flight finish, then the connections close.
    pub(in crate::call) fn retire(&self) {
        for connection in self.connections.borrow().iter() {
            connection.retire();
        }
        for other in self.others.borrow().iter() {
            other.retire();
        }
    }

    /// The instance is left alone from now on.
    pub(in crate::call) fn ejected(&self, worker: &Worker, why: Ejected) {
        worker.shard(self.side, &self.protocol).ejected(why);
        let reason = EJECTED.get(why as usize).copied().unwrap_or_default();
        match why {
            Ejected::Lost | Ejected::Silent => {
                warn!(side = self.side.label(), upstream = %self.addr, reason, "an instance gives no sign of life");
            }
            _ => debug!(side = self.side.label(), upstream = %self.addr, reason, "an instance is left alone"),
        }
    }

    /// Itself, then the pools for other dialects.
    fn any_dialect(&self, fits: impl Fn(&Self) -> bool) -> bool {
        fits(self) || self.others.borrow().iter().any(|other| fits(other))
    }

    /// Closes every connection at once.
    pub(in crate::call) fn close(&self, reason: CloseReason) {
        for connection in self.connections.borrow().iter() {
            connection.wire.close(reason);
        }
    }
}

/// The pools of one worker that all connections may use.
#[derive(Debug, Default)]
pub(in crate::call) struct Pools {
    by_instance: RefCell<HashMap<InstanceKey, Rc<Pool>>>,
}

/// Address, side, protocol.
type InstanceKey = (SocketAddr, Side, &'static str);

impl Pools {
    /// The pool of an instance for dialect 0, by which its others are found.
    pub(in crate::call) fn shared(&self, addr: SocketAddr, side: Side, protocol: &Arc<dyn Protocol>) -> Rc<Pool> {
        let mut pools = self.by_instance.borrow_mut();
        let pool = pools.entry((addr, side, protocol.name()));
        pool.or_insert_with(|| Rc::new(Pool::new(addr, side, protocol))).clone()
    }

    /// Retires pools that no route holds, and asks instances that are left alone. Call about once a second.
    pub(in crate::call) fn tend(&self, worker: &Rc<Worker>, now: Instant) {
        let mut held = Vec::new();
        self.by_instance.borrow_mut().retain(|_, pool| {
            let is_held = Rc::strong_count(pool) > 1;
            if !is_held {
                pool.retire();
            } else if pool.health.is_out(now) {
                held.push(pool.clone());
            }
            is_held
        });
        for pool in held {
            if pool.any_dialect(Pool::is_connected) {
                pool.health.connected(now);
            }
            let due = pool.health.tend(&worker.config(), now);
            match due {
                Due::Nothing => {}
                Due::Ejected(why) => pool.ejected(worker, why),
                Due::Ask => pool.ask(worker),
            }
        }
    }
}

/// Shortest request that travels apart: on a link of 1 Gbit/s it takes a millisecond, as long as a short call.
const LONG_MIN: usize = 128 << 10;
/// Pause before an instance that limits its connections is asked for one more.
const ASK_AGAIN: Duration = Duration::from_secs(10);
