// SPDX-License-Identifier: Apache-2.0
//! Provider URLs as children: nodes seen with Dubbo 2.6.12, 2.7.23 and 3.3, and any others.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use remora_naming::NamingError;
use remora_naming::dubbo_url::{
    decode_component, encode_component, is_provider_child, parse_child, print_child, restored, with_outward,
};
use remora_registry::{Instance, Outward};

const SEEN: [&str; 4] = [
    "dubbo://192.0.2.2:20880/demo.GreetService?anyhost=true&application=demo-provider&dubbo=2.0.2&generic=false&group=g1&interface=demo.GreetService&methods=fail,hello,put&pid=25695&revision=1.0.0&side=provider&timestamp=1700000000000&version=1.0.0",
    "dubbo://192.0.2.2:20880/demo.GreetService?anyhost=true&application=demo-provider&deprecated=false&dubbo=2.0.2&dynamic=true&generic=false&group=g1&interface=demo.GreetService&metadata-type=remote&methods=fail,hello,put&pid=25695&release=2.7.23&revision=1.0.0&service.name=ServiceBean:g1/demo.GreetService:1.0.0&side=provider&timestamp=1700000000000&version=1.0.0",
    "dubbo://192.0.2.2:20880/demo.GreetService?application=demo-provider&deprecated=false&dubbo=2.0.2&dynamic=true&generic=false&group=g1&interface=demo.GreetService&methods=fail,hello,put&prefer.serialization=hessian2,fastjson2&release=3.3.2&revision=1.0.0&service-name-mapping=true&side=provider&timestamp=1700000000000&version=1.0.0",
    "tri://10.77.0.2:50051/demo.EchoService?application=demo-provider&interface=demo.EchoService&side=provider&ssl-enabled=false",
];

fn outward() -> Outward {
    Outward {
        host: "10.0.0.5".into(),
        port: 20881,
        app_port: 20880,
    }
}

#[test]
fn seen_nodes_are_read_and_printed_back_as_they_were() {
    for url in SEEN {
        let child = encode_component(url);
        assert!(is_provider_child(&child));
        let instance = parse_child(&child).unwrap();
        assert_eq!(print_child(&instance), child);
        assert_eq!(&*instance.raw, url);
        assert_eq!(&*instance.id, child);
    }
    let key = parse_child(&encode_component(SEEN[1])).unwrap().key.unwrap();
    assert_eq!(key.to_string(), "g1/demo.GreetService:1.0.0");
}

#[test]
fn outward_changes_address_and_marker_only() {
    for url in &SEEN[..3] {
        let child = with_outward(&encode_component(url), &outward()).unwrap();
        let expected = format!(
            "{}&remora.app.port=20880",
            url.replace("192.0.2.2:20880", "10.0.0.5:20881")
        );
        assert_eq!(child, encode_component(&expected));
    }
}

#[test]
fn bind_parameters_change_where_they_echo_the_address() {
    let echo = "dubbo://10.1.1.1:20880/a.B?bind.ip=10.1.1.1&bind.port=20880&interface=a.B";
    let child = with_outward(&encode_component(echo), &outward()).unwrap();
    assert_eq!(
        decode_component(&child).unwrap(),
        "dubbo://10.0.0.5:20881/a.B?bind.ip=10.0.0.5&bind.port=20881&interface=a.B&remora.app.port=20880"
    );
    let other = "dubbo://10.1.1.1:31999/a.B?bind.ip=0.0.0.0&bind.port=20880&interface=a.B";
    let child = with_outward(&encode_component(other), &outward()).unwrap();
    assert!(
        decode_component(&child)
            .unwrap()
            .contains("bind.ip=0.0.0.0&bind.port=20880&")
    );
}

#[test]
fn seen_nodes_are_restored_to_the_byte() {
    for seen in SEEN {
        let instance = parse_child(seen).unwrap();
        let outward = Outward {
            host: instance.host.to_string(),
            port: 20881,
            app_port: instance.port,
        };
        assert_eq!(restored(&with_outward(seen, &outward).unwrap()).unwrap(), seen);
    }
}

