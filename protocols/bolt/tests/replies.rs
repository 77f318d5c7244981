// SPDX-License-Identifier: Apache-2.0
//! Local replies: their form for each reason, and what another Remora understands of them.

use remora_bolt::frame::{Parts, Version};
use remora_bolt::{Bolt, Reply, Request, codec};
use remora_hessian2::{Body, Dialect, Limits, Value, decode};
use remora_protocol::LocalReply::{self, *};
use remora_protocol::{Frame, FrameKind, Outcome, Protocol};

mod support;

use support::{frame, golden, one};

const REASONS: [LocalReply; 10] = [
    NoRoute,
    NoInstance,
    ConnectFailed,
    UpstreamClosed,
    Timeout,
    Overloaded,
    TooLong,
    ReplyTooLong,
    Malformed,
    Draining,
];

/// The status that stands for a reason by itself.
fn bare(reason: LocalReply) -> Option<u16> {
    match reason {
        Overloaded | Draining => Some(0x04),
        Timeout => Some(0x07),
        UpstreamClosed => Some(0x10),
        _ => None,
    }
}

fn reply(request: &Frame, reason: LocalReply, message: &str) -> Frame {
    frame(&Bolt.local_reply(request, reason, message).expect("a reply"))
}

fn body<'a>(content: &'a [u8]) -> Body<'a> {
    decode(content, Dialect::Sofa, Limits::default()).expect("hessian")
}

/// The fields of the one object in a content, by name.
fn field(content: &[u8], name: &str) -> Option<String> {
    let body = body(content);
    let [Value::Defining { value, .. }] = &body.values[..] else {
        panic!("{body:?}");
    };
    let Value::Object(object) = &**value else {
        panic!("{body:?}");
    };
    let class = &body.classes[object.class as usize];
    let at = class.fields.iter().position(|field| field.as_str() == name)?;
    object.fields[at].as_text().map(|text| text.as_str().into_owned())
}

#[test]
fn sofarpc_gets_a_sofa_response_with_the_text_or_a_status_of_its_own() {
    for name in [
        "5.6.5-request-simple",
        "5.13.2-request-simple",
        "5.13.2-request-fury2",
        "5.13.2-request-generic",
    ] {
        let request = one(name);
        let theirs = one("5.13.2-response-service-not-found");
        let theirs = Parts::of(&theirs.wire).unwrap();
        for reason in REASONS {
            let reply = reply(&request, reason, "demo.EchoService:1.0: no instance");
            let parts = Parts::of(&reply.wire).unwrap();
            assert_eq!((reply.kind, reply.stream_id), (FrameKind::Reply, request.stream_id));
            let status = bare(reason);
            assert_eq!(parts.head.status, status.unwrap_or(0), "{reason:?}");
            let marker = parts.header.get("remora.nothing_sent");
            assert_eq!(
                marker,
                reason.nothing_sent().then(|| reason.reason().as_bytes()),
                "{reason:?}"
            );
            if status.is_some() {
                assert_eq!((parts.class, parts.content), (&b""[..], &b""[..]), "{reason:?}");
                continue;
            }
            // As a provider answers that does not know the service.
            assert_eq!((parts.class, parts.head.codec), (theirs.class, codec::HESSIAN2));
            assert_eq!(
                parts.header.get("sofa_head_response_error"),
                theirs.header.get("sofa_head_response_error")
            );
            let text = field(parts.content, "errorMsg").unwrap();
            assert_eq!(
                text,
                format!("remora[{}]: demo.EchoService:1.0: no instance", reason.reason())
            );
            let same = theirs
                .content
                .iter()
                .zip(parts.content)
                .take_while(|(a, b)| a == b)
                .count();
            assert!(
                same >= 97,
                "class, fields and isError as Java writes them, {same} bytes"
            );
        }
    }
}

#[test]
fn in_protobuf_the_text_is_the_content() {
    let request = one("5.13.2-request-protobuf");
    let reply = reply(&request, NoInstance, "none");
    let parts = Parts::of(&reply.wire).unwrap();
    assert_eq!(
        (parts.head.codec, parts.content),
        (codec::PROTOBUF, &b"remora[no_instance]: none"[..])
    );
    assert_eq!(parts.header.get("sofa_head_response_error"), Some(&b"true"[..]));
}

#[test]
fn bolt_without_sofarpc_gets_a_server_exception_with_the_text() {
    for golden in golden("-request-string") {
        let request = frame(&golden.wire);
        if request.kind != FrameKind::Request {
            continue;
        }
        for reason in REASONS {
            let reply = reply(&request, reason, "nobody");
            let parts = Parts::of(&reply.wire).unwrap();
            assert_eq!(Bolt.dialect(&reply), Bolt.dialect(&request), "{}", golden.name);
            assert!(!parts.head.has_crc, "Java's own exceptions have none either");
            assert_eq!(parts.head.status, bare(reason).unwrap_or(2));
            if bare(reason).is_none() {
                assert_eq!(parts.class, b"com.alipay.remoting.rpc.exception.RpcServerException");
                let text = field(parts.content, "detailMessage").unwrap();
                assert_eq!(text, format!("remora[{}]: nobody", reason.reason()));
            }
        }
    }
}

