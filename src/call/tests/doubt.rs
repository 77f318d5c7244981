// SPDX-License-Identifier: Apache-2.0
//! Instances that can be reached and do not work: who is left alone for how long, and who is not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use remora_protocol::{FrameKind, Protocol};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::peers::{Path, Peer, Provider, ms, soon, until};
use super::wire::{Mini, payload, reply, request, status};
use crate::call::Config;
use crate::metrics::call::Ejected;

/// Quick, and yet longer than a busy machine lets a program wait.
fn config() -> Config {
    Config {
        doubt_after: ms(500),
        eject_min: ms(50),
        eject_max: ms(200),
        timeout_slack: ms(0),
        ..Config::default()
    }
}

/// What a provider does with what it gets.
#[derive(Default)]
struct Ways {
    /// Closes each connection at once.
    resets: AtomicBool,
    answers_calls: AtomicBool,
    answers_heartbeats: AtomicBool,
    calls: AtomicU64,
}

impl Ways {
    fn set(&self, resets: bool, answers_calls: bool, answers_heartbeats: bool) {
        self.resets.store(resets, Ordering::Relaxed);
        self.answers_calls.store(answers_calls, Ordering::Relaxed);
        self.answers_heartbeats.store(answers_heartbeats, Ordering::Relaxed);
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// A provider of these ways.
    async fn provide(self: &Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let ways = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if !ways.resets.load(Ordering::Relaxed) {
                    tokio::spawn(ways.clone().serve(Peer::new(stream)));
                }
            }
        });
        addr
    }

    async fn serve(self: Arc<Self>, mut peer: Peer) {
        loop {
            // The helper's patience is no limit here.
            let mut byte = [0];
            if !matches!(peer.stream.peek(&mut byte).await, Ok(1..)) || self.resets.load(Ordering::Relaxed) {
                return;
            }
            let Some(frame) = peer.next().await else { return };
            if frame.kind == FrameKind::Request {
                self.calls.fetch_add(1, Ordering::Relaxed);
                if self.answers_calls.load(Ordering::Relaxed) {
                    peer.send(&reply(&frame, payload(&frame))).await;
                }
            } else if self.answers_heartbeats.load(Ordering::Relaxed) {
                let answer = Mini.heartbeat_reply(&frame).unwrap();
                peer.stream.write_all(&answer).await.unwrap();
            }
        }
    }
}

/// Calls that all whom they may reach answer, or refuse at once; how many failed.
async fn failures(client: &mut Peer, calls: u64) -> u64 {
    failures_within(client, calls, 9000).await
}

/// Calls of which some may reach an instance that is silent.
async fn failures_within(client: &mut Peer, calls: u64, limit_ms: u32) -> u64 {
    let mut failed = 0;
    for id in 0..calls {
        let wish = format!("service=svc;timeout={limit_ms}");
        let answer = client.call(&request(id, &wish, b"")).await;
        failed += u64::from(status(&answer) != 0);
    }
    failed
}

