// SPDX-License-Identifier: Apache-2.0
//! Application-level nodes and metadata documents, as Dubbo 3.3.2 and 3.3.6 write them.

use remora_naming::application::{parse, print, restored, shown_at, shown_direct, with_outward, with_outwards};
use remora_naming::metadata;
use remora_registry::{Instance, Outward};
use serde_json::Value;

const NODE: &str = "10.77.0.2:3330";
const SEEN: &str = r#"{"name":"demo-provider","id":"10.77.0.2:3330","address":"10.77.0.2","port":3330,"sslPort":null,"payload":{"@class":"org.apache.dubbo.registry.zookeeper.ZookeeperInstance","id":"10.77.0.2:3330","name":"demo-provider","metadata":{"dubbo.endpoints":"[{\"port\":3330,\"protocol\":\"dubbo\"}]","dubbo.metadata-service.url-params":"{\"prefer.serialization\":\"hessian2,fastjson2\",\"version\":\"1.0.0\",\"dubbo\":\"2.0.2\",\"release\":\"3.3.2\",\"side\":\"provider\",\"port\":\"3330\",\"protocol\":\"dubbo\"}","dubbo.metadata.revision":"5f1e1b5c5e8a4d3e9b6a7c8d9e0f1a2b","dubbo.metadata.storage-type":"local","meta-v":"1.0.0","timestamp":"1700000000000","zone":"a"}},"registrationTimeUTC":1700000000001,"serviceType":"DYNAMIC","uriSpec":null}"#;
const DOCUMENT: &str = r#"{"app":"demo-provider","revision":"r1","services":{"g1/demo.GreetService:1.0.0:dubbo":{"group":"g1","name":"demo.GreetService","params":{"timeout":"3000","side":"provider"},"path":"demo.GreetService","port":20880,"protocol":"dubbo","version":"1.0.0"},"demo.Other:tri":{"name":"demo.Other","params":{},"path":"demo.Other","port":50051,"protocol":"tri"}}}"#;

fn outward() -> Outward {
    Outward {
        host: "10.0.0.5".into(),
        port: 20881,
        app_port: 3330,
    }
}

#[test]
fn a_seen_node_is_read() {
    let instance = parse(NODE, SEEN.as_bytes()).unwrap().unwrap();
    assert_eq!(
        (&*instance.protocol, &*instance.host, instance.port),
        ("dubbo", "10.77.0.2", 3330)
    );
    assert_eq!(instance.key, None);
    assert_eq!(instance.revision(), Some("5f1e1b5c5e8a4d3e9b6a7c8d9e0f1a2b"));
    assert_eq!(instance.params.get("application"), Some("demo-provider"));
    assert_eq!(print(&instance).unwrap(), (NODE.to_owned(), SEEN.as_bytes().to_vec()));
}

