// SPDX-License-Identifier: Apache-2.0
//! Frames that are written, cut, damaged, mixed up and over the limit.

use std::time::Duration;

use proptest::prelude::*;
use remora_bolt::frame::{Head, Kind, Parts, Version};
use remora_bolt::{Bolt, Reply, Request, decode, heartbeat, heartbeat_ack, status};
use remora_protocol::{BytesMut, Decoded, FrameKind, Protocol, StreamId};

mod support;

use support::{LIMIT, frame as one, hex_bytes as hex};

const VERSIONS: [Version; 3] = [Version::V1, Version::V2, Version::V2Crc];

/// What bolt 1.6.10 and SOFARPC 5.13.2 wrote.
#[test]
fn frames_of_ours_are_byte_for_byte_what_java_writes() {
    for (version, probe, ack) in [
        (
            Version::V1,
            "01 01 0000 01 00000009 01 ffffffff 0000 0000 00000000",
            "01 00 0000 01 00000009 01 0000 0000 0000 00000000",
        ),
        (
            Version::V2Crc,
            "02 02 01 0000 01 00000009 01 00 ffffffff 0000 0000 00000000",
            "02 02 00 0000 01 00000009 01 00 0000 0000 0000 00000000",
        ),
    ] {
        assert_eq!(heartbeat(version, 9), hex(probe));
        assert_eq!(heartbeat_ack(version, 9), hex(ack));
    }
    let oneway = Request {
        version: Version::V2Crc,
        id: 4,
        is_oneway: true,
        class: "java.lang.String",
        content: b"\x02ow",
        with_crc: true,
        ..Request::default()
    };
    let java = hex(
        "02 02 02 0001 01 00000004 01 01 ffffffff 0010 0000 00000003 6a6176612e6c616e672e537472696e67 026f77 ca2f9e46",
    );
    assert_eq!(oneway.to_frame().unwrap(), java);
    let reply = Reply {
        version: Version::V2Crc,
        id: 1,
        class: "java.lang.String",
        content: b"\x05world",
        with_crc: true,
        ..Reply::default()
    };
    let java = hex("020200000201000000010101000000100000000000066a6176612e6c616e672e537472696e6705776f726c64 e0805892");
    assert_eq!(reply.to_frame().unwrap(), java);
    let busy = Reply {
        id: 3,
        status: 1,
        ..Reply::default()
    };
    assert_eq!(
        busy.to_frame().unwrap(),
        hex("01 00 0002 01 00000003 01 0001 0000 0000 00000000")
    );
}

#[test]
fn parts_come_back_as_they_were_written() {
    for version in VERSIONS {
        for with_crc in [false, true] {
            let wire = Request {
                version,
                id: 0xfedc_ba98,
                timeout: Some(Duration::from_millis(3000)),
                class: "demo.Request",
                header: &[("service", "demo.Echo:1.0"), ("k", "v")],
                content: b"content",
                codec: 11,
                with_crc,
                ..Request::default()
            };
            let wire = wire.to_frame().unwrap();
            let frame = one(&wire);
            assert_eq!(
                (frame.kind, frame.stream_id),
                (FrameKind::Request, StreamId(0xfedc_ba98))
            );
            let parts = Parts::of(&frame.wire).unwrap();
            assert_eq!(parts.head.version, version);
            assert_eq!((parts.head.kind, parts.head.codec), (Kind::Request, 11));
            assert_eq!(parts.head.timeout(), Some(Duration::from_secs(3)));
            assert_eq!((parts.class, parts.content), (&b"demo.Request"[..], &b"content"[..]));
            assert_eq!(parts.header.get("service"), Some(&b"demo.Echo:1.0"[..]));
            assert_eq!(parts.head.has_crc, with_crc && version == Version::V2Crc);
            // The head is what a reply in the provider's place needs to see.
            let head = Parts::of(frame.head()).unwrap();
            assert_eq!(
                (head.class, head.header, head.content),
                (parts.class, parts.header, &b""[..])
            );
        }
    }
}

#[test]
fn what_a_length_field_cannot_say_is_refused() {
    let long = "x".repeat(0x8000);
    let request = Request {
        class: &long,
        ..Request::default()
    };
    let error = request.to_frame().unwrap_err();
    assert_eq!((error.part, error.max), ("class name", 0x7fff));
    let reply = Reply {
        header: &[("k", &long)],
        ..Reply::default()
    };
    let error = reply.to_frame().unwrap_err();
    assert_eq!(
        (error.part, error.len, error.reason()),
        ("header map", 0x8009, "frame_too_long")
    );
}

