// SPDX-License-Identifier: Apache-2.0
//! The embedded registry as its clients see it.

mod support;

use bytes::Bytes;
use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::wire::EventKind::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
use remora_zookeeper::wire::request::{Create, SetWatches};
use remora_zookeeper::wire::{CreateMode, ErrorCode, Op, OpCode, OpResult, Reply, Request, Seq, Text, watcher_kind};
use support::{Client, acl, create_record};

use CreateMode::{Ephemeral, EphemeralSequential, Persistent, PersistentSequential};

fn server() -> Server {
    Server::in_memory(Options::default())
}

fn names(list: &[&str]) -> Seq<Text> {
    Seq::of_strs(list.iter().copied())
}

#[tokio::test]
async fn fresh_tree_is_a_standalone_zookeepers() {
    let server = server();
    let mut c = Client::new(&server).await;
    assert_eq!(c.children("/", false).await.unwrap(), ["zookeeper"]);
    assert_eq!(c.exists("/", false).await.unwrap().cversion, -1);
    let (data, stat) = c.get("/zookeeper/config", true).await.unwrap();
    assert_eq!((data.as_deref(), stat.aversion, stat.mzxid), (Some(&b""[..]), -1, 0));
    assert_eq!(c.set("/zookeeper/config", b"x").await, Err(ErrorCode::NO_AUTH));
    assert_eq!(c.delete("/zookeeper/config").await, Err(ErrorCode::BAD_ARGUMENTS));
}

#[tokio::test]
async fn create_answers_what_is_in_its_way() {
    let server = server();
    let mut c = Client::new(&server).await;
    assert_eq!(c.create("/a/b", Persistent).await, Err(ErrorCode::NO_NODE));
    assert_eq!(c.create("/a", Persistent).await.unwrap(), "/a");
    assert_eq!(c.create("/a", Persistent).await, Err(ErrorCode::NODE_EXISTS));
    assert_eq!(c.create("/a/e", Ephemeral).await.unwrap(), "/a/e");
    assert_eq!(
        c.create("/a/e/x", Persistent).await,
        Err(ErrorCode::NO_CHILDREN_FOR_EPHEMERALS)
    );
    assert_eq!(c.create("/a/", Persistent).await, Err(ErrorCode::BAD_ARGUMENTS));
    assert_eq!(c.create("/a/.", Persistent).await, Err(ErrorCode::BAD_ARGUMENTS));
    assert_eq!(c.delete("/a").await, Err(ErrorCode::NOT_EMPTY));
    let stale = Request::Delete {
        path: "/a/e".into(),
        version: 3,
    };
    assert_eq!(c.ask(stale).await, Err(ErrorCode::BAD_VERSION));
    let mut odd = create_record("/b", Persistent);
    odd.flags = 99;
    assert_eq!(c.ask(Request::Create(odd)).await, Err(ErrorCode::BAD_ARGUMENTS));
    let mut bare = create_record("/b", Persistent);
    bare.acl = Seq::empty();
    assert_eq!(c.ask(Request::Create(bare)).await, Err(ErrorCode::INVALID_ACL));
}

#[tokio::test]
async fn sequence_counts_creates_and_cversion_counts_deletes_too() {
    let server = server();
    let mut c = Client::new(&server).await;
    c.create("/q", Persistent).await.unwrap();
    assert_eq!(
        c.create("/q/s-", PersistentSequential).await.unwrap(),
        "/q/s-0000000000"
    );
    c.create("/q/plain", Persistent).await.unwrap();
    assert_eq!(c.create("/q/", EphemeralSequential).await.unwrap(), "/q/0000000002");
    c.delete("/q/plain").await.unwrap();
    let stat = c.exists("/q", false).await.unwrap();
    assert_eq!((stat.cversion, stat.num_children), (4, 2));
    assert_eq!(stat.pzxid, c.zxid);
    assert_eq!(
        c.create("/q/s-", PersistentSequential).await.unwrap(),
        "/q/s-0000000003"
    );
}

#[tokio::test]
async fn null_data_and_empty_data_stay_apart() {
    let server = server();
    let mut c = Client::new(&server).await;
    for (path, data) in [("/null", None), ("/empty", Some(Bytes::new()))] {
        let record = Create {
            data: data.clone(),
            ..create_record(path, Persistent)
        };
        c.ask(Request::Create(record)).await.unwrap();
        assert_eq!(c.get(path, false).await.unwrap().0, data);
    }
}

