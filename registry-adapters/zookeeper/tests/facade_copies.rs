// SPDX-License-Identifier: Apache-2.0
//! What is known of mappings, metadata, settings and rules while the registry is away, and what it is told afterwards.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::wire::{CreateMode, ErrorCode, Op, Ops, Reply, Request};
use support::door::{Door, Script, Switch, mkdirs};
use support::{Client, create, create_record, eventually};

use CreateMode::{Ephemeral, Persistent};

const MAPPING: &str = "/dubbo/mapping/a.B";
const SETTINGS: &str = "/dubbo/config/dubbo/dubbo.properties";
const RULE: &str = "/dubbo/config/dubbo/shop.tag-router";
const RULES: &str = "/dubbo/a.B/configurators";
const REVISION: &str = "/dubbo/metadata/shop/0123456789abcdef0123456789abcdef";

/// A registry that can be away, and a door before it with a directory of its own.
struct House {
    server: Server,
    switch: Arc<Switch>,
    script: Arc<Script>,
    dir: tempfile::TempDir,
    door: Door,
}

impl House {
    fn new() -> Self {
        let server = Server::in_memory(Options::default());
        let (switch, script) = (Switch::new(&server, ""), Arc::new(Script::default()));
        let dir = tempfile::tempdir().unwrap();
        script.is_there(true);
        let door = Door::open_in(dir.path(), switch.clone(), &script);
        Self {
            server,
            switch,
            script,
            dir,
            door,
        }
    }

    /// Remora is started again.
    async fn again(self) -> Self {
        self.door.drain().await;
        let door = Door::open_in(self.dir.path(), self.switch.clone(), &self.script);
        Self { door, ..self }
    }

    fn goes(&self) {
        self.script.is_there(false);
        self.switch.away(true);
    }

    fn comes_back(&self) {
        self.switch.away(false);
        self.script.is_there(true);
    }

    async fn registry(&self) -> Client {
        Client::new(&self.server).await
    }
}

/// Makes a node with data, and everything above it.
async fn put(client: &mut Client, path: &str, data: &'static [u8]) {
    mkdirs(client, path).await;
    client.set(path, data).await.unwrap();
}

async fn data(client: &mut Client, path: &str) -> Result<Vec<u8>, ErrorCode> {
    client
        .get(path, true)
        .await
        .map(|(data, _)| data.unwrap_or_default().to_vec())
}

/// The data of a node once it is there, or is what is expected.
async fn becomes(client: &mut Client, path: &str, expected: &[u8]) {
    eventually(path, async || {
        data(client, path).await.ok().filter(|data| data == expected)
    })
    .await;
}

