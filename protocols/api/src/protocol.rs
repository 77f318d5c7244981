// SPDX-License-Identifier: Apache-2.0
//! The trait behind which every wire protocol stands on the call path.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::{DecodeError, Decoded, Frame, LocalReply, Outcome, RouteKeys, RouteKeysError, StreamId};

/// Whether the first bytes of a connection are of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// They are.
    Yes,
    /// They are not, and more bytes will not change it.
    No,
    /// More bytes are needed to tell.
    NeedMore,
}

/// How calls share an upstream connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Many calls at a time, told apart by stream id.
    Multiplex,
    /// One call at a time.
    PingPong,
}

/// A wire protocol, sans-io and without state: one value serves all connections of all threads.
///
/// No method may panic, whatever the bytes; none may allocate more than it was given plus a constant.
pub trait Protocol: Send + Sync + fmt::Debug + 'static {
    /// Short fixed name: configuration key, metric label, and the scheme by which instances name it (`dubbo`, `bolt`).
    fn name(&self) -> &'static str;

    /// Tells from the first bytes of a connection whether it speaks this protocol. `first` may be empty.
    fn sniff(&self, first: &[u8]) -> Sniff;

    /// Splits one frame off the front of `input`.
    ///
    /// - Takes what the socket gave: part of a frame, one, or several.
    /// - Gives a frame sharing `input`'s buffer; `Incomplete` leaves `input` untouched.
    /// - `max_frame_bytes` counts head and body; over it the answer is `TooLong`, from the head alone.
    ///
    /// # Errors
    /// When the stream cannot be this protocol. Close the connection: the next frame cannot be found.
    fn decode(&self, input: &mut BytesMut, max_frame_bytes: usize) -> Result<Decoded, DecodeError>;

    /// Reads where a request or one-way wants to go. The body is walked, never decoded.
    ///
    /// # Errors
    /// `Opaque` if the body is in a serialization that cannot be read, `Malformed` if it breaks its own rules.
    fn route_keys<'f>(&self, request: &'f Frame) -> Result<RouteKeys<'f>, RouteKeysError>;

    /// Writes `id` into a copy of a frame's head (`frame.head_len` bytes). A shorter slice is left alone.
    fn restamp(&self, head: &mut [u8], id: StreamId);

    /// The last four bytes of `frame` after it was restamped with `id`, for protocols whose frames end in a checksum
    /// over the head. `None`: the tail does not depend on the id.
    fn restamped_trailer(&self, frame: &Frame, id: StreamId) -> Option<[u8; 4]> {
        let _ = (frame, id);
        None
    }

    /// How many low bits of a `StreamId` fit on the wire: 64 or 32.
    fn stream_id_bits(&self) -> u32 {
        64
    }

    /// How calls share an upstream connection.
    fn pooling(&self) -> Pooling {
        Pooling::Multiplex
    }

    /// A liveness probe to send when a connection was idle; `None` if the protocol has none.
    fn heartbeat(&self, id: StreamId) -> Option<Bytes>;

    /// The answer to a peer's probe; `None` if `heartbeat` wants none.
    fn heartbeat_reply(&self, heartbeat: &Frame) -> Option<Bytes>;

    /// Tells the peer to send no new calls on this connection; `None` if the protocol cannot.
    fn goaway(&self) -> Option<Bytes>;

    /// An error reply to `request` in the provider's place, with the request's own stream id; `message` is what the
    /// application's log will show. `None` for frames that get no reply. `request` may be a head without its body.
    ///
    /// Must be such that [`Protocol::outcome`] of a Remora further down answers `NothingSent` when
    /// `reason.nothing_sent()`, wherever the protocol has room to say so.
    fn local_reply(&self, request: &Frame, reason: LocalReply, message: &str) -> Option<Bytes>;

    /// What a reply says about its call.
    fn outcome(&self, reply: &Frame) -> Outcome;
}
