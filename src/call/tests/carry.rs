// SPDX-License-Identifier: Apache-2.0
//! Calls reach their instance, replies their caller.

use remora_protocol::FrameKind;
use tokio::io::AsyncWriteExt;

use super::peers::{Path, Peer, Provider, ms, soon, text, until};
use super::wire::{frame, oneway, payload, reply, request};
use crate::call::{Config, ConnectionView};
use crate::metrics::call::{CallEnd, Dropped};

#[tokio::test]
async fn a_reply_comes_back_under_the_callers_id() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    let sent = request(u64::MAX - 5, "svc", b"hello");
    client.send(&sent).await;
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    assert_eq!(got.body(), sent.body(), "the body is untouched");
    upstream.send(&reply(&got, b"world")).await;
    let answer = client.expect(FrameKind::Reply).await;
    assert_eq!((answer.stream_id, answer.body()), (sent.stream_id, &b"world"[..]));
    until("counted", || path.sum(|s| s.calls(CallEnd::Ok)) == 1).await;
    assert_eq!(path.sum(|s| s.in_flight()), 0);
}

#[tokio::test]
async fn two_callers_with_the_same_id_get_each_their_own_reply() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut one = Peer::connect(path.egress).await;
    let mut two = Peer::connect(path.egress).await;
    one.send(&request(0, "svc", b"one")).await;
    let mut upstream = provider.accept().await;
    let first = upstream.expect(FrameKind::Request).await;
    two.send(&request(0, "svc", b"two")).await;
    let second = upstream.expect(FrameKind::Request).await;
    assert_ne!(first.stream_id, second.stream_id);
    // Answered the other way round.
    upstream.send(&reply(&second, payload(&second))).await;
    upstream.send(&reply(&first, payload(&first))).await;
    assert_eq!(two.expect(FrameKind::Reply).await.body(), b"two");
    assert_eq!(one.expect(FrameKind::Reply).await.body(), b"one");
}

#[tokio::test]
async fn many_callers_share_few_connections_and_nobody_gets_anothers_reply() {
    let path = Path::with_workers(Config::default(), 2);
    path.route(&[("svc", &[Provider::new().await.echo(), Provider::new().await.echo()])]);
    let mut clients = Vec::new();
    for number in 0..40u64 {
        let egress = path.egress;
        clients.push(tokio::spawn(async move {
            let mut client = Peer::connect(egress).await;
            for round in 0..20u64 {
                for id in 0..8 {
                    let size = (number * 31 + id * 977 + round * 4099) as usize % 9000;
                    let mut body = format!("{number}/{round}/{id}/").into_bytes();
                    body.resize(body.len() + size, b'x');
                    client.send(&request(id, "svc", &body)).await;
                }
                let mut seen = [false; 8];
                for _ in 0..8 {
                    let answer = client.expect(FrameKind::Reply).await;
                    let id = answer.stream_id.0;
                    let expected = format!("{number}/{round}/{id}/");
                    assert!(answer.body().starts_with(expected.as_bytes()), "{}", text(&answer));
                    assert!(!std::mem::replace(&mut seen[id as usize], true), "twice");
                }
            }
        }));
    }
    for client in clients {
        soon("a client", client).await.unwrap();
    }
    assert_eq!(path.sum(|s| s.calls(CallEnd::Ok)), 40 * 20 * 8);
    let view = path.connections().await;
    let upstream = view.iter().filter(|c| c.direction == "upstream").count();
    assert!(upstream <= 16, "{upstream} upstream connections");
    assert_eq!(view.iter().map(|c| c.in_flight).sum::<usize>(), 0);
}