#[tokio::test]
async fn an_application_that_starts_meanwhile_reads_what_one_before_it_read() {
    let house = House::new();
    let mut registry = house.registry().await;
    let nodes: [(&str, &[u8]); 4] = [
        (MAPPING, b"shop"),
        (SETTINGS, b"a=b"),
        (RULE, b"force: true"),
        (REVISION, b"{}"),
    ];
    for (path, data) in nodes {
        put(&mut registry, path, data).await;
    }
    let rule = "override%3A%2F%2F0.0.0.0%2Fa.B%3Ftimeout%3D5";
    mkdirs(&mut registry, &format!("{RULES}/{rule}")).await;
    let mut app = house.door.client().await;
    for (path, expected) in nodes {
        assert_eq!(data(&mut app, path).await.unwrap(), expected);
    }
    assert_eq!(app.children(RULES, true).await.unwrap(), [rule]);
    // It changes, and its reader hears of that.
    registry.set(MAPPING, b"shop,store").await.unwrap();
    assert_eq!(app.event().await.1, MAPPING);
    assert_eq!(data(&mut app, MAPPING).await.unwrap(), b"shop,store");
    drop(app);
    house.goes();
    let house = house.again().await;

    let mut late = house.door.client().await;
    assert_eq!(data(&mut late, MAPPING).await.unwrap(), b"shop,store");
    for (path, expected) in &nodes[1..] {
        assert_eq!(data(&mut late, path).await.unwrap(), *expected);
    }
    assert_eq!(late.children(RULES, true).await.unwrap(), [rule]);
    assert!(late.exists(&format!("{RULES}/{rule}"), false).await.is_ok());
    // What nobody has read is not known, and is nothing here.
    assert_eq!(data(&mut late, "/dubbo/mapping/c.D").await, Err(ErrorCode::NO_NODE));
    assert_eq!(house.door.stats.copies.load(Ordering::Relaxed), 5);
    assert_eq!(house.door.stats.copies_shown.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn a_node_that_was_deleted_is_not_known_any_more() {
    let house = House::new();
    let mut registry = house.registry().await;
    put(&mut registry, RULE, b"force: true").await;
    let mut app = house.door.client().await;
    data(&mut app, RULE).await.unwrap();
    registry.delete(RULE).await.unwrap();
    assert_eq!(app.event().await.1, RULE);
    assert_eq!(data(&mut app, RULE).await, Err(ErrorCode::NO_NODE));
    house.goes();
    let mut late = house.door.client().await;
    assert_eq!(data(&mut late, RULE).await, Err(ErrorCode::NO_NODE));
}

#[tokio::test]
async fn what_an_application_read_under_its_own_name_is_not_shown_to_others() {
    let house = House::new();
    let mut registry = house.registry().await;
    put(&mut registry, SETTINGS, b"secret").await;
    let mut app = house.door.client().await;
    app.auth("shop:word").await.unwrap();
    data(&mut app, SETTINGS).await.unwrap();
    house.goes();
    let mut late = house.door.client().await;
    assert_eq!(data(&mut late, SETTINGS).await, Err(ErrorCode::NO_NODE));
}

#[tokio::test]
async fn the_registry_is_told_of_mappings_and_metadata_written_meanwhile() {
    let house = House::new();
    let mut registry = house.registry().await;
    put(&mut registry, MAPPING, b"shop").await;
    data(&mut house.door.client().await, MAPPING).await.unwrap();
    house.goes();
    let mut late = house.door.client().await;
    assert_eq!(data(&mut late, MAPPING).await.unwrap(), b"shop");
    late.set(MAPPING, b"shop,late").await.unwrap();
    mkdirs(&mut late, "/dubbo/mapping/c.D").await;
    late.set("/dubbo/mapping/c.D", b"late").await.unwrap();
    put(&mut late, REVISION, b"{}").await;
    // Taken back before anybody heard of it.
    late.create("/dubbo/mapping/x.Y", Persistent).await.unwrap();
    late.delete("/dubbo/mapping/x.Y").await.unwrap();
    // It goes with its session.
    late.create("/dubbo/metadata/shop/here", Ephemeral).await.unwrap();
    // The registry is not away for everybody.
    registry.set(MAPPING, b"store").await.unwrap();
    drop(late);
    let house = house.again().await;
    assert_eq!(
        house.door.stats.owed.load(Ordering::Relaxed),
        4,
        "with the directory of the metadata"
    );
    house.comes_back();
    becomes(&mut registry, MAPPING, b"store,late").await;
    becomes(&mut registry, "/dubbo/mapping/c.D", b"late").await;
    becomes(&mut registry, REVISION, b"{}").await;
    let none = async || (house.door.stats.owed.load(Ordering::Relaxed) == 0).then_some(());
    eventually("nothing is owed", none).await;
    for absent in ["/dubbo/mapping/x.Y", "/dubbo/metadata/shop/here"] {
        assert_eq!(registry.exists(absent, false).await, Err(ErrorCode::NO_NODE));
    }
}

#[tokio::test]
async fn an_operators_word_is_not_taken_while_the_registry_is_away() {
    let house = House::new();
    let mut registry = house.registry().await;
    put(&mut registry, RULE, b"force: true").await;
    data(&mut house.door.client().await, RULE).await.unwrap();
    house.goes();
    let mut tool = house.door.client().await;
    let lost = |result: Result<Reply, ErrorCode>| assert_eq!(result.err(), Some(ErrorCode::CONNECTION_LOSS));
    assert_eq!(tool.set(RULE, b"").await.err(), Some(ErrorCode::CONNECTION_LOSS));
    assert_eq!(tool.delete(RULE).await, Err(ErrorCode::CONNECTION_LOSS));
    tool.create("/dubbo", Persistent).await.unwrap();
    mkdirs(&mut tool, RULES).await;
    lost(
        tool.ask(create(&format!("{RULES}/override%3A%2F%2F0"), Persistent))
            .await,
    );
    let inside = [Op::Create(create_record(MAPPING, Persistent))];
    lost(tool.ask(Request::Multi(Ops::from_iter(inside))).await);
    assert_eq!(data(&mut tool, RULE).await.unwrap(), b"force: true");
}
