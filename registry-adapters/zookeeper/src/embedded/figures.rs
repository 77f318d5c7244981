// SPDX-License-Identifier: Apache-2.0
//! Figures of the registry.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Shared;

/// How much there is, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Nodes, with ZooKeeper's own four.
    pub nodes: usize,
    /// Nodes that go with a session.
    pub ephemerals: usize,
    /// Paths and data together.
    pub data_bytes: usize,
    /// Live sessions, connected or not.
    pub sessions: usize,
    /// Connections.
    pub connections: usize,
    /// Watches.
    pub watches: usize,
    /// Frames that wait to be sent.
    pub outstanding: usize,
    /// The last change.
    pub zxid: i64,
    /// Whether changes can be written to disk now.
    pub is_writable: bool,
}

impl Shared {
    pub(super) fn figures(&self) -> Figures {
        let core = self.lock();
        Figures {
            nodes: core.tree.len(),
            ephemerals: core.tree.ephemeral_count(),
            data_bytes: core.tree.data_bytes(),
            sessions: core.sessions.len(),
            connections: core.connection_count(),
            watches: core.watches.count(),
            outstanding: core.waiting_frames(),
            zxid: core.zxid(),
            is_writable: !self.is_stuck.load(Ordering::Relaxed),
        }
    }
}

/// Counters of all connections.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
    // Of each batch of replies: from being made to being allowed to leave.
    waits: AtomicU64,
    waited_us: AtomicU64,
    max_us: AtomicU64,
    // Complement of the smallest, so that 0 means none yet.
    min_us_complement: AtomicU64,
}

/// What [`Traffic`] says.
pub(super) struct TrafficFigures {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) min_ms: u64,
    pub(super) average_ms: f64,
    pub(super) max_ms: u64,
}

impl Traffic {
    pub(super) fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, frames: usize, waited: Duration) {
        let us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.sent.fetch_add(frames as u64, Ordering::Relaxed);
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.waited_us.fetch_add(us, Ordering::Relaxed);
        self.max_us.fetch_max(us, Ordering::Relaxed);
        self.min_us_complement.fetch_max(u64::MAX - us, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> TrafficFigures {
        let waits = self.waits.load(Ordering::Relaxed);
        let min_us = match self.min_us_complement.load(Ordering::Relaxed) {
            0 => 0,
            complement => u64::MAX - complement,
        };
        TrafficFigures {
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            min_ms: min_us / 1000,
            average_ms: self.waited_us.load(Ordering::Relaxed) as f64 / 1000.0 / waits.max(1) as f64,
            max_ms: self.max_us.load(Ordering::Relaxed) / 1000,
        }
    }
}
