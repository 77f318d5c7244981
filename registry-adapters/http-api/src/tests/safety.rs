// SPDX-License-Identifier: Apache-2.0
//! Who may ask, and how much.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::house::{House, LIMIT, Scripted, app, exchange, publish, unpublish};

const ECHO: &str = "demo.EchoService:1.0";

fn request(head: &str, body: &str) -> String {
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn web_pages_and_foreign_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |s| {
        s.host_names = vec!["Proxy.local".into()]
    });
    let body = publish(ECHO, 1);
    let port = house.addr.port();
    let post = |extra: &str| {
        request(
            &format!("POST /services/publish HTTP/1.1\r\nContent-Type: text/plain\r\n{extra}"),
            &body,
        )
    };
    for host in [
        "evil.example",
        &format!("evil.example:{port}"),
        "127.0.0.1.evil.example",
        "localhost.evil",
        "",
    ] {
        let answer = exchange(house.addr, &post(&format!("Host: {host}"))).await;
        assert_eq!(answer.status, 403, "{host}");
        assert_eq!(answer.json["success"], false);
    }
    for origin in ["http://evil.example", "null", &format!("http://127.0.0.1:{port}")] {
        let answer = exchange(
            house.addr,
            &post(&format!("Host: 127.0.0.1:{port}\r\nOrigin: {origin}")),
        )
        .await;
        assert_eq!(answer.status, 403, "{origin}");
    }
    assert_eq!((house.refused("host"), house.refused("origin")), (5, 3));
    // What a browser sends for an image in a page: no Origin.
    for caused in [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Referer: http://evil.example/",
    ] {
        let get = format!("GET /heartbeat?ttl=3 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{caused}\r\n\r\n");
        assert_eq!(exchange(house.addr, &get).await.status, 403, "{caused}");
    }
    let typed = format!("GET /heartbeat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nSec-Fetch-Site: none\r\n\r\n");
    assert_eq!(exchange(house.addr, &typed).await.status, 200);
    assert!(house.discovery.held().leases.is_empty());
    for host in [
        "127.0.0.1",
        "localhost:1",
        "LOCALHOST",
        "[::1]:80",
        "10.1.2.3",
        "proxy.local:13330",
    ] {
        let answer = exchange(house.addr, &post(&format!("Host: {host}"))).await;
        assert_eq!((answer.status, &answer.json["success"]), (200, &true.into()), "{host}");
    }
}

#[tokio::test]
async fn any_json_or_text_content_type_will_do_and_forms_will_not() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let post = |kind: &str| {
        request(
            &format!("POST /configs/application HTTP/1.1\r\nHost: localhost{kind}"),
            r#"{"appName":"a"}"#,
        )
    };
    for kind in [
        "",
        "application/json",
        "application/json;charset=UTF-8",
        "text/plain; charset=utf-8",
        "text/json",
        "application/vnd.x+json",
        "TEXT/PLAIN",
    ] {
        let header = if kind.is_empty() {
            String::new()
        } else {
            format!("\r\nContent-Type: {kind}")
        };
        assert_eq!(exchange(house.addr, &post(&header)).await.status, 200, "{kind}");
    }
    for kind in [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
    ] {
        let answer = exchange(house.addr, &post(&format!("\r\nContent-Type: {kind}"))).await;
        assert_eq!(answer.status, 415, "{kind}");
    }
    let paths = [
        ("GET /services/publish", 405),
        ("PUT /services/publish", 405),
        ("POST /heartbeat", 405),
        ("POST /nothing", 404),
        ("GET /", 404),
    ];
    for (line, status) in paths {
        let answer = exchange(
            house.addr,
            &request(&format!("{line} HTTP/1.1\r\nHost: localhost"), "{}"),
        )
        .await;
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(answer.json["success"], false);
    }
    let answer = exchange(
        house.addr,
        "GET /heartbeat HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
    )
    .await;
    assert!(
        answer.head.to_ascii_lowercase().contains("connection: close"),
        "{}",
        answer.head
    );
}

#[tokio::test]
async fn long_bodies_long_heads_and_slow_clients_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |s| {
        s.max_body_bytes = 1000;
        s.max_connections = 2;
    });
    let long = format!(r#"{{"appName":"{}"}}"#, "a".repeat(2000));
    let answer = house.post("/configs/application", &long).await;
    assert_eq!(answer.status, 413);
    let chunked = format!(
        "POST /configs/application HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    assert_eq!(exchange(house.addr, &chunked).await.status, 413);
    let head = format!(
        "GET /heartbeat HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "a".repeat(40_000)
    );
    let mut stream = TcpStream::connect(house.addr).await.unwrap();
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut answer))
        .await
        .expect("it is closed");
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(house.refused("body"), 2);
    // Two that say nothing take every place until their time is over; the third waits and is answered.
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(house.addr).await.unwrap());
    }
    let answer = house.post("/configs/application", r#"{"appName":"a"}"#).await;
    assert_eq!(answer.json["success"], true);
    assert!(house.stats.connections.load(Ordering::Relaxed) <= 2);
}

#[tokio::test]
async fn a_drain_does_not_wait_for_silent_clients() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::mesh(dir.path(), &Scripted::new(), |_| {});
    let _silent = TcpStream::connect(house.addr).await.unwrap();
    house.post("/configs/application", r#"{"appName":"a"}"#).await;
    timeout(Duration::from_secs(3), house.close())
        .await
        .expect("it closes at once");
}

