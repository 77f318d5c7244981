// SPDX-License-Identifier: Apache-2.0
//! Events: heartbeats, and the letters by which a provider closes a connection for new calls and opens it again.
//!
//! A heartbeat carries the null of its serialization, so the reply takes over the probe's own body. A letter is a
//! string, and how that looks depends on the serialization. Source: `Request`, `HeartbeatHandler` and
//! `HeaderExchangeServer` of Dubbo 2.6 to 3.3; the bytes were written by the serializations of 2.7.23 and 3.3.6.

use remora_protocol::{Bytes, Frame, FrameKind, StreamId};

use crate::decode::MAX_EVENT_BODY_BYTES;
use crate::head::{self, FLAG_EVENT, FLAG_REQUEST, FLAG_TWO_WAY, Head};
use crate::serialization as id;
use crate::status;

/// No new calls on this connection.
const READONLY: u8 = b'R';
/// Calls again (3.3).
const WRITEABLE: u8 = b'W';

/// What an event that is no reply is for.
pub(crate) fn kind(head: Head, body: &[u8]) -> FrameKind {
    match letter(head.serialization(), body) {
        Some(READONLY) => FrameKind::GoAway,
        Some(WRITEABLE) => FrameKind::Resume,
        // Dubbo asks for an answer to heartbeats only. A null that wants none (2.5) needs no attention.
        _ if head.is_two_way() => FrameKind::Heartbeat,
        _ => FrameKind::Ignorable,
    }
}

/// A probe of ours. Every Java and Go peer has hessian2, whatever its services use.
pub(crate) fn heartbeat(id: StreamId) -> Bytes {
    head::frame(
        FLAG_REQUEST | FLAG_TWO_WAY | FLAG_EVENT | id::HESSIAN2,
        0,
        id,
        HESSIAN2_NULL,
    )
}

/// What a Remora says first that asks after the application behind another one: a heartbeat, of a number that no peer counts to.
/// One that does not know it answers as to any other.
pub fn greeting() -> Bytes {
    heartbeat(GREETING)
}

/// Whether a heartbeat is that.
pub(crate) fn is_greeting(heartbeat: &Frame) -> bool {
    heartbeat.kind == FrameKind::Heartbeat && heartbeat.stream_id == GREETING
}

/// The answer to a peer's probe, or `None` if it wants none.
pub(crate) fn heartbeat_reply(probe: &Frame) -> Option<Bytes> {
    let head = Head::read(&probe.wire)?;
    let is_bounded = probe.body().len() as u64 <= MAX_EVENT_BODY_BYTES;
    (probe.kind == FrameKind::Heartbeat && head.is_two_way() && is_bounded)
        .then(|| head::frame(FLAG_EVENT | head.serialization(), status::OK, head.id, probe.body()))
}

/// The readonly event.
pub(crate) fn goaway() -> Bytes {
    Bytes::from_static(&[0xda, 0xbb, 0xa2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x01, READONLY])
}

/// The one letter that an event body holds as a string, if it does.
fn letter(serialization: u8, body: &[u8]) -> Option<u8> {
    let (before, after): (&[u8], &[u8]) = match serialization {
        id::HESSIAN2 | id::NATIVE_HESSIAN => (b"\x01", b""),
        id::JAVA | id::COMPACTED_JAVA => (b"\xac\xed\x00\x05\x77\x01\x01\x74\x00\x01", b""),
        id::NATIVE_JAVA => (b"\xac\xed\x00\x05\x74\x00\x01", b""),
        id::FASTJSON | id::GSON | id::JACKSON | id::PROTOBUF_JSON => (b"\"", b"\""),
        id::KRYO => (b"\x03\x01\x82", b""),
        id::KRYO2 => (b"\x01\x82", b""),
        id::FST => (b"\xfc\x01", b""),
        id::AVRO => (b"\x02", b""),
        id::PROTOSTUFF => return protostuff_letter(body),
        id::PROTOBUF => (b"\x03\x0a\x01", b""),
        id::FASTJSON2 => (b"\x00\x00\x00\x02\x4a", b""),
        id::MSGPACK => (b"\xa1", b""),
        _ => return None,
    };
    // The JSON ones end with the line separator of the sender's system.
    match *body.trim_ascii_end().strip_prefix(before)?.strip_suffix(after)? {
        [letter] => Some(letter),
        _ => None,
    }
}

