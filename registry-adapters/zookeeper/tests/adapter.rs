// SPDX-License-Identifier: Apache-2.0
//! The adapter over the embedded registry.

#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::sync::Arc;

use remora_naming::dubbo_url;
use remora_registry::{Registry, Snapshot, Target};
use remora_zookeeper::adapter::{Config, ZookeeperRegistry};
use remora_zookeeper::backend::{Backend, Embedded};
use remora_zookeeper::client::{Client, Options};
use remora_zookeeper::embedded::{self, Server};
use remora_zookeeper::wire::CreateMode::Ephemeral;
use support::DEADLINE;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

type List = watch::Receiver<Option<Arc<Snapshot>>>;

fn server() -> Server {
    Server::in_memory(embedded::Options::default())
}

fn start(backend: impl Backend) -> (Arc<ZookeeperRegistry>, CancellationToken) {
    let stop = CancellationToken::new();
    (
        ZookeeperRegistry::start("default", Arc::new(backend), Config::default(), stop.clone()),
        stop,
    )
}

fn service(name: &str) -> Target {
    Target::Service {
        namespace: "/dubbo".into(),
        name: name.into(),
    }
}

fn child(service: &str, port: u16) -> String {
    dubbo_url::encode_component(&format!(
        "dubbo://10.0.0.5:{port}/{service}?application=shop&interface={service}&version=1.0.0"
    ))
}

async fn until(list: &mut List, what: &str, mut is: impl FnMut(&Snapshot) -> bool) -> Arc<Snapshot> {
    let found = timeout(DEADLINE, list.wait_for(|s| s.as_deref().is_some_and(&mut is))).await;
    found
        .unwrap_or_else(|_| panic!("not in time: {what}"))
        .unwrap()
        .clone()
        .unwrap()
}

fn ports(snapshot: &Snapshot) -> Vec<u16> {
    snapshot.instances.iter().map(|i| i.port).collect()
}

#[tokio::test]
async fn follower_sees_what_comes_and_goes() {
    let server = server();
    let (registry, _stop) = start(Embedded::new(server.clone()));
    let mut list = registry.follow(service("com.example.Echo"));
    let first = until(&mut list, "an absent list is empty", |_| true).await;
    assert!(first.instances.is_empty());

    let app = Client::start(
        Arc::new(Embedded::new(server)),
        Options::default(),
        CancellationToken::new(),
    );
    let path = |port| format!("/dubbo/com.example.Echo/providers/{}", child("com.example.Echo", port));
    app.create_parents(&path(1)).await.unwrap();
    app.create(&path(1), "".into(), Ephemeral).await.unwrap();
    let one = until(&mut list, "one provider", |s| ports(s) == [1]).await;
    assert_eq!(
        one.instances[0].key.as_ref().unwrap().to_string(),
        "com.example.Echo:1.0.0"
    );
    app.create(&path(2), "".into(), Ephemeral).await.unwrap();
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
async fn publication_stands_until_it_is_withdrawn() {
    let server = server();
    let (registry, stop) = start(Embedded::new(server.clone()));
    let target = service("com.example.Echo");
    let instance = dubbo_url::parse_child(&child("com.example.Echo", 1)).unwrap();
    registry.publish(&target, &instance).await.unwrap();
    registry.publish(&target, &instance).await.unwrap();
    let mut seen = support::Client::new(&server).await;
    let providers = "/dubbo/com.example.Echo/providers";
    assert_eq!(seen.children(providers, false).await.unwrap(), [&*instance.id]);
    registry.withdraw(&target, &instance).await.unwrap();
    registry.withdraw(&target, &instance).await.unwrap();
    assert!(seen.children(providers, false).await.unwrap().is_empty());
    registry.publish(&target, &instance).await.unwrap();
    stop.cancel();
    timeout(DEADLINE, registry.closed()).await.unwrap();
    assert!(
        seen.children(providers, false).await.unwrap().is_empty(),
        "the session is closed"
    );
}
