// SPDX-License-Identifier: Apache-2.0
//! The front door while the registry is away, when it is back, and when nodes vanish from it.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::facade::Config;
use remora_zookeeper::wire::EventKind::NodeDeleted;
use remora_zookeeper::wire::{
    ConnectRequest, ConnectResponse, CreateMode, ErrorCode, Op, Ops, Reader, Record, Reply, Request, begin_frame,
    end_frame, split_frame,
};
use support::door::{Door, Script, Switch, child, mkdirs, service};
use support::{Client, create, create_record, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use CreateMode::{Ephemeral, EphemeralSequential, Persistent};

const DIR: &str = "/dubbo/a.B/providers";
const URL: &str = "dubbo://10.0.0.5:20880/a.B?application=shop";

fn own() -> String {
    format!("{DIR}/{}", child(URL))
}

fn outward() -> String {
    let url = "dubbo://10.0.0.5:20881/a.B?application=shop&remora.app.port=20880";
    format!("{DIR}/{}", child(url))
}

fn shown(path: &str) -> String {
    child(&format!("dubbo://2130706433:20882/{path}?interface={path}"))
}

/// A registry that can be away, and a door before it.
struct House {
    server: Server,
    switch: Arc<Switch>,
    script: Arc<Script>,
    door: Door,
}

impl House {
    fn new() -> Self {
        Self::with(Server::in_memory(Options::default()), "", Arc::new(Script::default()))
    }

    fn with(server: Server, chroot: &str, script: Arc<Script>) -> Self {
        let switch = Switch::new(&server, chroot);
        script.is_there(true);
        let config = Config {
            return_spread: Duration::from_millis(10),
            ..Config::default()
        };
        let door = Door::open_with(switch.clone(), &script, config);
        Self {
            server,
            switch,
            script,
            door,
        }
    }

    fn goes(&self) {
        self.script.is_there(false);
        self.switch.away(true);
    }

    fn comes_back(&self) {
        self.switch.away(false);
        self.script.is_there(true);
    }

    async fn client(&self) -> Client {
        Client::open(self.door.socket().await, None).await.unwrap()
    }

    /// The registry, past the door.
    async fn registry(&self) -> Client {
        Client::new(&self.server).await
    }
}

/// The timeout that an application is told that comes back; `None` when its connection is closed without a word.
async fn told(house: &House, app: &Client) -> Option<i32> {
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: app.zxid,
        timeout_ms: 30_000,
        session_id: app.session,
        password: app.password.clone(),
        read_only: Some(false),
    };
    let (mut out, mut input) = (BytesMut::new(), BytesMut::new());
    let start = begin_frame(&mut out);
    request.write(&mut out);
    end_frame(&mut out, start);
    let mut io = house.door.socket().await;
    io.write_all(&out).await.unwrap();
    loop {
        if let Some(frame) = split_frame(&mut input, 1 << 20).unwrap() {
            return Some(ConnectResponse::read(&mut Reader::new(frame)).unwrap().timeout_ms);
        }
        let read = tokio::time::timeout(support::DEADLINE, io.read_buf(&mut input));
        if read.await.expect("in time").unwrap_or(0) == 0 {
            return None;
        }
    }
}

