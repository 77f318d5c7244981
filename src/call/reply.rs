// SPDX-License-Identifier: Apache-2.0
//! Answers: the provider's, under the id that the caller gave, or ours in the provider's place.

use std::rc::Rc;

use remora_protocol::{Frame, FrameKind};
use tokio::time::Instant;
use tracing::debug;

use super::connection::Downstream;
use super::dispatch::{Call, oneway_lost, took};
use super::error::CallError;
use super::upstream::connection::Upstream;
use super::worker::Worker;
use crate::metrics::call::{CallEnd, Dropped};

/// Hands the provider's reply to the caller.
#[inline]
pub(super) fn pass(worker: &Worker, call: Call, reply: &Frame, end: CallEnd, now: Instant) {
    let from = &call.from;
    let end = if from.is_closed() {
        from.shard().drop_frame(Dropped::CallerGone);
        CallEnd::Abandoned
    } else {
        from.wire.send_frame(&**from.protocol(), reply, call.kept.stream_id);
        from.wire.slow_down();
        end
    };
    from.shard().call_ended(end, took(&call, now));
    from.call_ended();
    worker.kept.give_back(call.kept);
}

/// Answers a call in the provider's place.
pub(super) fn fail(worker: &Worker, call: Call, error: &CallError, now: Instant) {
    if call.is_oneway() {
        return oneway_lost(worker, call, error);
    }
    let from = &call.from;
    match error.instance() {
        Some(addr) => call.route.failed_at(addr),
        None => {
            let (side, protocol) = (from.side(), from.protocol().name());
            worker.tallies.hop(side, protocol, &call.route.label, None).fail();
        }
    }
    let end = if from.is_closed() {
        CallEnd::Abandoned
    } else {
        send(from, &call.kept.head(), error);
        CallEnd::LocalReply
    };
    from.shard().call_ended(end, took(&call, now));
    from.call_ended();
    worker.kept.give_back(call.kept);
}

/// Answers a request that did not become a call.
pub(super) fn refuse(from: &Rc<Downstream>, request: &Frame, error: &CallError) {
    if request.kind == FrameKind::Oneway {
        from.shard().drop_frame(Dropped::Oneway);
    } else {
        from.shard().count_call(CallEnd::LocalReply);
        send(from, request, error);
    }
}

/// Answers a provider's request in its caller's place.
pub(super) fn to_provider(upstream: &Rc<Upstream>, request: &Frame, error: &CallError) {
    if request.kind != FrameKind::Request {
        return;
    }
    let message = format!("remora {}: {error}", upstream.side.label());
    if let Some(reply) = upstream.protocol.local_reply(request, error.local_reply(), &message) {
        upstream.wire.shard.local_reply(error.reason());
        upstream.wire.send_bytes(&reply);
        upstream.wire.slow_down();
    }
}

fn send(from: &Rc<Downstream>, request: &Frame, error: &CallError) {
    let message = format!("remora {}: {error}", from.side().label());
    debug!(side = from.side().label(), peer = %from.peer, stream_id = request.stream_id.0, reason = error.reason(), "{message}");
    if let Some(reply) = from.protocol().local_reply(request, error.local_reply(), &message) {
        from.shard().local_reply(error.reason());
        from.wire.send_bytes(&reply);
        from.wire.slow_down();
    }
}
