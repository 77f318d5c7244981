// SPDX-License-Identifier: Apache-2.0
//! The connections of one worker to one instance, opened when calls need them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use hashbrown::HashMap;
use remora_protocol::Protocol;
use tokio::time::Instant;

use super::super::connection::Downstream;
use super::super::wire::CloseReason;
use super::super::worker::Worker;
use super::connection::Upstream;
use super::health::Health;
use crate::metrics::call::Side;

/// Connections to one instance.
#[derive(Debug)]
pub(in crate::call) struct Pool {
    pub(in crate::call) addr: SocketAddr,
    pub(in crate::call) side: Side,
    pub(in crate::call) protocol: Arc<dyn Protocol>,
    /// Shared by all pools of this worker to the instance.
    pub(in crate::call) health: Rc<Health>,
    /// The one connection that may use it, for callbacks; `None` if all may.
    pub(in crate::call) owner: Option<Weak<Downstream>>,
    connections: RefCell<Vec<Rc<Upstream>>>,
}

impl Pool {
    /// A pool for one connection alone, to the same instance.
    pub(in crate::call) fn own(self: &Rc<Self>, owner: &Rc<Downstream>) -> Rc<Self> {
        Rc::new(Self {
            addr: self.addr,
            side: self.side,
            protocol: self.protocol.clone(),
            health: self.health.clone(),
            owner: Some(Rc::downgrade(owner)),
            connections: RefCell::default(),
        })
    }

    /// Whether new calls may go there, as far as we know.
    pub(in crate::call) fn is_usable(&self, now: Instant) -> bool {
        let connections = self.connections.borrow();
        let is_going_away = !connections.is_empty() && connections.iter().all(|c| c.is_going_away());
        !is_going_away && !self.health.is_out(now)
    }

    /// The connection for the next call. Calls fill one connection before the next is opened, because calls that share a
    /// connection share its reads and writes; while the next is being opened, the others take more.
    pub(in crate::call) fn connection(self: &Rc<Self>, worker: &Rc<Worker>) -> Rc<Upstream> {
        let config = &worker.config;
        {
            let connections = self.connections.borrow();
            let mut usable = connections.iter().filter(|c| c.is_ready() && !c.is_going_away());
            if let Some(roomy) = usable.find(|c| c.in_flight() < config.max_streams) {
                return roomy.clone();
            }
            let max = if self.owner.is_some() {
                1
            } else {
                config.max_connections_per_instance
            };
            let going_away = connections.iter().filter(|c| c.is_going_away()).count();
            let is_opening = connections.iter().any(|c| !c.is_ready());
            if is_opening || connections.len() - going_away >= max {
                let least = |usable: fn(&Upstream) -> bool| {
                    connections.iter().filter(|c| usable(c)).min_by_key(|c| c.in_flight())
                };
                let best = least(|c| c.is_ready() && !c.is_going_away()).or_else(|| least(|c| !c.is_going_away()));
                if let Some(best) = best {
                    return best.clone();
                }
            }
            // All say that they go away, and so does every other instance, or this pool had not been asked.
            if let Some(last_resort) = connections.iter().find(|c| c.is_ready()).filter(|c| c.is_going_away()) {
                return last_resort.clone();
            }
        }
        let opened = self.open(worker);
        let connections = self.connections.borrow();
        let ready = connections.iter().filter(|c| c.is_ready() && !c.is_going_away());
        ready.min_by_key(|c| c.in_flight()).cloned().unwrap_or(opened)
    }

    /// Opens a connection in the background.
    pub(in crate::call) fn open(self: &Rc<Self>, worker: &Rc<Worker>) -> Rc<Upstream> {
        let connection = Upstream::open(worker, self);
        self.connections.borrow_mut().push(connection.clone());
        connection
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
    /// The pool of an instance.
    pub(in crate::call) fn shared(&self, addr: SocketAddr, side: Side, protocol: &Arc<dyn Protocol>) -> Rc<Pool> {
        let mut pools = self.by_instance.borrow_mut();
        let pool = pools.entry((addr, side, protocol.name()));
        let new = || {
            Rc::new(Pool {
                addr,
                side,
                protocol: protocol.clone(),
                health: Rc::default(),
                owner: None,
                connections: RefCell::default(),
            })
        };
        pool.or_insert_with(new).clone()
    }

    /// Retires pools that no route holds, and probes instances whose time is up. Call about once a second.
    pub(in crate::call) fn tend(&self, worker: &Rc<Worker>, now: Instant) {
        let mut probed = Vec::new();
        self.by_instance.borrow_mut().retain(|_, pool| {
            let is_held = Rc::strong_count(pool) > 1;
            if !is_held {
                pool.retire();
            } else if pool.is_connected() {
                pool.health.connected();
            } else if pool.health.wants_probe(now) && pool.connections.borrow().is_empty() {
                probed.push(pool.clone());
            }
            is_held
        });
        for pool in probed {
            pool.open(worker);
        }
    }
}