#[test]
fn outward_changes_the_address_in_every_place_and_nothing_else() {
    let (node, json) = with_outward(NODE, SEEN.as_bytes(), &outward()).unwrap();
    assert_eq!(node, "10.0.0.5:20881");
    let expected = SEEN
        .replace("10.77.0.2", "10.0.0.5")
        .replace("3330", "20881")
        .replace(r#""zone":"a"}"#, r#""zone":"a","remora.app.port":"3330"}"#);
    assert_eq!(String::from_utf8(json).unwrap(), expected);
}

#[test]
fn what_was_published_outward_is_restored_to_the_byte() {
    let outward = Outward {
        host: "10.77.0.2".into(),
        ..outward()
    };
    let (node, json) = with_outward(NODE, SEEN.as_bytes(), &outward).unwrap();
    let (node, json) = restored(&node, &json, &|port| port).unwrap();
    assert_eq!((node.as_str(), String::from_utf8(json).unwrap().as_str()), (NODE, SEEN));

    let two = SEEN.replace(
        r#"\"protocol\":\"dubbo\"}]"#,
        r#"\"protocol\":\"dubbo\"},{\"port\":50051,\"protocol\":\"tri\"}]"#,
    );
    assert_ne!(two, SEEN);
    let (node, json) = with_outwards(NODE, two.as_bytes(), &outward, &[(50051, 20900)]).unwrap();
    let behind = |port| if port == 20900 { 50051 } else { port };
    let (_, json) = restored(&node, &json, &behind).unwrap();
    assert_eq!(String::from_utf8(json).unwrap(), two);
    assert!(
        restored(NODE, SEEN.as_bytes(), &|port| port).is_err(),
        "it has no marker"
    );
}

#[test]
fn a_document_gets_its_own_ports_back() {
    let outward = Outward {
        app_port: 20880,
        ..outward()
    };
    let ours = metadata::with_outward(DOCUMENT.as_bytes(), &outward).unwrap();
    assert_ne!(ours, DOCUMENT.as_bytes());
    let behind = |port| (port == 20881).then_some(20880);
    let theirs = metadata::restored(&ours, &behind).unwrap();
    assert_eq!(String::from_utf8(theirs).unwrap(), DOCUMENT);
}

#[test]
fn a_marked_node_is_refused() {
    let (node, json) = with_outward(NODE, SEEN.as_bytes(), &outward()).unwrap();
    assert_eq!(parse(&node, &json).unwrap().unwrap().app_port(), Some(3330));
    let refused = with_outward(&node, &json, &outward()).unwrap_err();
    assert_eq!(refused.reason(), "already_taken_over");
}

#[test]
fn url_params_of_2_7_are_one_level_deeper() {
    let nested = SEEN.replace(
        r#"{\"prefer.serialization\":\"hessian2,fastjson2\",\"version\":\"1.0.0\",\"dubbo\":\"2.0.2\",\"release\":\"3.3.2\",\"side\":\"provider\",\"port\":\"3330\",\"protocol\":\"dubbo\"}"#,
        r#"{\"dubbo\":{\"version\":\"1.0.0\",\"port\":\"3330\"}}"#,
    );
    let (_, json) = with_outward(NODE, nested.as_bytes(), &outward()).unwrap();
    let json = String::from_utf8(json).unwrap();
    assert!(
        json.contains(r#"{\"dubbo\":{\"version\":\"1.0.0\",\"port\":\"20881\"}}"#),
        "{json}"
    );
}

#[test]
fn a_metadata_service_on_its_own_port_and_other_protocols_keep_theirs() {
    let mixed = SEEN
        .replace(
            r#"[{\"port\":3330,"#,
            r#"[{\"port\":50051,\"protocol\":\"tri\"},{\"port\":3330,"#,
        )
        .replace(r#"\"port\":\"3330\""#, r#"\"port\":\"20999\""#);
    let (_, json) = with_outward(NODE, mixed.as_bytes(), &outward()).unwrap();
    let json = String::from_utf8(json).unwrap();
    assert!(json.contains(r#"[{\"port\":50051,\"protocol\":\"tri\"},{\"port\":20881,\"protocol\":\"dubbo\"}]"#));
    assert!(json.contains(r#"\"port\":\"20999\""#));
}

#[test]
fn spring_cloud_alibaba_urls_change_too() {
    let urls = SEEN.replace(
        r#""zone":"a""#,
        r#""dubbo.metadata-service.urls":"[\"dubbo://10.77.0.2:3330/com.alibaba.M?a=1+2\",\"dubbo://10.77.0.2:9/x\"]""#,
    );
    let (_, json) = with_outward(NODE, urls.as_bytes(), &outward()).unwrap();
    let json = String::from_utf8(json).unwrap();
    assert!(
        json.contains(r#"[\"dubbo://10.0.0.5:20881/com.alibaba.M?a=1+2\",\"dubbo://10.77.0.2:9/x\"]"#),
        "{json}"
    );
}

#[test]
fn other_peoples_nodes_are_left_alone() {
    let spring = r#"{"name":"orders","id":"u","address":"10.1.1.1","port":8080,"payload":{"@class":"x","metadata":{"instance_status":"UP"}}}"#;
    assert_eq!(parse("u", spring.as_bytes()), Ok(None));
    assert_eq!(parse("u", b"[1]"), Ok(None));
    assert!(parse("u", b"not json").is_err());
    assert!(parse("u", &[b'['; 4096]).is_err());
    let no_address = SEEN.replace(r#""address":"10.77.0.2","#, "");
    assert_eq!(parse("u", no_address.as_bytes()).unwrap_err().reason(), "no_host");
}

#[test]
fn a_shown_entry_stands_at_the_egress_and_asks_the_metadata_centre() {
    let (node, json) = with_outward(NODE, SEEN.as_bytes(), &outward()).unwrap();
    let published = parse(&node, &json).unwrap().unwrap();
    let shown = shown_at(&published, "2130706433", 20882, "rev").unwrap();
    assert_eq!(
        (&*shown.id, &*shown.host, shown.port),
        ("2130706433:20882-rev", "2130706433", 20882)
    );
    assert_eq!(shown.params.get("dubbo.metadata.storage-type"), Some("remote"));
    assert_eq!(shown.params.get(Instance::MARKER), None);
    assert_eq!(
        shown.params.get("dubbo.endpoints"),
        Some(r#"[{"port":20882,"protocol":"dubbo"}]"#)
    );
    assert!(
        !shown.raw.contains("10.0.0.5") && !shown.raw.contains("20881"),
        "{}",
        shown.raw
    );
    assert!(
        shown_at(
            &Instance {
                raw: "[]".into(),
                ..published
            },
            "h",
            1,
            "r"
        )
        .is_err()
    );
}

#[test]
fn a_direct_entry_keeps_its_address_and_the_protocols_nobody_speaks() {
    let mixed = SEEN.replace(
        r#"[{\"port\":3330,"#,
        r#"[{\"port\":50051,\"protocol\":\"tri\"},{\"port\":3330,"#,
    );
    let instance = parse(NODE, mixed.as_bytes()).unwrap().unwrap();
    let shown = shown_direct(&instance, &|p| p == "dubbo", "rev-direct").unwrap();
    assert_eq!(
        (&*shown.protocol, &*shown.host, shown.port),
        ("tri", "10.77.0.2", 50051)
    );
    assert_eq!(shown.revision(), Some("rev-direct"));
}

#[test]
fn metadata_ports_give_way_to_the_instance() {
    let services = metadata::services(DOCUMENT.as_bytes()).unwrap();
    assert_eq!(services[0].key.to_string(), "g1/demo.GreetService:1.0.0");
    assert_eq!(
        (services[0].port, services[0].params.get("timeout")),
        (Some(20880), Some("3000"))
    );
    let spoken = |p: &str| p == "dubbo";
    let shown: Value = serde_json::from_str(&metadata::inward(DOCUMENT.as_bytes(), &spoken, "r1").unwrap()).unwrap();
    assert_eq!(shown["services"].as_object().unwrap().len(), 1);
    assert_eq!(shown["services"]["g1/demo.GreetService:1.0.0:dubbo"]["port"], -1);
    let direct: Value = serde_json::from_str(&metadata::direct(DOCUMENT.as_bytes(), &spoken, "r2").unwrap()).unwrap();
    assert_eq!(direct["services"]["demo.Other:tri"]["port"], 50051);
    assert_eq!(
        (direct["services"].as_object().unwrap().len(), &direct["revision"]),
        (1, &Value::from("r2"))
    );
    let out = Outward {
        app_port: 20880,
        ..outward()
    };
    let published = String::from_utf8(metadata::with_outward(DOCUMENT.as_bytes(), &out).unwrap()).unwrap();
    assert_eq!(published, DOCUMENT.replace("20880", "20881"));
}
