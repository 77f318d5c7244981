// SPDX-License-Identifier: Apache-2.0
//! What followers see.

use super::*;

#[tokio::test]
async fn follower_sees_what_comes_and_goes() {
    let server = server();
    let (registry, _stop) = start(Embedded::new(server.clone()));
    let mut list = registry.follow(service(ECHO));
    let first = until(&mut list, "an absent list is empty", |_| true).await;
    assert!(first.instances.is_empty());

    let app = app(&server);
    providers_node(&app).await;
    app.create(&path(1), Bytes::new(), Ephemeral).await.unwrap();
    let one = until(&mut list, "one provider", |s| ports(s) == [1]).await;
    assert_eq!(
        one.instances[0].key.as_ref().unwrap().to_string(),
        "com.example.Echo:1.0.0"
    );
    app.create(&path(2), Bytes::new(), Ephemeral).await.unwrap();
    let two = until(&mut list, "two providers", |s| ports(s) == [1, 2]).await;
    assert!(
        Arc::ptr_eq(&one.instances[0], &two.instances[0]),
        "what was read once is shared"
    );
    app.delete(&path(1)).await.unwrap();
    until(&mut list, "one left", |s| ports(s) == [2]).await;
    drop(app);
    until(&mut list, "a closed session takes its nodes along", |s| {
        s.instances.is_empty()
    })
    .await;
}

#[tokio::test]
async fn last_list_stands_while_the_registry_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Server::open(dir.path(), embedded::Options::default()).unwrap();
    let before = open();
    let line = Line::to(&before);
    let (registry, _stop) = start(line.clone());
    let app_before = app(&before);
    providers_node(&app_before).await;
    app_before.create(&path(1), Bytes::new(), Persistent).await.unwrap();
    let mut list = registry.follow(service(ECHO));
    let known = until(&mut list, "one provider", |s| ports(s) == [1]).await;

    line.lead(None);
    before.close().await;
    state(&registry, "down", is_down).await;
    assert!(Arc::ptr_eq(list.borrow().as_ref().unwrap(), &known));

    let after = open();
    let app_after = app(&after);
    app_after.create(&path(2), Bytes::new(), Persistent).await.unwrap();
    line.lead(Some(&after));
    state(&registry, "up", RegistryState::is_up).await;
    let both = until(&mut list, "what was missed", |s| ports(s) == [1, 2]).await;
    assert!(Arc::ptr_eq(&both.instances[0], &known.instances[0]));
    app_after.delete(&path(1)).await.unwrap();
    until(&mut list, "what comes later", |s| ports(s) == [2]).await;
}

#[tokio::test]
async fn children_that_cannot_be_read_are_named_and_skipped() {
    let server = server();
    let app = app(&server);
    providers_node(&app).await;
    for n in 0..105 {
        let broken = format!("{PROVIDERS}/dubbo%3A%2F%2F10.0.0.5%3A99999{n:03}%2Fx");
        app.create(&broken, Bytes::new(), Persistent).await.unwrap();
    }
    app.create(&format!("{PROVIDERS}/lock-0000000001"), Bytes::new(), Persistent)
        .await
        .unwrap();
    app.create(&path(1), Bytes::new(), Persistent).await.unwrap();
    let (registry, _stop) = start(Embedded::new(server));
    let mut list = registry.follow(service(ECHO));
    let list = until(&mut list, "the list", |_| true).await;
    assert_eq!(ports(&list), [1]);
    assert_eq!(list.malformed.len(), 100);
    assert!(list.malformed.iter().all(|name| name.starts_with("dubbo%3A")));
}

#[tokio::test]
async fn burst_of_changes_is_read_a_few_times() {
    let server = server();
    let config = Config::default();
    let pause = config.min_reread;
    let (registry, _stop) = start_with(Embedded::new(server.clone()), config);
    let app = app(&server);
    providers_node(&app).await;
    let mut list = registry.follow(service(ECHO));
    until(&mut list, "the empty list", |_| true).await;
    let start = Instant::now();
    let burst = async {
        for port in 1..=500 {
            app.create(&path(port), Bytes::new(), Ephemeral).await.unwrap();
        }
    };
    let mut seen = 0;
    let count = async {
        while timeout(DEADLINE, list.changed()).await.is_ok() {
            seen += 1;
            if list.borrow_and_update().as_ref().unwrap().instances.len() == 500 {
                break;
            }
        }
    };
    tokio::join!(burst, count);
    let most = start.elapsed().as_millis() / pause.as_millis() + 2;
    assert!(seen <= most, "{seen} lists, {most} at most");
}

