// SPDX-License-Identifier: Apache-2.0
//! What the facade counts, for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one facade. Read at any time, from any thread.
#[derive(Debug, Default)]
pub struct Stats {
    /// Clients' connections open now.
    pub connections: AtomicU64,
    /// Publishers known now, those of lost connections included while their grace lasts.
    pub publishers: AtomicU64,
    /// Subscribers known now.
    pub subscribers: AtomicU64,
    /// Configurators known now.
    pub configurators: AtomicU64,
    /// Registrations and their ends answered.
    pub registrations: AtomicU64,
    /// Of these, taken to or from a SOFARegistry as they are, because they are not SOFARPC's.
    pub relayed: AtomicU64,
    /// Of these, refused for good; the client does not try again.
    pub refused_registrations: AtomicU64,
    /// Of these, refused for now; the client tries again within a second.
    pub postponed_registrations: AtomicU64,
    /// Publishers that came back on a new connection within the grace.
    pub resumed: AtomicU64,
    /// Publishers withdrawn because their connection did not come back.
    pub expired: AtomicU64,
    /// Pushes sent.
    pub pushes: AtomicU64,
    /// Pushes that were not answered in time or not taken, and sent again.
    pub push_failures: AtomicU64,
    /// Requests for the list of session servers, and the like.
    pub http_requests: AtomicU64,
    /// Connections closed over bytes that could not be read.
    pub malformed: AtomicU64,
    /// Requests whose content could not be read, answered with an error.
    pub unreadable: AtomicU64,
    /// Requests over the limit, refused from their length.
    pub oversized: AtomicU64,
    /// Connections refused because the limit was reached.
    pub refused: AtomicU64,
    /// Connections refused because their machine or user may not use the door.
    pub denied: AtomicU64,
    /// Connections that said nothing and were closed for others when the limit was reached.
    pub made_way: AtomicU64,
    /// Connections closed because nothing was heard for too long.
    pub idle: AtomicU64,
    /// Applications that did not read what was sent to them in time.
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
    stats: Arc<Stats>,
    gauge: fn(&Stats) -> &AtomicU64,
}

impl Raised {
    pub(super) fn new(stats: &Arc<Stats>, gauge: fn(&Stats) -> &AtomicU64) -> Self {
        gauge(stats).fetch_add(1, Ordering::Relaxed);
        Self {
            stats: Arc::clone(stats),
            gauge,
        }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        (self.gauge)(&self.stats).fetch_sub(1, Ordering::Relaxed);
    }
}
