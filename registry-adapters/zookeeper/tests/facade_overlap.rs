// SPDX-License-Identifier: Apache-2.0
//! The front door and SOFARPC when the takeover policy changes: an address and the one in its place stand side by side.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use remora_naming::dubbo_url::{decode_component, encode_component};
use remora_naming::sofa::{self, Service};
use remora_zookeeper::wire::request::Create;
use remora_zookeeper::wire::{CreateMode, ErrorCode, EventKind, OpCode, Request, Text};
use support::door::{mkdirs, world};
use support::{Client, create_record, eventually};

const DIR: &str = "/sofa-rpc/demo.Echo/providers";

fn name(port: u16) -> String {
    encode_component(&format!(
        "bolt://10.0.0.5:{port}?version=1.0&appName=shop&interface=demo.Echo&uniqueId=&rpcVer=51302"
    ))
}

fn own() -> String {
    format!("{DIR}/{}", name(12200))
}

async fn publish(app: &mut Client) {
    mkdirs(app, DIR).await;
    let create = Create {
        op: OpCode::Create2,
        data: Some(Bytes::from_static(&[1])),
        ..create_record(&own(), CreateMode::Ephemeral)
    };
    app.ask(Request::Create(create)).await.unwrap();
}

/// Ports of a list's addresses.
fn ports(names: &[String]) -> Vec<u16> {
    let port = |name: &String| {
        let url = decode_component(name).unwrap();
        let address = url.split("://").nth(1).unwrap().split('?').next().unwrap().to_owned();
        address.rsplit(':').next().unwrap().parse().unwrap()
    };
    let mut ports: Vec<u16> = names.iter().map(port).collect();
    ports.sort_unstable();
    ports
}

async fn stand(direct: &mut Client, wanted: &[u16]) {
    eventually(&format!("{wanted:?} stand"), async || {
        let now = ports(&direct.children(DIR, false).await.unwrap());
        assert!(!now.is_empty(), "at no time is there none");
        (now == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_goes_a_while_after_its_successor_came() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut direct = Client::new(&server).await;
    stand(&mut direct, &[12201]).await;
    app.exists(&own(), true).await.unwrap();
    script.leave(true);
    stand(&mut direct, &[12200, 12201]).await;
    let given_back = "stands 12200 Own".to_owned();
    assert!(!script.log().contains(&given_back), "the ingress stands still");
    stand(&mut direct, &[12200]).await;
    script.hears(&given_back).await;
    assert_eq!(
        direct.children(DIR, false).await.unwrap(),
        [name(12200)],
        "letter for letter"
    );
    script.leave(false);
    stand(&mut direct, &[12200, 12201]).await;
    stand(&mut direct, &[12201]).await;
    let told = app.told().await;
    assert!(told.iter().all(|(kind, _)| *kind != EventKind::NodeDeleted), "{told:?}");
}

#[tokio::test]
async fn a_node_that_is_to_go_stays_when_it_is_wanted_again() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut direct = Client::new(&server).await;
    let before = direct.children(DIR, false).await.unwrap();
    script.leave(true);
    stand(&mut direct, &[12200, 12201]).await;
    script.leave(false);
    stand(&mut direct, &[12201]).await;
    assert_eq!(direct.children(DIR, false).await.unwrap(), before);
    let (_, stat) = direct.get(&format!("{DIR}/{}", before[0]), false).await.unwrap();
    assert_eq!(stat.ephemeral_owner, app.session);
}

#[tokio::test]
async fn an_application_that_takes_its_node_back_takes_both() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut direct = Client::new(&server).await;
    script.leave(true);
    stand(&mut direct, &[12200, 12201]).await;
    app.delete(&own()).await.unwrap();
    // A request behind it in the same session.
    assert_eq!(app.exists(&own(), false).await, Err(ErrorCode::NO_NODE));
    assert!(direct.children(DIR, false).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_node_that_is_taken_back_while_a_step_is_under_way_has_no_successor() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut direct = Client::new(&server).await;
    for turn in 0..200_u32 {
        let path = Text::from(own().as_str());
        app.send(&Request::Delete { path, version: -1 }).await;
        // Everything else has a turn between two looks: the policy changes at any moment between question and answer.
        let (changing, mut left) = (Arc::clone(&script), turn);
        let change = tokio::spawn(poll_fn(move |task| match left.checked_sub(1) {
            Some(less) => {
                left = less;
                task.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                changing.leave(turn % 2 == 0);
                Poll::Ready(())
            }
        }));
        assert_eq!(app.reply().await.unwrap().0.err, ErrorCode::OK);
        change.await.unwrap();
        eventually(&format!("nothing stands, turn {turn}"), async || {
            direct.children(DIR, false).await.unwrap().is_empty().then_some(())
        })
        .await;
        // What is asked for behind all of that.
        app.exists(&own(), false).await.unwrap_err();
        assert!(direct.children(DIR, false).await.unwrap().is_empty(), "turn {turn}");
        app.create(&own(), CreateMode::Ephemeral).await.unwrap();
    }
}

#[tokio::test]
async fn a_node_that_is_to_go_does_so_although_the_connection_broke() {
    let (server, script, door) = world();
    let mut app = door.client().await;
    publish(&mut app).await;
    let mut direct = Client::new(&server).await;
    script.leave(true);
    stand(&mut direct, &[12200, 12201]).await;
    app.part().await;
    let _app = door.resume(&app).await.unwrap();
    stand(&mut direct, &[12200]).await;
}

#[tokio::test]
async fn a_list_without_any_entry_of_the_last_one_comes_after_one_with_both() {
    let (server, script, door) = world();
    let mut direct = Client::new(&server).await;
    mkdirs(&mut direct, DIR).await;
    let real = format!("{DIR}/{}", name(12201));
    direct.create(&real, CreateMode::Ephemeral).await.unwrap();
    let target = Service::of_interface("demo.Echo", "").interface_target();
    script.show(
        &target,
        vec![sofa::child::parse(&name(12201), "demo.Echo").unwrap()],
        &[],
    );
    let mut app = door.client().await;
    let listed = (EventKind::NodeChildrenChanged, DIR.to_owned());
    assert_eq!(ports(&app.children(DIR, true).await.unwrap()), [12220]);
    for is_left in [true, false] {
        script.leave(is_left);
        assert_eq!(app.event().await, listed);
        let both = app.children(DIR, true).await.unwrap();
        assert_eq!(ports(&both), [12201, 12220]);
        for entry in &both {
            app.get(&format!("{DIR}/{entry}"), false).await.unwrap();
        }
        assert_eq!(app.event().await, listed);
        let alone = app.children(DIR, true).await.unwrap();
        assert_eq!(ports(&alone), [if is_left { 12201 } else { 12220 }]);
    }
}
