// SPDX-License-Identifier: Apache-2.0
//! The adapter over the embedded registry.

#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

#[path = "../line/mod.rs"]
mod line;
mod lists;
mod publications;
mod sofa;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use line::Line;
use remora_naming::dubbo_url;
use remora_registry::{Instance, Registry, RegistryError, RegistryState, Snapshot, Target};
use remora_zookeeper::adapter::{Config, ZookeeperRegistry};
use remora_zookeeper::backend::{Backend, Embedded};
use remora_zookeeper::client::{Client, Options};
use remora_zookeeper::embedded::{self, Server};
use remora_zookeeper::wire::CreateMode::{Ephemeral, Persistent};
use support::{DEADLINE, eventually};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

const ECHO: &str = "com.example.Echo";
const PROVIDERS: &str = "/dubbo/com.example.Echo/providers";

type List = watch::Receiver<Option<Arc<Snapshot>>>;

fn server() -> Server {
    Server::in_memory(embedded::Options::default())
}

/// Grants sessions so short that a test can wait for their end.
fn short_lived() -> Server {
    Server::in_memory(embedded::Options {
        min_session_timeout: Duration::from_millis(100),
        ..embedded::Options::default()
    })
}

fn start(backend: impl Backend) -> (Arc<ZookeeperRegistry>, CancellationToken) {
    start_with(backend, Config::default())
}

fn start_with(backend: impl Backend, config: Config) -> (Arc<ZookeeperRegistry>, CancellationToken) {
    let stop = CancellationToken::new();
    let registry = ZookeeperRegistry::start("default", Arc::new(backend), config, stop.clone());
    (registry, stop)
}

/// Another client of the same registry, such as an application.
fn app(server: &Server) -> Client {
    Client::start(
        Arc::new(Embedded::new(server.clone())),
        Options::default(),
        CancellationToken::new(),
    )
}

async fn providers_node(app: &Client) {
    app.create_parents(&format!("{PROVIDERS}/x")).await.unwrap();
}

fn service(name: &str) -> Target {
    Target::Service {
        namespace: "/dubbo".into(),
        name: name.into(),
    }
}

fn application(name: &str) -> Target {
    Target::Application {
        namespace: "/services".into(),
        name: name.into(),
    }
}

fn child(service: &str, port: u16) -> String {
    dubbo_url::encode_component(&format!(
        "dubbo://10.0.0.5:{port}/{service}?application=shop&interface={service}&version=1.0.0"
    ))
}

fn path(port: u16) -> String {
    format!("{PROVIDERS}/{}", child(ECHO, port))
}

fn instance(port: u16) -> Instance {
    dubbo_url::parse_child(&child(ECHO, port)).unwrap()
}

/// The document of an application's instance, as Dubbo 3 writes it.
fn document(port: u16, revision: &str) -> Bytes {
    let metadata = format!(
        r#"{{"dubbo.endpoints":"[{{\"port\":{port},\"protocol\":\"dubbo\"}}]","dubbo.metadata.revision":"{revision}"}}"#
    );
    let payload = format!(r#"{{"id":"10.0.0.5:{port}","name":"shop","metadata":{metadata}}}"#);
    format!(r#"{{"name":"shop","id":"10.0.0.5:{port}","address":"10.0.0.5","port":{port},"payload":{payload}}}"#).into()
}

async fn until(list: &mut List, what: &str, mut is: impl FnMut(&Snapshot) -> bool) -> Arc<Snapshot> {
    let found = timeout(DEADLINE, list.wait_for(|s| s.as_deref().is_some_and(&mut is))).await;
    let found = found.unwrap_or_else(|_| panic!("not in time: {what}"));
    found.unwrap().clone().unwrap()
}

async fn state(registry: &ZookeeperRegistry, what: &str, is: impl Fn(&RegistryState) -> bool) {
    let mut states = registry.state();
    let found = timeout(DEADLINE, states.wait_for(is)).await;
    found.unwrap_or_else(|_| panic!("not in time: {what}")).unwrap();
}

fn is_down(state: &RegistryState) -> bool {
    matches!(state, RegistryState::Down { .. })
}

fn ports(snapshot: &Snapshot) -> Vec<u16> {
    snapshot.instances.iter().map(|i| i.port).collect()
}

/// Session that made a node, once there is one.
async fn owner(app: &Client, path: &str) -> i64 {
    let stat = eventually("the node", async || app.exists(path, None).await.unwrap()).await;
    stat.ephemeral_owner
}
