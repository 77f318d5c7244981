// SPDX-License-Identifier: Apache-2.0
//! Clients that send the beginning of something good, a byte at a time.

use std::time::{Duration, Instant};

use remora_bench::load::unix_ms;
use remora_bench::wire::{Mold, Protocol};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::{CrowdPlan, End, Speech, connect};

#[derive(Debug)]
enum Fate {
    Refused,
    /// Closed by the peer after this time.
    Closed(Duration),
    Open,
}

pub(super) async fn run(plan: &CrowdPlan, end: End) -> anyhow::Result<Value> {
    let bytes = words(plan.speech);
    let interval = Duration::from_millis(plan.interval_ms);
    let mut clients = JoinSet::new();
    for number in 0..plan.connections {
        let (bytes, to) = (bytes.clone(), plan.to);
        let (end, seconds) = (end.clone(), plan.seconds);
        clients.spawn(async move {
            let Ok(mut stream) = connect(to, None).await else {
                return Fate::Refused;
            };
            let begun = Instant::now();
            let dripping = async {
                let (mut reader, mut writer) = stream.split();
                let mut buffer = [0; 256];
                for byte in bytes {
                    if writer.write_all(&[byte]).await.is_err() {
                        return;
                    }
                    let until = tokio::time::Instant::now() + interval;
                    loop {
                        tokio::select! {
                            () = tokio::time::sleep_until(until) => break,
                            read = reader.read(&mut buffer) => if !matches!(read, Ok(1..)) { return },
                        }
                    }
                }
            };
            tokio::select! {
                () = dripping => Fate::Closed(begun.elapsed()),
                () = end.after(seconds) => Fate::Open,
            }
        });
        // Not all at once: a queue of connections is not what is looked at.
        if number % 20 == 19 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    println!(
        "{}",
        json!({"event": "open", "connections": plan.connections, "ms": unix_ms()})
    );
    let (mut refused, mut open, mut closed) = (0, 0, Vec::new());
    while let Some(fate) = clients.join_next().await {
        match fate? {
            Fate::Refused => refused += 1,
            Fate::Open => open += 1,
            Fate::Closed(after) => closed.push(after.as_millis() as u64),
        }
    }
    closed.sort_unstable();
    Ok(json!({
        "event": "result", "refused": refused, "still_open": open, "closed": closed.len(),
        "closed_after_ms": {"first": closed.first(), "median": closed.get(closed.len() / 2), "last": closed.last()},
    }))
}

fn words(speech: Speech) -> Vec<u8> {
    let call = |protocol| Mold::request(protocol).frame(&[b'x'; 200]).0;
    match speech {
        Speech::Dubbo => call(Protocol::Dubbo),
        Speech::Bolt => call(Protocol::Bolt),
        // A connect request: its length, then version, zxid, timeout, session and password of nothing.
        Speech::Zookeeper => [
            &[0, 0, 0, 45][..],
            &[0; 12],
            &[0, 0, 0x27, 0x10],
            &[0; 8],
            &[0, 0, 0, 16],
            &[0; 17],
        ]
        .concat(),
        Speech::Http => [b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ", &[b'x'; 200][..]].concat(),
    }
}
