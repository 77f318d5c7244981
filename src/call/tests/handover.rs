// SPDX-License-Identifier: Apache-2.0
//! A call path that takes over from another one, as another process would: by parts.

use std::sync::Arc;
use std::time::Duration;

use remora_protocol::FrameKind;
use tokio::io::AsyncWriteExt;

use super::peers::{Path, Peer, Provider, ms, soon, text, until};
use super::wire::{Mini, payload, reply, request, status};
use crate::call::{Config, Part, into_parts, of_parts};

fn lasting(workers: usize) -> Path {
    Path::lasting(Arc::new(Mini), Config::default(), workers)
}

/// Everything that a call path has, in parts.
async fn parts_of(path: &mut Path) -> Vec<Part> {
    let frozen = soon("frozen", path.handle.take().unwrap().freeze()).await;
    into_parts(frozen).unwrap()
}

/// The next call path, with the same ports and routes; nothing is read or written yet.
async fn next(former: &Path, config: Config, workers: usize) -> Path {
    let listener = former.listener.as_ref().unwrap().try_clone().unwrap();
    let next = Path::held(Arc::new(Mini), config, workers, listener, former.routes.clone());
    let ports = std::mem::take(&mut *former.ingress_ports.lock().unwrap());
    for (listener, app) in &ports {
        next.open(listener.try_clone().unwrap(), *app).await;
    }
    *next.ingress_ports.lock().unwrap() = ports;
    next
}

/// Hands over, and gives how many connections that were.
async fn hand_over_to(mut former: Path, workers: usize) -> (Path, usize) {
    let parts = parts_of(&mut former).await;
    let next = next(&former, Config::default(), workers).await;
    let handle = next.handle.as_ref().unwrap();
    let adopted = soon("adopted", handle.adopt(of_parts(parts).unwrap())).await;
    handle.begin();
    (next, adopted)
}

async fn hand_over(former: Path) -> Path {
    hand_over_to(former, 1).await.0
}

#[tokio::test]
async fn a_call_in_flight_is_answered_on_the_same_connections() {
    let path = lasting(1);
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(41, "svc", b"long")).await;
    client.send(&request(42, "svc", b"longer")).await;
    let mut upstream = provider.accept().await;
    let first = upstream.expect(FrameKind::Request).await;
    let second = upstream.expect(FrameKind::Request).await;

    let path = hand_over(path).await;
    // In another order, and a new call between them.
    upstream.send(&reply(&second, b"two")).await;
    let answer = client.expect(FrameKind::Reply).await;
    assert_eq!((answer.stream_id.0, answer.body()), (42, &b"two"[..]));
    client.send(&request(43, "svc", b"new")).await;
    let third = upstream.expect(FrameKind::Request).await;
    assert!(third.stream_id != first.stream_id && third.stream_id != second.stream_id);
    upstream.send(&reply(&third, b"three")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.stream_id.0, 43);
    upstream.send(&reply(&first, b"one")).await;
    let answer = client.expect(FrameKind::Reply).await;
    assert_eq!((answer.stream_id.0, answer.body()), (41, &b"one"[..]));
    until("all calls are over", || path.sum(|s| s.in_flight()) == 0).await;
}

#[tokio::test]
async fn a_frame_cut_anywhere_is_whole_afterwards() {
    let provider = Provider::new().await.echo();
    let frame = request(7, "svc", b"hello");
    for cut in 0..=frame.wire.len() {
        let path = lasting(1);
        path.route(&[("svc", &[provider])]);
        let mut client = Peer::connect(path.egress).await;
        assert_eq!(client.call(&request(1, "svc", b"first")).await.body(), b"first");
        client.stream.write_all(&frame.wire[..cut]).await.unwrap();
        let read = 30 + cut as u64;
        if cut < frame.wire.len() {
            until("it is read", || path.sum(|s| s.bytes_in.get()) >= read).await;
        }
        let _path = hand_over(path).await;
        client.stream.write_all(&frame.wire[cut..]).await.unwrap();
        assert_eq!(client.expect(FrameKind::Reply).await.body(), b"hello", "cut at {cut}");
    }
}

#[tokio::test]
async fn what_a_slow_reader_has_not_taken_comes_afterwards_in_order() {
    let path = lasting(1);
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    const CALLS: u64 = 48;
    for id in 0..CALLS {
        client.send(&request(id, "svc", b"x")).await;
    }
    let mut upstream = provider.accept().await;
    let mut asked = Vec::new();
    for _ in 0..CALLS {
        asked.push(upstream.expect(FrameKind::Request).await);
    }
    for (id, got) in asked.iter().enumerate() {
        upstream.send(&reply(got, &vec![id as u8; 200_000])).await;
    }
    until("some of it waits", || path.sum(|s| s.in_flight()) == 0).await;
    let _path = hand_over(path).await;
    for id in 0..CALLS {
        let answer = client.expect(FrameKind::Reply).await;
        assert_eq!(answer.stream_id.0, id);
        assert!(answer.body().len() == 200_000 && answer.body().iter().all(|b| *b == id as u8));
    }
}

