// SPDX-License-Identifier: Apache-2.0
//! Registrations are tied to their application being alive.

use std::time::Duration;

use tokio::time::Instant;

use super::house::{House, LIMIT, Scripted, app, app_at, free_port, publish, subscribe, unpublish};

const ECHO: &str = "demo.EchoService:1.0";

#[tokio::test(start_paused = true)]
async fn a_publish_waits_for_the_port_and_a_closed_port_withdraws_until_it_is_open_again() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let port = free_port().await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    house.after_looks(3).await;
    assert_eq!(
        (house.registrations("waiting"), house.discovery.held().publishes),
        (1, 0)
    );
    let listener = app_at(port).await;
    house.discovery.until("published", |h| h.published.len() == 1).await;
    drop(listener);
    house.discovery.until("withdrawn", |h| h.published.is_empty()).await;
    assert_eq!(house.registrations("away"), 1);
    let _listener = app_at(port).await;
    house
        .discovery
        .until("published again", |h| h.published.len() == 1)
        .await;
    assert!(house.stats.probes_failed.load(std::sync::atomic::Ordering::Relaxed) >= 2);
}

#[tokio::test(start_paused = true)]
async fn the_default_looks_withdraw_a_killed_provider_within_five_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let default = crate::mesh::Config::default().door.probe_every;
    let house = House::mesh(dir.path(), &Scripted::new(), |s| s.probe_every = default);
    let (listener, port) = app().await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    house.discovery.until("published", |h| h.published.len() == 1).await;
    let killed = Instant::now();
    drop(listener);
    house.discovery.until("withdrawn", |h| h.published.is_empty()).await;
    assert!(killed.elapsed() < Duration::from_secs(4), "{:?}", killed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_port_closed_for_long_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |s| {
        s.forget_after = Duration::from_millis(300)
    });
    let (listener, port) = app().await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    house.discovery.until("published", |h| h.published.len() == 1).await;
    drop(listener);
    house
        .discovery
        .until("forgotten with its lease", |h| h.leases.is_empty())
        .await;
    assert_eq!(house.registrations("away"), 0);
}

#[tokio::test]
async fn a_new_process_forgets_what_the_dead_one_left() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let (listener, port) = app().await;
    for service in ["demo.Old:1.0", ECHO] {
        house.accepted("/services/publish", &publish(service, port)).await;
    }
    house.discovery.until("published", |h| h.published.len() == 2).await;
    drop(listener);
    house.until_registrations("away", 2).await;
    house
        .accepted("/configs/application", r#"{"appName":"another at this address"}"#)
        .await;
    assert_eq!(house.registrations("away"), 2);
    house
        .accepted("/configs/application", r#"{"appName":"demo-provider"}"#)
        .await;
    assert_eq!(house.registrations("away"), 0);
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    let _listener = app_at(port).await;
    house.discovery.until("published", |h| h.published.len() == 1).await;
    assert_eq!((house.registrations("published"), house.registrations("away")), (1, 0));
}

#[tokio::test]
async fn two_processes_at_one_address_do_not_take_each_other_away() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let ((first, a), (_second, b)) = (app().await, app().await);
    for (name, port) in [("first", a), ("second", b)] {
        let application = format!(r#"{{"appName":"{name}"}}"#);
        house.accepted("/configs/application", &application).await;
        house.accepted("/services/publish", &publish(ECHO, port)).await;
    }
    let held = house.discovery.until("both", |h| h.published.len() == 2).await;
    assert_eq!(held.leases.into_values().collect::<Vec<_>>(), ["first,second"]);
    // SOFARPC does not say which of them it means.
    house.accepted("/services/unpublish", &unpublish(ECHO)).await;
    assert_eq!(house.discovery.held().published.len(), 2);
    drop(first);
    let held = house
        .discovery
        .until("the one that ended is gone", |h| h.published.len() == 1)
        .await;
    assert_eq!(held.published.into_values().next().unwrap().port, b);
    house.accepted("/services/unpublish", &unpublish(ECHO)).await;
    assert!(house.discovery.held().published.is_empty(), "now it is clear which");
}

#[tokio::test]
async fn what_discovery_refuses_is_kept_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    *house.discovery.has_no_ports.lock().unwrap() = true;
    let (_app, port) = app().await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    house.until_registrations("refused", 1).await;
    *house.discovery.has_no_ports.lock().unwrap() = false;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    house.discovery.until("published", |h| h.published.len() == 1).await;
}

