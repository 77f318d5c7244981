// SPDX-License-Identifier: Apache-2.0
//! Frames of real Dubbo applications, read from `testbed/golden/dubbo/`. File names say what each frame is.

use remora_dubbo::Dubbo;
use remora_protocol::{BytesMut, Decoded, FrameKind, LocalReply, Outcome, Protocol, StreamId};

mod frames;

use frames::{Golden, LIMIT, frame, golden};

#[test]
fn decode_waits_for_every_byte() {
    for Golden { name, wire } in golden("") {
        for cut in 0..wire.len() {
            let mut input = BytesMut::from(&wire[..cut]);
            match Dubbo.decode(&mut input, LIMIT).unwrap() {
                Decoded::Incomplete { missing } => assert!(missing >= 1 && cut + missing <= wire.len(), "{name}"),
                other => panic!("{name} cut at {cut}: {other:?}"),
            }
            assert_eq!(input.len(), cut, "{name}: nothing may be consumed");
        }
        assert_eq!(&frame(&wire).wire[..], wire, "{name}");
    }
}

#[test]
fn each_kind_is_told() {
    for Golden { name, wire } in golden("") {
        let expected = match name.as_str() {
            name if name.contains("heartbeat-request") => FrameKind::Heartbeat,
            name if name.contains("heartbeat-response") => FrameKind::HeartbeatReply,
            name if name.contains("readonly") => FrameKind::GoAway,
            name if name.contains("oneway") => FrameKind::Oneway,
            name if name.contains("-request-") => FrameKind::Request,
            _ => FrameKind::Reply,
        };
        assert_eq!(frame(&wire).kind, expected, "{name}");
    }
}

#[test]
fn our_heartbeat_reply_is_the_one_that_peers_send() {
    for Golden { name, wire } in golden("heartbeat-request") {
        let reply = Dubbo.heartbeat_reply(&frame(&wire)).unwrap();
        let answer = if name.contains("of-consumer") {
            "of-provider"
        } else {
            "of-consumer"
        };
        let theirs = golden(
            &name
                .replace("request", "response")
                .replace(&name[name.find("of-").unwrap()..][..11], answer),
        )
        .into_iter()
        .find(|golden| golden.name.ends_with("java") == name.ends_with("java"))
        .unwrap();
        let mut expected = theirs.wire;
        expected[4..12].copy_from_slice(&wire[4..12]);
        assert_eq!(&reply[..], expected, "{name}");
    }
}

#[test]
fn our_goaway_is_the_one_that_providers_send() {
    for Golden { name, mut wire } in golden("readonly") {
        wire[4..12].fill(0);
        assert_eq!(&Dubbo.goaway(0).unwrap()[..], wire, "{name}");
    }
}

#[test]
fn route_keys_of_every_request_are_read() {
    for Golden { name, wire } in golden("-request-") {
        if name.contains("heartbeat") || name.contains("readonly") {
            continue;
        }
        let frame = frame(&wire);
        let keys = Dubbo
            .route_keys(&frame)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let call = name.split_once("-request-").unwrap().1;
        let (call, serialization) = match call.rsplit_once('-') {
            Some((call, other @ ("java" | "fastjson2"))) => (call, other),
            _ => (call, "hessian2"),
        };
        let (service, group, version, method) = match call {
            "group-version" => ("demo.EchoService", "g1", "1.0.0", "who"),
            "version" => ("demo.EchoService", "", "2.0.0", "who"),
            "service-not-found" => ("demo.EchoService", "", "9.9.9", "echo"),
            "callback-argument" => ("demo.CallbackService", "", "", "watch"),
            "callback" => ("demo.EchoListener", "", "", "changed"),
            "metadata-info" => (
                "org.apache.dubbo.metadata.MetadataService",
                "demo-provider",
                "1.0.0",
                "getMetadataInfo",
            ),
            "pojo" => ("demo.EchoService", "", "", "order"),
            "simple" => ("demo.EchoService", "", "", "echo"),
            "generic" => ("demo.EchoService", "", "", "echo"),
            _ => {
                assert!(keys.service.starts_with("demo."), "{name}: {keys:?}");
                (&*keys.service, "", "", &*keys.method)
            }
        };
        assert_eq!(
            (&*keys.service, &*keys.group, &*keys.version),
            (service, group, version),
            "{name}"
        );
        assert_eq!(keys.method, method, "{name}");
        assert_eq!(keys.is_generic, name.contains("generic"), "{name}");
        assert_eq!(keys.pins_connection, name.contains("callback-argument"), "{name}");
        assert_eq!(keys.serialization, Some(serialization), "{name}");
        if name.starts_with("3.3.6-request-simple") {
            assert_eq!(keys.timeout, Some(std::time::Duration::from_millis(2500)), "{name}");
            assert_eq!(keys.caller.as_deref(), Some("demo-consumer"), "{name}");
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
            name if name.contains("exception") => Outcome::AppException,
            name if name.contains("threads-exhausted") => Outcome::Failed(100),
            // Dubbo 3.1 cannot read its own callbacks in fastjson2.
            "3.1.11-response-callback-fastjson2" => Outcome::Failed(40),
            name if name.contains("bad-request") => Outcome::Failed(40),
            name if name.contains("service-not-found") => Outcome::Failed(if name.starts_with('2') { 70 } else { 40 }),
            _ => Outcome::Ok,
        };
        assert_eq!(Dubbo.outcome(&frame), expected, "{name}");
    }
}

#[test]
fn a_local_reply_has_the_form_of_a_provider_s_own_error() {
    for Golden { name, wire } in golden("-response-threads-exhausted") {
        let theirs = frame(&wire);
        let request = name.replace("response", "request");
        let request = golden(&request)
            .into_iter()
            .find(|golden| golden.name == request)
            .unwrap();
        let request = frame(&request.wire);
        let ours = frame(
            &Dubbo
                .local_reply(&request, LocalReply::Overloaded, "demo.EchoService: 9 calls wait")
                .unwrap(),
        );
        assert_eq!(ours.wire[..4], theirs.wire[..4], "{name}: magic, flag and status");
        assert_eq!(ours.stream_id, request.stream_id, "{name}");
        assert_eq!(Dubbo.outcome(&ours), Outcome::NothingSent, "{name}");
    }
}

#[test]
fn restamp_changes_the_id_and_nothing_else() {
    for Golden { name, wire } in golden("") {
        let mut stamped = wire.clone();
        Dubbo.restamp(&mut stamped[..16], StreamId(0x0102_0304_0506_0708));
        assert_eq!(frame(&stamped).stream_id, StreamId(0x0102_0304_0506_0708), "{name}");
        assert_eq!((&stamped[..4], &stamped[12..]), (&wire[..4], &wire[12..]), "{name}");
    }
}

#[test]
fn several_frames_at_once_come_out_one_by_one() {
    let all = golden("");
    let mut input: BytesMut = all
        .iter()
        .flat_map(|golden| golden.wire.clone())
        .collect::<Vec<u8>>()
        .as_slice()
        .into();
    for golden in &all {
        match Dubbo.decode(&mut input, LIMIT).unwrap() {
            Decoded::Frame(frame) => assert_eq!(&frame.wire[..], golden.wire, "{}", golden.name),
            other => panic!("{}: {other:?}", golden.name),
        }
    }
    assert!(input.is_empty());
}
