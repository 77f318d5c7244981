// SPDX-License-Identifier: Apache-2.0
//! The order of what one application is sent.
//!
//! A ZooKeeper client drops its connection when replies come out of the order of its requests. Some replies here come
//! from the real registry, some are made on the spot, some wait for a list; each takes its place in the line when its
//! request arrives, and leaves when everything before it has left.
//! Events have no place of their own, they follow a reply: what must not be overtaken is said at each method.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// A reply's place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

/// Replies in the order of their requests. Bounded by whoever reserves places.
#[derive(Debug, Default)]
pub(super) struct Line {
    slots: VecDeque<Slot>,
    /// Number of the front slot.
    first: u64,
    /// The last filled slot, and the last one filled with something the real registry said.
    last_filled: Option<u64>,
    last_upstream: Option<u64>,
    /// Bytes of what waits.
    bytes: usize,
    /// Highest zxid of what left.
    shown: i64,
}

#[derive(Debug, Default)]
struct Slot {
    reply: Option<Bytes>,
    is_local: bool,
    /// Events that the application must see after the reply.
    events: Vec<Bytes>,
}

/// Where a reply's content comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A reply of the real registry, or made from one.
    Upstream,
    /// Made here.
    Local,
}

impl Line {
    /// Takes the next place.
    pub(super) fn reserve(&mut self) -> Place {
        self.slots.push_back(Slot::default());
        Place(self.first + self.slots.len() as u64 - 1)
    }

    /// A line for an application that was shown `zxid` on an earlier connection.
    pub(super) fn after(zxid: i64) -> Self {
        Self {
            shown: zxid,
            ..Self::default()
        }
    }

    /// The highest zxid that the application was shown.
    pub(super) fn shown(&self) -> i64 {
        self.shown
    }

    /// Places that have not left.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes that wait for what is before them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a whole frame at its place. A place is filled once; a second frame replaces the first.
    pub(super) fn fill(&mut self, place: Place, frame: Bytes, origin: Origin) {
        let Some(slot) = self.slot(place.0) else { return };
        let length = frame.len();
        let before = slot.reply.replace(frame).map_or(0, |frame| frame.len());
        slot.is_local = origin == Origin::Local;
        self.bytes = self.bytes.saturating_add(length).saturating_sub(before);
        self.last_filled = self.last_filled.max(Some(place.0));
        if origin == Origin::Upstream {
            self.last_upstream = self.last_upstream.max(Some(place.0));
        }
    }

    /// An event from the real registry: after every reply that came before it (the one that armed the watch may still be
    /// in line), before every reply that comes later.
    pub(super) fn upstream_event(&mut self, frame: Bytes, out: &mut BytesMut) {
        self.event_after(self.last_upstream, frame, out);
    }

    /// An event made here: after every reply filled so far.
    pub(super) fn local_event(&mut self, frame: Bytes, out: &mut BytesMut) {
        self.event_after(self.last_filled, frame, out);
    }

    /// Moves what may leave to the end of `out`. zxids never run backwards: one made here, or one that waited, gets the
    /// highest of those before it.
    pub(super) fn leave(&mut self, out: &mut BytesMut) {
        while self.slots.front().is_some_and(|slot| slot.reply.is_some()) {
            let Some(slot) = self.slots.pop_front() else { return };
            self.first += 1;
            let reply = slot.reply.unwrap_or_default();
            self.bytes = self.bytes.saturating_sub(reply.len());
            let start = out.len();
            out.extend_from_slice(&reply);
            if let Some(place) = out.get_mut(start..).and_then(|frame| frame.get_mut(ZXID)) {
                self.shown = restamped(place, self.shown, slot.is_local);
            }
            for event in slot.events {
                out.extend_from_slice(&event);
            }
        }
    }

    fn event_after(&mut self, number: Option<u64>, frame: Bytes, out: &mut BytesMut) {
        match number.and_then(|n| self.slot(n)) {
            Some(slot) => slot.events.push(frame),
            None => out.extend_from_slice(&frame),
        }
    }

    fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(index)
    }
}

/// Where a frame has its zxid: behind its length and the request's number.
const ZXID: std::ops::Range<usize> = 8..16;

// A zxid of 0 says nothing (`auth`), and stays.
fn restamped(place: &mut [u8], shown: i64, is_local: bool) -> i64 {
    let mut number = [0; 8];
    number.copy_from_slice(place);
    let zxid = i64::from_be_bytes(number);
    let zxid = match (is_local, zxid > 0) {
        (true, _) => shown,
        (false, true) => zxid.max(shown),
        (false, false) => return shown,
    };
    place.copy_from_slice(&zxid.to_be_bytes());
    zxid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(line: &mut Line, out: &mut BytesMut) -> String {
        line.leave(out);
        String::from_utf8(out.split().to_vec()).unwrap()
    }

    #[test]
    fn a_local_reply_waits_for_the_upstream_one_before_it() {
        let (mut line, mut out) = (Line::default(), BytesMut::new());
        let upstream = line.reserve();
        let local = line.reserve();
        line.fill(local, Bytes::from_static(b"L"), Origin::Local);
        assert_eq!(left(&mut line, &mut out), "");
        line.fill(upstream, Bytes::from_static(b"U"), Origin::Upstream);
        assert_eq!(left(&mut line, &mut out), "UL");
    }

    #[test]
    fn an_upstream_event_stays_behind_the_reply_that_armed_it() {
        let (mut line, mut out) = (Line::default(), BytesMut::new());
        let slow = line.reserve();
        let arming = line.reserve();
        let later = line.reserve();
        line.fill(arming, Bytes::from_static(b"A"), Origin::Upstream);
        line.upstream_event(Bytes::from_static(b"e"), &mut out);
        line.fill(later, Bytes::from_static(b"B"), Origin::Upstream);
        line.fill(slow, Bytes::from_static(b"S"), Origin::Upstream);
        assert_eq!(left(&mut line, &mut out), "SAeB");
    }

    #[test]
    fn an_upstream_event_overtakes_local_replies_that_wait() {
        let (mut line, mut out) = (Line::default(), BytesMut::new());
        let reread = line.reserve();
        let local = line.reserve();
        line.fill(local, Bytes::from_static(b"L"), Origin::Local);
        line.upstream_event(Bytes::from_static(b"e"), &mut out);
        line.fill(reread, Bytes::from_static(b"R"), Origin::Upstream);
        assert_eq!(left(&mut line, &mut out), "eRL");
    }

    #[test]
    fn a_local_event_stays_behind_local_replies() {
        let (mut line, mut out) = (Line::default(), BytesMut::new());
        let upstream = line.reserve();
        let local = line.reserve();
        line.fill(local, Bytes::from_static(b"L"), Origin::Local);
        line.local_event(Bytes::from_static(b"e"), &mut out);
        line.fill(upstream, Bytes::from_static(b"U"), Origin::Upstream);
        assert_eq!(left(&mut line, &mut out), "ULe");
    }
}
