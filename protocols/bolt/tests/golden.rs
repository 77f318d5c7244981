// SPDX-License-Identifier: Apache-2.0
//! Frames of real SOFARPC applications and of bolt used without it, read from `testbed/golden/bolt/`. File names say what
//! each frame is.

use std::time::Duration;

use remora_bolt::frame::{Parts, Version};
use remora_bolt::sofa::Call;
use remora_bolt::{Bolt, heartbeat};
use remora_protocol::{BytesMut, Decoded, Frame, FrameKind, Outcome, Protocol, RouteKeysError, Sniff, StreamId};

mod support;

use support::{Golden, LIMIT, frame, golden, one};

#[test]
fn decode_waits_for_every_byte() {
    for Golden { name, wire } in golden("") {
        // Of long frames the first part and the end.
        for cut in (0..wire.len().min(2000)).chain(wire.len().saturating_sub(20)..wire.len()) {
            let mut input = BytesMut::from(&wire[..cut]);
            match Bolt.decode(&mut input, LIMIT).unwrap() {
                Decoded::Incomplete { missing } => assert!(missing >= 1 && cut + missing <= wire.len(), "{name}"),
                other => panic!("{name} cut at {cut}: {other:?}"),
            }
            assert_eq!(input.len(), cut, "{name}: nothing may be consumed");
        }
        assert_eq!(&frame(&wire).wire[..], wire, "{name}");
    }
}

#[test]
fn several_frames_at_once_come_out_one_by_one() {
    let all = golden("");
    let stream: Vec<u8> = all.iter().flat_map(|golden| golden.wire.clone()).collect();
    let mut input = BytesMut::from(&stream[..]);
    for golden in &all {
        match Bolt.decode(&mut input, LIMIT).unwrap() {
            Decoded::Frame(frame) => assert_eq!(&frame.wire[..], golden.wire, "{}", golden.name),
            other => panic!("{}: {other:?}", golden.name),
        }
    }
    assert!(input.is_empty());
}

#[test]
fn each_kind_is_told() {
    for Golden { name, wire } in golden("") {
        let expected = match name.as_str() {
            name if name.contains("heartbeat-request") => FrameKind::Heartbeat,
            name if name.contains("heartbeat-response") => FrameKind::HeartbeatReply,
            name if name.contains("oneway") => FrameKind::Oneway,
            name if name.contains("-request-") => FrameKind::Request,
            _ => FrameKind::Reply,
        };
        assert_eq!(frame(&wire).kind, expected, "{name}");
    }
}

#[test]
fn first_bytes_are_known_as_bolt() {
    for Golden { name, wire } in golden("request") {
        let enough = if wire[0] == 1 { 4 } else { 5 };
        for cut in 0..enough {
            assert_eq!(Bolt.sniff(&wire[..cut]), Sniff::NeedMore, "{name} cut at {cut}");
        }
        assert_eq!(Bolt.sniff(&wire[..enough]), Sniff::Yes, "{name}");
        assert_eq!(Bolt.sniff(&wire), Sniff::Yes, "{name}");
    }
    for other in [
        &b"\xda\xbb\xc2"[..],
        b"GET / HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"\x16\x03\x01",
        b"\0\0\0\x2d\0\0\0\0",
        b"\x01\x03",
        b"\x01\x01\x01",
        b"\x02\x03",
        b"\x02\x01\x01\0\x09",
    ] {
        assert_eq!(Bolt.sniff(other), Sniff::No, "{other:?}");
    }
}

#[test]
fn dialects_are_told() {
    for Golden { name, wire } in golden("") {
        let version = match name.as_str() {
            name if name.contains("-v2-crc") => Version::V2Crc,
            name if name.contains("-v2") => Version::V2,
            _ => Version::V1,
        };
        assert_eq!(Bolt.dialect(&frame(&wire)), version.dialect(), "{name}");
        assert_eq!(Version::of_dialect(version.dialect()), version);
    }
}

#[test]
fn our_heartbeats_and_acknowledgements_are_those_that_peers_send() {
    for Golden { name, wire } in golden("heartbeat-request") {
        let theirs = frame(&wire);
        let dialect = Bolt.dialect(&theirs);
        assert_eq!(&Bolt.heartbeat(dialect, theirs.stream_id).unwrap()[..], wire, "{name}");
        let ack = golden(&name.replace("request-of-consumer", "response-of-provider")).remove(0);
        let mut expected = ack.wire;
        let ours = Bolt.heartbeat_reply(&theirs).unwrap();
        let at = if wire[0] == 1 { 5 } else { 6 };
        expected[at..at + 4].copy_from_slice(&wire[at..at + 4]);
        assert_eq!(&ours[..], expected, "{name}");
        assert!(Bolt.heartbeat_reply(&frame(&ours)).is_none(), "an answer gets none");
    }
    assert!(Bolt.heartbeat_reply(&one("5.13.2-request-simple")).is_none());
}

