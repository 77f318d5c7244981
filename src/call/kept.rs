// SPDX-License-Identifier: Apache-2.0
//! What is kept of a request while it is in flight.
//!
//! Its head, for a reply of ours. All of it only where another instance could take it: until a connection has written it,
//! it stands in that connection's write buffer and is taken from there when the connection ends.

pub(super) mod handover;

use std::cell::Cell;

use bytes::Bytes;
use remora_protocol::{Frame, FrameKind, StreamId};

use super::frame_reader::READ_MAX;
use super::write_buffer::BufferStore;

/// What is kept of one request.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) kind: FrameKind,
    /// The caller's id.
    pub(super) stream_id: StreamId,
    is_whole: bool,
    /// Length of the head in bytes.
    head_len: u32,
    /// Length of the whole frame in bytes.
    pub(super) len: usize,
    bytes: KeptBytes,
}

/// The head, or the whole frame.
#[derive(Debug)]
enum KeptBytes {
    /// A short head.
    Inline([u8; INLINE_MAX]),
    /// In a buffer of the store.
    Buffer(Vec<u8>),
    /// On its own and counted against a budget. Boxed: it is rare, and what waits is to be small.
    Long(Box<Bytes>),
}

impl Kept {
    /// The head alone, for `Protocol::local_reply`.
    pub(super) fn head(&self) -> Frame {
        let head_len = self.head_len as usize;
        let wire = match &self.bytes {
            KeptBytes::Inline(head) => Bytes::copy_from_slice(&head[..head_len.min(INLINE_MAX)]),
            KeptBytes::Buffer(bytes) => Bytes::copy_from_slice(bytes),
            KeptBytes::Long(bytes) => Bytes::clone(bytes),
        };
        Frame {
            kind: self.kind,
            stream_id: self.stream_id,
            head_len: head_len.min(wire.len()),
            wire,
        }
    }

    /// Whether all of the request is here.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The whole request, if it was kept.
    pub(super) fn frame(&self) -> Option<Frame> {
        self.is_whole.then(|| self.head())
    }
}

/// Buffers and the budget of what one worker keeps.
#[derive(Debug, Default)]
pub(super) struct KeptStore {
    buffers: BufferStore,
    /// Bytes of whole requests that stand on their own.
    long: Cell<usize>,
}

impl KeptStore {
    /// Keeps what a further attempt or a reply of ours needs of a request. It is kept whole if there is another way for it,
    /// long ones while all of them fit into a budget.
    pub(super) fn keep(&self, request: &Frame, has_alternatives: bool) -> Kept {
        let wire = &request.wire;
        let head = request.head();
        let is_short = wire.len() <= COPY_MAX;
        let is_whole = has_alternatives && (is_short || self.long.get() + wire.len() <= LONG_MAX);
        let bytes = if is_whole && is_short {
            KeptBytes::Buffer(self.copy(wire))
        } else if is_whole {
            self.long.set(self.long.get() + wire.len());
            // Sharing a short one would hold all of the buffer it was read into.
            let is_shared = wire.len() > READ_MAX / 2;
            KeptBytes::Long(Box::new(if is_shared {
                wire.clone()
            } else {
                Bytes::copy_from_slice(wire)
            }))
        } else if head.len() <= INLINE_MAX {
            let mut inline = [0; INLINE_MAX];
            inline[..head.len()].copy_from_slice(head);
            KeptBytes::Inline(inline)
        } else {
            KeptBytes::Buffer(self.copy(head))
        };
        Kept {
            kind: request.kind,
            stream_id: request.stream_id,
            is_whole,
            // A head is far below 4 GiB: it lies within a frame.
            head_len: u32::try_from(head.len()).unwrap_or(u32::MAX),
            len: wire.len(),
            bytes,
        }
    }

    /// Completes what is kept by the request as it was found in a write buffer, under the caller's id again.
    pub(super) fn complete(&self, kept: &mut Kept, wire: Vec<u8>) {
        self.long.set(self.long.get() + wire.len());
        kept.is_whole = true;
        let head = std::mem::replace(&mut kept.bytes, KeptBytes::Long(Box::new(wire.into())));
        self.take_back(head);
    }

    /// Takes back what [`KeptStore::keep`] gave.
    pub(super) fn give_back(&self, kept: Kept) {
        self.take_back(kept.bytes);
    }

    /// Frees spare buffers; for a quiet worker.
    pub(super) fn release(&self) {
        self.buffers.release();
    }

    fn copy(&self, bytes: &[u8]) -> Vec<u8> {
        let mut copy = self.buffers.take();
        copy.extend_from_slice(bytes);
        copy
    }

    fn take_back(&self, bytes: KeptBytes) {
        match bytes {
            KeptBytes::Inline(_) => {}
            KeptBytes::Buffer(buffer) => self.buffers.give(buffer),
            KeptBytes::Long(bytes) => self.long.set(self.long.get().saturating_sub(bytes.len())),
        }
    }
}

/// Longest head that is kept without a buffer: dubbo's has 16 bytes.
const INLINE_MAX: usize = 16;
/// Longest request that is kept as a copy in a buffer of the store.
const COPY_MAX: usize = 4096;
/// Long requests that one worker keeps for another attempt, in bytes. Above it they get one attempt.
const LONG_MAX: usize = 64 << 20;
