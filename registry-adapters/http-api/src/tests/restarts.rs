// SPDX-License-Identifier: Apache-2.0
//! What applications wanted outlives the proxy: they never say it twice.

use super::house::{House, Scripted, app, app_at, free_port, publish, subscribe, unpublish};

const ECHO: &str = "demo.EchoService:1.0";

#[tokio::test]
async fn registrations_and_follows_return_after_a_kill_and_after_a_drain() {
    let dir = tempfile::tempdir().unwrap();
    let discovery = Scripted::new();
    let house = House::mesh(dir.path(), &discovery, |_| {});
    let (_app, port) = app().await;
    house
        .accepted("/configs/application", r#"{"appName":"demo-app","zone":"RZ01"}"#)
        .await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    house
        .accepted("/services/subscribe", &subscribe("demo.Other:1.0"))
        .await;
    let before = discovery.until("published", |h| h.published.len() == 1).await;
    house.kill().await;
    let mut discovery = Scripted::new();
    for is_killed in [true, false] {
        let house = House::mesh(dir.path(), &discovery, |_| {});
        let after = discovery
            .until("back", |h| h.published.len() == 1 && h.followed.len() == 1)
            .await;
        let line = |held: &super::house::Held| held.published.values().next().unwrap().params.clone();
        assert_eq!(line(&after), line(&before), "with the time at which it came");
        assert_eq!(after.leases.values().collect::<Vec<_>>(), ["demo-app"]);
        match is_killed {
            true => house.kill().await,
            false => {
                house.close().await;
                assert!(discovery.held().published.is_empty(), "calls could not reach it");
            }
        }
        discovery = Scripted::new();
    }
    let house = House::mesh(dir.path(), &discovery, |_| {});
    discovery.until("back after a drain", |h| h.published.len() == 1).await;
    house.accepted("/services/unpublish", &unpublish(ECHO)).await;
    let unsubscribe = r#"{"serviceName":"demo.Other:1.0","protocolType":"bolt","group":null}"#;
    house.accepted("/services/unsubscribe", unsubscribe).await;
    house.kill().await;
    let discovery = Scripted::new();
    let house = House::mesh(dir.path(), &discovery, |_| {});
    assert_eq!(house.heartbeat("").await.json["interface_list"], serde_json::json!([]));
    assert!(discovery.held().leases.is_empty(), "what was taken back stays away");
}

#[tokio::test]
async fn an_application_that_died_meanwhile_is_not_published_until_its_port_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let (listener, port) = app().await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    house.kill().await;
    drop(listener);
    let discovery = Scripted::new();
    let house = House::mesh(dir.path(), &discovery, |_| {});
    house.until_registrations("away", 1).await;
    assert_eq!(discovery.held().publishes, 0);
    // Its next process was refused, since the proxy was down when it came.
    let _listener = app_at(port).await;
    discovery.until("published", |h| h.published.len() == 1).await;
}

