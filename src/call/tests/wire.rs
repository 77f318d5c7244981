// SPDX-License-Identifier: Apache-2.0
//! A tiny protocol for tests: 16 bytes of head, then `key=value;...` and a newline, then the payload.
//!
//! ```text
//! offset  bytes  field
//!      0      2  magic "MN"
//!      2      1  kind
//!      3      1  status of a reply: 0 ok, 1 exception, 2 failed, 3 nothing sent
//!      4      8  stream id, big endian
//!     12      4  body length
//! ```

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use remora_protocol::{
    Bytes, BytesMut, DecodeError, Decoded, Frame, FrameKind, KeyPrint, LocalReply, Outcome, Protocol, RouteKeys,
    RouteKeysError, Sniff, StreamId,
};

#[derive(Debug)]
pub(crate) struct Mini;

pub(crate) const HEAD: usize = 16;
const KINDS: [FrameKind; 8] = [
    FrameKind::Request,
    FrameKind::Oneway,
    FrameKind::Reply,
    FrameKind::Heartbeat,
    FrameKind::HeartbeatReply,
    FrameKind::GoAway,
    FrameKind::Resume,
    FrameKind::Ignorable,
];

pub(crate) fn frame(kind: FrameKind, status: u8, id: u64, body: &[u8]) -> Frame {
    let mut wire = BytesMut::from(&b"MN"[..]);
    let kind_byte = KINDS.iter().position(|k| *k == kind).unwrap() as u8;
    wire.extend_from_slice(&[kind_byte, status]);
    wire.extend_from_slice(&id.to_be_bytes());
    wire.extend_from_slice(&(body.len() as u32).to_be_bytes());
    wire.extend_from_slice(body);
    Frame {
        kind,
        stream_id: StreamId(id),
        head_len: HEAD,
        wire: wire.freeze(),
    }
}

/// A request to `keys`, which is a service name or a whole `key=value;...` list.
pub(crate) fn request(id: u64, keys: &str, payload: &[u8]) -> Frame {
    let keys = if keys.contains('=') {
        keys.to_owned()
    } else {
        format!("service={keys}")
    };
    frame(FrameKind::Request, 0, id, &[keys.as_bytes(), b"\n", payload].concat())
}

pub(crate) fn oneway(id: u64, service: &str, payload: &[u8]) -> Frame {
    let body = [b"service=", service.as_bytes(), b"\n", payload].concat();
    frame(FrameKind::Oneway, 0, id, &body)
}

pub(crate) fn reply(to: &Frame, payload: &[u8]) -> Frame {
    frame(FrameKind::Reply, 0, to.stream_id.0, payload)
}

pub(crate) fn status(frame: &Frame) -> u8 {
    frame.wire[3]
}

/// What follows the keys of a request.
pub(crate) fn payload(request: &Frame) -> &[u8] {
    let body = request.body();
    let end = body.iter().position(|b| *b == b'\n').unwrap();
    &body[end + 1..]
}

/// While it is set, workers hang that read a request which begins with `stuck`.
pub(crate) static STUCK: AtomicBool = AtomicBool::new(false);

