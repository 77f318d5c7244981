// SPDX-License-Identifier: Apache-2.0
//! Where requests go that no capture holds: made with the hessian2 encoder, or by hand.

mod frames;

use std::borrow::Cow;
use std::time::Duration;

use frames::frame;
use remora_dubbo::Dubbo;
use remora_hessian2::Encoder;
use remora_protocol::{Frame, Protocol, RouteKeys, RouteKeysError};

fn request(serialization: u8, body: &[u8]) -> Frame {
    let mut wire = vec![0xda, 0xbb, 0xc0 | serialization, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    wire.extend((body.len() as u32).to_be_bytes());
    wire.extend(body);
    frame(&wire)
}

/// A call without arguments, with these attachments.
fn with_attachments(attachments: impl FnOnce(&mut Encoder)) -> Frame {
    let mut body = Encoder::default();
    body.string("2.0.2")
        .string("second.Value")
        .string("0.0.0")
        .string("m")
        .string("");
    attachments(&mut body);
    request(2, &body.finish())
}

fn keys(frame: &Frame) -> RouteKeys<'_> {
    Dubbo.route_keys(frame).expect("keys")
}

#[test]
fn the_interface_counts_where_the_path_is_another() {
    let frame = with_attachments(|body| {
        body.map_begin(None);
        body.string("path")
            .string("some/path")
            .string("interface")
            .string("com.example.Echo")
            .end();
    });
    assert_eq!(keys(&frame).service, "com.example.Echo");
    let frame = with_attachments(|body| {
        body.map_begin(None);
        body.string("path").string("some/path").end();
    });
    assert_eq!(keys(&frame).service, "second.Value");
}

#[test]
fn nulls_are_nothing() {
    let frame = with_attachments(|body| _ = body.null());
    let expected = RouteKeys {
        service: "second.Value".into(),
        method: "m".into(),
        serialization: Some("hessian2"),
        ..RouteKeys::default()
    };
    assert_eq!(keys(&frame), expected);
    let mut body = Encoder::default();
    body.null().null().null().string("m").string("");
    body.map_begin(None);
    body.string("path").string("com.example.Echo").end();
    let frame = request(2, &body.finish());
    assert_eq!(
        (&*keys(&frame).service, &*keys(&frame).version),
        ("com.example.Echo", "")
    );
}

#[test]
fn of_an_attachment_that_comes_twice_the_last_counts() {
    let frame = with_attachments(|body| {
        body.map_begin(None);
        body.string("group").string("blue").string("group").string("green");
        body.string("version")
            .string("1")
            .string("version")
            .string("0.0.0")
            .end();
    });
    assert_eq!((&*keys(&frame).group, &*keys(&frame).version), ("green", ""));
}

#[test]
fn the_timeout_may_be_text_or_number() {
    let timeout = |write: fn(&mut Encoder)| {
        let frame = with_attachments(|body| {
            body.map_begin(None);
            body.string("timeout");
            write(body);
            body.end();
        });
        keys(&frame).timeout
    };
    assert_eq!(
        timeout(|body| _ = body.string("1500")),
        Some(Duration::from_millis(1500))
    );
    assert_eq!(timeout(|body| _ = body.int(1500)), Some(Duration::from_millis(1500)));
    assert_eq!(timeout(|body| _ = body.long(1500)), Some(Duration::from_millis(1500)));
    assert_eq!(timeout(|body| _ = body.string("0")), None);
    assert_eq!(timeout(|body| _ = body.int(-1)), None);
    assert_eq!(timeout(|body| _ = body.string("soon")), None);
    assert_eq!(timeout(|body| _ = body.null()), None);
}

#[test]
fn attachments_may_be_objects_of_classes_that_the_arguments_defined() {
    let mut body = Encoder::default();
    body.string("2.0.2")
        .string("S")
        .string("1")
        .string("m")
        .string("Lcom/example/Order;");
    body.object_begin("com.example.Order", &["id"]);
    body.string("o1").end();
    body.map_begin(None);
    body.string("order");
    body.object_begin("com.example.Order", &["id"]);
    body.string("o2").end();
    body.string("group").string("blue").end();
    assert_eq!(keys(&request(2, &body.finish())).group, "blue");
}

