// SPDX-License-Identifier: Apache-2.0
//! Moves the bytes of one application's connection: application <-> door <-> registry.
//!
//! When either side closes, the other is closed too: the application's client then does what it does when a server is
//! lost. Its session stays in the registry for its timeout, and its state here as long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use remora_registry::peers::Gate;
use remora_registry::places::Place;
use remora_registry::{Client, Discovery, Lease};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Shared;
use super::bridge;
use super::door::{Door, DoorError};
use super::greeting::{self, GreetingError, Hello, Upstream};
use super::session::{State, Visit};
use super::stand_in::{Home, Reach, StandIn};
use super::stats::{Raised, Stats};
use crate::wire::{ConnectRequest, WireError, split_frame};

/// What a connection has of the door's.
pub(super) struct Keys {
    /// Says whether it may use the door.
    pub(super) gate: Arc<Gate>,
    pub(super) place: Place,
}

/// Serves one application until either side closes, it is superseded, or `drain` is cancelled.
pub(super) async fn serve(
    shared: Arc<Shared>,
    discovery: Arc<dyn Discovery>,
    mut stream: TcpStream,
    peer: SocketAddr,
    keys: Keys,
    drain: CancellationToken,
) {
    let _counted = Raised::new(Arc::clone(&shared.stats), |stats| &stats.connections);
    // Replies are small and waited for.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().unwrap_or(shared.config.listen);
    if keys.gate.admit(peer, local).await.is_err() {
        return Stats::count(&shared.stats.denied);
    }
    let mut input = BytesMut::new();
    let hello = tokio::select! {
        () = drain.cancelled() => return,
        () = keys.place.must_go() => {
            debug!(registry = "zookeeper", %peer, "silent connection closed, others need its place");
            return Stats::count(&shared.stats.made_way);
        }
        hello = greeting::hear(&shared, &mut stream, &mut input) => hello,
    };
    let request = match hello {
        Ok(Hello::Client(request)) => request,
        Ok(Hello::Word) => return,
        Err(e) => {
            if let GreetingError::Wire(_) = e {
                Stats::count(&shared.stats.malformed);
            }
            return debug!(registry = "zookeeper", %peer, cause = %e, "connection closed");
        }
    };
    if !keys.place.is_at_work() {
        return Stats::count(&shared.stats.made_way);
    }
    let opened = tokio::select! {
        () = drain.cancelled() => return,
        opened = open(&shared, &*discovery, &request) => opened,
    };
    let mut out = BytesMut::new();
    let (upstream, home) = match opened {
        Ok(Opened::Session(upstream, home)) => (upstream, home),
        Ok(Opened::Over) => {
            greeting::answer(&StandIn::over(&request), &mut out);
            return last_word(&shared, &mut stream, &request, &out, &drain).await;
        }
        Err(e) => {
            shared.sessions.still_wanted(request.session_id, &request.password);
            return debug!(registry = "zookeeper", %peer, cause = %e, "connection closed, the registry is out of reach");
        }
    };
    let mut upstream = upstream;
    if upstream.is_alive() && request.session_id != 0 && shared.withdrawn.take(request.session_id) {
        info!(registry = "zookeeper", %peer, "what this application published was withdrawn when Remora left, its session is ended so that it publishes anew");
        upstream = greeting::end(&shared, upstream).await;
    }
    greeting::answer(&upstream.response, &mut out);
    if !upstream.is_alive() {
        return last_word(&shared, &mut stream, &request, &out, &drain).await;
    }
    let reach = Reach::of(&shared, &*discovery);
    let mut session = Session::enter(&shared, discovery, &request, upstream, peer, out).await;
    let _stands_in = (home == Home::StandIn).then(|| {
        session.stand_in(request.session_id == 0);
        Raised::new(Arc::clone(&shared.stats), |stats| &stats.stand_ins)
    });
    session.run(stream, input, drain, reach).await;
}

