// SPDX-License-Identifier: Apache-2.0
//! Many connections at an ingress: nobody is locked out by those who say nothing.

use std::net::SocketAddr;

use remora_protocol::FrameKind;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::peers::{Path, Peer, Provider, soon, until};
use super::wire::{frame, request};
use crate::call::Config;
use crate::metrics::call::{Refused, Side};

/// Connects so many times to the only ingress and says nothing; gives them when all of them were served.
async fn silent(path: &Path, to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let came =
        || path.sum(|s| u64::from(s.side() == Side::Ingress) * (s.downstream_connections() + s.closed("made_way")));
    let mut all = Vec::new();
    for n in 1..=count as u64 {
        all.push(soon("connect", TcpStream::connect(to)).await.unwrap());
        until("it is served", || came() >= n).await;
    }
    until("all are served", || came() == count as u64).await;
    all
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(soon("its end", stream.read(&mut [0])).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn silent_callers_of_the_ingress_lock_nobody_out() {
    for workers in [1, 2] {
        let config = Config {
            max_connections: 20,
            ingress_percent: 50,
            ..Config::default()
        };
        let path = Path::with_workers(config, workers);
        let echo = Provider::new().await.echo();
        path.route(&[("svc", &[echo])]);
        let ingress = path.open_ingress(Some(echo)).await;
        let mut crowd = silent(&path, ingress, 30).await;
        until("the share holds ten", || path.sum(|s| s.closed("made_way")) == 20).await;
        // The oldest ones.
        assert!(is_closed(&mut crowd[0]).await);
        // The application here calls out, and is called by others.
        for to in [path.egress, ingress] {
            let mut client = Peer::connect(to).await;
            assert_eq!(client.call(&request(1, "svc", b"in")).await.body(), b"in");
        }
    }
}

#[tokio::test]
async fn who_has_spoken_makes_way_for_nobody() {
    let path = Path::start(Config {
        max_connections: 4,
        ingress_percent: 50,
        ..Config::default()
    });
    let ingress = path.open_ingress(None).await;
    let mut speakers = Vec::new();
    for id in 0..2 {
        let mut client = Peer::connect(ingress).await;
        client.send(&frame(FrameKind::Heartbeat, 0, id, b"")).await;
        client.expect(FrameKind::HeartbeatReply).await;
        speakers.push(client);
    }
    let mut third = soon("connect", TcpStream::connect(ingress)).await.unwrap();
    assert!(is_closed(&mut third).await);
    assert_eq!(path.sum(|s| s.refused(Refused::IngressShare)), 1);
    for client in &mut speakers {
        client.send(&frame(FrameKind::Heartbeat, 0, 7, b"")).await;
        client.expect(FrameKind::HeartbeatReply).await;
    }
    // A place that was given back is another one's.
    speakers.pop();
    until("gone", || path.sum(|s| s.closed("peer_closed")) == 1).await;
    let mut next = Peer::connect(ingress).await;
    next.send(&frame(FrameKind::Heartbeat, 0, 8, b"")).await;
    next.expect(FrameKind::HeartbeatReply).await;
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_so_many_silent_ones() {
    let path = Path::start(Config {
        max_connections_per_address: 4,
        max_silent_per_address: 3,
        ..Config::default()
    });
    let ingress = path.open_ingress(None).await;
    let mut crowd = silent(&path, ingress, 4).await;
    until("one made way", || path.sum(|s| s.closed("made_way")) == 1).await;
    assert!(is_closed(&mut crowd.remove(0)).await);
    drop(crowd);
    until("gone", || path.sum(|s| s.closed("peer_closed")) == 3).await;
    let mut speakers = Vec::new();
    for id in 0..4 {
        let mut client = Peer::connect(ingress).await;
        client.send(&frame(FrameKind::Heartbeat, 0, id, b"")).await;
        client.expect(FrameKind::HeartbeatReply).await;
        speakers.push(client);
    }
    let mut fifth = soon("connect", TcpStream::connect(ingress)).await.unwrap();
    assert!(is_closed(&mut fifth).await);
    assert_eq!(path.sum(|s| s.refused(Refused::PerAddress)), 1);
}
