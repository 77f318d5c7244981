// SPDX-License-Identifier: Apache-2.0
//! The demo itself, and whole Remoras over other registries with the demo's applications.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::consumer::Consumer;
use super::load::expect_value;
use super::provider::Provider;
use super::zookeeper::Session;
use super::*;
use crate::config::{Address, Config, Door, Facades, Loaded, ProtocolPorts, Span, ZooKeeperDoor};
use crate::lifecycle::{Stop, StopKind};
use crate::{App, Plugins};

const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[tokio::test]
async fn the_demo_comes_to_its_end() {
    let scratch = Scratch::new().unwrap();
    let mut told = Vec::new();
    let stop = CancellationToken::new();
    tell(&mut Story::new(&mut told), &Plugins::default(), &scratch.0, stop)
        .await
        .unwrap();
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("15,002 calls through both, 0 failed"), "{told}");
    assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
}

/// A configuration with free ports that may dial loopback.
fn config(scratch: &Scratch) -> (Config, SocketAddr) {
    let door = ports::free(LOCALHOST).unwrap();
    let range = ports::free_range(LOCALHOST, 3).unwrap();
    let mut config = Config {
        advertise: Some(LOCALHOST),
        data_dir: Some(scratch.0.join("data")),
        facades: Facades {
            zookeeper: Door::On(ZooKeeperDoor {
                listen: Address(door),
                ..ZooKeeperDoor::default()
            }),
            ..Facades::none()
        },
        ..Config::default()
    };
    config.lifecycle.withdraw_pause = Span(Duration::from_millis(1));
    let dubbo = ProtocolPorts {
        egress: Address(ports::free(LOCALHOST).unwrap()),
        ingress: Address(SocketAddr::new(LOCALHOST, range.first)),
        ingress_range: range,
    };
    config.protocols.0 = [("dubbo".to_owned(), Door::On(dubbo))].into();
    config.admin.listen = Address(SocketAddr::new(LOCALHOST, 0));
    (config, door)
}

fn entry(provider: &Provider) -> remora_file::Entry {
    remora_file::Entry {
        protocol: "dubbo".to_owned(),
        service: SERVICE.to_owned(),
        version: VERSION.to_owned(),
        group: String::new(),
        address: provider.addr(),
        params: BTreeMap::new(),
    }
}

/// Runs a Remora, follows the service at its door, and calls it there.
async fn call_through(config: Config, door: SocketAddr) -> String {
    let stop = Stop::new();
    let app = App::build(&Loaded::of(config), &Plugins::default(), &stop).unwrap();
    let running = tokio::spawn(app.run());
    let session = Session::open(door).await.unwrap();
    application::register_consumer(&session).await.unwrap();
    let listed = application::wait_listed(&session, "the list", |urls| !urls.is_empty())
        .await
        .unwrap();
    let instance = application::parse(&listed[0]).unwrap();
    let consumer = Consumer::dial(&instance.host, instance.port).await.unwrap();
    let said = expect_value(consumer.call("world").await.0).unwrap();
    session.close().await.unwrap();
    stop.ask(StopKind::Restart);
    running.await.unwrap();
    said
}

#[tokio::test]
async fn an_application_that_speaks_zookeeper_finds_what_stands_in_a_file() {
    let scratch = Scratch::new().unwrap();
    let provider = Provider::start("provider-1", LOCALHOST).await.unwrap();
    let file = scratch.0.join("services.yaml");
    let entry = serde_json::to_string(&entry(&provider)).unwrap();
    std::fs::write(&file, format!("instances: [ {entry} ]\n")).unwrap();
    let (mut config, door) = config(&scratch);
    config.registry = format!("file://{}", file.display()).parse().unwrap();
    assert_eq!(call_through(config, door).await, "hello world, this is provider-1");
}

#[tokio::test]
async fn a_provider_without_a_registry_client_is_published_from_the_configuration() {
    let scratch = Scratch::new().unwrap();
    let provider = Provider::start("provider-1", LOCALHOST).await.unwrap();
    let (mut config, door) = config(&scratch);
    config.publish = vec![entry(&provider)];
    assert_eq!(call_through(config, door).await, "hello world, this is provider-1");
}

#[test]
fn an_error_tells_its_cause_once() {
    let error = DemoError::from(io::Error::other("the port is taken"));
    assert_eq!(format!("{:#}", anyhow::Error::from(error)), "the port is taken");
}
