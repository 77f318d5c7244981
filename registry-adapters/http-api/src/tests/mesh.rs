// SPDX-License-Identifier: Apache-2.0
//! The mesh API as SOFARPC uses it.

use serde_json::json;

use super::house::{House, Scripted, app, exchange, free_port, provider, publish, subscribe, unpublish};

const ECHO: &str = "demo.EchoService:1.0";

#[tokio::test]
async fn a_publish_stands_with_what_the_application_said_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let (_app, port) = app().await;
    house
        .accepted("/configs/application", r#"{"appName":"demo-app","zone":"RZ01"}"#)
        .await;
    let body = format!(
        r#"{{"serviceName":"demo.EchoService:2.0:blue","protocolType":"bolt","providerMetaInfo":{{"protocol":"bolt","version":"4.0","serializeType":"protobuf","appName":"demo-app","properties":{{"weight":"30","tag":"blue","port":"{port}","bind.port":"22","remora.app.port":"22","sofa.group":"G"}}}},"onlyPublishInCloud":false,"group":"G","somethingNew":{{"a":1}}}}"#
    );
    house.accepted("/services/publish", &body).await;
    let held = house.discovery.until("published", |h| h.published.len() == 1).await;
    let ((target, _), instance) = held.published.first_key_value().unwrap();
    assert_eq!(target, "service /sofa-rpc@G/demo.EchoService:2.0:blue");
    assert_eq!(instance.key.as_ref().unwrap().to_string(), "blue/demo.EchoService:2.0");
    assert_eq!(
        (&*instance.protocol, &*instance.host, instance.port),
        ("bolt", "127.0.0.1", port)
    );
    for (key, value) in [
        ("weight", "30"),
        ("tag", "blue"),
        ("serialization", "protobuf"),
        ("appName", "demo-app"),
        ("p", "1"),
        ("v", "4.0"),
    ] {
        assert_eq!(instance.params.get(key), Some(value), "{key} in {:?}", instance.params);
    }
    assert!(instance.params.get("startTime").is_some());
    for key in ["port", "bind.port", "remora.app.port"] {
        assert_eq!(instance.params.get(key), None, "{key} would change where calls go");
    }
    assert_eq!(held.leases.values().collect::<Vec<_>>(), ["demo-app"]);
    assert_eq!(house.registrations("published"), 1);
}

#[tokio::test]
async fn asking_twice_changes_nothing_and_unpublish_comes_twice_at_the_end_of_a_jvm() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let (_app, port) = app().await;
    house.accepted("/services/unpublish", &unpublish(ECHO)).await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    house.discovery.until("published", |h| h.published.len() == 1).await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    assert_eq!(house.discovery.held().publishes, 1, "the same thing again");
    let other = publish(ECHO, port).replace("hessian2", "protobuf");
    house.accepted("/services/publish", &other).await;
    let held = house.discovery.held();
    assert_eq!((held.publishes, held.published.len()), (2, 1), "replaced in place");
    for _ in 0..2 {
        // As SOFARPC 5.6 writes it.
        house
            .accepted(
                "/services/unpublish",
                &format!(r#"{{"serviceName":"{ECHO}","protocolType":null}}"#),
            )
            .await;
    }
    let held = house.discovery.held();
    assert!(held.published.is_empty() && held.leases.is_empty());
}

#[tokio::test]
async fn spellings_of_a_service_are_one_and_versions_ids_and_groups_are_others() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let (_app, port) = app().await;
    for service in ["demo.A:1.0", "demo.A:1.0@DEFAULT", "demo.A", "demo.A:1.0@bolt"] {
        house.accepted("/services/publish", &publish(service, port)).await;
    }
    house.discovery.until("one service", |h| h.published.len() == 1).await;
    for service in ["demo.A:2.0", "demo.A:1.0:blue"] {
        house.accepted("/services/publish", &publish(service, port)).await;
    }
    let in_group = publish("demo.A:1.0", port).replace(r#""group":null"#, r#""group":"G""#);
    house.accepted("/services/publish", &in_group).await;
    house.discovery.until("four services", |h| h.published.len() == 4).await;
    house
        .accepted("/services/unpublish", &unpublish("demo.A:1.0@DEFAULT"))
        .await;
    let left: Vec<String> = house
        .discovery
        .held()
        .published
        .into_keys()
        .map(|(target, _)| target)
        .collect();
    assert_eq!(
        left,
        [
            "service /sofa-rpc/demo.A:1.0:blue",
            "service /sofa-rpc/demo.A:2.0",
            "service /sofa-rpc@G/demo.A:1.0"
        ]
    );
}

