// SPDX-License-Identifier: Apache-2.0
//! The front door: what is not discovery's passes through, what is the server's own is answered, and nobody can do harm.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use remora_zookeeper::backend::{Duplex, Embedded};
use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::facade::{Config, ZookeeperFacade};
use remora_zookeeper::wire::EventKind::NodeDataChanged;
use remora_zookeeper::wire::request::{Create, SetData};
use remora_zookeeper::wire::{CreateMode, ErrorCode, Op, Ops, Reply, Request, Stat, Text, begin_frame, end_frame};
use support::door::{Door, Script, child, mkdirs, service, world};
use support::{Client, create, create_record, eventually, pipe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use CreateMode::{Ephemeral, EphemeralSequential, Persistent, PersistentSequential};

/// What a shop of its own does beside discovery: locks, queues, configuration, and mistakes.
fn requests() -> Vec<Request> {
    let (path, text) = (
        |path: &str| Text::from(path),
        |text: &'static str| Some(Bytes::from_static(text.as_bytes())),
    );
    let exists = |path: &str, watch| Request::Exists {
        path: path.into(),
        watch,
    };
    let get = |path: &str| Request::GetData {
        path: path.into(),
        watch: true,
    };
    let set = |path: &str, version| {
        let path = path.into();
        let data = text("two");
        Request::SetData(SetData { path, data, version })
    };
    vec![
        create("/shop", Persistent),
        create("/shop", Persistent),
        exists("/shop/later", true),
        create("/shop/later", Ephemeral),
        create("/shop/q-", PersistentSequential),
        create("/shop/q-", EphemeralSequential),
        get("/shop"),
        set("/shop", 0),
        set("/shop", 0),
        Request::GetChildren {
            path: path("/shop"),
            watch: true,
        },
        Request::GetAcl { path: path("/shop") },
        Request::Sync { path: path("/shop") },
        Request::GetAllChildrenNumber { path: path("/shop") },
        Request::AddWatch {
            path: path("/shop"),
            mode: 1,
        },
        Request::Multi(Ops::from_iter([
            Op::Create(create_record("/shop/m", Persistent)),
            Op::Check {
                path: path("/shop"),
                version: 1,
            },
        ])),
        Request::Multi(Ops::from_iter([
            Op::Create(create_record("/shop/n", Persistent)),
            Op::Check {
                path: path("/shop"),
                version: 7,
            },
        ])),
        Request::MultiRead(Ops::from_iter([
            Op::GetData {
                path: path("/shop"),
                watch: false,
            },
            Op::GetChildren {
                path: path("/absent"),
                watch: false,
            },
        ])),
        Request::Delete {
            path: path("/shop"),
            version: -1,
        },
        Request::GetEphemerals { prefix: path("/") },
        Request::Create(Create {
            data: None,
            ..create_record("/dubbo", Persistent)
        }),
        create("/dubbo/config", CreateMode::Container),
        exists("/dubbo/a.B/routers", true),
        create("bad", Persistent),
        exists("/bad//path", true),
        Request::WhoAmI,
    ]
}

fn frame(body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let start = begin_frame(&mut out);
    out.put_slice(body);
    end_frame(&mut out, start);
    out
}

/// All that one connection is sent for these requests, one after the other, without what tells sessions and times apart.
async fn conversation(io: Box<dyn Duplex>) -> Vec<Bytes> {
    let mut client = Client::open(io, None).await.unwrap();
    let mut seen = Vec::new();
    // An operation that nobody knows; servers close after their answer.
    let unknown = [0, 0, 0x40, 1, 0, 0, 3, 0xe7];
    for request in requests() {
        client.send(&request).await;
        drain_reply(&mut client, &mut seen, &format!("{request:?}")).await;
    }
    client.raw(&frame(&unknown)).await;
    drain_reply(&mut client, &mut seen, "an unknown operation").await;
    assert!(client.frame().await.is_none());
    seen
}

async fn drain_reply(client: &mut Client, seen: &mut Vec<Bytes>, request: &str) {
    loop {
        let frame = client.frame().await.unwrap_or_else(|| panic!("no reply to {request}"));
        let is_event = frame.starts_with(&[0xff; 4]);
        seen.push(mask(frame, client.session));
        if !is_event {
            return;
        }
    }
}

// Times are the only bytes that may differ between two registries that were asked the same; session ids are swapped out.
fn mask(frame: Bytes, session: i64) -> Bytes {
    let mut bytes = frame.to_vec();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    for at in 0..bytes.len().saturating_sub(7) {
        let number = i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        if number == session || (now - number).abs() < 60_000 {
            bytes[at..at + 8].fill(0xee);
        }
    }
    bytes.into()
}

#[tokio::test]
async fn what_is_not_discoverys_passes_byte_for_byte() {
    let server = Server::in_memory(Options::default());
    let direct = conversation(pipe(&server)).await;
    let (_, _, door) = world();
    let through = conversation(door.socket().await).await;
    for (at, (through, direct)) in through.iter().zip(&direct).enumerate() {
        assert_eq!(through, direct, "frame {at}");
    }
    assert_eq!(through.len(), direct.len());
}

#[tokio::test]
async fn pipelined_requests_keep_their_order() {
    let (_, script, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, "/dubbo/a.B/providers").await;
    let provider = format!("/dubbo/a.B/providers/{}", child("dubbo://10.0.0.5:20880/a.B"));
    let mut numbers = Vec::new();
    for round in 0..3_000 {
        let path: Text = ["/zookeeper/config", "/dubbo", "/absent"][round % 3].into();
        let request = match round % 7 {
            0 => Request::GetChildren {
                path: "/dubbo/a.B/providers".into(),
                watch: true,
            },
            1 => create(&provider, Ephemeral),
            2 => Request::Delete {
                path: provider.as_str().into(),
                version: -1,
            },
            3 => Request::MultiRead(Ops::from_iter([Op::GetChildren {
                path: "/dubbo/a.B/providers".into(),
                watch: false,
            }])),
            4 => Request::GetData {
                path: "/dubbo/metadata/shop/0123456789abcdef0123456789abcdef".into(),
                watch: false,
            },
            _ => Request::Exists { path, watch: false },
        };
        numbers.push(app.send(&request).await);
    }
    script.providers(&service("a.B"), &["dubbo://10.0.0.9:1/a.B"]);
    for number in numbers {
        assert_eq!(app.reply().await.unwrap().0.xid, number);
    }
}

#[tokio::test]
async fn the_servers_own_nodes_are_answered_and_never_changed() {
    let (_, _, door) = world();
    let mut app = door.client().await;
    let (data, stat) = app.get("/zookeeper/config", true).await.unwrap();
    let standalone = Stat {
        aversion: -1,
        ..Stat::default()
    };
    assert_eq!((data.as_deref(), stat), (Some(&b""[..]), standalone));
    assert_eq!(app.children("/zookeeper", false).await.unwrap(), ["config", "quota"]);
    assert_eq!(app.exists("/zookeeper/quota/x", true).await, Err(ErrorCode::NO_NODE));
    assert_eq!(app.set("/zookeeper/config", b"x").await, Err(ErrorCode::NO_AUTH));
    assert_eq!(app.create("/zookeeper/x", Persistent).await, Err(ErrorCode::NO_AUTH));
    assert_eq!(app.delete("/zookeeper/config").await, Err(ErrorCode::NO_AUTH));
    let multi = Request::Multi(Ops::from_iter([
        Op::Create(create_record("/before", Persistent)),
        Op::Create(create_record("/zookeeper/x", Persistent)),
    ]));
    let Ok(Reply::Results(results)) = app.ask(multi).await else {
        panic!("no results")
    };
    assert_eq!(results.iter().count(), 2);
    assert_eq!(app.exists("/before", false).await, Err(ErrorCode::NO_NODE));
    assert!(app.ask(Request::WhoAmI).await.is_ok());
}

#[tokio::test]
async fn rules_that_name_hosts_are_kept_away_and_reported() {
    let (server, script, door) = world();
    let mut direct = Client::new(&server).await;
    let dir = "/dubbo/a.B/routers";
    mkdirs(&mut direct, dir).await;
    let hidden = child("condition://0.0.0.0/a.B?category=routers&rule=method%3Dx+%3D%3E+host%3D10.0.0.1");
    direct.create(&format!("{dir}/{hidden}"), Persistent).await.unwrap();
    direct.create(&format!("{dir}/plain"), Persistent).await.unwrap();
    let mut app = door.client().await;
    assert_eq!(app.children(dir, true).await.unwrap(), ["plain"]);
    assert_eq!(app.exists(dir, false).await.unwrap().num_children, 1);
    assert_eq!(script.rules.lock().unwrap()[dir].len(), 1);
    direct.delete(&format!("{dir}/{hidden}")).await.unwrap();
    app.event().await;
    assert_eq!(app.children(dir, true).await.unwrap(), ["plain"]);
    assert!(script.rules.lock().unwrap()[dir].is_empty());

    let rule = "/dubbo/config/dubbo/a.B.condition-router";
    mkdirs(&mut direct, rule).await;
    let yaml =
        b"enabled: true\nforce: true\nconditions:\n  - method=x => host=10.0.0.1\n  - method=y => application=z\n";
    direct.set(rule, yaml).await.unwrap();
    let (data, stat) = app.get(rule, true).await.unwrap();
    let data = String::from_utf8(data.unwrap().to_vec()).unwrap();
    assert!(!data.contains("10.0.0.1"), "{data}");
    assert_eq!(stat.data_length as usize, data.len());
    assert_eq!(script.rules.lock().unwrap()[rule].len(), 1);
    direct.set(rule, b"enabled: true\nconditions: []\n").await.unwrap();
    assert_eq!(app.event().await, (NodeDataChanged, rule.to_owned()));
    assert_eq!(
        &*app.get(rule, true).await.unwrap().0.unwrap(),
        b"enabled: true\nconditions: []\n"
    );
    assert!(script.rules.lock().unwrap()[rule].is_empty());
}

#[tokio::test]
async fn metadata_of_a_followed_revision_is_shown_from_here() {
    let (server, script, door) = world();
    let revision = "0123456789abcdef0123456789abcdef";
    let path = format!("/dubbo/metadata/shop/{revision}");
    let mut app = door.client().await;
    assert_eq!(app.get(&path, false).await, Err(ErrorCode::NO_NODE));
    let key = ("shop".to_owned(), revision.to_owned());
    script
        .documents
        .lock()
        .unwrap()
        .insert(key.clone(), "{\"app\":\"shop\"}".to_owned());
    let stat = app.exists(&path, false).await.unwrap();
    let (data, same) = app.get(&path, false).await.unwrap();
    assert_eq!((&*data.unwrap(), stat), (&b"{\"app\":\"shop\"}"[..], same));
    // What discovery does not know is the registry's.
    script.documents.lock().unwrap().remove(&key);
    let mut direct = Client::new(&server).await;
    mkdirs(&mut direct, &path).await;
    assert_eq!(app.get(&path, false).await.unwrap().0.unwrap(), "data");
}

async fn word(door: &Door, word: &[u8]) -> String {
    let mut io = door.socket().await;
    io.write_all(word).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn four_letters_are_answered() {
    let (_, _, door) = world();
    let _app = door.client().await;
    assert_eq!(word(&door, b"ruok").await, "imok");
    assert_eq!(word(&door, b"isro").await, "rw");
    assert!(word(&door, b"srvr").await.contains("\nMode: standalone\n"));
    assert!(word(&door, b"stat").await.contains("Clients:"));
    assert!(word(&door, b"mntr").await.contains("zk_global_sessions\t1\n"));
    assert!(word(&door, b"dump").await.contains("whitelist"));
}

#[tokio::test]
async fn bytes_that_are_no_frame_close_their_connection_only() {
    let (_, _, door) = world();
    let mut good = door.client().await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0, 0, 0, 3, 1, 2, 3],
        &[0xff; 64],
        &[0x7f; 64],
    ] {
        let mut io = door.socket().await;
        io.write_all(bytes).await.unwrap();
        assert_eq!(io.read(&mut [0; 16]).await.unwrap_or(0), 0);
    }
    for bytes in [&[0, 0, 0, 2, 1, 2][..], &[0x7f, 0, 0, 0], &[0xff, 0xff, 0xff, 0xfe]] {
        let mut app = door.client().await;
        app.raw(bytes).await;
        assert!(app.frame().await.is_none());
    }
    assert!(good.exists("/", false).await.is_ok());
    assert!(door.stats.malformed.load(Ordering::Relaxed) >= 6);
}

