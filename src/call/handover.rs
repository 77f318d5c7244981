// SPDX-License-Identifier: Apache-2.0
//! The call path changes hands: every connection, with what is half read, half written and in flight on it.
//!
//! Freezing happens on each worker's thread between two of its turns, when no frame is half cut and no write half done: what
//! waits is plain data then. So the next process goes on with the very next byte, calls in flight keep their place in the
//! stream tables of their upstream connections, and a late reply finds its caller as if nothing had happened. Nothing
//! is closed, nobody is told to go away.
//!
//! ```text
//! worker thread --freeze--> Frozen (one per worker) --into_parts--> Part (text, bytes, descriptors) --> other process
//!                                                   <--of_parts---                                  <--
//!               <--adopt---
//! ```
//! What is not handed over: counters, instances that were held to be unreachable, calls whose caller is gone.
//! `wire/handover.rs`, `connection/handover.rs`, `upstream/connection/handover.rs`, `dispatch/handover.rs` have what
//! belongs to one of them each.

mod part;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use tokio::time::Instant;
use tracing::{info, warn};

use super::connection::Downstream;
use super::connection::handover::FrozenDownstream;
use super::listener::Door;
use super::upstream::connection::Upstream;
use super::upstream::connection::handover::FrozenUpstream;
use super::worker::Worker;

pub use part::{HandoverError, Part, into_parts, of_parts};

/// What one worker had.
#[derive(Debug, Default)]
pub struct Frozen {
    pub(super) downstreams: Vec<FrozenDownstream>,
    pub(super) upstreams: Vec<FrozenUpstream>,
}

/// Connections by their number in what is handed over.
pub(super) type ById<T> = HashMap<usize, Rc<T>>;

impl Frozen {
    /// Connections in it.
    pub fn connections(&self) -> usize {
        let opened = self.upstreams.iter().filter(|u| u.wire.stream.is_some());
        self.downstreams.len() + opened.count()
    }

    /// The ports that its connections came to.
    pub(super) fn doors(&self) -> impl Iterator<Item = SocketAddr> {
        self.downstreams.iter().map(|downstream| downstream.text.door)
    }

    /// Calls in flight in it.
    pub fn calls(&self) -> usize {
        self.upstreams.iter().map(|upstream| upstream.calls.len()).sum()
    }
}

impl Worker {
    /// Takes everything out of this worker, which does nothing any more afterwards.
    pub(super) fn freeze(&self) -> Frozen {
        let now = Instant::now();
        let downstreams = std::mem::take(&mut *self.downstreams.borrow_mut());
        let upstreams = std::mem::take(&mut *self.upstreams.borrow_mut());
        let numbers: HashMap<*const Downstream, usize> =
            downstreams.iter().map(|(id, d)| (Rc::as_ptr(d), id)).collect();
        let upstream_numbers: HashMap<*const Upstream, usize> =
            upstreams.iter().map(|(id, u)| (Rc::as_ptr(u), id)).collect();
        let frozen = Frozen {
            upstreams: upstreams
                .iter()
                .filter_map(|(id, u)| u.freeze(id, &numbers, now))
                .collect(),
            downstreams: downstreams
                .iter()
                .filter_map(|(id, d)| d.freeze(id, &upstream_numbers, now))
                .collect(),
        };
        let (connections, calls) = (frozen.connections(), frozen.calls());
        info!(worker = self.index, connections, calls, "connections are handed over");
        frozen
    }

    /// Goes on with what another worker had; gives how many connections that are. Nothing is read or written before this
    /// worker may begin.
    pub(super) fn adopt(self: &Rc<Self>, frozen: Frozen, doors: &[Arc<Door>]) -> usize {
        let now = Instant::now();
        let offered = frozen.connections();
        let mut downstreams = ById::default();
        let mut callbacks = Vec::new();
        for one in frozen.downstreams {
            let id = one.text.id;
            if let Some((downstream, waiting)) = Downstream::adopt(self, one, doors, now) {
                callbacks.push((downstream.clone(), waiting));
                downstreams.insert(id, downstream);
            }
        }
        let mut upstreams = ById::default();
        for one in frozen.upstreams {
            let id = one.text.id;
            if let Some(upstream) = Upstream::adopt(self, one, &downstreams, now) {
                upstreams.insert(id, upstream);
            }
        }
        for (downstream, waiting) in callbacks {
            downstream.adopt_callbacks(self, waiting, &upstreams, now);
        }
        let connected = upstreams.values().filter(|upstream| upstream.is_ready());
        let adopted = downstreams.len() + connected.count();
        if adopted < offered {
            let lost = offered - adopted;
            warn!(lost, "connections could not be taken over, they are closed");
        }
        info!(worker = self.index, connections = adopted, "connections are taken over");
        adopted
    }
}