#[tokio::test]
async fn an_instance_that_accepts_and_resets_costs_no_call_until_it_answers_again() {
    let path = Path::start(config());
    let ways = Arc::new(Ways::default());
    ways.set(true, false, false);
    path.route(&[("svc", &[ways.provide().await, Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    assert_eq!(failures(&mut client, 300).await, 0);
    assert_eq!(path.sum(|s| s.ejections(Ejected::Unreachable)), 1);
    // Asked again and again while it still resets: no call is tried on it.
    until("asked again", || path.sum(|s| s.closed("connect_failed")) >= 3).await;
    assert_eq!(failures(&mut client, 100).await, 0);

    ways.set(false, true, true);
    let back = async {
        while ways.calls() == 0 {
            assert_eq!(failures(&mut client, 20).await, 0);
        }
    };
    soon("used again", back).await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_followed_by_a_question_not_by_calls() {
    // However many calls wait: one connection to each, or the break of one says nothing of another.
    let path = Path::start(Config {
        max_streams: 65_536,
        ..config()
    });
    let ways = Arc::new(Ways::default());
    ways.set(false, true, true);
    let addr = ways.provide().await;
    path.route(&[("svc", &[addr, Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    assert_eq!(failures(&mut client, 50).await, 0);
    // It stops to answer and then, with a call in flight, resets whatever comes.
    ways.answers_calls.store(false, Ordering::Relaxed);
    let before = ways.calls();
    let mut id = 1000;
    while ways.calls() == before {
        client.send(&request(id, "service=svc;timeout=5000", b"")).await;
        id += 1;
        tokio::task::yield_now().await;
    }
    ways.resets.store(true, Ordering::Relaxed);
    // Its next read ends it.
    while path.sum(|s| s.closed("peer_closed") + s.closed("broken")) == 0 {
        client.send(&request(id, "service=svc;timeout=5000", b"")).await;
        id += 1;
        tokio::task::yield_now().await;
    }
    let mut second = Peer::connect(path.egress).await;
    assert_eq!(
        failures(&mut second, 100).await,
        0,
        "a new connection proves itself first"
    );
}

#[tokio::test]
async fn a_silent_instance_gets_no_calls_until_it_gives_a_sign_of_life() {
    let path = Path::start(config());
    let ways = Arc::new(Ways::default());
    ways.set(false, true, true);
    path.route(&[("svc", &[ways.provide().await, Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    assert_eq!(failures(&mut client, 50).await, 0);
    ways.set(false, false, false);
    let failed = failures_within(&mut client, 300, 500).await;
    assert_eq!(failed, 1, "the first one that times out says enough");
    until("left alone", || path.sum(|s| s.ejections(Ejected::Silent)) == 1).await;
    let before = ways.calls();
    assert_eq!(failures(&mut client, 300).await, 0);
    assert_eq!(ways.calls(), before);
    // It comes back, as after a long pause of its collector.
    ways.set(false, true, true);
    let back = async {
        while ways.calls() == before {
            assert_eq!(failures(&mut client, 20).await, 0);
        }
    };
    soon("used again", back).await;
}

#[tokio::test]
async fn silence_is_noticed_when_its_time_is_up_not_once_a_second() {
    let path = Path::start(Config {
        doubt_after: ms(20),
        ..Config::default()
    });
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(0, "svc", b"")).await;
    let mut upstream = provider.accept().await;
    let first = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&first, b"")).await;
    client.expect(FrameKind::Reply).await;
    let mut waited = Vec::new();
    for id in 1..=8 {
        let begun = Instant::now();
        client.send(&request(id, "service=svc;timeout=60000", b"")).await;
        let got = upstream.expect(FrameKind::Request).await;
        let question = upstream.expect(FrameKind::Heartbeat).await;
        waited.push(begun.elapsed());
        upstream
            .stream
            .write_all(&Mini.heartbeat_reply(&question).unwrap())
            .await
            .unwrap();
        upstream.send(&reply(&got, b"")).await;
        client.expect(FrameKind::Reply).await;
    }
    // Each follows the one before at once: a look a second would take a second each time.
    waited.sort_unstable();
    assert!(waited[3] < Duration::from_millis(700), "{waited:?}");
    assert_eq!(path.sum(|s| s.ejections(Ejected::Silent)), 0);
}

#[tokio::test]
async fn while_this_process_does_not_run_nobody_is_silent() {
    let path = Path::start(Config {
        doubt_after: ms(400),
        ..Config::default()
    });
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(0, "svc", b"")).await;
    let mut upstream = provider.accept().await;
    let first = upstream.expect(FrameKind::Request).await;
    upstream.send(&reply(&first, b"")).await;
    client.expect(FrameKind::Reply).await;
    // The provider works on a call when the worker stands still for longer than silence may last.
    client.send(&request(1, "service=svc;timeout=60000", b"")).await;
    upstream.expect(FrameKind::Request).await;
    let begun = Instant::now();
    client
        .send(&request(2, "hang=700;service=svc;timeout=60000", b""))
        .await;
    upstream.expect(FrameKind::Request).await;
    assert!(begun.elapsed() >= Duration::from_millis(700), "it stood still");
    let runs_again = Instant::now();
    upstream.expect(FrameKind::Heartbeat).await;
    let patience = runs_again.elapsed();
    assert!(patience >= Duration::from_millis(150), "asked after {patience:?}");
}

#[tokio::test]
async fn a_slow_method_ejects_nobody_who_answers_heartbeats() {
    let path = Path::start(config());
    let (ways, fast) = (Arc::new(Ways::default()), Arc::new(Ways::default()));
    ways.set(false, false, true);
    fast.set(false, true, true);
    path.route(&[("svc", &[ways.provide().await, fast.provide().await])]);
    let mut client = Peer::connect(path.egress).await;
    let failed = failures_within(&mut client, 40, 50).await;
    assert!(failed > 5, "it goes on to get its share, {failed} of 40 timed out");
    assert_eq!(path.sum(|s| s.ejections(Ejected::Silent)), 0);
}

#[tokio::test]
async fn what_an_application_answers_ejects_nobody() {
    let path = Path::start(config());
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr, Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    let failing = tokio::spawn(async move {
        let mut upstream = provider.accept().await;
        for n in 0..20u8 {
            let got = upstream.expect(FrameKind::Request).await;
            let error = super::wire::frame(FrameKind::Reply, 1 + n % 2, got.stream_id.0, b"no");
            upstream.send(&error).await;
        }
    });
    while !failing.is_finished() {
        client.call(&request(0, "svc", b"")).await;
    }
    failing.await.unwrap();
    let reasons = [
        Ejected::Lost,
        Ejected::Silent,
        Ejected::NothingSent,
        Ejected::Unreachable,
    ];
    assert_eq!(path.sum(|s| reasons.iter().map(|why| s.ejections(*why)).sum()), 0);
}

#[tokio::test]
async fn calls_go_to_all_when_more_are_silent_than_may_be_left_alone() {
    let path = Path::start(Config {
        eject_max_percent: 50,
        ..config()
    });
    let silent = [Arc::new(Ways::default()), Arc::new(Ways::default())];
    let addrs = [
        silent[0].provide().await,
        silent[1].provide().await,
        Provider::new().await.echo(),
    ];
    path.route(&[("svc", &addrs)]);
    let mut client = Peer::connect(path.egress).await;
    let left_alone = async {
        while path.sum(|s| s.ejections(Ejected::Silent)) < 2 {
            failures_within(&mut client, 1, 50).await;
        }
    };
    soon("left alone", left_alone).await;
    let before: u64 = silent.iter().map(|ways| ways.calls()).sum();
    let failed = failures_within(&mut client, 30, 50).await;
    let got = silent.iter().map(|ways| ways.calls()).sum::<u64>() - before;
    assert!(got >= 5 && failed >= 5, "{got} went there, {failed} failed");
}

#[tokio::test]
async fn the_last_instance_is_asked_whatever_is_known_of_it() {
    let path = Path::start(config());
    let ways = Arc::new(Ways::default());
    path.route(&[("svc", &[ways.provide().await])]);
    let mut client = Peer::connect(path.egress).await;
    assert_eq!(failures_within(&mut client, 10, 200).await, 10);
    assert_eq!(ways.calls(), 10, "each call was tried");
    ways.set(false, true, true);
    let back = async { while failures_within(&mut client, 1, 50).await > 0 {} };
    soon("answers", back).await;
}

#[tokio::test]
async fn one_that_knows_no_heartbeats_is_tried_with_a_call_now_and_then() {
    let path = Path::start(config());
    let ways = Arc::new(Ways::default());
    path.route(&[("svc", &[ways.provide().await, Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    let mut failed = 0;
    while path.sum(|s| s.ejections(Ejected::Silent)) == 0 {
        failed += failures_within(&mut client, 1, 500).await;
    }
    assert_eq!(failed, 1);
    // Calls are answered again, heartbeats are not, as ever.
    ways.set(false, true, false);
    let before = ways.calls();
    let back = async {
        while ways.calls() < before + 20 {
            assert_eq!(failures(&mut client, 1).await, 0);
        }
    };
    soon("used as before", back).await;
}

#[tokio::test]
async fn a_request_that_was_sent_in_part_goes_to_another_instance() {
    let path = Path::start(Config::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    path.route(&[("svc", &[listener.local_addr().unwrap()])]);
    let stuck = listener.local_addr().unwrap();
    path.route(&[("svc", &[stuck, Provider::new().await.echo()])]);
    let mut client = Peer::connect(path.egress).await;
    // Longer than all buffers on the way, and one of them never reads.
    let body = vec![b'x'; 12 << 20];
    let mut id = 0;
    let is_stuck = async || {
        let view = path.connections().await;
        view.iter()
            .any(|c| c.peer == stuck && c.bytes_out > 0 && c.queued_bytes > 0)
    };
    loop {
        id += 1;
        client.send(&request(id, "svc", &body)).await;
        // Either one has it all.
        let answered = async {
            let mut byte = [0];
            client.stream.peek(&mut byte).await.unwrap();
        };
        let waits = async { while !is_stuck().await {} };
        tokio::select! {
            () = answered => assert_eq!(client.expect(FrameKind::Reply).await.stream_id.0, id),
            () = waits => break,
        }
    }
    // With bytes unread: a reset.
    let (half, _) = listener.accept().await.unwrap();
    drop((half, listener));
    let answer = client.expect(FrameKind::Reply).await;
    assert_eq!(
        (answer.stream_id.0, status(&answer)),
        (id, 0),
        "{}",
        super::peers::text(&answer)[..40].to_owned()
    );
    assert_eq!(answer.body().len(), body.len());
}