#[test]
fn over_limit_is_refused_from_the_head_and_its_names() {
    let wire = Request {
        id: 7,
        class: "demo.Request",
        header: &[("service", "demo.Echo:1.0")],
        content: &[0; 1000],
        ..Request::default()
    };
    for version in VERSIONS {
        let wire = Request {
            version,
            with_crc: true,
            ..wire
        };
        let wire = wire.to_frame().unwrap();
        assert!(matches!(
            decode(&mut BytesMut::from(&wire[..]), wire.len()),
            Ok(Decoded::Frame(_))
        ));
        let long_len = Head::read(&wire).unwrap().unwrap().long_len();
        for cut in 0..long_len {
            let mut input = BytesMut::from(&wire[..cut]);
            assert!(matches!(
                decode(&mut input, 500),
                Ok(Decoded::Incomplete { missing: 1.. })
            ));
        }
        let mut input = BytesMut::from(&wire[..long_len + 3]);
        let Ok(Decoded::TooLong { head, body_len }) = decode(&mut input, wire.len() - 1) else {
            panic!("not too long");
        };
        assert_eq!((head.kind, head.stream_id), (FrameKind::Request, StreamId(7)));
        assert_eq!((head.head_len, head.wire.len()), (long_len, long_len));
        assert_eq!(body_len, (wire.len() - long_len) as u64);
        assert_eq!(Parts::of(&head.wire).unwrap().class, b"demo.Request");
        assert_eq!(input.len(), 3, "the body is left to the caller");
        // Names that are over the limit themselves are not waited for.
        let mut input = BytesMut::from(&wire[..24]);
        let Ok(Decoded::TooLong { head, body_len }) = decode(&mut input, 24) else {
            panic!("not too long");
        };
        assert_eq!(head.wire.len() as u64 + body_len, wire.len() as u64);
        assert_eq!(Parts::of(&head.wire).unwrap().class, b"");
    }
}

