// SPDX-License-Identifier: Apache-2.0
//! Messages as Java writes them, written again, and broken.

use remora_hessian2::{Dialect, Encoder};

use super::*;

fn decode(kind: Kind, content: &[u8]) -> Result<Message, WireError> {
    Message::decode(kind.class(), content, &Limits::default())
}

fn registration(event: EventType) -> Registration {
    Registration {
        zone: Some(DEFAULT_ZONE.into()),
        app_name: Some("demo-app".into()),
        data_id: "demo.EchoService:1.0@DEFAULT".into(),
        group: "SOFA".into(),
        regist_id: "8a4c8f1e-7d1b-4f6c-9a39-0d8d6d6f9f42".into(),
        port: Some(40_000),
        event,
        version: 3,
        timestamp: 1_795_251_356_562,
        attributes: vec![("!AccessKey".into(), "k".into())],
        ..Registration::default()
    }
}

fn every_message() -> Vec<Message> {
    let zones = vec![
        (
            "DEFAULT_ZONE".to_owned(),
            vec!["10.0.0.5:12200?p=1".to_owned(), "größe=鯨🐋".to_owned()],
        ),
        ("RZ01".to_owned(), vec![]),
    ];
    let ids = vec!["a".to_owned(), "b".to_owned()];
    vec![
        Message::PublisherRegister(PublisherRegister {
            base: registration(EventType::Register),
            data: vec!["10.0.0.5:12200?p=1".into(), String::new()],
        }),
        Message::PublisherRegister(PublisherRegister {
            base: registration(EventType::Unregister),
            data: vec![],
        }),
        Message::SubscriberRegister(SubscriberRegister {
            base: registration(EventType::Register),
            scope: Scope::Global,
            accept_encoding: None,
            accept_multi: false,
        }),
        Message::ConfiguratorRegister(ConfiguratorRegister {
            base: registration(EventType::Other("MOVE".into())),
        }),
        Message::RegisterResponse(RegisterResponse {
            success: true,
            regist_id: "a".into(),
            version: i64::MAX,
            refused: true,
            message: Some("no".into()),
        }),
        Message::SyncConfigRequest(SyncConfigRequest::default()),
        Message::SyncConfigResponse(SyncConfigResponse {
            success: true,
            message: None,
            available_segments: vec![DEFAULT_DATA_CENTER.into()],
            retry_interval: -5,
        }),
        Message::ReceivedData(ReceivedData {
            data_id: "demo.EchoService:1.0@DEFAULT".into(),
            group: "SOFA".into(),
            instance_id: Some(DEFAULT_INSTANCE_ID.into()),
            segment: Some(DEFAULT_DATA_CENTER.into()),
            scope: Scope::DataCenter,
            subscriber_regist_ids: ids.clone(),
            data: Some(zones.clone()),
            version: 1_795_251_356_562,
            local_zone: None,
        }),
        Message::ReceivedConfigData(ReceivedConfigData {
            data_id: "demo.EchoService:1.0@DEFAULT".into(),
            group: "SOFA.CONFIG".into(),
            instance_id: None,
            configurator_regist_ids: ids.clone(),
            data: Some("override://10.0.0.5:12200?weight=0".into()),
            version: -1,
        }),
        Message::MultiReceivedData(MultiReceivedData {
            data_id: "d".into(),
            group: "g".into(),
            instance_id: None,
            scope: Scope::Zone,
            subscriber_regist_ids: ids,
            local_segment: Some("east".into()),
            local_zone: Some("RZ01".into()),
            segments: vec![
                (
                    "east".into(),
                    MultiSegmentData {
                        segment: Some("east".into()),
                        data: zones,
                        version: 7,
                        ..MultiSegmentData::default()
                    },
                ),
                (
                    "west".into(),
                    MultiSegmentData {
                        zipped: Some(vec![0x1f, 0x8b, 0]),
                        encoding: Some("gzip".into()),
                        ..MultiSegmentData::default()
                    },
                ),
            ],
        }),
        Message::PushResult(PushResult::taken()),
    ]
}

#[test]
fn every_message_is_read_as_it_was_written() {
    for message in every_message() {
        let content = message.encode();
        assert_eq!(decode(message.kind(), &content), Ok(message));
    }
}

#[test]
fn a_request_of_the_java_client_is_written_byte_for_byte() {
    let mut java = vec![0x4f, 0xc8, 0x35];
    java.extend(b"com.alipay.sofa.registry.core.model.SyncConfigRequest");
    java.extend(b"\x92\x0adataCenter\x04zone\x6f\x90\x11DefaultDataCenter\x0cDEFAULT_ZONE");
    let message = Message::SyncConfigRequest(SyncConfigRequest::default());
    assert_eq!(message.encode(), java);
    assert_eq!(decode(Kind::SyncConfigRequest, &java), Ok(message));
}

#[test]
fn unknown_fields_are_stepped_over_and_missing_ones_defaulted() {
    let mut out = Encoder::new(Dialect::Sofa);
    out.object_begin(
        Kind::RegisterResponse.class(),
        &["hops", "version", "tags", "success", "message"],
    );
    out.double(1.5).int(9);
    out.map_begin(Some("java.util.TreeMap"));
    out.string("k").list_begin(None, 1);
    out.date(0).end().end();
    out.bool(true).null().end();
    let read = decode(Kind::RegisterResponse, &out.finish()).unwrap();
    let expected = RegisterResponse {
        success: true,
        version: 9,
        ..RegisterResponse::default()
    };
    assert_eq!(read, Message::RegisterResponse(expected));
}