#[tokio::test]
async fn callbacks_find_back_in_both_directions() {
    let path = lasting(1);
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut clients = Vec::new();
    for name in [b"one", b"two"] {
        let mut client = Peer::connect(path.egress).await;
        client.send(&request(0, "service=svc;callback=1", name)).await;
        let mut upstream = provider.accept().await;
        let got = upstream.expect(FrameKind::Request).await;
        upstream.send(&reply(&got, name)).await;
        client.expect(FrameKind::Reply).await;
        upstream.send(&request(5, "callback", name)).await;
        let asked = client.expect(FrameKind::Request).await;
        clients.push((client, upstream, asked, name));
    }
    let path = hand_over(path).await;
    for (client, upstream, asked, name) in &mut clients {
        client.send(&reply(asked, *name)).await;
        let answer = upstream.expect(FrameKind::Reply).await;
        assert_eq!((answer.stream_id.0, answer.body()), (5, &name[..]));
        upstream.send(&request(6, "callback", *name)).await;
        assert_eq!(payload(&client.expect(FrameKind::Request).await), *name);
    }
    let view = path.connections().await;
    assert!(view.iter().all(|c| c.pinned), "{view:?}");
}

#[tokio::test]
async fn a_late_answer_to_a_callback_that_was_given_up_is_nobodys() {
    let path = lasting(1);
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(0, "service=svc;callback=1", b"")).await;
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&got, b"")).await;
    client.expect(FrameKind::Reply).await;
    upstream.send(&request(5, "service=callback;timeout=1", b"one")).await;
    let first = client.expect(FrameKind::Request).await;
    assert_eq!(upstream.expect(FrameKind::Reply).await.stream_id.0, 5, "given up");
    let _path = hand_over(path).await;
    upstream.send(&request(6, "callback", b"two")).await;
    let second = client.expect(FrameKind::Request).await;
    client.send(&reply(&first, b"late")).await;
    client.send(&reply(&second, b"right")).await;
    let answer = upstream.expect(FrameKind::Reply).await;
    assert_eq!((answer.stream_id.0, answer.body()), (6, &b"right"[..]));
}

#[tokio::test]
async fn an_ingress_connection_goes_on_and_follows_its_application() {
    let path = lasting(1);
    let app = Provider::new().await;
    let addr = path.open_ingress(Some(app.addr)).await;
    let mut consumer = Peer::connect(addr).await;
    consumer.send(&request(9, "svc", b"slow")).await;
    let mut served = app.accept().await;
    let got = served.expect(FrameKind::Request).await;
    let path = hand_over(path).await;
    served.send(&reply(&got, b"done")).await;
    assert_eq!(consumer.expect(FrameKind::Reply).await.body(), b"done");
    // Who comes now meets the same port.
    let mut other = Peer::connect(addr).await;
    other.send(&request(1, "svc", b"next")).await;
    let got = served.expect(FrameKind::Request).await;
    served.send(&reply(&got, b"too")).await;
    assert_eq!(other.expect(FrameKind::Reply).await.body(), b"too");
    assert_eq!(path.connections().await.len(), 3);
}

#[tokio::test]
async fn a_call_whose_connection_is_being_made_is_sent_afterwards() {
    let path = lasting(1);
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(3, "svc", b"early")).await;
    until("it is on its way", || path.sum(|s| s.in_flight()) == 1).await;
    let _path = hand_over(path).await;
    // Connected before or after; which of both is a matter of microseconds.
    let answered = async {
        loop {
            let mut upstream = provider.accept().await;
            while let Some(got) = upstream.next().await {
                if got.kind == FrameKind::Heartbeat {
                    upstream.answer(&got).await;
                    continue;
                }
                upstream.send(&reply(&got, b"late")).await;
                return upstream;
            }
        }
    };
    let _upstream = soon("the call arrives", answered).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"late");
}

#[tokio::test]
async fn deadlines_go_on() {
    let config = Config {
        timeout_slack: ms(0),
        ..Config::default()
    };
    let mut path = Path::lasting(Arc::new(Mini), config.clone(), 1);
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(1, "service=svc;timeout=300", b"")).await;
    let mut upstream = provider.accept().await;
    upstream.expect(FrameKind::Request).await;
    let parts = parts_of(&mut path).await;
    let next = next(&path, config, 1).await;
    let handle = next.handle.as_ref().unwrap();
    handle.adopt(of_parts(parts).unwrap()).await;
    handle.begin();
    let answer = client.expect(FrameKind::Reply).await;
    assert!(
        status(&answer) != 0 && text(&answer).contains("svc"),
        "{}",
        text(&answer)
    );
}

