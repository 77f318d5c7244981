// SPDX-License-Identifier: Apache-2.0
//! Many connections that have made one call each and are then silent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::proc::Watched;
use crate::wire::{Mold, Protocol};

/// A run.
#[derive(Clone, Debug, clap::Args)]
pub struct IdlePlan {
    /// dubbo or bolt.
    #[arg(long)]
    pub protocol: Protocol,
    /// Whom to call.
    #[arg(long)]
    pub to: SocketAddr,
    /// Connections.
    #[arg(long, default_value_t = 10_000)]
    pub connections: usize,
    /// Seconds of silence before memory is measured.
    #[arg(long, default_value_t = 4.0)]
    pub silence: f64,
    /// Processes whose memory is measured: name=pid or name=pid+pid. May be given several times.
    #[arg(long)]
    pub watch: Vec<Watched>,
}

/// Opens the connections one after the other, makes a call on each, measures.
///
/// # Errors
/// When a connection or a call fails, or a watched process is gone.
pub fn idle(plan: &IdlePlan) -> anyhow::Result<Value> {
    let (mut request, _) = Mold::request(plan.protocol).frame(PAYLOAD);
    let (mut expected, _) = Mold::reply(plan.protocol).frame(PAYLOAD);
    let mut call = |number: usize| -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(plan.to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        for frame in [&mut request, &mut expected] {
            plan.protocol.set_id(frame, number as u64);
        }
        stream.write_all(&request)?;
        let mut reply = vec![0; expected.len()];
        stream.read_exact(&mut reply)?;
        ensure!(reply == expected, "a wrong reply: {}", plan.protocol.words(&reply));
        Ok(stream)
    };
    // What the first call sets up is not counted against the connections.
    let _first = call(0)?;
    let rss = || plan.watch.iter().map(Watched::rss_kib).collect::<Result<Vec<_>, _>>();
    let before = rss()?;
    let mut open = Vec::with_capacity(plan.connections);
    for number in 1..=plan.connections {
        open.push(call(number).with_context(|| format!("connection {number}"))?);
    }
    std::thread::sleep(Duration::from_secs_f64(plan.silence));
    let after = rss()?;
    let watched = plan
        .watch
        .iter()
        .zip(before.iter().zip(&after))
        .map(|(one, (before, after))| {
            let bytes = after.saturating_sub(*before) as f64 * 1024.0 / plan.connections as f64;
            let value = json!({"rss_kib_before": before, "rss_kib": after, "bytes_per_connection": bytes});
            (one.name.clone(), value)
        });
    Ok(json!({"event": "result", "connections": open.len(), "watched": watched.collect::<Value>()}))
}

const PAYLOAD: &[u8] = b"one call of a connection that is then silent";
