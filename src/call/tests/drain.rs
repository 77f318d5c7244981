// SPDX-License-Identifier: Apache-2.0
//! Stopping.

use remora_protocol::FrameKind;
use tokio::net::TcpStream;

use super::peers::{Path, Peer, Provider, soon, text};
use super::wire::{reply, request, status};
use crate::call::Config;

#[tokio::test]
async fn calls_in_flight_finish_and_then_all_is_closed() {
    let mut path = Path::with_workers(Config::default(), 2);
    let app = Provider::new().await;
    let ingress = path.open_ingress(Some(app.addr)).await;
    path.route(&[("svc", &[app.addr])]);
    let mut remote = Peer::connect(ingress).await;
    remote.send(&request(1, "svc", b"")).await;
    let mut from_ingress = app.accept().await;
    let in_flight = from_ingress.expect(FrameKind::Request).await;
    let mut consumer = Peer::connect(path.egress).await;
    consumer.send(&request(1, "svc", b"")).await;
    let mut from_egress = app.accept().await;
    let of_consumer = from_egress.expect(FrameKind::Request).await;

    path.drain.cancel();
    remote.expect(FrameKind::GoAway).await;
    // A request that was on its way when the peer was told is served.
    remote.send(&request(2, "svc", b"")).await;
    let on_its_way = from_ingress.expect(FrameKind::Request).await;
    from_ingress.send(&reply(&in_flight, b"first")).await;
    from_ingress.send(&reply(&on_its_way, b"second")).await;
    from_egress.send(&reply(&of_consumer, b"third")).await;
    assert_eq!(remote.expect(FrameKind::Reply).await.body(), b"first");
    assert_eq!(remote.expect(FrameKind::Reply).await.body(), b"second");
    assert!(remote.next().await.is_none());
    // The application's own consumer is told only at the end.
    assert_eq!(consumer.expect(FrameKind::Reply).await.body(), b"third");
    consumer.expect(FrameKind::GoAway).await;
    assert!(consumer.next().await.is_none());
    soon("drained", path.handle.take().unwrap().join()).await;
    assert!(TcpStream::connect(path.egress).await.is_err());
    assert_eq!(path.sum(|s| s.closed("drained")), 4);
}

#[tokio::test]
async fn a_call_that_does_not_finish_is_answered_at_the_deadline() {
    let mut path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(1, "svc", b"")).await;
    let mut upstream = provider.accept().await;
    upstream.expect(FrameKind::Request).await;
    path.drain.cancel();
    let answer = client.expect(FrameKind::Reply).await;
    assert_eq!(status(&answer), 2);
    assert!(text(&answer).contains("Remora stopped before"), "{}", text(&answer));
    client.expect(FrameKind::GoAway).await;
    assert!(client.next().await.is_none());
    soon("drained", path.handle.take().unwrap().join()).await;
}
