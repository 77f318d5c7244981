// SPDX-License-Identifier: Apache-2.0
//! Peers that do not read, and those beside them.

use std::time::Duration;

use remora_protocol::{FrameKind, Protocol, StreamId};
use tokio::io::AsyncWriteExt;

use super::peers::{Path, Peer, Provider, ms, text, until};
use super::wire::{Mini, oneway, payload, reply, request};
use crate::call::Config;
use crate::config::ByteSize;
use crate::metrics::call::{CallEnd, Ejected};

const BIG: usize = 256 << 10;

#[tokio::test]
async fn a_slow_reader_is_not_read_and_hurts_nobody() {
    let path = Path::start(Config {
        write_pause: ByteSize(64 << 10),
        ..Config::default()
    });
    path.route(&[("svc", &[Provider::new().await.echo()])]);
    let mut slow = Peer::connect(path.egress).await;
    let mut other = Peer::connect(path.egress).await;
    // Sends until the path takes no more: nobody reads the replies.
    let body = vec![b'x'; BIG];
    let mut sent = 0;
    let flood = async {
        loop {
            slow.stream.write_all(&request(sent, "svc", &body).wire).await.unwrap();
            sent += 1;
        }
    };
    let is_stuck = tokio::time::timeout(ms(400).0, flood).await.is_err();
    assert!(is_stuck && sent < 200, "{sent} requests were taken");
    for id in 0..50 {
        assert_eq!(other.call(&request(id, "svc", b"quick")).await.body(), b"quick");
    }
    let view = path.connections().await;
    let queued: usize = view.iter().map(|c| c.queued_bytes).sum();
    assert!(queued < 32 << 20, "{queued} bytes wait");
    // It reads again: everything that was taken arrives. (The last request was cut by the timeout above.)
    for _ in 0..sent {
        assert_eq!(slow.expect(FrameKind::Reply).await.body().len(), BIG);
    }
}

#[tokio::test]
async fn answers_of_our_own_do_not_pile_up_for_a_reader_that_does_not_read() {
    let path = Path::start(Config {
        write_pause: ByteSize(64 << 10),
        write_cap: ByteSize(1 << 20),
        ..Config::default()
    });
    for unread in [
        request(1, "nobody follows it", b"").wire,
        Mini.heartbeat(0, StreamId(1)).unwrap(),
    ] {
        let mut slow = Peer::connect(path.egress).await;
        let many = unread.repeat(2000);
        // Until the path takes no more; a connection that was closed would fail the write.
        while let Ok(written) = tokio::time::timeout(ms(500).0, slow.stream.write_all(&many)).await {
            written.unwrap();
        }
        assert_eq!(path.sum(|s| s.closed("write_cap")), 0);
    }
}

/// What a provider asks of its consumers: probes, requests on a connection that nobody owns, callbacks.
#[tokio::test]
async fn a_provider_that_only_asks_and_never_reads_is_not_read_either() {
    let path = Path::start(Config {
        write_pause: ByteSize(64 << 10),
        write_cap: ByteSize(1 << 20),
        ..Config::default()
    });
    for (service, unread) in [
        ("svc", Mini.heartbeat(0, StreamId(1)).unwrap()),
        ("svc", request(7, "nobody's", b"").wire),
        ("service=svc;callback=1", oneway(7, "callback", &[b'x'; 1000]).wire),
    ] {
        let provider = Provider::new().await;
        path.route(&[("svc", &[provider.addr])]);
        let mut client = Peer::connect(path.egress).await;
        client.send(&request(1, service, b"")).await;
        let mut hostile = provider.accept().await;
        hostile.expect(FrameKind::Request).await;
        let many = unread.repeat(2000);
        // Until the path takes no more; a connection that was closed would fail the write.
        while let Ok(written) = tokio::time::timeout(ms(500).0, hostile.stream.write_all(&many)).await {
            written.unwrap();
        }
        assert_eq!(path.sum(|s| s.closed("write_cap")), 0, "{service}");
    }
}

