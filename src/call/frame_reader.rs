// SPDX-License-Identifier: Apache-2.0
//! From what a socket gives to whole frames.
//!
//! All connections of a worker read into one shared buffer and keep only a frame that was cut in two, so that an idle
//! connection holds no buffer. A long frame is collected in a buffer of its own, which grows with what has arrived,
//! never with what was announced.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use remora_protocol::{DecodeError, Decoded, Frame, Protocol};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Cuts one connection's stream into frames.
#[derive(Debug, Default)]
pub(super) struct FrameReader {
    /// The beginning of a frame that is not yet whole.
    rest: BytesMut,
    /// Bytes that are surely still to come before `rest` is a frame.
    missing: usize,
    /// Bytes to drop: the body of a frame that was too long.
    skip: u64,
}

/// Bytes to cut frames from; hand it back with [`FrameReader::put_back`].
#[derive(Debug)]
pub(super) struct Input {
    bytes: BytesMut,
    is_shared: bool,
    /// Bytes that this read gave.
    pub(super) read: usize,
}

impl Input {
    /// What is there and not yet cut.
    pub(super) fn peek(&self) -> &[u8] {
        &self.bytes
    }
}

/// What was cut.
#[derive(Debug)]
pub(super) enum Piece {
    Frame(Frame),
    /// The head of a frame over the limit; its body is dropped as it arrives.
    TooLong(Frame, u64),
}

impl Piece {
    /// The frame, or its head.
    pub(super) fn frame(&self) -> &Frame {
        match self {
            Self::Frame(frame) | Self::TooLong(frame, _) => frame,
        }
    }
}

impl FrameReader {
    /// Whether a frame has begun and is not whole.
    pub(super) fn is_mid_frame(&self) -> bool {
        !self.rest.is_empty() || self.skip > 0
    }

    /// Bytes that are kept of a frame that is not whole.
    pub(super) fn kept(&self) -> usize {
        self.rest.len()
    }

    /// Whether the frame that has begun is the one that had begun before the last `read` bytes came.
    pub(super) fn is_same_frame(&self, read: usize) -> bool {
        // Had one ended meanwhile, what is kept would be of this read only.
        self.rest.len() > read || self.skip > 0
    }

    /// What it takes for another reader to go on: the beginning of a frame, and how much is to be dropped before.
    pub(super) fn into_rest(self) -> (Vec<u8>, u64) {
        (self.rest.to_vec(), self.skip)
    }

    /// Goes on where another one stopped.
    pub(super) fn of_rest(rest: BytesMut, skip: u64) -> Self {
        Self { rest, missing: 0, skip }
    }

    /// Reads once. `None` when the peer has closed.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        shared: &RefCell<BytesMut>,
    ) -> Poll<io::Result<Option<Input>>> {
        ready!(stream.poll_read_ready(cx))?;
        let is_shared = self.rest.len().saturating_add(self.missing) <= READ_MAX / 2;
        let mut bytes;
        if is_shared {
            bytes = shared.take();
            bytes.clear();
            bytes.reserve(READ_MAX);
            bytes.extend_from_slice(&self.rest);
            self.rest.clear();
        } else {
            bytes = std::mem::take(&mut self.rest);
            bytes.reserve(self.missing.min(bytes.len().max(READ_MAX)));
        }
        let polled = pin!(Pin::new(stream).read_buf(&mut bytes)).poll(cx);
        let mut input = Input {
            bytes,
            is_shared,
            read: 0,
        };
        match polled {
            Poll::Ready(Ok(read)) if read > 0 => {
                input.read = read;
                Poll::Ready(Ok(Some(input)))
            }
            other => {
                self.put_back(input, shared);
                other.map_ok(|_| None)
            }
        }
    }

    /// The next frame of `input`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the stream is not the protocol's. Close the connection.
    pub(super) fn next(
        &mut self,
        input: &mut Input,
        protocol: &dyn Protocol,
        max_frame_bytes: usize,
    ) -> Result<Option<Piece>, DecodeError> {
        let bytes = &mut input.bytes;
        if self.skip > 0 {
            let dropped = self.skip.min(bytes.len() as u64);
            bytes.advance(dropped as usize);
            self.skip -= dropped;
        }
        if bytes.is_empty() {
            self.missing = 0;
            return Ok(None);
        }
        match protocol.decode(bytes, max_frame_bytes)? {
            Decoded::Incomplete { missing } => {
                self.missing = missing.min(max_frame_bytes);
                Ok(None)
            }
            Decoded::Frame(frame) => Ok(Some(Piece::Frame(frame))),
            Decoded::TooLong { head, body_len } => {
                self.skip = body_len;
                Ok(Some(Piece::TooLong(head, body_len)))
            }
        }
    }

    /// Keeps the rest of `input` for the next read and gives the shared buffer back.
    pub(super) fn put_back(&mut self, input: Input, shared: &RefCell<BytesMut>) {
        if !input.is_shared {
            self.rest = input.bytes;
        } else {
            self.rest.extend_from_slice(&input.bytes);
            shared.replace(input.bytes);
        }
        if self.rest.is_empty() {
            // The buffer, if there is one, may be a long frame's: free it.
            self.rest = BytesMut::new();
        }
    }
}

/// Bytes asked of a socket at once: what a worker's shared buffer holds.
pub(super) const READ_MAX: usize = 64 << 10;
