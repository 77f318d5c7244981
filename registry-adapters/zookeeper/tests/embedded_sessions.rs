// SPDX-License-Identifier: Apache-2.0
//! The embedded registry as its clients see it: sessions, times, limits.

mod support;

use std::time::Duration;

use bytes::Bytes;
use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::wire::EventKind::NodeDeleted;
use remora_zookeeper::wire::request::Create;
use remora_zookeeper::wire::{CreateMode, ErrorCode, OpCode, Reply, Request, Seq, Text, xid};
use support::{Client, create, create_record, eventually, pipe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use CreateMode::{Ephemeral, Persistent};

fn server() -> Server {
    Server::in_memory(Options::default())
}

fn names(list: &[&str]) -> Seq<Text> {
    Seq::of_strs(list.iter().copied())
}

#[tokio::test]
async fn session_is_resumed_with_its_password_only() {
    let server = server();
    let mut a = Client::new(&server).await;
    a.create("/e", Ephemeral).await.unwrap();
    let mut b = Client::resume(&server, &a).await.expect("resumed");
    assert_eq!((b.session, &b.password), (a.session, &a.password));
    assert_eq!(b.exists("/e", false).await.unwrap().ephemeral_owner, a.session);
    assert!(a.frame().await.is_none(), "the old connection is closed");
    let mut thief = Client::new(&server).await;
    thief.session = b.session;
    assert!(Client::resume(&server, &thief).await.is_none());
    b.delete("/e").await.unwrap();
}

#[tokio::test]
async fn client_ahead_of_us_is_closed_without_a_word() {
    let server = server();
    let mut a = Client::new(&server).await;
    a.zxid = i64::MAX;
    assert!(Client::resume(&server, &a).await.is_none());
}

#[tokio::test]
async fn silent_session_expires_with_its_nodes() {
    let options = Options {
        min_session_timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let server = Server::in_memory(options);
    let mut watcher = Client::new(&server).await;
    let mut silent = Client::open_with(pipe(&server), None, 200).await.unwrap();
    assert_eq!(silent.timeout_ms, 200);
    silent.create("/e", Ephemeral).await.unwrap();
    watcher.exists("/e", true).await.unwrap();
    eventually("the node is gone", async || watcher.exists("/e", false).await.err()).await;
    assert_eq!(watcher.told().await, [(NodeDeleted, "/e".into())]);
    assert!(silent.frame().await.is_none(), "its connection is closed");
    assert!(
        Client::resume(&server, &silent).await.is_none(),
        "and it is told that it is gone"
    );
}

#[tokio::test]
async fn pings_keep_a_session_longer_than_a_silent_one_of_the_same_timeout() {
    let options = Options {
        min_session_timeout: Duration::from_millis(500),
        ..Options::default()
    };
    let server = Server::in_memory(options);
    let mut watcher = Client::new(&server).await;
    let mut pinging = Client::open_with(pipe(&server), None, 500).await.unwrap();
    let mut silent = Client::open_with(pipe(&server), None, 500).await.unwrap();
    silent.create("/silent", Ephemeral).await.unwrap();
    eventually("the silent one has expired", async || {
        pinging.ask(Request::Ping).await.unwrap();
        watcher.exists("/silent", false).await.err()
    })
    .await;
    pinging.ask(Request::Ping).await.unwrap();
}

#[tokio::test]
async fn containers_and_ttl_nodes_go_when_their_time_is_over() {
    let server = Server::in_memory(Options {
        container_check: Duration::from_millis(20),
        ..Options::default()
    });
    let mut c = Client::new(&server).await;
    for path in ["/used", "/unused"] {
        let container = Create {
            op: OpCode::CreateContainer,
            ..create_record(path, CreateMode::Container)
        };
        let Ok(Reply::Created2 { stat, .. }) = c.ask(Request::Create(container)).await else {
            panic!("created")
        };
        assert_eq!(stat.ephemeral_owner, 0);
    }
    c.create("/used/x", Persistent).await.unwrap();
    let ttl = Create {
        op: OpCode::CreateTtl,
        ttl_ms: 1,
        ..create_record("/ttl", CreateMode::PersistentWithTtl)
    };
    c.ask(Request::Create(ttl.clone())).await.unwrap();
    assert_eq!(
        c.ask(Request::Create(Create { ttl_ms: 0, ..ttl })).await,
        Err(ErrorCode::BAD_ARGUMENTS)
    );
    c.exists("/used", true).await.unwrap();
    c.delete("/used/x").await.unwrap();
    eventually("the container is gone", async || c.exists("/used", false).await.err()).await;
    eventually("the TTL node is gone", async || c.exists("/ttl", false).await.err()).await;
    assert_eq!(c.told().await, [(NodeDeleted, "/used".into())]);
    c.exists("/unused", false)
        .await
        .expect("a container that never had a child stays");
}

#[tokio::test]
async fn counting_operations_count() {
    let server = server();
    let mut c = Client::new(&server).await;
    c.create("/a", Persistent).await.unwrap();
    c.create("/a/b", Persistent).await.unwrap();
    c.create("/a/b/c", Ephemeral).await.unwrap();
    c.create("/ab", Ephemeral).await.unwrap();
    assert_eq!(
        c.ask(Request::GetAllChildrenNumber { path: "/a".into() }).await,
        Ok(Reply::Number(2))
    );
    let ephemerals = |prefix: &str| Request::GetEphemerals { prefix: prefix.into() };
    assert_eq!(
        c.ask(ephemerals("/")).await,
        Ok(Reply::Children(names(&["/a/b/c", "/ab"])))
    );
    assert_eq!(c.ask(ephemerals("/a/")).await, Ok(Reply::Children(names(&["/a/b/c"]))));
    assert_eq!(
        c.ask(Request::Sync { path: "/a".into() }).await,
        Ok(Reply::Path { path: "/a".into() })
    );
}

#[tokio::test]
async fn watches_are_limited_and_the_limit_is_told() {
    let server = Server::in_memory(Options {
        max_watches: 2,
        ..Options::default()
    });
    let mut c = Client::new(&server).await;
    let _ = c.exists("/1", true).await;
    let _ = c.exists("/2", true).await;
    assert_eq!(c.exists("/3", true).await, Err(ErrorCode::SYSTEM_ERROR));
    c.children("/", false).await.unwrap();
}

#[tokio::test]
async fn peer_that_does_not_read_is_not_read_from() {
    let server = server();
    let mut writer = Client::new(&server).await;
    let big = Create {
        data: Some(Bytes::from(vec![7; 500_000])),
        ..create_record("/big", Persistent)
    };
    writer.ask(Request::Create(big)).await.unwrap();
    let mut slow = Client::new(&server).await;
    let ask = Request::GetData {
        path: "/big".into(),
        watch: false,
    };
    // Asking without reading ends up blocked, not in memory: 64 KiB of pipe hold 2,000 requests of 32 bytes.
    let flood = async {
        for _ in 0..100_000 {
            slow.send(&ask).await;
        }
    };
    let blocked = tokio::time::timeout(Duration::from_millis(500), flood).await;
    assert!(blocked.is_err(), "100,000 replies of 500 kB were taken on");
    assert!(server.figures().outstanding < 100);
    writer.children("/", false).await.unwrap();
}

#[tokio::test]
async fn peer_that_reads_no_events_is_closed() {
    let server = Server::in_memory(Options {
        max_out_bytes: 50_000,
        ..Options::default()
    });
    let (mut a, mut slow) = (Client::new(&server).await, Client::new(&server).await);
    slow.watch("/", 1).await;
    for i in 0..4000 {
        a.create(&format!("/node-with-a-long-name-{i}"), Persistent)
            .await
            .unwrap();
    }
    let closed = async { while slow.frame().await.is_some() {} };
    tokio::time::timeout(support::DEADLINE, closed).await.expect("closed");
    assert!(
        Client::resume(&server, &slow).await.is_some(),
        "its session is still there"
    );
}

#[tokio::test]
async fn silent_connections_and_too_many_are_closed() {
    let options = Options {
        greeting_timeout: Duration::from_millis(50),
        max_connections: 2,
        ..Options::default()
    };
    let server = Server::in_memory(options);
    let mut mute = pipe(&server);
    let mut end = Vec::new();
    let read = tokio::time::timeout(support::DEADLINE, mute.read_to_end(&mut end))
        .await
        .expect("closed in time");
    assert_eq!(read.unwrap(), 0);
    let _one = Client::new(&server).await;
    let _two = Client::new(&server).await;
    let mut three = pipe(&server);
    assert_eq!(three.read_to_end(&mut end).await.unwrap(), 0);
}

#[tokio::test]
async fn frame_over_the_limit_closes_the_connection() {
    let server = Server::in_memory(Options {
        max_frame_bytes: 1000,
        ..Options::default()
    });
    let mut c = Client::new(&server).await;
    c.raw(&[0, 0, 4, 0]).await;
    assert!(c.frame().await.is_none());
}

#[tokio::test]
async fn four_letter_words_are_answered() {
    let server = server();
    let ask = async |word: &[u8]| {
        let mut io = pipe(&server);
        io.write_all(word).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert_eq!(ask(b"ruok").await, "imok");
    assert_eq!(ask(b"isro").await, "rw");
    let srvr = ask(b"srvr").await;
    for part in [
        "Zookeeper version: 3.9.5-",
        "\nMode: standalone\n",
        "\nNode count: 4\n",
        "\nZxid: 0x",
    ] {
        assert!(srvr.contains(part), "{part} in {srvr}");
    }
    assert!(ask(b"stat").await.contains("Clients:\n"));
    assert!(ask(b"mntr").await.contains("zk_server_state\tstandalone\n"));
    assert_eq!(
        ask(b"wchs").await,
        "wchs is not executed because it is not in the whitelist.\n"
    );
    assert_eq!(ask(b"abcd").await, "");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = server();
    let mut c = Client::new(&server).await;
    for i in 0..3000 {
        c.send(&create(&format!("/n{i}"), Persistent)).await;
        if i % 100 == 0 {
            c.send(&Request::Ping).await;
        }
    }
    let mut next = 1;
    for _ in 0..3030 {
        let (head, _) = c.reply().await.unwrap();
        if head.xid != xid::PING {
            assert_eq!(head.xid, next);
            next += 1;
        }
    }
}
