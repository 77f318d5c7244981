// SPDX-License-Identifier: Apache-2.0
//! A whole plugin for a made-up protocol of lines, to be copied: every method of [`Protocol`] that such a protocol needs, and
//! tests for each.
//!
//! ```text
//! call 0000002a com.example.Echo:blue:1.0.0 say 2500 hello~26
//! ^    ^        ^                           ^   ^    ^     ^
//! |    |        service:group:version       |   |    |     checksum of all before `~`, then LF
//! |    |        (group, version optional)   |   |    argument, to the end
//! |    stream id, 8 hex digits              |   the caller's patience in milliseconds, 0 = none given
//! what the line is for, 4 letters           method
//! ```
//!
//! | word | from | then |
//! |---|---|---|
//! | `call`, `tell` | caller | waits for an answer; does not |
//! | `okay`, `oops`, `fail` | callee | the result; what the application threw; why the call was not made |
//! | `ping`, `pong` | both | a probe and its answer |
//! | `stop`, `more` | callee | send no new calls on this connection; send them again |
//!
//! `cargo run -p remora-protocol --example line_protocol` prints a conversation; `cargo test` runs the tests below.
//! To use it: put the type in a crate of its own and hand it to `Plugins::default().with_protocol(Arc::new(LineProtocol))`,
//! with its ports under `protocols.line` of the configuration; see "Adding a protocol" in `CONTRIBUTING.md`.

use std::borrow::Cow;
use std::time::Duration;

use remora_protocol::{
    Bytes, BytesMut, DecodeError, Decoded, Frame, FrameKind, LocalReply, Outcome, Pooling, Protocol, RouteKeys,
    RouteKeysError, Sniff, StreamId,
};

/// The plugin. It keeps no state: the proxy uses one value for all connections.
#[derive(Clone, Copy, Debug)]
struct LineProtocol;

