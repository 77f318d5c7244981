// SPDX-License-Identifier: Apache-2.0
//! Memory for frames that have begun and are not whole, over all connections.
//!
//! One frame may be as long as `max_frame`, and every connection may have begun one. Above `half_read_cap` those that have begun are
//! not read on (back-pressure, as for a peer that writes slowly) but for the one that began first, until it is whole: so there
//! is progress however many are half-way. Meanwhile a peer that sends next to nothing is closed, and so is, above twice the
//! cap, one for each further frame that begins.
//!
//! Callers at the ingress ports have one cap, all others (the applications here and the instances that they call) another one, so
//! that no other host slows them down. Short beginnings are not counted: they cost less than the connection.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::wire::{CloseReason, Wire};

/// Bytes counted for the two kinds of peers, of all workers.
#[derive(Debug, Default)]
pub(super) struct Totals([AtomicUsize; 2]);

/// One worker's frames that have begun.
#[derive(Debug, Default)]
pub(super) struct HalfReads {
    totals: Arc<Totals>,
    groups: [RefCell<Group>; 2],
    /// Connections closed since the last look.
    closed: Cell<usize>,
}

/// Those of one kind of peers.
#[derive(Debug, Default)]
struct Group {
    next: u64,
    /// In the order in which they began.
    begun: BTreeMap<u64, Begun>,
    /// Those that would be read and are not.
    waiting: BTreeSet<u64>,
    /// The one that is read although there is no room.
    favoured: Option<u64>,
}

#[derive(Debug)]
struct Begun {
    wire: Rc<Wire>,
    /// Since when its speed is measured, and what had been read then.
    since: Instant,
    bytes: u64,
}

/// What is counted for one wire.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Half {
    bytes: usize,
    number: u64,
    waits: bool,
}

impl Half {
    /// Bytes counted; 0 while no long frame has begun.
    pub(super) fn bytes(self) -> usize {
        self.bytes
    }

    /// Whether it is not read for lack of room.
    pub(super) fn waits(self) -> bool {
        self.waits
    }
}

impl HalfReads {
    pub(super) fn new(totals: Arc<Totals>) -> Self {
        Self {
            totals,
            ..Self::default()
        }
    }

    /// What is kept of a frame has changed; `is_same` unless another one has begun.
    pub(super) fn count(&self, wire: &Rc<Wire>, kept: usize, is_same: bool, cap: usize) {
        let bytes = if kept > UNCOUNTED_MAX { kept } else { 0 };
        let before = wire.half.get().bytes;
        if before > 0 && (bytes == 0 || !is_same) {
            self.forget(wire, cap);
        }
        if bytes == 0 {
            return;
        }
        let is_new = wire.half.get().bytes == 0;
        if is_new {
            let mut group = self.group(wire).borrow_mut();
            let number = group.next;
            group.next += 1;
            let mut begun = Begun {
                wire: wire.clone(),
                since: Instant::now(),
                bytes: 0,
            };
            begun.measure(begun.since);
            group.begun.insert(number, begun);
            let half = wire.half.get();
            wire.half.set(Half { number, ..half });
        }
        self.set(wire, bytes);
        if is_new && self.total(wire) > cap.saturating_mul(2) {
            self.make_room(wire, cap);
        }
    }

    /// Whether a wire whose frame has begun may be read on.
    pub(super) fn may_grow(&self, wire: &Wire, cap: usize) -> bool {
        let half = wire.half.get();
        let mut group = self.group(wire).borrow_mut();
        let is_free = self.total(wire) <= cap
            || group.favoured == Some(half.number)
            || (group.favoured.is_none() && group.waiting.first().is_none_or(|first| *first >= half.number));
        if is_free && self.total(wire) > cap {
            group.favoured = Some(half.number);
        }
        if is_free && half.waits {
            group.waiting.remove(&half.number);
            wire.half.set(Half { waits: false, ..half });
        }
        is_free
    }

    /// There is something to read on a wire that may not grow.
    pub(super) fn wait(&self, wire: &Wire) {
        let half = wire.half.get();
        self.group(wire).borrow_mut().waiting.insert(half.number);
        wire.half.set(Half { waits: true, ..half });
    }

    /// The frame is whole, or the wire is closed.
    pub(super) fn forget(&self, wire: &Wire, cap: usize) {
        let half = wire.half.get();
        if half.bytes == 0 {
            return;
        }
        self.set(wire, 0);
        wire.half.take();
        let mut group = self.group(wire).borrow_mut();
        group.begun.remove(&half.number);
        group.waiting.remove(&half.number);
        group.favoured = group.favoured.filter(|number| *number != half.number);
        drop(group);
        self.go_on(index(wire), cap);
    }