#[test]
fn route_keys_of_every_sofa_request_are_read() {
    for Golden { name, wire } in golden("-request-") {
        if name.contains("heartbeat") || name.starts_with("bolt-") {
            continue;
        }
        let frame = frame(&wire);
        let keys = Bolt
            .route_keys(&frame)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let call = name.split_once("-request-").unwrap().1;
        let (service, group, version) = match call {
            "version" => ("demo.EchoService", "", "2.0.0"),
            "unique-id" => ("demo.EchoService", "g1", "1.0"),
            "service-not-found" => ("demo.UnknownService", "", "1.0"),
            "protobuf" | "protobuf-exception" => ("demo.ProtoService", "", "1.0"),
            _ => ("demo.EchoService", "", "1.0"),
        };
        assert_eq!(
            (&*keys.service, &*keys.group, &*keys.version),
            (service, group, version),
            "{name}"
        );
        let method = match call {
            "fury2" => "simple".to_owned(),
            "pojo-generic" => "pojo".to_owned(),
            call => camel(call),
        };
        assert_eq!(keys.method, method, "{name}");
        assert_eq!(keys.is_generic, call.ends_with("generic"), "{name}");
        assert_eq!(keys.caller.as_deref(), Some("demo-consumer"), "{name}");
        let serialization = match call {
            "protobuf" | "protobuf-exception" => "protobuf",
            "fury2" => "fury2",
            _ => "hessian2",
        };
        assert_eq!(keys.serialization, Some(serialization), "{name}");
        let is_oneway = call == "oneway";
        assert_eq!(
            keys.timeout,
            (!is_oneway).then_some(Duration::from_millis(3000)),
            "{name}"
        );
        assert!(!keys.pins_connection);
        let call = Call::of(&frame).unwrap();
        assert!(call.trace_id.len() >= 25 && call.span_id == b"0", "{name}: {call:?}");
    }
}

fn camel(dashed: &str) -> String {
    let mut words = dashed.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |all, word| all + &word[..1].to_uppercase() + &word[1..])
}

#[test]
fn classes_of_the_users_own_have_no_route_keys() {
    for Golden { name, wire } in golden("bolt-") {
        let frame = frame(&wire);
        if matches!(frame.kind, FrameKind::Request | FrameKind::Oneway) {
            let error = Bolt.route_keys(&frame).unwrap_err();
            assert!(
                matches!(
                    error,
                    RouteKeysError::Opaque {
                        serialization: "hessian2",
                        pins_connection: false
                    }
                ),
                "{name}: {error}"
            );
        } else {
            assert_eq!(
                Bolt.route_keys(&frame).unwrap_err().reason(),
                "malformed_body",
                "{name}"
            );
        }
    }
}

#[test]
fn outcomes_of_replies_are_told() {
    for Golden { name, wire } in golden("-response-") {
        let frame = frame(&wire);
        if frame.kind != FrameKind::Reply {
            continue;
        }
        let expected = match name.as_str() {
            name if name.contains("busy") => Outcome::Refused,
            name if name.contains("server-exception") || name.contains("no-processor") => Outcome::Failed(2),
            name if name.contains("exception") => Outcome::AppException,
            name if name.contains("service-not-found") => Outcome::Failed(0),
            _ => Outcome::Ok,
        };
        assert_eq!(Bolt.outcome(&frame), expected, "{name}");
    }
}

#[test]
fn a_restamped_frame_is_one_that_a_peer_would_read() {
    let other = StreamId(0xfedc_ba98);
    let (mut with_crc, mut long_with_crc) = (0, 0);
    for Golden { name, wire } in golden("") {
        let original = frame(&wire);
        let has_crc = Parts::of(&wire).unwrap().head.has_crc;
        with_crc += usize::from(has_crc);
        long_with_crc += usize::from(has_crc && wire.len() > 4096);
        // The CRC is checked when it is decoded again.
        let stamped = frame(&restamped(&original, other));
        assert_eq!(stamped.stream_id, other, "{name}");
        assert_eq!(Bolt.restamped_trailer(&original, other).is_some(), has_crc, "{name}");
        assert!(
            restamped(&stamped, original.stream_id) == wire,
            "{name}: nothing else changes"
        );
    }
    assert!(with_crc > 10 && long_with_crc > 2, "{with_crc}, {long_with_crc}");
    let mut short = heartbeat(Version::V2, 7)[..19].to_vec();
    Bolt.restamp(&mut short, other);
    assert_eq!(short, heartbeat(Version::V2, 7)[..19], "a short slice is left alone");
}

/// As the call path writes it.
fn restamped(frame: &Frame, id: StreamId) -> Vec<u8> {
    let mut wire = frame.wire.to_vec();
    Bolt.restamp(&mut wire[..frame.head_len], id);
    if let Some(trailer) = Bolt.restamped_trailer(frame, id) {
        let at = wire.len() - trailer.len();
        wire[at..].copy_from_slice(&trailer);
    }
    wire
}
