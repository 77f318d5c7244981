// SPDX-License-Identifier: Apache-2.0
//! Metrics of the call path.
//!
//! Each worker counts in a shard of its own per (side, protocol), which a connection looks up once. A shard has one
//! writer, so counting is a plain load and store; a scrape adds the shards up.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::registry::Registry;

/// The side of a call: into our application or out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Out of our application.
    Egress,
    /// Into our application.
    Ingress,
}

impl Side {
    /// Metric label and log field.
    pub fn label(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }
}

/// Makes shards and adds them up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CallMetrics {
    shards: Arc<Shards>,
}

#[derive(Debug, Default)]
pub(super) struct Shards(Mutex<Vec<Arc<CallShard>>>);

impl CallMetrics {
    /// Registers the metrics of the call path in `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let shards = Arc::new(Shards::default());
        registry.register_collector(Box::new(shards.clone()));
        Self { shards }
    }

    /// A shard for one worker; only that worker's thread may count in it.
    pub fn shard(&self, side: Side, protocol: &'static str) -> Arc<CallShard> {
        let shard = Arc::new(CallShard {
            side,
            protocol,
            ..CallShard::default()
        });
        self.shards.lock().push(shard.clone());
        shard
    }

    /// Calls by side and protocol, and there by outcome; local replies by their reason. For `/connections`.
    pub fn totals(&self) -> BTreeMap<(Side, &'static str), BTreeMap<&'static str, u64>> {
        let mut totals: BTreeMap<_, BTreeMap<&'static str, u64>> = BTreeMap::new();
        for shard in self.shards.lock().iter() {
            let ends = CALL_ENDS
                .iter()
                .zip(&shard.calls)
                .filter(|(end, _)| **end != "local_reply");
            let reasons = LOCAL_REPLIES.iter().zip(&shard.local_replies);
            let into = totals.entry((shard.side, shard.protocol)).or_default();
            for (outcome, count) in ends.chain(reasons).filter(|(_, count)| count.get() > 0) {
                *into.entry(outcome).or_default() += count.get();
            }
        }
        totals
    }

    /// Sum of one counter over all workers, for `status` and tests.
    pub fn sum(&self, read: impl Fn(&CallShard) -> u64) -> u64 {
        self.shards.lock().iter().map(|shard| read(shard)).sum()
    }
}