#[test]
fn a_marked_address_is_refused() {
    let child = with_outward(&encode_component(SEEN[0]), &outward()).unwrap();
    let refused = with_outward(&child, &outward()).unwrap_err();
    let expected = NamingError::AlreadyTakenOver {
        host: "10.0.0.5".into(),
        port: 20881,
    };
    assert_eq!(refused, expected);
    assert_eq!(parse_child(&child).unwrap().app_port(), Some(20880));
}

#[test]
fn double_encoded_values_stay_encoded_inside() {
    let url = "dubbo://10.1.1.1:20880/a.B?interface=a.B&sayHello.rule=x%3D1%26y%3D%2B2&timestamp=1";
    let child = encode_component(url);
    let instance = parse_child(&child).unwrap();
    assert_eq!(instance.params.get("sayHello.rule"), Some("x%3D1%26y%3D%2B2"));
    let out = with_outward(&child, &outward()).unwrap();
    assert!(out.contains("sayHello.rule%3Dx%253D1%2526y%253D%252B2%26timestamp"));
}

#[test]
fn ipv6_hosts_are_read_with_and_without_brackets() {
    for (url, host, port) in [
        ("dubbo://[2001:db8::1]:20880/a.B?x=1", "2001:db8::1", 20880),
        (
            "dubbo://2001:db8:0:0:0:0:0:1:20880/a.B?x=1",
            "2001:db8:0:0:0:0:0:1",
            20880,
        ),
        ("dubbo://[::1]/a.B", "::1", 0),
        ("dubbo://fe80::1%eth0/a.B", "fe80::1%eth0", 0),
    ] {
        let instance = parse_child(&encode_component(url)).unwrap();
        assert_eq!((&*instance.host, instance.port), (host, port), "{url}");
    }
    let kept = Outward {
        host: "2001:db8::1".into(),
        ..outward()
    };
    let child = with_outward(&encode_component("dubbo://[2001:db8::1]:20880/a.B?x=1"), &kept).unwrap();
    assert_eq!(
        decode_component(&child).unwrap(),
        "dubbo://[2001:db8::1]:20881/a.B?x=1&remora.app.port=20880"
    );
    let new = with_outward(&encode_component("dubbo://10.1.1.1:20880/a.B"), &kept).unwrap();
    assert_eq!(
        decode_component(&new).unwrap(),
        "dubbo://[2001:db8::1]:20881/a.B?remora.app.port=20880"
    );
}

#[test]
fn odd_parameters_survive() {
    let url = "dubbo://u:p@h.example:20880/ctx/a.B?interface=a.B&flag&=novalue&a=1&&a=2&empty=&名=值&sp=a b";
    let child = encode_component(url);
    let instance = parse_child(&child).unwrap();
    assert_eq!((&*instance.host, &*instance.path), ("h.example", "ctx/a.B"));
    assert_eq!(instance.params.get("a"), Some("2"));
    assert_eq!(instance.params.get("flag"), Some("flag"));
    assert_eq!(instance.params.get("empty"), Some(""));
    assert_eq!(instance.params.get("名"), Some("值"));
    let out = decode_component(&with_outward(&child, &outward()).unwrap()).unwrap();
    let expected = url.replace("h.example:20880", "10.0.0.5:20881") + "&remora.app.port=20880";
    assert_eq!(out, expected);
}

#[test]
fn broken_names_are_errors() {
    for (child, reason) in [
        ("", "no_scheme"),
        ("demo.EchoService", "no_scheme"),
        ("%3A%2F%2Fh", "no_scheme"),
        ("dubbo%3A%2F%2F", "no_host"),
        ("dubbo%3A%2F%2F%3A20880%2Fa.B", "no_host"),
        ("dubbo%3A%2F%2Fh%3A70000%2Fa.B", "bad_port"),
        ("dubbo%3A%2F%2Fh%3Ax%2Fa.B", "bad_port"),
        ("dubbo%3A%2F%2Fh%3A1%2Fa%2", "broken_escape"),
        ("dubbo%3A%2F%2Fh%3A1%2Fa%zz", "broken_escape"),
    ] {
        assert_eq!(parse_child(child).unwrap_err().reason(), reason, "{child}");
        assert_eq!(with_outward(child, &outward()).unwrap_err().reason(), reason, "{child}");
    }
}

