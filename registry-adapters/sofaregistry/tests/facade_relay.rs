// SPDX-License-Identifier: Apache-2.0
//! The front door before a SOFARegistry: what is not SOFARPC's goes there as it is, configurations come from there.

#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

#[allow(dead_code, reason = "the adapter's tests need the rest")]
#[path = "adapter/server.rs"]
mod server;
mod support;

use std::sync::Arc;
use std::time::Duration;

use remora_sofaregistry::adapter::{Config, SofaRegistry};
use remora_sofaregistry::wire::{ConfiguratorRegister, EventType, Kind, Message, ReceivedConfigData};
use server::{Peer, Server};
use support::memory::Asked;
use support::*;
use tokio_util::sync::CancellationToken;

struct Both {
    door: Door,
    server: Server,
    _stop: tokio_util::sync::DropGuard,
}

/// A door before a scripted session server, and the adapter's connection to it.
async fn both() -> (Both, Peer) {
    let server = Server::start().await;
    let stop = CancellationToken::new();
    let config = Config {
        spread: Duration::ZERO,
        ..Config::default()
    };
    let adapter: Arc<SofaRegistry> = SofaRegistry::start("default", vec![server.endpoint()], config, stop.clone());
    let patient = remora_sofaregistry::facade::Config {
        first_list_wait: PATIENCE,
        grace: PATIENCE,
        ..support::config()
    };
    let door = Door::with(patient, Some(adapter));
    let peer = server.accept().await;
    let both = Both {
        door,
        server,
        _stop: stop.drop_guard(),
    };
    (both, peer)
}

fn foreign(mut message: Message) -> Message {
    of(&mut message).group = "DEFAULT_GROUP".to_owned();
    message
}

#[tokio::test]
async fn data_that_is_not_sofarpcs_is_published_there_as_it_is() {
    let (both, mut upstream) = both().await;
    let mut client = both.door.client().await;
    let register = foreign(publisher("my.switches", "p", &["on", "off"]));
    client.register(&register).await;
    let seen = upstream.published().await;
    assert_eq!(
        (seen.base.data_id.as_str(), seen.base.group.as_str()),
        ("my.switches", "DEFAULT_GROUP")
    );
    assert_eq!(seen.data, ["on", "off"]);
    assert_ne!(seen.base.regist_id, "p", "its own name there");
    let mut changed = again(register);
    if let Message::PublisherRegister(register) = &mut changed {
        register.data = vec!["on".to_owned()];
    }
    client.register(&changed).await;
    let second = upstream.published().await;
    assert_eq!(
        (second.base.regist_id, &second.data[..]),
        (seen.base.regist_id.clone(), &["on".to_owned()][..])
    );
    assert!(second.base.version > seen.base.version);
    client.register(&end(changed)).await;
    let last = upstream.published().await;
    assert_eq!(
        (last.base.regist_id, last.base.event),
        (seen.base.regist_id, EventType::Unregister)
    );
    assert!(
        !both
            .door
            .memory
            .asked()
            .borrow()
            .iter()
            .any(|a| matches!(a, Asked::Published { .. }))
    );
}

#[tokio::test]
async fn the_answer_does_not_wait_for_the_registry_behind() {
    let (mut both, upstream) = both().await;
    both.server.away();
    drop(upstream);
    let mut client = both.door.client().await;
    client.register(&foreign(publisher("my.switches", "p", &["on"]))).await;
    client.register(&foreign(subscriber("my.switches", "s"))).await;
    client.register(&publisher(ECHO, "q", &[LINE])).await;
    both.server.back().await;
    let mut upstream = both.server.accept().await;
    let mut arrived = Vec::new();
    for _ in 0..2 {
        let (id, mut message) = upstream.request().await;
        upstream.acknowledge(id, of(&mut message)).await;
        arrived.push(message.kind());
    }
    assert!(
        arrived.contains(&Kind::PublisherRegister) && arrived.contains(&Kind::SubscriberRegister),
        "{arrived:?}"
    );
}

#[tokio::test]
async fn a_relayed_publisher_that_comes_back_in_time_is_not_registered_again() {
    let (both, mut upstream) = both().await;
    let register = foreign(publisher("my.switches", "p", &["on"]));
    let mut first = both.door.client().await;
    first.register(&register).await;
    upstream.published().await;
    drop(first);
    let mut second = both.door.client().await;
    second.register(&register).await;
    both.door.until(|all| all.contains(&Asked::Closed { lease: 1 })).await;
    second.register(&foreign(publisher("my.other", "r", &["x"]))).await;
    assert_eq!(
        upstream.published().await.base.data_id,
        "my.other",
        "nothing about the first in between"
    );
}

