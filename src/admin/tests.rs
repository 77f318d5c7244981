// SPDX-License-Identifier: Apache-2.0
//! The pages over a real socket, and who may see them.

use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::{Method, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::guard::{Ends, Guard};
use super::server::{Site, answer};
use super::*;
use crate::lifecycle::{Readiness, Stop};
use crate::views::ServicesView;

fn views(stop: &Stop) -> Views {
    let readiness = Readiness::new(stop.token().clone());
    readiness.doors_open();
    Views {
        readiness,
        metrics: Box::new(|| "# EOF\n".to_owned()),
        catalog: Box::new(|| CatalogView {
            version: "1".to_owned(),
            ..CatalogView::default()
        }),
        connections: Box::new(|| Box::pin(async { ConnectionsView::default() })),
        services: Box::new(|_| ServicesView::default()),
        topology: Box::new(|filter| {
            Box::pin(async move {
                TopologyView {
                    version: filter.service.unwrap_or_default(),
                    ..TopologyView::default()
                }
            })
        }),
        config: Box::new(|| "workers: 1\n".to_owned()),
        reload: Box::new(|| {
            Box::pin(async {
                ReloadView {
                    outcome: ReloadOutcome::Refused,
                    problems: vec!["the file is wrong".to_owned()],
                    ..ReloadView::default()
                }
            })
        }),
        alive: Box::new(|| Box::pin(async { None })),
        withdraw: Box::new(|| {
            Box::pin(async {
                LeftView {
                    withdrawn: 2,
                    left: 1,
                    in_flight: 0,
                }
            })
        }),
        takeover: Box::new(|| Box::pin(async { TakeoverView::default() })),
        withdrawn: Box::new(|| Box::pin(async { None })),
        roll_back: Box::new(|is_rolled_back| match is_rolled_back {
            true => Ok(true),
            false => Err(RollBackError::NotWritten {
                cause: "the disk is full".to_owned(),
            }),
        }),
        stop: stop.clone(),
        upgrade: None,
    }
}

fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_str(host).unwrap());
    if let Some(origin) = origin {
        headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
    }
    headers
}

fn site(views: Views) -> Site {
    let (guard, _) = Guard::new(15020, 1);
    Site {
        views: Arc::new(views),
        guard,
    }
}

/// Ends of a connection that no process here has.
fn nobody() -> Ends {
    Ends {
        peer: "127.0.0.1:9".parse().unwrap(),
        local: "127.0.0.1:15020".parse().unwrap(),
    }
}

#[tokio::test]
async fn every_page_answers_and_a_drain_makes_unready() {
    let stop = Stop::new();
    let closing = CancellationToken::new();
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = Client::new(admin.local_addr().unwrap());
    let server = tokio::spawn(admin.serve(Arc::new(views(&stop)), closing.clone()));
    for page in [
        "/",
        "/livez",
        "/readyz",
        "/metrics",
        "/catalog",
        "/connections",
        "/config",
    ] {
        assert_eq!(
            client.ask(Method::GET, page).await.unwrap().status,
            StatusCode::OK,
            "{page}"
        );
    }
    assert_eq!(
        client.ask(Method::GET, "/nothing").await.unwrap().status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        client.ask(Method::GET, "/drain").await.unwrap().status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    let catalog: CatalogView = client.json("/catalog").await.unwrap();
    assert_eq!(catalog.version, "1");
    assert!(!stop.is_asked());
    assert_eq!(
        client.ask(Method::POST, "/drain").await.unwrap().status,
        StatusCode::ACCEPTED
    );
    assert!(stop.is_asked());
    let Answer { status, body, .. } = client.ask(Method::GET, "/readyz").await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8_lossy(&body).contains("draining"));
    closing.cancel();
    server.await.unwrap();
    assert!(matches!(
        client.ask(Method::GET, "/livez").await,
        Err(ClientError::Unreachable { .. })
    ));
}

