// SPDX-License-Identifier: Apache-2.0
//! The front door: sessions, and what an application publishes.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use bytes::Bytes;
use remora_zookeeper::wire::EventKind::{NodeCreated, NodeDataChanged, NodeDeleted};
use remora_zookeeper::wire::request::Create;
use remora_zookeeper::wire::{CreateMode, ErrorCode, Op, OpCode, OpResult, Ops, Reply, Request};
use support::door::{Door, Script, Switch, app, child, document, mkdirs, service, world};
use support::{Client, create_record, eventually};

use CreateMode::{Ephemeral, EphemeralSequential, Persistent};

const DIR: &str = "/dubbo/a.B/providers";
const URL: &str = "dubbo://10.0.0.5:20880/a.B?application=shop&bind.ip=10.0.0.5&bind.port=20880&side=provider&x=%261";

fn own() -> String {
    format!("{DIR}/{}", child(URL))
}

fn outward() -> String {
    let url = "dubbo://10.0.0.5:20881/a.B?application=shop&bind.ip=10.0.0.5&bind.port=20881&side=provider&x=%261\
               &remora.app.port=20880";
    format!("{DIR}/{}", child(url))
}

#[tokio::test]
async fn a_provider_is_published_outward_and_known_under_its_own_name() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    let mut direct = Client::new(&server).await;
    assert_eq!(app.create(&own(), Ephemeral).await, Err(ErrorCode::NO_NODE));
    mkdirs(&mut app, DIR).await;
    assert_eq!(app.exists(&own(), true).await, Err(ErrorCode::NO_NODE));

    assert_eq!(app.create(&own(), Ephemeral).await.unwrap(), own());
    assert_eq!(
        direct.children(DIR, false).await.unwrap(),
        [outward().rsplit('/').next().unwrap()]
    );
    assert_eq!(direct.get(&outward(), false).await.unwrap().0.unwrap(), "data");
    let stat = app.exists(&own(), true).await.unwrap();
    assert_eq!(stat.ephemeral_owner, app.session);
    assert_eq!(app.get(&own(), true).await.unwrap().0.unwrap(), "data");
    assert_eq!(app.create(&own(), Ephemeral).await, Err(ErrorCode::NODE_EXISTS));

    app.set(&own(), b"other").await.unwrap();
    assert_eq!(direct.get(&outward(), false).await.unwrap().0.unwrap(), "other");
    app.exists(&own(), true).await.unwrap();
    app.delete(&own()).await.unwrap();
    assert_eq!(direct.children(DIR, false).await.unwrap(), [""; 0]);
    assert_eq!(app.delete(&own()).await, Err(ErrorCode::NO_NODE));
    let told = app.told().await;
    assert_eq!(
        told,
        [(NodeCreated, own()), (NodeDataChanged, own()), (NodeDeleted, own())]
    );
    let log = script.log();
    assert!(log.contains(&"name shop".to_owned()), "{log:?}");
    assert!(log.contains(&"withdraw 20880".to_owned()), "{log:?}");
}

