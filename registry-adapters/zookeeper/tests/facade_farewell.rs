// SPDX-License-Identifier: Apache-2.0
//! The front door when Remora leaves for good: entries go, applications stay, and publish anew with the next Remora.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use remora_zookeeper::backend::{Backend, Embedded};
use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::wire::request::Create;
use remora_zookeeper::wire::{CreateMode, ErrorCode, Request};
use support::door::{Door, Script, Switch, child, document, mkdirs};
use support::{Client, create_record};
use tokio::time::timeout;

use CreateMode::{Ephemeral, Persistent};

const DIR: &str = "/dubbo/a.B/providers";

fn own() -> String {
    format!("{DIR}/{}", child("dubbo://10.0.0.5:20880/a.B?application=shop"))
}

fn server() -> (Server, Arc<dyn Backend>) {
    let server = Server::in_memory(Options::default());
    let backend = Arc::new(Embedded::new(server.clone()));
    (server, backend)
}

/// Publishes at both levels, and has a node that is none of discovery's.
async fn publish(app: &mut Client) {
    mkdirs(app, DIR).await;
    mkdirs(app, "/services/shop").await;
    app.create(&own(), Ephemeral).await.unwrap();
    let record = Create {
        data: Some(Bytes::from(document("shop", "10.0.0.5", &[20880], "r1"))),
        ..create_record("/services/shop/10.0.0.5:20880", Ephemeral)
    };
    app.ask(Request::Create(record)).await.unwrap();
    app.create("/lock", Ephemeral).await.unwrap();
}

#[tokio::test]
async fn a_farewell_takes_entries_out_and_leaves_the_session_alone() {
    let (server, backend) = server();
    let script = Arc::new(Script::default());
    let door = Door::open(backend, &script);
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut idle = door.client().await;
    let mut direct = Client::new(&server).await;
    assert_eq!(direct.children(DIR, false).await.unwrap().len(), 1);

    let withdrawn = timeout(support::DEADLINE, script.farewell.say()).await.unwrap();
    assert_eq!(withdrawn, 2);
    assert!(direct.children(DIR, false).await.unwrap().is_empty());
    assert!(direct.children("/services/shop", false).await.unwrap().is_empty());
    assert!(direct.exists("/lock", false).await.is_ok(), "nothing else is touched");
    assert!(
        script.log().iter().filter(|said| *said == "withdraw 20880").count() >= 2,
        "{:?}",
        script.log()
    );

    // The application withdraws itself later, and goes on.
    app.delete(&own()).await.unwrap();
    app.delete("/services/shop/10.0.0.5:20880").await.unwrap();
    assert_eq!(app.delete("/nothing").await.unwrap_err(), ErrorCode::NO_NODE);
    assert!(app.exists("/lock", false).await.is_ok());
    // One that looks after its entries makes them again; they do not get through.
    app.create(&own(), Ephemeral).await.unwrap();
    assert!(direct.children(DIR, false).await.unwrap().is_empty());
    assert!(idle.exists("/dubbo", false).await.is_ok());
}

#[tokio::test]
async fn the_next_remora_has_those_applications_publish_anew_and_only_those() {
    let (server, backend) = server();
    let dir = tempfile::tempdir().unwrap();
    let script = Arc::new(Script::default());
    let door = Door::open_in(dir.path(), Arc::clone(&backend), &script);
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut consumer = door.client().await;
    consumer.create("/mine", Ephemeral).await.unwrap();
    timeout(support::DEADLINE, script.farewell.say()).await.unwrap();
    // As long as this Remora serves, its applications come back to it.
    let app = door.resume(&app).await.unwrap();
    door.drain().await;

    let script = Arc::new(Script::default());
    let door = Door::open_in(dir.path(), backend, &script);
    assert!(
        door.resume(&app).await.is_none(),
        "it is told that its session has expired"
    );
    let mut direct = Client::new(&server).await;
    assert_eq!(
        direct.exists("/lock", false).await.unwrap_err(),
        ErrorCode::NO_NODE,
        "and so it has"
    );
    assert!(door.resume(&consumer).await.is_some(), "who published nothing goes on");
    let mut app = door.client().await;
    app.create(&own(), Ephemeral).await.unwrap();
    assert_eq!(direct.children(DIR, false).await.unwrap().len(), 1);
    door.drain().await;

    let door = Door::open_in(
        dir.path(),
        Arc::new(Embedded::new(server)),
        &Arc::new(Script::default()),
    );
    assert!(door.resume(&app).await.is_some(), "a restart withdraws nothing");
}

#[tokio::test]
async fn a_registry_that_is_away_holds_nobody_up() {
    let (server, _) = server();
    let switch = Switch::new(&server, "");
    let script = Arc::new(Script::default());
    let door = Door::open(Arc::<Switch>::clone(&switch) as _, &script);
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    app.create(&own(), Persistent).await.unwrap();
    switch.away(true);
    assert_eq!(timeout(support::DEADLINE, script.farewell.say()).await.unwrap(), 0);
}
