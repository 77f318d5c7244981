// SPDX-License-Identifier: Apache-2.0
//! A connection that we opened changes hands, with the calls that wait on it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use remora_protocol::{Protocol, StreamId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::super::super::connection::Downstream;
use super::super::super::dispatch::Call;
use super::super::super::dispatch::handover::{CallText, before, ms};
use super::super::super::handover::ById;
use super::super::super::reply;
use super::super::super::wire::Wire;
use super::super::super::wire::handover::FrozenWire;
use super::super::super::worker::Worker;
use super::super::mux::StreamTable;
use super::super::pool::{Lane, Pool};
use super::{State, Upstream};
use crate::call::error::CallError;
use crate::metrics::call::Side;

/// What an upstream connection leaves.
#[derive(Debug)]
pub(in crate::call) struct FrozenUpstream {
    pub(in crate::call) text: UpstreamText,
    pub(in crate::call) wire: FrozenWire,
    /// With the bytes kept of each.
    pub(in crate::call) calls: Vec<(CallText, Vec<u8>)>,
}

/// Its figures.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::call) struct UpstreamText {
    pub(in crate::call) id: usize,
    side: Side,
    protocol: String,
    addr: SocketAddr,
    is_long_lane: bool,
    dialect: u8,
    /// Number of the connection whose callbacks come back here.
    owner: Option<usize>,
    age_ms: u64,
    is_going_away: bool,
    is_retired: bool,
    next_id: u64,
}

impl Upstream {
    /// Takes everything out; `None` if there is nothing that could go on.
    pub(in crate::call) fn freeze(
        &self,
        id: usize,
        downstreams: &HashMap<*const Downstream, usize>,
        now: Instant,
    ) -> Option<FrozenUpstream> {
        let owner = match &self.owner {
            Some(owner) => Some(*downstreams.get(&owner.as_ptr())?),
            None => None,
        };
        let wire = self.wire.freeze()?;
        let mut table = self.table.borrow_mut();
        let calls = table.take_all().into_iter().filter_map(|(id, call)| {
            // Nobody waits for the others.
            let from = downstreams
                .get(&Rc::as_ptr(&call.from))
                .filter(|_| !call.from.is_closed())?;
            Some(call.freeze(id, *from, now))
        });
        let calls = calls.collect();
        let text = UpstreamText {
            id,
            side: self.side,
            protocol: self.protocol.name().to_owned(),
            addr: self.addr,
            is_long_lane: self.lane == Lane::Long,
            dialect: self.dialect,
            owner,
            age_ms: ms(now.saturating_duration_since(self.opened)),
            is_going_away: self.is_going_away.get(),
            is_retired: self.is_retired.get(),
            next_id: table.next_id(),
        };
        Some(FrozenUpstream { text, wire, calls })
    }

    /// The connection again, in the pool where it belongs; `None` if its protocol or owner is gone.
    pub(in crate::call) fn adopt(
        worker: &Rc<Worker>,
        frozen: FrozenUpstream,
        downstreams: &ById<Downstream>,
        now: Instant,
    ) -> Option<Rc<Self>> {
        let text = frozen.text;
        let protocol = worker.protocol(&text.protocol)?;
        let pool = pool(worker, &text, &protocol, downstreams)?;
        let is_connected = frozen.wire.stream.is_some();
        let shard = worker.shard(text.side, &protocol);
        let wire = Wire::thaw(&worker.io, shard, frozen.wire, false);
        if is_connected != wire.is_connected() {
            return None;
        }
        let max_in_flight = worker.config().max_in_flight_per_connection;
        let mut table = StreamTable::new(max_in_flight, protocol.stream_id_bits());
        table.go_on_at(text.next_id);
        let mut refused = Vec::new();
        for (call, bytes) in frozen.calls {
            let Some(from) = downstreams.get(&call.from) else {
                continue;
            };
            let id = StreamId(call.id);
            let call = Call::adopt(worker, from, text.addr, call, bytes, now);
            if !call.is_oneway() {
                from.call_started();
            }
            let deadline = call.deadline();
            match table.restore(id, call) {
                Ok(()) => worker.call_waits(deadline),
                Err(call) => refused.push(call),
            }
        }
        let next_deadline = table.iter().map(Call::deadline).min();
        let upstream = Rc::new(Self {
            wire,
            addr: text.addr,
            side: text.side,
            lane: match text.is_long_lane {
                true => Lane::Long,
                false => Lane::Short,
            },
            protocol,
            dialect: text.dialect,
            owner: pool.owner.clone(),
            opened: before(now, text.age_ms),
            health: pool.health.clone(),
            pool: Rc::downgrade(&pool),
            table: RefCell::new(table),
            state: Cell::new(match is_connected {
                true => State::Ready,
                false => State::Connecting,
            }),
            is_going_away: Cell::new(text.is_going_away),
            is_retired: Cell::new(text.is_retired),
            was_probed: Cell::new(false),
            next_deadline: Cell::new(next_deadline),
            last_call: Cell::new(now),
        });
        pool.take_in(&upstream);
        let key = is_connected.then(|| worker.upstreams.borrow_mut().insert(upstream.clone()));
        // Ends when the connection is closed, at the latest by the worker's drain.
        tokio::task::spawn_local(upstream.clone().go_on(worker.clone(), pool, key));
        for call in refused {
            let error = CallError::Overloaded {
                service: call.route.label.to_string(),
                in_flight: upstream.in_flight(),
            };
            reply::fail(worker, call, &error, now);
        }
        Some(upstream)
    }

    /// `pool` is held until the first calls have found it again by their routes.
    async fn go_on(self: Rc<Self>, worker: Rc<Worker>, pool: Rc<Pool>, key: Option<usize>) {
        worker.may_begin().await;
        tokio::task::spawn_local(async move {
            tokio::time::sleep(HOLD).await;
            drop(pool);
        });
        match key {
            Some(key) => {
                self.wire.resume();
                self.close_if_done();
                self.clone().serve(worker.clone(), None).await;
                worker.upstreams.borrow_mut().remove(key);
            }
            None => self.run(worker).await,
        }
    }
}

/// Longer than `Pools::tend` takes to find that nobody holds a pool, and shorter than instances stay away.
const HOLD: std::time::Duration = std::time::Duration::from_secs(30);

fn pool(
    worker: &Worker,
    text: &UpstreamText,
    protocol: &Arc<dyn Protocol>,
    downstreams: &ById<Downstream>,
) -> Option<Rc<Pool>> {
    let shared = worker.pools.shared(text.addr, text.side, protocol);
    match text.owner {
        Some(owner) => Some(downstreams.get(&owner)?.adopt_pool(&shared)),
        None => Some(shared.in_dialect(text.dialect)),
    }
}
