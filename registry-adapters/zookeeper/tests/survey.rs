// SPDX-License-Identifier: Apache-2.0
//! A tree read once: what is found where, what is left out, and what is told of it.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use remora_registry::survey::Survey;
use remora_zookeeper::backend::{Embedded, Ensemble};
use remora_zookeeper::client::{self, Client};
use remora_zookeeper::embedded::{self, Server};
use remora_zookeeper::survey::{Options, SurveyError, survey};
use remora_zookeeper::wire::CreateMode;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn options() -> Options {
    Options {
        session: client::Options::default(),
        servers: Vec::new(),
        service_roots: None,
        application_roots: vec!["/services".to_owned()],
        deadline: Duration::from_secs(20),
    }
}

async fn with(paths: &[&str]) -> Server {
    let server = Server::in_memory(embedded::Options::default());
    let backend = Arc::new(Embedded::new(server.clone()));
    let client = Client::start(backend, client::Options::default(), CancellationToken::new());
    for path in paths {
        client.create_parents(path).await.unwrap();
        client.create(path, Bytes::new(), CreateMode::Persistent).await.unwrap();
    }
    server
}

async fn read(server: &Server, options: Options) -> Survey {
    survey(Arc::new(Embedded::new(server.clone())), options).await.unwrap()
}

fn lists(survey: &Survey) -> Vec<String> {
    survey
        .lists
        .iter()
        .map(|list| list.snapshot.target.to_string())
        .collect()
}

const PROVIDER: &str = "dubbo%3A%2F%2F10.0.0.5%3A20880%2Fa.B%3Finterface%3Da.B";

#[tokio::test]
async fn services_are_found_under_any_root_and_other_trees_are_not_taken_for_them() {
    let server = with(&[
        &format!("/dubbo/a.B/providers/{PROVIDER}"),
        "/shop/east/dubbo/a.C/consumers",
        "/a.Top/providers",
        "/sofa-rpc/a.D/providers",
        "/sofa-rpc/a.D/configs/timeout",
        "/services/shop",
        "/dubbo/config/dubbo/a.B.tag-router",
        "/dubbo/mapping/a.B",
        "/kafka/brokers/topics/orders/partitions/0/state",
        "/far/too/deep/to/be/a.E/providers",
    ])
    .await;
    let found = read(&server, options()).await;
    assert_eq!(
        lists(&found),
        [
            "service //a.Top",
            "service /dubbo/a.B",
            "service /shop/east/dubbo/a.C",
            "service /sofa-rpc/a.D",
            "application /services/shop"
        ]
    );
    assert!(
        found.left_out.is_empty() && found.unread.is_empty(),
        "{:?}",
        found.left_out
    );
    assert_eq!(found.rules.len(), 1);
    let list = found
        .lists
        .iter()
        .find(|list| !list.snapshot.instances.is_empty())
        .unwrap();
    let facts = list.nodes[0].unwrap();
    assert!(facts.owner == 0 && facts.created_ms > 0, "{facts:?}");
}

#[tokio::test]
async fn roots_that_are_configured_say_what_the_door_takes_in() {
    let server = with(&["/dubbo/a.B/providers", "/other/a.C/providers"]).await;
    let mut asked = options();
    asked.service_roots = Some(vec!["/dubbo".to_owned()]);
    let found = read(&server, asked).await;
    let owned: Vec<bool> = found.lists.iter().map(|list| list.is_owned).collect();
    assert_eq!((lists(&found).len(), owned), (2, vec![true, false]));
}

#[tokio::test]
async fn a_chroot_is_read_as_if_it_were_everything() {
    let server = with(&["/prod/dubbo/a.B/providers", "/dubbo/a.Not/providers"]).await;
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr: SocketAddr = listener.local_addr().unwrap();
    let end = stop.clone();
    tokio::spawn(async move { server.serve(listener, end).await });
    let at = |path: &str| Arc::new(Ensemble::parse(&format!("zookeeper://{addr}{path}")).unwrap());
    let found = survey(at("/prod"), options()).await.unwrap();
    assert_eq!(lists(&found), ["service /dubbo/a.B"]);
    let error = survey(at("/nowhere"), options()).await.unwrap_err();
    assert!(
        matches!(&error, SurveyError::NoChroot { path, .. } if path == "/nowhere"),
        "{error}"
    );
    stop.cancel();
}

#[tokio::test]
async fn a_session_that_is_over_leaves_nothing_behind() {
    let server = with(&["/dubbo/a.B/providers"]).await;
    let before = server.figures();
    read(&server, options()).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while server.figures().sessions > 0 {
        assert!(tokio::time::Instant::now() < deadline, "a session is still there");
        tokio::task::yield_now().await;
    }
    let after = server.figures();
    assert_eq!((after.nodes, after.watches), (before.nodes, before.watches));
}

#[tokio::test]
async fn too_little_time_is_an_error() {
    let server = with(&["/dubbo/a.B/providers"]).await;
    let mut asked = options();
    asked.deadline = Duration::ZERO;
    let error = survey(Arc::new(Embedded::new(server)), asked).await.unwrap_err();
    assert!(
        matches!(error, SurveyError::TooSlow { .. } | SurveyError::NoSession { .. }),
        "{error}"
    );
}
