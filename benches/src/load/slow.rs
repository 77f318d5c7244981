// SPDX-License-Identifier: Apache-2.0
//! A caller that sends as fast as it may and reads its replies slowly.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::report::Errors;
use crate::wire::{Kind, Mold, Protocol};

/// A run.
#[derive(Clone, Debug, clap::Args)]
pub struct SlowPlan {
    /// dubbo or bolt.
    #[arg(long)]
    pub protocol: Protocol,
    /// Whom to call.
    #[arg(long)]
    pub to: SocketAddr,
    /// Characters of the string that is sent and expected back.
    #[arg(long, default_value_t = 65_536)]
    pub payload: usize,
    /// Bytes read at a time.
    #[arg(long, default_value_t = 16_384)]
    pub read: usize,
    /// Milliseconds between reads.
    #[arg(long, default_value_t = 50)]
    pub pause_ms: u64,
    /// How long.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
}

/// Sends and reads until the time is over.
///
/// # Errors
/// When no connection can be made, or it is closed.
pub fn slow(plan: &SlowPlan) -> anyhow::Result<Value> {
    let socket = Socket::new(Domain::for_address(plan.to), Type::STREAM, None)?;
    socket.set_recv_buffer_size(plan.read)?;
    socket.connect(&plan.to.into())?;
    let mut stream: TcpStream = socket.into();
    let sent = Arc::new(AtomicU64::new(0));
    {
        let (mut stream, sent, plan) = (stream.try_clone()?, sent.clone(), plan.clone());
        // Ends with the connection, which ends with this process.
        std::thread::spawn(move || {
            let (mut request, _) = Mold::request(plan.protocol).frame(&vec![b'x'; plan.payload]);
            for id in 1.. {
                plan.protocol.set_id(&mut request, id);
                if stream.write_all(&request).is_err() {
                    return;
                }
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let until = Instant::now() + Duration::from_secs_f64(plan.seconds);
    let (mut input, mut piece, mut replies, mut errors) = (Vec::new(), vec![0; plan.read], 0u64, Errors::default());
    while Instant::now() < until {
        match stream.read(&mut piece)? {
            0 => anyhow::bail!("the slow reader's connection was closed after {replies} replies"),
            count => input.extend_from_slice(&piece[..count]),
        }
        while let Some(len) = plan.protocol.frame_len(&input).map_err(|_| anyhow!("no frame"))? {
            let Some(frame) = input.get(..len) else { break };
            match (plan.protocol.kind(frame), plan.protocol.failure(frame)) {
                (Kind::Reply, None) => replies += 1,
                (Kind::Reply, Some(status)) => errors.count(&format!("status_{status}"), plan.protocol.words(frame)),
                _ => {}
            }
            input.drain(..len);
        }
        std::thread::sleep(Duration::from_millis(plan.pause_ms));
    }
    let sent = sent.load(Ordering::Relaxed);
    Ok(json!({"event": "result", "sent": sent, "replies": replies, "error_count": errors.total()}))
}