#[test]
fn another_remora_knows_whether_anything_was_sent() {
    let long = "\u{4e2d}".repeat(5000);
    for name in [
        "5.13.2-request-simple",
        "5.13.2-request-protobuf",
        "bolt-1.6.10-v2-crc-request-string",
    ] {
        let request = one(name);
        for reason in REASONS {
            for message in ["", "demo.EchoService: none of 3 instances answers", &long] {
                let reply = reply(&request, reason, message);
                assert!(reply.wire.len() < 4096);
                let expected = match bare(reason) {
                    _ if reason.nothing_sent() => Outcome::NothingSent,
                    Some(status) => Outcome::Failed(status as u8),
                    // What did run is an error of the framework; in protobuf there is no telling it from the application's.
                    None if name.contains("protobuf") => Outcome::AppException,
                    None if name.contains("string") => Outcome::Failed(2),
                    None => Outcome::Failed(0),
                };
                assert_eq!(Bolt.outcome(&reply), expected, "{reason:?} to {name}");
            }
        }
    }
}

#[test]
fn the_head_of_a_long_request_is_enough_for_the_same_reply() {
    let request = one("5.13.2-request-blob");
    let mut head = request.clone();
    head.wire.truncate(head.head_len);
    for reason in REASONS {
        assert_eq!(reply(&head, reason, "x").wire, reply(&request, reason, "x").wire);
    }
    // Of a head that was itself over the limit nothing but the numbers is known.
    head.wire.truncate(22);
    head.head_len = 22;
    assert_eq!(Parts::of(&reply(&head, TooLong, "x").wire).unwrap().head.status, 2);
}

#[test]
fn only_a_request_gets_a_local_reply() {
    for name in [
        "5.13.2-request-oneway",
        "5.13.2-response-simple",
        "5.13.2-heartbeat-request-of-consumer",
        "5.13.2-heartbeat-response-of-provider",
    ] {
        for reason in REASONS {
            assert!(Bolt.local_reply(&one(name), reason, "x").is_none(), "{name}");
        }
    }
}

#[test]
fn an_application_cannot_pass_for_a_remora_by_its_text() {
    let answer = Reply {
        status: 2,
        header: &[("k", "remora.nothing_sent")],
        content: b"remora.nothing_sent",
        ..Reply::default()
    };
    assert_eq!(Bolt.outcome(&frame(&answer.to_frame().unwrap())), Outcome::Failed(2));
}

#[test]
fn statuses_beyond_a_byte_and_broken_header_maps_are_outcomes_too() {
    let odd = Reply {
        status: 0x1234,
        ..Reply::default()
    };
    assert_eq!(Bolt.outcome(&frame(&odd.to_frame().unwrap())), Outcome::Failed(u8::MAX));
    // A header map that is none, of a class of somebody's own.
    let request = Request {
        class: "demo.Ask",
        header: &[("service", "demo.Echo")],
        ..Request::default()
    };
    let mut wire = request.to_frame().unwrap().to_vec();
    wire[22 + 8] = 0x7f;
    let request = frame(&wire);
    assert_eq!(Bolt.route_keys(&request).unwrap_err().reason(), "opaque_body");
    let sofa = Request {
        class: "com.alipay.sofa.rpc.core.request.SofaRequest",
        header: &[("service", "demo.Echo")],
        ..Request::default()
    };
    let mut wire = sofa.to_frame().unwrap().to_vec();
    wire[22 + 44] = 0x7f;
    assert_eq!(Bolt.route_keys(&frame(&wire)).unwrap_err().reason(), "malformed_body");
}

#[test]
fn names_of_services_are_split_as_sofarpc_joins_them() {
    for (service, expected) in [
        ("demo.Echo", ("demo.Echo", "", "1.0")),
        ("demo.Echo:", ("demo.Echo", "", "1.0")),
        ("demo.Echo:2.0.0", ("demo.Echo", "", "2.0.0")),
        ("demo.Echo:1.0:blue", ("demo.Echo", "blue", "1.0")),
        ("demo.Echo:1.0:blue:green", ("demo.Echo", "blue:green", "1.0")),
    ] {
        for header in [
            [("service", service), ("sofa_head_target_service", "x:9")],
            [("service", ""), ("sofa_head_target_service", service)],
        ] {
            for version in [Version::V1, Version::V2, Version::V2Crc] {
                let request = Request {
                    version,
                    header: &header,
                    ..Request::default()
                };
                let request = frame(&request.to_frame().unwrap());
                let keys = Bolt.route_keys(&request).unwrap();
                assert_eq!((&*keys.service, &*keys.group, &*keys.version), expected);
                assert_eq!((&*keys.method, keys.caller.as_deref(), keys.timeout), ("", None, None));
            }
        }
    }
    let nameless = Request {
        class: "com.alipay.sofa.rpc.core.request.SofaRequest",
        header: &[("app", "demo")],
        ..Request::default()
    };
    let error = Bolt.route_keys(&frame(&nameless.to_frame().unwrap())).unwrap_err();
    assert_eq!(error.reason(), "opaque_body");
}

#[test]
fn the_caller_is_the_tracer_s_if_it_says_one() {
    let request = Request {
        header: &[
            ("rpc_trace_context.sofaCallerApp", "of-tracer"),
            ("service", "demo.Echo:1.0"),
            ("app", "of-config"),
            ("sofa_head_generic_type", "0"),
        ],
        ..Request::default()
    };
    let request = frame(&request.to_frame().unwrap());
    let keys = Bolt.route_keys(&request).unwrap();
    assert_eq!((keys.caller.as_deref(), keys.is_generic), (Some("of-tracer"), false));
}
