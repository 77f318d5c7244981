// SPDX-License-Identifier: Apache-2.0
//! What the facade counts, for metrics and for the four-letter words.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one facade. Read at any time, from any thread.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections open now.
    pub connections: AtomicU64,
    /// Sessions known now: connected, or within their timeout.
    pub sessions: AtomicU64,
    /// Connections of sessions that are kept here while the registry is away.
    pub stand_ins: AtomicU64,
    /// Nodes of which a last known copy is kept.
    pub copies: AtomicU64,
    /// Times such a copy was shown to an application.
    pub copies_shown: AtomicU64,
    /// Nodes that were written while the registry was away, and that it is not told yet.
    pub owed: AtomicU64,
    /// Published nodes that were gone and were made again.
    pub restored: AtomicU64,
    /// Requests relayed as they were.
    pub relayed: AtomicU64,
    /// Requests on owned paths that were rewritten and sent on.
    pub owned: AtomicU64,
    /// Requests answered here.
    pub local: AtomicU64,
    /// Watch events made here.
    pub events: AtomicU64,
    /// Connections closed over bytes that could not be read.
    pub malformed: AtomicU64,
    /// Connections refused because the limit was reached.
    pub refused: AtomicU64,
    /// Connections refused because their machine or user may not use the door.
    pub denied: AtomicU64,
    /// Connections that said nothing and were closed for others when the limit was reached.
    pub made_way: AtomicU64,
    /// Times the real registry could not be reached, or was lost.
    pub upstream_failures: AtomicU64,
    /// Applications that did not read their replies in time.
    pub slow_readers: AtomicU64,
}

impl Stats {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Raises a gauge for as long as it lives.
#[derive(Debug)]
pub(super) struct Raised {
    stats: std::sync::Arc<Stats>,
    gauge: fn(&Stats) -> &AtomicU64,
}

impl Raised {
    pub(super) fn new(stats: std::sync::Arc<Stats>, gauge: fn(&Stats) -> &AtomicU64) -> Self {
        gauge(&stats).fetch_add(1, Ordering::Relaxed);
        Self { stats, gauge }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        (self.gauge)(&self.stats).fetch_sub(1, Ordering::Relaxed);
    }
}
