// SPDX-License-Identifier: Apache-2.0
//! Replies in the provider's place, and what a reply says about its call.

use remora_protocol::{Bytes, Frame, FrameKind, LocalReply, Outcome};

use crate::head::{self, Head};
use crate::serialization as id;
use crate::{status, text};

/// Longest text of a local reply, in bytes; the rest of it is cut off.
const MAX_TEXT_BYTES: usize = 1024;

/// What the text of a local reply starts with when nothing was sent to the application. A contract between Remoras of
/// any two versions: it may never change.
const NOTHING_SENT: &str = "remora[nothing_sent/";

/// Where [`NOTHING_SENT`] stands at the latest: behind the head of a string in any serialization.
const NOTHING_SENT_WITHIN: usize = 16;

pub(crate) fn local_reply(request: &Frame, reason: LocalReply, message: &str) -> Option<Bytes> {
    if request.kind != FrameKind::Request {
        return None;
    }
    let head = Head::read(&request.wire)?;
    let serialization = text::readable_by_user_of(head.serialization());
    let prefix = if reason.nothing_sent() { NOTHING_SENT } else { "remora[" };
    let mut full = format!("{prefix}{}]: ", reason.reason());
    full.push_str(message);
    cut(&mut full, MAX_TEXT_BYTES);
    Some(head::frame(
        serialization,
        status::of(reason),
        head.id,
        &text::encode(serialization, &full),
    ))
}

/// Cuts `text` to at most `max` bytes, between characters.
fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
    }
}

pub(crate) fn outcome(reply: &Frame) -> Outcome {
    let Some(head) = Head::read(&reply.wire) else {
        return Outcome::Failed(0);
    };
    let body = reply.body();
    match head.status {
        status::OK if is_exception(head.serialization(), body) => Outcome::AppException,
        status::OK => Outcome::Ok,
        _ if says_nothing_sent(body) => Outcome::NothingSent,
        other => Outcome::Failed(other),
    }
}

/// Whether the body of a reply with status 20 starts with type 0 or 3: an exception, without or with attachments.
/// `false` for serializations in which that cannot be seen.
fn is_exception(serialization: u8, body: &[u8]) -> bool {
    let first = body.first();
    let (first, zero) = match serialization {
        id::HESSIAN2 | id::NATIVE_HESSIAN => (first, 0x90),
        id::JAVA | id::COMPACTED_JAVA | id::NATIVE_JAVA => return java_first_byte(body).is_some_and(is_exception_type),
        id::FASTJSON | id::GSON | id::JACKSON | id::PROTOBUF_JSON => (first, b'0'),
        id::KRYO | id::KRYO2 | id::FST | id::AVRO | id::PROTOSTUFF | id::MSGPACK => (first, 0),
        id::PROTOBUF => return matches!(*body, [0, ..] | [2, 0x08, 3, ..]),
        id::FASTJSON2 => (body.strip_prefix(b"\x00\x00\x00\x02\xbd").and_then(<[u8]>::first), 0),
        _ => return false,
    };
    first.is_some_and(|first| is_exception_type(first.wrapping_sub(zero)))
}

fn is_exception_type(first: u8) -> bool {
    matches!(first, 0 | 3)
}

/// The first byte inside the first data block of an object stream.
fn java_first_byte(body: &[u8]) -> Option<u8> {
    match *body.strip_prefix(b"\xac\xed\x00\x05")? {
        [0x77, _, first, ..] | [0x7a, _, _, _, _, first, ..] => Some(first),
        _ => None,
    }
}

fn says_nothing_sent(body: &[u8]) -> bool {
    let start = body.get(..NOTHING_SENT_WITHIN + NOTHING_SENT.len()).unwrap_or(body);
    memchr::memmem::find(start, NOTHING_SENT.as_bytes()).is_some()
}