/// protostuff writes the fields of `java.lang.String`, its cached hash too: only the class name and the first are fixed.
fn protostuff_letter(body: &[u8]) -> Option<u8> {
    let fields = body.get(8..)?.strip_prefix(b"java.lang.String")?;
    match *fields.strip_prefix(b"\x0a\x01")? {
        [] => None,
        [letter, ..] => Some(letter),
    }
}

const HESSIAN2_NULL: &[u8] = b"N";
const GREETING: StreamId = StreamId(u64::from_be_bytes(*b"\xf2remora\x01"));

#[cfg(test)]
mod tests {
    use super::*;

    /// What `writeEvent("R")` of each serialization gave: Dubbo 2.7.23, fastjson2 3.3.6. Avro cannot write events.
    const READONLY_EVENTS: &[(u8, &[u8])] = &[
        (id::HESSIAN2, b"\x01R"),
        (id::NATIVE_HESSIAN, b"\x01R"),
        (id::JAVA, b"\xac\xed\x00\x05\x77\x01\x01\x74\x00\x01R"),
        (id::COMPACTED_JAVA, b"\xac\xed\x00\x05\x77\x01\x01\x74\x00\x01R"),
        (id::NATIVE_JAVA, b"\xac\xed\x00\x05\x74\x00\x01R"),
        (id::FASTJSON, b"\"R\"\n"),
        (id::GSON, b"\"R\"\r\n"),
        (id::PROTOBUF_JSON, b"\"R\"\n"),
        (id::KRYO, b"\x03\x01\x82R"),
        (id::KRYO2, b"\x01\x82R"),
        (id::FST, b"\xfc\x01R"),
        (
            id::PROTOSTUFF,
            b"\x00\x00\x00\x10\x00\x00\x00\x09java.lang.String\x0a\x01R\x10\x00\x18R\x20\x00",
        ),
        (id::PROTOBUF, b"\x03\x0a\x01R"),
        (id::FASTJSON2, b"\x00\x00\x00\x02\x4aR"),
        (id::MSGPACK, b"\xa1R"),
    ];

    #[test]
    fn letters_are_read_in_every_serialization() {
        for &(serialization, readonly) in READONLY_EVENTS {
            let head = head(FLAG_REQUEST | FLAG_EVENT | serialization);
            assert_eq!(kind(head, readonly), FrameKind::GoAway, "{serialization}");
            let writeable: Vec<u8> = readonly
                .iter()
                .map(|&byte| if byte == b'R' { b'W' } else { byte })
                .collect();
            assert_eq!(kind(head, &writeable), FrameKind::Resume, "{serialization}");
            let other: Vec<u8> = readonly
                .iter()
                .map(|&byte| if byte == b'R' { b'X' } else { byte })
                .collect();
            assert_eq!(kind(head, &other), FrameKind::Ignorable, "{serialization}");
        }
    }

    #[test]
    fn an_event_that_wants_an_answer_is_a_heartbeat() {
        for serialization in 0..32 {
            let two_way = head(FLAG_REQUEST | FLAG_TWO_WAY | FLAG_EVENT | serialization);
            for null in [&b"N"[..], b"", b"null\n", b"\x00\x00\x00\x01\xaf"] {
                assert_eq!(kind(two_way, null), FrameKind::Heartbeat);
            }
            assert_eq!(
                kind(head(FLAG_REQUEST | FLAG_EVENT | serialization), b"N"),
                FrameKind::Ignorable
            );
        }
    }

    #[test]
    fn a_greeting_is_a_heartbeat_and_no_other_is_one() {
        let told = |wire: Bytes| {
            let mut input = remora_protocol::BytesMut::from(&*wire);
            match crate::decode::decode(&mut input, 1 << 20) {
                Ok(remora_protocol::Decoded::Frame(frame)) => (is_greeting(&frame), heartbeat_reply(&frame).is_some()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(told(greeting()), (true, true));
        assert_eq!(told(heartbeat(StreamId(1))), (false, true));
    }

    fn head(flag: u8) -> Head {
        Head {
            flag,
            status: 0,
            id: StreamId(1),
            body_len: 0,
        }
    }
}
