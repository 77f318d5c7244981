// SPDX-License-Identifier: Apache-2.0
//! The connection itself: finding a server, heartbeats, limits, what breaks it.

use std::time::Duration;

use remora_bolt::Request;
use remora_protocol::FrameKind;
use remora_registry::{Registry, RegistryState};
use remora_sofaregistry::wire::{Kind, Message, PushResult};
use tokio::time::timeout;

use crate::server::{DEADLINE, Server, id, is_unregister, lines_of, message, status};
use crate::{LINE, NAME, config, instance, shows, start, start_with, target};

#[tokio::test]
async fn servers_without_weights_are_asked_the_old_way() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let _peer = server.accept().await;
    let query = "env=null&zone=DEFAULT_ZONE&dataCenter=DefaultDataCenter&appName=remora&instanceId=null";
    let expected = [
        format!("GET /api/servers/queryWithWeight?{query} HTTP/1.1"),
        format!("GET /api/servers/query?{query} HTTP/1.1"),
    ];
    assert_eq!(server.asked(), expected);
    let mut state = registry.state();
    timeout(DEADLINE, state.wait_for(RegistryState::is_up))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn one_endpoint_that_answers_is_enough() {
    let (down, server) = (Server::start().await, Server::start().await);
    down.answer("/api/servers/query", 500, "no");
    let _registry = start(&[&down, &server]);
    let _peer = server.accept().await;
}

