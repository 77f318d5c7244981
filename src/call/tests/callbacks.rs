// SPDX-License-Identifier: Apache-2.0
//! Requests that a provider sends to its consumer.

use remora_protocol::FrameKind;

use super::peers::{Path, Peer, Provider, text, until};
use super::wire::{frame, oneway, payload, reply, request, status};
use crate::call::Config;
use crate::metrics::call::Dropped;

#[tokio::test]
async fn a_callback_reaches_the_connection_that_registered_it() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut clients = Vec::new();
    let mut upstreams = Vec::new();
    for name in [b"one", b"two"] {
        let mut client = Peer::connect(path.egress).await;
        client.send(&request(0, "service=svc;callback=1", name)).await;
        let mut upstream = provider.accept().await;
        let got = upstream.expect(FrameKind::Request).await;
        assert_eq!(payload(&got), name);
        upstream.send(&reply(&got, name)).await;
        assert_eq!(client.expect(FrameKind::Reply).await.body(), name);
        clients.push(client);
        upstreams.push(upstream);
    }
    for (client, upstream) in clients.iter_mut().zip(&mut upstreams) {
        // The provider counts from 0 on each connection; so may the client.
        for round in 0..3u64 {
            upstream.send(&request(round, "callback", b"ping")).await;
            client.send(&request(round, "svc", b"call")).await;
            let asked = client.expect(FrameKind::Request).await;
            assert_eq!(payload(&asked), b"ping");
            let called = upstream.expect(FrameKind::Request).await;
            client.send(&reply(&asked, b"pong")).await;
            upstream.send(&reply(&called, b"done")).await;
            let answer = upstream.expect(FrameKind::Reply).await;
            assert_eq!((answer.stream_id.0, answer.body()), (round, &b"pong"[..]));
            let answer = client.expect(FrameKind::Reply).await;
            assert_eq!((answer.stream_id.0, answer.body()), (round, &b"done"[..]));
        }
        upstream.send(&oneway(9, "callback", b"note")).await;
        assert_eq!(payload(&client.expect(FrameKind::Oneway).await), b"note");
    }
    let view = path.connections().await;
    assert!(view.iter().all(|c| c.pinned && c.in_flight == 0), "{view:?}");
}

#[tokio::test]
async fn the_providers_connection_ends_with_its_owner() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(0, "service=svc;callback=1", b"")).await;
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&got, b"")).await;
    client.expect(FrameKind::Reply).await;
    upstream.send(&request(5, "callback", b"")).await;
    client.expect(FrameKind::Request).await;
    drop(client);
    // As without us: the channel closes, the provider forgets the callback.
    while let Some(frame) = upstream.next().await {
        assert_eq!(frame.kind, FrameKind::Reply);
    }
}

#[tokio::test]
async fn a_request_on_a_shared_connection_is_answered_with_an_error() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(0, "svc", b"")).await;
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&request(77, "callback", b"")).await;
    let answer = upstream.expect(FrameKind::Reply).await;
    assert_eq!((answer.stream_id.0, status(&answer)), (77, 3));
    assert!(text(&answer).contains("shared by many callers"), "{}", text(&answer));
    until("counted", || path.sum(|s| s.dropped(Dropped::UnownedRequest)) == 1).await;
    // The bystander's call is not touched.
    upstream.send(&reply(&got, b"fine")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"fine");
}

#[tokio::test]
async fn a_reply_that_nobody_asked_for_goes_nowhere() {
    let path = Path::start(Config::default());
    path.route(&[("svc", &[Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&frame(FrameKind::Reply, 0, 1, b"unasked")).await;
    assert_eq!(client.call(&request(1, "svc", b"ok")).await.body(), b"ok");
    assert_eq!(path.sum(|s| s.dropped(Dropped::UnknownReply)), 1);
}

#[tokio::test]
async fn callbacks_pass_two_hops() {
    let provider_side = Path::start(Config::default());
    let app = Provider::new().await;
    let ingress = provider_side.open_ingress(Some(app.addr)).await;
    let consumer_side = Path::start(Config::default());
    consumer_side.route(&[("svc", &[ingress])]);
    let mut client = Peer::connect(consumer_side.egress).await;
    client.send(&request(3, "service=svc;callback=1", b"")).await;
    let mut app = app.accept().await;
    let got = app.expect(FrameKind::Request).await;
    app.send(&reply(&got, b"registered")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"registered");
    app.send(&request(1, "callback", b"ping")).await;
    let asked = client.expect(FrameKind::Request).await;
    client.send(&reply(&asked, b"pong")).await;
    let answer = app.expect(FrameKind::Reply).await;
    assert_eq!((answer.stream_id.0, answer.body()), (1, &b"pong"[..]));
}
