// SPDX-License-Identifier: Apache-2.0
//! The front door and SOFARPC: in front of a ZooKeeper, and in front of a registry that speaks another protocol.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use remora_naming::dubbo_url::{decode_component, encode_component};
use remora_naming::sofa::{self, Service};
use remora_registry::{Instance, Target};
use remora_zookeeper::backend::Embedded;
use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::facade::Config;
use remora_zookeeper::wire::EventKind::{NodeChildrenChanged, NodeDeleted};
use remora_zookeeper::wire::request::Create;
use remora_zookeeper::wire::{
    CreateMode, ErrorCode, OpCode, Reader, Record, Reply, Request, RequestHeader, split_frame,
};
use support::door::{Door, Script, mkdirs, world};
use support::{Client, create_record, eventually};

use CreateMode::{Ephemeral, Persistent};

const ECHO: &str = "/sofa-rpc/demo.Echo";
const DIR: &str = "/sofa-rpc/demo.Echo/providers";

fn interface() -> Target {
    Service::of_interface("demo.Echo", "").interface_target()
}

fn narrow(name: &str) -> Target {
    Service::parse(name).unwrap().target()
}

fn url(host: &str, port: u16, unique_id: &str) -> String {
    format!("bolt://{host}:{port}?version=1.0&appName=shop&interface=demo.Echo&uniqueId={unique_id}&rpcVer=51302")
}

fn node(port: u16, unique_id: &str) -> String {
    format!("{DIR}/{}", encode_component(&url("10.0.0.5", port, unique_id)))
}

fn consumer(unique_id: &str, id: u16) -> String {
    let url = format!("bolt://10.0.0.7?version=1.0&uniqueId={unique_id}&id=rpc-cfg-{id}&appName=till&rpcVer=51302");
    format!("{ECHO}/consumers/{}", encode_component(&url))
}

fn provider(host: &str, unique_id: &str) -> Instance {
    let name = encode_component(&url(host, 12201, unique_id));
    sofa::child::parse(&name, "demo.Echo").unwrap()
}

fn online(path: &str, mode: CreateMode) -> Request {
    Request::Create(Create {
        op: OpCode::Create2,
        data: Some(Bytes::from_static(&[1])),
        ..create_record(path, mode)
    })
}

/// Provider nodes that real applications made.
fn captured() -> Vec<(String, Create)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testbed/golden/zookeeper");
    let mut found = Vec::new();
    for version in ["5.6.5", "5.13.2"] {
        let file = dir.join(format!("sofarpc-{version}-provider-session-1.hex"));
        for line in std::fs::read_to_string(file)
            .unwrap()
            .lines()
            .filter(|l| l.starts_with("> "))
            .skip(1)
        {
            let digit = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
            let frame: BytesMut = (2..line.len()).step_by(2).map(digit).collect();
            let mut input = Reader::new(split_frame(&mut { frame }, 1 << 20).unwrap().unwrap());
            let head = RequestHeader::read(&mut input).unwrap();
            let request = Request::decode(OpCode::from_wire(head.op).unwrap(), input.rest()).unwrap();
            if let Request::Create(create) = request
                && create.path.contains("/providers/")
                && !found.iter().any(|(_, known): &(_, Create)| known.path == create.path)
            {
                found.push((version.to_owned(), create));
            }
        }
    }
    found
}

#[tokio::test]
async fn nodes_of_real_applications_change_in_address_and_marker_only() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    let mut direct = Client::new(&server).await;
    mkdirs(&mut app, "/sofa-rpc/demo.EchoService/providers").await;
    let captured = captured();
    assert_eq!(captured.len(), 6);
    for (version, create) in &captured {
        let path = create.path.to_string();
        let Ok(Reply::Created2 { path: told, stat }) = app.ask(Request::Create(create.clone())).await else {
            panic!("{version} is not created")
        };
        assert_eq!((told.to_string(), stat.ephemeral_owner), (path.clone(), app.session));
        let (dir, name) = path.rsplit_once('/').unwrap();
        let [stored] = &direct.children(dir, false).await.unwrap()[..] else {
            panic!("one node")
        };
        let was = decode_component(name).unwrap();
        let now = decode_component(stored).unwrap();
        assert_eq!(
            now,
            format!("{}&remora.app.port=12200", was.replacen(":12200", ":12201", 1)),
            "{version}"
        );
        let (data, _) = direct.get(&format!("{dir}/{stored}"), false).await.unwrap();
        assert_eq!(data.unwrap(), [1][..]);
        app.delete(&path).await.unwrap();
        assert!(direct.children(dir, false).await.unwrap().is_empty());
    }
    let log = script.log();
    assert!(log.contains(&"name demo-provider".to_owned()), "{log:?}");
    assert_eq!(log.iter().filter(|said| *said == "withdraw 12200").count(), 6);
}

