// SPDX-License-Identifier: Apache-2.0
//! The front door: lists that an application is shown.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use remora_zookeeper::facade::Config;
use remora_zookeeper::wire::EventKind::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
use remora_zookeeper::wire::{CreateMode, ErrorCode, Op, OpResult, Ops, Reply, Request, Stat, watcher_kind};
use support::Client;
use support::door::{Door, Script, child, instance, mkdirs, provider, service, world};

use CreateMode::{Ephemeral, Persistent};

const DIR: &str = "/dubbo/a.B/providers";
const ONE: &str = "dubbo://10.0.0.1:20880/a.B";
const TWO: &str = "dubbo://10.0.0.2:20880/a.B";
const OTHER: &str = "dubbo://10.0.0.3:20880/v2.B";

fn shown(path: &str) -> String {
    child(&format!("dubbo://2130706433:20882/{path}?interface={path}"))
}

fn at(name: &str) -> String {
    format!("{DIR}/{name}")
}

async fn children2(client: &mut Client, path: &str, watch: bool) -> (Vec<String>, Stat) {
    let path = path.into();
    match client.ask(Request::GetChildren2 { path, watch }).await.unwrap() {
        Reply::Children2 { children, stat } => (children.iter().map(|c| c.to_string()).collect(), stat),
        other => panic!("{other:?}"),
    }
}