#[test]
fn a_generic_call_goes_to_the_method_it_names() {
    for (method, name) in [
        ("$invoke", Some("echo")),
        ("$invokeAsync", Some("echo")),
        ("$invoke", None),
    ] {
        let mut body = Encoder::default();
        body.string("2.0.2").string("S").string("1").string(method);
        body.string("Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;");
        match name {
            Some(name) => body.string(name),
            None => body.null(),
        };
        body.null().null().null();
        let frame = request(2, &body.finish());
        assert!(keys(&frame).is_generic);
        assert_eq!(keys(&frame).method, name.unwrap_or(method));
    }
    let mut body = Encoder::default();
    body.string("2.0.2")
        .string("S")
        .string("1")
        .string("$echo")
        .string("Ljava/lang/Object;")
        .string("x")
        .null();
    let frame = request(2, &body.finish());
    assert_eq!((keys(&frame).is_generic, &*keys(&frame).method), (false, "$echo"));
}

#[test]
fn callbacks_and_stub_events_pin_the_connection() {
    for key in ["sys_callback_arg-0", "dubbo.stub.event"] {
        let frame = with_attachments(|body| {
            body.map_begin(None);
            body.string(key).string("x").end();
        });
        assert!(keys(&frame).pins_connection, "{key}");
        let opaque = Dubbo.route_keys(&request(8, key.as_bytes())).map(|_| ());
        assert_eq!(
            opaque,
            Err(RouteKeysError::Opaque {
                serialization: "kryo",
                pins_connection: true
            })
        );
    }
}

#[test]
fn an_argument_deeper_than_we_follow_hides_nothing() {
    let mut body = Encoder::default();
    body.string("2.0.2")
        .string("S")
        .string("1")
        .string("m")
        .string("Ljava/lang/Object;");
    for _ in 0..5000 {
        body.list_begin(None, 1);
    }
    // Looks like attachments, and is none: the real ones come after it.
    body.map_begin(None);
    body.string("path").string("Fake").string("group").string("fake").end();
    for _ in 0..5000 {
        body.end();
    }
    body.map_begin(None);
    body.string("path").string("S").string("group").string("Half");
    body.string("sys_callback_arg-0").string("x").end();
    let frame = request(2, &body.finish());
    assert_eq!((&*keys(&frame).service, &*keys(&frame).group), ("S", "Half"));
    assert!(keys(&frame).pins_connection);
}

#[test]
fn a_deep_argument_without_attachments_is_malformed() {
    let mut body = Encoder::default();
    body.string("2.0.2")
        .string("S")
        .string("1")
        .string("m")
        .string("Ljava/lang/Object;");
    for _ in 0..5000 {
        body.list_begin(None, 1);
    }
    let error = Dubbo.route_keys(&request(2, &body.finish())).map(|_| ()).unwrap_err();
    assert_eq!(error.reason(), "malformed_body");
}

#[test]
fn broken_bodies_say_where() {
    for (body, at) in [
        (&b""[..], 0),
        (b"\x052.0.2\x01S\x90", 8),
        (b"\x052.0.2\x01S\x011\x01m\x01Q", 12),
        (b"\x052.0.2\x01S\x011\x01m\x00H\x01k", 16),
    ] {
        match Dubbo.route_keys(&request(2, body)).unwrap_err() {
            RouteKeysError::Malformed { at: found, .. } => assert_eq!(found, at, "{body:x?}"),
            other => panic!("{other}"),
        }
    }
    assert!(
        Dubbo
            .route_keys(&frame(b"\xda\xbb\x02\x14\0\0\0\0\0\0\0\x01\0\0\0\0"))
            .is_err(),
        "a reply"
    );
}

/// Values behind their lengths.
fn fastjson2(values: &[&[u8]]) -> Frame {
    let body: Vec<u8> = values
        .iter()
        .flat_map(|value| [&(value.len() as u32).to_be_bytes(), *value].concat())
        .collect();
    request(23, &body)
}

#[test]
fn fastjson2_strings_come_in_many_forms() {
    let long = [&b"\x79\x38\x40"[..], &[b'x'; 64]].concat();
    let frame = fastjson2(&[
        b"\x4e2.0.2",
        b"\x4bw\xf6",
        b"\xaf",
        b"\x7c\x02\x2d\x4e",
        b"\x4aI",
        b"\x07",
        // A type, then a map: utf-8, a number, a symbol for a key, and a value of each width that stands in the way.
        &[
            &b"\x92\x4aM\x00\xa6\x7a\x05group\x7a\x03\xe4\xb8\xad\x50timeout\xbf\x00\x00\x05\xdc\x7f\x50version\x01\x4a1"[..],
            b"\x4aa\x94\x4ab\xa4\x02\x01\xaf\x4ac\xa6\x4ad\xb1\xa5\x4ae\xb5\x00\x00\x00\x00\x00\x00\x00\x00\x4af\xab\x00\x00\x00\x00\x00\x00\x00\x00\x4ag",
            &long[..],
            b"\x5bsys_callback_arg-0\x4ax\xa5",
        ]
        .concat(),
    ]);
    let keys = keys(&frame);
    assert_eq!(
        (&*keys.service, &*keys.group, &*keys.version),
        ("w\u{f6}", "\u{4e2d}", "1")
    );
    assert_eq!(
        (&*keys.method, keys.timeout),
        ("\u{4e2d}", Some(Duration::from_millis(1500)))
    );
    assert!(keys.pins_connection);
    assert!(matches!(keys.service, Cow::Owned(_)));
}