#[tokio::test]
async fn watches_fire_once_and_before_the_reply() {
    let server = server();
    let mut c = Client::new(&server).await;
    assert_eq!(c.exists("/w", true).await, Err(ErrorCode::NO_NODE));
    c.children("/", true).await.unwrap();
    c.create("/w", Persistent).await.unwrap();
    // Events are kept until the reply comes, so what is here came before it.
    let before_reply: Vec<_> = c.events.drain(..).collect();
    assert_eq!(
        before_reply,
        [(NodeCreated, "/w".into()), (NodeChildrenChanged, "/".into())]
    );
    c.set("/w", b"1").await.unwrap();
    assert!(c.told().await.is_empty(), "the watch is used up");
    c.get("/w", true).await.unwrap();
    c.exists("/w", true).await.unwrap();
    c.set("/w", b"2").await.unwrap();
    assert_eq!(
        c.told().await,
        [(NodeDataChanged, "/w".into())],
        "two registrations, one event"
    );
    c.get("/w", true).await.unwrap();
    c.children("/w", true).await.unwrap();
    c.delete("/w").await.unwrap();
    assert_eq!(
        c.told().await,
        [(NodeDeleted, "/w".into())],
        "data and child watch, one event"
    );
    assert_eq!(c.get("/w", true).await, Err(ErrorCode::NO_NODE));
    c.create("/w", Persistent).await.unwrap();
    assert!(c.told().await.is_empty(), "a failed read leaves no watch");
}

#[tokio::test]
async fn other_sessions_are_told_too() {
    let server = server();
    let (mut a, mut b) = (Client::new(&server).await, Client::new(&server).await);
    a.create("/p", Persistent).await.unwrap();
    b.children("/p", true).await.unwrap();
    a.create("/p/1", Ephemeral).await.unwrap();
    assert_eq!(b.told().await, [(NodeChildrenChanged, "/p".into())]);
    b.children("/p", true).await.unwrap();
    b.exists("/p/1", true).await.unwrap();
    a.close().await;
    assert_eq!(
        b.told().await,
        [(NodeDeleted, "/p/1".into()), (NodeChildrenChanged, "/p".into())]
    );
}

#[tokio::test]
async fn persistent_watches_stay() {
    let server = server();
    let (mut a, mut c) = (Client::new(&server).await, Client::new(&server).await);
    a.create("/p", Persistent).await.unwrap();
    c.watch("/p", 0).await;
    for _ in 0..2 {
        a.create("/p/x", Persistent).await.unwrap();
        a.set("/p", b"1").await.unwrap();
        a.set("/p/x", b"1").await.unwrap();
        a.delete("/p/x").await.unwrap();
        let told = c.told().await;
        assert_eq!(
            told,
            [
                (NodeChildrenChanged, "/p".into()),
                (NodeDataChanged, "/p".into()),
                (NodeChildrenChanged, "/p".into())
            ]
        );
    }
}

#[tokio::test]
async fn recursive_watches_tell_of_the_whole_subtree_but_no_child_lists() {
    let server = server();
    let (mut a, mut c) = (Client::new(&server).await, Client::new(&server).await);
    c.watch("/r", 1).await;
    a.create("/r", Persistent).await.unwrap();
    a.create("/r/x", Persistent).await.unwrap();
    a.create("/r/x/y", Persistent).await.unwrap();
    a.set("/r/x/y", b"1").await.unwrap();
    a.delete("/r/x/y").await.unwrap();
    a.create("/rr", Persistent).await.unwrap();
    let told: Vec<_> = c
        .told()
        .await
        .into_iter()
        .map(|(kind, path)| format!("{kind:?} {path}"))
        .collect();
    assert_eq!(
        told,
        [
            "NodeCreated /r",
            "NodeCreated /r/x",
            "NodeCreated /r/x/y",
            "NodeDataChanged /r/x/y",
            "NodeDeleted /r/x/y"
        ]
    );
    let remove = |kind| Request::RemoveWatches {
        path: "/r".into(),
        kind,
    };
    assert_eq!(c.ask(remove(watcher_kind::DATA)).await, Err(ErrorCode::NO_WATCHER));
    assert_eq!(
        c.ask(remove(watcher_kind::PERSISTENT_RECURSIVE)).await,
        Ok(Reply::Empty)
    );
    a.set("/r/x", b"2").await.unwrap();
    assert!(c.told().await.is_empty());
    assert_eq!(c.ask(remove(99)).await, Err(ErrorCode::MARSHALLING_ERROR));
}