/// A client that reads `DIR`, below which `ONE` and `TWO` are known.
async fn follower() -> (remora_zookeeper::embedded::Server, std::sync::Arc<Script>, Door, Client) {
    let (server, script, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    script.providers(&service("a.B"), &[ONE, TWO]);
    (server, script, door, app)
}

#[tokio::test]
async fn the_first_read_waits_for_the_list_and_what_is_behind_it_waits_too() {
    let (_, script, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    let first = app
        .send(&Request::GetChildren {
            path: DIR.into(),
            watch: false,
        })
        .await;
    let second = app
        .send(&Request::Exists {
            path: "/dubbo".into(),
            watch: false,
        })
        .await;
    script.hears("follow service /dubbo/a.B").await;
    script.providers(&service("a.B"), &[ONE, TWO]);
    let (head, body) = app.reply().await.unwrap();
    assert_eq!(head.xid, first);
    let Reply::Children(children) = Reply::decode(remora_zookeeper::wire::OpCode::GetChildren, body).unwrap() else {
        panic!("no list")
    };
    let children: Vec<String> = children.iter().map(|c| c.to_string()).collect();
    assert_eq!(children, [shown("a.B")]);
    assert_eq!(app.reply().await.unwrap().0.xid, second);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_comes_late_is_shown_as_it_stands_and_then_changed() {
    let server = remora_zookeeper::embedded::Server::in_memory(Default::default());
    let script = std::sync::Arc::new(Script::default());
    let config = Config {
        first_list_wait: Duration::from_millis(10),
        ..Config::default()
    };
    let backend = std::sync::Arc::new(remora_zookeeper::backend::Embedded::new(server.clone()));
    let door = Door::open_with(backend, &script, config);
    let mut direct = Client::new(&server).await;
    mkdirs(&mut direct, DIR).await;
    direct.create(&at(&child(ONE)), Ephemeral).await.unwrap();
    let mut app = door.client().await;
    assert_eq!(app.children(DIR, true).await.unwrap(), [child(ONE)]);
    script.providers(&service("a.B"), &[ONE]);
    assert_eq!(app.event().await, (NodeChildrenChanged, DIR.to_owned()));
    assert_eq!(app.children(DIR, true).await.unwrap(), [shown("a.B")]);
}

#[tokio::test]
async fn a_list_and_its_figures_agree() {
    let (_, script, _door, mut app) = follower().await;
    let (children, first) = children2(&mut app, DIR, true).await;
    assert_eq!(children, [shown("a.B")]);
    assert_eq!(first.num_children, 1);
    assert_eq!(app.exists(DIR, false).await.unwrap(), first);
    assert_eq!(app.get(DIR, false).await.unwrap().1, first);

    script.show(
        &service("a.B"),
        vec![provider(ONE), provider(OTHER)],
        &["lock-0000000001"],
    );
    assert_eq!(app.event().await, (NodeChildrenChanged, DIR.to_owned()));
    let (mut children, stat) = children2(&mut app, DIR, true).await;
    children.sort();
    let mut all = [shown("a.B"), shown("v2.B"), "lock-0000000001".to_owned()];
    all.sort();
    assert_eq!(children, all);
    assert_eq!(stat.num_children, 3);
    assert_eq!(stat.cversion, first.cversion + 2);
    assert!(stat.pzxid >= first.pzxid);
    let number = app.ask(Request::GetAllChildrenNumber { path: DIR.into() }).await;
    assert_eq!(number, Ok(Reply::Number(3)));
}

#[tokio::test]
async fn a_watch_fires_when_the_shown_list_changes_and_only_then() {
    let (_, script, _door, mut app) = follower().await;
    app.children(DIR, true).await.unwrap();
    // Providers come and go, the entry shown for them stays.
    script.providers(&service("a.B"), &[ONE]);
    script.providers(&service("a.B"), &[TWO, ONE]);
    script.providers(&service("a.B"), &[TWO, OTHER]);
    assert_eq!(app.event().await, (NodeChildrenChanged, DIR.to_owned()));
    // It fired once and is used up.
    script.providers(&service("a.B"), &[]);
    support::eventually("an empty list", async || {
        app.children(DIR, false).await.unwrap().is_empty().then_some(())
    })
    .await;
    assert!(app.events.is_empty(), "{:?}", app.events);
}

#[tokio::test]
async fn an_event_comes_before_the_reply_that_shows_the_change() {
    let (_, script, _door, mut app) = follower().await;
    for round in 0..50 {
        let before = app.children(DIR, true).await.unwrap();
        script.providers(&service("a.B"), if round % 2 == 0 { &[OTHER] } else { &[ONE] });
        loop {
            let now = app.children(DIR, false).await.unwrap();
            // `events` holds what came before the reply.
            assert_eq!(now != before, !app.events.is_empty(), "round {round}");
            if now != before {
                break;
            }
        }
        app.events.clear();
    }
}

#[tokio::test]
async fn entries_shown_exist() {
    let (_, script, _door, mut app) = follower().await;
    app.children(DIR, false).await.unwrap();
    let entry = at(&shown("a.B"));
    let stat = app.exists(&entry, true).await.unwrap();
    assert_eq!((stat.version, stat.num_children, stat.ephemeral_owner), (0, 0, 0));
    assert_eq!(app.get(&entry, false).await.unwrap(), (Some(Bytes::new()), stat));
    assert_eq!(app.children(&entry, false).await.unwrap(), [""; 0]);
    let absent = at(&shown("v2.B"));
    assert_eq!(app.exists(&absent, true).await, Err(ErrorCode::NO_NODE));
    script.providers(&service("a.B"), &[OTHER]);
    let mut events = [app.event().await, app.event().await];
    events.sort_by_key(|(_, path)| path.clone());
    assert_eq!(events, [(NodeDeleted, entry), (NodeCreated, absent)]);
}

#[tokio::test]
async fn a_list_that_is_not_there_is_not_there() {
    let (_, script, door) = world();
    script.providers(&service("a.B"), &[]);
    let mut app = door.client().await;
    assert_eq!(app.children(DIR, true).await, Err(ErrorCode::NO_NODE));
    assert_eq!(app.exists(DIR, true).await, Err(ErrorCode::NO_NODE));
    mkdirs(&mut app, DIR).await;
    assert_eq!(app.event().await, (NodeCreated, DIR.to_owned()));
    assert_eq!(app.children(DIR, true).await.unwrap(), [""; 0]);
    app.delete(DIR).await.unwrap();
    assert_eq!(app.event().await, (NodeDeleted, DIR.to_owned()));
}

#[tokio::test]
async fn real_changes_of_a_directory_are_not_told() {
    let (server, script, _door, mut app) = follower().await;
    app.children(DIR, true).await.unwrap();
    app.exists(DIR, true).await.unwrap();
    app.watch(DIR, 0).await;
    let mut direct = Client::new(&server).await;
    direct.create(&at(&child(ONE)), Ephemeral).await.unwrap();
    direct.set(DIR, b"x").await.unwrap();
    assert_eq!(app.event().await, (NodeDataChanged, DIR.to_owned()));
    direct.delete(&at(&child(ONE))).await.unwrap();
    script.providers(&service("a.B"), &[OTHER]);
    assert_eq!(app.event().await, (NodeChildrenChanged, DIR.to_owned()));
    // Persistent: it fires again, the one-shot one does not.
    script.providers(&service("a.B"), &[]);
    assert_eq!(app.event().await, (NodeChildrenChanged, DIR.to_owned()));
    assert!(app.told().await.is_empty());
}

#[tokio::test]
async fn a_watch_on_everything_below_tells_of_what_is_shown() {
    let (server, script, _door, mut app) = follower().await;
    app.watch(DIR, 1).await;
    app.children(DIR, false).await.unwrap();
    let mut direct = Client::new(&server).await;
    // A provider that is not shown by its own name, and a child that is nobody's.
    direct.create(&at(&child(ONE)), Ephemeral).await.unwrap();
    direct.create(&at("lock"), Persistent).await.unwrap();
    script.show(&service("a.B"), vec![provider(OTHER)], &["lock"]);
    let mut events = [app.event().await, app.event().await, app.event().await];
    events.sort_by_key(|(_, path)| path.clone());
    let mut expected = [
        (NodeDeleted, at(&shown("a.B"))),
        (NodeCreated, at(&shown("v2.B"))),
        (NodeCreated, at("lock")),
    ];
    expected.sort_by_key(|(_, path)| path.clone());
    assert_eq!(events, expected);
    direct.set(&at("lock"), b"1").await.unwrap();
    assert_eq!(app.event().await, (NodeDataChanged, at("lock")));
    direct.create(&at("lock/below"), Persistent).await.unwrap();
    assert_eq!(app.event().await, (NodeCreated, at("lock/below")));
}

#[tokio::test]
async fn a_list_without_anything_of_discoverys_is_relayed_with_its_watches() {
    let (server, script, door) = world();
    script.show(&support::door::app("batch"), Vec::new(), &["node-1"]);
    let mut direct = Client::new(&server).await;
    mkdirs(&mut direct, "/services/batch/node-1").await;
    let mut app = door.client().await;
    assert_eq!(app.children("/services/batch", true).await.unwrap(), ["node-1"]);
    app.watch("/services/batch", 1).await;
    direct.create("/services/batch/node-2", Ephemeral).await.unwrap();
    let mut events = [app.event().await, app.event().await];
    events.sort_by_key(|(_, path)| path.clone());
    assert_eq!(
        events,
        [
            (NodeChildrenChanged, "/services/batch".to_owned()),
            (NodeCreated, "/services/batch/node-2".to_owned()),
        ]
    );
    let mut children = app.children("/services/batch", true).await.unwrap();
    children.sort();
    assert_eq!(children, ["node-1", "node-2"]);
    // Dubbo comes to the same place.
    let entry = instance("batch", "10.0.0.5", &[20880], "r1");
    script.show(&support::door::app("batch"), vec![entry], &["node-1", "node-2"]);
    let entry = "/services/batch/2130706433:20882-r1".to_owned();
    // The other node may be told of twice, by the registry and by the list.
    while app.event().await != (NodeCreated, entry.clone()) {}
    while app.event().await != (NodeChildrenChanged, "/services/batch".to_owned()) {}
    assert_eq!(app.children("/services/batch", true).await.unwrap().len(), 3);
}

#[tokio::test]
async fn an_applications_instances_are_shown_at_the_egress_with_their_documents() {
    let (_, script, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, "/services/shop").await;
    let instances = |revision: &str| {
        let hosts = ["10.0.0.5", "10.0.0.6"];
        let all = hosts.iter().map(|host| instance("shop", host, &[20881], revision));
        script.show(&support::door::app("shop"), all.collect(), &[]);
    };
    instances("r1");
    app.watch("/services/shop", 1).await;
    assert_eq!(
        app.children("/services/shop", false).await.unwrap(),
        ["2130706433:20882-r1"]
    );
    let entry = "/services/shop/2130706433:20882-r1";
    let (data, stat) = app.get(entry, false).await.unwrap();
    let text = String::from_utf8(data.unwrap().to_vec()).unwrap();
    assert_eq!(stat.data_length as usize, text.len());
    assert!(text.contains(r#""address":"2130706433","port":20882"#), "{text}");
    assert!(text.contains(r#"\"port\":20882"#) && !text.contains("20881"), "{text}");
    instances("r2");
    let mut events = [app.event().await, app.event().await];
    events.sort_by_key(|(_, path)| path.clone());
    let next = "/services/shop/2130706433:20882-r2".to_owned();
    assert_eq!(events, [(NodeDeleted, entry.to_owned()), (NodeCreated, next)]);
}

#[tokio::test]
async fn watches_can_be_checked_and_removed() {
    let (_, script, _door, mut app) = follower().await;
    let check = |kind| Request::CheckWatches { path: DIR.into(), kind };
    let remove = |kind| Request::RemoveWatches { path: DIR.into(), kind };
    app.children(DIR, false).await.unwrap();
    assert_eq!(app.ask(check(watcher_kind::ANY)).await, Err(ErrorCode::NO_WATCHER));
    app.children(DIR, true).await.unwrap();
    assert_eq!(app.ask(check(watcher_kind::DATA)).await, Err(ErrorCode::NO_WATCHER));
    assert!(app.ask(check(watcher_kind::CHILDREN)).await.is_ok());
    assert!(app.ask(remove(watcher_kind::CHILDREN)).await.is_ok());
    assert_eq!(
        app.ask(remove(watcher_kind::CHILDREN)).await,
        Err(ErrorCode::NO_WATCHER)
    );
    for (mode, kind) in [(0, watcher_kind::PERSISTENT), (1, watcher_kind::PERSISTENT_RECURSIVE)] {
        app.watch(DIR, mode).await;
        assert!(app.ask(check(kind)).await.is_ok());
        assert!(app.ask(remove(kind)).await.is_ok());
        assert_eq!(app.ask(check(kind)).await, Err(ErrorCode::NO_WATCHER));
    }
    script.providers(&service("a.B"), &[OTHER]);
    support::eventually("the change", async || {
        (app.children(DIR, false).await.unwrap() == [shown("v2.B")]).then_some(())
    })
    .await;
    assert!(app.events.is_empty(), "{:?}", app.events);
    let config = Request::CheckWatches {
        path: "/zookeeper/config".into(),
        kind: watcher_kind::ANY,
    };
    assert_eq!(app.ask(config.clone()).await, Err(ErrorCode::NO_WATCHER));
    app.get("/zookeeper/config", true).await.unwrap();
    assert!(app.ask(config).await.is_ok());
}

#[tokio::test]
async fn many_reads_at_once_see_what_each_would_have_seen() {
    let (_, script, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    app.create("/plain", Persistent).await.unwrap();
    let entry = at(&shown("a.B"));
    let get = |path: &str| Op::GetData {
        path: path.into(),
        watch: false,
    };
    let list = Op::GetChildren {
        path: DIR.into(),
        watch: true,
    };
    let ops = [
        list,
        get(&entry),
        get("/plain"),
        get(DIR),
        get("/zookeeper/config"),
        get("/absent"),
    ];
    let number = app.send(&Request::MultiRead(Ops::from_iter(ops))).await;
    script.hears("follow service /dubbo/a.B").await;
    script.providers(&service("a.B"), &[ONE]);
    let (head, body) = app.reply().await.unwrap();
    assert_eq!((head.xid, head.err), (number, ErrorCode::OK));
    let Reply::Results(results) = Reply::decode(remora_zookeeper::wire::OpCode::MultiRead, body).unwrap() else {
        panic!("no results")
    };
    let results: Vec<OpResult> = results.iter().collect();
    let OpResult::GetChildren { children } = &results[0] else {
        panic!("{results:?}")
    };
    assert_eq!(
        children.iter().map(|c| c.to_string()).collect::<Vec<_>>(),
        [shown("a.B")]
    );
    let data: Vec<Option<Bytes>> = results[1..5]
        .iter()
        .map(|result| match result {
            OpResult::GetData { data, .. } => data.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let some = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    assert_eq!(data, [some(""), some("data"), some("data"), some("")]);
    assert_eq!(results[5], OpResult::Error(ErrorCode::NO_NODE));
}

#[tokio::test]
async fn a_go_client_is_shown_an_address_that_it_can_dial() {
    let (_, script, door) = world();
    script.providers(&service("a.B"), &[ONE]);
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    mkdirs(&mut app, "/dubbo/a.B/consumers").await;
    app.children(DIR, true).await.unwrap();
    let consumer = child("consumer://10.0.0.7/a.B?application=shop&release=dubbo-golang-3.1.1");
    let consumer = format!("/dubbo/a.B/consumers/{consumer}");
    app.create(&consumer, Ephemeral).await.unwrap();
    assert_eq!(app.event().await, (NodeChildrenChanged, DIR.to_owned()));
    let plain = child("dubbo://127.0.0.1:20882/a.B?interface=a.B");
    assert_eq!(app.children(DIR, true).await.unwrap(), [plain]);
    script.hears("name shop").await;
}

#[tokio::test]
async fn an_application_that_asks_for_the_root_of_all_services_sees_them_as_they_are() {
    let (server, script, door) = world();
    let mut direct = Client::new(&server).await;
    mkdirs(&mut direct, DIR).await;
    mkdirs(&mut direct, "/services/shop").await;
    direct.create(&at(&child(ONE)), Ephemeral).await.unwrap();
    script.providers(&service("a.B"), &[ONE]);
    let mut tool = door.client().await;
    // Dubbo 3 asks for the root of applications to see whether the registry is there.
    tool.children("/services", false).await.unwrap();
    assert_eq!(tool.children(DIR, true).await.unwrap(), [shown("a.B")]);
    assert_eq!(tool.children("/dubbo", true).await.unwrap(), ["a.B"]);
    assert_eq!(tool.told().await, [(NodeChildrenChanged, DIR.to_owned())]);
    assert_eq!(tool.children(DIR, true).await.unwrap(), [child(ONE)]);
    direct.create(&at(&child(TWO)), Ephemeral).await.unwrap();
    assert_eq!(tool.event().await, (NodeChildrenChanged, DIR.to_owned()));
    let mut app = door.client().await;
    assert_eq!(app.children(DIR, true).await.unwrap(), [shown("a.B")]);
}
