// SPDX-License-Identifier: Apache-2.0
//! What a door counts, for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a request was refused; the labels are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its machine or user may not use the door.
    Peer,
    /// `Host` is a name that is not allowed.
    Host,
    /// It came from a web page.
    Origin,
    /// Path, method or content type that the door does not have.
    Request,
    /// The body is too long or did not come in time.
    Body,
    /// The body lacks a key, or one has a wrong type or value.
    Key,
    /// No setting says the application's port, or another application has it.
    Port,
    /// A protocol that no plugin speaks.
    Protocol,
    /// Another user's registration or port.
    Owner,
    /// The registry behind cannot hold it.
    Registry,
    /// As many registrations as are kept.
    Full,
}

impl Refusal {
    /// Every reason, in the order of [`Stats::refused`].
    pub const ALL: [Self; 11] = [
        Self::Peer,
        Self::Host,
        Self::Origin,
        Self::Request,
        Self::Body,
        Self::Key,
        Self::Port,
        Self::Protocol,
        Self::Owner,
        Self::Registry,
        Self::Full,
    ];

    /// Metric label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Request => "request",
            Self::Body => "body",
            Self::Key => "key",
            Self::Port => "port",
            Self::Protocol => "protocol",
            Self::Owner => "owner",
            Self::Registry => "registry",
            Self::Full => "full",
        }
    }
}

/// How far a registration is; the labels are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its port has not been open yet.
    Waiting,
    /// Published.
    Published,
    /// Withdrawn since its port is closed; an open port brings it back.
    Away,
    /// Its port is open, but discovery or its owner forbids to publish; tried again.
    Refused,
}

impl State {
    /// Every state, in the order of [`Stats::registrations`].
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Published, Self::Away, Self::Refused];

    /// Metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Published => "published",
            Self::Away => "away",
            Self::Refused => "refused",
        }
    }
}

/// Counters of one door. Read at any time, from any thread.
#[derive(Debug, Default)]
pub struct Stats {
    /// Publish requests that were accepted.
    pub publishes: AtomicU64,
    /// Unpublish requests that were accepted.
    pub unpublishes: AtomicU64,
    /// Subscribe requests that were accepted.
    pub subscribes: AtomicU64,
    /// Unsubscribe requests that were accepted.
    pub unsubscribes: AtomicU64,
    /// Heartbeats.
    pub heartbeats: AtomicU64,
    /// Regular looks at all ports that are over, with what they led to.
    pub(crate) looks: AtomicU64,
    /// Looks at a published application's port that found it closed.
    pub probes_failed: AtomicU64,
    /// Registrations withdrawn because their port was closed.
    pub withdrawn: AtomicU64,
    /// Leases that ended without a heartbeat.
    pub leases_expired: AtomicU64,
    /// Times that the registrations could not be written to disk.
    pub store_failures: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU64,
    /// Services followed now.
    pub follows: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    registrations: [AtomicU64; State::ALL.len()],
}

impl Stats {
    /// Refused requests by reason, since the start.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.refused.iter().map(|count| count.load(Ordering::Relaxed));
        Refusal::ALL.iter().map(|refusal| refusal.reason()).zip(counts)
    }

    /// Registrations by state, now.
    pub fn registrations(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.registrations.iter().map(|count| count.load(Ordering::Relaxed));
        State::ALL.iter().map(|state| state.label()).zip(counts)
    }

    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self, refusal: Refusal) {
        if let Some(counter) = Refusal::ALL
            .iter()
            .position(|r| *r == refusal)
            .and_then(|at| self.refused.get(at))
        {
            Self::count(counter);
        }
    }

    /// Sets the gauge of every state.
    pub(crate) fn show_registrations(&self, count_of: impl Fn(State) -> usize) {
        for (state, gauge) in State::ALL.iter().zip(&self.registrations) {
            gauge.store(count_of(*state) as u64, Ordering::Relaxed);
        }
    }
}

/// Raises a gauge for as long as it lives.
#[derive(Debug)]
pub(crate) struct Raised {
    stats: Arc<Stats>,
    gauge: fn(&Stats) -> &AtomicU64,
}

impl Raised {
    pub(crate) fn new(stats: Arc<Stats>, gauge: fn(&Stats) -> &AtomicU64) -> Self {
        gauge(&stats).fetch_add(1, Ordering::Relaxed);
        Self { stats, gauge }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        (self.gauge)(&self.stats).fetch_sub(1, Ordering::Relaxed);
    }
}