#[tokio::test]
async fn an_application_that_starts_meanwhile_gets_its_lists() {
    let house = House::new();
    let url = "dubbo://10.0.0.9:20880/a.B";
    house.script.providers(&service("a.B"), &[url]);
    house.goes();
    let mut app = house.client().await;
    assert_eq!(app.children(DIR, true).await.unwrap(), [shown("a.B")]);
    assert!(app.exists(&format!("{DIR}/{}", shown("a.B")), false).await.is_ok());
    // What was never known is an empty list, and not waited for.
    assert_eq!(
        app.children("/dubbo/c.D/providers", true).await.unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(
        app.children("/dubbo/c.D/configurators", true).await.unwrap(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn what_it_publishes_stands_in_the_registry_as_soon_as_that_is_back() {
    let house = House::new();
    house.goes();
    let mut app = house.client().await;
    // Dubbo 2.7 makes a directory once and takes it for granted; so nothing is made here first.
    assert_eq!(app.create(&own(), Ephemeral).await.unwrap(), own());
    assert!(app.exists(&own(), false).await.is_ok());
    house.comes_back();
    assert!(app.frame().await.is_none(), "its connection ends");
    let mut registry = house.registry().await;
    let stat = eventually("published for it", async || {
        registry.exists(&outward(), false).await.ok()
    })
    .await;

    assert_eq!(
        told(&house, &app).await,
        Some(0),
        "its session was never the registry's"
    );
    let mut app = house.client().await;
    app.create(&own(), Ephemeral).await.unwrap();
    let now = registry.exists(&outward(), false).await.unwrap();
    assert_eq!(now.ephemeral_owner, app.session);
    assert_ne!(now.ephemeral_owner, stat.ephemeral_owner);
}

#[tokio::test]
async fn a_stand_ins_session_is_known_as_such_by_the_next_remora_too() {
    let house = House::new();
    house.goes();
    let app = house.client().await;
    house.door.drain().await;
    let house = House::with(house.server, "", Arc::new(Script::default()));
    house.goes();
    assert_eq!(told(&house, &app).await, Some(0), "it is over");
    house.client().await;
}

#[tokio::test]
async fn a_session_of_the_registry_is_not_resumed_without_it() {
    let house = House::new();
    let mut app = house.client().await;
    mkdirs(&mut app, DIR).await;
    app.create(&own(), Ephemeral).await.unwrap();
    house.goes();
    assert!(app.frame().await.is_none());
    assert_eq!(
        told(&house, &app).await,
        None,
        "closed without an answer, which would be a lie"
    );
    house.comes_back();
    let mut app = Client::open(house.door.socket().await, Some(&app)).await.unwrap();
    assert!(app.exists(&own(), false).await.is_ok());
}

#[tokio::test]
async fn what_the_stand_in_cannot_answer_is_a_lost_connection() {
    let house = House::new();
    house.goes();
    let mut app = house.client().await;
    let lost = |result: Result<Reply, ErrorCode>| assert_eq!(result.err(), Some(ErrorCode::CONNECTION_LOSS));
    lost(app.ask(create("/locks", Persistent)).await);
    lost(app.ask(create("/dubbo/lock-", EphemeralSequential)).await);
    let mixed = [
        Op::Create(create_record("/dubbo/x", Persistent)),
        Op::Create(create_record("/shop", Persistent)),
    ];
    lost(app.ask(Request::Multi(Ops::from_iter(mixed))).await);
    assert_eq!(app.exists("/shop", true).await, Err(ErrorCode::CONNECTION_LOSS));
    // Its connection goes on.
    app.create("/dubbo", Persistent).await.unwrap();
    app.create("/dubbo/mapping", Persistent).await.unwrap();
    assert!(app.exists("/zookeeper/config", false).await.is_ok());
}

#[tokio::test]
async fn a_prefix_in_the_registrys_url_is_there_in_the_stand_in() {
    let house = House::with(
        Server::in_memory(Options::default()),
        "/shop/east",
        Arc::new(Script::default()),
    );
    house.goes();
    let mut app = house.client().await;
    app.create("/dubbo", Persistent).await.unwrap();
    app.create(&own(), Ephemeral).await.unwrap();
    assert_eq!(app.children("/dubbo/a.B", false).await.unwrap(), ["providers"]);
}

#[tokio::test]
async fn what_a_session_left_stands_until_its_application_publishes_anew() {
    let house = House::new();
    let mut app = house.client().await;
    mkdirs(&mut app, DIR).await;
    app.create(&own(), Ephemeral).await.unwrap();
    app.children(DIR, true).await.unwrap();
    // It comes back with nothing, not even directories, and has never heard of the session.
    house.switch.turn(&Server::in_memory(Options::default()));
    let empty = Server::in_memory(Options::default());
    house.switch.turn(&empty);
    assert!(app.frame().await.is_none());
    assert_eq!(
        told(&house, &app).await,
        Some(0),
        "the registry does not know its session"
    );
    let mut registry = Client::new(&empty).await;
    eventually("it stands again", async || {
        registry.exists(&outward(), false).await.ok()
    })
    .await;
    eventually("the directories, too", async || {
        registry.exists("/dubbo/a.B/routers", false).await.ok()
    })
    .await;
    let mut app = house.client().await;
    app.create(&own(), Ephemeral).await.unwrap();
    let stat = registry.exists(&outward(), false).await.unwrap();
    assert_eq!(stat.ephemeral_owner, app.session);
}

#[tokio::test]
async fn a_session_given_up_during_an_outage_is_carried_while_its_application_listens() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Bound and not listening: nobody else gets the port meanwhile.
    let dead = tokio::net::TcpSocket::new_v4().unwrap();
    dead.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (port, dead_port) = (listener.local_addr().unwrap().port(), dead.local_addr().unwrap().port());
    let house = House::new();
    let mut app = house.client().await;
    mkdirs(&mut app, DIR).await;
    for port in [port, dead_port] {
        let url = child(&format!("dubbo://10.0.0.5:{port}/a.B?application=shop"));
        app.create(&format!("{DIR}/{url}"), Ephemeral).await.unwrap();
    }
    house.goes();
    drop(app);
    house.client().await;
    let empty = Server::in_memory(Options::default());
    house.switch.turn(&empty);
    house.comes_back();
    let mut registry = Client::new(&empty).await;
    let names = eventually("one is carried", async || {
        registry
            .children(DIR, false)
            .await
            .ok()
            .filter(|names| !names.is_empty())
    })
    .await;
    assert_eq!(names.len(), 1, "the port of the other accepts nothing: {names:?}");
    assert!(names[0].contains(&format!("remora.app.port%3D{port}")), "{names:?}");
}

#[tokio::test]
async fn a_node_deleted_by_somebody_else_is_made_again_in_its_session() {
    let house = House::new();
    let mut app = house.client().await;
    mkdirs(&mut app, DIR).await;
    app.create(&own(), Ephemeral).await.unwrap();
    let mut registry = house.registry().await;
    let before = registry.exists(&outward(), false).await.unwrap();
    for _ in 0..2 {
        registry.delete(&outward()).await.unwrap();
        let after = eventually("made again", async || registry.exists(&outward(), false).await.ok()).await;
        assert_eq!(after.ephemeral_owner, app.session);
        assert!(after.czxid > before.czxid);
    }
    // With everything above it.
    registry.delete(&outward()).await.unwrap();
    let _ = registry.delete(DIR).await;
    eventually("made again", async || registry.exists(&outward(), false).await.ok()).await;
}

#[tokio::test]
async fn a_node_that_its_application_takes_back_stays_away() {
    let house = House::new();
    let mut app = house.client().await;
    mkdirs(&mut app, DIR).await;
    for _ in 0..20 {
        app.create(&own(), Ephemeral).await.unwrap();
        app.exists(&own(), true).await.unwrap();
        app.delete(&own()).await.unwrap();
        assert_eq!(app.event().await, (NodeDeleted, own()));
    }
    // One that is deleted by somebody else comes back only after those before it would have.
    let other = own().replace("20880", "30880");
    app.create(&other, Ephemeral).await.unwrap();
    let mut registry = house.registry().await;
    let there = outward().replace("20881", "30881").replace("20880", "30880");
    for _ in 0..2 {
        registry.delete(&there).await.unwrap();
        eventually("made again", async || registry.exists(&there, false).await.ok()).await;
    }
    assert_eq!(registry.children(DIR, false).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_node_deleted_while_nobody_was_connected_is_made_again_at_the_return() {
    let house = House::new();
    let mut app = house.client().await;
    mkdirs(&mut app, DIR).await;
    app.create(&own(), Ephemeral).await.unwrap();
    house.switch.cut();
    assert!(app.frame().await.is_none());
    let mut registry = house.registry().await;
    registry.delete(&outward()).await.unwrap();
    let app = Client::open(house.door.socket().await, Some(&app)).await.unwrap();
    let stat = eventually("made again", async || registry.exists(&outward(), false).await.ok()).await;
    assert_eq!(stat.ephemeral_owner, app.session);
}
