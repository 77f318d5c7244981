// SPDX-License-Identifier: Apache-2.0
//! Bolt over the call path: versions that never share a connection, CRCs, heartbeats both ways.

use std::sync::Arc;

use remora_bolt::frame::{Parts, Version};
use remora_bolt::{Bolt, Reply, Request, heartbeat, heartbeat_ack};
use remora_protocol::{BytesMut, Decoded, Frame, FrameKind, Protocol};
use tokio::io::AsyncWriteExt;

use super::peers::{Path, Peer, Provider, ms, soon, until};
use crate::call::Config;
use crate::metrics::call::{CallEnd, Dropped};

const VERSIONS: [Version; 3] = [Version::V1, Version::V2, Version::V2Crc];
const SERVICE: &str = "demo.Echo:1.0";

fn start(config: Config) -> Path {
    Path::speaking(Arc::new(Bolt), config, 1)
}

async fn connect(path: &Path) -> Peer {
    Peer::connect_speaking(Arc::new(Bolt), path.egress).await
}

/// Accepts a connection and its first call; Remora greets, too.
async fn accept(provider: &Provider) -> (Peer, Frame) {
    let mut peer = Peer::speaking(Arc::new(Bolt), provider.accept().await.stream);
    let (mut greeting, mut call) = (None, None);
    while greeting.is_none() || call.is_none() {
        let frame = peer.next().await.expect("a frame");
        match frame.kind {
            FrameKind::Heartbeat => {
                peer.answer(&frame).await;
                greeting = Some(frame);
            }
            _ => call = Some(frame),
        }
    }
    let (greeting, call) = (greeting.expect("seen above"), call.expect("seen above"));
    assert!(Bolt.is_greeting(&greeting) && Bolt.dialect(&greeting) == Bolt.dialect(&call));
    (peer, call)
}