#[tokio::test]
async fn long_frames_pass_whole_in_both_directions() {
    let path = Path::start(Config::default());
    path.route(&[("svc", &[Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    for size in [4000, 5000, 65_536, 70_000, 1 << 20, 8 << 20] {
        let body: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let answer = client.call(&request(size as u64, "svc", &body)).await;
        assert!(answer.body() == body, "{size} bytes");
    }
}

#[tokio::test]
async fn frames_cut_at_every_byte_arrive_whole() {
    let path = Path::start(Config::default());
    path.route(&[("svc", &[Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    let sent = request(7, "svc", b"payload");
    for cut in 1..sent.wire.len() {
        client.stream.write_all(&sent.wire[..cut]).await.unwrap();
        tokio::task::yield_now().await;
        client.stream.write_all(&sent.wire[cut..]).await.unwrap();
        assert_eq!(client.expect(FrameKind::Reply).await.body(), b"payload", "cut at {cut}");
    }
}

#[tokio::test]
async fn oneway_leaves_no_entry_and_gets_no_reply() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    // The first waits for the connection, the second does not.
    for number in 0..2u8 {
        client.send(&oneway(3, "svc", &[number])).await;
    }
    let mut upstream = provider.accept().await;
    for number in 0..2u8 {
        let got = upstream.expect(FrameKind::Oneway).await;
        assert_eq!(payload(&got), [number]);
        // A provider that answers it all the same is not heard.
        upstream.send(&reply(&got, b"unasked")).await;
    }
    until("dropped", || path.sum(|s| s.dropped(Dropped::UnknownReply)) == 2).await;
    assert_eq!(path.sum(|s| s.calls(CallEnd::Oneway)), 2);
    assert!(path.connections().await.iter().all(|c| c.in_flight == 0));
    // And nothing reached the client: its next frame is the reply to its next call.
    client.send(&request(3, "svc", b"now")).await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&got, b"asked")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"asked");
}

#[tokio::test]
async fn late_repeated_and_invented_replies_reach_nobody() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(1, "svc", b"")).await;
    let mut upstream = provider.accept().await;
    let first = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&first, b"")).await;
    client.expect(FrameKind::Reply).await;
    client.send(&request(1, "service=svc;timeout=1", b"")).await;
    let late = upstream.expect(FrameKind::Request).await;
    let timed_out = client.expect(FrameKind::Reply).await;
    assert!(
        text(&timed_out).contains("did not answer the call to svc within"),
        "{}",
        text(&timed_out)
    );
    // It owes an answer, so it is asked for a sign of life.
    let asked = upstream.expect(FrameKind::Heartbeat).await;
    let heard = |all: Vec<ConnectionView>| {
        all.iter()
            .filter(|c| c.direction == "upstream")
            .map(|c| c.bytes_in)
            .sum::<u64>()
    };
    let before = heard(path.connections().await);
    upstream
        .send(&frame(FrameKind::HeartbeatReply, 0, asked.stream_id.0, b""))
        .await;
    let is_heard = async { while heard(path.connections().await) == before {} };
    soon("heard", is_heard).await;

    client.send(&request(1, "svc", b"")).await;
    let second = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&late, b"late")).await;
    upstream
        .send(&frame(FrameKind::Reply, 0, 0xdead_beef, b"invented"))
        .await;
    upstream
        .send(&frame(FrameKind::HeartbeatReply, 0, second.stream_id.0, b""))
        .await;
    upstream.send(&reply(&second, b"right")).await;
    upstream.send(&reply(&second, b"repeated")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"right");
    until("three dropped", || path.sum(|s| s.dropped(Dropped::UnknownReply)) == 3).await;
    assert_eq!(path.sum(|s| s.local_replies("timeout")), 1);
}

#[tokio::test]
async fn a_reply_for_a_caller_that_left_is_dropped() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut leaver = Peer::connect(path.egress).await;
    leaver.send(&request(0, "svc", b"")).await;
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    // A reset, so that it counts as gone and not as half closed.
    socket2::SockRef::from(&leaver.stream)
        .set_linger(Some(ms(0).0))
        .unwrap();
    drop(leaver);
    until("closed", || path.sum(|s| s.downstream_connections()) == 0).await;
    let mut other = Peer::connect(path.egress).await;
    other.send(&request(0, "svc", b"")).await;
    let second = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&got, b"for the leaver")).await;
    upstream.send(&reply(&second, b"for the other")).await;
    assert_eq!(other.expect(FrameKind::Reply).await.body(), b"for the other");
    until("dropped", || path.sum(|s| s.dropped(Dropped::CallerGone)) == 1).await;
    assert_eq!(path.sum(|s| s.calls(CallEnd::Abandoned)), 1);
}

#[tokio::test]
async fn a_caller_that_closed_its_half_still_gets_its_reply() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(4, "svc", b"")).await;
    client.stream.shutdown().await.unwrap();
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&got, b"still")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"still");
    assert!(client.next().await.is_none(), "then closed");
}

#[tokio::test]
async fn the_next_connection_is_opened_when_one_is_full() {
    let path = Path::start(Config {
        max_streams: 2,
        max_connections_per_instance: 2,
        max_in_flight_per_connection: 3,
        ..Config::default()
    });
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(0, "svc", b"")).await;
    let mut first = provider.accept().await;
    first.expect(FrameKind::Request).await;
    client.send(&request(1, "svc", b"")).await;
    first.expect(FrameKind::Request).await;
    // The third goes out at once on the full one, while the second connection is being opened for those after it.
    client.send(&request(2, "svc", b"")).await;
    first.expect(FrameKind::Request).await;
    let mut second = provider.accept().await;
    until("connected", || path.sum(|s| s.upstream_connections()) == 2).await;
    for id in 3..6 {
        client.send(&request(id, "svc", b"")).await;
        second.expect(FrameKind::Request).await;
    }
    let refused = client.call(&request(6, "svc", b"")).await;
    assert!(
        text(&refused).contains("svc has 3 calls in flight on every connection"),
        "{}",
        text(&refused)
    );
}
