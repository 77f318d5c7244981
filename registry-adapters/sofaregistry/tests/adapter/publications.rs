// SPDX-License-Identifier: Apache-2.0
//! What is published, and what is relayed.

use std::sync::Arc;
use std::time::Duration;

use remora_registry::{Instance, Params, Registry, RegistryError, RegistryState, ServiceKey, Target};
use remora_sofaregistry::wire::{EventType, Message, PublisherRegister, RegisterResponse, Registration};
use tokio::time::timeout;

use crate::server::{DEADLINE, Server, is_unregister};
use crate::{LINE, NAME, config, instance, start, start_with, target};

#[tokio::test]
async fn a_publication_says_what_a_client_of_java_would() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let (place, published) = (target(NAME), instance(LINE));
    let mut peer = server.accept().await;
    let (done, publisher) = tokio::join!(registry.publish(&place, &published), peer.published());
    done.unwrap();
    let base = &publisher.base;
    assert_eq!(
        (base.data_id.as_str(), base.group.as_str()),
        ("demo.Echo:1.0@DEFAULT", "SOFA")
    );
    assert_eq!(
        (base.app_name.as_deref(), base.zone.as_deref()),
        (Some("shop"), Some("DEFAULT_ZONE"))
    );
    assert_eq!(
        (&base.event, base.version, base.regist_id.len()),
        (&EventType::Register, 1, 36)
    );
    assert!(base.timestamp > 1_700_000_000_000 && base.instance_id.is_none() && base.ip.is_none());
    assert_eq!(publisher.data, [LINE]);
    // Once more changes nothing.
    registry.publish(&place, &published).await.unwrap();
    let (done, gone) = tokio::join!(registry.withdraw(&place, &published), peer.published());
    done.unwrap();
    assert_eq!((&gone.base.event, gone.base.version), (&EventType::Unregister, 2));
    assert_eq!((&gone.base.regist_id, gone.data.len()), (&base.regist_id, 0));
    registry.withdraw(&place, &published).await.unwrap();
}

#[tokio::test]
async fn it_is_registered_again_on_the_next_connection_with_the_same_id_and_version() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let (place, published) = (target(NAME), instance(LINE));
    let mut peer = server.accept().await;
    let (done, first) = tokio::join!(registry.publish(&place, &published), peer.published());
    done.unwrap();
    drop(peer);
    let mut peer = server.accept().await;
    let again = peer.published().await;
    let said = |p: &PublisherRegister| (p.base.regist_id.clone(), p.base.version, p.data.clone());
    assert_eq!(said(&again), said(&first));
}

#[tokio::test]
async fn what_was_not_taken_is_sent_again() {
    let server = Server::start().await;
    let mut config = config();
    config.connection.request_timeout = Duration::from_secs(1);
    let registry = start_with(&[&server], config);
    let (place, published) = (target(NAME), instance(LINE));
    let mut peer = server.accept().await;
    let conversation = async {
        let (id, publisher) = peer.publisher().await;
        peer.answer(id, &publisher.base, false, false).await;
        // An answer for another version is none.
        let (id, publisher) = peer.publisher().await;
        let other = Registration {
            version: 7,
            ..publisher.base.clone()
        };
        peer.acknowledge(id, &other).await;
        // No answer at all; then one.
        peer.publisher().await;
        peer.published().await
    };
    let (first, publisher) = tokio::join!(registry.publish(&place, &published), conversation);
    let error = first.unwrap_err();
    assert_eq!(error.reason(), "registry_refused");
    assert!(error.to_string().contains("because"), "{error}");
    assert_eq!(publisher.base.version, 1);
    registry.publish(&place, &published).await.unwrap();
}

#[tokio::test]
async fn what_is_refused_for_good_is_sent_again_only_when_it_is_published_again() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let (place, published) = (target(NAME), instance(LINE));
    let mut peer = server.accept().await;
    let conversation = async {
        let (id, publisher) = peer.publisher().await;
        peer.answer(id, &publisher.base, true, true).await;
        publisher
    };
    let (first, _) = tokio::join!(registry.publish(&place, &published), conversation);
    assert!(matches!(first, Err(RegistryError::Refused { .. })), "{first:?}");
    peer.heartbeat().await;
    let (second, publisher) = tokio::join!(registry.publish(&place, &published), peer.published());
    second.unwrap();
    assert_eq!(publisher.base.version, 2);
}

