// SPDX-License-Identifier: Apache-2.0
//! Heartbeats, goaway, idle connections, instances that leave the list.

use std::sync::atomic::Ordering;
use std::time::Duration;

use remora_protocol::FrameKind;

use super::peers::{Path, Peer, Provider, ms, soon, text, until};
use super::wire::{STUCK, frame, reply, request};
use crate::call::Config;

#[tokio::test]
async fn each_side_s_heartbeats_are_answered_here() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&frame(FrameKind::Heartbeat, 0, 42, b"")).await;
    assert_eq!(client.expect(FrameKind::HeartbeatReply).await.stream_id.0, 42);
    client.send(&request(1, "svc", b"")).await;
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    // Under the id of a call in flight: an event never meets the table.
    upstream
        .send(&frame(FrameKind::Heartbeat, 0, got.stream_id.0, b""))
        .await;
    assert_eq!(
        upstream.expect(FrameKind::HeartbeatReply).await.stream_id,
        got.stream_id
    );
    upstream.send(&reply(&got, b"ok")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"ok");
}

#[tokio::test]
async fn a_silent_peer_is_probed_and_closed_if_it_stays_silent() {
    let path = Path::start(Config {
        heartbeat_interval: ms(100),
        heartbeat_timeout: ms(100),
        heartbeat_misses: 2,
        // Asked for that reason it would hear one heartbeat more.
        doubt_after: ms(60_000),
        ..Config::default()
    });
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(1, "svc", b"")).await;
    let mut upstream = provider.accept().await;
    upstream.expect(FrameKind::Request).await;
    // The client answers its probes, the provider none.
    let answering = tokio::spawn(async move {
        loop {
            let got = client.next().await.expect("the client stays connected");
            match got.kind {
                FrameKind::Heartbeat => {
                    client
                        .send(&frame(FrameKind::HeartbeatReply, 0, got.stream_id.0, b""))
                        .await
                }
                FrameKind::Reply => return got,
                other => panic!("{other:?}"),
            }
        }
    });
    for _ in 0..2 {
        upstream.expect(FrameKind::Heartbeat).await;
    }
    assert!(upstream.next().await.is_none());
    let answer = super::peers::soon("answer", answering).await.unwrap();
    assert!(text(&answer).contains("(heartbeat_missed)"), "{}", text(&answer));
    assert_eq!(path.sum(|s| s.closed("heartbeat_missed")), 1);
}

#[tokio::test]
async fn no_new_call_goes_to_an_instance_that_goes_away_until_it_resumes() {
    let path = Path::start(Config::default());
    let (leaving, staying) = (Provider::new().await, Provider::new().await);
    path.route(&[("svc", &[leaving.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(0, "svc", b"")).await;
    let mut upstream = leaving.accept().await;
    let in_flight = upstream.expect(FrameKind::Request).await;
    upstream.send(&frame(FrameKind::GoAway, 0, 0, b"")).await;
    path.route(&[("svc", &[leaving.addr, staying.addr])]);
    let seen = async |wanted: bool| {
        while !path
            .connections()
            .await
            .iter()
            .any(|c| c.direction == "upstream" && c.going_away == wanted)
        {}
    };
    super::peers::soon("goaway seen", seen(true)).await;
    let staying_addr = staying.addr;
    staying.echo();
    for id in 1..30 {
        assert_eq!(
            client.call(&request(id, "svc", b"stays")).await.body(),
            b"stays",
            "{staying_addr}"
        );
    }
    upstream.send(&reply(&in_flight, b"finished")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"finished");

    path.route(&[("svc", &[leaving.addr])]);
    upstream.send(&frame(FrameKind::Resume, 0, 0, b"")).await;
    client.send(&request(50, "svc", b"")).await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&got, b"resumed")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"resumed");
}

#[tokio::test]
async fn the_last_instance_is_asked_even_if_it_goes_away() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(0, "svc", b"")).await;
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&frame(FrameKind::GoAway, 0, 0, b"")).await;
    upstream.send(&reply(&got, b"")).await;
    client.expect(FrameKind::Reply).await;
    client.send(&request(1, "svc", b"")).await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&got, b"served")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"served");
}

#[tokio::test]
async fn an_instance_that_left_the_list_finishes_its_calls_and_is_closed() {
    let path = Path::start(Config::default());
    let (gone, here) = (Provider::new().await, Provider::new().await.echo());
    path.route(&[("svc", &[gone.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(0, "svc", b"")).await;
    let mut upstream = gone.accept().await;
    let in_flight = upstream.expect(FrameKind::Request).await;
    path.route(&[("svc", &[here])]);
    assert_eq!(client.call(&request(1, "svc", b"here")).await.body(), b"here");
    upstream.send(&reply(&in_flight, b"finished")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"finished");
    assert!(upstream.next().await.is_none());
    until("closed", || path.sum(|s| s.closed("retired")) == 1).await;
}

#[tokio::test]
async fn an_unused_upstream_connection_is_closed() {
    let path = Path::start(Config {
        idle_close: ms(100),
        ..Config::default()
    });
    path.route(&[("svc", &[Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    client.call(&request(0, "svc", b"")).await;
    until("closed", || path.sum(|s| s.closed("idle")) == 1).await;
    assert_eq!(client.call(&request(1, "svc", b"again")).await.body(), b"again");
}

#[tokio::test]
async fn a_worker_that_hangs_or_has_ended_is_named() {
    let mut path = Path::with_workers(Config::default(), 2);
    let handle = path.handle.take().unwrap();
    let long = Duration::from_secs(30);
    assert!(handle.silent(long).await.is_empty());

    STUCK.store(true, Ordering::Release);
    let mut client = Peer::connect(path.egress).await;
    client.send(&frame(FrameKind::Request, 0, 1, b"stuck")).await;
    let silent = soon("one worker hangs", async {
        loop {
            let silent = handle.silent(Duration::from_millis(20)).await;
            if !silent.is_empty() {
                return silent;
            }
        }
    })
    .await;
    assert_eq!(silent.len(), 1, "the other one still turns");
    STUCK.store(false, Ordering::Release);
    // It reads no service in that request, and says so.
    client.expect(FrameKind::Reply).await;
    assert!(handle.silent(long).await.is_empty());

    drop(client);
    path.drain.cancel();
    let ended = soon("both workers end", async {
        loop {
            let silent = handle.silent(long).await;
            if silent.len() == 2 {
                return silent;
            }
        }
    });
    assert_eq!(ended.await, [0, 1]);
}