#[tokio::test]
async fn a_call_that_was_not_carried_out_is_tried_elsewhere() {
    let path = lasting(1);
    let (one, other) = (Provider::new().await, Provider::new().await);
    path.route(&[("svc", &[one.addr, other.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(4, "svc", b"again")).await;
    let (mut busy, other) = tokio::select! {
        busy = one.accept() => (busy, other),
        busy = other.accept() => (busy, one),
    };
    let got = busy.expect(FrameKind::Request).await;
    let _path = hand_over(path).await;
    let nothing_sent = super::wire::frame(FrameKind::Reply, 3, got.stream_id.0, b"busy");
    busy.send(&nothing_sent).await;
    let mut idle = other.accept().await;
    let got = idle.expect(FrameKind::Request).await;
    assert_eq!(payload(&got), b"again");
    idle.send(&reply(&got, b"done")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"done");
}

#[tokio::test]
async fn workers_may_become_fewer_or_more() {
    let provider = Provider::new().await.echo();
    for (before, after) in [(3, 1), (1, 3)] {
        let path = lasting(before);
        path.route(&[("svc", &[provider])]);
        let mut clients = Vec::new();
        for id in 0..9 {
            let mut client = Peer::connect(path.egress).await;
            client.call(&request(id, "svc", b"x")).await;
            clients.push(client);
        }
        let (path, adopted) = hand_over_to(path, after).await;
        assert!(adopted > 9, "{adopted}");
        for client in &mut clients {
            assert_eq!(client.call(&request(1, "svc", b"y")).await.body(), b"y");
        }
        assert_eq!(path.sum(|s| s.downstream_connections()), 9);
    }
}

#[tokio::test]
async fn what_is_handed_over_can_be_taken_back() {
    let mut path = lasting(1);
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(8, "svc", b"x")).await;
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    let parts = parts_of(&mut path).await;
    // Another process has copies, does nothing with them, and ends.
    let copies: Vec<Part> = parts
        .iter()
        .map(|part| Part {
            text: part.text.clone(),
            bytes: part.bytes.clone(),
            fds: part.fds.iter().map(|fd| fd.try_clone().unwrap()).collect(),
        })
        .collect();
    let held = next(&path, Config::default(), 1).await;
    held.handle.as_ref().unwrap().adopt(of_parts(copies).unwrap()).await;
    drop(held);

    let back = next(&path, Config::default(), 1).await;
    let handle = back.handle.as_ref().unwrap();
    handle.adopt(of_parts(parts).unwrap()).await;
    handle.begin();
    upstream.send(&reply(&got, b"still here")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"still here");
}

#[tokio::test]
async fn damaged_parts_are_refused_or_harmless() {
    let mut path = lasting(1);
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(8, "svc", b"x")).await;
    let mut upstream = provider.accept().await;
    upstream.expect(FrameKind::Request).await;
    let [part] = &parts_of(&mut path).await[..] else {
        panic!("two connections are one part");
    };
    let read = |text: Vec<u8>, bytes: Vec<u8>| {
        let fds = part.fds.iter().map(|fd| fd.try_clone().unwrap()).collect();
        of_parts(vec![Part { text, bytes, fds }])
    };
    for at in 0..part.text.len() {
        let mut text = part.text.clone();
        text[at] = text[at].wrapping_add(1);
        if let Ok(frozen) = read(text, part.bytes.clone()) {
            let next = next(&path, Config::default(), 1).await;
            soon("adopted", next.handle.as_ref().unwrap().adopt(frozen)).await;
        }
    }
    let short = part.bytes[..part.bytes.len() - 1].to_vec();
    assert_eq!(read(part.text.clone(), short).unwrap_err().reason(), "mismatch");
    let nothing = of_parts(vec![Part {
        text: part.text.clone(),
        bytes: part.bytes.clone(),
        fds: Vec::new(),
    }]);
    assert_eq!(nothing.unwrap_err().reason(), "mismatch");
}

#[tokio::test]
async fn nobody_is_closed_or_told_to_go_away() {
    let path = lasting(1);
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(1, "svc", b"x")).await;
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&got, b"y")).await;
    client.expect(FrameKind::Reply).await;
    let _path = hand_over(path).await;
    for peer in [&mut client, &mut upstream] {
        let quiet = tokio::time::timeout(Duration::from_millis(100), peer.next()).await;
        assert!(quiet.is_err(), "{quiet:?}");
    }
}
