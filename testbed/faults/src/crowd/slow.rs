// SPDX-License-Identifier: Apache-2.0
//! Clients that call as fast as they may and hardly read what they are answered.

use std::time::{Duration, Instant};

use remora_bench::load::unix_ms;
use remora_bench::wire::{Kind, Mold};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::{CrowdPlan, End, connect};
use crate::payload::{Payload, Wish};
use crate::words;

#[derive(Debug, Default)]
struct Fate {
    sent: u64,
    replies: u64,
    closed_after_ms: Option<u64>,
}

pub(super) async fn run(plan: &CrowdPlan, end: End) -> anyhow::Result<Value> {
    let mut clients = JoinSet::new();
    for number in 0..plan.connections {
        let (plan, end) = (plan.clone(), end.clone());
        clients.spawn(async move { one(&plan, number as u32, end).await });
    }
    println!(
        "{}",
        json!({"event": "open", "connections": plan.connections, "ms": unix_ms()})
    );
    let (mut sent, mut replies, mut closed, mut refused) = (0, 0, Vec::new(), 0);
    while let Some(fate) = clients.join_next().await {
        match fate? {
            Ok(fate) => {
                sent += fate.sent;
                replies += fate.replies;
                closed.extend(fate.closed_after_ms);
            }
            Err(_) => refused += 1,
        }
    }
    closed.sort_unstable();
    Ok(json!({
        "event": "result", "sent": sent, "replies": replies, "refused": refused, "closed": closed.len(),
        "closed_after_ms": {"first": closed.first(), "median": closed.get(closed.len() / 2), "last": closed.last()},
    }))
}

async fn one(plan: &CrowdPlan, number: u32, end: End) -> anyhow::Result<Fate> {
    let protocol = plan.speech.protocol()?;
    let mut stream = connect(plan.to, Some(4096)).await?;
    let begun = Instant::now();
    let mut fate = Fate::default();
    let client = plan.client + number;
    let (mut reader, mut writer) = stream.split();
    let sent = &mut fate.sent;
    let sending = async {
        let mold = Mold::request(protocol);
        for number in 1u64.. {
            let payload = Payload {
                wish: Wish::Echo,
                wait_ms: 0,
                client,
                number,
                random: 0,
            };
            let request = words::request(&mold, protocol, &payload.text(plan.payload), 60_000, number);
            if writer.write_all(&request).await.is_err() {
                break;
            }
            *sent += 1;
        }
    };
    let replies = &mut fate.replies;
    let reading = async {
        let (mut input, piece) = (Vec::new(), (plan.rate / 10).max(1));
        loop {
            let mut part = vec![0; usize::try_from(piece).unwrap_or(1)];
            match reader.read(&mut part).await {
                Ok(count @ 1..) => input.extend_from_slice(&part[..count]),
                _ => return,
            }
            while let Ok(Some(len)) = protocol.frame_len(&input) {
                if input.len() < len {
                    break;
                }
                *replies += u64::from(protocol.kind(&input[..len]) == Kind::Reply);
                input.drain(..len);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let is_closed = tokio::select! {
        () = async { tokio::join!(sending, reading); } => true,
        () = end.after(plan.seconds) => false,
    };
    fate.closed_after_ms = is_closed.then(|| begun.elapsed().as_millis() as u64);
    Ok(fate)
}