#[tokio::test]
async fn a_publish_during_the_first_look_after_a_restart_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let (_app, port) = app().await;
    for service in ["demo.A:1.0", "demo.B:1.0"] {
        house.accepted("/services/publish", &publish(service, port)).await;
    }
    house.kill().await;
    let discovery = Scripted::new();
    let house = House::mesh(dir.path(), &discovery, |_| {});
    house.accepted("/configs/application", r#"{"appName":"other"}"#).await;
    house.accepted("/services/publish", &publish("demo.C:1.0", port)).await;
    discovery.until("all three", |h| h.published.len() == 3).await;
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_the_door_serves() {
    let dir = tempfile::tempdir().unwrap();
    for junk in [&b"junk"[..], b"", b"remora-mesh 1 00000000\n{}", &[0xff; 4096]] {
        let path = dir.path().join("mesh.json");
        std::fs::write(&path, junk).unwrap();
        let _ = std::fs::remove_file(dir.path().join("mesh.json.old"));
        let discovery = Scripted::new();
        let house = House::mesh(dir.path(), &discovery, |_| {});
        let (_app, port) = app().await;
        house.accepted("/services/publish", &publish(ECHO, port)).await;
        discovery.until("published", |h| h.published.len() == 1).await;
        house.kill().await;
        assert_eq!(std::fs::read(dir.path().join("mesh.json.damaged")).unwrap(), junk);
    }
}

#[tokio::test]
async fn a_disk_that_refuses_loses_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let discovery = Scripted::new();
    // A directory where the file should be.
    std::fs::create_dir(dir.path().join("mesh.json.new")).unwrap();
    let house = House::mesh(dir.path(), &discovery, |_| {});
    let (_app, port) = app().await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    discovery.until("published", |h| h.published.len() == 1).await;
    assert!(house.stats.store_failures.load(std::sync::atomic::Ordering::Relaxed) >= 1);
    std::fs::remove_dir(dir.path().join("mesh.json.new")).unwrap();
    let path = dir.path().join("mesh.json");
    let written = async {
        while !std::fs::read_to_string(&path).is_ok_and(|kept| kept.contains("EchoService")) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(super::house::LIMIT, written)
        .await
        .expect("it is written later");
}

#[tokio::test]
async fn a_port_that_moved_to_another_application_is_given_on() {
    let dir = tempfile::tempdir().unwrap();
    let discovery = Scripted::new();
    let second = |s: &mut crate::Settings| {
        s.applications = vec![crate::Application {
            address: "127.0.0.5".parse().unwrap(),
            name: "order".into(),
            ports: Default::default(),
            lease: None,
        }];
    };
    let house = House::mesh(dir.path(), &discovery, second);
    let port = free_port().await;
    let listener = app_at(port).await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    discovery.until("published", |h| h.published.len() == 1).await;
    let at_second = std::net::SocketAddr::new("127.0.0.5".parse().unwrap(), house.addr.port());
    let answer = super::house::post_to(at_second, "/services/publish", &publish(ECHO, port)).await;
    let told = answer.mesh_error();
    assert!(told.contains("127.0.0.5") && told.contains("app_ports.bolt"), "{told}");
    drop(listener);
    house.until_registrations("away", 1).await;
    super::house::post_to(at_second, "/services/publish", &publish(ECHO, port)).await;
    let _listener = app_at(port).await;
    let held = discovery.until("published", |h| h.published.len() == 1).await;
    assert_eq!(held.leases.values().collect::<Vec<_>>(), ["order"]);
}

#[tokio::test]
async fn a_time_to_live_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let (_app, port) = app().await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    house.heartbeat("?ttl=3").await;
    house.kill().await;
    let discovery = Scripted::new();
    let _house = House::mesh(dir.path(), &discovery, |_| {});
    discovery.until("published", |h| h.published.len() == 1).await;
    discovery.until("expired", |h| h.published.is_empty()).await;
}

#[tokio::test]
async fn thousands_that_return_at_once_leave_turns_to_everybody_else() {
    const MANY: usize = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let (_app, port) = app().await;
    let registration = |n: usize| {
        serde_json::json!({"namespace": "/sofa-rpc", "name": format!("demo.Many{n}:1.0"), "protocol": "bolt",
            "interface": format!("demo.Many{n}"), "group": "", "version": "1.0", "host": "127.0.0.1", "port": port, "path": "",
            "params": [], "owner": null})
    };
    let kept =
        serde_json::json!({"applications": [{"registrations": (0..MANY).map(registration).collect::<Vec<_>>()}]});
    remora_registry::sealed::write(&dir.path().join("mesh.json"), "mesh", kept.to_string().as_bytes()).unwrap();
    let discovery = Scripted::new();
    let _house = House::mesh(dir.path(), &discovery, |_| {});
    let mut held = discovery.changes();
    let (mut seen, mut most) = (0, 0);
    while seen < MANY {
        let changed = tokio::time::timeout(super::house::LIMIT, held.changed()).await;
        changed.expect("all are published").unwrap();
        let now = held.borrow_and_update().publishes;
        most = most.max(now - seen);
        seen = now;
    }
    assert!(most <= 64, "{most} were published without a turn for others");
}