#[tokio::test]
async fn subscribe_answers_what_is_known_and_success_without_any_provider() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let text = "10.0.0.9:12201?serialization=hessian2&app_name=shop&p=1&v=4.0";
    let (target, instance) = provider(ECHO, text);
    house.discovery.says(&target, vec![instance]);
    let answer = house.accepted("/services/subscribe", &subscribe(ECHO)).await;
    assert_eq!(answer["serviceName"], ECHO);
    let data = answer["datas"][0].as_str().unwrap();
    assert!(data.starts_with("127.0.0.1:12220?"), "{data}");
    assert!(
        data.contains("app_name=shop") && data.contains("serialization=hessian2"),
        "{data}"
    );
    let (other, _) = provider("demo.Empty:1.0", text);
    house.discovery.says(&other, vec![]);
    for service in ["demo.Empty:1.0", "demo.NeverHeardOf:1.0"] {
        let answer = house.accepted("/services/subscribe", &subscribe(service)).await;
        assert_eq!(answer["datas"], json!([]), "{service}");
    }
    assert_eq!(house.discovery.held().followed.len(), 3);
}

#[tokio::test]
async fn a_service_is_followed_until_the_last_of_its_references_ends() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    for _ in 0..2 {
        house.accepted("/services/subscribe", &subscribe(ECHO)).await;
    }
    let body = format!(r#"{{"serviceName":"{ECHO}","targetAppAddress":null,"protocolType":"bolt","group":null}}"#);
    house.accepted("/services/unsubscribe", &body).await;
    assert_eq!(house.discovery.held().followed.len(), 1);
    for _ in 0..2 {
        house.accepted("/services/unsubscribe", &body).await;
        assert!(house.discovery.held().followed.is_empty());
    }
    assert!(house.discovery.held().leases.is_empty());
}

