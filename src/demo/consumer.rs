// SPDX-License-Identifier: Apache-2.0
//! The demo's consumer: one TCP connection to the address that its registry handed it, many calls at a time on it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use remora_dubbo::{Answer, Dubbo, StringCall, answer};
use remora_protocol::{Bytes, Decoded, FrameKind, Protocol, StreamId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::{SERVICE, VERSION};

const MAX_FRAME_BYTES: usize = 1 << 20;
/// The consumer's own limit for a call; the frame says the same.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Requests waiting to be written; callers wait when it is full.
const QUEUED: usize = 1024;

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>;

/// A connection of the consumer.
#[derive(Debug)]
pub(super) struct Consumer {
    local: SocketAddr,
    peer: SocketAddr,
    next_id: AtomicU64,
    waiting: Waiting,
    requests: mpsc::Sender<Bytes>,
}

/// Why a call got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Nothing came in time.
    Timeout,
    /// The connection broke.
    Closed,
}

impl Consumer {
    /// Connects to `host:port` as written in the URL that the consumer was handed.
    pub(super) async fn dial(host: &str, port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
        let (reads, writes) = stream.into_split();
        let waiting = Waiting::default();
        let (requests, queue) = mpsc::channel(QUEUED);
        // Both end when this consumer is dropped: the queue closes, then the write half, then the peer, then the read half.
        tokio::spawn(write(writes, queue));
        tokio::spawn(read(reads, Arc::clone(&waiting)));
        Ok(Self {
            local,
            peer,
            next_id: AtomicU64::new(1),
            waiting,
            requests,
        })
    }

    /// Its own end.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// The other end.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Calls `sayHello(argument)`; the time is from the first byte out to the whole answer in.
    pub(super) async fn call(&self, argument: &str) -> (Result<Answer, NoAnswer>, Duration) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let started = Instant::now();
        let exchange = async {
            let call = StringCall {
                service: SERVICE,
                version: VERSION,
                method: "sayHello",
                arguments: &[argument],
                timeout: Some(TIMEOUT),
                application: "demo-consumer",
                ..StringCall::default()
            };
            let wire = call.to_request(StreamId(id));
            self.requests.send(wire).await.map_err(|_| NoAnswer::Closed)?;
            answer.await.map_err(|_| NoAnswer::Closed)
        };
        let outcome = tokio::time::timeout(TIMEOUT, exchange).await;
        lock(&self.waiting).remove(&id);
        (outcome.unwrap_or(Err(NoAnswer::Timeout)), started.elapsed())
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write(mut writes: OwnedWriteHalf, mut queue: mpsc::Receiver<Bytes>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, QUEUED).await > 0 {
        if writes.write_all(&batch.concat()).await.is_err() {
            return;
        }
        batch.clear();
    }
}

async fn read(mut reads: OwnedReadHalf, waiting: Waiting) {
    let mut input = BytesMut::new();
    while matches!(reads.read_buf(&mut input).await, Ok(n) if n > 0) {
        while let Ok(Decoded::Frame(frame)) = Dubbo.decode(&mut input, MAX_FRAME_BYTES) {
            if frame.kind != FrameKind::Reply {
                continue;
            }
            let caller = lock(&waiting).remove(&frame.stream_id.0);
            if let (Some(caller), Ok(answer)) = (caller, answer(&frame)) {
                // A caller that timed out has gone; that is its own business.
                let _ = caller.send(answer);
            }
        }
    }
    // Callers still waiting see the connection closed.
    lock(&waiting).clear();
}

#[cfg(test)]
mod tests {
    use super::super::provider::{Provider, WANTS_EXCEPTION};
    use super::*;

    #[tokio::test]
    async fn consumer_and_provider_understand_each_other_without_anything_between() {
        let provider = Provider::start("provider-1", [127, 0, 0, 1].into()).await.unwrap();
        let consumer = Consumer::dial("127.0.0.1", provider.addr().port()).await.unwrap();
        let (answer, _) = consumer.call("world").await;
        assert_eq!(
            answer,
            Ok(Answer::Returned(Some("hello world, this is provider-1".to_owned())))
        );
        let (answer, _) = consumer.call(WANTS_EXCEPTION).await;
        assert!(matches!(answer, Ok(Answer::Threw { class, .. }) if class == "java.lang.RuntimeException"));
        assert_eq!(provider.calls(), 2);
        provider.kill();
        assert_eq!(consumer.call("again").await.0, Err(NoAnswer::Closed));
    }
}
