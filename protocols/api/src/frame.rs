// SPDX-License-Identifier: Apache-2.0
//! One message of a protocol, cut out of the stream but otherwise untouched.
//!
//! Not here: how the cut is found (`Protocol::decode`), what the message says (`Protocol::route_keys`).

use std::fmt;

use bytes::Bytes;

/// The id in a frame's head that pairs request and reply. Protocols with 32-bit ids use the low half.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a frame is for. Says nothing about the direction it travelled: a server may send requests too (callbacks).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A call that waits for a [`FrameKind::Reply`] with the same stream id.
    Request,
    /// A call that gets no reply, ever.
    Oneway,
    /// The answer to a request, whatever its status.
    Reply,
    /// A liveness probe that wants a [`FrameKind::HeartbeatReply`]. Answered by each hop itself, never forwarded.
    Heartbeat,
    /// The answer to a probe. Never matched against calls in flight: its id may equal the id of one.
    HeartbeatReply,
    /// The sender takes no new calls on this connection; those in flight will finish.
    GoAway,
    /// The sender takes calls again on a connection that it had closed by [`FrameKind::GoAway`].
    Resume,
    /// An event that a proxy may drop without harm.
    Ignorable,
}

/// One whole message: `head_len` bytes of head, then the body.
///
/// Immutable and cheap to clone: a retry is a clone. The stream id is restamped while the frame is written, never in
/// `wire`.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What the frame is for.
    pub kind: FrameKind,
    /// The id its sender gave it.
    pub stream_id: StreamId,
    /// Length of the head in bytes; `<= wire.len()`. Everything that `Protocol::restamp` touches lies inside.
    pub head_len: usize,
    /// The whole frame as received, head first.
    pub wire: Bytes,
}

impl Frame {
    /// The head, `head_len` bytes.
    pub fn head(&self) -> &[u8] {
        self.wire.get(..self.head_len).unwrap_or(&self.wire)
    }

    /// Everything behind the head.
    pub fn body(&self) -> &[u8] {
        self.wire.get(self.head_len..).unwrap_or(&[])
    }
}

/// What `Protocol::decode` found at the front of the input.
#[derive(Clone, Debug)]
pub enum Decoded {
    /// Not yet a whole frame; nothing was consumed. `missing` more bytes are needed at least (a hint for the reader,
    /// `>= 1`; never a reason to reserve more than the frame limit).
    Incomplete {
        /// Bytes that are surely still to come before the next attempt can succeed.
        missing: usize,
    },
    /// One frame, split off the input.
    Frame(Frame),
    /// A well-formed head that announces more than the limit. The head was consumed, the body was not: the caller
    /// drops the next `body_len` bytes of the stream and may answer `head` with a local reply. The connection stays.
    TooLong {
        /// A frame with the head only: enough for `Protocol::local_reply`.
        head: Frame,
        /// Bytes of body to drop, in bytes.
        body_len: u64,
    },
}
