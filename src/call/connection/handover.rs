// SPDX-License-Identifier: Apache-2.0
//! A connection that came to us changes hands, with the providers' requests that wait on it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwapOption;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::super::callback::Callbacks;
use super::super::callback::handover::FrozenCallbacks;
use super::super::dispatch::handover::{before, ms};
use super::super::handover::ById;
use super::super::listener::Door;
use super::super::upstream::connection::Upstream;
use super::super::upstream::pool::Pool;
use super::super::wire::Wire;
use super::super::wire::handover::FrozenWire;
use super::super::worker::Worker;
use super::{Downstream, run};
use crate::metrics::call::Side;

/// What a downstream connection leaves.
#[derive(Debug)]
pub(in crate::call) struct FrozenDownstream {
    pub(in crate::call) text: DownstreamText,
    pub(in crate::call) wire: FrozenWire,
    pub(in crate::call) callbacks: FrozenCallbacks,
}

/// Its figures.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::call) struct DownstreamText {
    pub(in crate::call) id: usize,
    side: Side,
    protocol: String,
    /// The port that it came to.
    pub(in crate::call) door: SocketAddr,
    /// The application behind an ingress.
    app: Option<SocketAddr>,
    peer: SocketAddr,
    age_ms: u64,
    dialect: Option<u8>,
    is_half_closed: bool,
    is_pinned: bool,
    is_greeted: bool,
    was_told: bool,
    idle_ms: u64,
    /// The id that the next request of a provider may get.
    #[serde(default)]
    next_callback: Option<u64>,
}

impl Downstream {
    /// Takes everything out; `None` if it is closed.
    pub(in crate::call) fn freeze(
        &self,
        id: usize,
        upstreams: &HashMap<*const Upstream, usize>,
        now: Instant,
    ) -> Option<FrozenDownstream> {
        let wire = self.wire.freeze()?;
        let text = DownstreamText {
            id,
            side: self.side(),
            protocol: self.protocol().name().to_owned(),
            door: self.door.local,
            app: self.door.app.load().as_deref().copied(),
            peer: self.peer,
            age_ms: ms(now.saturating_duration_since(self.opened)),
            dialect: self.dialect.get(),
            is_half_closed: self.is_half_closed.get(),
            is_pinned: self.is_pinned(),
            is_greeted: self.is_greeted.get(),
            was_told: self.was_told.get(),
            idle_ms: ms(now.saturating_duration_since(self.last_request.get())),
            next_callback: self.callbacks.next_id(),
        };
        let callbacks = self.callbacks.freeze(upstreams, now);
        Some(FrozenDownstream { text, wire, callbacks })
    }

    /// The connection again; `None` if its protocol is gone. The callbacks are for [`Self::adopt_callbacks`], when
    /// upstream connections are there.
    pub(in crate::call) fn adopt(
        worker: &Rc<Worker>,
        frozen: FrozenDownstream,
        doors: &[Arc<Door>],
        now: Instant,
    ) -> Option<(Rc<Self>, FrozenCallbacks)> {
        let text = frozen.text;
        let protocol = worker.protocol(&text.protocol)?;
        let is_it = |door: &&Arc<Door>| {
            door.local == text.door && door.side == text.side && door.protocol.name() == protocol.name()
        };
        let door = doors.iter().find(is_it).cloned().unwrap_or_else(|| {
            // The configuration has the port no more; who came by it stays.
            Arc::new(Door {
                side: text.side,
                protocol: protocol.clone(),
                local: text.door,
                app: ArcSwapOption::new(text.app.map(Arc::new)),
                is_leaving: AtomicBool::new(false),
            })
        });
        let shard = worker.shard(text.side, &protocol);
        let wire = Wire::thaw(&worker.io, shard, frozen.wire, true);
        if !wire.is_connected() {
            return None;
        }
        let downstream = Rc::new(Self {
            wire,
            peer: text.peer,
            opened: before(now, text.age_ms),
            callbacks: Callbacks::default(),
            guest: (text.side == Side::Ingress)
                .then(|| worker.guests.take_over(text.peer.ip(), text.dialect.is_none())),
            door,
            dialect: Cell::new(text.dialect),
            in_flight: Cell::new(0),
            is_half_closed: Cell::new(text.is_half_closed),
            application: RefCell::default(),
            recent: RefCell::default(),
            own_pools: RefCell::new(text.is_pinned.then(Vec::new)),
            is_greeted: Cell::new(text.is_greeted),
            was_told: Cell::new(text.was_told),
            last_request: Cell::new(before(now, text.idle_ms)),
        });
        if let Some(next_id) = text.next_callback {
            downstream.callbacks.go_on_at(worker, &protocol, next_id);
        }
        worker.connection_adopted();
        let key = worker.downstreams.borrow_mut().insert(downstream.clone());
        let (going_on, of) = (downstream.clone(), worker.clone());
        // Ends when the connection is closed, at the latest by the worker's drain.
        tokio::task::spawn_local(async move {
            of.may_begin().await;
            going_on.wire.resume();
            run(of, going_on, key).await;
        });
        Some((downstream, frozen.callbacks))
    }

    /// Its own pool for the instance of `shared`.
    pub(in crate::call) fn adopt_pool(self: &Rc<Self>, shared: &Rc<Pool>) -> Rc<Pool> {
        let mut own = self.own_pools.borrow_mut();
        let own = own.get_or_insert_default();
        if let Some(pool) = own.iter().find(|pool| pool.addr == shared.addr) {
            return pool.clone();
        }
        let pool = shared.own(self);
        own.push(pool.clone());
        pool
    }

    /// Providers' requests that wait for this application's reply.
    pub(in crate::call) fn adopt_callbacks(
        &self,
        worker: &Worker,
        frozen: FrozenCallbacks,
        upstreams: &ById<Upstream>,
        now: Instant,
    ) {
        self.callbacks.adopt(worker, self.protocol(), frozen, upstreams, now);
    }
}