#[tokio::test]
async fn set_watches_tells_what_was_missed_and_arms_the_rest() {
    let server = server();
    let mut a = Client::new(&server).await;
    for path in ["/same", "/set", "/gone", "/kids"] {
        a.create(path, Persistent).await.unwrap();
    }
    let seen = a.zxid;
    a.set("/set", b"1").await.unwrap();
    a.delete("/gone").await.unwrap();
    a.create("/kids/1", Persistent).await.unwrap();
    a.create("/new", Persistent).await.unwrap();
    let set = SetWatches {
        relative_zxid: seen,
        data: names(&["/same", "/set", "/gone"]),
        exist: names(&["/new", "/never"]),
        child: names(&["/same", "/kids", "/gone"]),
        persistent: names(&["/same"]),
        persistent_recursive: names(&["/kids"]),
    };
    let mut c = Client::new(&server).await;
    c.ask(Request::SetWatches2(set)).await.unwrap();
    let told: Vec<_> = c
        .told()
        .await
        .into_iter()
        .map(|(kind, path)| format!("{kind:?} {path}"))
        .collect();
    assert_eq!(
        told,
        [
            "NodeDataChanged /set",
            "NodeDeleted /gone",
            "NodeCreated /new",
            "NodeChildrenChanged /kids",
            "NodeDeleted /gone"
        ]
    );
    a.set("/same", b"1").await.unwrap();
    a.create("/never", Persistent).await.unwrap();
    a.create("/kids/2", Persistent).await.unwrap();
    a.set("/same", b"2").await.unwrap();
    let told: Vec<_> = c
        .told()
        .await
        .into_iter()
        .map(|(kind, path)| format!("{kind:?} {path}"))
        .collect();
    assert_eq!(
        told,
        [
            "NodeDataChanged /same",
            "NodeCreated /never",
            "NodeCreated /kids/2",
            "NodeDataChanged /same"
        ]
    );
}

#[tokio::test]
async fn multi_is_all_or_nothing() {
    let server = server();
    let mut c = Client::new(&server).await;
    c.create("/m", Persistent).await.unwrap();
    c.create("/m/old", Persistent).await.unwrap();
    let before = c.exists("/m", false).await.unwrap();
    c.children("/m", true).await.unwrap();
    let ops = |last: &str| {
        Request::Multi(
            [
                Op::Create(create_record("/m/1", PersistentSequential)),
                Op::Delete {
                    path: "/m/old".into(),
                    version: -1,
                },
                Op::Create(Create {
                    op: OpCode::Create2,
                    ..create_record("/m/2", Persistent)
                }),
                Op::Check {
                    path: last.into(),
                    version: -1,
                },
                Op::Create(create_record("/m/3", Persistent)),
            ]
            .into_iter()
            .collect(),
        )
    };
    let Ok(Reply::Results(results)) = c.ask(ops("/none")).await else {
        panic!("results")
    };
    let errors: Vec<_> = results.iter().collect();
    let error = |n| OpResult::Error(ErrorCode(n));
    assert_eq!(errors, [error(0), error(0), error(0), error(-101), error(-2)]);
    assert_eq!(c.exists("/m", false).await.unwrap(), before);
    assert_eq!(c.children("/m", false).await.unwrap(), ["old"]);
    assert!(c.told().await.is_empty(), "nothing happened, nobody is told");
    let Ok(Reply::Results(results)) = c.ask(ops("/m/2")).await else {
        panic!("results")
    };
    assert_eq!(results.iter().count(), 5);
    assert_eq!(c.children("/m", false).await.unwrap(), ["10000000001", "2", "3"]);
    let stat = c.exists("/m", false).await.unwrap();
    let child = c.exists("/m/3", false).await.unwrap();
    assert_eq!((stat.pzxid, child.czxid), (c.zxid, c.zxid), "one zxid for all");
    assert_eq!(c.told().await, [(NodeChildrenChanged, "/m".into())]);
}