#[tokio::test]
async fn what_is_published_while_there_is_no_server_comes_later() {
    let mut server = Server::start().await;
    server.away();
    let registry = start(&[&server]);
    let mut state = registry.state();
    let is_down = |s: &RegistryState| matches!(s, RegistryState::Down { .. });
    timeout(DEADLINE, state.wait_for(is_down)).await.unwrap().unwrap();
    let (place, published) = (target(NAME), instance(LINE));
    let gone = instance("10.0.0.6:12201?p=1");
    for instance in [&published, &gone] {
        let error = registry.publish(&place, instance).await.unwrap_err();
        assert_eq!(error.reason(), "registry_unreachable");
    }
    // Never sent, so there is nothing to take back.
    let _ = registry.withdraw(&place, &gone).await;
    server.back().await;
    let mut peer = server.accept().await;
    assert_eq!(peer.published().await.data, [LINE]);
    peer.heartbeat().await;
}

#[tokio::test]
async fn what_is_withdrawn_while_the_server_is_away_is_taken_back_when_it_returns() {
    let mut server = Server::start().await;
    let registry = start(&[&server]);
    let (place, published) = (target(NAME), instance(LINE));
    let mut peer = server.accept().await;
    let (done, publisher) = tokio::join!(registry.publish(&place, &published), peer.published());
    done.unwrap();
    server.away();
    drop(peer);
    let mut state = registry.state();
    timeout(DEADLINE, state.wait_for(|s| !s.is_up()))
        .await
        .unwrap()
        .unwrap();
    let error = registry.withdraw(&place, &published).await.unwrap_err();
    assert_eq!(error.reason(), "registry_unreachable");
    // The old connection may still count for the server.
    server.back().await;
    let mut peer = server.accept().await;
    let gone = peer.published().await;
    assert!(is_unregister(&gone.base));
    assert_eq!(
        (&gone.base.regist_id, gone.base.version),
        (&publisher.base.regist_id, 2)
    );
}

#[tokio::test]
async fn an_instance_of_zookeeper_is_published_as_a_line() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let params = [
        ("version", "1.0"),
        ("uniqueId", "blue"),
        ("interface", "demo.Echo"),
        ("serialization", "hessian2"),
    ];
    let params = params.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let published = Instance {
        id: "".into(),
        key: Some(ServiceKey::new("demo.Echo", "blue", "1.0")),
        protocol: "bolt".into(),
        host: "10.0.0.5".into(),
        port: 12201,
        path: "".into(),
        params: Params(params.to_vec()),
        raw: "".into(),
    };
    let place = Target::Service {
        namespace: "/sofa-rpc".into(),
        name: "demo.Echo".into(),
    };
    let mut peer = server.accept().await;
    let (done, publisher) = tokio::join!(registry.publish(&place, &published), peer.published());
    done.unwrap();
    assert_eq!(publisher.base.data_id, "demo.Echo:1.0:blue@DEFAULT");
    assert_eq!(publisher.base.app_name.as_deref(), Some("remora"));
    let line = &publisher.data[0];
    assert!(
        line.starts_with("10.0.0.5:12201?serialization=hessian2") && line.contains("&p=1"),
        "{line}"
    );
}

#[tokio::test]
async fn what_is_not_of_sofarpc_cannot_be_held() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let dubbo = Target::Service {
        namespace: "/dubbo".into(),
        name: "demo.Echo".into(),
    };
    let application = Target::Application {
        namespace: "/services".into(),
        name: "shop".into(),
    };
    for target in [&dubbo, &application] {
        let why = registry.cannot_hold(target).unwrap();
        assert!(
            why.contains("SOFARPC only") && why.contains(&target.to_string()),
            "{why}"
        );
        let error = registry.publish(target, &instance(LINE)).await.unwrap_err();
        assert_eq!(error.reason(), "registry_unsupported");
        let list = registry.follow(target.clone()).borrow().clone().unwrap();
        assert!(list.instances.is_empty());
    }
    assert_eq!(registry.cannot_hold(&target(NAME)), None);
}

