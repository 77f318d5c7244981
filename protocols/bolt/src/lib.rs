// SPDX-License-Identifier: Apache-2.0
//! The bolt protocol, v1 and v2, and what SOFARPC writes with it.
//!
//! | file | holds |
//! |---|---|
//! | `frame.rs`, `header.rs`, `write.rs` | frames: taken apart, and written; also for SOFARegistry, which speaks bolt |
//! | `decode.rs`, `restamp.rs` | frames on the call path: cut out of a stream, and under another stream id |
//! | `codec.rs`, `status.rs` | serializations and statuses by number |
//! | `sofa.rs`, `request.rs` | where a request wants to go |
//! | `peer.rs` | what only another Remora is told: a greeting, and goaway |
//! | `reply.rs` | local replies; what a reply says about its call |
//!
//! Not here: `tr`, SOFARPC's older protocol, of which only the number is public.
#![forbid(unsafe_code)]

pub mod codec;
mod decode;
pub mod frame;
pub mod header;
mod peer;
mod reply;
mod request;
mod restamp;
pub mod sofa;
pub mod status;
mod write;

use remora_protocol::{
    Bytes, BytesMut, DecodeError, Decoded, Frame, FrameKind, LocalReply, Outcome, Protocol, RouteKeys, RouteKeysError,
    Sniff, StreamId,
};

pub use decode::{decode, sniff};
pub use write::{Reply, Request, WriteError, heartbeat, heartbeat_ack};

use frame::{Head, Version};

pub(crate) const NAME: &str = "bolt";

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bolt;

impl Protocol for Bolt {
    fn name(&self) -> &'static str {
        NAME
    }

    fn sniff(&self, first: &[u8]) -> Sniff {
        decode::sniff(first)
    }

    fn decode(&self, input: &mut BytesMut, max_frame_bytes: usize) -> Result<Decoded, DecodeError> {
        decode::decode(input, max_frame_bytes)
    }

    fn route_keys<'f>(&self, request: &'f Frame) -> Result<RouteKeys<'f>, RouteKeysError> {
        request::route_keys(request)
    }

    fn restamp(&self, head: &mut [u8], id: StreamId) {
        restamp::restamp(head, id);
    }

    fn restamped_trailer(&self, frame: &Frame, id: StreamId) -> Option<[u8; 4]> {
        restamp::restamped_crc(frame, id)
    }

    fn dialect(&self, frame: &Frame) -> u8 {
        match *frame.wire {
            [2, 1, ..] => Version::V2.dialect(),
            [2, ..] => Version::V2Crc.dialect(),
            _ => Version::V1.dialect(),
        }
    }

    fn stream_id_bits(&self) -> u32 {
        32
    }

    fn heartbeat(&self, dialect: u8, id: StreamId) -> Option<Bytes> {
        Some(write::heartbeat(Version::of_dialect(dialect), wire_id(id)))
    }

    fn heartbeat_reply(&self, heartbeat: &Frame) -> Option<Bytes> {
        let head = Head::read(&heartbeat.wire).ok().flatten()?;
        (heartbeat.kind == FrameKind::Heartbeat).then(|| write::heartbeat_ack(head.version, head.id))
    }

    fn greeting(&self, dialect: u8) -> Option<Bytes> {
        Some(peer::greeting(Version::of_dialect(dialect)))
    }

    fn is_greeting(&self, heartbeat: &Frame) -> bool {
        peer::is_greeting(heartbeat)
    }

    fn goaway(&self, dialect: u8) -> Option<Bytes> {
        Some(peer::goaway(Version::of_dialect(dialect)))
    }

    fn local_reply(&self, request: &Frame, reason: LocalReply, message: &str) -> Option<Bytes> {
        reply::local_reply(request, reason, message)
    }

    fn outcome(&self, reply: &Frame) -> Outcome {
        reply::outcome(reply)
    }
}

/// The low 32 bits of an id: those that the proxy draws have no more.
pub(crate) fn wire_id(id: StreamId) -> u32 {
    let [_, _, _, _, low @ ..] = id.0.to_be_bytes();
    u32::from_be_bytes(low)
}