#[tokio::test]
async fn a_consumer_reads_its_list_as_curators_cache_does() {
    let (server, script, door) = world();
    script.show(
        &interface(),
        vec![provider("10.0.0.1", ""), provider("10.0.0.2", "blue")],
        &[],
    );
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    mkdirs(&mut app, &format!("{ECHO}/consumers")).await;
    app.ask(online(&consumer("", 0), Ephemeral)).await.unwrap();
    assert_eq!(app.exists(&format!("{DIR}/foo"), false).await, Err(ErrorCode::NO_NODE));
    let shown = app.children(DIR, true).await.unwrap();
    let urls: Vec<String> = shown.iter().map(|name| decode_component(name).unwrap()).collect();
    let entry =
        |id: &str| format!("bolt://127.0.0.1:12220?version=1.0&uniqueId={id}&interface=demo.Echo&protocol=bolt");
    assert_eq!(urls, [entry(""), entry("blue")]);
    for name in &shown {
        let (data, stat) = app.get(&format!("{DIR}/{name}"), true).await.unwrap();
        assert_eq!((data.unwrap(), stat.data_length), (Bytes::from_static(&[1]), 1));
    }
    script.show(&interface(), vec![provider("10.0.0.1", "")], &[]);
    let gone = (NodeDeleted, format!("{DIR}/{}", shown[1]));
    assert_eq!(app.event().await, gone);
    assert_eq!(app.event().await, (NodeChildrenChanged, DIR.to_owned()));
    assert!(script.log().contains(&"name till".to_owned()));
    let mut direct = Client::new(&server).await;
    assert!(
        direct.exists(&consumer("", 0), false).await.is_ok(),
        "consumers are relayed"
    );
}

#[tokio::test]
async fn settings_of_an_interface_are_relayed() {
    let (server, _, door) = world();
    let mut app = door.client().await;
    let mut direct = Client::new(&server).await;
    let overriding = encode_component("bolt://10.0.0.7?timeout=500");
    for place in [
        format!("{ECHO}/configs/timeout"),
        format!("{ECHO}/overrides/{overriding}"),
    ] {
        mkdirs(&mut direct, &place).await;
        let (dir, name) = place.rsplit_once('/').unwrap();
        assert_eq!(app.children(dir, true).await.unwrap(), [name]);
        app.get(&place, true).await.unwrap();
        direct.set(&place, b"500").await.unwrap();
        assert_eq!(app.event().await.1, place);
        assert_eq!(app.get(&place, false).await.unwrap().0.unwrap(), "500");
    }
}

#[tokio::test]
async fn what_an_application_says_of_its_node_passes() {
    let (server, _, door) = world();
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    app.ask(online(&node(12200, ""), Ephemeral)).await.unwrap();
    app.set(&node(12200, ""), &[0]).await.unwrap();
    let mut direct = Client::new(&server).await;
    let stored = direct.children(DIR, false).await.unwrap().pop().unwrap();
    let (data, stat) = direct.get(&format!("{DIR}/{stored}"), false).await.unwrap();
    assert_eq!((data.unwrap(), stat.version), (Bytes::from_static(&[0]), 1));
}

// ---- in front of a registry that speaks another protocol ----

fn keeping(server: &Server) -> (Arc<Script>, Door) {
    let script = Arc::new(Script::default());
    let config = Config {
        keeps_publications: true,
        ..Config::default()
    };
    let door = Door::open_with(Arc::new(Embedded::new(server.clone())), &script, config);
    (script, door)
}

fn kept(script: &Script) -> Vec<String> {
    let is_about = |said: &String| said.starts_with("keep ") || said.starts_with("withdraw service");
    script.log().into_iter().filter(is_about).collect()
}

