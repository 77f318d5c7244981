// SPDX-License-Identifier: Apache-2.0
//! Client and adapter in conversation with a scripted session server.

#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod connection;
mod lists;
mod publications;
mod server;

use std::sync::Arc;
use std::time::Duration;

use remora_naming::sofa::{Service, line};
use remora_registry::{Instance, Snapshot, Target};
use remora_sofaregistry::adapter::{Config, SofaRegistry};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use server::{DEADLINE, Server};

const NAME: &str = "demo.Echo:1.0";
const LINE: &str = "10.0.0.5:12201?serialization=hessian2&appName=shop&p=1&v=4.0&remora.app.port=12200";

/// Short pauses, and patience: tests run on busy machines, too.
fn config() -> Config {
    let mut config = Config::default();
    let connection = &mut config.connection;
    connection.connect_timeout = Duration::from_secs(5);
    connection.request_timeout = Duration::from_secs(5);
    connection.reconnect_min = Duration::from_millis(5);
    connection.reconnect_max = Duration::from_millis(50);
    config.patience = DEADLINE;
    config.spread = Duration::from_millis(10);
    config
}

fn start(servers: &[&Server]) -> Arc<SofaRegistry> {
    start_with(servers, config())
}

fn start_with(servers: &[&Server], config: Config) -> Arc<SofaRegistry> {
    let endpoints = servers.iter().map(|server| server.endpoint()).collect();
    SofaRegistry::start("test", endpoints, config, CancellationToken::new())
}

fn target(name: &str) -> Target {
    Service::parse(name).unwrap().target()
}

fn instance(text: &str) -> Instance {
    line::parse(text, &Service::parse(NAME).unwrap()).unwrap()
}

/// Waits until the list is `hosts`, sorted.
async fn shows(list: &mut watch::Receiver<Option<Arc<Snapshot>>>, hosts: &[&str]) -> Arc<Snapshot> {
    let hosts_of = |snapshot: &Snapshot| {
        let mut hosts: Vec<_> = snapshot.instances.iter().map(|i| i.host.to_string()).collect();
        hosts.sort();
        hosts
    };
    let is_it = |seen: &Option<Arc<Snapshot>>| seen.as_ref().is_some_and(|s| hosts_of(s) == hosts);
    let seen = timeout(DEADLINE, list.wait_for(is_it))
        .await
        .map(|seen| seen.unwrap().clone());
    match seen {
        Ok(seen) => seen.unwrap(),
        Err(_) => panic!("{hosts:?} never came, but {:?}", list.borrow().as_deref().map(hosts_of)),
    }
}
