// SPDX-License-Identifier: Apache-2.0
//! Instances that fail, peers that talk nonsense.

use remora_protocol::{BytesMut, Decoded, FrameKind, Protocol};
use tokio::io::AsyncWriteExt;

use super::peers::{Path, Peer, Provider, dead_port, ms, soon, text, until};
use super::wire::{HEAD, Mini, frame, payload, reply, request, status};
use crate::call::Config;
use crate::metrics::call::{CallEnd, Dropped, Ejected};

#[tokio::test]
async fn a_refused_connection_is_tried_on_another_instance() {
    let path = Path::start(Config::default());
    let alive = Provider::new().await.echo();
    path.route(&[("svc", &[dead_port(), alive, dead_port()])]);
    let mut client = Peer::connect(path.egress).await;
    for id in 0..50 {
        assert_eq!(client.call(&request(id, "svc", b"ok")).await.body(), b"ok");
    }
    assert!(
        path.sum(|s| s.retries.get()) <= 3,
        "dead ones are left alone after the first try"
    );
    assert_eq!(path.sum(|s| s.calls(CallEnd::Ok)), 50);
}

#[tokio::test]
async fn when_all_are_unreachable_the_reply_says_what_was_tried() {
    let path = Path::start(Config::default());
    let (one, two) = (dead_port(), dead_port());
    path.route(&[("demo.EchoService:1.0.0", &[one, two])]);
    let mut client = Peer::connect(path.egress).await;
    for id in 0..3 {
        let answer = client
            .call(&request(id, "service=demo.EchoService;version=1.0.0", b""))
            .await;
        let said = text(&answer);
        assert_eq!(status(&answer), 3, "nothing was sent");
        let start = "remora egress: no instance of demo.EchoService:1.0.0 is reachable (2 tried: 127.0.0.1:";
        assert!(said.starts_with(start), "{said}");
        for addr in [one, two] {
            assert!(said.contains(&format!("{addr} connection refused")), "{said}");
        }
    }
    assert_eq!(path.sum(|s| s.in_flight()), 0);
}

#[tokio::test]
async fn an_instance_that_comes_back_is_used_again() {
    let path = Path::start(Config {
        eject_min: ms(1),
        eject_max: ms(1),
        ..Config::default()
    });
    let dead = dead_port();
    path.route(&[("svc", &[dead])]);
    let mut client = Peer::connect(path.egress).await;
    client.call(&request(0, "svc", b"")).await;
    assert_eq!(path.sum(|s| s.ejections(Ejected::Unreachable)), 1);
    let listener = tokio::net::TcpListener::bind(dead).await.unwrap();
    // No call is needed: it is probed in the background.
    let mut upstream = Peer::new(soon("probe", listener.accept()).await.unwrap().0);
    client.send(&request(1, "svc", b"")).await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&got, b"back")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"back");
}

#[tokio::test]
async fn calls_in_flight_are_answered_when_their_upstream_closes() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    for id in 0..3 {
        client.send(&request(id, "svc", b"")).await;
    }
    let mut upstream = provider.accept().await;
    for _ in 0..3 {
        upstream.expect(FrameKind::Request).await;
    }
    drop(upstream);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer = client.expect(FrameKind::Reply).await;
        assert_eq!(status(&answer), 2, "something was sent");
        assert!(
            text(&answer).contains("closed the connection (peer_closed) while the call to svc"),
            "{}",
            text(&answer)
        );
        ids.push(answer.stream_id.0);
    }
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2]);
    assert_eq!(
        path.sum(|s| s.retries.get()),
        0,
        "a call that may have run is never repeated"
    );
    // The next call opens a new connection.
    client.send(&request(9, "svc", b"")).await;
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&got, b"again")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"again");
}

#[tokio::test]
async fn a_caller_that_is_gone_is_not_waited_for_as_long_as_its_frame_says() {
    let path = Path::start(Config {
        default_timeout: ms(50),
        heartbeat_interval: ms(100),
        heartbeat_timeout: ms(50),
        heartbeat_misses: 1000,
        ..Config::default()
    });
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(1, "service=svc;timeout=3600000", b"")).await;
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    assert_eq!(path.sum(|s| s.in_flight()), 1);
    drop(client);
    until("it is given up", || path.sum(|s| s.in_flight()) == 0).await;
    upstream.send(&reply(&got, b"late")).await;
    until("the late reply is dropped", || {
        path.sum(|s| s.dropped(Dropped::UnknownReply)) == 1
    })
    .await;
}