#[tokio::test]
async fn what_others_publish_is_pushed_zone_by_zone() {
    let (both, mut upstream) = both().await;
    let mut client = both.door.client().await;
    client.register(&foreign(subscriber("my.switches", "s"))).await;
    let subscribed = upstream.subscribed().await;
    assert_eq!(
        (subscribed.base.data_id.as_str(), subscribed.scope.as_str()),
        ("my.switches", "global")
    );
    let Message::ReceivedData(mut push) = server::lines_of(&subscribed, "DefaultDataCenter", 7, &["on"]) else {
        panic!("no list");
    };
    push.data = Some(vec![
        ("RZ1".to_owned(), vec!["on".to_owned()]),
        ("RZ2".to_owned(), vec!["off".to_owned()]),
    ]);
    push.local_zone = Some("RZ2".to_owned());
    upstream.push(&Message::ReceivedData(push.clone())).await;
    let pushed = client.pushed().await;
    client.answer(pushed.id, true).await;
    assert_eq!(pushed.data.data, push.data);
    assert_eq!(
        (pushed.data.local_zone.as_deref(), pushed.data.group.as_str()),
        (Some("RZ2"), "DEFAULT_GROUP")
    );
    assert_eq!(pushed.data.subscriber_regist_ids, ["s"]);
    push.data = Some(Vec::new());
    push.version = 8;
    upstream.push(&Message::ReceivedData(push)).await;
    assert!(client.list().await.is_empty());
}

/// Takes the adapter's configurator.
async fn configured(upstream: &mut Peer) -> ConfiguratorRegister {
    match upstream.request().await {
        (id, Message::ConfiguratorRegister(register)) => {
            upstream.acknowledge(id, &register.base).await;
            register
        }
        other => panic!("another request: {other:?}"),
    }
}

fn config_of(register: &ConfiguratorRegister, version: i64, data: Option<&str>) -> Message {
    Message::ReceivedConfigData(ReceivedConfigData {
        data_id: register.base.data_id.clone(),
        group: register.base.group.clone(),
        instance_id: None,
        configurator_regist_ids: vec![register.base.regist_id.clone()],
        data: data.map(str::to_owned),
        version,
    })
}

#[tokio::test]
async fn configurations_pass_without_what_names_addresses_that_are_not_shown() {
    let (both, mut upstream) = both().await;
    let mut client = both.door.client().await;
    client.register(&configurator(ECHO, "c")).await;
    let register = configured(&mut upstream).await;
    let text = "override://10.0.0.5:12200?weight=50#override://10.77.0.3:12200?disabled=true";
    upstream.push(&config_of(&register, 7, Some(text))).await;
    // Both lines are held back: no address is shown yet.
    let rules = |texts: &[&str]| Asked::Rules {
        place: "demo.EchoService:1.0@DEFAULT#@#DEFAULT_INSTANCE_ID#@#SOFA.CONFIG".to_owned(),
        texts: texts.iter().map(|text| (*text).to_owned()).collect(),
    };
    let (first, second) = (
        "override://10.0.0.5:12200?weight=50",
        "override://10.77.0.3:12200?disabled=true",
    );
    both.door.until(|all| all.contains(&rules(&[first, second]))).await;
    // An address that is shown as it is: its provider is not taken over.
    client.register(&publisher(ECHO, "p", &[LINE])).await;
    client.register(&subscriber(ECHO, "s")).await;
    assert_eq!(client.list().await, [LINE]);
    let pushed = client.pushed_config().await;
    client.answer(pushed.id, true).await;
    assert_eq!(pushed.data.data.as_deref(), Some(second));
    both.door.until(|all| all.contains(&rules(&[first]))).await;
    upstream.push(&config_of(&register, 8, None)).await;
    assert_eq!(client.pushed_config().await.data.data, None);
    both.door.until(|all| all.contains(&rules(&[]))).await;
}

#[tokio::test]
async fn configurations_of_others_pass_as_they_are() {
    let (both, mut upstream) = both().await;
    let mut client = both.door.client().await;
    client.register(&foreign(configurator("my.switches", "c"))).await;
    let register = configured(&mut upstream).await;
    let text = "override://10.0.0.5:12200?weight=50";
    upstream.push(&config_of(&register, 7, Some(text))).await;
    assert_eq!(client.pushed_config().await.data.data.as_deref(), Some(text));
}