fn frame(wire: &[u8]) -> Frame {
    match Bolt.decode(&mut BytesMut::from(wire), 1 << 30) {
        Ok(Decoded::Frame(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

fn request_to(service: &str, version: Version, id: u32, content: &[u8]) -> Frame {
    let request = Request {
        version,
        id,
        class: "com.alipay.sofa.rpc.core.request.SofaRequest",
        header: &[("service", service), ("sofa_head_method_name", "echo")],
        content,
        with_crc: true,
        ..Request::default()
    };
    frame(&request.to_frame().unwrap())
}

fn request(version: Version, id: u32, content: &[u8]) -> Frame {
    request_to(SERVICE, version, id, content)
}

/// As a Java server answers: in the request's version, with a CRC if it had one.
fn echo(request: &Frame) -> Frame {
    let parts = Parts::of(&request.wire).unwrap();
    let reply = Reply {
        version: parts.head.version,
        id: parts.head.id,
        class: "com.alipay.sofa.rpc.core.response.SofaResponse",
        content: parts.content,
        with_crc: parts.head.has_crc,
        ..Reply::default()
    };
    frame(&reply.to_frame().unwrap())
}

fn content(frame: &Frame) -> &[u8] {
    Parts::of(&frame.wire).unwrap().content
}

/// What a caller reads in its log.
fn text(reply: &Frame) -> String {
    String::from_utf8_lossy(content(reply)).into_owned()
}

#[tokio::test]
async fn versions_have_connections_of_their_own_and_every_reply_comes_in_its_request_s() {
    let path = start(Config::default());
    let provider = Provider::new().await;
    path.route(&[(SERVICE, &[provider.addr])]);
    let mut seen = Vec::new();
    for version in VERSIONS {
        let (mut one, mut two) = (connect(&path).await, connect(&path).await);
        one.send(&request(version, 7, b"one")).await;
        let (mut upstream, first) = accept(&provider).await;
        assert_eq!(Bolt.dialect(&first), version.dialect(), "a connection of its own");
        // A second caller with the same id shares it.
        two.send(&request(version, 7, b"two")).await;
        let second = upstream.expect(FrameKind::Request).await;
        assert_ne!(first.stream_id, second.stream_id);
        upstream.send(&echo(&second)).await;
        upstream.send(&echo(&first)).await;
        for (peer, expected) in [(&mut one, b"one"), (&mut two, b"two")] {
            let reply = peer.expect(FrameKind::Reply).await;
            assert_eq!((reply.stream_id.0, content(&reply)), (7, &expected[..]));
            assert_eq!(Bolt.dialect(&reply), version.dialect());
        }
        seen.push((upstream, one, two));
    }
    assert_eq!(path.sum(|s| s.calls(CallEnd::Ok)), 6);
}

#[tokio::test]
async fn frames_of_every_length_keep_a_crc_that_fits_their_new_id() {
    let path = start(Config::default());
    let provider = Provider::new().await;
    path.route(&[(SERVICE, &[provider.addr])]);
    let addr = provider.addr;
    tokio::spawn(async move {
        loop {
            let mut peer = Peer::speaking(Arc::new(Bolt), provider.accept().await.stream);
            tokio::spawn(async move {
                // Each frame is checked against its CRC when it is cut.
                while let Some(frame) = peer.next().await {
                    if frame.kind == FrameKind::Request {
                        peer.send(&echo(&frame)).await;
                    }
                }
            });
        }
    });
    let mut client = connect(&path).await;
    for (id, len) in [0, 1, 100, 3900, 4096, 5000, 40_000, 70_000, 200_000, 1 << 20]
        .into_iter()
        .enumerate()
    {
        let sent = vec![id as u8; len];
        let reply = client
            .call(&request(Version::V2Crc, 0xffff_ff00 + id as u32, &sent))
            .await;
        assert!(Parts::of(&reply.wire).unwrap().head.has_crc);
        assert!(content(&reply) == sent, "{len} bytes to {addr}");
    }
}

#[tokio::test]
async fn a_connection_that_changes_its_version_is_closed_and_counted() {
    let path = start(Config::default());
    path.route(&[(SERVICE, &[])]);
    for (first, other) in [(0, 1), (1, 2), (2, 0)] {
        let mut client = connect(&path).await;
        client.send(&request(VERSIONS[first], 1, b"x")).await;
        client.expect(FrameKind::Reply).await;
        client.send(&request(VERSIONS[other], 2, b"x")).await;
        assert!(client.next().await.is_none());
    }
    until("counted", || path.sum(|s| s.closed("bad_frame")) == 3).await;
}

#[tokio::test]
async fn heartbeats_are_answered_and_sent_in_the_version_of_their_connection() {
    let path = start(Config {
        heartbeat_interval: ms(100),
        heartbeat_timeout: ms(5000),
        ..Config::default()
    });
    let provider = Provider::new().await;
    path.route(&[(SERVICE, &[provider.addr])]);
    for version in VERSIONS {
        let mut client = connect(&path).await;
        client.send(&frame(&heartbeat(version, 0xfedc_ba98))).await;
        assert_eq!(client.next().await.unwrap().wire, heartbeat_ack(version, 0xfedc_ba98));
        client.send(&request(version, 1, b"x")).await;
        let (mut upstream, first) = accept(&provider).await;
        // Both are silent now, and both are probed.
        for peer in [&mut client, &mut upstream] {
            let probe = peer.expect(FrameKind::Heartbeat).await;
            assert_eq!(Bolt.dialect(&probe), version.dialect());
            peer.send(&frame(&Bolt.heartbeat_reply(&probe).unwrap())).await;
        }
        // An upstream's own probe, under the id of a call in flight.
        let id = u32::try_from(first.stream_id.0).unwrap();
        upstream.send(&frame(&heartbeat(version, id))).await;
        let answer = loop {
            let next = upstream.next().await.unwrap();
            if next.kind != FrameKind::Heartbeat {
                break next;
            }
        };
        assert_eq!(answer.wire, heartbeat_ack(version, id));
        upstream.send(&echo(&first)).await;
        let reply = loop {
            let next = client.next().await.unwrap();
            if next.kind != FrameKind::Heartbeat {
                break next;
            }
        };
        assert_eq!(content(&reply), b"x");
    }
}

#[tokio::test]
async fn refusals_are_replies_of_sofarpc_that_name_the_reason() {
    let path = start(Config {
        max_frame: crate::config::ByteSize(8192),
        ..Config::default()
    });
    path.route(&[(SERVICE, &[])]);
    for version in VERSIONS {
        let mut client = connect(&path).await;
        let unknown = client.call(&request_to("demo.Other:1.0:blue", version, 1, b"x")).await;
        assert!(
            text(&unknown).contains("remora[no_route]: remora egress: "),
            "{}",
            text(&unknown)
        );
        assert!(text(&unknown).contains("blue/demo.Other:1.0"), "{}", text(&unknown));
        let empty = client.call(&request(version, 2, b"x")).await;
        assert!(
            text(&empty).contains("no instance of demo.Echo:1.0 is registered"),
            "{}",
            text(&empty)
        );
        let too_long = client.call(&request(version, 3, &[0; 10_000])).await;
        assert!(text(&too_long).contains("remora[too_long]: "), "{}", text(&too_long));
        assert!(text(&too_long).contains("call.max_frame = 8192"), "{}", text(&too_long));
        // One-way calls get nothing, and the connection lives on.
        let oneway = Request {
            version,
            id: 4,
            is_oneway: true,
            header: &[("service", "demo.Other:1.0")],
            ..Request::default()
        };
        client.send(&frame(&oneway.to_frame().unwrap())).await;
        client.call(&request(version, 5, b"x")).await;
    }
    assert_eq!(path.sum(|s| s.dropped(Dropped::Oneway)), 3);
}

#[tokio::test]
async fn frames_without_a_service_name_go_where_only_one_is_followed() {
    let path = start(Config::default());
    let provider = Provider::new().await;
    path.route(&[(SERVICE, &[provider.addr])]);
    for version in VERSIONS {
        let mut client = connect(&path).await;
        let direct = Request {
            version,
            id: 9,
            class: "java.lang.String",
            content: b"\x05hello",
            with_crc: true,
            ..Request::default()
        };
        client.send(&frame(&direct.to_frame().unwrap())).await;
        let (mut upstream, first) = accept(&provider).await;
        upstream.send(&echo(&first)).await;
        assert_eq!(content(&client.expect(FrameKind::Reply).await), b"\x05hello");
    }
}

#[tokio::test]
async fn other_protocols_on_the_port_are_closed_and_counted() {
    let path = start(Config::default());
    for bytes in [
        &b"\xda\xbb\xc2\0"[..],
        b"GET / HTTP/1.1\r\n",
        b"\x01\x01\x07",
        b"\x02\x09",
    ] {
        let mut client = connect(&path).await;
        soon("send", client.stream.write_all(bytes)).await.unwrap();
        assert!(client.next().await.is_none());
    }
    until("counted", || path.sum(|s| s.closed("not_the_protocol")) == 4).await;
}

#[tokio::test]
async fn a_damaged_frame_closes_its_connection_and_no_other() {
    let path = start(Config::default());
    let provider = Provider::new().await;
    path.route(&[(SERVICE, &[provider.addr])]);
    let (mut good, mut bad) = (connect(&path).await, connect(&path).await);
    good.send(&request(Version::V2Crc, 1, b"x")).await;
    let (mut upstream, first) = accept(&provider).await;
    let mut damaged = request(Version::V2Crc, 1, b"x").wire.to_vec();
    let last = damaged.len() - 5;
    damaged[last] ^= 1;
    soon("send", bad.stream.write_all(&damaged)).await.unwrap();
    assert!(bad.next().await.is_none());
    upstream.send(&echo(&first)).await;
    assert_eq!(content(&good.expect(FrameKind::Reply).await), b"x");
    assert_eq!(path.sum(|s| s.closed("bad_frame")), 1);
}

#[tokio::test]
async fn another_remora_that_sent_nothing_is_passed_over() {
    let path = start(Config::default());
    let (refusing, taking) = (Provider::new().await, Provider::new().await);
    path.route(&[(SERVICE, &[refusing.addr])]);
    let mut client = connect(&path).await;
    client.send(&request(Version::V1, 1, b"warm")).await;
    let (mut upstream, first) = accept(&refusing).await;
    upstream.send(&echo(&first)).await;
    client.expect(FrameKind::Reply).await;
    path.route(&[(SERVICE, &[refusing.addr, taking.addr])]);
    let refusal = |request: &Frame| {
        let reply = Bolt.local_reply(request, remora_protocol::LocalReply::NoRoute, "no application here");
        frame(&reply.unwrap())
    };
    let taken = async {
        let (mut peer, first) = accept(&taking).await;
        peer.send(&echo(&first)).await;
        (peer, first)
    };
    let refused = async {
        loop {
            let next = upstream.next().await.expect("a frame");
            upstream.send(&refusal(&next)).await;
        }
    };
    client.send(&request(Version::V1, 2, b"again")).await;
    let (_taken, first) = tokio::select! {
        taken = soon("the other instance", taken) => taken,
        () = refused => unreachable!("it goes on refusing"),
    };
    assert_eq!(content(&first), b"again");
    assert_eq!(content(&client.expect(FrameKind::Reply).await), b"again");
}

#[tokio::test]
async fn only_another_remora_is_told_to_go_away() {
    for version in VERSIONS {
        let mut path = start(Config::default());
        let app = Provider::new().await;
        let ingress = path.open_ingress(Some(app.addr)).await;
        let mut remora = Peer::connect_speaking(Arc::new(Bolt), ingress).await;
        let mut java = Peer::connect_speaking(Arc::new(Bolt), ingress).await;
        remora.send(&frame(&Bolt.greeting(version.dialect()).unwrap())).await;
        assert_eq!(remora.next().await.unwrap().wire, heartbeat_ack(version, 0));
        remora.send(&request(version, 1, b"of a Remora")).await;
        let (mut from_ingress, first) = accept(&app).await;
        java.send(&request(version, 1, b"of Java")).await;
        let second = from_ingress.expect(FrameKind::Request).await;
        path.drain.cancel();
        let goaway = remora.expect(FrameKind::GoAway).await;
        assert_eq!(Bolt.dialect(&goaway), version.dialect());
        from_ingress.send(&echo(&first)).await;
        from_ingress.send(&echo(&second)).await;
        for (peer, expected) in [(&mut remora, &b"of a Remora"[..]), (&mut java, b"of Java")] {
            assert_eq!(content(&peer.expect(FrameKind::Reply).await), expected);
            assert!(peer.next().await.is_none(), "closed, without another word");
        }
        soon("drained", path.handle.take().expect("it runs").join()).await;
    }
}
