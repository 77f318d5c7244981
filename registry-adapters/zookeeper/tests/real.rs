// SPDX-License-Identifier: Apache-2.0
//! Session and adapter over real ZooKeepers. `REMORA_TEST_ZOOKEEPERS=host:port,host:port` names two that are not one
//! ensemble and grant sessions of 2 s; then `cargo test -p remora-zookeeper --test real -- --ignored`.

#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod line;
mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use line::Line;
use remora_naming::dubbo_url;
use remora_registry::{Instance, Registry, Snapshot, Target};
use remora_zookeeper::adapter::{Config, ZookeeperRegistry};
use remora_zookeeper::backend::Ensemble;
use remora_zookeeper::client::{Client, Options};
use remora_zookeeper::wire::CreateMode::{Ephemeral, Persistent};
use remora_zookeeper::wire::ErrorCode;
use remora_zookeeper::wire::request::Auth;
use support::{DEADLINE, eventually};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

type List = watch::Receiver<Option<Arc<Snapshot>>>;

/// One of the two, below a path of the test's own.
fn ensemble(number: usize, place: &str) -> Ensemble {
    let all = std::env::var("REMORA_TEST_ZOOKEEPERS").expect("REMORA_TEST_ZOOKEEPERS names two servers");
    let server = all
        .split(',')
        .nth(number)
        .expect("REMORA_TEST_ZOOKEEPERS names two servers");
    Ensemble::parse(&format!("zookeeper://{server}/{place}-{}", std::process::id())).unwrap()
}

fn app(ensemble: Ensemble) -> Client {
    Client::start(Arc::new(ensemble), Options::default(), CancellationToken::new())
}

fn registry(line: &Line) -> Arc<ZookeeperRegistry> {
    let mut config = Config::default();
    config.session.session_timeout = Duration::from_secs(2);
    ZookeeperRegistry::start("real", Arc::new(line.clone()), config, CancellationToken::new())
}

fn service() -> Target {
    Target::Service {
        namespace: "/dubbo".into(),
        name: "com.example.Echo".into(),
    }
}

fn instance(port: u16) -> Instance {
    let tail = "x".repeat(700);
    let url = format!("dubbo://10.0.0.5:{port}/com.example.Echo?interface=com.example.Echo&tail={tail}");
    dubbo_url::parse_child(&dubbo_url::encode_component(&url)).unwrap()
}

fn path(port: u16) -> String {
    format!("/dubbo/com.example.Echo/providers/{}", instance(port).id)
}

async fn until(list: &mut List, what: &str, mut is: impl FnMut(&Snapshot) -> bool) {
    let found = timeout(DEADLINE, list.wait_for(|s| s.as_deref().is_some_and(&mut is))).await;
    found.unwrap_or_else(|_| panic!("not in time: {what}")).unwrap();
}

fn ports(snapshot: &Snapshot) -> Vec<u16> {
    snapshot.instances.iter().map(|i| i.port).collect()
}

// The chroot is part of `Ensemble`; `Line` hides it, so tests with a line give it again.
fn line(number: usize, place: &'static str) -> Line {
    let chroot: &'static str = format!("/{place}-{}", std::process::id()).leak();
    Line::to_backend(ensemble(number, place)).with_chroot(chroot)
}

