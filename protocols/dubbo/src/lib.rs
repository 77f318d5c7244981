// SPDX-License-Identifier: Apache-2.0
//! The dubbo protocol: 16-byte head, body in one of twenty serializations.
//!
//! | file | holds |
//! |---|---|
//! | `head.rs`, `decode.rs`, `event.rs` | frames and what they are for |
//! | `serialization.rs`, `text.rs` | serializations by number; one string in each of them |
//! | `request.rs`, `quick.rs`, `hessian2_body.rs`, `fastjson2_body.rs`, `java_body.rs`, `jsonb.rs` | where a request wants to go |
//! | `status.rs`, `reply.rs` | local replies; what a reply says about its call |
//! | `call.rs`, `metadata.rs` | calls of our own: the demo's, and the question for an application's services |
//!
//! Not here: `tri://` (Dubbo 3's HTTP/2 protocol) and the telnet commands on the same port.
#![forbid(unsafe_code)]

mod call;
mod decode;
mod event;
mod fastjson2_body;
mod head;
mod hessian2_body;
mod java_body;
mod jsonb;
mod metadata;
mod quick;
mod reply;
mod request;
mod serialization;
mod status;
mod text;

use remora_protocol::{
    Bytes, BytesMut, DecodeError, Decoded, Frame, KeyPrint, LocalReply, Outcome, Protocol, RouteKeys, RouteKeysError,
    Sniff, StreamId,
};

pub use call::{Answer, CallError, StringCall, answer, exception_reply, null_reply, string_arguments, string_reply};
pub use event::greeting;
pub use metadata::{METADATA_TIMEOUT, metadata_reply, metadata_request};
pub use serialization::reads_bodies_in;

pub(crate) const NAME: &str = "dubbo";

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dubbo;

impl Protocol for Dubbo {
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

    fn print_keys(&self, request: &Frame, print: &mut KeyPrint) -> bool {
        request::print_keys(request, print)
    }

    fn has_keys(&self, request: &Frame, print: &KeyPrint) -> bool {
        request::has_keys(request, print)
    }

    fn restamp(&self, head: &mut [u8], id: StreamId) {
        head::restamp(head, id);
    }

    fn heartbeat(&self, _: u8, id: StreamId) -> Option<Bytes> {
        Some(event::heartbeat(id))
    }

    fn heartbeat_reply(&self, heartbeat: &Frame) -> Option<Bytes> {
        event::heartbeat_reply(heartbeat)
    }

    // Upstream connections of calls begin without one: an application of Dubbo serves on for a while after it withdrew, and
    // calls that still come are its own to answer.
    fn is_greeting(&self, heartbeat: &Frame) -> bool {
        event::is_greeting(heartbeat)
    }

    fn goaway(&self, _: u8) -> Option<Bytes> {
        Some(event::goaway())
    }

    fn local_reply(&self, request: &Frame, reason: LocalReply, message: &str) -> Option<Bytes> {
        reply::local_reply(request, reason, message)
    }

    fn outcome(&self, reply: &Frame) -> Outcome {
        reply::outcome(reply)
    }
}
