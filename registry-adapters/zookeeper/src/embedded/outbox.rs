// SPDX-License-Identifier: Apache-2.0
//! What a connection has still to send. Everything in it waits until the change it tells of is on disk.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::sync::Notify;

/// Frames in the order in which they must be sent.
///
/// Bounded by its reader for replies (it stops reading when [`Outbox::len`] is too much); for events, which nobody can
/// refuse, by [`Outbox::is_over`]: the connection is closed, and its client asks again for what it missed.
#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    segments: VecDeque<Segment>,
    frames: usize,
    bytes: usize,
    is_last: bool,
    is_cut: bool,
}

// Frames that wait for the same change.
struct Segment {
    seq: u64,
    frames: usize,
    bytes: BytesMut,
    queued: Instant,
}

/// Frames that may be sent now.
pub(super) struct Ready {
    pub(super) bytes: BytesMut,
    pub(super) frames: usize,
    /// How long the oldest of them waited.
    pub(super) waited: Duration,
}

impl Outbox {
    /// Adds one frame, to be sent when change number `seq` is on disk.
    pub(super) fn push(&self, seq: u64, write: impl FnOnce(&mut BytesMut)) {
        let mut state = self.lock();
        if state.is_last || state.is_cut {
            return;
        }
        let fits = |tail: &Segment| tail.seq == seq && tail.bytes.len() < SEGMENT_BYTES;
        if !state.segments.back().is_some_and(fits) {
            state.segments.push_back(Segment {
                seq,
                frames: 0,
                bytes: BytesMut::new(),
                queued: Instant::now(),
            });
        }
        if let Some(tail) = state.segments.back_mut() {
            let before = tail.bytes.len();
            write(&mut tail.bytes);
            tail.frames += 1;
            let added = tail.bytes.len() - before;
            state.bytes += added;
            state.frames += 1;
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Takes the oldest frames if change number `durable` lets them go.
    pub(super) fn pop(&self, durable: u64) -> Option<Ready> {
        let mut state = self.lock();
        if state.segments.front()?.seq > durable {
            return None;
        }
        let segment = state.segments.pop_front()?;
        state.frames -= segment.frames;
        state.bytes -= segment.bytes.len();
        Some(Ready {
            waited: segment.queued.elapsed(),
            bytes: segment.bytes,
            frames: segment.frames,
        })
    }

    /// Whether the oldest frame waits for a change beyond `durable`.
    pub(super) fn is_waiting(&self, durable: u64) -> bool {
        self.lock()
            .segments
            .front()
            .is_some_and(|segment| segment.seq > durable)
    }

    /// Frames and bytes in it.
    pub(super) fn len(&self) -> (usize, usize) {
        let state = self.lock();
        (state.frames, state.bytes)
    }

    /// Whether more than `max_bytes` wait.
    pub(super) fn is_over(&self, max_bytes: usize) -> bool {
        self.lock().bytes > max_bytes
    }

    /// Nothing may follow; the connection closes once all is sent.
    pub(super) fn finish(&self) {
        self.lock().is_last = true;
        self.wake.notify_one();
    }

    /// The connection closes now; what waits is dropped.
    pub(super) fn cut(&self) {
        self.lock().is_cut = true;
        self.wake.notify_one();
    }

    /// Whether [`Outbox::finish`] was called and all is taken.
    pub(super) fn is_finished(&self) -> bool {
        let state = self.lock();
        state.is_last && state.segments.is_empty()
    }

    /// Whether nothing more is read from the peer.
    pub(super) fn is_closing(&self) -> bool {
        let state = self.lock();
        state.is_last || state.is_cut
    }

    /// Whether [`Outbox::cut`] was called.
    pub(super) fn is_cut(&self) -> bool {
        self.lock().is_cut
    }

    /// Returns after something changed.
    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Lets [`Outbox::changed`] return.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// Beyond this, growing one buffer costs more than starting another.
const SEGMENT_BYTES: usize = 256 * 1024;