/// What became of a greeting.
enum Opened {
    Session(Upstream, Home),
    /// The session was a stand-in's, which is gone.
    Over,
}

/// Opens the session that an application asks for where it can be had.
async fn open(shared: &Shared, discovery: &dyn Discovery, request: &ConnectRequest) -> Result<Opened, GreetingError> {
    let mut reach = Reach::of(shared, discovery);
    if StandIn::is_own(request) {
        return match reach.is_up() {
            true => Ok(Opened::Over),
            false => stand_in(shared, request).await,
        };
    }
    // A session of the registry is the registry's to resume.
    if request.session_id != 0 {
        let upstream = greeting::open(shared, request).await?;
        return Ok(Opened::Session(upstream, Home::Registry));
    }
    if reach.is_away() {
        return match timeout(LAST_CHANCE, greeting::open(shared, request)).await {
            Ok(Ok(upstream)) => Ok(Opened::Session(upstream, Home::Registry)),
            _ => stand_in(shared, request).await,
        };
    }
    match greeting::open(shared, request).await {
        Ok(upstream) => Ok(Opened::Session(upstream, Home::Registry)),
        Err(_) if reach.turns_out_away().await => stand_in(shared, request).await,
        Err(e) => Err(e),
    }
}

async fn stand_in(shared: &Shared, request: &ConnectRequest) -> Result<Opened, GreetingError> {
    let request = ConnectRequest {
        last_zxid_seen: 0,
        ..request.clone()
    };
    let upstream = greeting::ask(&shared.stand_in.backend(), &request).await?;
    Ok(Opened::Session(upstream, Home::StandIn))
}

/// Tells an application that its session is over.
async fn last_word(
    shared: &Arc<Shared>,
    stream: &mut TcpStream,
    request: &ConnectRequest,
    out: &BytesMut,
    drain: &CancellationToken,
) {
    let state = shared.sessions.expired(request.session_id, &request.password);
    if stream.write_all(out).await.is_ok() {
        // The client reads the answer before it notices that the connection is closed.
        let _ = stream.shutdown().await;
    }
    if let Some(state) = state {
        bridge::carry(shared, state, drain);
    }
}