#[tokio::test]
async fn publications_are_kept_where_the_lists_come_from() {
    let server = Server::in_memory(Options::default());
    let (script, door) = keeping(&server);
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    app.ask(online(&node(12200, "blue"), Ephemeral)).await.unwrap();
    let place = "service /sofa-rpc/demo.Echo:1.0:blue 10.0.0.5:12200";
    assert_eq!(kept(&script), [format!("keep {place}")]);
    app.delete(&node(12200, "blue")).await.unwrap();
    assert_eq!(kept(&script), [format!("keep {place}"), format!("withdraw {place}")]);
    app.ask(online(&node(12200, ""), Ephemeral)).await.unwrap();
    app.close().await;
    script.hears("close 0").await;
}

#[tokio::test]
async fn what_was_kept_before_a_restart_is_kept_again_until_it_is_withdrawn() {
    let server = Server::in_memory(Options::default());
    let (_, door) = keeping(&server);
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    mkdirs(&mut app, &format!("{ECHO}/consumers")).await;
    app.ask(online(&node(12200, ""), Ephemeral)).await.unwrap();
    app.ask(online(&consumer("blue", 0), Ephemeral)).await.unwrap();
    door.drain().await;

    let (script, door) = keeping(&server);
    let mut app = door.resume(&app).await.unwrap();
    let place = "service /sofa-rpc/demo.Echo:1.0 10.0.0.5:12200";
    script.hears(&format!("keep {place}")).await;
    script.hears(&format!("follow {}", narrow("demo.Echo:1.0:blue"))).await;
    let again = app.ask(online(&node(12200, ""), Ephemeral)).await;
    assert_eq!(again, Err(ErrorCode::NODE_EXISTS));
    app.delete(&node(12200, "")).await.unwrap();
    let log = kept(&script);
    let count = |word: &str| log.iter().filter(|said| **said == format!("{word} {place}")).count();
    assert_eq!(count("keep"), count("withdraw"), "{log:?}");
}

#[tokio::test]
async fn a_service_that_a_consumer_names_is_followed_before_its_list_is_shown() {
    let server = Server::in_memory(Options::default());
    let (script, door) = keeping(&server);
    let mut app = door.client().await;
    mkdirs(&mut app, DIR).await;
    mkdirs(&mut app, &format!("{ECHO}/consumers")).await;
    script.show(&interface(), vec![], &[]);
    app.ask(online(&consumer("", 0), Ephemeral)).await.unwrap();
    assert!(app.children(DIR, true).await.unwrap().is_empty());

    let blue = narrow("demo.Echo:1.0:blue");
    for id in [1, 2] {
        app.ask(online(&consumer("blue", id), Ephemeral)).await.unwrap();
    }
    script.hears(&format!("follow {blue}")).await;
    let read = Request::GetChildren {
        path: DIR.into(),
        watch: true,
    };
    app.send(&read).await;
    script.show(&interface(), vec![provider("10.0.0.1", "blue")], &[]);
    script.show(&blue, vec![provider("10.0.0.1", "blue")], &[]);
    let (head, body) = app.reply().await.unwrap();
    assert_eq!(head.err, ErrorCode::OK);
    let Reply::Children(names) = Reply::decode(OpCode::GetChildren, body).unwrap() else {
        panic!("no list")
    };
    assert_eq!(names.iter().count(), 1);

    let follows = |said: &str| script.log().iter().filter(|s| **s == format!("{said} {blue}")).count();
    app.delete(&consumer("blue", 1)).await.unwrap();
    assert_eq!(follows("unfollow"), 0, "another one wants it");
    app.delete(&consumer("blue", 2)).await.unwrap();
    eventually("the end of the follow", async || {
        (follows("unfollow") == 1).then_some(())
    })
    .await;
    assert!(!script.log().contains(&format!("follow {}", narrow("demo.Echo:1.0"))));
}

#[tokio::test]
async fn what_the_registry_cannot_hold_stands_in_the_embedded_one() {
    let server = Server::in_memory(Options::default());
    let (script, door) = keeping(&server);
    *script.holds_nothing.lock().unwrap() = Some("it has no such lists".to_owned());
    let mut app = door.client().await;
    let dubbo = "/dubbo/a.B/providers";
    mkdirs(&mut app, dubbo).await;
    let own = format!(
        "{dubbo}/{}",
        encode_component("dubbo://10.0.0.5:20880/a.B?side=provider")
    );
    app.create(&own, Ephemeral).await.unwrap();
    assert!(kept(&script).is_empty());
    assert!(script.log().contains(&"publish 20880".to_owned()));
    let mut direct = Client::new(&server).await;
    assert_eq!(direct.children(dubbo, false).await.unwrap().len(), 1);
    app.create("/beside", Persistent).await.unwrap();
}
