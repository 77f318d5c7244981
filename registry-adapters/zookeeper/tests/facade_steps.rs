// SPDX-License-Identifier: Apache-2.0
//! The front door when the takeover policy changes: what stands is brought to it, in the applications' own sessions.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use remora_naming::dubbo_url;
use remora_zookeeper::backend::{Backend, Embedded};
use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::wire::{CreateMode, ErrorCode, EventKind, Op, Ops, Request, Text};
use support::door::{Door, EGRESS, Script, Switch, child, document, mkdirs, service, world};
use support::{Client, acl, create_record, eventually};

use CreateMode::{Ephemeral, Persistent};

const DIR: &str = "/dubbo/a.B/providers";
const APP: &str = "/services/shop";
const RULES: &str = "/dubbo/a.B/configurators";
const METADATA: &str = "/dubbo/metadata/shop/5f1e1b5c5e8a4d3e9b6a7c8d9e0f1a2b";

fn own_name() -> String {
    child("dubbo://10.0.0.5:20880/a.B?application=shop&bind.port=20880")
}

fn own() -> String {
    format!("{DIR}/{}", own_name())
}

/// Its metadata is in the registry.
fn instance() -> String {
    let plain = document("shop", "10.0.0.5", &[20880], "5f1e1b5c5e8a4d3e9b6a7c8d9e0f1a2b");
    let stored = r#""dubbo.metadata.storage-type":"remote","dubbo.metadata.revision""#;
    plain.replace(r#""dubbo.metadata.revision""#, stored)
}

fn metadata() -> String {
    r#"{"app":"shop","revision":"5f1e1b5c5e8a4d3e9b6a7c8d9e0f1a2b","services":{"a.B:dubbo":{"name":"a.B","params":{},"path":"a.B","port":20880,"protocol":"dubbo"}}}"#
        .to_owned()
}

/// Publishes a service, an instance and its metadata, with data and an access list of its own.
async fn publish(app: &mut Client) {
    mkdirs(app, DIR).await;
    mkdirs(app, APP).await;
    mkdirs(app, "/dubbo/metadata/shop").await;
    let record = create_record(&own(), Ephemeral);
    let node = remora_zookeeper::wire::request::Create {
        data: Some(Bytes::from_static(b"10.0.0.5")),
        acl: acl("world", "anyone", 31),
        ..record
    };
    app.ask(Request::Create(node)).await.unwrap();
    let record = create_record(&format!("{APP}/10.0.0.5:20880"), Ephemeral);
    let node = remora_zookeeper::wire::request::Create {
        data: Some(Bytes::from(instance())),
        ..record
    };
    app.ask(Request::Create(node)).await.unwrap();
    let record = create_record(METADATA, Persistent);
    let node = remora_zookeeper::wire::request::Create {
        data: Some(Bytes::from(metadata())),
        ..record
    };
    app.ask(Request::Create(node)).await.unwrap();
}

/// What stands, names and data.
async fn registry(direct: &mut Client) -> Vec<(String, Option<Bytes>)> {
    let mut all = Vec::new();
    for dir in [DIR, APP] {
        for name in direct.children(dir, false).await.unwrap() {
            let path = format!("{dir}/{name}");
            // It may be another one by now.
            if let Ok((data, _)) = direct.get(&path, false).await {
                all.push((path, data));
            }
        }
    }
    all.push((METADATA.to_owned(), direct.get(METADATA, false).await.unwrap().0));
    all
}

fn untouched() -> Vec<(String, Option<Bytes>)> {
    vec![
        (own(), Some(Bytes::from_static(b"10.0.0.5"))),
        (format!("{APP}/10.0.0.5:20880"), Some(Bytes::from(instance()))),
        (METADATA.to_owned(), Some(Bytes::from(metadata()))),
    ]
}

async fn is_untouched(direct: &mut Client) {
    eventually("all stands as the application wrote it", async || {
        (registry(direct).await == untouched()).then_some(())
    })
    .await;
}

async fn is_taken_over(direct: &mut Client) {
    eventually("all leads to the ingress", async || {
        let all = registry(direct).await;
        let leads = |(path, data): &(String, Option<Bytes>)| {
            let data = String::from_utf8_lossy(data.as_deref().unwrap_or_default()).into_owned();
            (path.contains("20881") || data.contains("20881")) && !data.contains(":20880")
        };
        (all.len() == 3 && all.iter().all(leads)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_the_policy_leaves_stands_byte_for_byte() {
    let (server, script, door) = world();
    script.leave(true);
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut direct = Client::new(&server).await;
    assert_eq!(registry(&mut direct).await, untouched());
    app.delete(&own()).await.unwrap();
    assert!(direct.children(DIR, false).await.unwrap().is_empty());
    // What others delete stays deleted, as without a Remora.
    app.create(&own(), Ephemeral).await.unwrap();
    direct.delete(&own()).await.unwrap();
    assert_eq!(app.exists(&own(), false).await.unwrap_err(), ErrorCode::NO_NODE);
}

#[tokio::test]
async fn an_application_that_deletes_its_nodes_leaves_and_one_whose_session_ends_does_not() {
    let (_server, script, door) = world();
    let mut app = door.client().await;
    publish(&mut app).await;
    app.delete(&own()).await.unwrap();
    script.hears("leave 20880").await;
    app.delete(&format!("{APP}/10.0.0.5:20880")).await.unwrap();
    let left = || script.log().iter().filter(|said| **said == "leave 20880").count();
    assert_eq!(left(), 2);
    app.create(&own(), Ephemeral).await.unwrap();
    app.ask(Request::CloseSession).await.unwrap();
    script.hears("close 0").await;
    assert_eq!(left(), 2);
}

#[tokio::test]
async fn everything_goes_back_and_forward_again_and_again() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut direct = Client::new(&server).await;
    is_taken_over(&mut direct).await;
    for _ in 0..5 {
        script.leave(true);
        is_untouched(&mut direct).await;
        let (_, stat) = direct.get(&own(), false).await.unwrap();
        assert_eq!(stat.ephemeral_owner, app.session, "it is the application's own");
        script.leave(false);
        is_taken_over(&mut direct).await;
    }
    // The application knows of nothing, and takes back what it published under its own names.
    assert!(app.exists(&own(), false).await.is_ok());
    app.delete(&own()).await.unwrap();
    assert!(direct.children(DIR, false).await.unwrap().is_empty());
    script.leave(true);
    script.hears("stands 20880 Own").await;
    assert!(
        direct.children(DIR, false).await.unwrap().is_empty(),
        "what was taken back stays so"
    );
}

#[tokio::test]
async fn no_list_is_ever_without_the_provider() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut direct = Client::new(&server).await;
    for turn in 0..40 {
        script.leave(turn % 2 == 0);
        for _ in 0..5 {
            assert_eq!(direct.children(DIR, false).await.unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn the_application_hears_nothing_of_its_own_nodes_steps() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut direct = Client::new(&server).await;
    is_taken_over(&mut direct).await;
    app.exists(&own(), true).await.unwrap();
    script.leave(true);
    is_untouched(&mut direct).await;
    let told = app.told().await;
    assert!(told.iter().all(|(kind, _)| *kind != EventKind::NodeDeleted), "{told:?}");
    direct.delete(&own()).await.unwrap();
    assert_eq!(
        app.event().await,
        (EventKind::NodeDeleted, own()),
        "a real end is told of"
    );
}

#[tokio::test]
async fn a_change_while_the_application_is_away_meets_it_when_it_is_back() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut direct = Client::new(&server).await;
    is_taken_over(&mut direct).await;
    app.part().await;
    script.leave(true);
    let _app = door.resume(&app).await.unwrap();
    is_untouched(&mut direct).await;
}

#[tokio::test]
async fn a_step_that_a_lost_connection_cut_off_is_taken_when_the_session_is_back() {
    let server = Server::in_memory(Options::default());
    let switch = Switch::new(&server, "");
    let script = Arc::new(Script::default());
    let door = Door::open(Arc::<Switch>::clone(&switch), &script);
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut direct = Client::new(&server).await;
    is_taken_over(&mut direct).await;
    for turn in 0..40 {
        let is_left = turn % 2 == 0;
        // Nothing of it reaches the registry, or something does and the answer is lost.
        if turn < 4 {
            switch.stall();
        }
        script.leave(is_left);
        for _ in 0..turn {
            tokio::task::yield_now().await;
        }
        // Whatever was to be sent is under way.
        if turn < 4 {
            let deadline = std::time::Duration::from_millis(50);
            assert!(
                tokio::time::timeout(deadline, app.exists("/dubbo", false))
                    .await
                    .is_err()
            );
        }
        switch.cut();
        while app.frame().await.is_some() {}
        app = door.resume(&app).await.unwrap();
        match is_left {
            true => is_untouched(&mut direct).await,
            false => is_taken_over(&mut direct).await,
        }
    }
    app.delete(&own()).await.unwrap();
    assert!(direct.children(DIR, false).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_remora_that_knows_nothing_of_a_session_restores_what_stands() {
    let server = Server::in_memory(Options::default());
    let backend: Arc<dyn Backend> = Arc::new(Embedded::new(server.clone()));
    let script = Arc::new(Script::default());
    let door = Door::open(Arc::clone(&backend), &script);
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut direct = Client::new(&server).await;
    is_taken_over(&mut direct).await;
    door.drain().await;

    let script = Arc::new(Script::default());
    let door = Door::open(Arc::clone(&backend), &script);
    let mut app = door.resume(&app).await.unwrap();
    assert!(app.exists("/dubbo", false).await.is_ok());
    script.leave(true);
    is_untouched(&mut direct).await;
    door.drain().await;

    // And one that takes over again finds them without a marker.
    let script = Arc::new(Script::default());
    let door = Door::open(backend, &script);
    let mut app = door.resume(&app).await.unwrap();
    eventually("it is taken over again", async || {
        let names = direct.children(DIR, false).await.unwrap();
        names.iter().all(|name| name.contains("20881")).then_some(())
    })
    .await;
    app.delete(&own()).await.unwrap();
    assert!(direct.children(DIR, false).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_list_that_is_left_is_the_registrys_and_its_watch_fires_when_that_changes() {
    let (server, script, door) = world();
    let mut direct = Client::new(&server).await;
    mkdirs(&mut direct, DIR).await;
    direct.create(&own(), Ephemeral).await.unwrap();
    script.show(&service("a.B"), vec![dubbo_url::parse_child(&own_name()).unwrap()], &[]);
    let mut app = door.client().await;
    let shown = app.children(DIR, true).await.unwrap();
    assert!(shown[0].contains("2130706433"), "{shown:?}");
    let virtual_entry = format!("{DIR}/{}", shown[0]);
    app.get(&virtual_entry, false).await.unwrap();

    script.leave(true);
    assert_eq!(app.event().await, (EventKind::NodeChildrenChanged, DIR.to_owned()));
    assert_eq!(app.children(DIR, true).await.unwrap(), [own_name()]);
    assert_eq!(app.get(&virtual_entry, false).await.unwrap_err(), ErrorCode::NO_NODE);
    let (_, real) = direct.get(&own(), false).await.unwrap();
    assert_eq!(app.get(&own(), false).await.unwrap().1, real, "Stat and all");

    script.leave(false);
    assert_eq!(app.event().await, (EventKind::NodeChildrenChanged, DIR.to_owned()));
    assert_eq!(app.children(DIR, true).await.unwrap(), shown);
}

#[tokio::test]
async fn rules_that_name_hosts_are_the_applications_own_while_it_sees_hosts() {
    let (_server, script, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, RULES).await;
    let rule = child("override://10.0.0.5:20880/a.B?category=configurators&weight=5");
    app.create(&format!("{RULES}/{rule}"), Persistent).await.unwrap();
    assert!(app.children(RULES, true).await.unwrap().is_empty());
    // Of these nothing is kept, and they would be first: an event too many costs a consumer of Dubbo 3 seconds.
    for (place, rule) in [
        ("/dubbo/a.A/configurators", None),
        (
            "/dubbo/a.A/routers",
            Some("condition://0.0.0.0/a.A?category=routers&rule=method%3Df"),
        ),
    ] {
        mkdirs(&mut app, place).await;
        if let Some(rule) = rule {
            app.create(&format!("{place}/{}", child(rule)), Persistent)
                .await
                .unwrap();
        }
        app.children(place, true).await.unwrap();
    }
    script.leave(true);
    assert_eq!(app.event().await, (EventKind::NodeChildrenChanged, RULES.to_owned()));
    assert_eq!(app.children(RULES, true).await.unwrap(), [rule]);
}

#[tokio::test]
async fn a_transaction_of_the_application_is_decided_like_any_create() {
    let (server, script, door) = world();
    script.leave(true);
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    let ops = [Op::Create(create_record(&own(), Ephemeral))];
    app.ask(Request::Multi(Ops::from_iter(ops))).await.unwrap();
    let mut direct = Client::new(&server).await;
    assert_eq!(direct.children(DIR, false).await.unwrap(), [own_name()]);
    script.leave(false);
    eventually("it is taken over", async || {
        let names = direct.children(DIR, false).await.unwrap();
        names[0].contains("20881").then_some(())
    })
    .await;
    let ops = [Op::Delete {
        path: Text::from(own().as_str()),
        version: -1,
    }];
    app.ask(Request::Multi(Ops::from_iter(ops))).await.unwrap();
    assert!(direct.children(DIR, false).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_read_that_is_under_way_when_the_list_changes_hands_misses_nothing() {
    let (server, script, door) = world();
    let mut direct = Client::new(&server).await;
    mkdirs(&mut direct, DIR).await;
    direct.create(&own(), Ephemeral).await.unwrap();
    script.show(&service("a.B"), vec![dubbo_url::parse_child(&own_name()).unwrap()], &[]);
    let mut app = door.client().await;
    let mut late = 0;
    for turn in 0..60 {
        script.leave(true);
        eventually("the list is the registry's", async || {
            let shown = app.children(DIR, false).await.unwrap();
            (shown == [own_name()]).then_some(())
        })
        .await;
        app.told().await;
        // The list changes hands at any moment between this read and its reply.
        let read = Request::GetChildren {
            path: Text::from(DIR),
            watch: true,
        };
        app.send(&read).await;
        for _ in 0..turn % 12 {
            tokio::task::yield_now().await;
        }
        script.leave(false);
        let (_, body) = app.reply().await.unwrap();
        if body.windows(EGRESS.0.len()).any(|part| part == EGRESS.0.as_bytes()) {
            continue;
        }
        late += 1;
        // What came before the reply met no watch of the client.
        app.events.clear();
        let heard = eventually("the reader hears of it", async || {
            app.told().await.into_iter().find(|(_, path)| path == DIR)
        });
        assert_eq!(heard.await.0, EventKind::NodeChildrenChanged);
    }
    assert!(late > 0, "no read met the change: this shows nothing");
}
