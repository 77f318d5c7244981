// SPDX-License-Identifier: Apache-2.0
//! Clients that stay: silent from the beginning, or after a call, and may call once more at the end. They answer probes, as
//! applications do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use remora_bench::load::unix_ms;
use remora_bench::wire::{Kind, Mold, Protocol};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::{CrowdPlan, End, connect};
use crate::payload::{Payload, Wish};
use crate::words;

#[derive(Debug, Default)]
struct Figures {
    refused: AtomicUsize,
    open: AtomicUsize,
    failed: AtomicUsize,
    wrong: AtomicUsize,
    closed: AtomicUsize,
    again: AtomicUsize,
}

pub(super) async fn run(plan: &CrowdPlan, end: End) -> anyhow::Result<Value> {
    let figures = Arc::new(Figures::default());
    // A few at a time come in.
    let coming = Arc::new(Semaphore::new(50));
    let (ending, ended) = watch::channel(false);
    let mut clients = JoinSet::new();
    for number in 0..plan.connections {
        let (figures, coming, plan, mut ended) = (figures.clone(), coming.clone(), plan.clone(), ended.clone());
        clients.spawn(async move {
            let Ok(permit) = coming.clone().acquire_owned().await else {
                return;
            };
            let Ok(mut stream) = connect(plan.to, None).await else {
                figures.refused.fetch_add(1, Ordering::Relaxed);
                return;
            };
            if plan.calls {
                match call(&mut stream, &plan, number as u64 + 1, Duration::from_secs(10)).await {
                    Ok(true) => {}
                    Ok(false) => drop(figures.wrong.fetch_add(1, Ordering::Relaxed)),
                    Err(_) => drop(figures.failed.fetch_add(1, Ordering::Relaxed)),
                }
            }
            drop(permit);
            figures.open.fetch_add(1, Ordering::Relaxed);
            let protocol = plan.speech.protocol().ok();
            tokio::select! {
                _ = stay(&mut stream, protocol) => {
                    figures.closed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                _ = ended.wait_for(|is_ended| *is_ended) => {}
            }
            let Ok(_permit) = coming.acquire_owned().await else {
                return;
            };
            let id = (plan.connections + number) as u64 + 1;
            match call(&mut stream, &plan, id, Duration::from_secs(10)).await {
                Ok(true) => drop(figures.again.fetch_add(1, Ordering::Relaxed)),
                Ok(false) => drop(figures.wrong.fetch_add(1, Ordering::Relaxed)),
                Err(_) => drop(figures.failed.fetch_add(1, Ordering::Relaxed)),
            }
        });
    }
    let of = |figure: &AtomicUsize| figure.load(Ordering::Relaxed);
    let all_came = async {
        while of(&figures.open) + of(&figures.refused) < plan.connections {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! { () = all_came => {} () = end.after(plan.seconds) => {} }
    println!(
        "{}",
        json!({"event": "open", "connections": of(&figures.open), "refused": of(&figures.refused), "failed": of(&figures.failed), "ms": unix_ms()})
    );
    end.after(plan.seconds).await;
    let closed = of(&figures.closed);
    if plan.calls_again {
        // Nobody is left behind it: whoever does not answer is given up after a time.
        let _ = ending.send(true);
        while clients.join_next().await.is_some() {}
    }
    clients.abort_all();
    Ok(json!({
        "event": "result", "open": of(&figures.open), "refused": of(&figures.refused), "failed": of(&figures.failed),
        "wrong": of(&figures.wrong), "closed": closed, "again": of(&figures.again),
    }))
}

/// One call; true if the answer is what it must be.
pub(super) async fn call(
    stream: &mut TcpStream,
    plan: &CrowdPlan,
    number: u64,
    limit: Duration,
) -> anyhow::Result<bool> {
    let protocol = plan.speech.protocol()?;
    let payload = Payload {
        wish: Wish::Echo,
        wait_ms: 0,
        client: plan.client,
        number,
        random: number.into(),
    };
    let text = payload.text(0);
    let request = words::request(&Mold::request(protocol), protocol, &text, 10_000, number & 0x7fff_ffff);
    stream.write_all(&request).await?;
    let reply = tokio::time::timeout(limit, frame(stream, protocol)).await??;
    let mut expected = Mold::reply(protocol).frame(&text).0;
    protocol.set_id(&mut expected, number & 0x7fff_ffff);
    if let Some(status) = protocol.failure(&reply) {
        anyhow::bail!("status {status}: {}", protocol.words(&reply));
    }
    Ok(reply == expected)
}

/// The next frame that is no probe.
pub(super) async fn frame(stream: &mut TcpStream, protocol: Protocol) -> anyhow::Result<Vec<u8>> {
    let mut input = Vec::new();
    loop {
        while let Ok(Some(len)) = protocol.frame_len(&input) {
            if input.len() < len {
                break;
            }
            let frame: Vec<u8> = input.drain(..len).collect();
            if protocol.kind(&frame) == Kind::Reply {
                return Ok(frame);
            }
            if protocol.kind(&frame) == Kind::Probe {
                let mut answer = Vec::new();
                protocol.answer_probe(&frame, &mut answer);
                stream.write_all(&answer).await?;
            }
        }
        ensure!(stream.read_buf(&mut input).await? > 0, "closed");
    }
}

/// Until the peer closes.
async fn stay(stream: &mut TcpStream, protocol: Option<Protocol>) -> anyhow::Result<()> {
    match protocol {
        Some(protocol) => drop(frame(stream, protocol).await?),
        None => while stream.read(&mut [0; 64]).await? > 0 {},
    }
    anyhow::bail!("closed")
}
