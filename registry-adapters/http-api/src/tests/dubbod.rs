// SPDX-License-Identifier: Apache-2.0
//! The dubbod API as MOSN's SDKs use it, and the variant with a heartbeat.

use std::time::Duration;

use remora_naming::dubbo_url;
use serde_json::json;

use super::house::{House, Scripted, app, exchange};

const REGISTRY: &str = r#""registry":{"type":"zookeeper","addr":"127.0.0.1:2181","username":"u","password":"secret"}"#;

fn mosn(service: &str) -> String {
    format!(r#"{{{REGISTRY},"service":{service}}}"#)
}

#[tokio::test]
async fn a_publish_is_a_provider_that_dubbo_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let (_app, port) = app().await;
    let house = House::dubbod(dir.path(), &Scripted::new(), |s| {
        s.ports.insert("dubbo".into(), port);
    });
    let body = mosn(r#"{"interface":"demo.EchoService","methods":["echo","who"],"group":"g1","version":"1.0.0"}"#);
    let answer = house.post("/pub", &body).await;
    assert_eq!(
        answer.json,
        json!({"err_no": 0, "err_msg": "publish success"}),
        "byte for byte what MOSN says"
    );
    let held = house.discovery.until("published", |h| h.published.len() == 1).await;
    let ((target, _), instance) = held.published.first_key_value().unwrap();
    assert_eq!(target, "service /dubbo/demo.EchoService");
    assert_eq!(instance.key.as_ref().unwrap().to_string(), "g1/demo.EchoService:1.0.0");
    let child = dubbo_url::decode_component(&dubbo_url::print_child(instance)).unwrap();
    let stamp = instance.params.get("timestamp").unwrap();
    assert_eq!(
        child,
        format!(
            "dubbo://127.0.0.1:{port}/demo.EchoService?anyhost=true&dubbo=2.0.2&group=g1&interface=demo.EchoService&methods=echo,who&side=provider&version=1.0.0&timestamp={stamp}"
        )
    );
    let kept = std::fs::read_to_string(dir.path().join("dubbod.json")).unwrap();
    assert!(!kept.contains("secret"), "the registry's password is not kept");
}

#[tokio::test]
async fn every_call_may_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let (_app, port) = app().await;
    let house = House::dubbod(dir.path(), &Scripted::new(), |s| {
        s.ports.insert("dubbo".into(), port);
    });
    let plain = mosn(r#"{"interface":"demo.EchoService","methods":["echo"]}"#);
    let other = mosn(r#"{"interface":"demo.EchoService","methods":["echo"],"group":"g1"}"#);
    for (path, message) in [
        ("/unpub", "unpub success"),
        ("/unsub", "unsubscribe success"),
        ("/sub", "subscribe success"),
        ("/sub", "subscribe success"),
        ("/pub", "publish success"),
        ("/pub", "publish success"),
    ] {
        assert_eq!(house.accepted(path, &plain).await["err_msg"], message);
    }
    house.accepted("/pub", &other).await;
    house.discovery.until("both groups", |h| h.published.len() == 2).await;
    for _ in 0..2 {
        house.accepted("/unpub", &plain).await;
        assert_eq!(house.discovery.held().published.len(), 1, "the other group stays");
    }
    for left in [1, 0, 0] {
        house.accepted("/unsub", &plain).await;
        assert_eq!(house.discovery.held().followed.len(), left);
    }
}

#[tokio::test(start_paused = true)]
async fn the_variant_lists_what_is_registered_and_its_heartbeat_renews() {
    let dir = tempfile::tempdir().unwrap();
    let (_app, port) = app().await;
    let house = House::dubbod(dir.path(), &Scripted::new(), |s| s.lease = Some(Duration::from_secs(2)));
    let body = format!(
        r#"{{"service":{{"interface":"demo.EchoService","methods":["echo"],"params":{{"group":"g1","version":"1.0.0","application":"shop","weight":50,"token":true,"odd":"a&b=c","bind.port":"22"}}}},"host":"1.2.3.4","port":{port}}}"#
    );
    let answer = house.accepted("/pub", &body).await;
    assert_eq!(
        (&answer["code"], &answer["msg"]),
        (&json!(0), &json!("publish success"))
    );
    assert_eq!(answer["interface_list"], json!(["demo.EchoService"]));
    let answer = house
        .accepted("/sub", r#"{"service":{"interface":"demo.Other"}}"#)
        .await;
    assert_eq!(answer["sub_interface_list"], json!(["demo.Other"]));
    let held = house.discovery.until("published", |h| h.published.len() == 1).await;
    let instance = held.published.values().next().unwrap();
    for (key, value) in [
        ("application", "shop"),
        ("weight", "50"),
        ("token", "true"),
        ("odd", "a%26b%3Dc"),
        ("group", "g1"),
    ] {
        assert_eq!(instance.params.get(key), Some(value), "{key}");
    }
    assert_eq!((instance.port, instance.params.get("bind.port")), (port, None));
    for _ in 0..8 {
        // 400 ms: all of them together are longer than the lease.
        house.after_looks(20).await;
        let known = house.heartbeat("").await.json;
        assert_eq!((&known["code"], &known["msg"]), (&json!(0), &json!("ack success")));
        assert_eq!(known["pub_interface_list"], json!(["demo.EchoService"]));
    }
    house.discovery.until("expired", |h| h.published.is_empty()).await;
    house.accepted("/pub", &body).await;
    house
        .discovery
        .until("published again", |h| h.published.len() == 1)
        .await;
    house
        .accepted("/unpub", r#"{"service":{"interface":"demo.EchoService"}}"#)
        .await;
    assert!(
        house.discovery.held().published.is_empty(),
        "a whole interface is taken back"
    );
}

#[tokio::test]
async fn a_wrong_body_is_answered_with_the_name_of_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::dubbod(dir.path(), &Scripted::new(), |_| {});
    for (path, body, told) in [
        ("/pub", "{", "no JSON object"),
        ("/pub", "{}", "`service` is missing"),
        ("/pub", r#"{"service":7}"#, "`service` must be an object"),
        (
            "/pub",
            r#"{"registry":[],"service":{}}"#,
            "`registry` must be an object",
        ),
        (
            "/pub",
            r#"{"registry":{"type":3},"service":{"interface":"a.B"}}"#,
            "`registry.type` must be a string",
        ),
        (
            "/pub",
            r#"{"service":{"methods":["a"]}}"#,
            "`service.interface` is missing",
        ),
        (
            "/pub",
            r#"{"service":{"interface":7}}"#,
            "`service.interface` must be a string",
        ),
        (
            "/pub",
            r#"{"service":{"interface":"../a"}}"#,
            "`service.interface` is wrong",
        ),
        (
            "/pub",
            r#"{"service":{"interface":"a.B","methods":"echo"}}"#,
            "`service.methods` must be an array",
        ),
        (
            "/pub",
            r#"{"service":{"interface":"a.B","methods":["a",7]}}"#,
            "`service.methods[1]` must be a string",
        ),
        (
            "/pub",
            r#"{"registry":{},"service":{"interface":"a.B","methods":[]}}"#,
            "`service.methods` is missing",
        ),
        (
            "/pub",
            r#"{"service":{"interface":"a.B","group":1}}"#,
            "`service.group` must be a string",
        ),
        (
            "/pub",
            r#"{"service":{"interface":"a.B","params":{"version":"a b"}}}"#,
            "`service.params.version` is wrong",
        ),
        (
            "/pub",
            r#"{"service":{"interface":"a.B","port":0}}"#,
            "`service.port` is wrong",
        ),
        (
            "/pub",
            r#"{"service":{"interface":"a.B"},"port":[]}"#,
            "`port` must be a port",
        ),
        ("/unpub", "{}", "`service` is missing"),
        ("/sub", r#"{"service":{}}"#, "`service.interface` is missing"),
        ("/unsub", "[]", "no JSON object"),
    ] {
        let answer = house.post(path, body).await;
        assert!(answer.dubbod_error().contains(told), "{path} {body}: {answer:?}");
        assert_eq!(
            (&answer.json["code"], &answer.json["msg"]),
            (&json!(1), &answer.json["err_msg"])
        );
    }
    assert!(house.discovery.held().leases.is_empty());
}

#[tokio::test]
async fn applications_with_addresses_of_their_own_have_ports_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let ((_first, a), (_second, b)) = (app().await, app().await);
    let house = House::dubbod(dir.path(), &Scripted::new(), |s| {
        s.ports.insert("dubbo".into(), a);
        s.applications = vec![crate::Application {
            address: "127.0.0.5".parse().unwrap(),
            name: "order".into(),
            ports: [("dubbo".to_owned(), b)].into(),
            lease: None,
        }];
    });
    let body = mosn(r#"{"interface":"demo.EchoService","methods":["echo"]}"#);
    let second = std::net::SocketAddr::new("127.0.0.5".parse().unwrap(), house.addr.port());
    for addr in [house.addr, second] {
        let request = format!(
            "POST /pub HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(exchange(addr, &request).await.json["err_no"], 0);
    }
    let held = house.discovery.until("both", |h| h.published.len() == 2).await;
    let ports: Vec<u16> = held.published.values().map(|i| i.port).collect();
    assert!(ports.contains(&a) && ports.contains(&b));
    let applications: Vec<&str> = held
        .published
        .values()
        .filter_map(|i| i.params.get("application"))
        .collect();
    assert_eq!(applications, ["order"]);
    assert_eq!(held.leases.len(), 2);
    let answer = house.accepted("/unpub", &body).await;
    assert_eq!(answer["err_no"], 0);
    let left = house.discovery.held().published;
    assert_eq!(
        left.into_values().map(|i| i.port).collect::<Vec<_>>(),
        [b],
        "the other application's stays"
    );
}