#[tokio::test]
async fn every_form_of_create_answers_with_the_applications_own_name() {
    let (server, _, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    let second = Create {
        op: OpCode::Create2,
        ..create_record(&own(), Ephemeral)
    };
    let Ok(Reply::Created2 { path, stat }) = app.ask(Request::Create(second)).await else {
        panic!("no create2")
    };
    assert_eq!((&*path, stat.ephemeral_owner), (own().as_str(), app.session));
    app.delete(&own()).await.unwrap();

    let ops = [
        Op::Create(create_record("/beside", Persistent)),
        Op::Create(create_record(&own(), Ephemeral)),
        Op::Check {
            path: own().as_str().into(),
            version: 0,
        },
    ];
    let Ok(Reply::Results(results)) = app.ask(Request::Multi(Ops::from_iter(ops))).await else {
        panic!("no multi")
    };
    let results: Vec<OpResult> = results.iter().collect();
    let created = |path: &str| OpResult::Create { path: path.into() };
    assert_eq!(results[..2], [created("/beside"), created(&own())]);
    let mut direct = Client::new(&server).await;
    assert!(direct.exists(&outward(), false).await.is_ok());
    let ops = [Op::Delete {
        path: own().as_str().into(),
        version: -1,
    }];
    app.ask(Request::Multi(Ops::from_iter(ops))).await.unwrap();
    assert_eq!(direct.exists(&outward(), false).await, Err(ErrorCode::NO_NODE));
}

#[tokio::test]
async fn a_failed_multi_publishes_nothing_and_says_which_operation_failed() {
    let (_, _, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    let ops = [
        Op::Create(create_record(&own(), Ephemeral)),
        Op::Delete {
            path: "/absent".into(),
            version: -1,
        },
    ];
    let Ok(Reply::Results(results)) = app.ask(Request::Multi(Ops::from_iter(ops))).await else {
        panic!("no multi")
    };
    let results: Vec<OpResult> = results.iter().collect();
    assert_eq!(
        results,
        [OpResult::Error(ErrorCode::OK), OpResult::Error(ErrorCode::NO_NODE)]
    );
    assert_eq!(app.exists(&own(), false).await, Err(ErrorCode::NO_NODE));
    assert_eq!(app.create(&own(), Ephemeral).await.unwrap(), own());
}

#[tokio::test]
async fn what_no_plugin_speaks_or_is_no_provider_is_published_as_it_is() {
    let (server, _, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    let tri = format!("{DIR}/{}", child("tri://10.0.0.5:50051/a.B?application=shop"));
    assert_eq!(app.create(&tri, Ephemeral).await.unwrap(), tri);
    let lock = app.create(&format!("{DIR}/lock-"), EphemeralSequential).await.unwrap();
    let mut direct = Client::new(&server).await;
    assert!(direct.exists(&tri, false).await.is_ok());
    assert!(direct.exists(&lock, false).await.is_ok());
    app.delete(&tri).await.unwrap();
    assert_eq!(direct.exists(&tri, false).await, Err(ErrorCode::NO_NODE));
}

#[tokio::test]
async fn two_ports_of_one_service_stay_apart() {
    let (server, _, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    let other = format!("{DIR}/{}", child("dubbo://10.0.0.5:20890/a.B"));
    app.create(&own(), Ephemeral).await.unwrap();
    app.create(&other, Ephemeral).await.unwrap();
    let mut direct = Client::new(&server).await;
    app.delete(&own()).await.unwrap();
    let left = child("dubbo://10.0.0.5:20891/a.B?remora.app.port=20890");
    assert_eq!(direct.children(DIR, false).await.unwrap(), [left]);
}

#[tokio::test]
async fn a_session_knows_its_ephemerals_by_their_own_names() {
    let (_, _, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    app.create(&own(), Ephemeral).await.unwrap();
    app.create("/plain", Ephemeral).await.unwrap();
    let ask = Request::GetEphemerals { prefix: "/".into() };
    let Ok(Reply::Children(paths)) = app.ask(ask).await else {
        panic!("no list")
    };
    let mut paths: Vec<String> = paths.iter().map(|path| path.to_string()).collect();
    paths.sort();
    assert_eq!(paths, [own(), "/plain".to_owned()]);
}

#[tokio::test]
async fn a_node_for_good_can_be_taken_back_by_a_later_session() {
    let (server, _, door) = world();
    let mut first = door.client().await;
    mkdirs(&mut first, DIR).await;
    first.create(&own(), Persistent).await.unwrap();
    first.close().await;
    let mut second = door.client().await;
    let mut direct = Client::new(&server).await;
    assert!(direct.exists(&outward(), false).await.is_ok());
    second.delete(&own()).await.unwrap();
    assert_eq!(direct.exists(&outward(), false).await, Err(ErrorCode::NO_NODE));
    assert_eq!(second.delete(&own()).await, Err(ErrorCode::NO_NODE));
}

#[tokio::test]
async fn a_delete_of_a_name_that_nobody_has_publishes_nothing() {
    let (_server, script, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    assert_eq!(app.delete(&own()).await, Err(ErrorCode::NO_NODE));
    let noted = script.log();
    assert!(
        !noted
            .iter()
            .any(|what| what.starts_with("publish") || what.starts_with("withdraw")),
        "{noted:?}"
    );
}

#[tokio::test]
async fn an_instance_of_an_application_is_published_with_all_its_ports() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, "/services/shop").await;
    let path = "/services/shop/10.0.0.5:20880";
    let document = document("shop", "10.0.0.5", &[20880, 20890], "r1");
    let record = Create {
        data: Some(Bytes::from(document.clone())),
        ..create_record(path, Ephemeral)
    };
    let Ok(Reply::Created { path: created }) = app.ask(Request::Create(record)).await else {
        panic!("not created")
    };
    assert_eq!(&*created, path);
    let mut direct = Client::new(&server).await;
    let there = "/services/shop/10.0.0.5:20881";
    let data = direct.get(there, false).await.unwrap().0.unwrap();
    let text = String::from_utf8(data.to_vec()).unwrap();
    assert!(
        text.contains(r#"\"port\":20881"#) && text.contains(r#"\"port\":20891"#),
        "{text}"
    );
    assert!(text.contains(r#""remora.app.port":"20880""#), "{text}");

    let (data, stat) = app.get(path, true).await.unwrap();
    assert_eq!(data.unwrap(), document.as_bytes());
    assert_eq!(stat.data_length as usize, document.len());
    let changed = document.replace("\"r1\"", "\"r2\"");
    app.set(path, Box::leak(changed.clone().into_bytes().into_boxed_slice()))
        .await
        .unwrap();
    assert_eq!(app.told().await, [(NodeDataChanged, path.to_owned())]);
    assert_eq!(app.get(path, false).await.unwrap().0.unwrap(), changed.as_bytes());
    let data = direct.get(there, false).await.unwrap().0.unwrap();
    assert!(String::from_utf8_lossy(&data).contains("\"r2\""));
    app.delete(path).await.unwrap();
    assert_eq!(direct.exists(there, false).await, Err(ErrorCode::NO_NODE));
    let log = script.log();
    for port in [20880, 20890] {
        assert!(log.contains(&format!("withdraw {port}")), "{log:?}");
    }
}

#[tokio::test]
async fn a_metadata_document_is_written_with_ingress_ports() {
    let (server, _, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, "/dubbo/metadata/shop").await;
    let path = "/dubbo/metadata/shop/0123456789abcdef0123456789abcdef";
    let document = r#"{"app":"shop","revision":"x","services":{"a.B:dubbo":{"name":"a.B","protocol":"dubbo","port":20880},"c.D:tri":{"name":"c.D","protocol":"tri","port":50051}}}"#;
    let record = Create {
        data: Some(Bytes::from_static(document.as_bytes())),
        ..create_record(path, Persistent)
    };
    app.ask(Request::Create(record)).await.unwrap();
    let mut direct = Client::new(&server).await;
    let there = |data: Option<Bytes>| String::from_utf8(data.unwrap().to_vec()).unwrap();
    let text = there(direct.get(path, false).await.unwrap().0);
    assert!(text.contains("20881") && text.contains("50051"), "{text}");
    app.set(
        path,
        Box::leak(document.replace("20880", "20890").into_bytes().into_boxed_slice()),
    )
    .await
    .unwrap();
    assert!(there(direct.get(path, false).await.unwrap().0).contains("20891"));
    // A document that is none is the application's own business.
    app.set(path, b"no json").await.unwrap();
    assert_eq!(there(direct.get(path, false).await.unwrap().0), "no json");
}

#[tokio::test]
async fn a_lease_ends_with_its_session() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    app.create(&own(), Ephemeral).await.unwrap();
    app.close().await;
    script.hears("close 0").await;
    let mut direct = Client::new(&server).await;
    assert_eq!(direct.children(DIR, false).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn paths_below_a_chroot_are_the_applications_own() {
    let server = remora_zookeeper::embedded::Server::in_memory(Default::default());
    let mut direct = Client::new(&server).await;
    mkdirs(&mut direct, "/prod").await;
    let script = std::sync::Arc::new(Script::default());
    let door = Door::open(Switch::new(&server, "/prod"), &script);
    let mut shop = door.client().await;
    mkdirs(&mut shop, DIR).await;
    assert_eq!(shop.exists(&own(), true).await, Err(ErrorCode::NO_NODE));
    assert_eq!(shop.create(&own(), Ephemeral).await.unwrap(), own());
    assert!(direct.exists(&format!("/prod{}", outward()), false).await.is_ok());
    assert_eq!(shop.told().await, [(NodeCreated, own())]);
    shop.get("/dubbo", true).await.unwrap();
    direct.set("/prod/dubbo", b"x").await.unwrap();
    assert_eq!(shop.event().await, (NodeDataChanged, "/dubbo".to_owned()));
    assert_eq!(shop.children("/", false).await.unwrap(), ["dubbo"]);
    shop.exists(&own(), true).await.unwrap();
    direct.delete(&format!("/prod{}", outward())).await.unwrap();
    assert_eq!(shop.event().await, (NodeDeleted, own()));
    let lock = shop.create("/dubbo/lock-", EphemeralSequential).await.unwrap();
    assert_eq!(lock, "/dubbo/lock-0000000001");
    script.providers(&service("a.B"), &["dubbo://10.0.0.9:20880/a.B"]);
    let shown = shop.children(DIR, true).await.unwrap();
    assert_eq!(shown, [child("dubbo://2130706433:20882/a.B?interface=a.B")]);
    script.show(&app("x"), Vec::new(), &[]);
    eventually("the lease", async || {
        script.log().contains(&"name shop".to_owned()).then_some(())
    })
    .await;
}