#[tokio::test]
async fn the_state_names_the_endpoint_that_lists_nobody() {
    let server = Server::start().await;
    server.names(&[]);
    let registry = start(&[&server]);
    let mut state = registry.state();
    let is_down = |s: &RegistryState| matches!(s, RegistryState::Down { .. });
    let seen = timeout(DEADLINE, state.wait_for(is_down))
        .await
        .unwrap()
        .unwrap()
        .clone();
    let RegistryState::Down { cause, .. } = seen else {
        unreachable!()
    };
    let expected = format!("{} names no session server for zone DEFAULT_ZONE", server.endpoint());
    assert_eq!(&*cause, expected);
    // It comes up later.
    server.names(&[&server.address()]);
    let _peer = server.accept().await;
    timeout(DEADLINE, state.wait_for(RegistryState::is_up))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn another_server_of_the_last_list_is_taken_at_once() {
    let (mut one, mut other) = (Server::start().await, Server::start().await);
    // Connection counts say which one is taken first, most of the time; the test may not depend on it.
    let list = format!("{};{}", one.address(), other.address());
    for server in [&one, &other] {
        server.answer("/api/servers/query", 200, &list);
    }
    let registry = start(&[&one, &other]);
    let mut list = registry.follow(target(NAME));
    let (peer, is_one) = tokio::select! {
        peer = one.accept() => (peer, true),
        peer = other.accept() => (peer, false),
    };
    // It goes, and nobody gives a list any more.
    let rest = if is_one {
        one.away();
        other.answer("/api/servers/query", 500, "");
        other
    } else {
        other.away();
        one.answer("/api/servers/query", 500, "");
        one
    };
    drop(peer);
    let mut peer = rest.accept().await;
    let subscriber = peer.subscribed().await;
    peer.push_lines(&subscriber, 1, &[LINE]).await;
    shows(&mut list, &["10.0.0.5"]).await;
}

#[tokio::test]
async fn a_server_that_takes_connections_and_says_nothing_is_none() {
    let (hung, server) = (Server::start().await, Server::start().await);
    hung.names(&[&hung.address()]);
    let mut config = config();
    config.connection.connect_timeout = Duration::from_millis(500);
    let registry = start_with(&[&hung], config);
    let peer = hung.accept_only().await;
    let mut state = registry.state();
    let is_down = |s: &RegistryState| matches!(s, RegistryState::Down { .. });
    let seen = timeout(DEADLINE, state.wait_for(is_down))
        .await
        .unwrap()
        .unwrap()
        .clone();
    let RegistryState::Down { cause, .. } = seen else {
        unreachable!()
    };
    assert!(cause.ends_with("it gave no answer within 500ms"), "{cause}");
    peer.ended().await;
    // Another one is named.
    hung.names(&[&hung.address(), &server.address()]);
    let _peer = server.accept().await;
    timeout(DEADLINE, state.wait_for(RegistryState::is_up))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn servers_that_are_named_after_the_last_ones_went_are_found() {
    let mut server = Server::start().await;
    let registry = start(&[&server]);
    let mut peer = server.accept().await;
    peer.heartbeat().await;
    server.away();
    drop(peer);
    let mut state = registry.state();
    timeout(DEADLINE, state.wait_for(|s| !s.is_up()))
        .await
        .unwrap()
        .unwrap();
    server.back().await;
    let _peer = server.accept().await;
}

#[tokio::test]
async fn heartbeats_go_both_ways() {
    let server = Server::start().await;
    let mut config = config();
    config.connection.heartbeat_idle = Duration::from_millis(50);
    let _registry = start_with(&[&server], config);
    let mut peer = server.accept().await;
    for _ in 0..3 {
        let probe = peer.frame().await;
        assert_eq!(probe.kind, FrameKind::Heartbeat);
        peer.send(&remora_bolt::heartbeat_ack(remora_bolt::frame::Version::V1, id(&probe)))
            .await;
    }
    peer.send(&remora_bolt::heartbeat(remora_bolt::frame::Version::V1, 77))
        .await;
    loop {
        let frame = peer.frame().await;
        if frame.kind == FrameKind::HeartbeatReply {
            assert_eq!(id(&frame), 77);
            return;
        }
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let server = Server::start().await;
    let mut config = config();
    config.connection.heartbeat_idle = Duration::from_millis(50);
    config.connection.heartbeat_timeout = Duration::from_millis(50);
    let _registry = start_with(&[&server], config);
    server.accept().await.ended().await;
    let _peer = server.accept().await;
}

#[tokio::test]
async fn garbage_ends_the_connection_and_the_next_one_is_made() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let mut list = registry.follow(target(NAME));
    let mut peer = server.accept().await;
    peer.subscribed().await;
    peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    peer.ended().await;
    let mut peer = server.accept().await;
    let subscriber = peer.subscribed().await;
    peer.push_lines(&subscriber, 1, &[LINE]).await;
    shows(&mut list, &["10.0.0.5"]).await;
}

#[tokio::test]
async fn a_push_may_come_in_any_pieces() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let mut list = registry.follow(target(NAME));
    let mut peer = server.accept().await;
    let subscriber = peer.subscribed().await;
    let push = lines_of(&subscriber, "DefaultDataCenter", 1, &[LINE]);
    let request = Request {
        id: 9,
        class: push.class(),
        content: &push.encode(),
        ..Request::default()
    };
    for byte in request.to_frame().unwrap().iter() {
        peer.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    let answer = peer.frame().await;
    assert_eq!(
        (id(&answer), message(&answer)),
        (9, Message::PushResult(PushResult::taken()))
    );
    shows(&mut list, &["10.0.0.5"]).await;
}

#[tokio::test]
async fn a_push_over_the_limit_is_refused_and_the_connection_goes_on() {
    let server = Server::start().await;
    let mut config = config();
    config.connection.limits.max_content_bytes = 20_000;
    let registry = start_with(&[&server], config);
    let mut list = registry.follow(target(NAME));
    let mut peer = server.accept().await;
    let subscriber = peer.subscribed().await;
    let long = "x".repeat(200_000);
    let push = lines_of(&subscriber, "DefaultDataCenter", 1, &[&long]);
    let Message::PushResult(answer) = message(&peer.push_frame(&push).await) else {
        panic!("no result");
    };
    assert!(!answer.success && answer.message.unwrap().contains("over the limit of 20000"));
    peer.push_lines(&subscriber, 2, &[LINE]).await;
    shows(&mut list, &["10.0.0.5"]).await;
}

#[tokio::test]
async fn a_push_that_cannot_be_read_is_refused_and_the_list_stands() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let mut list = registry.follow(target(NAME));
    let mut peer = server.accept().await;
    let subscriber = peer.subscribed().await;
    peer.push_lines(&subscriber, 1, &[LINE]).await;
    shows(&mut list, &["10.0.0.5"]).await;
    let answer = peer.push_content(Kind::ReceivedData.class(), b"O\xff\xff").await;
    let Message::PushResult(answer) = message(&answer) else {
        panic!("no result");
    };
    assert!(!answer.success && answer.message.is_some());
    let answer = peer.push_content("com.example.Unknown", b"N").await;
    assert_eq!(status(&answer), remora_bolt::status::NO_PROCESSOR);
    peer.heartbeat().await;
    assert!(!list.has_changed().unwrap());
}

#[tokio::test]
async fn pushes_are_answered_while_requests_wait() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let mut list = registry.follow(target(NAME));
    let mut peer = server.accept().await;
    let subscriber = peer.subscribed().await;
    let (place, published) = (target(NAME), instance(LINE));
    let publish = registry.publish(&place, &published);
    let conversation = async {
        let (id, publisher) = peer.publisher().await;
        peer.push_lines(&subscriber, 1, &[LINE]).await;
        peer.acknowledge(id, &publisher.base).await;
        publisher
    };
    let (published, publisher) = tokio::join!(publish, conversation);
    published.unwrap();
    assert!(!is_unregister(&publisher.base));
    shows(&mut list, &["10.0.0.5"]).await;
}
