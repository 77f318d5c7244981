// SPDX-License-Identifier: Apache-2.0
//! Both text forms of a SOFARPC provider, and the way from one to the other.

use proptest::prelude::*;
use remora_naming::sofa::{Provider, Service, child, line, params};
use remora_naming::{NamingError, dubbo_url};
use remora_registry::{Outward, Params};

/// As SOFARPC 5.13.2 wrote it into SOFARegistry.
const LINE: &str = "192.0.2.2:12299?rpcVer=51302&serialization=hessian2&weight=100&appName=demo-app&p=1&v=4.0\
    &_SERIALIZETYPE=hessian2&_WEIGHT=100&app_name=demo-app&tag=blue&startTime=1795251356562";

fn service(name: &str) -> Service {
    Service::parse(name).expect("a name of the test")
}

fn outward() -> Outward {
    Outward {
        host: "10.0.0.5".into(),
        port: 12201,
        app_port: 12299,
    }
}

fn pairs(params: &Params) -> Vec<String> {
    params.iter().map(|(k, v)| format!("{k}={v}")).collect()
}

#[test]
fn a_line_is_read_as_sofarpc_reads_it() {
    let read = line::parse(LINE, &service("demo.Echo:1.0:blue")).unwrap();
    assert_eq!(read.key.as_ref().unwrap().to_string(), "blue/demo.Echo:1.0");
    assert_eq!(
        (&*read.protocol, &*read.host, read.port, &*read.path),
        ("bolt", "192.0.2.2", 12299, "")
    );
    assert_eq!(read.params.get("tag"), Some("blue"));
    assert_eq!(&*read.raw, LINE);
    assert_eq!(line::print(&read), LINE);
}

#[test]
fn every_form_of_an_address_is_understood() {
    for (text, protocol, host, port, path) in [
        ("10.0.0.5:12200", "bolt", "10.0.0.5", 12200, ""),
        ("10.0.0.5", "bolt", "10.0.0.5", 80, ""),
        ("10.0.0.5:12200?", "bolt", "10.0.0.5", 12200, ""),
        ("tr://10.0.0.5:12200/a/b?p=1", "tr", "10.0.0.5", 12200, "a/b"),
        ("BOLT://h:1?x=http://other/y", "bolt", "h", 1, ""),
        ("10.0.0.5:12200?p=13&v=4.0", "tr", "10.0.0.5", 12200, ""),
        ("[fe80::1]:12200?p=1", "bolt", "fe80::1", 12200, ""),
        ("[fe80::1]", "bolt", "fe80::1", 80, ""),
    ] {
        let read = line::parse(text, &service("demo.Echo:1.0")).unwrap();
        let seen = (&*read.protocol, &*read.host, read.port, &*read.path);
        assert_eq!(seen, (protocol, host, port, path), "{text}");
    }
    let rest = line::parse("10.0.0.5:8341", &service("demo.Echo:1.0@rest")).unwrap();
    assert_eq!(&*rest.protocol, "rest");
}

#[test]
fn what_is_no_address_is_refused() {
    for (text, reason) in [
        ("", "no_host"),
        ("?weight=1", "no_host"),
        (":12200", "no_host"),
        ("h:port", "bad_port"),
        ("h:70000", "bad_port"),
        ("[]:1", "no_host"),
    ] {
        let error = line::parse(text, &service("demo.Echo")).unwrap_err();
        assert_eq!(error.reason(), reason, "{text:?}");
    }
}