impl Protocol for Mini {
    fn name(&self) -> &'static str {
        "mini"
    }

    fn sniff(&self, first: &[u8]) -> Sniff {
        match first {
            [b'M', b'N', ..] => Sniff::Yes,
            [b'M'] | [] => Sniff::NeedMore,
            _ => Sniff::No,
        }
    }

    fn decode(&self, input: &mut BytesMut, max: usize) -> Result<Decoded, DecodeError> {
        if input.len() < HEAD {
            return Ok(Decoded::Incomplete {
                missing: HEAD - input.len(),
            });
        }
        if &input[..2] != b"MN" || input[2] as usize >= KINDS.len() {
            return Err(DecodeError::Magic {
                protocol: "mini",
                found: [input[0], input[1], input[2], input[3]],
            });
        }
        let kind = KINDS[input[2] as usize];
        let stream_id = StreamId(u64::from_be_bytes(input[4..12].try_into().unwrap()));
        let body_len = u32::from_be_bytes(input[12..16].try_into().unwrap()) as usize;
        let cut = |wire: Bytes| Frame {
            kind,
            stream_id,
            head_len: HEAD,
            wire,
        };
        if HEAD + body_len > max {
            return Ok(Decoded::TooLong {
                head: cut(input.split_to(HEAD).freeze()),
                body_len: body_len as u64,
            });
        }
        if input.len() < HEAD + body_len {
            return Ok(Decoded::Incomplete {
                missing: HEAD + body_len - input.len(),
            });
        }
        Ok(Decoded::Frame(cut(input.split_to(HEAD + body_len).freeze())))
    }

    fn route_keys<'f>(&self, request: &'f Frame) -> Result<RouteKeys<'f>, RouteKeysError> {
        let body = request.body();
        if body.starts_with(b"stuck") {
            // As code that hangs: until the test lets go.
            while STUCK.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        }
        if let Some(ms) = body.strip_prefix(b"hang=") {
            let ms = ms.iter().take_while(|b| b.is_ascii_digit());
            let ms = ms.fold(0, |n, b| n * 10 + u64::from(b - b'0'));
            std::thread::sleep(Duration::from_millis(ms));
        }
        if body.starts_with(b"?") {
            return Err(RouteKeysError::Opaque {
                serialization: "riddle",
                pins_connection: false,
            });
        }
        let end = body.iter().position(|b| *b == b'\n').ok_or(RouteKeysError::Malformed {
            at: body.len(),
            what: "a newline",
        })?;
        let mut keys = RouteKeys::default();
        for pair in std::str::from_utf8(&body[..end]).unwrap().split(';') {
            let (key, value) = pair.split_once('=').unwrap();
            match key {
                "service" => keys.service = Cow::Borrowed(value),
                "group" => keys.group = Cow::Borrowed(value),
                "version" => keys.version = Cow::Borrowed(value),
                "timeout" => keys.timeout = Some(Duration::from_millis(value.parse().unwrap())),
                "callback" => keys.pins_connection = true,
                "serialization" => keys.serialization = Some(if value == "kryo" { "kryo" } else { "hessian2" }),
                "hang" => {}
                _ => panic!("{key}"),
            }
        }
        Ok(keys)
    }

    fn print_keys(&self, request: &Frame, print: &mut KeyPrint) -> bool {
        let body = request.body();
        let Some(end) = body.iter().position(|b| *b == b'\n') else {
            return false;
        };
        print.front = body[..=end].to_vec();
        true
    }

    fn has_keys(&self, request: &Frame, print: &KeyPrint) -> bool {
        request.body().starts_with(&print.front)
    }

    fn restamp(&self, head: &mut [u8], id: StreamId) {
        if let Some(place) = head.get_mut(4..12) {
            place.copy_from_slice(&id.0.to_be_bytes());
        }
    }

    fn heartbeat(&self, _: u8, id: StreamId) -> Option<Bytes> {
        Some(frame(FrameKind::Heartbeat, 0, id.0, b"").wire)
    }

    fn heartbeat_reply(&self, heartbeat: &Frame) -> Option<Bytes> {
        Some(frame(FrameKind::HeartbeatReply, 0, heartbeat.stream_id.0, b"").wire)
    }

    fn goaway(&self, _: u8) -> Option<Bytes> {
        Some(frame(FrameKind::GoAway, 0, 0, b"").wire)
    }

    fn local_reply(&self, request: &Frame, reason: LocalReply, message: &str) -> Option<Bytes> {
        let status = if reason.nothing_sent() { 3 } else { 2 };
        let is_answered = request.kind == FrameKind::Request;
        is_answered.then(|| frame(FrameKind::Reply, status, request.stream_id.0, message.as_bytes()).wire)
    }

    fn outcome(&self, reply: &Frame) -> Outcome {
        match status(reply) {
            0 => Outcome::Ok,
            1 => Outcome::AppException,
            3 => Outcome::NothingSent,
            other => Outcome::Failed(other),
        }
    }
}