#[test]
fn lengths_of_gigabytes_are_answered_from_the_head() {
    let mut wire = heartbeat(Version::V1, 1).to_vec();
    wire[18..22].copy_from_slice(&i32::MAX.to_be_bytes());
    match decode(&mut BytesMut::from(&wire[..]), LIMIT).unwrap() {
        Decoded::TooLong { body_len, .. } => assert_eq!(body_len, i32::MAX as u64),
        other => panic!("{other:?}"),
    }
    match decode(&mut BytesMut::from(&wire[..]), usize::MAX).unwrap() {
        Decoded::Incomplete { missing } => assert_eq!(missing, i32::MAX as usize),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_head_that_no_peer_sends_is_an_error_at_its_first_wrong_byte() {
    let v1 = heartbeat(Version::V1, 1);
    let v2 = heartbeat(Version::V2, 1);
    for (base, at, byte, reason) in [
        (&v1, 0, 0xda, "bad_magic"),
        (&v1, 0, 0, "bad_magic"),
        (&v1, 0, 3, "bad_magic"),
        (&v1, 1, 3, "bad_head"),
        (&v1, 2, 1, "bad_head"),
        (&v1, 3, 2, "bad_head"),
        (&v1, 3, 3, "bad_head"),
        (&v1, 14, 0x80, "bad_head"),
        (&v1, 16, 0x80, "bad_head"),
        (&v1, 18, 0x80, "bad_head"),
        (&v2, 1, 0, "bad_head"),
        (&v2, 1, 3, "bad_head"),
        (&v2, 2, 3, "bad_head"),
        (&v2, 4, 7, "bad_head"),
        (&v2, 11, 0x80, "bad_head"),
        (&v2, 20, 0xff, "bad_head"),
    ] {
        let mut wire = base.to_vec();
        wire[at] = byte;
        let error = decode(&mut BytesMut::from(&wire[..]), LIMIT).unwrap_err();
        assert_eq!(error.reason(), reason, "byte {at} is {byte:#x}: {error}");
        // Version, type and command are told by the bytes that are there.
        if at <= 4 {
            assert!(
                decode(&mut BytesMut::from(&wire[..=at]), LIMIT).is_err(),
                "byte {at} is {byte:#x}"
            );
        }
    }
    // A reply is no request, and the other way round.
    let mut wire = heartbeat_ack(Version::V1, 1).to_vec();
    wire[3] = 1;
    assert!(decode(&mut BytesMut::from(&wire[..]), LIMIT).is_err());
}

#[test]
fn a_damaged_frame_with_a_crc_is_an_error_at_every_byte() {
    let wire = Request {
        version: Version::V2Crc,
        class: "c",
        header: &[("k", "v")],
        content: b"content",
        with_crc: true,
        ..Request::default()
    };
    let wire = wire.to_frame().unwrap();
    for at in 0..wire.len() {
        let mut damaged = wire.to_vec();
        damaged[at] ^= 0x04;
        match decode(&mut BytesMut::from(&damaged[..]), LIMIT) {
            Err(_) | Ok(Decoded::Incomplete { .. } | Decoded::TooLong { .. }) => {}
            // The version without a CRC, or the switch that turns it off: another frame, then bytes that are none.
            Ok(Decoded::Frame(frame)) => assert!(frame.wire.len() < wire.len(), "byte {at}"),
        }
    }
    let mut damaged = wire.to_vec();
    damaged[wire.len() - 5] ^= 1;
    let error = decode(&mut BytesMut::from(&damaged[..]), LIMIT).unwrap_err();
    assert_eq!(error.reason(), "bad_checksum");
}

#[test]
fn goaway_is_mosn_s_and_said_to_who_greeted() {
    for version in VERSIONS {
        let dialect = version.dialect();
        let mut theirs = heartbeat(version, 0).to_vec();
        theirs[if version == Version::V1 { 3 } else { 4 }] = 100;
        assert_eq!(Bolt.goaway(dialect).unwrap(), theirs);
        assert_eq!(one(&theirs).kind, FrameKind::GoAway);
        // To all others a greeting is a heartbeat.
        let greeting = one(&Bolt.greeting(dialect).unwrap());
        assert_eq!(greeting.kind, FrameKind::Heartbeat);
        assert_eq!(Bolt.heartbeat_reply(&greeting).unwrap(), heartbeat_ack(version, 0));
        assert!(Bolt.is_greeting(&greeting));
        assert!(!Bolt.is_greeting(&one(&heartbeat(version, 0))) && !Bolt.is_greeting(&one(&theirs)));
    }
}

#[test]
fn statuses_are_read() {
    let reply = Reply {
        status: status::CONNECTION_CLOSED,
        ..Reply::default()
    };
    let frame = one(&reply.to_frame().unwrap());
    assert_eq!(frame.kind, FrameKind::Reply);
    assert_eq!(Parts::of(&frame.wire).unwrap().head.status, 0x10);
}

prop_compose! {
    fn any_frame()(
        version in 0usize..3,
        what in 0u8..5,
        id: u32,
        codec: u8,
        timeout in proptest::option::of(1u64..100_000),
        status: u16,
        class in "[a-zA-Z.]{0,40}",
        header in proptest::collection::vec(("[a-z_.]{1,12}", "\\PC{0,12}"), 0..5),
        content in proptest::collection::vec(any::<u8>(), 0..300),
        with_crc: bool,
    ) -> Vec<u8> {
        let version = VERSIONS[version];
        let header: Vec<(&str, &str)> = header.iter().map(|(k, v)| (&**k, &**v)).collect();
        let (class, header, content) = (&*class, &*header, &*content);
        let timeout = timeout.map(Duration::from_millis);
        match what {
            0 => heartbeat(version, id),
            1 => heartbeat_ack(version, id),
            2 | 3 => Request { version, id, is_oneway: what == 3, codec, timeout, class, header, content, with_crc }.to_frame().expect("parts are short"),
            _ => Reply { version, id, codec, status, class, header, content, with_crc }.to_frame().expect("parts are short"),
        }
        .to_vec()
    }
}

proptest! {
    #[test]
    fn a_crc_under_another_id_is_that_of_the_whole_frame(len in 0usize..20_000, seed: u8, from: u32, to: u32) {
        let content: Vec<u8> = (0..len).map(|at| (at as u8).wrapping_mul(seed)).collect();
        let request = Request { version: Version::V2Crc, id: from, class: "demo.Ask", content: &content, with_crc: true, ..Request::default() };
        let frame = one(&request.to_frame().unwrap());
        let expected = Request { id: to, ..request }.to_frame().unwrap();
        let trailer = Bolt.restamped_trailer(&frame, StreamId(u64::from(to))).unwrap();
        prop_assert_eq!(&trailer[..], &expected[expected.len() - 4..]);
    }

    #[test]
    fn cuts_of_the_stream_change_nothing(
        frames in proptest::collection::vec(any_frame(), 1..8),
        cuts in proptest::collection::vec(1usize..64, 1..200),
    ) {
        let limit = 200;
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
                let before = input.len();
                match decode(&mut input, limit).unwrap() {
                    Decoded::Frame(frame) => out.push(frame.wire.len()),
                    Decoded::TooLong { head, body_len } => {
                        out.push(head.wire.len() + usize::try_from(body_len).unwrap());
                        to_drop = body_len;
                    }
                    Decoded::Incomplete { missing } => {
                        prop_assert!(missing >= 1 && input.len() == before);
                        prop_assert!(missing <= limit, "a hint of {missing}");
                        break;
                    }
                }
            }
        }
        let lens: Vec<usize> = frames.iter().map(Vec::len).collect();
        prop_assert_eq!(out, lens);
    }

    #[test]
    fn any_bytes_are_cut_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0usize..4) {
        let mut wire = [&b""[..], b"\x01\x01\0\x01\x01", b"\x02\x01\0\0\x02\x01", b"\x02\x02\x01\0\x01\x01"][version].to_vec();
        wire.extend(&bytes);
        let mut input = BytesMut::from(&wire[..]);
        while let Ok(Decoded::Frame(frame)) = decode(&mut input, LIMIT) {
            let parts = Parts::of(&frame.wire).unwrap();
            prop_assert!(parts.header.pairs().count() <= frame.wire.len());
        }
    }
}