#[tokio::test]
async fn multi_read_answers_each_by_itself() {
    let server = server();
    let mut c = Client::new(&server).await;
    let ops = [
        Op::GetData {
            path: "/zookeeper/config".into(),
            watch: false,
        },
        Op::GetData {
            path: "/none".into(),
            watch: false,
        },
        Op::GetChildren {
            path: "/".into(),
            watch: true,
        },
    ];
    let Ok(Reply::Results(results)) = c.ask(Request::MultiRead(ops.into_iter().collect())).await else {
        panic!("results")
    };
    let results: Vec<_> = results.iter().collect();
    assert!(matches!(&results[0], OpResult::GetData { data: Some(data), .. } if data.is_empty()));
    assert_eq!(results[1], OpResult::Error(ErrorCode::NO_NODE));
    assert!(matches!(&results[2], OpResult::GetChildren { children } if children.len() == 1));
    let mixed = [
        Op::GetData {
            path: "/".into(),
            watch: false,
        },
        Op::Delete {
            path: "/".into(),
            version: -1,
        },
    ];
    assert_eq!(
        c.ask(Request::Multi(mixed.into_iter().collect())).await,
        Err(ErrorCode::MARSHALLING_ERROR)
    );
}

#[tokio::test]
async fn access_lists_hold_for_reads_writes_and_events() {
    let server = server();
    let (mut owner, mut other) = (Client::new(&server).await, Client::new(&server).await);
    owner.auth("dubbo:secret").await.unwrap();
    let private = Create {
        acl: acl("auth", "", 31),
        ..create_record("/private", Persistent)
    };
    assert_eq!(
        other.ask(Request::Create(private.clone())).await,
        Err(ErrorCode::INVALID_ACL)
    );
    owner.ask(Request::Create(private)).await.unwrap();
    assert_eq!(other.get("/private", true).await, Err(ErrorCode::NO_AUTH));
    assert_eq!(other.set("/private", b"x").await, Err(ErrorCode::NO_AUTH));
    assert_eq!(other.create("/private/x", Persistent).await, Err(ErrorCode::NO_AUTH));
    assert_eq!(other.exists("/private", true).await, Err(ErrorCode::NO_AUTH));
    other.watch("/private", 0).await;
    owner.set("/private", b"x").await.unwrap();
    assert!(other.told().await.is_empty(), "who may not read is not told");
    other.auth("dubbo:wrong").await.unwrap();
    assert_eq!(other.get("/private", false).await, Err(ErrorCode::NO_AUTH));
    other.auth("dubbo:secret").await.unwrap();
    other.get("/private", false).await.unwrap();
    owner.set("/private", b"y").await.unwrap();
    assert_eq!(other.told().await, [(NodeDataChanged, "/private".into())]);
    let Ok(Reply::Identities(who)) = other.ask(Request::WhoAmI).await else {
        panic!("identities")
    };
    let who: Vec<_> = who.iter().map(|i| format!("{} {}", i.scheme, i.user)).collect();
    assert_eq!(who, ["ip 127.0.0.1", "digest dubbo", "digest dubbo"]);
}

#[tokio::test]
async fn unknown_auth_scheme_fails_and_closes() {
    let server = server();
    let mut c = Client::new(&server).await;
    let auth = remora_zookeeper::wire::request::Auth {
        kind: 0,
        scheme: "kerberos".into(),
        auth: None,
    };
    assert_eq!(c.ask(Request::Auth(auth)).await, Err(ErrorCode::AUTH_FAILED));
    assert!(c.frame().await.is_none());
}

#[tokio::test]
async fn unreadable_bodies_leave_the_connection_open_unknown_operations_do_not() {
    let server = server();
    let mut c = Client::new(&server).await;
    c.raw(&[0, 0, 0, 9, 0, 0, 0, 10, 0, 0, 0, 4, 0x7f]).await;
    let (head, _) = c.reply().await.unwrap();
    assert_eq!((head.xid, head.err), (10, ErrorCode::MARSHALLING_ERROR));
    let sasl = c.ask(Request::Sasl { token: None }).await;
    assert_eq!(sasl, Ok(Reply::Token(None)));
    let reconfig = remora_zookeeper::wire::request::Reconfig {
        joining: "a".into(),
        leaving: "".into(),
        new_members: "".into(),
        config: -1,
    };
    assert_eq!(
        c.ask(Request::Reconfig(reconfig)).await,
        Err(ErrorCode::RECONFIG_DISABLED)
    );
    c.children("/", false).await.unwrap();
    c.raw(&[0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0x30, 0x39]).await;
    let (head, _) = c.reply().await.unwrap();
    assert_eq!((head.xid, head.err), (9, ErrorCode::UNIMPLEMENTED));
    assert!(c.frame().await.is_none());
}
