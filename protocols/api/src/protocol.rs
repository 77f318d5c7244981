// SPDX-License-Identifier: Apache-2.0
//! The trait behind which every wire protocol stands on the call path.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::{DecodeError, Decoded, Frame, KeyPrint, LocalReply, Outcome, RouteKeys, RouteKeysError, StreamId};

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
/// The proxy uses it like this, for a connection of an application (downstream) and one to a provider (upstream):
///
/// 1. The first bytes go to [`sniff`](Self::sniff) when a port serves several protocols.
/// 2. All bytes read go to [`decode`](Self::decode), again and again until it says `Incomplete`. Nothing is resynced:
///    an error closes the connection.
/// 3. [`Frame::kind`] decides. Requests and one-ways: [`route_keys`](Self::route_keys), an instance is picked, the frame
///    is written there under an id of the proxy's own ([`restamp`](Self::restamp)). Replies: matched by stream id,
///    looked at by [`outcome`](Self::outcome), written back under the caller's id. Probes are answered with
///    [`heartbeat_reply`](Self::heartbeat_reply) on the connection they came by. Everything else is never forwarded.
/// 4. When no reply can be had, [`local_reply`](Self::local_reply) makes one.
/// 5. An idle connection gets a [`heartbeat`](Self::heartbeat), a draining one [`goaway`](Self::goaway).
///
/// All frames on a connection have the [`dialect`](Self::dialect) of its first one.
///
/// No method may panic, whatever the bytes; none may allocate more than it was given plus a constant. All but `decode`
/// may be called with any frame that `decode` of the same plugin gave, also with one of an unfitting kind.
/// `examples/line_protocol.rs` implements and tests all that most protocols need.
pub trait Protocol: Send + Sync + fmt::Debug + 'static {
    /// Short fixed name: configuration key, metric label, and the scheme by which instances name it (`dubbo`, `bolt`).
    fn name(&self) -> &'static str;

    /// Tells from the first bytes of a connection whether it speaks this protocol. `first` may be empty, and grows from
    /// call to call until the answer is not `NeedMore`. No two plugins on one port may say `Yes` to the same bytes.
    fn sniff(&self, first: &[u8]) -> Sniff;

    /// Splits one frame off the front of `input`.
    ///
    /// - Takes what the socket gave: part of a frame, one, or several.
    /// - Gives a frame sharing `input`'s buffer (`split_to(..).freeze()`); `Incomplete` leaves `input` untouched.
    /// - `max_frame_bytes` counts head and body; over it the answer is `TooLong`, from the head alone. A protocol that
    ///   has no length in front of a frame gives [`DecodeError::TooLong`] once that many bytes hold no end.
    /// - `input` is never grown or reserved here; compare lengths from the wire with the limit before anything else.
    ///
    /// # Errors
    /// When the stream cannot be this protocol. Close the connection: the next frame cannot be found. What `input` holds
    /// afterwards does not matter.
    fn decode(&self, input: &mut BytesMut, max_frame_bytes: usize) -> Result<Decoded, DecodeError>;

    /// Reads where a request or one-way wants to go. The body is walked, never decoded: this runs for every call.
    ///
    /// An absent group or version is empty, also if the protocol has a word for "none". Fields that the protocol does
    /// not have stay at their defaults (`..RouteKeys::default()`).
    ///
    /// # Errors
    /// `Opaque` if the body is in a serialization that cannot be read, `Malformed` if it breaks its own rules. With
    /// `Opaque` the call still goes through where only one service is possible; with `Malformed` it is answered.
    fn route_keys<'f>(&self, request: &'f Frame) -> Result<RouteKeys<'f>, RouteKeysError>;

    /// Remembers in `print` by which bytes a request with the same route keys as `request` can be told, and says whether it
    /// did. Consumers repeat themselves: recognizing such bytes costs less than reading them. `print` may hold another
    /// request's; bounded by the request's length.
    fn print_keys(&self, request: &Frame, print: &mut KeyPrint) -> bool {
        let _ = (request, print);
        false
    }

    /// Whether [`route_keys`](Self::route_keys) would surely give for `request` what it gave for the request that was printed.
    /// When in doubt it says no.
    fn has_keys(&self, request: &Frame, print: &KeyPrint) -> bool {
        let _ = (request, print);
        false
    }

    /// Writes `id` into a copy of a frame's head (`frame.head_len` bytes). A shorter slice is left alone.
    ///
    /// The frame's length must not change, so an id of variable width takes its widest form. Called for every frame that
    /// is written, in both directions; `id` has at most [`stream_id_bits`](Self::stream_id_bits) bits.
    fn restamp(&self, head: &mut [u8], id: StreamId);

    /// The last four bytes of `frame` after it was restamped with `id`, for protocols whose frames end in a checksum
    /// over the head. `None`: the tail does not depend on the id. Called for every frame that is written.
    fn restamped_trailer(&self, frame: &Frame, id: StreamId) -> Option<[u8; 4]> {
        let _ = (frame, id);
        None
    }

    /// The variant of the protocol that a frame is in, where peers answer on a connection in the variant of its first frame.
    /// Calls of one dialect never share an upstream connection with those of another, and a downstream connection that
    /// changes it is closed. 0 where there is only one.
    fn dialect(&self, frame: &Frame) -> u8 {
        let _ = frame;
        0
    }

    /// How many low bits of a `StreamId` fit on the wire: 64 or 32.
    fn stream_id_bits(&self) -> u32 {
        64
    }

    /// How calls share an upstream connection. With `PingPong` replies are matched by order and ids are not used.
    fn pooling(&self) -> Pooling {
        Pooling::Multiplex
    }

    /// A liveness probe to send when a connection of that dialect was idle; `None` if the protocol has none.
    fn heartbeat(&self, dialect: u8, id: StreamId) -> Option<Bytes>;

    /// The answer to a peer's probe, with the probe's own stream id; `None` if `heartbeat` wants none or is none.
    fn heartbeat_reply(&self, heartbeat: &Frame) -> Option<Bytes>;

    /// What is sent once on a connection that we opened, by which another Remora at its end knows that it may say
    /// [`goaway`](Self::goaway) there. For protocols in which not every peer can bear one; it must be such that all others
    /// pass over it or answer it. `None`: every peer may be told.
    fn greeting(&self, dialect: u8) -> Option<Bytes> {
        let _ = dialect;
        None
    }

    /// Whether a heartbeat is the [`greeting`](Self::greeting) of another Remora.
    fn is_greeting(&self, heartbeat: &Frame) -> bool {
        let _ = heartbeat;
        false
    }

    /// Tells the peer of a connection of that dialect to send no new calls on it; `None` if the protocol cannot.
    /// With a [`greeting`](Self::greeting), only peers that sent one are told.
    fn goaway(&self, dialect: u8) -> Option<Bytes>;

    /// An error reply to `request` in the provider's place, with the request's own stream id; `None` for frames that get
    /// no reply. `request` may be a head without its body (from [`Decoded::TooLong`]).
    ///
    /// `message` names the service and the cause and is what the application's log will show; the plugin puts
    /// `reason.reason()` in front of it, bounds its length, and picks the status that the framework turns into the right
    /// exception.
    ///
    /// Must be such that [`Protocol::outcome`] of a Remora further down answers `NothingSent` when
    /// `reason.nothing_sent()`, wherever the protocol has room to say so.
    fn local_reply(&self, request: &Frame, reason: LocalReply, message: &str) -> Option<Bytes>;

    /// What a reply says about its call. Looks at the head and a bounded number of body bytes only; what cannot be told
    /// is `Ok`.
    fn outcome(&self, reply: &Frame) -> Outcome;
}