    /// Closes those that are slow while there is no room, and lets those go on that may; call about once a second.
    pub(super) fn tend(&self, cap: usize, now: Instant) {
        for at in 0..self.groups.len() {
            let is_over = self.totals.0[at].load(Ordering::Relaxed) > cap;
            let mut slow = Vec::new();
            let mut group = self.groups[at].borrow_mut();
            for begun in group.begun.values_mut().filter(|_| is_over) {
                let grown = begun.wire.traffic().0.saturating_sub(begun.bytes);
                let time = now.saturating_duration_since(begun.since);
                if begun.wire.is_paused() {
                    begun.measure(now);
                } else if time >= SPEED_WINDOW {
                    if u128::from(grown) < u128::from(SPEED_MIN) * time.as_millis() / 1000 {
                        slow.push(begun.wire.clone());
                    }
                    begun.measure(now);
                }
            }
            // One that is not read for another reason holds nobody up.
            let favoured = group.favoured.and_then(|number| group.begun.get(&number));
            if favoured.is_none_or(|begun| begun.wire.is_paused()) {
                group.favoured = None;
            }
            drop(group);
            slow.iter().for_each(|wire| self.close(wire, cap));
            self.go_on(at, cap);
        }
        let connections = self.closed.take();
        if connections > 0 {
            warn!(
                connections,
                cap, "connections closed: frames read in part took too much memory"
            );
        }
    }

    /// Does not let those wait for long for whom the one that is read has nothing to read; true if it is to be called again soon.
    pub(super) fn pass_on(&self, cap: usize, now: Instant) -> bool {
        let mut waits = false;
        for at in 0..self.groups.len() {
            let mut group = self.groups[at].borrow_mut();
            if group.waiting.is_empty() {
                continue;
            }
            waits = true;
            let favoured = group.favoured.and_then(|number| group.begun.get(&number));
            let is_idle =
                |begun: &&Begun| now.saturating_duration_since(begun.since.max(begun.wire.last_read())) >= FAVOUR_IDLE;
            let idle = favoured.filter(is_idle).map(|begun| begun.wire.clone());
            if let Some(idle) = idle {
                // It holds what it has, so nobody else may add much.
                let is_full = self.totals.0[at].load(Ordering::Relaxed) > cap.saturating_mul(2);
                group.favoured = None;
                drop(group);
                if is_full {
                    self.close(&idle, cap);
                }
                self.go_on(at, cap);
            }
        }
        waits
    }

    /// Another frame has begun where there is no room for it: one of the first ones goes, rather one that stands still, then the one
    /// that holds most.
    fn make_room(&self, wire: &Rc<Wire>, cap: usize) {
        let group = self.group(wire).borrow();
        let first = group.begun.iter().take(LOOK_MAX);
        let first = first.filter(|(number, _)| group.favoured != Some(**number));
        let worth = |wire: &Wire| (!wire.is_paused(), wire.half.get().bytes);
        let worst = first.map(|(_, begun)| &begun.wire).max_by_key(|wire| worth(wire));
        let leaves = worst.unwrap_or(wire).clone();
        drop(group);
        self.close(&leaves, cap);
    }

    fn close(&self, wire: &Rc<Wire>, cap: usize) {
        wire.close(CloseReason::HalfRead);
        self.closed.set(self.closed.get() + 1);
        self.forget(wire, cap);
    }

    /// All that wait if there is room, the first of them if nobody is read.
    fn go_on(&self, at: usize, cap: usize) {
        let mut group = self.groups[at].borrow_mut();
        let numbers = if self.totals.0[at].load(Ordering::Relaxed) <= cap {
            group.favoured = None;
            std::mem::take(&mut group.waiting)
        } else if group.favoured.is_none() {
            group.favoured = group.waiting.pop_first();
            group.favoured.into_iter().collect()
        } else {
            return;
        };
        let now = Instant::now();
        let mut free = Vec::new();
        for number in numbers {
            if let Some(begun) = group.begun.get_mut(&number) {
                begun.measure(now);
                free.push(begun.wire.clone());
            }
        }
        drop(group);
        for wire in free {
            let half = wire.half.get();
            wire.half.set(Half { waits: false, ..half });
            wire.read_on(now);
        }
    }

    fn set(&self, wire: &Wire, bytes: usize) {
        let half = wire.half.get();
        wire.half.set(Half { bytes, ..half });
        let total = &self.totals.0[index(wire)];
        if bytes > half.bytes {
            total.fetch_add(bytes - half.bytes, Ordering::Relaxed);
        } else {
            total.fetch_sub(half.bytes - bytes, Ordering::Relaxed);
        }
        wire.shard.half_read.change(half.bytes, bytes);
    }

    fn total(&self, wire: &Wire) -> usize {
        self.totals.0[index(wire)].load(Ordering::Relaxed)
    }

    fn group(&self, wire: &Wire) -> &RefCell<Group> {
        &self.groups[index(wire)]
    }
}

impl Begun {
    fn measure(&mut self, now: Instant) {
        self.since = now;
        self.bytes = self.wire.traffic().0;
    }
}

fn index(wire: &Wire) -> usize {
    usize::from(!wire.is_of_guest())
}

/// Longest beginning that is not counted: most requests are shorter and never take part.
pub(super) const UNCOUNTED_MAX: usize = 8 << 10;
/// What a peer must send while there is no room, in bytes a second: less than any link between hosts of one site has.
const SPEED_MIN: u64 = 256 << 10;
/// Shortest time over which that is measured.
const SPEED_WINDOW: Duration = Duration::from_secs(2);
/// Time without a byte after which another frame is read in its place.
const FAVOUR_IDLE: Duration = Duration::from_millis(100);
/// Frames that are looked at for one that makes room.
const LOOK_MAX: usize = 16;
