// SPDX-License-Identifier: Apache-2.0
//! The front door: what it refuses and how, what it does with bytes that no client sends, and its HTTP port.

#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use remora_bolt::frame::{Parts, Version};
use remora_bolt::{Request, codec, heartbeat, status};
use remora_protocol::FrameKind;
use remora_registry::PublishError;
use remora_sofaregistry::facade::Config;
use remora_sofaregistry::wire::Message;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn what_is_not_sofarpcs_is_refused_for_good_without_a_sofaregistry_behind() {
    let door = Door::open();
    let mut client = door.client().await;
    for mut register in [publisher("my.switches", "p", &["on"]), subscriber("my.switches", "s")] {
        of(&mut register).group = "DEFAULT_GROUP".to_owned();
        let answer = client.ask(&register).await;
        // Success, or the client does not look at `refused` and tries again for ever.
        assert!(answer.success && answer.refused, "{answer:?}");
        assert_eq!(answer.version, 1);
        let message = answer.message.unwrap();
        assert!(message.contains("the registry behind is no SOFARegistry"), "{message}");
    }
    assert_eq!(door.stats.refused_registrations.load(Ordering::Relaxed), 2);
    // A configuration that there is not is no lie.
    let mut register = configurator("my.switches", "c");
    of(&mut register).group = "DEFAULT_GROUP".to_owned();
    client.register(&register).await;
    assert_eq!(client.pushed_config().await.data.data, None);
}

#[tokio::test]
async fn what_the_registry_behind_cannot_hold_is_refused_with_its_words() {
    let door = Door::open();
    door.memory.refuse(Some("ZooKeeper knows no groups"));
    let mut client = door.client().await;
    for register in [publisher(ECHO, "p", &[LINE]), subscriber(ECHO, "s")] {
        let answer = client.ask(&register).await;
        assert!(answer.success && answer.refused);
        assert_eq!(answer.message.unwrap(), "Remora refuses it: ZooKeeper knows no groups");
    }
}

