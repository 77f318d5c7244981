// SPDX-License-Identifier: Apache-2.0
//! Clients that come at a steady pace and go in many ways: after a call, with a call in flight, in the middle of a frame, at
//! once; with a goodbye or without.

use std::collections::BTreeMap;
use std::time::Duration;

use remora_bench::load::unix_ms;
use remora_bench::wire::Mold;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::hold::call;
use super::{CrowdPlan, End, connect};
use crate::payload::{Payload, Wish};
use crate::words;

pub(super) async fn run(plan: &CrowdPlan, end: End) -> anyhow::Result<Value> {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut clients: JoinSet<&'static str> = JoinSet::new();
    let mut ends: BTreeMap<&'static str, u64> = BTreeMap::new();
    let begun = Instant::now();
    println!("{}", json!({"event": "open", "ms": unix_ms()}));
    let mut number = 0;
    let ending = end.after(plan.seconds);
    tokio::pin!(ending);
    loop {
        let due = begun + Duration::from_secs_f64(number as f64 / plan.rate.max(1) as f64);
        tokio::select! {
            () = &mut ending => break,
            () = tokio::time::sleep_until(due) => {}
        }
        while let Some(done) = clients.try_join_next() {
            *ends.entry(done?).or_default() += 1;
        }
        number += 1;
        if clients.len() >= plan.connections {
            *ends.entry("skipped").or_default() += 1;
            continue;
        }
        let (plan, way) = (plan.clone(), random.u8(0..10));
        clients.spawn(async move { one(&plan, way, number).await });
    }
    while let Some(done) = clients.join_next().await {
        *ends.entry(done?).or_default() += 1;
    }
    Ok(json!({"event": "result", "connections": number, "ends": ends, "seconds": begun.elapsed().as_secs_f64()}))
}

/// Comes, does something, goes; how that ended.
async fn one(plan: &CrowdPlan, way: u8, number: u64) -> &'static str {
    let (Ok(protocol), Ok(mut stream)) = (plan.speech.protocol(), connect(plan.to, None).await) else {
        return "not_connected";
    };
    let request = |wait_ms| {
        let payload = Payload {
            wish: Wish::Echo,
            wait_ms,
            client: plan.client ^ 0x8000,
            number,
            random: 0,
        };
        words::request(&Mold::request(protocol), protocol, &payload.text(0), 2_000, 7)
    };
    match way {
        // An orderly client, or one that does not say goodbye.
        0..=6 => match call(&mut stream, plan, number, Duration::from_secs(5)).await {
            Ok(true) => {
                if way == 6 {
                    let _ = stream.set_zero_linger();
                }
                "ok"
            }
            Ok(false) => "wrong_answer",
            Err(_) => "failed",
        },
        // Gone while the provider works.
        7 => {
            let _ = stream.write_all(&request(300)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            "left_in_flight"
        }
        // Half a frame.
        8 => {
            let request = request(0);
            let _ = stream.write_all(&request[..request.len() / 2]).await;
            let _ = stream.set_zero_linger();
            "left_in_a_frame"
        }
        _ => "left_at_once",
    }
}