#[tokio::test]
async fn a_request_over_the_limit_closes_the_connection_before_it_is_read() {
    let server = Server::in_memory(Options::default());
    let config = Config {
        max_frame_bytes: 1_000,
        ..Config::default()
    };
    let door = Door::open_with(Arc::new(Embedded::new(server)), &Arc::default(), config);
    let mut app = door.client().await;
    assert!(app.create("/fits", Persistent).await.is_ok());
    app.raw(&1_001u32.to_be_bytes()).await;
    assert!(app.frame().await.is_none());
}

#[tokio::test]
async fn an_application_that_does_not_read_is_not_read_from_and_then_cut_off() {
    let server = Server::in_memory(Options::default());
    let config = Config {
        buffer_bytes: 16 * 1024,
        write_timeout: Duration::from_millis(200),
        ..Config::default()
    };
    let door = Door::open_with(Arc::new(Embedded::new(server.clone())), &Arc::default(), config);
    let mut direct = Client::new(&server).await;
    direct.create("/large", Persistent).await.unwrap();
    direct.set("/large", &[7; 60_000]).await.unwrap();
    for path in ["/large", "/zookeeper/config"] {
        let app = door.client().await;
        let (mut read, mut write) = tokio::io::split(app.into_io());
        let mut out = BytesMut::new();
        for number in 1..=1_000 {
            let path = path.into();
            Request::GetData { path, watch: false }.encode_frame(number, &mut out);
        }
        // Written until nobody takes it any more.
        let mut sent = 0_usize;
        while write.write_all(&out).await.is_ok() {
            sent += out.len();
            assert!(sent < 256 << 20, "requests are taken without end");
        }
        let mut left = Vec::new();
        let _ = read.read_to_end(&mut left).await;
    }
    eventually("both cut off", async || {
        (door.stats.slow_readers.load(Ordering::Relaxed) == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_connection_more_than_allowed_is_closed() {
    let server = Server::in_memory(Options::default());
    let config = Config {
        max_connections: 1,
        ..Config::default()
    };
    let door = Door::open_with(Arc::new(Embedded::new(server)), &Arc::default(), config);
    let one = door.client().await;
    let mut two = door.socket().await;
    assert_eq!(two.read(&mut [0; 1]).await.unwrap_or(0), 0);
    one.close().await;
    eventually("room again", async || Client::open(door.socket().await, None).await).await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let server = Server::in_memory(Options::default());
    let config = Config {
        greeting_timeout: Duration::from_millis(50),
        ..Config::default()
    };
    let door = Door::open_with(Arc::new(Embedded::new(server)), &Arc::default(), config);
    let mut silent = door.socket().await;
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
    let mut slow = door.socket().await;
    slow.write_all(&[0, 0, 0, 44, 0]).await.unwrap();
    assert_eq!(slow.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn the_second_port_shows_the_registry_as_it_is() {
    let server = Server::in_memory(Options::default());
    let raw = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let script = Arc::new(Script::default());
    let config = Config {
        raw: Some(raw),
        ..Config::default()
    };
    let door = Door::open_with(Arc::new(Embedded::new(server.clone())), &script, config.clone());
    let mut app = door.client().await;
    let dir = "/dubbo/a.B/providers";
    mkdirs(&mut app, dir).await;
    let provider = format!("{dir}/{}", child("dubbo://10.0.0.5:20880/a.B"));
    app.create(&provider, Ephemeral).await.unwrap();
    let io = tokio::net::TcpStream::connect(raw).await.unwrap();
    let mut tool = Client::open(Box::new(io), None).await.unwrap();
    let outward = child("dubbo://10.0.0.5:20881/a.B?remora.app.port=20880");
    assert_eq!(tool.children(dir, false).await.unwrap(), [outward]);
    let taken = ZookeeperFacade::bind(config, Arc::new(Embedded::new(server)), "default");
    assert!(taken.err().is_some_and(|e| e.to_string().contains("raw")));
}

#[tokio::test]
async fn a_request_is_split_anywhere() {
    let (_, _, door) = world();
    let mut app = door.client().await;
    let mut out = BytesMut::new();
    create("/split", Persistent).encode_frame(1, &mut out);
    Request::Ping.encode_frame(-2, &mut out);
    for byte in out.iter() {
        app.raw(&[*byte]).await;
    }
    assert_eq!(app.reply().await.unwrap().0.xid, 1);
    assert_eq!(app.reply().await.unwrap().0.xid, -2);
}