/// Tables of the system in which chosen sockets belong to chosen users.
struct Tables {
    dir: tempfile::TempDir,
}

impl Tables {
    fn new() -> Self {
        let it = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        it.say(&[], &[]);
        it
    }

    fn say(&self, callers: &[(SocketAddr, SocketAddr, u32)], listeners: &[(u16, u32)]) {
        let hex = |addr: &SocketAddr| match addr {
            SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port()),
            SocketAddr::V6(_) => unreachable!("tests use IPv4"),
        };
        let mut table = "  sl  local_address rem_address   st\n".to_owned();
        for (port, uid) in listeners {
            table += &format!("  0: 00000000:{port:04X} 00000000:0000 0A 0:0 0:0 0 {uid} 0 77\n");
        }
        for (from, to, uid) in callers {
            table += &format!("  1: {} {} 01 0:0 0:0 0 {uid} 0 78\n", hex(from), hex(to));
        }
        std::fs::write(self.dir.path().join("tcp"), table).unwrap();
    }
}

/// Posts from a port of our choice, so that the table can say whose it is.
async fn post_as(
    house: &House,
    tables: &Tables,
    uid: Option<u32>,
    listeners: &[(u16, u32)],
    path: &str,
    body: &str,
) -> super::house::Answer {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let own = socket.local_addr().unwrap();
    let callers: Vec<_> = uid.map(|uid| (own, house.addr, uid)).into_iter().collect();
    tables.say(&callers, listeners);
    let mut stream = socket.connect(house.addr).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost");
    stream.write_all(request(&head, body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    super::house::Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        json: serde_json::from_str(body).unwrap(),
    }
}

#[tokio::test]
async fn registrations_of_another_user_cannot_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let tables = Tables::new();
    let house = House::mesh_with(dir.path(), &Scripted::new(), tables.dir.path().to_owned(), |_| {});
    let (_app, port) = app().await;
    let ours = [(port, 1000)];
    let body = publish(ECHO, port);
    let answer = post_as(&house, &tables, Some(1000), &ours, "/services/publish", &body).await;
    assert_eq!(answer.json["success"], true);
    house.discovery.until("published", |h| h.published.len() == 1).await;
    for (uid, words) in [(Some(1001), "user 1001"), (None, "not on this host or gone")] {
        let other = body.replace("hessian2", "java");
        for (path, body) in [("/services/unpublish", &unpublish(ECHO)), ("/services/publish", &other)] {
            let answer = post_as(&house, &tables, uid, &[], path, body).await;
            let told = answer.mesh_error();
            assert!(told.contains("user 1000") && told.contains(words), "{told}");
        }
    }
    assert_eq!(house.refused("owner"), 4);
    assert_eq!(house.discovery.held().published.len(), 1);
    let answer = post_as(&house, &tables, Some(0), &ours, "/services/unpublish", &unpublish(ECHO)).await;
    assert_eq!(answer.json["success"], true, "root may");
    assert!(house.discovery.held().published.is_empty());
}

#[tokio::test]
async fn the_port_of_another_user_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let tables = Tables::new();
    let house = House::mesh_with(dir.path(), &Scripted::new(), tables.dir.path().to_owned(), |_| {});
    let (_app, port) = app().await;
    let theirs = [(port, 1000)];
    let answer = post_as(
        &house,
        &tables,
        Some(1001),
        &theirs,
        "/services/publish",
        &publish(ECHO, port),
    )
    .await;
    let told = answer.mesh_error();
    assert!(told.contains("listened on by user 1000"), "{told}");
    // A process that closed its end at once has no user in the table.
    for listeners in [&theirs[..], &[]] {
        let body = publish("demo.Hidden:1.0", port);
        let answer = post_as(&house, &tables, None, listeners, "/services/publish", &body).await;
        assert!(answer.mesh_error().contains("closed its connection") || !listeners.is_empty());
        assert_eq!(answer.json["success"], false);
    }
    // Asked for before the other user's application opens it.
    let answer = post_as(
        &house,
        &tables,
        Some(1001),
        &[],
        "/services/publish",
        &publish("demo.Early:1.0", port),
    )
    .await;
    assert_eq!(answer.json["success"], true);
    tables.say(&[], &theirs);
    house.until_registrations("refused", 1).await;
    house
        .discovery
        .until("the early one at most", |h| h.publishes <= 1)
        .await;
}

#[tokio::test]
async fn one_user_does_not_take_the_room_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let tables = Tables::new();
    let house = House::mesh_with(dir.path(), &Scripted::new(), tables.dir.path().to_owned(), |s| {
        s.max_entries = 2
    });
    for (uid, service, is_taken) in [
        (1000, "demo.A:1.0", true),
        (1000, "demo.B:1.0", true),
        (1000, "demo.C:1.0", false),
        (1000, "demo.A:1.0", true),
        (1001, "demo.A:1.0", true),
        (1001, "demo.D:1.0", true),
        (1001, "demo.E:1.0", false),
    ] {
        let body = super::house::subscribe(service);
        let answer = post_as(&house, &tables, Some(uid), &[], "/services/subscribe", &body).await;
        assert_eq!(answer.json["success"], is_taken, "{uid} {service}: {answer:?}");
    }
    assert_eq!(house.refused("full"), 2);
}
