// SPDX-License-Identifier: Apache-2.0
//! Badly behaved clients, many at once: those that send a byte now and then, those that call once and stay, those that come and
//! go, those that do not read.

mod churn;
mod drip;
mod hold;
mod slow;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use remora_bench::wire::Protocol;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

use crate::provider::on_signal;

/// A run.
#[derive(Clone, Debug, clap::Args)]
pub struct CrowdPlan {
    /// What they do.
    #[arg(long, value_enum)]
    pub manner: Manner,
    /// What they speak.
    #[arg(long, value_enum)]
    pub speech: Speech,
    /// Whom they connect to.
    #[arg(long)]
    pub to: SocketAddr,
    /// How many at a time; for churn how many at most.
    #[arg(long, default_value_t = 100)]
    pub connections: usize,
    /// For how long; a signal ends it before.
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
    /// drip: milliseconds between bytes.
    #[arg(long, default_value_t = 5_000)]
    pub interval_ms: u64,
    /// churn: connections a second. slow: bytes read a second.
    #[arg(long, default_value_t = 500)]
    pub rate: u64,
    /// hold: whether each makes a call before it is silent.
    #[arg(long)]
    pub calls: bool,
    /// hold: whether each calls once more, on the connection that it has, when the end comes.
    #[arg(long)]
    pub calls_again: bool,
    /// slow: characters of what is sent and expected back.
    #[arg(long, default_value_t = 30_000)]
    pub payload: usize,
    /// Who calls, in payloads.
    #[arg(long, default_value_t = 0xc0)]
    pub client: u32,
    /// Of what is random.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// What the clients of a crowd do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Manner {
    /// Send a byte now and then.
    Drip,
    /// Stay, silently.
    Hold,
    /// Come, call, and go in many ways.
    Churn,
    /// Call and hardly read.
    Slow,
}

/// What a crowd speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Speech {
    /// The dubbo protocol.
    Dubbo,
    /// Bolt v1.
    Bolt,
    /// ZooKeeper.
    Zookeeper,
    /// HTTP/1.1.
    Http,
}

impl Speech {
    /// As a protocol with calls.
    fn protocol(self) -> anyhow::Result<Protocol> {
        match self {
            Self::Dubbo => Ok(Protocol::Dubbo),
            Self::Bolt => Ok(Protocol::Bolt),
            other => anyhow::bail!("{other:?} has no calls"),
        }
    }
}

/// Runs it; says `open` on standard output once all are there.
///
/// # Errors
/// When the plan makes no sense.
pub fn crowd(plan: &CrowdPlan) -> anyhow::Result<Value> {
    let end = End(on_signal()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match plan.manner {
            Manner::Drip => drip::run(plan, end).await,
            Manner::Hold => hold::run(plan, end).await,
            Manner::Churn => churn::run(plan, end).await,
            Manner::Slow => slow::run(plan, end).await,
        }
    })
}

/// When to end.
#[derive(Clone, Debug)]
struct End(Arc<AtomicBool>);

impl End {
    async fn after(&self, seconds: f64) {
        let until = tokio::time::Instant::now() + Duration::from_secs_f64(seconds);
        while tokio::time::Instant::now() < until && !self.0.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A connection; `receive_buffer` is the kernel's, if it is to be small.
async fn connect(to: SocketAddr, receive_buffer: Option<u32>) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = tokio::time::timeout(CONNECT_LIMIT, socket.connect(to))
        .await
        .map_err(|_| std::io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
