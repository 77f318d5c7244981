// SPDX-License-Identifier: Apache-2.0
//! What waits to be written to one peer. Sans-io.
//!
//! Small frames are copied in and restamped in the copy, so that many leave in one write; of large ones only the head is
//! copied and the tail stays in the buffer it was read into. Buffers come from the worker's store and go back when
//! empty: an idle connection holds none.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use remora_protocol::{Frame, Protocol, StreamId};

use super::frame_reader::READ_MAX;

/// Bytes waiting to be written, oldest first.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are already written.
    front_written: usize,
    queued: usize,
    written: u64,
}

#[derive(Debug)]
enum Chunk {
    Copied(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl WriteBuffer {
    /// Bytes waiting.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Bytes written so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Where in the stream the next frame will begin. A frame of which `written()` did not pass the beginning was
    /// surely not sent, not even in part.
    pub(super) fn position(&self) -> u64 {
        self.written + self.queued as u64
    }

    /// Appends `frame` under another stream id; the frame itself stays as it is.
    pub(super) fn push_frame(&mut self, store: &BufferStore, protocol: &dyn Protocol, frame: &Frame, id: StreamId) {
        let wire = &frame.wire;
        let trailer = protocol.restamped_trailer(frame, id);
        let head_len = frame.head_len.min(wire.len());
        let tail_end = wire.len()
            - if trailer.is_some() {
                TRAILER_LEN.min(wire.len() - head_len)
            } else {
                0
            };
        // A short tail pins all of the buffer it was read into, so with a peer that is slow only long ones are shared.
        let is_copied = wire.len() <= COPY_MAX || (wire.len() <= PIN_MIN && self.queued > QUICK_MAX);
        let copied_len = if is_copied { tail_end } else { head_len };

        let copy = self.copied(store);
        let start = copy.len();
        copy.extend_from_slice(&wire[..copied_len]);
        protocol.restamp(&mut copy[start..start + head_len], id);
        self.queued += copied_len;
        if copied_len < tail_end {
            self.chunks.push_back(Chunk::Shared(wire.slice(copied_len..tail_end)));
            self.queued += tail_end - copied_len;
        }
        if let Some(trailer) = trailer {
            self.push_bytes(store, &trailer[..wire.len() - tail_end]);
        }
    }

    /// A copy of the `len` bytes from `position` on; `None` if some of them are written or not there.
    pub(super) fn unsent(&self, position: u64, len: usize) -> Option<Vec<u8>> {
        let mut skip = usize::try_from(position.checked_sub(self.written)?).ok()?;
        if skip.checked_add(len)? > self.queued {
            return None;
        }
        skip += self.front_written;
        let mut copy = Vec::with_capacity(len);
        for chunk in &self.chunks {
            let bytes = chunk.bytes();
            let from = skip.min(bytes.len());
            skip -= from;
            let to = bytes.len().min(from + (len - copy.len()));
            copy.extend_from_slice(&bytes[from..to]);
        }
        Some(copy)
    }

    /// Appends bytes as they are.
    pub(super) fn push_bytes(&mut self, store: &BufferStore, bytes: &[u8]) {
        self.copied(store).extend_from_slice(bytes);
        self.queued += bytes.len();
    }

    /// Up to `into.len()` slices from the front; gives how many there are.
    pub(super) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut skip = self.front_written;
        for (slot, chunk) in into.iter_mut().zip(&self.chunks) {
            *slot = IoSlice::new(&chunk.bytes()[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// Marks `n` bytes as written.
    pub(super) fn advance(&mut self, store: &BufferStore, n: usize) {
        let mut left = n.min(self.queued);
        self.queued -= left;
        self.written += left as u64;
        while let Some(chunk) = self.chunks.front() {
            let rest = chunk.bytes().len() - self.front_written;
            if left < rest {
                self.front_written += left;
                return;
            }
            left -= rest;
            self.front_written = 0;
            if let Some(Chunk::Copied(buffer)) = self.chunks.pop_front() {
                store.give(buffer);
            }
        }
    }

    /// A copy of what waits.
    pub(super) fn unwritten(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.queued);
        let mut skip = self.front_written;
        for chunk in &self.chunks {
            all.extend_from_slice(&chunk.bytes()[skip..]);
            skip = 0;
        }
        all
    }

    /// Counts on from what was written before.
    pub(super) fn set_written(&mut self, written: u64) {
        self.written = written;
    }

    /// Drops what waits; `written()` stays.
    pub(super) fn clear(&mut self, store: &BufferStore) {
        for chunk in self.chunks.drain(..) {
            if let Chunk::Copied(buffer) = chunk {
                store.give(buffer);
            }
        }
        self.chunks = VecDeque::new();
        self.front_written = 0;
        self.queued = 0;
    }

    fn copied(&mut self, store: &BufferStore) -> &mut Vec<u8> {
        let has_room = matches!(self.chunks.back(), Some(Chunk::Copied(b)) if b.len() < CHUNK_MAX);
        if !has_room {
            self.chunks.push_back(Chunk::Copied(store.take()));
        }
        match self.chunks.back_mut() {
            Some(Chunk::Copied(buffer)) => buffer,
            _ => unreachable!("a copied chunk is at the back, put there above"),
        }
    }
}

/// Spare buffers of one worker, so that frames are copied without asking the allocator.
#[derive(Debug, Default)]
pub(super) struct BufferStore {
    spare: RefCell<Vec<Vec<u8>>>,
    bytes: Cell<usize>,
}

impl BufferStore {
    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        match self.spare.borrow_mut().pop() {
            Some(buffer) => {
                self.bytes.set(self.bytes.get() - buffer.capacity());
                buffer
            }
            None => Vec::with_capacity(BUFFER_START),
        }
    }

    /// Takes a buffer back; frees it when enough are spare.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity == 0 || self.bytes.get() + capacity > SPARE_BYTES_MAX {
            return;
        }
        buffer.clear();
        self.bytes.set(self.bytes.get() + capacity);
        self.spare.borrow_mut().push(buffer);
    }

    /// Frees all spare buffers; for a quiet worker.
    pub(super) fn release(&self) {
        self.bytes.set(0);
        *self.spare.borrow_mut() = Vec::new();
    }
}

/// Longest frame that is copied whole. Copying up to here costs 4 to 65 ns, less than a second slice in a write.
const COPY_MAX: usize = 4096;
/// Shortest frame that is shared while more than [`QUICK_MAX`] waits: half of a read buffer, so that at most twice what waits
/// is held.
const PIN_MIN: usize = READ_MAX / 2;
/// What a peer that keeps up lets wait, in bytes.
const QUICK_MAX: usize = 256 << 10;
/// A copied chunk takes no further frame above this length, so that buffers in the store stay of one size class.
const CHUNK_MAX: usize = 64 << 10;
/// Capacity of a fresh buffer, in bytes.
const BUFFER_START: usize = 1024;
/// Spare buffers that one worker keeps, in bytes.
const SPARE_BYTES_MAX: usize = 4 << 20;
const TRAILER_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::tests::wire::{Mini, request};
    use super::*;

