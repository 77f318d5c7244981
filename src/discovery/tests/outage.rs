// SPDX-License-Identifier: Apache-2.0
//! Lists that collapse, registries that come back emptied, starts without a registry.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_collapsed_list_is_held_while_its_ports_accept() {
    let house = house();
    let lease = house.lease("consumer");
    let mut list = house.desk.follow(lease.id(), &echo());
    let all: Vec<_> = (1..=4).map(|n| provider(&format!("10.0.0.{n}"), 1, "")).collect();
    house.registry.says(&echo(), all.clone());
    until(&mut list, |l| l.instances.len() == 4).await;
    house.registry.says(&echo(), vec![]);
    turn().await;
    assert_eq!(list.borrow().as_ref().unwrap().instances.len(), 4);
    assert_eq!(house.catalog.view().lists[0].held, 4);
    house.accepts.store(false, Ordering::SeqCst);
    until(&mut list, |l| l.instances.is_empty()).await;
    assert_eq!(house.endpoints(""), Some(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_killed_fleet_is_gone_at_once_and_a_single_withdrawal_too() {
    let house = house();
    house.accepts.store(false, Ordering::SeqCst);
    let lease = house.lease("consumer");
    let mut list = house.desk.follow(lease.id(), &echo());
    house.registry.says(
        &echo(),
        (1..=4).map(|n| provider(&format!("10.0.0.{n}"), 1, "")).collect(),
    );
    until(&mut list, |l| l.instances.len() == 4).await;
    let start = tokio::time::Instant::now();
    house.registry.says(&echo(), vec![]);
    until(&mut list, |l| l.instances.is_empty()).await;
    assert!(start.elapsed() < Duration::from_secs(1));
    house.accepts.store(true, Ordering::SeqCst);
    house.registry.says(&echo(), vec![provider("10.0.0.1", 1, "")]);
    until(&mut list, |l| l.instances.len() == 1).await;
    house.registry.says(&echo(), vec![]);
    until(&mut list, |l| l.instances.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_comes_back_emptied_takes_nobody_away() {
    let house = house();
    let lease = house.lease("consumer");
    let mut list = house.desk.follow(lease.id(), &echo());
    house
        .registry
        .says(&echo(), vec![provider("10.0.0.1", 1, "timestamp=1")]);
    until(&mut list, |l| l.instances.len() == 1).await;
    house.registry.go_down();
    turn().await;
    assert_eq!(
        list.borrow().as_ref().unwrap().instances.len(),
        1,
        "a lost registry changes no list"
    );
    house.registry.come_up();
    house.registry.says(&echo(), vec![]);
    turn().await;
    assert_eq!(house.endpoints(""), Some(vec!["10.0.0.1:1".into()]));
    house
        .registry
        .says(&echo(), vec![provider("10.0.0.1", 1, "timestamp=2")]);
    turn().await;
    let now = list.borrow().clone().unwrap();
    assert_eq!(
        (now.instances.len(), now.instances[0].params.get("timestamp")),
        (1, Some("2"))
    );
}

#[tokio::test(start_paused = true)]
async fn last_known_lists_serve_a_start_without_a_registry() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(Scripted::up(), Some(dir.path()), None);
    let lease = first.lease("consumer");
    let mut list = first.desk.follow(lease.id(), &echo());
    let mut nodes = first.desk.follow(lease.id(), &app("demo"));
    first.registry.has_document("demo", "r1", DOCUMENT);
    first.registry.says(&echo(), vec![provider("10.0.0.1", 20881, "")]);
    first
        .registry
        .says(&app("demo"), vec![application_node("10.0.0.2", 20881, "r1")]);
    until(&mut list, |l| l.instances.len() == 1).await;
    until(&mut nodes, |l| l.instances.len() == 1).await;
    assert!(first.desk.inward_metadata("demo", "r1-egress").await.is_some());
    first.drain.cancel();
    first.catalog.closed().await;

    let second = open(Scripted::down(), Some(dir.path()), None);
    assert_eq!(
        second.endpoints(""),
        Some(vec!["10.0.0.1:20881".into()]),
        "a route before anyone asks"
    );
    assert_eq!(second.endpoints("g1"), Some(vec!["10.0.0.2:20880".into()]));
    let lease = second.lease("consumer");
    let mut list = second.desk.follow(lease.id(), &echo());
    assert_eq!(list.borrow().as_ref().unwrap().source, Source::Disk);
    second.registry.come_up();
    second.registry.says(&echo(), vec![]);
    turn().await;
    assert_eq!(
        second.endpoints(""),
        Some(vec!["10.0.0.1:20881".into()]),
        "an empty first word is doubted"
    );
    second.registry.says(&echo(), vec![provider("10.0.0.9", 20881, "")]);
    until(&mut list, |l| l.instances.iter().any(|i| &*i.host == "10.0.0.9")).await;
    assert_eq!(second.endpoints(""), Some(vec!["10.0.0.9:20881".into()]));

    let other = Desk::open(
        &open(Scripted::down(), Some(dir.path()), None).catalog,
        "default",
        "other://",
        Scripted::down(),
    );
    let lease: Arc<dyn Discovery> = other.clone();
    let lease = Lease::open(lease, LeaseInfo::default());
    assert!(other.follow(lease.id(), &service("other.Service")).borrow().is_none());
}