#[tokio::test]
async fn what_cannot_be_published_now_is_postponed_until_it_can() {
    let door = Door::open();
    door.memory.fail(Some(PublishError::NotKept {
        cause: "too many".to_owned(),
    }));
    let mut client = door.client().await;
    let register = publisher(ECHO, "p", &[LINE]);
    let answer = client.ask(&register).await;
    assert!(!answer.success && !answer.refused, "the client tries again: {answer:?}");
    door.memory.fail(None);
    client.register(&register).await;
    assert_eq!(door.memory.published(ECHO_TARGET), ["10.77.0.3:12200"]);
    assert_eq!(door.stats.postponed_registrations.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_port_of_ours_is_refused_for_good() {
    let door = Door::open();
    door.memory.fail(Some(PublishError::OwnPort { port: 12200 }));
    let mut client = door.client().await;
    let answer = client.ask(&publisher(ECHO, "p", &[LINE])).await;
    assert!(answer.success && answer.refused);
    assert!(answer.message.unwrap().contains("port 12200 is Remora's own"));
}

#[tokio::test]
async fn registrations_over_the_limit_wait_and_those_known_go_on() {
    let door = Door::with(
        Config {
            max_registrations: 2,
            ..config()
        },
        None,
    );
    let mut client = door.client().await;
    let first = publisher(ECHO, "p", &[LINE]);
    client.register(&first).await;
    client.register(&subscriber(ECHO, "s")).await;
    assert!(!client.ask(&subscriber(ECHO, "t")).await.success);
    assert!(!client.ask(&publisher(ECHO, "q", &[LINE])).await.success);
    client.register(&again(first.clone())).await;
    client.register(&subscriber(ECHO, "s")).await;
    client.register(&end(again(first))).await;
    client.register(&subscriber(ECHO, "t")).await;
}

#[tokio::test]
async fn data_over_the_limit_of_a_client_waits() {
    let door = Door::with(
        Config {
            max_data_bytes: 1_000,
            ..config()
        },
        None,
    );
    let mut client = door.client().await;
    let long = format!("{LINE}&note={}", "x".repeat(600));
    let first = publisher(ECHO, "p", &[&long]);
    client.register(&first).await;
    let other = publisher("demo.Other:1.0@DEFAULT", "q", &[&long]);
    let answer = client.ask(&other).await;
    assert!(!answer.success && answer.message.unwrap().contains("over 1000 bytes"));
    client.register(&again(first.clone())).await;
    client.register(&end(again(first))).await;
    client.register(&other).await;
}

#[tokio::test]
async fn a_registration_over_the_frame_limit_is_refused_from_its_length_and_the_connection_stays() {
    let door = Door::with(
        Config {
            max_frame_bytes: 4_096,
            ..config()
        },
        None,
    );
    let mut client = door.client().await;
    let long = "x".repeat(100_000);
    let id = client.send(&publisher(ECHO, "p", &[&long])).await;
    let answer = client.reply(id).await;
    let Message::RegisterResponse(answer) = message(&answer) else {
        panic!("another answer");
    };
    assert!(answer.success && answer.refused && answer.message.unwrap().contains("over the limit of 4096"));
    client.register(&publisher(ECHO, "q", &[LINE])).await;
    assert_eq!(door.stats.oversized.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_announced_length_is_answered_before_the_bytes_come() {
    let door = Door::open();
    let mut client = door.client().await;
    let whole = golden("6.3.0-publisher-register.hex").remove(0).1;
    let parts = Parts::of(&whole).unwrap();
    let mut head = whole[..parts.head.long_len()].to_vec();
    head[18..22].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    client.send_raw(&head).await;
    let answer = client.frame().await.unwrap();
    assert!(matches!(message(&answer), Message::RegisterResponse(answer) if answer.refused));
}

#[tokio::test]
async fn bytes_that_are_no_bolt_close_the_connection_and_nothing_else() {
    let door = Door::open();
    let mut other = door.client().await;
    other.register(&publisher(ECHO, "p", &[LINE])).await;
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x01\x07\x00\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00",
    ] {
        let mut client = door.client().await;
        client.send_raw(garbage).await;
        client.closed().await;
    }
    assert_eq!(door.stats.malformed.load(Ordering::Relaxed), 2);
    other.register(&subscriber(ECHO, "s")).await;
    assert_eq!(other.list().await, [LINE]);
}

#[tokio::test]
async fn requests_that_cannot_be_read_are_answered_with_a_status_and_the_connection_stays() {
    let door = Door::open();
    let mut client = door.client().await;
    let register = publisher(ECHO, "p", &[LINE]);
    let cases = [
        (
            register.class(),
            codec::HESSIAN2,
            &b"\x4f\xff\xff"[..],
            status::CODEC_EXCEPTION,
        ),
        (register.class(), codec::PROTOBUF, b"\x0a\x00", status::CODEC_EXCEPTION),
        ("com.example.Unknown", codec::HESSIAN2, b"N", status::NO_PROCESSOR),
        // A class of ours that no client sends as a request.
        (
            "com.alipay.sofa.registry.core.model.Result",
            codec::HESSIAN2,
            &RESULT,
            status::NO_PROCESSOR,
        ),
    ];
    for (id, (class, codec, content, status)) in (100..).zip(cases) {
        let request = Request {
            id,
            class,
            codec,
            content,
            ..Request::default()
        };
        client.send_raw(&request.to_frame().unwrap()).await;
        let answer = client.reply(id).await;
        assert_eq!(Parts::of(&answer.wire).unwrap().head.status, status, "{class}");
    }
    assert_eq!(door.stats.unreadable.load(Ordering::Relaxed), 4);
    client.register(&register).await;
}

#[tokio::test]
async fn registrations_that_lack_a_name_are_not_taken() {
    let door = Door::open();
    let mut client = door.client().await;
    let mut register = publisher(ECHO, "", &[LINE]);
    let answer = client.ask(&register).await;
    assert!(!answer.success && answer.message.unwrap().contains("registId is missing"));
    of(&mut register).regist_id = "x".repeat(5_000);
    let answer = client.ask(&register).await;
    assert!(answer.refused && answer.message.unwrap().contains("longer than 4096 bytes"));
}

#[tokio::test]
async fn frames_in_pieces_and_together_are_understood() {
    let door = Door::open();
    let mut client = door.client().await;
    let bytes: Vec<u8> = [
        "publisher-register",
        "subscriber-register",
        "sync-config-request",
        "heartbeat",
    ]
    .iter()
    .flat_map(|name| golden(&format!("6.5.6-{name}.hex")).remove(0).1)
    .collect();
    for piece in bytes.chunks(7) {
        client.send_raw(piece).await;
    }
    let mut answers = 0;
    let mut is_acknowledged = false;
    while answers < 3 || !is_acknowledged {
        match client.frame().await.unwrap().kind {
            FrameKind::Reply => answers += 1,
            FrameKind::HeartbeatReply => is_acknowledged = true,
            _ => {}
        }
    }
}

async fn probe(client: &mut Client, id: u32) -> FrameKind {
    client.send_raw(&heartbeat(Version::V1, id)).await;
    client.frame().await.unwrap().kind
}

#[tokio::test]
async fn a_silent_client_is_closed_and_one_that_probes_is_not() {
    let door = Door::with(
        Config {
            idle_limit: Duration::from_millis(400),
            ..config()
        },
        None,
    );
    let mut probing = door.client().await;
    let mut silent = door.client().await;
    let gone = silent.closed();
    tokio::pin!(gone);
    let mut probes = 0;
    loop {
        tokio::select! {
            biased;
            () = &mut gone => break,
            kind = probe(&mut probing, probes) => assert_eq!(kind, FrameKind::HeartbeatReply),
        }
        probes += 1;
    }
    assert_eq!(door.stats.idle.load(Ordering::Relaxed), 1);
    probing.register(&publisher(ECHO, "p", &[LINE])).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off() {
    let limits = Config {
        write_timeout: Duration::from_millis(300),
        buffer_bytes: 64 << 10,
        max_frame_bytes: 16 << 20,
        ..config()
    };
    let door = Door::with(limits, None);
    let lines: Vec<String> = (0..600)
        .map(|n| format!("10.77.0.{}:{}?note={}", n % 250, 1_000 + n, "x".repeat(9_000)))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut provider = door.client().await;
    provider.register(&publisher(ECHO, "p", &lines)).await;
    let mut client = Client::with_small_buffer(door.session).await;
    client.send(&subscriber(ECHO, "s")).await;
    let cut_off = async {
        while door.stats.slow_readers.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, cut_off).await.expect("not cut off");
    provider
        .register(&publisher("demo.Other:1.0@DEFAULT", "q", &[LINE]))
        .await;
}

#[tokio::test]
async fn connections_over_the_limit_are_refused() {
    let door = Door::with(
        Config {
            max_connections: 1,
            ..config()
        },
        None,
    );
    let mut first = door.client().await;
    first.register(&publisher(ECHO, "p", &[LINE])).await;
    let mut second = door.client().await;
    second.closed().await;
    assert_eq!(door.stats.refused.load(Ordering::Relaxed), 1);
    first.register(&subscriber(ECHO, "s")).await;
}

#[tokio::test]
async fn the_end_of_the_door_closes_connections_and_leases() {
    let door = Door::open();
    let mut client = door.client().await;
    client.register(&publisher(ECHO, "p", &[LINE])).await;
    door.drain.cancel();
    client.closed().await;
    timeout(PATIENCE, door.served).await.expect("it serves on").unwrap();
    assert!(TcpStream::connect(door.session).await.is_err());
}

async fn get(addr: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[tokio::test]
async fn clients_of_each_line_learn_the_session_server() {
    let door = Door::open();
    let session = door.session.to_string();
    let query = "?env=null&zone=DEFAULT_ZONE&dataCenter=DefaultDataCenter&appName=demo-app&instanceId=null";
    assert_eq!(
        get(door.http, "GET", &format!("/api/servers/query{query}")).await,
        (200, session.clone())
    );
    let mut client = door.client().await;
    client.register(&publisher(ECHO, "p", &[LINE])).await;
    let weighted = format!("{session}?weight=1");
    assert_eq!(
        get(door.http, "GET", &format!("/api/servers/queryWithWeight{query}")).await,
        (200, weighted)
    );
    let json = format!("[\"{session}\"]");
    assert_eq!(
        get(door.http, "GET", "/api/servers/query.json").await,
        (200, json.clone())
    );
    assert_eq!(get(door.http, "GET", "/api/servers/dataCenter").await, (200, json));
    assert_eq!(
        get(door.http, "GET", "/api/servers/alive").await,
        (200, "OK".to_owned())
    );
    assert_eq!(
        get(door.http, "GET", "/api/servers/connectionNum").await,
        (200, "1".to_owned())
    );
    assert_eq!(get(door.http, "POST", "/api/servers/query").await.0, 405);
    assert_eq!(get(door.http, "GET", "/api/servers/").await.0, 404);
    assert_eq!(get(door.http, "GET", "/").await.0, 404);
}

#[tokio::test]
async fn a_client_stays_at_the_address_that_it_asked_on() {
    let everywhere = Config {
        listen: "0.0.0.0:0".parse().unwrap(),
        session: "0.0.0.0:0".parse().unwrap(),
        ..config()
    };
    let door = Door::with(everywhere, None);
    for host in ["127.0.0.1", "127.0.0.9"] {
        let http = format!("{host}:{}", door.http.port()).parse().unwrap();
        let session = format!("{host}:{}", door.session.port());
        assert_eq!(get(http, "GET", "/api/servers/query").await, (200, session));
    }
}

/// `Result{success: true}`.
const RESULT: [u8; 65] = *b"O\xbacom.alipay.sofa.registry.core.model.Result\x92\x07success\x07messageo\x90TN";