#[test]
fn older_words_and_parameters_of_methods_are_read() {
    let text = "10.0.0.5:12200?p=1&v=4.0&_SERIALIZETYPE=4&_WEIGHT=50&_TIMEOUT=2000&self_app_name=old&flag\
        &[slow]=[clientTimeout#9000@retries#1]& .slow.timeout=9000 &_WARMUPTIME=60000";
    let read = line::parse(text, &service("demo.Echo")).unwrap();
    assert_eq!(params::serialization(&read.params), Some("hessian2"));
    for (name, value) in [
        ("weight", "50"),
        ("timeout", "2000"),
        ("appName", "old"),
        ("warmupTime", "60000"),
    ] {
        assert_eq!(params::word(&read.params, name), Some(value), "{name}");
    }
    assert_eq!(read.params.get("flag"), Some("flag"));
    assert_eq!(read.params.get("[slow]"), Some("[clientTimeout#9000@retries#1]"));
    assert_eq!(read.params.get(".slow.timeout"), Some("9000"));
}

#[test]
fn only_the_address_and_the_marker_change_outward() {
    let published = line::with_outward(LINE, &outward()).unwrap();
    let behind = LINE.strip_prefix("192.0.2.2:12299").unwrap();
    assert_eq!(published, format!("10.0.0.5:12201{behind}&remora.app.port=12299"));
    let again = line::with_outward(&published, &outward()).unwrap_err();
    assert!(matches!(again, NamingError::AlreadyTakenOver { port: 12201, .. }));
    assert_eq!(
        line::moved(&published, "10.0.0.6", 12300).unwrap(),
        format!("10.0.0.6:12300{behind}&remora.app.port=12299")
    );
    for (text, wanted) in [
        ("h", "10.0.0.5:12201?remora.app.port=12299"),
        ("h:1?", "10.0.0.5:12201?remora.app.port=12299"),
        ("tr://[::1]:9/p?a", "tr://10.0.0.5:12201/p?a&remora.app.port=12299"),
    ] {
        assert_eq!(line::with_outward(text, &outward()).unwrap(), wanted);
    }
}

#[test]
fn a_child_has_the_key_of_sofarpc() {
    let url = "bolt://10.77.0.2:12200?version=1.0&uniqueId=blue&interface=demo.Echo&group=x&version=7";
    let read = child::parse(&dubbo_url::encode_component(url), "demo.Echo").unwrap();
    assert_eq!(read.key.as_ref().unwrap().to_string(), "blue/demo.Echo:1.0");
    // SOFARPC up to 5.4 names no interface.
    let old = child::parse(
        "bolt%3A%2F%2F10.0.0.5%3A12200%3FuniqueId%3D%26version%3D1.0",
        "demo.Echo",
    )
    .unwrap();
    assert_eq!(old.key.as_ref().unwrap().to_string(), "demo.Echo:1.0");
}

#[test]
fn a_line_becomes_a_url_that_sofarpc_consumers_accept() {
    let text = format!("{LINE}&version=mine&[m]=[clientTimeout#5]&flag");
    let read = line::parse(&text, &service("demo.Echo:2.0")).unwrap();
    assert_eq!(
        child::url(&read),
        "bolt://192.0.2.2:12299?version=2.0&uniqueId=&interface=demo.Echo&protocol=bolt&rpcVer=51302\
         &serialization=hessian2&weight=100&appName=demo-app&tag=blue&startTime=1795251356562&version=mine\
         &[m]=[clientTimeout#5]&flag=flag"
    );
    let printed = child::parse(&child::print(&read), "demo.Echo").unwrap();
    assert_eq!(printed.key, read.key);
}

#[test]
fn a_url_becomes_a_line_that_every_sofa_client_reads() {
    let url = "bolt://10.77.0.2:12200?version=1.0&accepts=100000&appName=shop&weight=100&language=java&pid=7\
        &interface=demo.Echo&timeout=0&serialization=hessian2&protocol=bolt&delay=-1&dynamic=true\
        &startTime=17&id=rpc-cfg-0&uniqueId=&rpcVer=51302&tag=blue&remora.app.port=12200";
    let read = child::parse(&dubbo_url::encode_component(url), "demo.Echo").unwrap();
    assert_eq!(
        line::print(&read),
        "10.77.0.2:12200?rpcVer=51302&serialization=hessian2&weight=100&appName=shop&p=1&v=4.0\
         &_SERIALIZETYPE=hessian2&_WEIGHT=100&app_name=shop&accepts=100000&language=java&pid=7&delay=-1&dynamic=true\
         &startTime=17&id=rpc-cfg-0&tag=blue&remora.app.port=12200"
    );
}

