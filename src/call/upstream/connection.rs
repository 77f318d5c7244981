// SPDX-License-Identifier: Apache-2.0
//! One connection that we opened, from connect to close.

mod doubt;
pub(in crate::call) mod handover;
mod proof;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use remora_protocol::{Frame, FrameKind, Protocol};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::super::dispatch::{self, Call, Failure};
use super::super::frame_reader::Piece;
use super::super::wire::{CloseReason, Read, Wire};
use super::super::worker::Worker;
use super::super::{callback, listener, reply};
use super::health::Health;
use super::mux::StreamTable;
use super::pool::{Lane, Pool};
use crate::call::error::CallError;
use crate::metrics::call::{Dropped, Ejected, Side};

/// One connection to an instance.
#[derive(Debug)]
pub(in crate::call) struct Upstream {
    pub(in crate::call) wire: Rc<Wire>,
    pub(in crate::call) addr: SocketAddr,
    pub(in crate::call) side: Side,
    pub(in crate::call) lane: Lane,
    pub(in crate::call) protocol: Arc<dyn Protocol>,
    dialect: u8,
    /// The connection whose callbacks come back here.
    pub(in crate::call) owner: Option<Weak<super::super::connection::Downstream>>,
    pub(in crate::call) opened: Instant,
    pub(in crate::call) health: Rc<Health>,
    pool: Weak<Pool>,
    table: RefCell<StreamTable<Call>>,
    state: Cell<State>,
    is_going_away: Cell<bool>,
    is_retired: Cell<bool>,
    /// Sent a heartbeat to see whether it answers any.
    was_probed: Cell<bool>,
    /// No call leaves before this by its deadline.
    next_deadline: Cell<Option<Instant>>,
    last_call: Cell<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Ready,
    /// Asked for a sign of life; no new calls before it comes.
    Mute,
    Closed,
}

impl Upstream {
    /// Starts to connect; calls may be sent at once and wait.
    pub(in crate::call) fn open(worker: &Rc<Worker>, pool: &Rc<Pool>, lane: Lane) -> Rc<Self> {
        let shard = worker.shard(pool.side, &pool.protocol);
        let now = Instant::now();
        let upstream = Rc::new(Self {
            wire: Wire::upstream(&worker.io, shard),
            addr: pool.addr,
            side: pool.side,
            lane,
            protocol: pool.protocol.clone(),
            dialect: pool.dialect,
            owner: pool.owner.clone(),
            opened: now,
            health: pool.health.clone(),
            pool: Rc::downgrade(pool),
            table: RefCell::new(StreamTable::new(
                worker.config().max_in_flight_per_connection,
                pool.protocol.stream_id_bits(),
            )),
            state: Cell::new(State::Connecting),
            is_going_away: Cell::new(false),
            is_retired: Cell::new(false),
            was_probed: Cell::new(false),
            next_deadline: Cell::new(None),
            last_call: Cell::new(now),
        });
        // Ends when the connection is closed, at the latest by the worker's drain.
        tokio::task::spawn_local(upstream.clone().run(worker.clone()));
        upstream
    }

    /// Connected and not closed.
    pub(in crate::call) fn is_ready(&self) -> bool {
        self.state.get() == State::Ready && self.wire.end().is_none()
    }

    /// Not yet connected.
    pub(in crate::call) fn is_connecting(&self) -> bool {
        self.state.get() == State::Connecting
    }

    /// New calls of a lane may be sent here.
    pub(in crate::call) fn takes(&self, lane: Lane) -> bool {
        self.lane == lane && self.is_ready() && !self.is_going_away()
    }

    /// The peer takes no new calls here.
    pub(in crate::call) fn is_going_away(&self) -> bool {
        self.is_going_away.get()
    }

    /// Calls waiting for their reply.
    pub(in crate::call) fn in_flight(&self) -> usize {
        self.table.borrow().len()
    }