impl Protocol for LineProtocol {
    fn name(&self) -> &'static str {
        "line"
    }

    /// Says `No` as early as it can, so that another protocol on the same port gets its turn.
    fn sniff(&self, first: &[u8]) -> Sniff {
        let (known, first) = (
            WORDS.iter().map(|(word, _)| word),
            first.get(..WORD_LEN).unwrap_or(first),
        );
        if known.clone().any(|word| *word == first) {
            Sniff::Yes
        } else if known.clone().any(|word| word.starts_with(first)) {
            Sniff::NeedMore
        } else {
            Sniff::No
        }
    }

    fn decode(&self, input: &mut BytesMut, max_frame_bytes: usize) -> Result<Decoded, DecodeError> {
        // Look before waiting for more: bytes of another protocol may never contain the end of a line.
        if self.sniff(input) == Sniff::No {
            let mut found = [0; 4];
            found.iter_mut().zip(input.iter()).for_each(|(to, from)| *to = *from);
            return Err(DecodeError::Magic {
                protocol: "line",
                found,
            });
        }
        let within_limit = input.get(..max_frame_bytes).unwrap_or(input);
        let Some(end) = within_limit.iter().position(|&byte| byte == b'\n') else {
            if within_limit.len() < max_frame_bytes {
                return Ok(Decoded::Incomplete { missing: 1 });
            }
            // No length stands in front of a line, so nobody knows where the next one starts. A protocol with a length
            // in its head returns `Decoded::TooLong` here, and the connection lives on.
            let (announced, max) = (input.len() as u64, max_frame_bytes as u64);
            return Err(DecodeError::TooLong {
                protocol: "line",
                announced,
                max,
            });
        };
        let bad = |field| DecodeError::Head {
            protocol: "line",
            field,
            value: end as u64,
        };
        // `split_to` shares the buffer: nothing is copied.
        let wire = input.split_to(end + 1).freeze();
        let kind = WORDS
            .iter()
            .find(|(word, _)| wire.starts_with(word))
            .map(|(_, kind)| *kind)
            .ok_or(bad("word"))?;
        let id = wire.get(WORD_LEN + 1..HEAD_LEN).and_then(hex).ok_or(bad("stream id"))?;
        if wire.len() < HEAD_LEN + TRAILER_LEN {
            return Err(bad("length"));
        }
        Ok(Decoded::Frame(Frame {
            kind,
            stream_id: StreamId(u64::from(id)),
            head_len: HEAD_LEN,
            wire,
        }))
    }

    fn route_keys<'f>(&self, request: &'f Frame) -> Result<RouteKeys<'f>, RouteKeysError> {
        let malformed = |what| RouteKeysError::Malformed { at: 0, what };
        let text = std::str::from_utf8(text_of(request)).map_err(|_| malformed("text is not UTF-8"))?;
        let mut words = text.splitn(4, ' ');
        let mut service = words.next().unwrap_or_default().split(':');
        let method = words.next().ok_or(malformed("method is missing"))?;
        let patience = words
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or(malformed("timeout is no number"))?;
        Ok(RouteKeys {
            service: Cow::Borrowed(service.next().unwrap_or_default()),
            group: Cow::Borrowed(service.next().unwrap_or_default()),
            version: Cow::Borrowed(service.next().unwrap_or_default()),
            method: Cow::Borrowed(method),
            timeout: (patience > 0).then(|| Duration::from_millis(patience)),
            ..RouteKeys::default()
        })
    }

    /// Gets a copy of the head, and must not need more room than it has: that is why the id has a fixed width.
    fn restamp(&self, head: &mut [u8], id: StreamId) {
        if let Some(digits) = head.get_mut(WORD_LEN + 1..HEAD_LEN) {
            digits.copy_from_slice(format!("{:08x}", id.0 as u32).as_bytes());
        }
    }

    /// The checksum covers the id, so it is another one under another id. Most protocols leave this method out.
    fn restamped_trailer(&self, frame: &Frame, id: StreamId) -> Option<[u8; 4]> {
        let mut head = [0; HEAD_LEN];
        head.copy_from_slice(frame.wire.get(..HEAD_LEN)?);
        self.restamp(&mut head, id);
        let sum = checksum(&head).wrapping_add(checksum(frame.body().get(..text_len(frame))?));
        Some(trailer(sum))
    }

    /// The proxy draws ids from this many bits.
    fn stream_id_bits(&self) -> u32 {
        32
    }

    /// Answers carry the id of their call, so many calls may share a connection. Without ids: `PingPong`.
    fn pooling(&self) -> Pooling {
        Pooling::Multiplex
    }

    /// There is one kind of line, so every connection has the same dialect.
    fn heartbeat(&self, _dialect: u8, id: StreamId) -> Option<Bytes> {
        Some(line("ping", id, ""))
    }

    fn heartbeat_reply(&self, heartbeat: &Frame) -> Option<Bytes> {
        (heartbeat.kind == FrameKind::Heartbeat).then(|| line("pong", heartbeat.stream_id, ""))
    }

    fn goaway(&self, _dialect: u8) -> Option<Bytes> {
        Some(line("stop", StreamId(0), ""))
    }

    /// What the proxy says when it cannot pass the call on. Words that the peer's library knows; here, any text.
    fn local_reply(&self, request: &Frame, reason: LocalReply, message: &str) -> Option<Bytes> {
        let was_sent = if reason.nothing_sent() { NOTHING_SENT } else { "" };
        let one_line = message.replace(['\n', '\r'], " ");
        (request.kind == FrameKind::Request).then(|| {
            line(
                "fail",
                request.stream_id,
                &format!("{was_sent}{}: {one_line}", reason.reason()),
            )
        })
    }

    fn outcome(&self, reply: &Frame) -> Outcome {
        match reply.wire.get(..WORD_LEN) {
            Some(b"okay") => Outcome::Ok,
            Some(b"oops") => Outcome::AppException,
            _ if text_of(reply).starts_with(NOTHING_SENT.as_bytes()) => Outcome::NothingSent,
            _ => Outcome::Failed(0),
        }
    }
}

const WORDS: [(&[u8], FrameKind); 9] = [
    (b"call", FrameKind::Request),
    (b"tell", FrameKind::Oneway),
    (b"okay", FrameKind::Reply),
    (b"oops", FrameKind::Reply),
    (b"fail", FrameKind::Reply),
    (b"ping", FrameKind::Heartbeat),
    (b"pong", FrameKind::HeartbeatReply),
    (b"stop", FrameKind::GoAway),
    (b"more", FrameKind::Resume),
];
const WORD_LEN: usize = 4;
/// Word, space, 8 digits: all that `restamp` touches.
const HEAD_LEN: usize = 13;
/// `~`, two digits, LF.
const TRAILER_LEN: usize = 4;
/// By this another proxy further up knows that it may try elsewhere.
const NOTHING_SENT: &str = "nothing sent, ";

