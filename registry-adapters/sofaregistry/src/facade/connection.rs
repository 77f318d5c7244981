// SPDX-License-Identifier: Apache-2.0
//! Moves the bytes of one client's connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use remora_protocol::{DecodeError, Decoded, FrameKind};
use remora_registry::Discovery;
use remora_registry::peers::Users;
use remora_registry::places::Place;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Shared;
use super::session::{Session, SessionError};
use super::stats::{Raised, Stats};

#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the application closed")]
    AppClosed,
    #[error("it is not bolt: {0}")]
    Malformed(#[from] DecodeError),
    #[error("{0}")]
    Session(#[from] SessionError),
    #[error("nothing was heard for {0:?}")]
    Idle(Duration),
    #[error("a frame was not whole after {0:?}")]
    Stalled(Duration),
    #[error("the application took no byte for {0:?}")]
    SlowReader(Duration),
    #[error("Remora lets go of its connections")]
    Drained,
    #[error("it registered nothing, and others need its place")]
    MadeWay,
}

/// Serves one client until either side closes, nothing is heard for too long, or `drain` is cancelled.
pub(super) async fn serve(
    shared: Arc<Shared>,
    discovery: Arc<dyn Discovery>,
    stream: TcpStream,
    peer: SocketAddr,
    keys: Keys,
    drain: CancellationToken,
) {
    let _counted = Raised::new(&shared.stats, |stats| &stats.connections);
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().unwrap_or(shared.session);
    if shared.gate.admit(peer, local).await.is_err() {
        return Stats::count(&shared.stats.denied);
    }
    let session = Session::new(Arc::clone(&shared), discovery, peer);
    let Err(end) = pump(&shared, session, stream, local, &keys, &drain).await;
    let stats = &shared.stats;
    match &end {
        End::Malformed(_) | End::Session(_) => {
            Stats::count(&stats.malformed);
            warn!(registry = "sofaregistry", %peer, cause = %end, "connection closed");
        }
        End::Idle(_) | End::Stalled(_) => Stats::count(&stats.idle),
        End::SlowReader(_) => Stats::count(&stats.slow_readers),
        End::MadeWay => Stats::count(&stats.made_way),
        End::Io(_) | End::AppClosed | End::Drained => {}
    }
    debug!(registry = "sofaregistry", %peer, cause = %end, "connection closed");
}

/// What a connection has of the door's.
pub(super) struct Keys {
    /// Tells whose it is.
    pub(super) users: Users,
    pub(super) place: Place,
}

async fn pump(
    shared: &Shared,
    mut session: Session,
    mut stream: TcpStream,
    local: SocketAddr,
    keys: &Keys,
    drain: &CancellationToken,
) -> Result<std::convert::Infallible, End> {
    let config = &shared.config;
    let (mut read, mut write) = stream.split();
    let mut input = BytesMut::new();
    // Bytes of a frame over the limit that are still to come.
    let mut skip: u64 = 0;
    let mut heard = Instant::now();
    // Since when a frame has begun and is not whole.
    let mut begun: Option<Instant> = None;
    // Since when the client has taken nothing of what waits for it.
    let mut stuck: Option<Instant> = None;
    loop {
        while session.out.len() < config.buffer_bytes {
            if skip > 0 {
                let there = usize::try_from(skip).unwrap_or(usize::MAX).min(input.len());
                input.advance(there);
                skip -= there as u64;
                if skip > 0 {
                    break;
                }
            }
            match remora_bolt::decode(&mut input, config.max_frame_bytes)? {
                Decoded::Frame(frame) => {
                    if frame.kind == FrameKind::Request {
                        session.look(&keys.users, local).await;
                    }
                    session.on_frame(&frame, Instant::now())?;
                    if session.is_in_use() {
                        keys.place.is_at_work();
                    }
                    begun = None;
                }
                Decoded::TooLong { head, body_len } => {
                    session.on_too_long(&head, body_len)?;
                    skip = body_len;
                    begun = None;
                }
                Decoded::Incomplete { .. } => break,
            }
        }
        session.push_due(Instant::now());
        let has_room = session.out.len() < config.buffer_bytes;
        begun = match has_room && (skip > 0 || !input.is_empty()) {
            true => begun.or_else(|| Some(Instant::now())),
            false => None,
        };
        let incomplete = begun.map(|since| since + FRAME_LIMIT);
        stuck = match session.out.is_empty() {
            true => None,
            false => stuck.or_else(|| Some(Instant::now())),
        };
        let stalled = stuck.map(|since| since + config.write_timeout);
        // Who is not read from cannot be judged by his silence.
        let idle = has_room.then(|| heard + config.idle_limit);
        let due = session.feeds.due().filter(|_| has_room);
        let deadline = [stalled, idle, due, incomplete].into_iter().flatten().min();
        // Each arm is cancel safe: reads and writes of a buffer take or give nothing until they are done, and a change that
        // is not taken out stays.
        tokio::select! {
            () = drain.cancelled() => return Err(End::Drained),
            () = keys.place.must_go() => return Err(End::MadeWay),
            n = write_some(&mut write, &mut session.out) => {
                n?;
                stuck = None;
            }
            n = read_some(&mut read, &mut input), if has_room => {
                if n? == 0 {
                    return Err(End::AppClosed);
                }
                heard = Instant::now();
            }
            (id, source) = session.watches.changed() => session.changed(id, source, Instant::now()),
            () = sleep_to(deadline) => {
                let now = Instant::now();
                if stalled.is_some_and(|at| at <= now) {
                    return Err(End::SlowReader(config.write_timeout));
                }
                if incomplete.is_some_and(|at| at <= now) {
                    return Err(End::Stalled(FRAME_LIMIT));
                }
                if idle.is_some_and(|at| at <= now) {
                    return Err(End::Idle(config.idle_limit));
                }
            }
        }
    }
}

async fn write_some(out: &mut (impl AsyncWrite + Unpin), from: &mut BytesMut) -> std::io::Result<()> {
    if from.is_empty() {
        return std::future::pending().await;
    }
    match out.write_buf(from).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        _ => Ok(()),
    }
}

// No more at a time than this, whatever a head announces.
async fn read_some(from: &mut (impl AsyncRead + Unpin), into: &mut BytesMut) -> std::io::Result<usize> {
    into.reserve(READ_BYTES);
    from.read_buf(into).await
}

async fn sleep_to(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

const READ_BYTES: usize = 16 << 10;
/// For the bytes of one frame: they come at once from this host, and each connection may hold a whole frame's.
const FRAME_LIMIT: Duration = Duration::from_secs(30);
