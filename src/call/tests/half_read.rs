// SPDX-License-Identifier: Apache-2.0
//! Frames that begin on many connections and do not end, or not soon.

use std::net::SocketAddr;

use remora_protocol::FrameKind;
use tokio::io::AsyncWriteExt;

use super::peers::{Path, Peer, Provider, soon, until};
use super::wire::request;
use crate::call::Config;
use crate::config::ByteSize;

const MIB: usize = 1 << 20;

fn config() -> Config {
    Config {
        half_read_cap: ByteSize(MIB as u64),
        ..Config::default()
    }
}

/// A path whose ingress leads to an echo.
async fn ingress(workers: usize) -> (Path, SocketAddr) {
    let path = Path::with_workers(config(), workers);
    let echo = Provider::new().await.echo();
    path.route(&[("svc", &[echo])]);
    let ingress = path.open_ingress(Some(echo)).await;
    (path, ingress)
}

/// Sends the beginning of a request with a body of so many bytes.
async fn begin(to: SocketAddr, whole: usize, part: usize) -> (Peer, Vec<u8>) {
    let mut peer = Peer::connect(to).await;
    let wire = request(1, "svc", &vec![b'x'; whole]).wire;
    peer.stream.write_all(&wire[..part]).await.unwrap();
    (peer, wire[part..].to_vec())
}

#[tokio::test]
async fn however_many_are_half_way_all_come_to_their_end() {
    for workers in [1, 2] {
        let (path, ingress) = ingress(workers).await;
        let mut all = Vec::new();
        // Half of each would be three times what there is room for.
        for _ in 0..6 {
            let (mut peer, rest) = begin(ingress, MIB, 100_000).await;
            let going_on = tokio::spawn(async move {
                peer.stream.write_all(&rest).await.unwrap();
                peer
            });
            all.push(going_on);
        }
        for going_on in all {
            let mut peer = soon("all is taken", going_on).await.unwrap();
            assert!(peer.expect(FrameKind::Reply).await.body().len() >= MIB);
        }
        assert_eq!(path.sum(|s| s.closed("half_read")), 0, "nobody was slow");
        assert_eq!(path.sum(|s| s.half_read.get()), 0);
    }
}

#[tokio::test]
async fn who_stops_half_way_gives_way_and_whoever_goes_on_is_served() {
    let (path, ingress) = ingress(1).await;
    let mut stopped = Vec::new();
    for _ in 0..3 {
        stopped.push(begin(ingress, MIB, 400_000).await);
    }
    until("there is no room", || path.sum(|s| s.half_read.get()) > MIB as u64).await;
    let (mut peer, rest) = begin(ingress, 3 * MIB, 100_000).await;
    // The application here is not concerned.
    let (mut local, local_rest) = begin(path.egress, 3 * MIB, 100_000).await;
    local.stream.write_all(&local_rest).await.unwrap();
    local.expect(FrameKind::Reply).await;
    soon("all is taken", peer.stream.write_all(&rest)).await.unwrap();
    assert!(peer.expect(FrameKind::Reply).await.body().len() >= 3 * MIB);
    // As many as it takes.
    until("there is room again", || path.sum(|s| s.half_read.get()) <= MIB as u64).await;
    until("one is closed", || path.sum(|s| s.closed("half_read")) >= 1).await;
    let ends = stopped
        .into_iter()
        .map(|(mut peer, _)| tokio::spawn(async move { peer.next().await.is_none() }));
    let ends: Vec<_> = ends.collect();
    until("one sees its end", || ends.iter().any(|end| end.is_finished())).await;
}

#[tokio::test]
async fn beginnings_take_no_more_than_twice_the_room() {
    let (path, ingress) = ingress(1).await;
    let mut all = Vec::new();
    for n in 0..100 {
        all.push(begin(ingress, MIB, 40_000).await);
        until("it is read", || path.sum(|s| s.bytes_in.get()) >= (n + 1) * 40_000).await;
        let held = path.sum(|s| s.half_read.get());
        assert!(held <= 2 * MIB as u64 + 40_000, "{held} bytes are held");
    }
    until("they are closed", || path.sum(|s| s.closed("half_read")) >= 40).await;
    // Short calls take no part.
    let mut client = Peer::connect(ingress).await;
    assert_eq!(client.call(&request(1, "svc", b"short")).await.body(), b"short");
}