fn value() -> impl Strategy<Value = String> {
    // No `&` and `=`: an author encodes those once more, which is what the `%26` stands for.
    prop_oneof![
        "[a-zA-Z0-9.,:/*+@ _-]{0,12}",
        "(%26|%3D|%25|[a-z]){0,6}",
        "[α-ω中文]{0,4}",
        "[a-z]{3000}"
    ]
}

fn url() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        "10\\.[0-9]{1,2}\\.0\\.[1-9]",
        Just("[2001:db8::7]".to_owned()),
        "[a-z][a-z0-9-]{0,20}\\.example"
    ];
    let pairs = prop::collection::vec(("[a-z][a-zA-Z0-9.~-]{0,10}", value()), 0..8);
    (prop_oneof!["dubbo", "tri"], host, 1u16.., "[a-zA-Z.]{1,20}", pairs).prop_map(
        |(scheme, host, port, path, pairs)| {
            let query: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let joint = if query.is_empty() { "" } else { "?" };
            format!("{scheme}://{host}:{port}/{path}{joint}{}", query.join("&"))
        },
    )
}

fn behind_address(child: &str) -> &str {
    let slash = |text: &str| text.to_uppercase().find("%2F").unwrap();
    let authority = slash(child) + "%2F%2F".len();
    &child[authority + slash(&child[authority..])..]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rewriting_changes_address_and_marker_only(url in url(), is_lower in any::<bool>()) {
        let mut child = encode_component(&url);
        if is_lower {
            child = child.to_lowercase();
        }
        let before = parse_child(&child).unwrap();
        let out = with_outward(&child, &outward()).unwrap();
        let mut after = parse_child(&out).unwrap();
        prop_assert_eq!((&*after.host, after.port, after.app_port()), ("10.0.0.5", 20881, Some(20880)));
        let (key, value) = after.params.0.pop().unwrap();
        prop_assert_eq!((key.as_str(), value.as_str()), (Instance::MARKER, "20880"));
        prop_assert_eq!(&after.params, &before.params);
        prop_assert_eq!((&after.protocol, &after.path, &after.key), (&before.protocol, &before.path, &before.key));
        // Byte for byte: what stands behind the address is the same text.
        let joint = if before.params.0.is_empty() { "%3F" } else { "%26" };
        prop_assert_eq!(behind_address(&out), format!("{}{joint}remora.app.port%3D20880", behind_address(&child)));
    }

    #[test]
    fn what_was_published_outward_is_restored_to_the_byte(url in url(), is_lower in any::<bool>()) {
        let mut child = encode_component(&url);
        if is_lower {
            child = child.to_lowercase();
        }
        let before = parse_child(&child).unwrap();
        let outward = Outward { host: before.host.to_string(), port: 20881, app_port: before.port };
        let out = with_outward(&child, &outward).unwrap();
        prop_assert_eq!(restored(&out).unwrap(), child.as_str());
        prop_assert!(restored(&child).is_err(), "it has no marker");
    }

    #[test]
    fn any_text_is_read_or_refused(child in "\\PC{0,80}", tail in "[%+:/?&=\\[\\]@a-fA-F0-9]{0,60}") {
        for text in [child.clone(), format!("dubbo://{tail}"), format!("dubbo%3A%2F%2F{tail}{child}")] {
            let read = parse_child(&text);
            prop_assert_eq!(read.is_ok(), with_outward(&text, &outward()).is_ok());
            if let Ok(instance) = read {
                let _ = print_child(&instance);
            }
        }
    }
}