impl Shards {
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<CallShard>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number with one writer.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`; only from the shard's own thread.
    pub fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds one; only from the shard's own thread.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts what was `before` as `now`; only from the shard's own thread.
    pub fn change(&self, before: usize, now: usize) {
        self.add((now as u64).wrapping_sub(before as u64));
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// The provider answered.
    Ok,
    /// The application threw.
    AppException,
    /// The framework at the other end failed.
    Failed,
    /// A Remora further down answered that nothing was sent.
    NothingSent,
    /// A one-way call was sent.
    Oneway,
    /// We answered ourselves.
    LocalReply,
    /// The caller was gone before the answer.
    Abandoned,
}

/// A frame that was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// A reply whose call is not, or no longer, in flight: late, repeated or made up.
    UnknownReply,
    /// A reply whose caller closed its connection.
    CallerGone,
    /// A request of a provider on a connection that many callers share.
    UnownedRequest,
    /// A one-way call with nowhere to go.
    Oneway,
    /// Over the limit.
    TooLong,
    /// An event without meaning here.
    Ignorable,
}

/// Why an instance was left alone; the labels are [`EJECTED`], in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejected {
    /// No connection could be made.
    Unreachable,
    /// The Remora there answered that it could not pass a call on.
    NothingSent,
    /// Connections were accepted and broke before anything was heard.
    Lost,
    /// It owed answers and gave no sign of life.
    Silent,
}

/// Why a connection was refused at accept; the labels are [`REFUSED`], in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A peer of another host at an egress.
    Foreign,
    /// `call.max_connections` is reached.
    MaxConnections,
    /// The share of the ingress ports is taken, by callers who have spoken.
    IngressShare,
    /// `call.max_connections_per_address` is reached.
    PerAddress,
    /// A worker could not take it.
    Busy,
}

impl Refused {
    /// Metric label and log field.
    pub fn label(self) -> &'static str {
        REFUSED[self as usize]
    }
}

/// Counters of one worker for one side and protocol.
#[derive(Debug)]
pub struct CallShard {
    pub(super) side: Side,
    pub(super) protocol: &'static str,
    pub(super) calls: [Count; CALL_ENDS.len()],
    pub(super) local_replies: [Count; LOCAL_REPLIES.len()],
    pub(super) dropped: [Count; DROPPED.len()],
    pub(super) closed: [Count; CLOSE_REASONS_MAX],
    pub(super) duration: [Count; BUCKETS.len() + 1],
    pub(super) duration_sum_us: Count,
    /// Calls tried on a further instance.
    pub retries: Count,
    pub(super) ejections: [Count; EJECTED.len()],
    pub(super) refused: [Count; REFUSED.len()],
    /// Bytes held of frames that are not whole.
    pub half_read: Count,
    /// Bytes from downstream peers.
    pub bytes_in: Count,
    /// Bytes to downstream peers.
    pub bytes_out: Count,
    downstream_opened: Count,
    downstream_closed: Count,
    upstream_opened: Count,
    upstream_closed: Count,
    started: Count,
    ended: Count,
}

impl Default for CallShard {
    fn default() -> Self {
        Self {
            side: Side::Egress,
            protocol: "",
            calls: Default::default(),
            local_replies: Default::default(),
            dropped: Default::default(),
            closed: Default::default(),
            duration: Default::default(),
            duration_sum_us: Count::default(),
            retries: Count::default(),
            ejections: Default::default(),
            refused: Default::default(),
            half_read: Count::default(),
            bytes_in: Count::default(),
            bytes_out: Count::default(),
            downstream_opened: Count::default(),
            downstream_closed: Count::default(),
            upstream_opened: Count::default(),
            upstream_closed: Count::default(),
            started: Count::default(),
            ended: Count::default(),
        }
    }
}

impl CallShard {
    /// Which side.
    pub fn side(&self) -> Side {
        self.side
    }

    /// A call waits for its reply from now on.
    pub fn call_started(&self) {
        self.started.inc();
    }

    /// A call that had started is over.
    pub fn call_ended(&self, end: CallEnd, took: Duration) {
        self.ended.inc();
        self.count_call(end);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.duration_sum_us.add(us);
        self.duration[BUCKETS.partition_point(|(limit, _)| *limit < us)].inc();
    }

    /// A call that never started waiting: one-way, or answered at once.
    pub fn count_call(&self, end: CallEnd) {
        self.calls[end as usize].inc();
    }

    /// Calls that ended so.
    pub fn calls(&self, end: CallEnd) -> u64 {
        self.calls[end as usize].get()
    }

    /// Calls waiting for their reply.
    pub fn in_flight(&self) -> u64 {
        self.started.get().saturating_sub(self.ended.get())
    }

    /// A reply of ours; `reason` is one of [`LOCAL_REPLIES`], anything else counts as the last.
    pub fn local_reply(&self, reason: &'static str) {
        let index = LOCAL_REPLIES.iter().position(|r| *r == reason);
        self.local_replies[index.unwrap_or(LOCAL_REPLIES.len() - 1)].inc();
    }

    /// Replies of ours for that reason.
    pub fn local_replies(&self, reason: &str) -> u64 {
        let index = LOCAL_REPLIES.iter().position(|r| *r == reason);
        index.map_or(0, |i| self.local_replies[i].get())
    }

    /// A frame was not passed on.
    pub fn drop_frame(&self, why: Dropped) {
        self.dropped[why as usize].inc();
    }

    /// Frames not passed on for that reason.
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped[why as usize].get()
    }

    /// An instance is left alone from now on.
    pub fn ejected(&self, why: Ejected) {
        self.ejections[why as usize].inc();
    }

    /// Times that instances were left alone for that reason.
    pub fn ejections(&self, why: Ejected) -> u64 {
        self.ejections[why as usize].get()
    }

    /// A connection was refused at accept.
    pub fn refuse(&self, why: Refused) {
        self.refused[why as usize].inc();
    }

    /// Connections refused for that reason.
    pub fn refused(&self, why: Refused) -> u64 {
        self.refused[why as usize].get()
    }

    /// A connection of either kind was closed; `index` into [`CLOSE_REASONS`].
    pub fn connection_closed(&self, index: usize) {
        if let Some(count) = self.closed.get(index) {
            count.inc();
        }
    }

    /// Connections closed for that reason.
    pub fn closed(&self, reason: &str) -> u64 {
        let index = CLOSE_REASONS.iter().position(|r| *r == reason);
        index.map_or(0, |i| self.closed[i].get())
    }

    /// Counts a downstream connection for as long as the guard lives.
    pub fn downstream(self: &Arc<Self>) -> ConnectionGuard {
        self.downstream_opened.inc();
        ConnectionGuard {
            shard: self.clone(),
            closed: |shard| &shard.downstream_closed,
        }
    }

    /// Counts an upstream connection for as long as the guard lives.
    pub fn upstream(self: &Arc<Self>) -> ConnectionGuard {
        self.upstream_opened.inc();
        ConnectionGuard {
            shard: self.clone(),
            closed: |shard| &shard.upstream_closed,
        }
    }

    /// Open downstream connections.
    pub fn downstream_connections(&self) -> u64 {
        self.downstream_opened
            .get()
            .saturating_sub(self.downstream_closed.get())
    }

    /// Open upstream connections.
    pub fn upstream_connections(&self) -> u64 {
        self.upstream_opened.get().saturating_sub(self.upstream_closed.get())
    }
}

/// Keeps a connection counted; its drop ends that.
#[derive(Debug)]
pub struct ConnectionGuard {
    shard: Arc<CallShard>,
    closed: fn(&CallShard) -> &Count,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        (self.closed)(&self.shard).inc();
    }
}

/// Labels of [`CallEnd`], in its order.
pub(super) const CALL_ENDS: [&str; 7] = [
    "ok",
    "app_exception",
    "failed",
    "nothing_sent",
    "oneway",
    "local_reply",
    "abandoned",
];

/// Labels of [`Dropped`], in its order.
pub(super) const DROPPED: [&str; 6] = [
    "unknown_reply",
    "caller_gone",
    "unowned_request",
    "oneway",
    "too_long",
    "ignorable",
];

/// Reasons of local replies: those of the call path's errors.
pub const LOCAL_REPLIES: [&str; 18] = [
    "no_route",
    "no_application",
    "leaving",
    "no_instance",
    "unreachable",
    "upstream_closed",
    "overloaded",
    "timeout",
    "too_long",
    "reply_too_long",
    "opaque_body",
    "malformed_body",
    "draining",
    "cut_by_drain",
    "unowned_request",
    "caller_gone",
    "loop",
    "other",
];

/// Reasons for which instances are left alone, in the order of [`Ejected`].
pub const EJECTED: [&str; 4] = ["unreachable", "nothing_sent", "lost", "silent"];

/// Reasons for which connections are refused, in the order of [`Refused`].
pub const REFUSED: [&str; 5] = ["foreign", "max_connections", "ingress_share", "per_address", "busy"];

/// Reasons for which connections are closed, in the order of the call path's own list.
pub const CLOSE_REASONS: [&str; 14] = [
    "peer_closed",
    "broken",
    "connect_failed",
    "not_the_protocol",
    "bad_frame",
    "write_stalled",
    "write_cap",
    "frame_stalled",
    "half_read",
    "heartbeat_missed",
    "idle",
    "made_way",
    "retired",
    "drained",
];
const CLOSE_REASONS_MAX: usize = CLOSE_REASONS.len();

/// Upper ends of the buckets of the duration: in microseconds, and in seconds as they are shown.
pub(super) const BUCKETS: [(u64, f64); 16] = [
    (100, 0.0001),
    (250, 0.00025),
    (500, 0.0005),
    (1_000, 0.001),
    (2_500, 0.0025),
    (5_000, 0.005),
    (10_000, 0.01),
    (25_000, 0.025),
    (50_000, 0.05),
    (100_000, 0.1),
    (250_000, 0.25),
    (500_000, 0.5),
    (1_000_000, 1.0),
    (2_500_000, 2.5),
    (10_000_000, 10.0),
    (60_000_000, 60.0),
];

#[cfg(test)]
mod tests;
