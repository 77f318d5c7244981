// SPDX-License-Identifier: Apache-2.0
//! Providers' requests in flight that change hands.

use std::sync::Arc;

use hashbrown::HashMap;
use remora_protocol::{Protocol, StreamId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::super::dispatch::handover::{before, ms};
use super::super::handover::ById;
use super::super::kept::handover::KeptText;
use super::super::upstream::connection::Upstream;
use super::super::upstream::mux::StreamTable;
use super::super::worker::Worker;
use super::{Callback, Callbacks};

/// Those of one downstream connection, with the bytes kept of each.
pub(in crate::call) type FrozenCallbacks = Vec<(CallbackText, Vec<u8>)>;

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::call) struct CallbackText {
    id: u64,
    /// The id that the next one may get.
    next_id: u64,
    /// Number of the connection that it came on.
    upstream: usize,
    kept: KeptText,
    age_ms: u64,
    left_ms: u64,
}

impl Callbacks {
    /// The id that the next one may get; `None` before there was one.
    pub(in crate::call) fn next_id(&self) -> Option<u64> {
        self.0.borrow().as_ref().map(|table| table.next_id())
    }

    /// Hands out ids from there on: an application may still answer one that was given up.
    pub(in crate::call) fn go_on_at(&self, worker: &Worker, protocol: &Arc<dyn Protocol>, next_id: u64) {
        let max = worker.config().max_in_flight_per_connection;
        let mut table = StreamTable::new(max, protocol.stream_id_bits());
        table.go_on_at(next_id);
        self.0.replace(Some(Box::new(table)));
    }

    /// Takes them out.
    pub(in crate::call) fn freeze(&self, upstreams: &HashMap<*const Upstream, usize>, now: Instant) -> FrozenCallbacks {
        let Some(mut table) = self.0.take() else {
            return Vec::new();
        };
        let next_id = table.next_id();
        let all = table.take_all().into_iter().filter_map(|(id, callback)| {
            let upstream = *upstreams.get(&std::rc::Rc::as_ptr(&callback.upstream))?;
            let (kept, bytes) = callback.kept.freeze();
            let text = CallbackText {
                id,
                next_id,
                upstream,
                kept,
                age_ms: ms(now.saturating_duration_since(callback.started)),
                left_ms: ms(callback.deadline.saturating_duration_since(now)),
            };
            Some((text, bytes))
        });
        all.collect()
    }

    /// Puts them in again. One whose provider's connection is gone has nobody who waits.
    pub(in crate::call) fn adopt(
        &self,
        worker: &Worker,
        protocol: &Arc<dyn Protocol>,
        frozen: FrozenCallbacks,
        upstreams: &ById<Upstream>,
        now: Instant,
    ) {
        for (text, bytes) in frozen {
            let Some(upstream) = upstreams.get(&text.upstream) else {
                continue;
            };
            let deadline = now + std::time::Duration::from_millis(text.left_ms);
            let callback = Callback {
                upstream: upstream.clone(),
                kept: worker.kept.adopt(&text.kept, bytes),
                started: before(now, text.age_ms),
                deadline,
            };
            let mut table = self.0.borrow_mut();
            let max = worker.config().max_in_flight_per_connection;
            let table = table.get_or_insert_with(|| Box::new(StreamTable::new(max, protocol.stream_id_bits())));
            table.go_on_at(text.next_id);
            if table.restore(StreamId(text.id), callback).is_ok() {
                worker.call_waits(deadline);
            }
        }
    }
}