    fn written(buffer: &WriteBuffer) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = buffer.slices(&mut slices);
        slices[..count].iter().flat_map(|s| s.to_vec()).collect()
    }

    #[test]
    fn a_frame_is_restamped_in_the_copy_only() {
        for payload in [10, COPY_MAX * 3] {
            let store = BufferStore::default();
            let frame = request(7, "svc", &vec![b'x'; payload]);
            let before = frame.wire.clone();
            let mut buffer = WriteBuffer::default();
            buffer.push_frame(&store, &Mini, &frame, StreamId(99));
            let mut expected = before.to_vec();
            Mini.restamp(&mut expected[..frame.head_len], StreamId(99));
            assert_eq!(written(&buffer), expected);
            assert_eq!(frame.wire, before, "the shared bytes stay");
        }
    }

    #[test]
    fn with_a_slow_peer_no_short_tail_pins_its_read_buffer() {
        let store = BufferStore::default();
        let mut buffer = WriteBuffer::default();
        let frame = request(1, "svc", &vec![b'x'; COPY_MAX * 2]);
        while buffer.queued() < 1 << 20 {
            buffer.push_frame(&store, &Mini, &frame, StreamId(1));
        }
        let shared = buffer
            .chunks
            .iter()
            .filter(|chunk| matches!(chunk, Chunk::Shared(_)))
            .count();
        assert!(shared <= QUICK_MAX / frame.wire.len() + 1, "{shared} shared");
    }

    #[test]
    fn what_is_not_written_can_be_taken_back() {
        let store = BufferStore::default();
        let mut buffer = WriteBuffer::default();
        let mut frames = Vec::new();
        for id in 0..20u64 {
            let frame = request(id, "svc", &vec![id as u8; (id as usize) * 700]);
            frames.push((buffer.position(), frame.wire.clone()));
            buffer.push_frame(&store, &Mini, &frame, StreamId(id));
        }
        buffer.advance(&store, frames[7].0 as usize + 1);
        for (index, (position, wire)) in frames.iter().enumerate() {
            let expected = (index > 7).then(|| wire.to_vec());
            assert_eq!(buffer.unsent(*position, wire.len()), expected, "{index}");
        }
        assert_eq!(buffer.unsent(buffer.position(), 1), None);
    }

    #[test]
    fn partial_writes_keep_every_byte_in_order() {
        let store = BufferStore::default();
        let mut buffer = WriteBuffer::default();
        let mut expected = Vec::new();
        for id in 0..20u64 {
            let frame = request(id, "svc", &vec![id as u8; (id as usize) * 700]);
            expected.extend_from_slice(&frame.wire);
            buffer.push_frame(&store, &Mini, &frame, StreamId(id));
        }
        assert_eq!(buffer.position(), expected.len() as u64);
        let mut got = Vec::new();
        for step in 1.. {
            let piece: Vec<u8> = written(&buffer).into_iter().take(step * 13).collect();
            if piece.is_empty() {
                break;
            }
            buffer.advance(&store, piece.len());
            got.extend(piece);
        }
        assert_eq!(got, expected);
        assert_eq!((buffer.queued(), buffer.written()), (0, expected.len() as u64));
    }
}