#[test]
fn fastjson2_of_a_later_release_is_opaque_and_broken_lengths_are_malformed() {
    let front: [&[u8]; 5] = [b"\x4e2.0.2", b"\x4aS", b"\x4a1", b"\x4am", b"\x49"];
    let with = |attachments: &[u8]| fastjson2(&[&front[..], &[attachments]].concat());
    assert_eq!(
        Dubbo.route_keys(&with(b"\xa6\x4ak\x7b\x00\xa5")).unwrap_err().reason(),
        "opaque_body"
    );
    assert_eq!(Dubbo.route_keys(&with(b"\x4ax")).unwrap_err().reason(), "opaque_body");
    assert_eq!(
        Dubbo
            .route_keys(&with(b"\xa6\x79\x48\x7f\xff\xff\xff"))
            .unwrap_err()
            .reason(),
        "malformed_body"
    );
    assert_eq!(
        Dubbo.route_keys(&with(b"\xa6\x79\xf0")).unwrap_err().reason(),
        "malformed_body"
    );
    assert_eq!(
        Dubbo
            .route_keys(&request(23, b"\xff\xff\xff\xff"))
            .unwrap_err()
            .reason(),
        "malformed_body"
    );
    let deep = [&b"\xa6\x4ak"[..], &[0x95; 500], b"\xaf\xa5"].concat();
    assert_eq!(Dubbo.route_keys(&with(&deep)).unwrap_err().reason(), "opaque_body");
    assert_eq!(keys(&with(b"\xaf")).service, "S");
}

/// A string as an object of a Java stream.
fn java(text: &str) -> Vec<u8> {
    [&b"\x74"[..], &(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// The inside of a `HashMap`, as Java writes it behind the class.
fn java_map(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut map = [&b"\x77\x08\0\0\0\x10"[..], &(entries.len() as u32).to_be_bytes()].concat();
    for (key, value) in entries {
        map.extend([java(key), java(value)].concat());
    }
    map.push(0x78);
    map
}

/// A call with one argument in native Java serialization.
fn native_java(argument: &[u8], attachments: &[u8]) -> Frame {
    let front: Vec<u8> = ["2.0.2", "com.example.Echo", "1.0.0", "echo", "Ljava/util/Map;"]
        .iter()
        .flat_map(|text| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat())
        .collect();
    let len = u8::try_from(front.len()).expect("short strings");
    request(
        7,
        &[&b"\xac\xed\0\x05\x77"[..], &[len], &front, argument, attachments].concat(),
    )
}

#[test]
fn java_attachments_are_told_from_a_map_among_the_arguments() {
    let argument = java_map(&[("path", "fake"), ("group", "fake")]);
    let real = java_map(&[
        ("path", "com.example.Echo"),
        ("sys_callback_arg-0", "x"),
        ("timeout", "1500"),
    ]);
    let frame = native_java(&argument, &real);
    let keys = keys(&frame);
    assert_eq!(
        (&*keys.service, &*keys.group, &*keys.version),
        ("com.example.Echo", "", "1.0.0")
    );
    assert_eq!(
        (keys.timeout, keys.pins_connection),
        (Some(Duration::from_millis(1500)), true)
    );
    assert_eq!(keys.serialization, Some("nativejava"));
}

#[test]
fn java_attachments_that_cannot_be_followed_are_opaque() {
    let reference = [&b"\x71\0\x7e\0\x03"[..], b"\x78"].concat();
    let group_seen_before = [
        &b"\x77\x08\0\0\0\x10\0\0\0\x02"[..],
        &java("path"),
        &java("p"),
        &java("group"),
        &reference,
    ];
    let not_a_map = java("tail");
    for attachments in [group_seen_before.concat(), not_a_map, Vec::new()] {
        let frame = native_java(b"\x70", &attachments);
        let error = Dubbo.route_keys(&frame).map(|_| ()).unwrap_err();
        assert_eq!(
            error,
            RouteKeysError::Opaque {
                serialization: "nativejava",
                pins_connection: false
            }
        );
    }
    let whole = native_java(b"\x70", &java_map(&[("path", "p")]));
    for cut in 0..whole.body().len() {
        assert!(
            Dubbo.route_keys(&request(7, &whole.body()[..cut])).is_err(),
            "cut at {cut}"
        );
    }
}
