// SPDX-License-Identifier: Apache-2.0
//! The demo's provider: listens on its own port and answers `sayHello`, as a Dubbo provider does. Knows nothing of Remora.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use remora_dubbo::{Dubbo, exception_reply, string_arguments, string_reply};
use remora_protocol::{Bytes, Decoded, Frame, FrameKind, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Longest frame; the demo's are under 1 KiB.
const MAX_FRAME_BYTES: usize = 1 << 20;
/// The argument that makes it throw.
pub(super) const WANTS_EXCEPTION: &str = "throw";

/// A running provider.
#[derive(Debug)]
pub(super) struct Provider {
    name: &'static str,
    addr: SocketAddr,
    calls: Arc<AtomicU64>,
    alive: CancellationToken,
}

impl Provider {
    /// Listens on a free port of `ip`.
    pub(super) async fn start(name: &'static str, ip: std::net::IpAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((ip, 0)).await?;
        let provider = Self {
            name,
            addr: listener.local_addr()?,
            calls: Arc::default(),
            alive: CancellationToken::new(),
        };
        let (calls, alive) = (Arc::clone(&provider.calls), provider.alive.clone());
        tokio::spawn(provider.alive.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = serve(stream, name, Arc::clone(&calls));
                tokio::spawn(alive.clone().run_until_cancelled_owned(connection));
            }
        }));
        Ok(provider)
    }

    /// Its name, for the story.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Where it listens.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Calls answered.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Ends as a killed process does: port and connections are gone at once, nobody is told.
    pub(super) fn kill(&self) {
        self.alive.cancel();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(mut stream: TcpStream, name: &'static str, calls: Arc<AtomicU64>) {
    let mut input = BytesMut::new();
    let mut output = Vec::new();
    while matches!(stream.read_buf(&mut input).await, Ok(n) if n > 0) {
        while let Ok(Decoded::Frame(frame)) = Dubbo.decode(&mut input, MAX_FRAME_BYTES) {
            output.extend(reply(&frame, name, &calls).unwrap_or_default());
        }
        if stream.write_all(&output).await.is_err() {
            return;
        }
        output.clear();
    }
}

fn reply(frame: &Frame, name: &str, calls: &AtomicU64) -> Option<Bytes> {
    match frame.kind {
        FrameKind::Heartbeat => Dubbo.heartbeat_reply(frame),
        FrameKind::Request => {
            calls.fetch_add(1, Ordering::Relaxed);
            let arguments = string_arguments(frame).unwrap_or_default();
            match arguments.first().map(String::as_str) {
                Some(WANTS_EXCEPTION) => exception_reply(frame, "as you wished"),
                argument => string_reply(
                    frame,
                    &format!("hello {}, this is {name}", argument.unwrap_or("nobody")),
                ),
            }
        }
        _ => None,
    }
}