#[tokio::test]
async fn a_relayed_publisher_is_told_as_it_is_until_it_is_dropped() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let mut register = PublisherRegister {
        base: Registration {
            instance_id: Some("gray".into()),
            zone: Some("RZ01".into()),
            app_name: Some("shop".into()),
            data_id: "shop.prices".into(),
            group: "DEFAULT_GROUP".into(),
            regist_id: "the application's".into(),
            version: 44,
            attributes: vec![("!AccessKey".into(), "k".into())],
            ..Registration::default()
        },
        data: vec!["1".into(), "zwei größe".into()],
    };
    let relayed = registry.relay_publish(&register);
    let mut peer = server.accept().await;
    let first = peer.published().await;
    assert_eq!(first.data, register.data);
    let expected = Registration {
        regist_id: first.base.regist_id.clone(),
        version: 1,
        timestamp: first.base.timestamp,
        ..register.base.clone()
    };
    assert_eq!(first.base, expected);
    register.data = vec!["3".into()];
    relayed.update(&register);
    let second = peer.published().await;
    assert_eq!((second.base.version, &second.data), (2, &register.data));
    assert_eq!(relayed.last_error(), None);
    drop(relayed);
    let gone = peer.published().await;
    assert!(is_unregister(&gone.base));
    assert_eq!((gone.base.version, &gone.base.regist_id), (3, &first.base.regist_id));
}

#[tokio::test]
async fn a_wrong_kind_of_answer_is_tried_again() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let (place, published) = (target(NAME), instance(LINE));
    let mut peer = server.accept().await;
    let conversation = async {
        let (id, _) = peer.publisher().await;
        peer.reply(id, &Message::SyncConfigRequest(Default::default())).await;
        let (id, publisher) = peer.publisher().await;
        let answer = RegisterResponse {
            success: true,
            regist_id: publisher.base.regist_id.clone(),
            version: publisher.base.version,
            ..RegisterResponse::default()
        };
        peer.reply(id, &Message::RegisterResponse(answer)).await;
    };
    let (first, ()) = tokio::join!(registry.publish(&place, &published), conversation);
    assert!(first.unwrap_err().to_string().contains("SyncConfigRequest"));
    registry.publish(&place, &published).await.unwrap();
}

#[tokio::test]
async fn the_adapter_ends_with_its_token() {
    let server = Server::start().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let endpoints = vec![server.endpoint()];
    let registry = remora_sofaregistry::adapter::SofaRegistry::start("test", endpoints, config(), stop.clone());
    let peer = server.accept().await;
    stop.cancel();
    timeout(DEADLINE, registry.closed()).await.unwrap();
    peer.ended().await;
    let error = registry.publish(&target(NAME), &instance(LINE)).await.unwrap_err();
    assert_eq!(error.reason(), "registry_unreachable");
}

#[tokio::test]
async fn a_thousand_publications_are_back_at_once() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let publish_all = async {
        let mut tasks = tokio::task::JoinSet::new();
        for port in 1..=1000 {
            let registry = Arc::clone(&registry);
            tasks.spawn(async move {
                let published = instance(&format!("10.0.0.5:{port}?p=1"));
                registry.publish(&target(NAME), &published).await
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap().unwrap();
        }
    };
    let mut peer = server.accept().await;
    let serve = async {
        for _ in 0..1000 {
            peer.published().await;
        }
        peer
    };
    let ((), peer) = tokio::join!(publish_all, serve);
    drop(peer);
    let mut peer = server.accept().await;
    let back = async {
        for _ in 0..1000 {
            peer.published().await;
        }
    };
    timeout(Duration::from_secs(5), back)
        .await
        .expect("1,000 registrations in 5 s");
}
