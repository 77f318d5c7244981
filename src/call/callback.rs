// SPDX-License-Identifier: Apache-2.0
//! Requests that a provider sends on a connection that we opened (Dubbo's callbacks), and their replies.
//!
//! They belong to the one downstream connection for which the upstream connection was opened. On a connection that many
//! callers share there is no telling whose they are: those are answered with an error.

pub(super) mod handover;

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use remora_protocol::{Frame, FrameKind};
use tokio::time::Instant;

use super::connection::Downstream;
use super::error::CallError;
use super::governance::deadline;
use super::kept::Kept;
use super::reply;
use super::upstream::connection::Upstream;
use super::upstream::mux::StreamTable;
use super::worker::Worker;
use crate::metrics::call::Dropped;

/// A provider's request that waits for the application's reply.
#[derive(Debug)]
pub(super) struct Callback {
    upstream: Rc<Upstream>,
    kept: Kept,
    started: Instant,
    deadline: Instant,
}

/// Providers' requests in flight on one downstream connection; made with the first one.
#[derive(Debug, Default)]
pub(super) struct Callbacks(RefCell<Option<Box<StreamTable<Callback>>>>);

impl Callbacks {
    /// How many wait.
    pub(super) fn in_flight(&self) -> usize {
        self.0.borrow().as_ref().map_or(0, |table| table.len())
    }

    /// Answers those whose deadline passed.
    pub(super) fn expire(&self, worker: &Worker, now: Instant) {
        for callback in self.take_where(worker, |callback| callback.deadline <= now) {
            let error = CallError::Timeout {
                service: "a callback".to_owned(),
                addr: callback.upstream.addr,
                waited: now.saturating_duration_since(callback.started),
            };
            reply::to_provider(&callback.upstream, &callback.kept.head(), &error);
            worker.kept.give_back(callback.kept);
        }
    }

    /// Answers all: the application's connection is closed.
    pub(super) fn end(&self, worker: &Worker) {
        for callback in self.take_where(worker, |_| true) {
            reply::to_provider(&callback.upstream, &callback.kept.head(), &CallError::CallerGone);
            worker.kept.give_back(callback.kept);
        }
    }

    fn take_where(&self, worker: &Worker, leaves: impl FnMut(&Callback) -> bool) -> Vec<Callback> {
        let mut out = Vec::new();
        if let Some(table) = &mut *self.0.borrow_mut() {
            table.take_where(leaves, &mut out);
        }
        worker.calls_left(out.len());
        out
    }
}

/// A request of a provider: to the application whose connection it is.
pub(super) fn from_provider(worker: &Worker, upstream: &Rc<Upstream>, frame: &Frame, now: Instant) {
    let owner = match upstream.owner.as_ref().map(Weak::upgrade) {
        Some(Some(owner)) if !owner.is_closed() => owner,
        other => {
            let is_shared = other.is_none();
            upstream.wire.shard.drop_frame(Dropped::UnownedRequest);
            let error = if is_shared {
                CallError::UnownedRequest
            } else {
                CallError::CallerGone
            };
            return reply::to_provider(upstream, frame, &error);
        }
    };
    let mut callbacks = owner.callbacks.0.borrow_mut();
    let bits = upstream.protocol.stream_id_bits();
    let table =
        callbacks.get_or_insert_with(|| Box::new(StreamTable::new(worker.config().max_in_flight_per_connection, bits)));
    let id = if frame.kind == FrameKind::Oneway {
        table.spare_id()
    } else {
        let in_frame = upstream.protocol.route_keys(frame).ok().and_then(|keys| keys.timeout);
        let deadline = now + deadline::limit(&worker.config(), in_frame, None);
        let callback = Callback {
            upstream: upstream.clone(),
            kept: worker.kept.keep(frame, false),
            started: now,
            deadline,
        };
        match table.insert(callback) {
            Ok(id) => {
                worker.call_waits(deadline);
                id
            }
            Err(callback) => {
                worker.kept.give_back(callback.kept);
                let error = CallError::Overloaded {
                    service: "a callback".to_owned(),
                    in_flight: table.len(),
                };
                return reply::to_provider(upstream, frame, &error);
            }
        }
    };
    owner.wire.send_frame(&*upstream.protocol, frame, id);
    upstream.wire.slow_down_for(&owner.wire);
}

/// The application's reply to a provider's request.
pub(super) fn to_provider(worker: &Worker, from: &Rc<Downstream>, reply: &Frame) {
    let callback = from
        .callbacks
        .0
        .borrow_mut()
        .as_mut()
        .and_then(|table| table.take(reply.stream_id));
    let Some(callback) = callback else {
        from.shard().drop_frame(Dropped::UnknownReply);
        return;
    };
    worker.calls_left(1);
    let upstream = &callback.upstream;
    upstream
        .wire
        .send_frame(&*upstream.protocol, reply, callback.kept.stream_id);
    from.wire.slow_down_for(&upstream.wire);
    worker.kept.give_back(callback.kept);
}
