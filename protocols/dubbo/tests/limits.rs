// SPDX-License-Identifier: Apache-2.0
//! What is refused from the head alone, what ends a connection, and what random cuts of the stream do not change.

use proptest::prelude::*;
use remora_dubbo::Dubbo;
use remora_protocol::{
    BytesMut, DecodeError, Decoded, Frame, FrameKind, LocalReply, Outcome, Protocol, Sniff, StreamId,
};

/// Heartbeat of a Dubbo 2.7.23 consumer, oneway of a made-up service, reply.
const HEARTBEAT: &[u8] = b"\xda\xbb\xe2\0\0\0\0\0\0\0\0\x05\0\0\0\x01N";

fn frame(flag: u8, status: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let mut wire = vec![0xda, 0xbb, flag, status];
    wire.extend(id.to_be_bytes());
    wire.extend((body.len() as u32).to_be_bytes());
    wire.extend(body);
    wire
}

fn one(wire: &[u8]) -> Frame {
    match Dubbo.decode(&mut BytesMut::from(wire), 1 << 20).expect("a dubbo frame") {
        Decoded::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sniff_needs_two_bytes() {
    assert_eq!(Dubbo.sniff(b""), Sniff::NeedMore);
    assert_eq!(Dubbo.sniff(b"\xda"), Sniff::NeedMore);
    assert_eq!(Dubbo.sniff(HEARTBEAT), Sniff::Yes);
    for other in [&b"P"[..], b"PRI * HTTP/2.0", b"\xda\xbc", b"\x16\x03", b"ls\r\n"] {
        assert_eq!(Dubbo.sniff(other), Sniff::No);
    }
}

#[test]
fn another_magic_is_an_error_at_the_first_wrong_byte() {
    for wrong in [
        &b"G"[..],
        b"\xda\xdb",
        b"telnet",
        b"\x00\xda\xbb\xc2\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        let mut input = BytesMut::from(wrong);
        let error = Dubbo.decode(&mut input, 1 << 20).unwrap_err();
        assert!(
            matches!(error, DecodeError::Magic { found, .. } if found[0] == wrong[0]),
            "{error}"
        );
        assert_eq!(error.reason(), "bad_magic");
        assert_eq!(&input[..], wrong, "no search for a later magic");
    }
}

#[test]
fn over_limit_is_refused_from_the_head_alone() {
    let whole = frame(0xc2, 0, 7, &[0; 1000]);
    let Decoded::Frame(_) = Dubbo.decode(&mut BytesMut::from(&whole[..]), whole.len()).unwrap() else {
        panic!("exactly the limit is within it");
    };
    let mut input = BytesMut::from(&whole[..20]);
    match Dubbo.decode(&mut input, whole.len() - 1).unwrap() {
        Decoded::TooLong { head, body_len } => {
            assert_eq!(
                (head.kind, head.stream_id, body_len),
                (FrameKind::Request, StreamId(7), 1000)
            );
            assert_eq!(head.wire, whole[..16]);
            let reply = one(&Dubbo.local_reply(&head, LocalReply::TooLong, "over the limit").unwrap());
            assert_eq!((reply.stream_id, reply.wire[3]), (StreamId(7), 40));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(input.len(), 4, "the body is left to the caller");
}

#[test]
fn the_longest_length_is_too_long_and_a_negative_one_an_error() {
    let mut head = frame(0x02, 20, 9, b"");
    head[12..].copy_from_slice(&i32::MAX.to_be_bytes());
    match Dubbo.decode(&mut BytesMut::from(&head[..]), usize::MAX).unwrap() {
        Decoded::Incomplete { missing } => assert_eq!(missing, i32::MAX as usize),
        other => panic!("{other:?}"),
    }
    match Dubbo.decode(&mut BytesMut::from(&head[..]), 8 << 20).unwrap() {
        Decoded::TooLong { head, body_len } => assert_eq!((head.kind, body_len), (FrameKind::Reply, i32::MAX as u64)),
        other => panic!("{other:?}"),
    }
    for negative in [i32::MIN, -1] {
        head[12..].copy_from_slice(&negative.to_be_bytes());
        let error = Dubbo.decode(&mut BytesMut::from(&head[..]), usize::MAX).unwrap_err();
        assert_eq!(error.reason(), "bad_head", "{error}");
    }
}

#[test]
fn the_body_of_an_event_is_bounded() {
    let mut event = frame(0xe2, 0, 9, b"");
    event[12..].copy_from_slice(&1000u32.to_be_bytes());
    match Dubbo.decode(&mut BytesMut::from(&event[..]), 8 << 20).unwrap() {
        Decoded::TooLong { head, body_len } => {
            assert_eq!((head.kind, body_len), (FrameKind::Ignorable, 1000));
            assert!(Dubbo.heartbeat_reply(&head).is_none());
            assert!(Dubbo.local_reply(&head, LocalReply::TooLong, "").is_none());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_a_request_gets_a_local_reply() {
    for flag in [0x82, 0x02, 0xe2, 0x22, 0xa2] {
        assert!(
            Dubbo
                .local_reply(&one(&frame(flag, 0, 1, b"N")), LocalReply::Timeout, "late")
                .is_none()
        );
    }
}

#[test]
fn another_remora_knows_whether_anything_was_sent() {
    use LocalReply::*;
    let reasons = [
        (NoRoute, 60),
        (NoInstance, 80),
        (ConnectFailed, 80),
        (UpstreamClosed, 80),
        (Timeout, 31),
        (Overloaded, 100),
        (TooLong, 40),
        (Malformed, 40),
        (Draining, 80),
    ];
    let long = "\u{4e2d}".repeat(5000);
    for (reason, status) in reasons {
        for serialization in 0..32 {
            for message in ["", "demo.EchoService: none of 3 instances answers", &long] {
                let request = one(&frame(0xc0 | serialization, 0, 5, b""));
                let reply = one(&Dubbo.local_reply(&request, reason, message).unwrap());
                assert_eq!(
                    (reply.kind, reply.wire[3], reply.stream_id),
                    (FrameKind::Reply, status, StreamId(5))
                );
                assert!(reply.wire.len() < 4096);
                let expected = if reason.nothing_sent() {
                    Outcome::NothingSent
                } else {
                    Outcome::Failed(status)
                };
                assert_eq!(
                    Dubbo.outcome(&reply),
                    expected,
                    "{reason:?} in serialization {serialization}"
                );
            }
        }
    }
}

#[test]
fn an_application_cannot_pass_for_a_remora_further_down() {
    let text = b"java.lang.IllegalStateException: remora[nothing_sent/connect_failed]: x";
    let mut body = vec![0x30, u8::try_from(text.len()).unwrap()];
    body.extend(text);
    assert_eq!(Dubbo.outcome(&one(&frame(0x02, 70, 1, &body))), Outcome::Failed(70));
    body = b"\x94\x20remora[nothing_sent/x]: as a value".to_vec();
    assert_eq!(Dubbo.outcome(&one(&frame(0x02, 20, 1, &body))), Outcome::Ok);
}

#[test]
fn exceptions_are_told_in_each_serialization() {
    for (serialization, body, expected) in [
        (2, &b"\x90"[..], Outcome::AppException),
        (2, b"\x93C", Outcome::AppException),
        (2, b"\x94\x00", Outcome::Ok),
        (2, b"\x92", Outcome::Ok),
        (2, b"", Outcome::Ok),
        (3, b"\xac\xed\0\x05\x77\x02\x03\x01", Outcome::AppException),
        (3, b"\xac\xed\0\x05\x77\x01\x04", Outcome::Ok),
        (6, b"3\n{}", Outcome::AppException),
        (6, b"1\n", Outcome::Ok),
        (8, b"\x03\x01", Outcome::AppException),
        (22, b"\0\x05", Outcome::AppException),
        (22, b"\x02\x08\x03", Outcome::AppException),
        (22, b"\x02\x08\x01", Outcome::Ok),
        (23, b"\0\0\0\x02\xbd\x03", Outcome::AppException),
        (23, b"\0\0\0\x02\xbd\x04", Outcome::Ok),
        (28, b"\x03", Outcome::Ok),
    ] {
        assert_eq!(
            Dubbo.outcome(&one(&frame(serialization, 20, 1, body))),
            expected,
            "{serialization} {body:x?}"
        );
    }
}

#[test]
fn restamp_leaves_a_short_slice_alone() {
    let mut head = [7; 15];
    Dubbo.restamp(&mut head, StreamId(u64::MAX));
    assert_eq!(head, [7; 15]);
}

#[test]
fn our_heartbeat_is_one() {
    let frame = one(&Dubbo.heartbeat(0, StreamId(5)).unwrap());
    assert_eq!(frame.wire, HEARTBEAT);
    let reply = one(&Dubbo.heartbeat_reply(&frame).unwrap());
    assert_eq!((reply.kind, reply.stream_id), (FrameKind::HeartbeatReply, StreamId(5)));
    assert!(Dubbo.heartbeat_reply(&reply).is_none());
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    (
        any::<u8>(),
        any::<u8>(),
        any::<u64>(),
        proptest::collection::vec(any::<u8>(), 0..300),
    )
        .prop_map(|(flag, status, id, body)| frame(flag, status, id, &body))
}

proptest! {
    #[test]
    fn cuts_of_the_stream_change_nothing(
        frames in proptest::collection::vec(any_frame(), 1..8),
        cuts in proptest::collection::vec(1usize..64, 1..200),
    ) {
        let stream: Vec<u8> = frames.concat();
        let mut cuts = cuts.into_iter().cycle();
        let (mut input, mut sent, mut to_drop, mut out) = (BytesMut::new(), 0, 0u64, Vec::new());
        while sent < stream.len() {
            let end = stream.len().min(sent + cuts.next().unwrap());
            input.extend_from_slice(&stream[sent..end]);
            sent = end;
            loop {
                let dropped = input.len().min(usize::try_from(to_drop).unwrap());
                let _ = input.split_to(dropped);
                to_drop -= dropped as u64;
                if to_drop > 0 {
                    break;
                }
                match Dubbo.decode(&mut input, 280).unwrap() {
                    Decoded::Frame(frame) => out.push(frame.wire.to_vec()),
                    Decoded::TooLong { head, body_len } => {
                        out.push(head.wire.to_vec());
                        to_drop = body_len;
                    }
                    Decoded::Incomplete { missing } => {
                        prop_assert!(missing >= 1);
                        break;
                    }
                }
            }
        }
        let expected: Vec<Vec<u8>> = frames
            .iter()
            .map(|frame| {
                let limit = if frame[2] & 0x20 == 0 { 280 } else { 16 + 256 };
                if frame.len() > limit { frame[..16].to_vec() } else { frame.clone() }
            })
            .collect();
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn nothing_panics_whatever_the_bytes(wire in any_frame(), reason in 0usize..3) {
        let reason = [LocalReply::Timeout, LocalReply::NoRoute, LocalReply::Draining][reason];
        if let Decoded::Frame(frame) = Dubbo.decode(&mut BytesMut::from(&wire[..]), 1 << 20).unwrap() {
            let _ = Dubbo.route_keys(&frame);
            let _ = Dubbo.outcome(&frame);
            let _ = Dubbo.heartbeat_reply(&frame);
            let _ = Dubbo.local_reply(&frame, reason, "x");
        }
    }
}