/// A connection whose session is open.
struct Session {
    door: Door,
    visit: Visit,
    timeout: Duration,
    upstream: Box<dyn crate::backend::Duplex>,
    up_input: BytesMut,
    peer: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the application closed")]
    AppClosed,
    #[error("the registry closed")]
    UpstreamClosed,
    #[error("a frame of the application cannot be read: {0}")]
    App(#[from] WireError),
    #[error("{0}")]
    Upstream(#[from] DoorError),
    #[error("the session was closed by the application")]
    SessionClosed,
    #[error("another connection of the session took over, or it is gone")]
    Superseded,
    #[error("the registry is back, the session was the stand-in's")]
    RegistryBack,
    #[error("Remora lets go of its connections")]
    Drained,
    #[error("the application took no byte for {0:?}")]
    SlowReader(Duration),
}

impl Session {
    async fn enter(
        shared: &Arc<Shared>,
        discovery: Arc<dyn Discovery>,
        request: &ConnectRequest,
        upstream: Upstream,
        peer: SocketAddr,
        greeting: BytesMut,
    ) -> Self {
        let answer = &upstream.response;
        let (visit, known) = shared.sessions.enter(answer.session_id, &answer.password).await;
        // A registry that started anew may give an old number to a new session.
        let known = known.filter(|_| request.session_id != 0);
        let is_unknown = known.is_none();
        let mut state = known.unwrap_or_else(|| {
            // go-zk does not know the read-only flag; Java's client always sends it.
            let client = match request.read_only {
                Some(_) => Client::Java,
                None => Client::Plain,
            };
            let info = State::info(&shared.registry, peer.to_string());
            Box::new(State::new(Lease::open(discovery, info), client, &shared.stats))
        });
        state.session = answer.session_id;
        state.high = state.high.max(request.last_zxid_seen);
        let is_behind = upstream.zxid.is_some_and(|zxid| zxid < state.high);
        state.is_detached |= is_behind;
        let mut door = Door::new(Arc::clone(shared), state, is_behind);
        door.app_out = greeting;
        if is_unknown && request.session_id != 0 {
            door.state.is_resumed = true;
            door.state.is_to_be_learned = true;
        }
        if door.state.is_to_be_learned {
            door.learn_soon();
        }
        door.resume_lists();
        if !is_unknown {
            door.guard_all();
            door.policy_changed();
        }
        let millis = u64::try_from(upstream.response.timeout_ms).unwrap_or_default();
        Self {
            door,
            visit,
            timeout: Duration::from_millis(millis),
            upstream: upstream.io,
            up_input: upstream.input,
            peer,
        }
    }

    /// The session is kept in the stand-in.
    fn stand_in(&mut self, is_new: bool) {
        self.door.home = Home::StandIn;
        self.door.put_chroot();
        if is_new {
            self.door.tell_of_stand_in();
        }
    }

    async fn run(mut self, mut stream: TcpStream, input: BytesMut, drain: CancellationToken, reach: Reach) {
        let end = match self.pump(&mut stream, input, &drain, reach).await {
            Ok(()) => End::SessionClosed,
            Err(end) => end,
        };
        let shared = Arc::clone(&self.door.shared);
        match &end {
            End::App(_) => Stats::count(&shared.stats.malformed),
            End::Upstream(_) | End::UpstreamClosed => Stats::count(&shared.stats.upstream_failures),
            End::SlowReader(_) => Stats::count(&shared.stats.slow_readers),
            _ => {}
        }
        debug!(registry = "zookeeper", peer = %self.peer, session = self.visit.id, cause = %end, "connection closed");
        self.door.steps_cut_off();
        if let End::RegistryBack = end {
            // Its client comes back within a second or two; until then, and until it publishes again.
            bridge::carry_ahead(&shared, &self.door.state, &drain);
        }
        if self.door.is_closed {
            shared.sessions.end(self.visit);
        } else {
            let expired = shared.sessions.leave(self.visit, self.door.state, self.timeout);
            if let Some(state) = expired {
                bridge::carry(&shared, state, &drain);
            }
        }
    }

    async fn pump(
        &mut self,
        stream: &mut TcpStream,
        mut input: BytesMut,
        drain: &CancellationToken,
        reach: Reach,
    ) -> Result<(), End> {
        let (mut app_read, mut app_write) = stream.split();
        let (mut up_read, mut up_write) = tokio::io::split(&mut self.upstream);
        let config = self.door.shared.config.clone();
        let cancel = self.visit.cancel.clone();
        let door = &mut self.door;
        let mut registry_back = std::pin::pin!(reach.back(&config));
        let stands_in = door.home == Home::StandIn;
        // Until this connection ends, Remora waits for its farewell.
        let mut seat = door.discovery().seat();
        // Since when the application has taken nothing of what waits for it.
        let mut stuck: Option<Instant> = None;
        loop {
            while door.takes_requests()
                && let Some(frame) = split_frame(&mut input, config.max_frame_bytes)?
            {
                door.on_app_frame(frame)?;
            }
            while door.app_out.len() < config.buffer_bytes
                && let Some(frame) = split_frame(&mut self.up_input, config.max_reply_bytes)?
            {
                door.on_upstream_frame(frame)?;
            }
            if let Some(withdrawn) = door.farewell_over() {
                seat.done(withdrawn);
            }
            if door.is_closed && door.line.len() == 0 && door.app_out.is_empty() {
                app_write.shutdown().await?;
                return Ok(());
            }
            // Requests that waited for a place may have one now.
            if door.takes_requests() && has_frame(&input) {
                continue;
            }
            stuck = match door.app_out.is_empty() {
                true => None,
                false => stuck.or_else(|| Some(Instant::now())),
            };
            let stalled = stuck.map(|since| since + config.write_timeout);
            let deadline = [door.deadline(), stalled].into_iter().flatten().min();
            // Each arm is cancel safe: reads and writes of a buffer take or give nothing until they are done, and so does
            // `join_next`.
            tokio::select! {
                () = drain.cancelled() => return Err(End::Drained),
                () = cancel.cancelled() => return Err(End::Superseded),
                () = &mut registry_back, if stands_in => return Err(End::RegistryBack),
                () = seat.asked() => door.say_farewell(),
                Ok(()) = door.policy.changed() => door.policy_changed(),
                n = write_some(&mut app_write, &mut door.app_out) => {
                    n?;
                    stuck = None;
                }
                n = write_some(&mut up_write, &mut door.up_out) => n?,
                n = read_some(&mut app_read, &mut input), if door.takes_requests() => {
                    if n? == 0 {
                        let _ = timeout(
                            LAST_ANSWERS,
                            hear_the_rest(&mut up_read, &mut up_write, &mut self.up_input, door, config.max_reply_bytes),
                        )
                        .await;
                        return match door.is_closed {
                            true => Ok(()),
                            false => Err(End::AppClosed),
                        };
                    }
                }
                n = read_some(&mut up_read, &mut self.up_input), if door.app_out.len() < config.buffer_bytes => {
                    if n? == 0 {
                        while let Some(frame) = split_frame(&mut self.up_input, config.max_reply_bytes)? {
                            door.on_upstream_frame(frame)?;
                        }
                        let _ = timeout(config.write_timeout, flush_rest(&mut app_write, door)).await;
                        return match door.is_closed {
                            true => Ok(()),
                            false => Err(End::UpstreamClosed),
                        };
                    }
                }
                Some(done) = door.jobs.join_next(), if !door.jobs.is_empty() => {
                    // A job that panicked was logged by the panic hook; what waits for it times out.
                    if let Ok(done) = done {
                        door.on_done(done);
                    }
                }
                () = sleep_to(deadline) => {
                    if stalled.is_some_and(|at| at <= Instant::now()) {
                        return Err(End::SlowReader(config.write_timeout));
                    }
                    door.on_deadline();
                }
            }
        }
    }
}

// The registry closes right behind its answer to `closeSession`, to a wrong password, to an operation that nobody knows; it
// may still be on its way to the application.
async fn flush_rest(out: &mut (impl AsyncWrite + Unpin), door: &mut Door) -> std::io::Result<()> {
    door.flush();
    out.write_all(&door.app_out).await?;
    out.shutdown().await
}

// What the application asked for before it closed is done all the same, as a server would, and what came of it is
// remembered for when it comes back.
async fn hear_the_rest(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
    input: &mut BytesMut,
    door: &mut Door,
    max_reply_bytes: usize,
) -> Result<(), End> {
    loop {
        write.write_all(&door.up_out).await?;
        door.up_out.clear();
        while let Some(frame) = split_frame(input, max_reply_bytes)? {
            door.on_upstream_frame(frame)?;
            door.app_out.clear();
        }
        if door.sent.is_empty() && door.up_out.is_empty() {
            return Ok(());
        }
        if door.up_out.is_empty() && read_some(read, input).await? == 0 {
            return Ok(());
        }
    }
}

fn has_frame(input: &BytesMut) -> bool {
    let Some(head) = input.first_chunk::<4>() else {
        return false;
    };
    usize::try_from(i32::from_be_bytes(*head)).map_or(true, |length| input.len() >= length.saturating_add(4))
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

const READ_BYTES: usize = 4096;
/// A registry that is said to be away may be back for this application already.
const LAST_CHANCE: Duration = Duration::from_millis(500);
/// A registry answers in milliseconds; one that does not is not waited for.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