#[tokio::test]
async fn nothing_sent_from_a_remote_remora_is_tried_elsewhere() {
    let path = Path::start(Config::default());
    let refusing = Provider::new().await;
    let alive = Provider::new().await;
    path.route(&[("svc", &[refusing.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(1, "svc", b"payload")).await;
    let mut remote = refusing.accept().await;
    let got = remote.expect(FrameKind::Request).await;
    remote
        .send(&frame(
            FrameKind::Reply,
            3,
            got.stream_id.0,
            b"remora ingress: no application",
        ))
        .await;
    let answer = client.expect(FrameKind::Reply).await;
    assert_eq!(
        text(&answer),
        "remora ingress: no application",
        "nobody else: its own words reach the caller"
    );

    path.route(&[("svc", &[refusing.addr, alive.addr])]);
    // It is left alone for a while, so the other is asked first; make that one refuse, then the first takes it.
    client.send(&request(2, "svc", b"payload")).await;
    let mut other = alive.accept().await;
    let got = other.expect(FrameKind::Request).await;
    other
        .send(&frame(FrameKind::Reply, 3, got.stream_id.0, b"neither"))
        .await;
    let got = remote.expect(FrameKind::Request).await;
    assert_eq!(payload(&got), b"payload");
    remote.send(&reply(&got, b"mine")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"mine");
    assert_eq!(path.sum(|s| s.retries.get()), 1);
}

#[tokio::test]
async fn a_request_over_the_limit_is_answered_and_the_connection_goes_on() {
    let path = Path::start(Config {
        max_frame: crate::config::ByteSize(2000),
        ..Config::default()
    });
    path.route(&[("svc", &[Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    let long = request(1, "svc", &vec![b'x'; 300_000]);
    client.stream.write_all(&long.wire[..HEAD]).await.unwrap();
    let answer = client.expect(FrameKind::Reply).await;
    assert_eq!(
        (answer.stream_id.0, status(&answer)),
        (1, 3),
        "answered from the head alone"
    );
    assert!(
        text(&answer).contains("over call.max_frame = 2000"),
        "{}",
        text(&answer)
    );
    client.stream.write_all(&long.wire[HEAD..]).await.unwrap();
    assert_eq!(client.call(&request(2, "svc", b"short")).await.body(), b"short");
}

#[tokio::test]
async fn a_reply_over_the_limit_is_answered_as_sent() {
    let path = Path::start(Config {
        max_frame: crate::config::ByteSize(2000),
        ..Config::default()
    });
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(1, "svc", b"")).await;
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&got, &vec![b'x'; 100_000])).await;
    let answer = client.expect(FrameKind::Reply).await;
    assert_eq!(status(&answer), 2, "the call has run: no one may repeat it");
    client.send(&request(2, "svc", b"")).await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&got, b"short")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"short");
}

#[tokio::test]
async fn another_protocol_is_closed_and_counted() {
    let path = Path::start(Config::default());
    let mut client = Peer::connect(path.egress).await;
    client.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(client.next().await.is_none());
    until("counted", || path.sum(|s| s.closed("not_the_protocol")) == 1).await;
}

#[tokio::test]
async fn a_malformed_frame_closes_its_connection_only() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    let mut bystander = Peer::connect(path.egress).await;
    client.send(&request(1, "svc", b"")).await;
    let mut upstream = provider.accept().await;
    upstream.expect(FrameKind::Request).await;
    client.stream.write_all(b"garbage after a frame").await.unwrap();
    assert!(client.next().await.is_none());
    until("counted", || path.sum(|s| s.closed("bad_frame")) == 1).await;
    bystander.send(&request(1, "svc", b"")).await;
    let got = upstream.expect(FrameKind::Request).await;
    // And from the other side: the call in flight is answered.
    upstream.stream.write_all(b"garbage").await.unwrap();
    upstream.stream.write_all(&[0; HEAD]).await.unwrap();
    let answer = bystander.expect(FrameKind::Reply).await;
    assert!(text(&answer).contains("(bad_frame)"), "{}", text(&answer));
    let mut raw = BytesMut::from(&got.wire[..]);
    assert!(matches!(Mini.decode(&mut raw, 1 << 20), Ok(Decoded::Frame(_))));
    assert_eq!(path.sum(|s| s.dropped(Dropped::UnknownReply)), 0);
}