#[tokio::test]
async fn what_discovery_refuses_to_replace_does_not_stay_published() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let (_app, port) = app().await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    house.discovery.until("published", |h| h.published.len() == 1).await;
    *house.discovery.has_no_ports.lock().unwrap() = true;
    let other = publish(ECHO, port).replace("hessian2", "java");
    house.accepted("/services/publish", &other).await;
    house.until_registrations("refused", 1).await;
    assert!(house.discovery.held().published.is_empty());
    house.accepted("/services/unpublish", &unpublish(ECHO)).await;
    assert!(house.discovery.held().published.is_empty());
}

#[tokio::test(start_paused = true)]
async fn follows_of_an_application_without_any_sign_of_life_end() {
    let dir = tempfile::tempdir().unwrap();
    let egress = app().await;
    let house = House::mesh(dir.path(), &Scripted::new(), |s| {
        s.egress_port = egress.1;
        s.forget_follows_after = Duration::from_millis(400);
    });
    let consumer = tokio::net::TcpStream::connect(("127.0.0.1", egress.1)).await.unwrap();
    house.accepted("/services/subscribe", &subscribe(ECHO)).await;
    if !cfg!(target_os = "linux") {
        return;
    }
    // Three times as long as it would take.
    house.after_looks(60).await;
    assert_eq!(
        house.discovery.held().followed.len(),
        1,
        "it is connected to the egress"
    );
    drop(consumer);
    house
        .discovery
        .until("no longer followed", |h| h.followed.is_empty())
        .await;
}

#[tokio::test]
async fn a_hundred_publishes_at_once_are_quick_and_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let discovery = Scripted::new();
    let house = House::mesh(dir.path(), &discovery, |_| {});
    let (_app, port) = app().await;
    let begin = Instant::now();
    let mut requests = tokio::task::JoinSet::new();
    for n in 0..100 {
        let (addr, body) = (house.addr, publish(&format!("demo.Many{n}:1.0"), port));
        requests.spawn(async move { super::house::post_to(addr, "/services/publish", &body).await });
    }
    while let Some(answer) = requests.join_next().await {
        assert_eq!(answer.unwrap().json["success"], true);
    }
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let kept = std::fs::read_to_string(dir.path().join("mesh.json")).unwrap();
    assert_eq!(kept.matches("demo.Many").count(), 200, "as target and as interface");
    discovery.until("all published", |h| h.published.len() == 100).await;
}

#[tokio::test(start_paused = true)]
async fn an_opted_in_lease_ends_without_heartbeats_and_every_request_renews_it() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |s| s.lease = Some(Duration::from_secs(2)));
    let (_app, port) = app().await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    house
        .accepted("/services/subscribe", &subscribe("demo.Other:1.0"))
        .await;
    house.discovery.until("published", |h| h.published.len() == 1).await;
    for _ in 0..8 {
        // 400 ms: all of them together are longer than the lease.
        house.after_looks(20).await;
        let known = house.heartbeat("").await.json;
        assert_eq!(known["interface_list"], serde_json::json!(["demo.EchoService"]));
        assert_eq!(known["sub_interface_list"], serde_json::json!(["demo.Other:1.0"]));
        assert_eq!(known["registrations"][0]["state"], "published");
    }
    house
        .discovery
        .until("expired", |h| h.published.is_empty() && h.followed.is_empty())
        .await;
    assert_eq!(house.stats.leases_expired.load(std::sync::atomic::Ordering::Relaxed), 1);
    let known = house.heartbeat("").await.json;
    assert_eq!(
        known["interface_list"],
        serde_json::json!([]),
        "so the SDK publishes again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_is_asked_for_and_taken_back_by_heartbeat() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let (_app, port) = app().await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    house.discovery.until("published", |h| h.published.len() == 1).await;
    assert_eq!(house.heartbeat("").await.json["ttl"], serde_json::Value::Null);
    assert_eq!(house.heartbeat("?ttl=3").await.json["ttl"], 3);
    assert_eq!(house.heartbeat("?ttl=0").await.json["ttl"], serde_json::Value::Null);
    assert!(house.heartbeat("?ttl=soon").await.mesh_error().contains("`ttl`"));
    house.heartbeat("?ttl=3").await;
    let begin = Instant::now();
    house.discovery.until("expired", |h| h.published.is_empty()).await;
    assert!(begin.elapsed() > Duration::from_secs(2) && begin.elapsed() < LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_configured_lease_is_for_those_who_send_heartbeats() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |s| {
        s.lease = Some(Duration::from_millis(300))
    });
    let (_app, port) = app().await;
    house.accepted("/services/publish", &publish(ECHO, port)).await;
    house.discovery.until("published", |h| h.published.len() == 1).await;
    // Three times as long as the lease.
    house.after_looks(50).await;
    assert_eq!(house.discovery.held().published.len(), 1, "SOFARPC sends none");
    house.heartbeat("").await;
    house.discovery.until("expired", |h| h.published.is_empty()).await;
}
