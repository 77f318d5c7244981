// SPDX-License-Identifier: Apache-2.0
//! The requests that one connection repeats: what is known of their route, found by their bytes instead of read from them.

use std::rc::Rc;
use std::time::Duration;

use remora_protocol::{Frame, KeyPrint, Protocol};

use super::router::LocalRoute;
use super::tally::Tally;

/// What the route keys of a request come to. Never one that registers a callback.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) route: Rc<LocalRoute>,
    /// That of the router when the route was found.
    pub(super) generation: u64,
    /// The caller's own limit.
    pub(super) timeout: Option<Duration>,
    pub(super) serialization: Option<&'static str>,
    /// Who calls what.
    pub(super) line: Rc<Tally>,
}

/// The last few kinds of requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: Vec<(KeyPrint, Facts)>,
    /// Requests since one was recognized.
    misses: u32,
}

impl Recent {
    /// What is known of a request like this one, if the routes are still those of `generation`.
    pub(super) fn find(&mut self, protocol: &dyn Protocol, request: &Frame, generation: u64) -> Option<&mut Facts> {
        let found = self
            .entries
            .iter()
            .position(|(print, facts)| facts.generation == generation && protocol.has_keys(request, print))?;
        self.misses = 0;
        if found > 0 {
            self.entries.swap(0, found);
        }
        self.entries.first_mut().map(|(_, facts)| facts)
    }

    /// Remembers a request that was not found, in the place of the one that was found longest ago or of an outdated one.
    /// A connection whose requests are all different is left alone after a while.
    pub(super) fn remember(&mut self, protocol: &dyn Protocol, request: &Frame, facts: Facts) {
        self.misses = self.misses.saturating_add(1);
        if self.misses > MISSES_MAX && !self.misses.is_multiple_of(TRY_AGAIN) || request.wire.len() > LENGTH_MAX {
            return;
        }
        let outdated = self
            .entries
            .iter()
            .position(|(_, old)| old.generation != facts.generation);
        let mut print = match outdated {
            Some(index) => self.entries.swap_remove(index).0,
            None if self.entries.len() >= ENTRIES_MAX => self.entries.pop().map(|(print, _)| print).unwrap_or_default(),
            None => KeyPrint::default(),
        };
        if protocol.print_keys(request, &mut print) {
            self.entries.push((print, facts));
            let last = self.entries.len() - 1;
            self.entries.swap(0, last);
        }
    }

    /// Forgets what outdated routes hold, or all.
    pub(super) fn clean(&mut self, generation: u64, is_idle: bool) {
        if is_idle {
            self.entries = Vec::new();
        } else {
            self.entries.retain(|(_, facts)| facts.generation == generation);
        }
    }
}

/// Kinds of requests that are remembered for one connection.
const ENTRIES_MAX: usize = 8;
/// Requests without one that is recognized, after which no more are remembered but each so many.
const MISSES_MAX: u32 = 64;
const TRY_AGAIN: u32 = 256;
/// Longest request that is remembered, in bytes; what it leaves behind is a part of it.
const LENGTH_MAX: usize = 16 << 10;
