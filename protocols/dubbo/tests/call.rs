// SPDX-License-Identifier: Apache-2.0
//! Calls of our own against captured ones, and the question for an application's services.

mod frames;

use std::time::Duration;

use frames::{Golden, frame, golden};
use remora_dubbo::{
    Answer, CallError, Dubbo, StringCall, answer, exception_reply, metadata_reply, metadata_request, null_reply,
    string_arguments, string_reply,
};
use remora_protocol::{FrameKind, LocalReply, Outcome, Protocol, StreamId};

const CALL: StringCall<'_> = StringCall {
    service: "com.example.EchoService",
    group: "blue",
    version: "1.0.0",
    method: "echo",
    arguments: &["w\u{f6}rld", "\u{1f600}"],
    timeout: Some(Duration::from_millis(2500)),
    application: "demo",
};

#[test]
fn a_request_says_where_it_goes_and_what_with() {
    let request = frame(&CALL.to_request(StreamId(7)));
    assert_eq!((request.kind, request.stream_id), (FrameKind::Request, StreamId(7)));
    let keys = Dubbo.route_keys(&request).unwrap();
    assert_eq!(
        (&*keys.service, &*keys.group, &*keys.version),
        ("com.example.EchoService", "blue", "1.0.0")
    );
    assert_eq!(
        (&*keys.method, keys.timeout),
        ("echo", Some(Duration::from_millis(2500)))
    );
    assert_eq!(keys.caller.as_deref(), Some("demo"));
    assert_eq!(string_arguments(&request).unwrap(), ["w\u{f6}rld", "\u{1f600}"]);
}

#[test]
fn the_arguments_of_a_real_consumer_are_read() {
    for Golden { name, wire } in golden("-request-simple") {
        let arguments = string_arguments(&frame(&wire));
        if name.ends_with("java") || name.ends_with("fastjson2") {
            assert!(matches!(arguments, Err(CallError::Unfit { .. })), "{name}");
        } else {
            assert_eq!(arguments.unwrap().len(), 1, "{name}");
        }
    }
}

#[test]
fn replies_come_to_what_they_say() {
    let request = frame(&CALL.to_request(StreamId(7)));
    let returned = frame(&string_reply(&request, "w\u{f6}rld").unwrap());
    assert_eq!(returned.stream_id, StreamId(7));
    assert_eq!(answer(&returned).unwrap(), Answer::Returned(Some("w\u{f6}rld".into())));
    assert_eq!(Dubbo.outcome(&returned), Outcome::Ok);
    assert_eq!(
        answer(&frame(&null_reply(&request).unwrap())).unwrap(),
        Answer::Returned(None)
    );
    let thrown = frame(&exception_reply(&request, "no").unwrap());
    assert_eq!(Dubbo.outcome(&thrown), Outcome::AppException);
    let (class, message) = ("java.lang.RuntimeException".into(), "no".into());
    assert_eq!(answer(&thrown).unwrap(), Answer::Threw { class, message });
    let late = frame(
        &Dubbo
            .local_reply(&request, LocalReply::Timeout, "EchoService took too long")
            .unwrap(),
    );
    let message = "remora[timeout]: EchoService took too long".into();
    assert_eq!(answer(&late).unwrap(), Answer::Failed { status: 31, message });
    assert!(string_reply(&returned, "a reply to a reply").is_none());
}

#[test]
fn replies_of_real_providers_are_read() {
    for Golden { name, wire } in golden("-response-") {
        let frame = frame(&wire);
        if frame.kind != FrameKind::Reply || name.ends_with("java") || name.ends_with("fastjson2") {
            continue;
        }
        match answer(&frame) {
            Ok(Answer::Returned(Some(_))) => assert_eq!(Dubbo.outcome(&frame), Outcome::Ok, "{name}"),
            Ok(Answer::Returned(None)) => assert!(name.contains("null") || name.contains("callback"), "{name}"),
            Ok(Answer::Threw { class, message }) => {
                assert!(
                    class.contains("Exception") && !message.is_empty(),
                    "{name}: {class}: {message}"
                );
            }
            Ok(Answer::Failed { status, message }) => {
                assert_eq!(Dubbo.outcome(&frame), Outcome::Failed(status), "{name}");
                assert!(!message.is_empty(), "{name}");
            }
            Err(CallError::Unfit { wanted }) => assert_eq!(wanted, "a result that is a string", "{name}"),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn metadata_is_asked_for_as_dubbo_does() {
    for Golden { name, wire } in golden("-request-metadata-info") {
        let (theirs, ours) = (
            frame(&wire),
            frame(&metadata_request("demo-provider", "abc", StreamId(1))),
        );
        let (theirs, ours) = (Dubbo.route_keys(&theirs).unwrap(), Dubbo.route_keys(&ours).unwrap());
        assert_eq!((theirs.service, theirs.group), (ours.service, ours.group), "{name}");
        assert_eq!(
            (theirs.version, theirs.method, theirs.timeout),
            (ours.version, ours.method, ours.timeout),
            "{name}"
        );
    }
}

#[test]
fn metadata_of_real_providers_becomes_json() {
    for Golden { name, wire } in golden("-response-metadata-info") {
        let json = metadata_reply(&frame(&wire));
        if name.ends_with("fastjson2") {
            assert!(matches!(json, Err(CallError::Unfit { .. })), "{name}");
            continue;
        }
        let json: serde_json::Value = serde_json::from_str(&json.unwrap()).unwrap();
        assert_eq!(json["app"], "demo-provider", "{name}");
        assert_eq!(json["revision"].as_str().unwrap().len(), 32, "{name}");
        let service = &json["services"]["g1/demo.EchoService:1.0.0:dubbo"];
        assert_eq!(
            (&service["name"], &service["group"]),
            (&"demo.EchoService".into(), &"g1".into()),
            "{name}"
        );
        assert_eq!(
            (&service["version"], &service["protocol"]),
            (&"1.0.0".into(), &"dubbo".into()),
            "{name}"
        );
        assert_eq!(service["path"], "demo.EchoService", "{name}");
        assert!(service["port"].as_u64().unwrap() > 0, "{name}");
        assert_eq!(service["params"]["interface"], "demo.EchoService", "{name}");
        let plain = &json["services"]["demo.EchoService:dubbo"];
        assert!(
            plain["name"] == "demo.EchoService" && plain.get("group").is_none(),
            "{name}"
        );
    }
}

#[test]
fn no_metadata_is_an_error_that_says_why() {
    let request = frame(&metadata_request("shop", "abc", StreamId(1)));
    let of = |reply: Option<remora_protocol::Bytes>| metadata_reply(&frame(&reply.unwrap())).unwrap_err();
    assert!(matches!(of(null_reply(&request)), CallError::Unfit { .. }));
    assert!(matches!(of(string_reply(&request, "{}")), CallError::Unfit { .. }));
    assert_eq!(of(exception_reply(&request, "no")).reason(), "threw");
    let failed = of(Dubbo.local_reply(&request, LocalReply::NoInstance, "shop is away"));
    assert!(failed.to_string().contains("shop is away"), "{failed}");
}