#[tokio::test]
async fn followers_of_the_same_list_share_it_until_the_last_is_gone() {
    let server = server();
    let (registry, _stop) = start(Embedded::new(server.clone()));
    let mut one = registry.follow(service(ECHO));
    until(&mut one, "the list", |_| true).await;
    let two = registry.follow(service(ECHO));
    assert!(two.same_channel(&one));
    drop(one);
    let three = registry.follow(service(ECHO));
    assert!(three.borrow().is_some(), "the list is still followed");
    drop((two, three));
    // Between `follow` and the next await nothing can have been read: an empty one is a new one.
    eventually("the follow ends", async || {
        registry.follow(service(ECHO)).borrow().is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn application_list_follows_data_too() {
    let server = server();
    let app = app(&server);
    let node = |port: u16| format!("/services/shop/10.0.0.5:{port}");
    let (registry, _stop) = start(Embedded::new(server));
    let mut list = registry.follow(application("shop"));
    until(&mut list, "an absent list is empty", |s| s.instances.is_empty()).await;
    app.create_parents(&node(1)).await.unwrap();
    for port in [1, 2] {
        app.create(&node(port), document(port, "r1"), Ephemeral).await.unwrap();
    }
    app.create("/services/shop/broken", "{".into(), Persistent)
        .await
        .unwrap();
    app.create(
        "/services/shop/theirs",
        r#"{"name":"x","payload":{}}"#.into(),
        Persistent,
    )
    .await
    .unwrap();
    app.create("/services/shop/folder", Bytes::new(), Persistent)
        .await
        .unwrap();
    let is_whole = |s: &Snapshot| ports(s) == [1, 2] && s.malformed.len() == 1;
    let first = until(&mut list, "both", is_whole).await;
    assert_eq!(*first.malformed, ["broken".into()]);
    app.set_data(&node(1), document(1, "r2")).await.unwrap();
    let revisions = |s: &Snapshot| {
        s.instances
            .iter()
            .map(|i| i.revision().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let second = until(&mut list, "the new revision", |s| revisions(s) == ["r2", "r1"]).await;
    assert!(Arc::ptr_eq(&first.instances[1], &second.instances[1]));
    app.set_data(&node(1), document(1, "r3")).await.unwrap();
    until(&mut list, "the watch is armed again", |s| revisions(s) == ["r3", "r1"]).await;
    app.delete(&node(1)).await.unwrap();
    until(&mut list, "one left", |s| ports(s) == [2]).await;
    app.create(&node(1), document(1, "r4"), Ephemeral).await.unwrap();
    until(&mut list, "it came back", |s| revisions(s) == ["r4", "r1"]).await;
    app.set_data("/services/shop/broken", document(3, "r5")).await.unwrap();
    until(&mut list, "it was mended", |s| {
        ports(s) == [1, 2, 3] && s.malformed.is_empty()
    })
    .await;
}

#[tokio::test]
async fn application_data_changed_during_an_outage_is_seen() {
    let server = server();
    let line = Line::to(&server);
    let (registry, _stop) = start(line.clone());
    let app = app(&server);
    let node = "/services/shop/10.0.0.5:1";
    app.create_parents(node).await.unwrap();
    app.create(node, document(1, "r1"), Ephemeral).await.unwrap();
    let mut list = registry.follow(application("shop"));
    until(&mut list, "the list", |s| ports(s) == [1]).await;
    line.lead(None);
    state(&registry, "down", is_down).await;
    app.set_data(node, document(1, "r2")).await.unwrap();
    line.lead(Some(&server));
    until(&mut list, "the new revision", |s| {
        s.instances[0].revision() == Some("r2")
    })
    .await;
}

#[tokio::test]
async fn metadata_is_read_where_dubbo_puts_it() {
    let server = server();
    let (registry, _stop) = start(Embedded::new(server.clone()));
    assert_eq!(registry.metadata("shop", "abc").await.unwrap(), None);
    let app = app(&server);
    app.create_parents("/dubbo/metadata/shop/abc").await.unwrap();
    app.create("/dubbo/metadata/shop/abc", r#"{"app":"shop"}"#.into(), Persistent)
        .await
        .unwrap();
    assert_eq!(
        registry.metadata("shop", "abc").await.unwrap().unwrap(),
        r#"{"app":"shop"}"#
    );
    assert_eq!(registry.metadata("shop/abc", "..").await.unwrap(), None);
}

#[tokio::test]
async fn thousands_of_lists_are_followed_over_a_reconnect() {
    let server = server();
    let line = Line::to(&server);
    let (registry, _stop) = start(line.clone());
    let app = app(&server);
    let name = |n: usize| format!("com.example.S{n}");
    let path = |n: usize, port| format!("/dubbo/{}/providers/{}", name(n), child(&name(n), port));
    let mut lists: Vec<List> = (0..2_000).map(|n| registry.follow(service(&name(n)))).collect();
    for list in &mut lists {
        until(list, "an empty list", |_| true).await;
    }
    let mut creates = JoinSet::new();
    for n in 0..lists.len() {
        let (app, path) = (app.clone(), path(n, 1));
        creates.spawn(async move {
            app.create_parents(&path).await.unwrap();
            app.create(&path, Bytes::new(), Ephemeral).await.unwrap();
        });
    }
    creates.join_all().await;
    for list in &mut lists {
        until(list, "one provider", |s| ports(s) == [1]).await;
    }
    line.lead(None);
    state(&registry, "down", is_down).await;
    app.create(&path(7, 2), Bytes::new(), Ephemeral).await.unwrap();
    line.lead(Some(&server));
    until(&mut lists[7], "what was missed", |s| ports(s) == [1, 2]).await;
    for (n, list) in lists.iter_mut().enumerate().step_by(100) {
        app.create(&path(n, 3), Bytes::new(), Ephemeral).await.unwrap();
        until(list, "the watch is armed again", |s| ports(s).contains(&3)).await;
    }
}

#[tokio::test]
async fn list_of_thousands_is_read_whole() {
    let server = server();
    let app = app(&server);
    providers_node(&app).await;
    for port in 1..=2_000 {
        app.create(&path(port), Bytes::new(), Ephemeral).await.unwrap();
    }
    let (registry, _stop) = start(Embedded::new(server));
    let mut list = registry.follow(service(ECHO));
    let first = until(&mut list, "all", |s| s.instances.len() == 2_000).await;
    app.delete(&path(1_000)).await.unwrap();
    let second = until(&mut list, "all but one", |s| s.instances.len() == 1_999).await;
    let shared = |i: &Arc<Instance>| first.instances.iter().any(|f| Arc::ptr_eq(f, i));
    assert!(second.instances.iter().all(shared));
}