#[test]
fn a_slash_in_a_parameter_does_not_swallow_the_address() {
    // `ProviderHelper.toProviderInfo` looks for the first slash behind the scheme.
    let read = line::parse("10.0.0.5:12200?p=1&path=/a", &service("demo.Echo")).unwrap();
    assert!(child::url(&read).starts_with("bolt://10.0.0.5:12200/?version=1.0&"));
}

#[test]
fn a_provider_without_a_form_of_its_own_gets_a_line() {
    let properties = [
        ("tag".to_owned(), "blue".to_owned()),
        ("q".to_owned(), "a=1&b".to_owned()),
    ];
    let service = service("demo.Echo:1.0:u");
    let provider = Provider {
        service: &service,
        protocol: "",
        host: "10.0.0.5",
        port: 12200,
        serialization: Some("hessian2"),
        app_name: Some("shop"),
        properties: &properties,
    };
    let instance = provider.instance();
    let line = "10.0.0.5:12200?serialization=hessian2&appName=shop&p=1&v=4.0&_SERIALIZETYPE=hessian2&app_name=shop\
        &tag=blue&q=a%3D1%26b";
    assert_eq!(&*instance.raw, line);
    assert_eq!(line::print(&instance), line);
    assert_eq!(line::parse(line, &service).unwrap(), instance);
    assert_eq!(Service::of_instance(&instance, ""), Some(service));
}

/// The parameters that belong to neither layout.
fn users(params: &Params) -> Vec<String> {
    let is_own = |pair: &String| pair.starts_with('u') && !pair.starts_with("uniqueId");
    pairs(params).into_iter().filter(is_own).collect()
}

proptest! {
    #[test]
    fn parameters_of_the_user_survive_both_ways(own in prop::collection::vec(("u[a-z.]{0,6}", "[a-z0-9#@.:-]{0,8}"), 0..8)) {
        let mut text = LINE.to_owned();
        for (key, value) in &own {
            text.push_str(&format!("&{key}={value}"));
        }
        let read = line::parse(&text, &service("demo.Echo:1.0:blue")).unwrap();
        let in_zookeeper = child::parse(&child::print(&read), "demo.Echo").unwrap();
        prop_assert_eq!(&in_zookeeper.key, &read.key);
        let back = line::parse(&line::print(&in_zookeeper), &service("demo.Echo:1.0:blue")).unwrap();
        let wanted: Vec<String> = own.iter().map(|(k, v)| format!("{k}={v}")).collect();
        prop_assert_eq!(users(&in_zookeeper.params), wanted.clone());
        prop_assert_eq!(users(&back.params), wanted);
        prop_assert_eq!(line::print(&back), text);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,80}") {
        let read = line::parse(&text, &service("demo.Echo"));
        if let Ok(instance) = read {
            let _ = (line::print(&instance), child::print(&instance));
            let _ = (line::with_outward(&text, &outward()), line::moved(&text, "h", 1));
        }
        let _ = child::parse(&text, "demo.Echo");
    }

    #[test]
    fn an_outward_line_says_where_the_application_listens(host in "[a-z0-9.]{1,12}", port in 1u16.., query in "[a-z=&]{0,20}") {
        let text = format!("{host}:{port}?{query}");
        let published = line::with_outward(&text, &Outward { app_port: port, ..outward() }).unwrap();
        let read = line::parse(&published, &service("demo.Echo")).unwrap();
        prop_assert_eq!(read.app_port(), Some(port));
        prop_assert_eq!((&*read.host, read.port), ("10.0.0.5", 12201));
        prop_assert!(read.raw.contains(&query));
    }
}