#[tokio::test]
async fn what_bolt_does_not_speak_is_published_as_it_is_and_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let (_app, port) = app().await;
    let rest = publish(ECHO, port).replace(r#""protocolType":"bolt""#, r#""protocolType":"rest""#);
    house.accepted("/services/publish", &rest).await;
    let held = house.discovery.until("published", |h| h.published.len() == 1).await;
    let ((target, _), instance) = held.published.first_key_value().unwrap();
    assert_eq!(
        (target.as_str(), &*instance.protocol),
        ("service /sofa-rpc/demo.EchoService:1.0@rest", "rest")
    );
    let without = rest.replace(&format!(r#""port":"{port}""#), "");
    let answer = house.post("/services/publish", &without).await;
    assert!(
        answer.mesh_error().contains("facades.mesh.app_ports.rest"),
        "{answer:?}"
    );
    let ask = subscribe(ECHO).replace(r#""protocolType":"bolt""#, r#""protocolType":"rest""#);
    let answer = house.post("/services/subscribe", &ask).await;
    assert!(answer.mesh_error().contains("bolt alone"), "{answer:?}");
    assert_eq!((house.refused("port"), house.refused("protocol")), (1, 1));
    house
        .accepted(
            "/services/unpublish",
            &format!(r#"{{"serviceName":"{ECHO}","protocolType":null}}"#),
        )
        .await;
    assert!(house.discovery.held().published.is_empty(), "whatever its protocol");
}

#[tokio::test]
async fn what_the_registry_cannot_hold_is_refused_with_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    house.discovery.unheld.lock().unwrap().insert(ECHO.to_owned());
    let port = free_port().await;
    for (path, body) in [
        ("/services/publish", publish(ECHO, port)),
        ("/services/subscribe", subscribe(ECHO)),
    ] {
        let answer = house.post(path, &body).await;
        assert!(answer.mesh_error().contains("it has no groups"), "{answer:?}");
    }
    assert_eq!(house.refused("registry"), 2);
}

#[tokio::test]
async fn a_wrong_body_is_answered_with_the_name_of_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let publish = "/services/publish";
    for (path, body, told) in [
        (
            "/configs/application",
            r#"{"appName":7}"#,
            "`appName` must be a string, not a number",
        ),
        ("/configs/application", "[]", "no JSON object"),
        (publish, "", "no JSON object"),
        (publish, "{", "no JSON object"),
        (publish, "{}", "`serviceName` is missing"),
        (publish, r#"{"serviceName":null}"#, "`serviceName` is missing"),
        (
            publish,
            r#"{"serviceName":["a"]}"#,
            "`serviceName` must be a string, not an array",
        ),
        (publish, r#"{"serviceName":"a b"}"#, "`serviceName` is wrong"),
        (publish, r#"{"serviceName":"a/../b:1.0"}"#, "`serviceName` is wrong"),
        (publish, r#"{"serviceName":"a?x=1&y:1.0"}"#, "`serviceName` is wrong"),
        (
            publish,
            r#"{"serviceName":"a:1.0","protocolType":1}"#,
            "`protocolType` must be a string",
        ),
        (
            publish,
            r#"{"serviceName":"a:1.0","group":{}}"#,
            "`group` must be a string, not an object",
        ),
        (publish, r#"{"serviceName":"a:1.0","group":"a/b"}"#, "`group` is wrong"),
        (
            publish,
            r#"{"serviceName":"a:1.0","providerMetaInfo":"x"}"#,
            "`providerMetaInfo` must be an object",
        ),
        (
            publish,
            r#"{"serviceName":"a:1.0","providerMetaInfo":{"properties":[]}}"#,
            "`providerMetaInfo.properties` must be an object",
        ),
        (
            publish,
            r#"{"serviceName":"a:1.0","providerMetaInfo":{"properties":{"a":{}}}}"#,
            "`providerMetaInfo.properties.a` must be",
        ),
        (
            publish,
            r#"{"serviceName":"a:1.0","providerMetaInfo":{"properties":{"port":"x"}}}"#,
            "`providerMetaInfo.properties.port` is wrong",
        ),
        (
            publish,
            r#"{"serviceName":"a:1.0","providerMetaInfo":{"appName":true}}"#,
            "`providerMetaInfo.appName` must be a string",
        ),
        ("/services/unpublish", "{}", "`serviceName` is missing"),
        ("/services/subscribe", "{}", "`serviceName` is missing"),
        (
            "/services/unsubscribe",
            r#"{"serviceName":{}}"#,
            "`serviceName` must be a string",
        ),
    ] {
        let answer = house.post(path, body).await;
        assert!(answer.mesh_error().contains(told), "{path} {body}: {answer:?}");
    }
    assert_eq!(house.refused("key"), 21);
    assert!(house.discovery.held().leases.is_empty(), "nothing of it was kept");
}

#[tokio::test]
async fn a_publish_without_a_known_port_says_which_setting_gives_one() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |s| s.ports.clear());
    let body = r#"{"serviceName":"demo.A:1.0","protocolType":"bolt"}"#;
    let answer = house.post("/services/publish", body).await;
    let told = answer.mesh_error();
    assert!(
        told.contains("facades.mesh.app_ports.bolt") && told.contains("properties.port"),
        "{told}"
    );
}

/// A request as SOFARPC sent it.
fn golden(version: &str, name: &str) -> String {
    let path = format!(
        "{}/../../testbed/golden/mesh/{version}-{name}.http",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[tokio::test]
async fn the_requests_of_sofarpc_itself_are_understood_byte_for_byte() {
    for (version, full_target) in [
        ("5.6.5", "service /sofa-rpc/demo.Speak$EchoService:2.0.0:blue"),
        ("5.13.2", "service /sofa-rpc@G/demo.Speak$EchoService:2.0.0:blue"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (_app, port) = app().await;
        let house = House::mesh(dir.path(), &Scripted::new(), |s| {
            s.ports.insert("bolt".into(), port);
        });
        let ask = async |name: &str| {
            let answer = exchange(house.addr, &golden(version, name)).await;
            assert_eq!(
                (answer.status, &answer.json["success"]),
                (200, &json!(true)),
                "{version} {name}: {answer:?}"
            );
            answer.json
        };
        ask("application").await;
        ask("publish").await;
        ask("publish-full").await;
        let held = house.discovery.until("both", |h| h.published.len() == 2).await;
        assert_eq!(held.leases.values().collect::<Vec<_>>(), ["demo-app"]);
        let full = held.published.iter().find(|((target, _), _)| target == full_target);
        let (_, full) = full.unwrap_or_else(|| panic!("{version}: {held:?}"));
        for (key, value) in [
            ("tag", "blue"),
            ("weight", "30"),
            ("sofa.group", "G"),
            ("serialization", "hessian2"),
        ] {
            assert_eq!(full.params.get(key), Some(value), "{version} {key}");
        }
        assert_eq!(ask("subscribe").await["serviceName"], "demo.Speak$EchoService:1.0");
        ask("subscribe-full").await;
        assert!(house.discovery.held().followed.contains(full_target), "{version}");
        for (name, published, followed) in [
            ("unsubscribe-full", 2, 1),
            ("unsubscribe", 2, 0),
            ("unpublish-full", 1, 0),
            ("unpublish", 0, 0),
        ] {
            for _ in 0..2 {
                ask(name).await;
                let held = house.discovery.held();
                assert_eq!(
                    (held.published.len(), held.followed.len()),
                    (published, followed),
                    "{version} {name}"
                );
            }
        }
    }
}