#[tokio::test]
async fn callers_that_wait_for_a_provider_go_on_when_its_connection_is_reset() {
    let path = Path::start(Config {
        write_pause: ByteSize(64 << 10),
        ..Config::default()
    });
    let stuck = Provider::new().await;
    path.route(&[("stuck", &[stuck.addr]), ("svc", &[Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    let body = vec![b'x'; BIG];
    let flood = async {
        for id in 0.. {
            client
                .stream
                .write_all(&request(id, "stuck", &body).wire)
                .await
                .unwrap();
        }
    };
    let is_stuck = tokio::time::timeout(ms(400).0, flood).await.is_err();
    assert!(is_stuck);
    // Closed with bytes unread: a reset.
    drop(stuck.accept().await);
    drop(stuck);
    // The cut request is made whole, and the connection is read on.
    let (mut reads, mut writes) = client.stream.into_split();
    let answered = tokio::spawn(async move { tokio::io::copy(&mut reads, &mut tokio::io::sink()).await });
    super::peers::soon("the rest is taken", writes.write_all(&vec![b'x'; 32 << 20]))
        .await
        .ok();
    until("no call is left", || path.sum(|s| s.in_flight()) == 0).await;
    answered.abort();
}

#[tokio::test]
async fn a_reader_that_never_reads_is_closed() {
    let path = Path::start(Config {
        write_pause: ByteSize(64 << 10),
        write_stall: ms(100),
        ..Config::default()
    });
    path.route(&[("svc", &[Provider::new().await.echo()])]);
    let mut slow = Peer::connect(path.egress).await;
    let body = vec![b'x'; BIG];
    for id in 0.. {
        if slow.stream.write_all(&request(id, "svc", &body).wire).await.is_err() {
            break;
        }
    }
    until("closed", || path.sum(|s| s.closed("write_stalled")) == 1).await;
    until("forgotten", || path.sum(|s| s.downstream_connections()) == 0).await;
    until("nothing in flight", || path.sum(|s| s.in_flight()) == 0).await;
}

#[tokio::test]
async fn too_much_waiting_for_one_reader_closes_it() {
    let path = Path::start(Config {
        write_pause: ByteSize(64 << 10),
        write_cap: ByteSize(1 << 20),
        ..Config::default()
    });
    path.route(&[("svc", &[Provider::new().await.echo()])]);
    let mut slow = Peer::connect(path.egress).await;
    let body = vec![b'x'; BIG];
    for id in 0.. {
        if slow.stream.write_all(&request(id, "svc", &body).wire).await.is_err() {
            break;
        }
    }
    until("closed", || path.sum(|s| s.closed("write_cap")) == 1).await;
}

#[tokio::test]
async fn a_stuck_provider_pauses_its_callers_and_is_closed() {
    let path = Path::start(Config {
        write_pause: ByteSize(64 << 10),
        write_stall: ms(300),
        ..Config::default()
    });
    let stuck = Provider::new().await;
    path.route(&[("stuck", &[stuck.addr]), ("svc", &[Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    let mut other = Peer::connect(path.egress).await;
    let body = vec![b'x'; BIG];
    client.send(&request(0, "stuck", &body)).await;
    let _never_read = stuck.accept().await;
    let (mut reads, mut writes) = client.stream.into_split();
    let flood = tokio::spawn(async move {
        for id in 1..40 {
            writes.write_all(&request(id, "stuck", &body).wire).await.unwrap();
        }
        writes
    });
    for id in 0..50 {
        assert_eq!(other.call(&request(id, "svc", b"quick")).await.body(), b"quick");
    }
    until("closed", || path.sum(|s| s.closed("write_stalled")) >= 1).await;
    // Every caller is answered, none hangs; its connection goes on. It reads by itself now.
    let drained = tokio::spawn(async move { tokio::io::copy(&mut reads, &mut tokio::io::sink()).await });
    let writes = super::peers::soon("all taken", flood).await.unwrap();
    until("answered", || path.sum(|s| s.calls(CallEnd::LocalReply)) >= 1).await;
    drop(writes);
    drained.abort();
}

#[tokio::test]
async fn a_frame_that_stops_half_way_is_given_up() {
    let path = Path::start(Config {
        frame_stall: ms(100),
        ..Config::default()
    });
    path.route(&[("svc", &[Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    let whole = request(1, "svc", b"payload");
    client.stream.write_all(&whole.wire[..20]).await.unwrap();
    assert!(client.next().await.is_none());
    until("counted", || path.sum(|s| s.closed("frame_stalled")) == 1).await;
    let mut idle = Peer::connect(path.egress).await;
    let answer = idle.call(&whole).await;
    assert_eq!(text(&answer), "payload");
}

#[tokio::test]
async fn a_byte_now_and_then_keeps_no_frame_alive() {
    let path = Path::start(Config {
        frame_stall: ms(300),
        ..Config::default()
    });
    path.route(&[("svc", &[Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    // Whole frames one byte at a time are fine for as long as each is whole in time.
    let whole = request(1, "svc", b"");
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    for _ in 0..10 {
        for byte in whole.wire.iter() {
            client.stream.write_all(&[*byte]).await.unwrap();
            ticks.tick().await;
        }
        assert_eq!(text(&client.next().await.unwrap()), "");
    }
    let long = request(2, "svc", &[b'x'; 4000]);
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let dripping = async {
        for byte in long.wire.iter() {
            ticks.tick().await;
            if client.stream.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    let counted = until("counted", || path.sum(|s| s.closed("frame_stalled")) == 1);
    tokio::select! { () = dripping => panic!("all of it was taken") , () = counted => {} }
}

#[tokio::test]
async fn short_calls_do_not_wait_behind_long_requests() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(0, "svc", &vec![b'x'; 4 << 20])).await;
    // Never read: whatever shares its connection waits.
    let _long = provider.accept().await;
    let mut other = Peer::connect(path.egress).await;
    other.send(&request(0, "svc", b"short")).await;
    let mut short = provider.accept().await;
    let got = short.expect(FrameKind::Request).await;
    assert_eq!(payload(&got), b"short");
    short.send(&reply(&got, b"quick")).await;
    assert_eq!(other.expect(FrameKind::Reply).await.body(), b"quick");
}

#[tokio::test]
async fn a_provider_that_takes_one_connection_only_gets_all_calls_on_it() {
    let path = Path::start(Config::default());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(0, "svc", b"")).await;
    let mut upstream = provider.accept().await;
    let got = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&got, b"")).await;
    client.expect(FrameKind::Reply).await;
    // Nobody listens any more, as far as a further connection can tell.
    drop(provider);
    let long = vec![b'x'; 300 << 10];
    for id in 1..4 {
        client.send(&request(id, "svc", &long)).await;
        let got = upstream.expect(FrameKind::Request).await;
        assert_eq!(payload(&got).len(), long.len());
        upstream.send(&reply(&got, b"ok")).await;
        assert_eq!(client.expect(FrameKind::Reply).await.body(), b"ok");
    }
    assert_eq!(
        path.sum(|s| s.closed("connect_failed")),
        1,
        "and is not asked again at once"
    );
    assert_eq!(path.sum(|s| s.ejections(Ejected::Unreachable)), 0);
}
