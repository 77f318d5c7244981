// SPDX-License-Identifier: Apache-2.0
//! What `/connections` shows.

use std::net::SocketAddr;

use serde::Serialize;
use tokio::time::Instant;

use super::worker::Worker;
use crate::metrics::call::Side;

/// One connection of the call path.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionView {
    /// Egress or ingress.
    pub side: Side,
    /// Who opened it: `downstream` came to us, `upstream` was opened by us.
    pub direction: &'static str,
    /// Protocol plugin.
    pub protocol: &'static str,
    /// The other end.
    pub peer: SocketAddr,
    /// Age in ms.
    pub age_ms: u64,
    /// Time since the peer was last heard, in ms.
    pub silent_ms: u64,
    /// Downstream: time since its last call came, or since it was opened if none did, in ms. Upstream: as `silent_ms`.
    pub idle_ms: u64,
    /// Calls waiting for their reply.
    pub in_flight: usize,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Bytes waiting to be written.
    pub queued_bytes: usize,
    /// Downstream: has upstream connections of its own, because it registered a callback. Upstream: is such a connection.
    pub pinned: bool,
    /// Upstream: the peer takes no new calls.
    pub going_away: bool,
    /// Worker that serves it.
    pub worker: usize,
}

/// Every connection of one worker.
pub(super) fn connections(worker: &Worker, now: Instant) -> Vec<ConnectionView> {
    let ms = |since: Instant| u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX);
    let downstreams = worker.downstreams.borrow();
    let came = downstreams.iter().map(|(_, connection)| {
        let (bytes_in, bytes_out) = connection.wire.traffic();
        ConnectionView {
            side: connection.side(),
            direction: "downstream",
            protocol: connection.protocol().name(),
            peer: connection.peer,
            age_ms: ms(connection.opened),
            silent_ms: ms(connection.wire.last_read()),
            idle_ms: ms(connection.last_call()),
            in_flight: connection.in_flight(),
            bytes_in,
            bytes_out,
            queued_bytes: connection.wire.queued(),
            pinned: connection.is_pinned(),
            going_away: false,
            worker: worker.index,
        }
    });
    let upstreams = worker.upstreams.borrow();
    let opened = upstreams.iter().map(|(_, connection)| {
        let (bytes_in, bytes_out) = connection.wire.traffic();
        ConnectionView {
            side: connection.side,
            direction: "upstream",
            protocol: connection.protocol.name(),
            peer: connection.addr,
            age_ms: ms(connection.opened),
            silent_ms: ms(connection.wire.last_read()),
            idle_ms: ms(connection.wire.last_read()),
            in_flight: connection.in_flight(),
            bytes_in,
            bytes_out,
            queued_bytes: connection.wire.queued(),
            pinned: connection.owner.is_some(),
            going_away: connection.is_going_away(),
            worker: worker.index,
        }
    });
    came.chain(opened).collect()
}