#[test]
fn types_of_maps_and_lists_do_not_matter() {
    let mut out = Encoder::new(Dialect::Sofa);
    out.object_begin(Kind::ReceivedData.class(), &["data", "subscriberRegistIds"]);
    out.map_begin(Some("java.util.Collections$EmptyMap"));
    out.end();
    out.list_begin(Some("java.util.LinkedList"), 1);
    out.string("a").end().end();
    let Ok(Message::ReceivedData(push)) = decode(Kind::ReceivedData, &out.finish()) else {
        panic!("not read");
    };
    assert_eq!(push.data, Some(vec![]));
    assert_eq!(push.subscriber_regist_ids, ["a"]);
}

#[test]
fn what_is_referred_to_is_read_again() {
    let mut out = Encoder::new(Dialect::Sofa);
    out.object_begin(Kind::ReceivedData.class(), &["data"]);
    out.map_begin(None);
    out.string("A");
    let list = out.list_begin(None, 2);
    data_box(&mut out, "x");
    out.reference(list + 1);
    out.end().string("B").reference(list).end().end();
    let Ok(Message::ReceivedData(push)) = decode(Kind::ReceivedData, &out.finish()) else {
        panic!("not read");
    };
    let twice = vec!["x".to_owned(), "x".to_owned()];
    assert_eq!(push.data, Some(vec![("A".into(), twice.clone()), ("B".into(), twice)]));
}

#[test]
fn references_do_not_multiply_a_content() {
    // 2,000 zones that all refer to one list of 2,000 boxes, which are all one.
    let mut out = Encoder::new(Dialect::Sofa);
    out.object_begin(Kind::ReceivedData.class(), &["data"]);
    out.map_begin(None);
    out.string("A");
    let list = out.list_begin(None, 2000);
    data_box(&mut out, &"x".repeat(100));
    (1..2000).for_each(|_| {
        out.reference(list + 1);
    });
    out.end();
    (0..2000).for_each(|zone| {
        out.string(&zone.to_string()).reference(list);
    });
    out.end().end();
    let error = decode(Kind::ReceivedData, &out.finish()).unwrap_err();
    assert_eq!(error.reason(), "repeats");
}

#[test]
fn values_of_another_kind_name_the_field() {
    let wrong = |kind: Kind, field: &str| {
        let mut out = Encoder::new(Dialect::Sofa);
        out.object_begin(kind.class(), &[field]);
        out.double(0.25).end();
        decode(kind, &out.finish()).unwrap_err().to_string()
    };
    let class = Kind::PublisherRegister.class();
    let error = wrong(Kind::PublisherRegister, "dataId");
    assert_eq!(error, format!("field dataId of {class} is not a string"));
    for (kind, field) in [
        (Kind::PublisherRegister, "dataList"),
        (Kind::PublisherRegister, "version"),
        (Kind::PublisherRegister, "attributes"),
        (Kind::SubscriberRegister, "acceptMulti"),
        (Kind::ReceivedData, "data"),
        (Kind::ReceivedData, "subscriberRegistIds"),
        (Kind::ReceivedConfigData, "dataBox"),
        (Kind::MultiReceivedData, "multiData"),
        (Kind::SyncConfigResponse, "retryInterval"),
    ] {
        assert!(wrong(kind, field).starts_with(&format!("field {field} of ")), "{field}");
    }
}

#[test]
fn a_content_cut_anywhere_is_refused() {
    for message in every_message() {
        let content = message.encode();
        for cut in 0..content.len() {
            assert!(
                decode(message.kind(), &content[..cut]).is_err(),
                "{:?} at {cut}",
                message.kind()
            );
        }
        let longer = [&content[..], b"N"].concat();
        assert!(decode(message.kind(), &longer).is_err());
    }
}

#[test]
fn too_much_is_refused_before_it_is_read() {
    let small = Limits {
        max_content_bytes: 10,
        ..Limits::default()
    };
    let class = Kind::PushResult.class();
    let error = Message::decode(class, &[b'N'; 11], &small).unwrap_err();
    assert!(matches!(error, WireError::TooLong { len: 11, max: 10, .. }), "{error}");

    // A list that announces more items than there are bytes.
    let error = decode(Kind::PushResult, b"Vl\x7f\xff\xff\xffz").unwrap_err();
    assert_eq!(error.reason(), "bad_count");
    // Nesting.
    let error = decode(Kind::PushResult, &[b'V'; 64]).unwrap_err();
    assert_eq!(error.reason(), "too_deep");
}

#[test]
fn other_classes_are_refused_by_name() {
    let error = Message::decode("com.alipay.sofa.rpc.core.request.SofaRequest", b"N", &Limits::default()).unwrap_err();
    assert_eq!(error.reason(), "unknown_class");
    // An object of another class than the frame names.
    let content = Message::PushResult(PushResult::taken()).encode();
    let error = decode(Kind::RegisterResponse, &content).unwrap_err();
    assert_eq!(error.reason(), "not_that_class");
    let error = decode(Kind::PushResult, b"N").unwrap_err();
    assert_eq!(error.reason(), "not_that_class");
}

#[test]
fn a_push_of_many_long_lines_fits_the_limits() {
    let line = format!("10.0.0.5:12200?p=1&k={}", "v".repeat(250));
    let message = Message::ReceivedData(ReceivedData {
        data: Some(vec![(DEFAULT_ZONE.into(), vec![line; 50_000])]),
        ..ReceivedData::default()
    });
    assert_eq!(decode(Kind::ReceivedData, &message.encode()), Ok(message));
    let long = Message::ReceivedConfigData(ReceivedConfigData {
        data: Some("鯨".repeat(100_000)),
        ..ReceivedConfigData::default()
    });
    assert_eq!(decode(Kind::ReceivedConfigData, &long.encode()), Ok(long));
}
