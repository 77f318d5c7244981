// SPDX-License-Identifier: Apache-2.0
//! The front door over restarts of Remora.

#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use support::memory::Asked;
use support::*;
use tokio::time::timeout;

#[tokio::test]
async fn versions_of_pushes_grow_over_a_restart() {
    let mut last = 0;
    for _ in 0..2 {
        let door = Door::open();
        let mut client = door.client().await;
        client.register(&subscriber(ECHO, "s")).await;
        let pushed = client.pushed().await;
        assert!(pushed.data.version > last);
        last = pushed.data.version;
        door.drain.cancel();
        client.closed().await;
    }
}

#[tokio::test]
async fn what_was_published_stands_again_after_a_restart_before_the_client_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let app = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = app.local_addr().unwrap().port();
    let line = LINE.replace("12200", &port.to_string());
    let register = publisher(ECHO, "p", &[&line]);
    let gone = publisher("demo.Gone:1.0@DEFAULT", "gone", &["127.0.0.1:1?p=1"]);
    let first = Door::remembering(dir.path());
    let mut client = first.client().await;
    client.register(&register).await;
    client.register(&gone).await;
    first.drain.cancel();
    timeout(PATIENCE, first.served).await.unwrap().unwrap();

    let second = Door::remembering(dir.path());
    second
        .until(|all| all.iter().any(|a| matches!(a, Asked::Published { .. })))
        .await;
    let address = format!("10.77.0.3:{port}");
    assert_eq!(second.memory.published(ECHO_TARGET), std::slice::from_ref(&address));
    let mut client = second.client().await;
    client.register(&register).await;
    // The client holds it now; nothing is left of the former run, nor of the provider whose port is closed.
    let asked = second.until(|all| all.contains(&Asked::Closed { lease: 1 })).await;
    assert_eq!(second.memory.published(ECHO_TARGET), [address]);
    assert!(
        second.memory.published("service /sofa-rpc/demo.Gone:1.0").is_empty(),
        "{asked:#?}"
    );
    drop(client);
}

#[tokio::test]
async fn a_memory_that_cannot_be_read_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sofaregistry.json");
    std::fs::write(&file, "{\"at_ms\": 1, \"publishers\": [{}]}").unwrap();
    let door = Door::remembering(dir.path());
    let mut client = door.client().await;
    client.register(&publisher(ECHO, "p", &[LINE])).await;
    assert_eq!(door.memory.published(ECHO_TARGET), ["10.77.0.3:12200"]);
    assert!(dir.path().join("sofaregistry.json.damaged").exists(), "kept for people");
}

#[tokio::test]
async fn a_memory_with_one_bit_flipped_is_set_aside_and_the_one_before_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sofaregistry.json");
    let app = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = app.local_addr().unwrap().port();
    let line = LINE.replace("12200", &port.to_string());
    let first = Door::remembering(dir.path());
    let mut client = first.client().await;
    client.register(&publisher(ECHO, "p", &[&line])).await;
    let written = async {
        while !file.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, written).await.expect("it is written soon");
    first.drain.cancel();
    timeout(PATIENCE, first.served).await.unwrap().unwrap();
    let mut text = std::fs::read(&file).unwrap();
    let at = text
        .windows(5)
        .position(|five| five == b"10.77")
        .expect("the line is in it");
    text[at] ^= 1;
    std::fs::write(&file, &text).unwrap();

    let second = Door::remembering(dir.path());
    second
        .until(|all| all.iter().any(|a| matches!(a, Asked::Published { .. })))
        .await;
    assert_eq!(second.memory.published(ECHO_TARGET), [format!("10.77.0.3:{port}")]);
    assert_eq!(
        std::fs::read(dir.path().join("sofaregistry.json.damaged")).unwrap(),
        text
    );
}