#[tokio::test]
async fn a_page_of_a_foreign_site_reaches_nothing_but_health_and_metrics() {
    let stop = Stop::new();
    let site = site(views(&stop));
    let ends = nobody();
    let foreign = [
        headers("evil.example:15020", None),
        headers("127.0.0.1:15020", Some("http://evil.example")),
        HeaderMap::new(),
    ];
    for headers in &foreign {
        for (method, page) in [
            (Method::POST, "/drain"),
            (Method::POST, "/reload"),
            (Method::POST, "/withdraw"),
            (Method::POST, "/rollback"),
            (Method::POST, "/forward"),
            (Method::GET, "/catalog"),
            (Method::GET, "/config"),
        ] {
            assert_eq!(
                answer(&method, page, headers, ends, &site).await.status(),
                StatusCode::FORBIDDEN,
                "{page}"
            );
        }
        assert_eq!(
            answer(&Method::GET, "/metrics", headers, ends, &site).await.status(),
            StatusCode::OK
        );
    }
    assert!(!stop.is_asked());
    for host in ["127.0.0.1:15020", "localhost:15020", "[::1]:15020", "10.0.0.5"] {
        let answer = answer(&Method::GET, "/config", &headers(host, None), ends, &site).await;
        assert_eq!(answer.status(), StatusCode::OK, "{host}");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "workers: 1\n");
    }
}

#[tokio::test]
async fn nothing_is_changed_for_a_process_that_cannot_be_told() {
    let stop = Stop::new();
    let site = site(views(&stop));
    let refused = answer(&Method::POST, "/drain", &headers("127.0.0.1", None), nobody(), &site).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let words = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(words.starts_with(b"/drain: the system does not tell"), "{words:?}");
    assert!(!stop.is_asked());
}

#[tokio::test]
async fn silent_connections_keep_nobody_from_the_health_page() {
    let closing = CancellationToken::new();
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = admin.local_addr().unwrap();
    let server = tokio::spawn(admin.serve(Arc::new(views(&Stop::new())), closing.clone()));
    let mut silent = Vec::new();
    for n in 0..300_usize {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        if n % 2 == 0 {
            stream.write_all(b"GET /livez HTT").await.unwrap();
        }
        silent.push(stream);
    }
    let begin = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(
            Client::new(addr).ask(Method::GET, "/livez").await.unwrap().status,
            StatusCode::OK
        );
    }
    assert!(
        begin.elapsed() < std::time::Duration::from_secs(4),
        "the header timeout is 5 s: {:?}",
        begin.elapsed()
    );
    closing.cancel();
    server.await.unwrap();
}

#[test]
fn a_taken_port_is_named_with_its_key() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let first = Admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = first.local_addr().unwrap();
    let error = Admin::bind(addr).unwrap_err().to_string();
    assert!(
        error.contains(&addr.to_string()) && error.contains("admin.listen"),
        "{error}"
    );
}

#[test]
fn the_address_alone_is_a_short_form() {
    let config: Config = serde_saphyr::from_str("127.0.0.1:1").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:1");
    let config: Config = serde_saphyr::from_str("{}").unwrap();
    assert_eq!(config, Config::default());
}

#[tokio::test]
async fn a_refused_reload_is_no_success_and_says_why() {
    let closing = CancellationToken::new();
    let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = Client::new(admin.local_addr().unwrap());
    let server = tokio::spawn(admin.serve(Arc::new(views(&Stop::new())), closing.clone()));
    let Answer { status, body, .. } = client.ask(Method::POST, "/reload").await.unwrap();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let said: ReloadView = serde_json::from_slice(&body).unwrap();
    assert_eq!(said.problems, ["the file is wrong"]);
    let Answer { status, .. } = client.ask(Method::POST, "/rollback").await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let Answer { status, body, .. } = client.ask(Method::POST, "/forward").await.unwrap();
    assert_eq!(
        (status, &*body),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            &b"not written down, so nothing changes: the disk is full\n"[..]
        )
    );
    let Answer { status, body, .. } = client.ask(Method::POST, "/withdraw").await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let left: LeftView = serde_json::from_slice(&body).unwrap();
    assert_eq!((left.withdrawn, left.left, left.in_flight), (2, 1, 0));
    closing.cancel();
    server.await.unwrap();
}
