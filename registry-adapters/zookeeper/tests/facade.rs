// SPDX-License-Identifier: Apache-2.0
//! The front door: sessions, and what an application publishes.

mod support;

use remora_zookeeper::wire::EventKind::{NodeCreated, NodeDataChanged, NodeDeleted};
use remora_zookeeper::wire::{CreateMode, ErrorCode};
use support::Client;
use support::door::{child, mkdirs, world};

use CreateMode::Ephemeral;

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