/// Bytes between head and trailer.
fn text_len(frame: &Frame) -> usize {
    frame.body().len().saturating_sub(TRAILER_LEN)
}

fn text_of(frame: &Frame) -> &[u8] {
    frame
        .body()
        .get(..text_len(frame))
        .unwrap_or_default()
        .trim_ascii_start()
}

fn hex(digits: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

fn trailer(sum: u8) -> [u8; 4] {
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 0x0f)];
    [b'~', digit(sum >> 4), digit(sum), b'\n']
}

fn line(word: &str, id: StreamId, text: &str) -> Bytes {
    let space = if text.is_empty() { "" } else { " " };
    let mut line = format!("{word} {:08x}{space}{text}", id.0 as u32).into_bytes();
    line.extend(trailer(checksum(&line)));
    line.into()
}

fn main() {
    let call = line("call", StreamId(42), "com.example.Echo:blue:1.0.0 say 2500 hello");
    let mut input = BytesMut::from(&call[..]);
    let Ok(Decoded::Frame(frame)) = LineProtocol.decode(&mut input, 1 << 20) else {
        unreachable!("the line above is a whole frame");
    };
    print!("caller   {}", String::from_utf8_lossy(&frame.wire));
    if let Ok(keys) = LineProtocol.route_keys(&frame) {
        println!(
            "proxy    looks for {} group {} version {}",
            keys.service, keys.group, keys.version
        );
    }
    let reply = LineProtocol.local_reply(&frame, LocalReply::NoInstance, "com.example.Echo has no instance");
    print!("or says  {}", String::from_utf8_lossy(&reply.unwrap_or_default()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = "com.example.Echo:blue:1.0.0 say 2500 hello world";

    fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
        LineProtocol.decode(&mut BytesMut::from(bytes), 1 << 10)
    }

    fn frame(bytes: &[u8]) -> Frame {
        match decode(bytes) {
            Ok(Decoded::Frame(frame)) => frame,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn decode_waits_for_every_byte() {
        let whole = line("call", StreamId(42), CALL);
        for cut in 0..whole.len() {
            let mut input = BytesMut::from(&whole[..cut]);
            let decoded = LineProtocol.decode(&mut input, 1 << 10).unwrap();
            assert!(matches!(decoded, Decoded::Incomplete { missing: 1.. }), "cut at {cut}");
            assert_eq!(input.len(), cut, "nothing may be consumed");
        }
    }

    #[test]
    fn two_frames_at_once_come_out_one_by_one() {
        let mut input = BytesMut::new();
        input.extend_from_slice(&line("tell", StreamId(1), CALL));
        input.extend_from_slice(&line("ping", StreamId(2), ""));
        for (kind, id) in [(FrameKind::Oneway, 1), (FrameKind::Heartbeat, 2)] {
            match LineProtocol.decode(&mut input, 1 << 10).unwrap() {
                Decoded::Frame(frame) => assert_eq!((frame.kind, frame.stream_id), (kind, StreamId(id))),
                other => panic!("{other:?}"),
            }
        }
        assert!(input.is_empty());
    }

    #[test]
    fn other_bytes_and_endless_lines_end_the_connection() {
        assert_eq!(decode(b"GET / HTTP/1.1").unwrap_err().reason(), "bad_magic");
        assert_eq!(decode(b"call zzzzzzzz x y 0~00\n").unwrap_err().reason(), "bad_head");
        assert_eq!(decode(b"call 1\n").unwrap_err().reason(), "bad_head");
        assert_eq!(
            decode(&[&b"call 00000001"[..], &[b' '; 2000]].concat())
                .unwrap_err()
                .reason(),
            "too_long"
        );
    }

    #[test]
    fn sniff_tells_from_the_first_bytes() {
        assert_eq!(LineProtocol.sniff(b""), Sniff::NeedMore);
        assert_eq!(LineProtocol.sniff(b"ca"), Sniff::NeedMore);
        assert_eq!(LineProtocol.sniff(b"call 0000"), Sniff::Yes);
        assert_eq!(LineProtocol.sniff(b"cat"), Sniff::No);
    }

    #[test]
    fn route_keys_borrow_from_the_frame() {
        let call = frame(&line("call", StreamId(42), CALL));
        let keys = LineProtocol.route_keys(&call).unwrap();
        assert_eq!(
            (&*keys.service, &*keys.group, &*keys.version),
            ("com.example.Echo", "blue", "1.0.0")
        );
        assert_eq!(
            (&*keys.method, keys.timeout),
            ("say", Some(Duration::from_millis(2500)))
        );
        assert!(matches!(keys.service, Cow::Borrowed(_)));
        let plain = frame(&line("call", StreamId(42), "com.example.Echo say 0 x"));
        let keys = LineProtocol.route_keys(&plain).unwrap();
        assert_eq!((&*keys.group, &*keys.version, keys.timeout), ("", "", None));
        let broken = frame(&line("call", StreamId(42), "com.example.Echo"));
        assert_eq!(LineProtocol.route_keys(&broken).unwrap_err().reason(), "malformed_body");
    }

    #[test]
    fn a_restamped_frame_is_the_one_that_a_peer_would_have_sent() {
        let call = frame(&line("call", StreamId(42), CALL));
        let mut wire = call.wire.to_vec();
        LineProtocol.restamp(&mut wire[..HEAD_LEN], StreamId(0xabcd));
        let at = wire.len() - TRAILER_LEN;
        wire[at..].copy_from_slice(&LineProtocol.restamped_trailer(&call, StreamId(0xabcd)).unwrap());
        assert_eq!(wire, line("call", StreamId(0xabcd), CALL));
        LineProtocol.restamp(&mut wire[..5], StreamId(1));
        assert_eq!(
            wire,
            line("call", StreamId(0xabcd), CALL),
            "a short slice is left alone"
        );
    }

    #[test]
    fn probes_are_answered_with_their_id() {
        let ping = frame(&LineProtocol.heartbeat(0, StreamId(9)).unwrap());
        let pong = frame(&LineProtocol.heartbeat_reply(&ping).unwrap());
        assert_eq!((pong.kind, pong.stream_id), (FrameKind::HeartbeatReply, StreamId(9)));
        assert!(LineProtocol.heartbeat_reply(&pong).is_none());
    }

    #[test]
    fn goaway_and_resume_are_told() {
        assert_eq!(frame(&LineProtocol.goaway(0).unwrap()).kind, FrameKind::GoAway);
        assert_eq!(frame(&line("more", StreamId(0), "")).kind, FrameKind::Resume);
    }

    #[test]
    fn a_local_reply_says_whether_anything_was_sent() {
        let call = frame(&line("call", StreamId(42), CALL));
        for (reason, outcome) in [
            (LocalReply::ConnectFailed, Outcome::NothingSent),
            (LocalReply::Timeout, Outcome::Failed(0)),
        ] {
            let reply = frame(&LineProtocol.local_reply(&call, reason, "Echo\nis away").unwrap());
            assert_eq!((reply.kind, reply.stream_id), (FrameKind::Reply, StreamId(42)));
            assert_eq!(LineProtocol.outcome(&reply), outcome);
        }
        let tell = frame(&line("tell", StreamId(42), CALL));
        assert!(LineProtocol.local_reply(&tell, LocalReply::Timeout, "").is_none());
    }

    #[test]
    fn outcomes_are_told() {
        assert_eq!(
            LineProtocol.outcome(&frame(&line("okay", StreamId(1), "hello"))),
            Outcome::Ok
        );
        assert_eq!(
            LineProtocol.outcome(&frame(&line("oops", StreamId(1), "no such"))),
            Outcome::AppException
        );
    }

    #[test]
    fn ids_of_32_bits_share_a_connection() {
        assert_eq!(
            (LineProtocol.stream_id_bits(), LineProtocol.pooling()),
            (32, Pooling::Multiplex)
        );
        assert_eq!(LineProtocol.name(), "line");
    }
}
