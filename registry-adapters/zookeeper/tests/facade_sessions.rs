// SPDX-License-Identifier: Apache-2.0
//! The front door: sessions that come, go, come back, and meet another Remora or another registry.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use remora_zookeeper::backend::Embedded;
use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::wire::EventKind::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
use remora_zookeeper::wire::request::{Create, SetWatches};
use remora_zookeeper::wire::{CreateMode, ErrorCode, Reply, Request, Seq, split_frame};
use support::door::{Door, Script, Switch, child, document, mkdirs, service, world};
use support::{Client, acl, create_record, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use CreateMode::{Ephemeral, Persistent};

const DIR: &str = "/dubbo/a.B/providers";
const URL: &str = "dubbo://10.0.0.5:20880/a.B?application=shop";

fn own() -> String {
    format!("{DIR}/{}", child(URL))
}

fn outward(port: u16) -> String {
    let url = format!("dubbo://10.0.0.5:{port}/a.B?application=shop&remora.app.port=20880");
    format!("{DIR}/{}", child(&url))
}

fn shown(path: &str) -> String {
    child(&format!("dubbo://2130706433:20882/{path}?interface={path}"))
}

fn watches(zxid: i64) -> SetWatches {
    SetWatches {
        relative_zxid: zxid,
        data: Seq::empty(),
        exist: Seq::empty(),
        child: Seq::empty(),
        persistent: Seq::empty(),
        persistent_recursive: Seq::empty(),
    }
}

fn names(paths: &[&str]) -> Seq<remora_zookeeper::wire::Text> {
    Seq::of_strs(paths.iter().copied())
}

/// The next Remora over the same registry.
fn again(server: &Server) -> (Arc<Script>, Door) {
    let script = Arc::new(Script::default());
    let door = Door::open(Arc::new(Embedded::new(server.clone())), &script);
    (script, door)
}

#[tokio::test]
async fn the_greeting_is_answered_in_the_form_it_came() {
    let (_, _, door) = world();
    let head = [
        0u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x75, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16,
    ];
    for (tail, answer) in [(&[][..], 36), (&[0][..], 37)] {
        let mut io = door.socket().await;
        let mut out = Vec::new();
        out.extend_from_slice(&(44 + tail.len() as u32).to_be_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(tail);
        // A ping right behind it.
        out.extend_from_slice(&[0, 0, 0, 8, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 11]);
        io.write_all(&out).await.unwrap();
        let mut input = BytesMut::new();
        let mut frames = Vec::new();
        while frames.len() < 2 {
            match split_frame(&mut input, 4096).unwrap() {
                Some(frame) => frames.push(frame),
                None => assert!(io.read_buf(&mut input).await.unwrap() > 0),
            }
        }
        assert_eq!(frames[0].len(), answer);
        assert_eq!((frames[1].len(), &frames[1][..4]), (16, &[0xff, 0xff, 0xff, 0xfe][..]));
    }
}

#[tokio::test]
async fn a_session_that_the_registry_does_not_know_has_expired() {
    let (_, script, door) = world();
    let mut one = door.client().await;
    one.create("/mine", Ephemeral).await.unwrap();
    let mut stranger = door.client().await;
    stranger.session ^= 0x55;
    assert!(door.resume(&stranger).await.is_none());
    let mut thief = door.client().await;
    thief.session = one.session;
    thief.password = Bytes::from_static(&[7; 16]);
    assert!(door.resume(&thief).await.is_none());
    // An expired one takes its lease along.
    one.close().await;
    script.hears("close 0").await;
}

#[tokio::test]
async fn what_was_asked_before_the_application_closed_is_done() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    let provider = create_record(&own(), Persistent);
    app.send(&Request::Create(provider)).await;
    app.send(&Request::CloseSession).await;
    drop(app);
    script.hears("close 0").await;
    let mut direct = Client::new(&server).await;
    assert!(direct.exists(&outward(20881), false).await.is_ok());
}

#[tokio::test]
async fn a_refused_identity_is_told_so_before_the_registry_closes() {
    let (_, _, door) = world();
    let mut app = door.client().await;
    let auth = remora_zookeeper::wire::request::Auth {
        kind: 0,
        scheme: "unheard-of".into(),
        auth: None,
    };
    assert_eq!(app.ask(Request::Auth(auth)).await, Err(ErrorCode::AUTH_FAILED));
    assert!(app.frame().await.is_none());
}

#[tokio::test]
async fn a_newer_connection_of_a_session_takes_over() {
    let (_, script, door) = world();
    let mut first = door.client().await;
    mkdirs(&mut first, DIR).await;
    first.create(&own(), Ephemeral).await.unwrap();
    let mut second = door.resume(&first).await.unwrap();
    assert_eq!((second.session, &second.password), (first.session, &first.password));
    assert!(first.frame().await.is_none(), "the older one is closed");
    assert!(second.exists(&own(), false).await.is_ok());
    second.delete(&own()).await.unwrap();
    assert!(!script.log().iter().any(|said| said.starts_with("close")));
    assert_eq!(door.stats.sessions.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_lease_ends_when_its_session_does_not_come_back_in_time() {
    let options = Options {
        min_session_timeout: std::time::Duration::from_millis(100),
        ..Options::default()
    };
    let server = Server::in_memory(options);
    let (script, door) = again(&server);
    let mut app = Client::open_with(door.socket().await, None, 100).await.unwrap();
    assert_eq!(app.timeout_ms, 100);
    mkdirs(&mut app, DIR).await;
    app.create(&own(), Ephemeral).await.unwrap();
    drop(app);
    script.hears("close 0").await;
    let mut direct = Client::new(&server).await;
    eventually("the end of its nodes", async || {
        direct.children(DIR, false).await.unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn after_a_short_loss_watches_are_compared_with_what_was_shown() {
    let (_, script, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    mkdirs(&mut app, "/dubbo/c.D/providers").await;
    script.providers(&service("a.B"), &["dubbo://10.0.0.1:1/a.B"]);
    script.providers(&service("c.D"), &["dubbo://10.0.0.1:1/c.D"]);
    app.children(DIR, true).await.unwrap();
    app.children("/dubbo/c.D/providers", true).await.unwrap();
    let mut app = door.resume(&app).await.unwrap();
    script.providers(&service("c.D"), &[]);
    let set = SetWatches {
        child: names(&[DIR, "/dubbo/c.D/providers"]),
        exist: names(&["/soon"]),
        ..watches(app.zxid)
    };
    app.ask(Request::SetWatches(set)).await.unwrap();
    // Its list changed while nobody watched it, or changes now.
    assert_eq!(
        app.event().await,
        (NodeChildrenChanged, "/dubbo/c.D/providers".to_owned())
    );
    script.providers(&service("a.B"), &[]);
    assert_eq!(app.event().await, (NodeChildrenChanged, DIR.to_owned()));
    app.create("/soon", Persistent).await.unwrap();
    assert_eq!(app.told().await, [(NodeCreated, "/soon".to_owned())]);
}

#[tokio::test]
async fn persistent_watches_are_set_again() {
    let (_, script, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    script.providers(&service("a.B"), &[]);
    app.watch(DIR, 1).await;
    let mut app = door.resume(&app).await.unwrap();
    let set = SetWatches {
        persistent_recursive: names(&[DIR]),
        ..watches(app.zxid)
    };
    app.ask(Request::SetWatches2(set)).await.unwrap();
    script.providers(&service("a.B"), &["dubbo://10.0.0.1:1/a.B"]);
    assert_eq!(app.event().await, (NodeCreated, format!("{DIR}/{}", shown("a.B"))));
}

#[tokio::test]
async fn a_restarted_remora_finds_what_a_session_published() {
    let (server, _, door) = world();
    let mut shop = door.client().await;
    mkdirs(&mut shop, DIR).await;
    mkdirs(&mut shop, "/services/shop").await;
    shop.create(&own(), Ephemeral).await.unwrap();
    let instance = "/services/shop/10.0.0.5:20880";
    let record = Create {
        data: Some(Bytes::from(document("shop", "10.0.0.5", &[20880], "r1"))),
        ..create_record(instance, Ephemeral)
    };
    shop.ask(Request::Create(record)).await.unwrap();
    door.drain().await;
    assert!(shop.frame().await.is_none());

    let (script, door) = again(&server);
    let mut shop = door.resume(&shop).await.unwrap();
    let set = SetWatches {
        data: names(&[&own()]),
        ..watches(shop.zxid)
    };
    shop.ask(Request::SetWatches(set)).await.unwrap();
    // Before anything was asked of it, its ingress is known again.
    assert!(script.log().contains(&"publish 20880".to_owned()), "{:?}", script.log());
    assert!(script.log().contains(&"name shop".to_owned()));
    assert_eq!(shop.create(&own(), Ephemeral).await, Err(ErrorCode::NODE_EXISTS));
    assert!(shop.exists(instance, false).await.is_ok());
    shop.set(&own(), b"x").await.unwrap();
    assert_eq!(shop.told().await, [(NodeDataChanged, own())]);
    shop.delete(&own()).await.unwrap();
    shop.delete(instance).await.unwrap();
    let mut direct = Client::new(&server).await;
    for dir in [DIR, "/services/shop"] {
        assert_eq!(direct.children(dir, false).await.unwrap(), [""; 0]);
    }
}

#[tokio::test]
async fn a_restarted_remora_learns_the_ingress_of_a_session_that_only_pings() {
    let (server, _, door) = world();
    let mut shop = door.client().await;
    mkdirs(&mut shop, DIR).await;
    shop.create(&own(), Ephemeral).await.unwrap();
    door.drain().await;
    let (script, door) = again(&server);
    let mut shop = door.resume(&shop).await.unwrap();
    shop.told().await;
    script.hears("publish 20880").await;
}

#[tokio::test]
async fn nodes_that_only_an_identity_may_read_are_found_once_it_is_given() {
    let (server, _, door) = world();
    let mut shop = door.client().await;
    shop.auth("shop:secret").await.unwrap();
    mkdirs(&mut shop, "/services/shop").await;
    let instance = "/services/shop/10.0.0.5:20880";
    let record = Create {
        data: Some(Bytes::from(document("shop", "10.0.0.5", &[20880], "r1"))),
        acl: acl("auth", "", 31),
        ..create_record(instance, Ephemeral)
    };
    shop.ask(Request::Create(record)).await.unwrap();
    door.drain().await;
    let (script, door) = again(&server);
    let mut shop = door.resume(&shop).await.unwrap();
    shop.auth("shop:secret").await.unwrap();
    assert!(shop.exists(instance, false).await.is_ok());
    assert!(script.log().contains(&"publish 20880".to_owned()));
}

#[tokio::test]
async fn a_node_moves_to_the_ingress_that_its_application_has_now() {
    let (server, _, door) = world();
    let mut shop = door.client().await;
    shop.auth("shop:secret").await.unwrap();
    mkdirs(&mut shop, DIR).await;
    mkdirs(&mut shop, "/services/shop").await;
    shop.create(&own(), Ephemeral).await.unwrap();
    let instance = "/services/shop/10.0.0.5:20880";
    let record = Create {
        data: Some(Bytes::from(document("shop", "10.0.0.5", &[20880], "r1"))),
        acl: acl("auth", "", 31),
        ..create_record(instance, Ephemeral)
    };
    shop.ask(Request::Create(record)).await.unwrap();
    door.drain().await;

    let script = Arc::new(Script::default());
    script.moved_by.store(100, Ordering::Relaxed);
    let door = Door::open(Arc::new(Embedded::new(server.clone())), &script);
    let mut shop = door.resume(&shop).await.unwrap();
    shop.auth("shop:secret").await.unwrap();
    assert_eq!(shop.exists(&own(), false).await.unwrap().ephemeral_owner, shop.session);
    let mut direct = Client::new(&server).await;
    direct.auth("shop:secret").await.unwrap();
    let there = outward(20981);
    assert_eq!(
        direct.children(DIR, false).await.unwrap(),
        [there.rsplit('/').next().unwrap()]
    );
    assert_eq!(direct.get(&there, false).await.unwrap().0.unwrap(), "data");
    assert_eq!(
        direct.children("/services/shop", false).await.unwrap(),
        ["10.0.0.5:20981"]
    );
    let data = direct
        .get("/services/shop/10.0.0.5:20981", false)
        .await
        .unwrap()
        .0
        .unwrap();
    assert!(String::from_utf8_lossy(&data).contains(r#"\"port\":20981"#));
    shop.delete(&own()).await.unwrap();
    shop.delete(instance).await.unwrap();
    assert_eq!(direct.children(DIR, false).await.unwrap(), [""; 0]);
    assert_eq!(direct.children("/services/shop", false).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn what_an_earlier_remora_showed_is_still_there() {
    let (server, script, door) = world();
    let mut shop = door.client().await;
    mkdirs(&mut shop, DIR).await;
    script.providers(&service("a.B"), &["dubbo://10.0.0.1:1/a.B"]);
    shop.children(DIR, true).await.unwrap();
    let entry = format!("{DIR}/{}", shown("a.B"));
    assert!(shop.get(&entry, true).await.is_ok());
    door.drain().await;

    let (script, door) = again(&server);
    let mut shop = door.resume(&shop).await.unwrap();
    let set = SetWatches {
        child: names(&[DIR]),
        data: names(&[&entry]),
        ..watches(shop.zxid)
    };
    shop.ask(Request::SetWatches(set)).await.unwrap();
    // What was shown is not known, so the client is told to look.
    assert_eq!(
        shop.told().await,
        [(NodeDataChanged, entry.clone()), (NodeChildrenChanged, DIR.to_owned()),]
    );
    let exists = shop
        .send(&Request::Exists {
            path: entry.as_str().into(),
            watch: true,
        })
        .await;
    script.hears("follow service /dubbo/a.B").await;
    script.providers(&service("a.B"), &["dubbo://10.0.0.1:1/a.B"]);
    let (head, _) = shop.reply().await.unwrap();
    assert_eq!((head.xid, head.err), (exists, ErrorCode::OK));
    assert_eq!(shop.children(DIR, true).await.unwrap(), [shown("a.B")]);
    script.providers(&service("a.B"), &[]);
    assert_eq!(shop.event().await, (NodeDeleted, entry));
}

#[tokio::test]
async fn a_lost_registry_closes_the_connection_and_the_session_goes_on() {
    let server = Server::in_memory(Options::default());
    let switch = Switch::new(&server, "");
    let script = Arc::new(Script::default());
    let door = Door::open(Arc::<Switch>::clone(&switch), &script);
    let mut shop = door.client().await;
    mkdirs(&mut shop, DIR).await;
    shop.create(&own(), Ephemeral).await.unwrap();
    switch.away(true);
    assert!(shop.frame().await.is_none(), "as a lost server looks");
    assert!(door.resume(&shop).await.is_none(), "closed without an answer");
    switch.away(false);
    let mut shop = door.resume(&shop).await.unwrap();
    assert!(shop.exists(&own(), false).await.is_ok());
    assert!(!script.log().iter().any(|said| said.starts_with("close")));
    assert!(door.stats.upstream_failures.load(Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn a_registry_that_came_back_emptied_ends_the_session_and_takes_new_ones() {
    let full = Server::in_memory(Options::default());
    let switch = Switch::new(&full, "");
    let script = Arc::new(Script::default());
    let door = Door::open(Arc::<Switch>::clone(&switch), &script);
    let mut shop = door.client().await;
    mkdirs(&mut shop, DIR).await;
    for _ in 0..100 {
        shop.set("/dubbo", b"x").await.unwrap();
    }
    switch.turn(&Server::in_memory(Options::default()));
    assert!(shop.frame().await.is_none());
    // Refused without an answer it would try for ever; told that it expired it starts anew.
    assert!(door.resume(&shop).await.is_none());
    script.hears("close 0").await;
    let mut anew = door.client().await;
    assert_eq!(anew.exists("/dubbo", false).await, Err(ErrorCode::NO_NODE));
    // A client that keeps its last zxid for a new session is not refused either, and sees none lower.
    shop.session = 0;
    shop.password = Bytes::from_static(&[0; 16]);
    let before = shop.zxid;
    let mut stubborn = door.resume(&shop).await.unwrap();
    mkdirs(&mut stubborn, DIR).await;
    assert!(stubborn.zxid >= before);
    let ping = stubborn.ask(Request::Ping).await;
    assert_eq!(ping, Ok(Reply::Empty));
}

#[tokio::test]
async fn watches_of_another_count_of_zxids_fire() {
    let full = Server::in_memory(Options::default());
    let switch = Switch::new(&full, "");
    let script = Arc::new(Script::default());
    let door = Door::open(Arc::<Switch>::clone(&switch), &script);
    let mut shop = door.client().await;
    for _ in 0..100 {
        let _ = shop.create("/x", Persistent).await;
        shop.delete("/x").await.unwrap();
    }
    let new = Server::in_memory(Options::default());
    let mut direct = Client::new(&new).await;
    direct.create("/x", Persistent).await.unwrap();
    switch.turn(&new);
    assert!(shop.frame().await.is_none());
    let seen = shop.zxid;
    shop.session = 0;
    shop.password = Bytes::from_static(&[0; 16]);
    let mut shop = door.resume(&shop).await.unwrap();
    let set = SetWatches {
        data: names(&["/x"]),
        ..watches(seen)
    };
    shop.ask(Request::SetWatches(set)).await.unwrap();
    assert_eq!(shop.told().await, [(NodeDataChanged, "/x".to_owned())]);
}

#[tokio::test]
async fn a_node_of_a_former_session_goes_to_the_one_that_asks_for_it() {
    let (server, _, door) = world();
    let mut former = door.client().await;
    mkdirs(&mut former, DIR).await;
    former.create(&own(), Ephemeral).await.unwrap();
    let mut app = door.client().await;
    assert_eq!(
        app.create(&own(), Ephemeral).await,
        Err(ErrorCode::NODE_EXISTS),
        "its owner is connected"
    );
    let former_session = former.session;
    drop(former);
    let request = Request::Create(Create {
        op: remora_zookeeper::wire::OpCode::Create2,
        ..create_record(&own(), Ephemeral)
    });
    let stat = eventually("the node", async || match app.ask(request.clone()).await {
        Ok(Reply::Created2 { path, stat }) if *path == *own() => Some(stat),
        _ => None,
    })
    .await;
    assert_eq!(stat.ephemeral_owner, app.session);
    assert_ne!(app.session, former_session);
    assert_eq!(
        app.create(&own(), Ephemeral).await,
        Err(ErrorCode::NODE_EXISTS),
        "its own"
    );
    app.delete(&own()).await.unwrap();
    let mut direct = Client::new(&server).await;
    let lasting = outward(20881);
    direct.create(&lasting, Persistent).await.unwrap();
    assert_eq!(
        app.create(&own(), Ephemeral).await,
        Err(ErrorCode::NODE_EXISTS),
        "nobody's"
    );
}