#[tokio::test]
#[ignore = "needs two real ZooKeepers"]
async fn lists_and_publications_survive_loss_and_expiry() {
    let place = "expiry";
    let line = line(0, place);
    let registry = registry(&line);
    let app = app(ensemble(0, place));
    let mut list = registry.follow(service());
    until(&mut list, "an absent list is empty", |s| s.instances.is_empty()).await;
    app.create_parents(&path(1)).await.unwrap();
    app.create(&path(1), Bytes::new(), Ephemeral).await.unwrap();
    until(&mut list, "one provider", |s| ports(s) == [1]).await;

    registry.publish(&service(), &instance(2)).await.unwrap();
    until(&mut list, "our own", |s| ports(s) == [1, 2]).await;
    let before = app.exists(&path(2), None).await.unwrap().unwrap();
    line.cut();
    app.create(&path(3), Bytes::new(), Ephemeral).await.unwrap();
    until(&mut list, "what was missed", |s| ports(s) == [1, 2, 3]).await;
    assert_eq!(
        app.exists(&path(2), None).await.unwrap(),
        Some(before),
        "the session was resumed"
    );

    line.lead_to(None);
    eventually("the session expires", async || {
        app.exists(&path(2), None).await.unwrap().is_none().then_some(())
    })
    .await;
    app.delete(&path(1)).await.unwrap();
    assert_eq!(
        ports(list.borrow().as_ref().unwrap()),
        [1, 2, 3],
        "the last list stands"
    );
    line.lead_to(Some(Arc::new(ensemble(0, place))));
    until(&mut list, "published again", |s| ports(s) == [2, 3]).await;
    let after = app.exists(&path(2), None).await.unwrap().unwrap();
    assert_ne!(after.ephemeral_owner, before.ephemeral_owner);

    // A node of another session is replaced.
    app.create(&path(4), Bytes::new(), Ephemeral).await.unwrap();
    registry.publish(&service(), &instance(4)).await.unwrap();
    let taken = app.exists(&path(4), None).await.unwrap().unwrap();
    assert_eq!(taken.ephemeral_owner, after.ephemeral_owner);
    registry.withdraw(&service(), &instance(2)).await.unwrap();
    until(&mut list, "withdrawn", |s| ports(s) == [3, 4]).await;
}

#[tokio::test]
#[ignore = "needs two real ZooKeepers"]
async fn emptied_registry_with_lower_zxids_is_taken() {
    let place = "emptied";
    let line = line(0, place);
    let registry = registry(&line);
    let ahead = app(ensemble(0, place));
    ahead.create_parents("/x/y").await.unwrap();
    let behind = app(ensemble(1, place));
    let stat = |app: &Client| {
        let app = app.clone();
        async move {
            app.create_parents("/x/y").await.unwrap();
            app.set_data("/x", Bytes::new()).await.unwrap().mzxid
        }
    };
    let low = stat(&behind).await;
    while stat(&ahead).await <= low + 100 {}
    registry.publish(&service(), &instance(1)).await.unwrap();
    let mut list = registry.follow(service());
    until(&mut list, "our own", |s| ports(s) == [1]).await;
    line.lead_to(Some(Arc::new(ensemble(1, place))));
    eventually("published there", async || behind.exists(&path(1), None).await.unwrap()).await;
    behind.create(&path(2), Bytes::new(), Ephemeral).await.unwrap();
    until(&mut list, "followed there", |s| ports(s) == [1, 2]).await;
}

#[tokio::test]
#[ignore = "needs two real ZooKeepers"]
async fn list_longer_than_a_frame_of_java_is_read() {
    let place = "long";
    let app = app(ensemble(0, place));
    app.create_parents(&path(1)).await.unwrap();
    let mut creates = JoinSet::new();
    for port in 1..=2_000 {
        let app = app.clone();
        creates.spawn(async move { app.create(&path(port), Bytes::new(), Ephemeral).await.unwrap() });
    }
    creates.join_all().await;
    let registry = registry(&line(0, place));
    let mut list = registry.follow(service());
    until(&mut list, "all", |s| s.instances.len() == 2_000).await;
    app.delete(&path(77)).await.unwrap();
    until(&mut list, "all but one", |s| s.instances.len() == 1_999).await;
}

#[tokio::test]
#[ignore = "needs two real ZooKeepers"]
async fn credentials_are_shown() {
    let place = "guarded";
    let with = |secret: &'static str| {
        let options = Options {
            auth: Some(Auth {
                kind: 0,
                scheme: "digest".into(),
                auth: Some(Bytes::from_static(secret.as_bytes())),
            }),
            ..Options::default()
        };
        Client::start(Arc::new(ensemble(0, place)), options, CancellationToken::new())
    };
    app(ensemble(0, place)).create_parents("/mine").await.unwrap();
    let owner = with("u:p");
    owner.create("/mine", "x".into(), Persistent).await.unwrap();
    let refused = with("u:wrong").data("/mine", None).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::NO_AUTH));
    assert_eq!(owner.data("/mine", None).await.unwrap().0, "x");
}