    /// Sends a call and keeps it until its reply comes; a one-way call is kept only until there is a connection. Gives the
    /// call back when too many are in flight.
    #[inline]
    pub(in crate::call) fn send(
        self: &Rc<Self>,
        worker: &Worker,
        mut call: Call,
        frame: &Frame,
        now: Instant,
    ) -> Option<Call> {
        let from = call.from.clone();
        call.sent_at = self.wire.position();
        let deadline = call.deadline();
        let id = if call.is_oneway() && self.is_ready() {
            dispatch::oneway_sent(worker, call);
            self.table.borrow_mut().spare_id()
        } else {
            let id = match self.table.borrow_mut().insert(call) {
                Ok(id) => id,
                Err(call) => return Some(call),
            };
            worker.call_waits(deadline.min(now + worker.config().doubt_after.0));
            if self.next_deadline.get().is_none_or(|next| deadline < next) {
                self.next_deadline.set(Some(deadline));
            }
            id
        };
        self.last_call.set(now);
        self.wire.send_frame(&*self.protocol, frame, id);
        if self.wire.queued() > worker.config().write_pause.bytes() {
            from.wire.pause_for(&self.wire);
        }
        None
    }

    /// No call here has to be given up before; `None` if none is in flight.
    pub(in crate::call) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline.get().filter(|_| self.in_flight() > 0)
    }

    /// Takes the calls out whose deadline passed.
    pub(in crate::call) fn take_expired(&self, worker: &Worker, now: Instant, out: &mut Vec<Call>) {
        if self.next_deadline.get().is_none_or(|next| now < next) {
            return;
        }
        let mut table = self.table.borrow_mut();
        let before = out.len();
        table.take_where(|call| call.deadline() <= now, out);
        worker.calls_left(out.len() - before);
        self.next_deadline.set(table.iter().map(Call::deadline).min());
    }

    /// Takes the calls out that nobody waits for any more, once they have waited as long as one without a limit would: limits
    /// of hours in the frames of callers that come and go would fill the table.
    pub(in crate::call) fn take_abandoned(&self, worker: &Worker, now: Instant, out: &mut Vec<Call>) {
        if self.in_flight() == 0 {
            return;
        }
        let longest = worker.config().default_timeout.0;
        let before = out.len();
        let is_abandoned =
            |call: &Call| call.from.is_closed() && now.saturating_duration_since(call.started) >= longest;
        self.table.borrow_mut().take_where(is_abandoned, out);
        worker.calls_left(out.len() - before);
    }

    /// No new calls will come: closes when the last one is answered.
    pub(in crate::call) fn retire(&self) {
        self.is_retired.set(true);
        self.close_if_done();
    }

    /// Probes a silent peer, closes an unused or stuck connection; call about once a second.
    pub(in crate::call) fn tend(&self, worker: &Worker, now: Instant) {
        if !matches!(self.state.get(), State::Ready | State::Mute) {
            return;
        }
        self.wire.check_stalls(now);
        let idle = now.saturating_duration_since(self.last_call.get());
        if self.owner.is_none() && self.in_flight() == 0 && idle >= worker.config().idle_close.0 {
            self.wire.close_when_flushed(CloseReason::Idle);
            return;
        }
        let heartbeat = || {
            let id = self.table.borrow_mut().spare_id();
            self.protocol.heartbeat(self.dialect, id)
        };
        self.wire.keep_alive(now, heartbeat);
        let is_heard = self.wire.traffic().0 > 0;
        if is_heard && !self.health.is_known_to_answer() && !self.was_probed.replace(true) {
            // In time: from one that never answered a heartbeat silence says little.
            heartbeat().iter().for_each(|heartbeat| self.wire.send_bytes(heartbeat));
        }
        if self.in_flight() == 0 {
            self.table.borrow_mut().shrink();
        }
    }

    async fn run(self: Rc<Self>, worker: Rc<Worker>) {
        let key = worker.upstreams.borrow_mut().insert(self.clone());
        let made = async {
            let stream = connect(&worker, self.addr).await?;
            let is_greeted = self.prove(&stream).await?;
            Ok::<_, String>((stream, is_greeted))
        };
        match made.await {
            Ok(new) => self.clone().serve(worker.clone(), Some(new)).await,
            Err(why) => self.not_connected(&worker, &why),
        }
        worker.upstreams.borrow_mut().remove(key);
    }

    /// Serves a connection that is there; `new` has its stream, and whether the peer was greeted.
    async fn serve(self: Rc<Self>, worker: Rc<Worker>, new: Option<(TcpStream, bool)>) {
        let guard = self.wire.shard.upstream();
        if let Some((stream, is_greeted)) = new {
            self.connected(&worker, stream, is_greeted);
        }
        let end = self.read(&worker).await;
        drop(guard);
        self.closed(&worker, end);
    }

    fn connected(self: &Rc<Self>, worker: &Worker, stream: TcpStream, is_greeted: bool) {
        debug!(side = self.side.label(), upstream = %self.addr, "connected");
        self.state.set(State::Ready);
        let now = Instant::now();
        self.health.connected(now);
        let mut oneway = Vec::new();
        self.table.borrow_mut().take_where(Call::is_oneway, &mut oneway);
        worker.calls_left(oneway.len());
        for call in oneway {
            dispatch::oneway_sent(worker, call);
        }
        self.wire.attach(stream);
        if !is_greeted && let Some(greeting) = self.protocol.greeting(self.dialect) {
            self.wire.send_bytes(&greeting);
        }
        if self.health.needs_sign() {
            self.ask();
        }
        // A connection that was retired while it was being made.
        self.close_if_done();
    }

    fn not_connected(self: &Rc<Self>, worker: &Rc<Worker>, why: &str) {
        debug!(side = self.side.label(), upstream = %self.addr, reason = why, "could not connect");
        self.state.set(State::Closed);
        let calls = self.take_all(worker);
        self.wire.shut(CloseReason::ConnectFailed);
        self.wire.shard.connection_closed(CloseReason::ConnectFailed.index());
        let pool = self.pool.upgrade();
        if let Some(pool) = &pool {
            pool.forget(self);
        }
        // One more connection than the instance takes is no sign against it: the calls go on those there are.
        let others = pool.filter(|pool| pool.is_connected());
        let now = Instant::now();
        match &others {
            Some(pool) => pool.is_refused_more(now),
            None if self.health.eject(&worker.config(), Ejected::Unreachable, now) => {
                self.wire.shard.ejected(Ejected::Unreachable);
            }
            None => {}
        }
        for call in calls {
            let failure = Failure {
                addr: self.addr,
                why: why.to_owned(),
                is_excluded: others.is_none(),
            };
            dispatch::again(worker, call, failure);
        }
    }

    /// Reads until the connection is over; gives why.
    async fn read(self: &Rc<Self>, worker: &Rc<Worker>) -> CloseReason {
        loop {
            let mut input = match self.wire.read().await {
                Read::Input(input) => input,
                Read::Eof => return CloseReason::PeerClosed,
                Read::Closed => return CloseReason::Broken,
            };
            let now = self.wire.last_read();
            self.heard(now);
            let cut = loop {
                let next = self
                    .wire
                    .next(&mut input, &*self.protocol, worker.config().max_frame.bytes());
                match next {
                    Ok(Some(piece)) => self.take(worker, piece, now),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            self.wire.put_back(input);
            if let Err(error) = cut {
                debug!(side = self.side.label(), upstream = %self.addr, reason = error.reason(), %error, "malformed frame");
                return CloseReason::BadFrame;
            }
            self.close_if_done();
            self.wire.give_way().await;
        }
    }

    fn take(self: &Rc<Self>, worker: &Rc<Worker>, piece: Piece, now: Instant) {
        match piece {
            Piece::Frame(frame) => match frame.kind {
                FrameKind::Reply => match self.take_call(worker, &frame) {
                    Some(call) => dispatch::back(worker, self, call, &frame, now),
                    None => self.wire.shard.drop_frame(Dropped::UnknownReply),
                },
                FrameKind::Request | FrameKind::Oneway => callback::from_provider(worker, self, &frame, now),
                FrameKind::Heartbeat => {
                    if let Some(answer) = self.protocol.heartbeat_reply(&frame) {
                        self.wire.send_bytes(&answer);
                        self.wire.slow_down();
                    }
                }
                FrameKind::HeartbeatReply => self.health.answers_heartbeats(),
                FrameKind::GoAway => self.is_going_away.set(true),
                FrameKind::Resume => self.is_going_away.set(false),
                FrameKind::Ignorable => self.wire.shard.drop_frame(Dropped::Ignorable),
            },
            Piece::TooLong(head, bytes) => {
                let max = worker.config().max_frame.bytes();
                self.wire.shard.drop_frame(Dropped::TooLong);
                if head.kind == FrameKind::Reply {
                    if let Some(call) = self.take_call(worker, &head) {
                        let error = CallError::ReplyTooLong {
                            service: call.route.label.to_string(),
                            addr: self.addr,
                            bytes,
                            max,
                        };
                        reply::fail(worker, call, &error, now);
                    }
                } else {
                    reply::to_provider(self, &head, &CallError::TooLong { bytes, max });
                }
            }
        }
    }

    fn take_call(&self, worker: &Worker, reply: &Frame) -> Option<Call> {
        let call = self.table.borrow_mut().take(reply.stream_id)?;
        worker.calls_left(1);
        Some(call)
    }

    fn close_if_done(&self) {
        if self.is_retired.get() && !self.is_connecting() && self.in_flight() == 0 {
            self.wire.close_when_flushed(CloseReason::Retired);
        }
    }

    fn closed(self: &Rc<Self>, worker: &Rc<Worker>, end: CloseReason) {
        self.state.set(State::Closed);
        if let Some(pool) = self.pool.upgrade() {
            pool.forget(self);
        }
        let calls = self.take_all(worker);
        let end = self.wire.shut(end);
        self.wire.shard.connection_closed(end.index());
        debug!(side = self.side.label(), upstream = %self.addr, reason = end.label(), in_flight = calls.len(), "upstream closed");
        let now = Instant::now();
        self.is_lost(worker, end, !calls.is_empty(), now);
        let written = self.wire.written();
        for call in calls {
            let service = call.route.label.to_string();
            if end == CloseReason::Drained {
                let addr = self.addr;
                reply::fail(worker, call, &CallError::CutByDrain { service, addr }, now);
            } else if written >= call.sent_at + call.kept.len as u64 {
                let error = CallError::UpstreamClosed {
                    service,
                    addr: self.addr,
                    reason: end.label(),
                };
                reply::fail(worker, call, &error, now);
            } else {
                let failure = Failure {
                    addr: self.addr,
                    why: "closed before all of the request was sent".to_owned(),
                    is_excluded: false,
                };
                dispatch::again(worker, call, failure);
            }
        }
    }

    /// Every call, and whole what was not yet written of them.
    fn take_all(&self, worker: &Worker) -> Vec<Call> {
        let mut calls = Vec::new();
        self.table.borrow_mut().take_where(|_| true, &mut calls);
        worker.calls_left(calls.len());
        for call in calls.iter_mut().filter(|call| !call.kept.is_whole()) {
            if let Some(wire) = self.wire.unsent(&*self.protocol, call.sent_at, &call.kept) {
                worker.kept.complete(&mut call.kept, wire);
            }
        }
        calls
    }
}

/// Connects, or says in a few words why not. Nothing was sent then.
async fn connect(worker: &Worker, addr: SocketAddr) -> Result<TcpStream, String> {
    if listener::is_own(&worker.own_listeners.load(), addr) {
        return Err("is a listener of this Remora itself, calling it would be a loop".to_owned());
    }
    let limit = worker.config().connect_timeout.0;
    match timeout(limit, TcpStream::connect(addr)).await {
        Ok(Ok(stream)) => {
            listener::tune(&stream);
            Ok(stream)
        }
        Ok(Err(error)) => Err(match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            std::io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
            _ => error.to_string(),
        }),
        Err(_) => Err(format!("no connection within {} ms", limit.as_millis())),
    }
}
