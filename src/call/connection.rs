// SPDX-License-Identifier: Apache-2.0
//! One connection that came to us, from accept to close.

pub(super) mod handover;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use remora_protocol::{DecodeError, Frame, FrameKind, Protocol, Sniff, StreamId};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use super::callback::{self, Callbacks};
use super::error::CallError;
use super::frame_reader::Piece;
use super::guests::Guest;
use super::listener::Door;
use super::recent::Recent;
use super::router::{Candidate, LocalRoute};
use super::upstream::pool::Pool;
use super::wire::{CloseReason, Read, Wire};
use super::worker::Worker;
use super::{dispatch, reply};
use crate::metrics::call::{CallShard, Dropped, Side};

/// One connection that came to us.
#[derive(Debug)]
pub(super) struct Downstream {
    pub(super) wire: Rc<Wire>,
    pub(super) peer: SocketAddr,
    pub(super) opened: Instant,
    pub(super) callbacks: Callbacks,
    pub(super) recent: RefCell<Recent>,
    door: Arc<Door>,
    /// Its place among the callers at the ingress ports.
    guest: Option<Guest>,
    /// That of its first frame.
    dialect: Cell<Option<u8>>,
    in_flight: Cell<usize>,
    /// The peer sends no more, but waits for replies.
    is_half_closed: Cell<bool>,
    /// The ingress route, as long as the application stays where it is.
    application: RefCell<Option<(SocketAddr, Rc<LocalRoute>)>>,
    /// Pools of its own, from the moment a callback was registered.
    own_pools: RefCell<Option<Vec<Rc<Pool>>>>,
    /// Another Remora, which understands what others may not.
    is_greeted: Cell<bool>,
    /// Told that no new calls are taken.
    was_told: Cell<bool>,
    last_request: Cell<Instant>,
}

impl Downstream {
    pub(super) fn protocol(&self) -> &Arc<dyn Protocol> {
        &self.door.protocol
    }

    pub(super) fn side(&self) -> Side {
        self.door.side
    }

    /// The port of ours that it came to.
    pub(super) fn door(&self) -> SocketAddr {
        self.door.local
    }

    /// What the peer speaks; 0 before its first frame.
    pub(super) fn dialect(&self) -> u8 {
        self.dialect.get().unwrap_or(0)
    }

    /// A peer gets its replies in the dialect of its first frame, from providers which do the same.
    fn stays_in_dialect(&self, frame: &Frame) -> Result<(), DecodeError> {
        let found = self.protocol().dialect(frame);
        match self.dialect.get() {
            Some(first) if first != found => Err(DecodeError::Mixed {
                protocol: self.protocol().name(),
                first,
                found,
            }),
            Some(_) => Ok(()),
            None => {
                self.dialect.set(Some(found));
                self.guest.iter().for_each(Guest::speaks);
                Ok(())
            }
        }
    }

    pub(super) fn shard(&self) -> &Arc<CallShard> {
        &self.wire.shard
    }

    pub(super) fn is_closed(&self) -> bool {
        self.wire.end().is_some()
    }

    /// Calls waiting for their reply.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// When its last call came, or when it was opened if none did.
    pub(super) fn last_call(&self) -> Instant {
        self.last_request.get()
    }

    pub(super) fn call_started(&self) {
        self.shard().call_started();
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub(super) fn call_ended(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        if self.is_half_closed.get() && self.in_flight.get() == 0 {
            self.wire.close_when_flushed(CloseReason::PeerClosed);
        }
    }

    /// Whether it has upstream connections of its own.
    pub(super) fn is_pinned(&self) -> bool {
        self.own_pools.borrow().is_some()
    }

    /// From now on its calls travel on upstream connections of its own, so that a provider's requests find back.
    pub(super) fn pin(&self) {
        self.own_pools.borrow_mut().get_or_insert_default();
    }

    /// Its own pool for an instance, if it has own pools.
    pub(super) fn own_pool(self: &Rc<Self>, candidate: &Candidate) -> Option<Rc<Pool>> {
        let mut own = self.own_pools.borrow_mut();
        let own = own.as_mut()?;
        let addr = candidate.endpoint.addr;
        if let Some(pool) = own.iter().find(|pool| pool.addr == addr) {
            return Some(pool.clone());
        }
        let pool = candidate.pool.own(self);
        own.push(pool.clone());
        Some(pool)
    }

    /// The route of an ingress connection.
    pub(super) fn application(&self, worker: &Worker) -> Result<Rc<LocalRoute>, CallError> {
        let addr = match self.door.app.load().as_deref() {
            Some(addr) => *addr,
            None => {
                return Err(CallError::NoApplication {
                    ingress: self.door.local,
                });
            }
        };
        // Others may take the call, and only another Remora can see that from the answer: anybody else is served to the last.
        if self.is_greeted.get()
            && (self.door.is_leaving.load(Ordering::Relaxed) || !worker.listening.is_open(addr, self.wire.last_read()))
        {
            let ingress = self.door.local;
            return Err(CallError::Leaving { ingress });
        }
        let mut cached = self.application.borrow_mut();
        match &*cached {
            Some((of, route)) if *of == addr => Ok(route.clone()),
            _ => {
                let route = worker
                    .router
                    .borrow_mut()
                    .application(&worker.pools, self.protocol(), addr);
                *cached = Some((addr, route.clone()));
                Ok(route)
            }
        }
    }

    /// Probes a silent peer, closes a stuck connection; call about once a second.
    pub(super) fn tend(&self, worker: &Worker, now: Instant) {
        self.wire.check_stalls(now);
        let is_idle = now.saturating_duration_since(self.last_request.get()) > FORGET_AFTER;
        let generation = worker.router.borrow_mut().generation();
        self.recent.borrow_mut().clean(generation, is_idle);
        // Who has not spoken yet may not be of this protocol.
        if let Some(dialect) = self.dialect.get() {
            let heartbeat = || self.protocol().heartbeat(dialect, StreamId(0));
            self.wire.keep_alive(now, heartbeat);
        }
    }

    /// Tells the peer, once, to send no new calls here, if it would understand.
    pub(super) fn say_goaway(&self) {
        let understands = self.is_greeted.get() || self.protocol().greeting(self.dialect()).is_none();
        if understands
            && !self.was_told.replace(true)
            && let Some(goaway) = self.protocol().goaway(self.dialect())
        {
            self.wire.send_bytes(&goaway);
        }
    }

    /// Nothing is in flight and nothing came for a while.
    pub(super) fn is_quiet(&self, worker: &Worker, now: Instant) -> bool {
        let silence = now.saturating_duration_since(self.last_request.get());
        self.in_flight() == 0
            && self.callbacks.in_flight() == 0
            && self.wire.queued() == 0
            && silence >= worker.config().drain_quiet.0
    }

    fn take(self: &Rc<Self>, worker: &Rc<Worker>, piece: Piece, now: Instant) {
        match piece {
            Piece::Frame(frame) => match frame.kind {
                FrameKind::Request | FrameKind::Oneway => {
                    self.last_request.set(now);
                    dispatch::out(worker, self, &frame, now);
                }
                FrameKind::Reply => callback::to_provider(worker, self, &frame),
                FrameKind::Heartbeat => self.answer_heartbeat(&frame),
                FrameKind::HeartbeatReply => {}
                FrameKind::GoAway | FrameKind::Resume | FrameKind::Ignorable => {
                    self.shard().drop_frame(Dropped::Ignorable);
                }
            },
            Piece::TooLong(head, bytes) => {
                self.shard().drop_frame(Dropped::TooLong);
                if matches!(head.kind, FrameKind::Request) {
                    let max = worker.config().max_frame.bytes();
                    reply::refuse(self, &head, &CallError::TooLong { bytes, max });
                }
            }
        }
    }

    fn answer_heartbeat(&self, heartbeat: &Frame) {
        if self.protocol().is_greeting(heartbeat) {
            self.is_greeted.set(true);
        }
        if let Some(answer) = self.protocol().heartbeat_reply(heartbeat) {
            self.wire.send_bytes(&answer);
            self.wire.slow_down();
        }
    }

    /// Reads once. A caller who has said nothing may have to make way for another one meanwhile.
    async fn next_read(&self) -> Read {
        let Some(guest) = self.guest.as_ref().filter(|guest| guest.is_silent()) else {
            return self.wire.read().await;
        };
        tokio::select! {
            // What has come is heard first. Cancel safe: a read that is not done has taken nothing.
            biased;
            read = self.wire.read() => read,
            () = guest.must_go() => {
                self.wire.close(CloseReason::MadeWay);
                Read::Closed
            }
        }
    }

    async fn read(self: &Rc<Self>, worker: &Rc<Worker>) -> CloseReason {
        let mut is_sniffed = self.dialect.get().is_some();
        if self.is_half_closed.get() {
            return self.wait_for_replies().await;
        }
        loop {
            let mut input = match self.next_read().await {
                Read::Input(input) => input,
                Read::Eof => {
                    self.is_half_closed.set(true);
                    return self.wait_for_replies().await;
                }
                Read::Closed => return CloseReason::Broken,
            };
            if !is_sniffed {
                match self.protocol().sniff(input.peek()) {
                    Sniff::Yes => is_sniffed = true,
                    Sniff::No => {
                        self.wire.put_back(input);
                        return CloseReason::NotTheProtocol;
                    }
                    Sniff::NeedMore => {}
                }
            }
            let now = self.wire.last_read();
            let cut = loop {
                if !is_sniffed {
                    break Ok(());
                }
                let next = self
                    .wire
                    .next(&mut input, &**self.protocol(), worker.config().max_frame.bytes());
                match next {
                    Ok(Some(piece)) => match self.stays_in_dialect(piece.frame()) {
                        Ok(()) => self.take(worker, piece, now),
                        Err(error) => break Err(error),
                    },
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            self.wire.put_back(input);
            if let Err(error) = cut {
                debug!(reason = error.reason(), %error, "malformed frame");
                return CloseReason::BadFrame;
            }
            self.wire.give_way().await;
        }
    }
}

impl Downstream {
    /// A caller may close its half and still wait; a dead one breaks the first write.
    async fn wait_for_replies(&self) -> CloseReason {
        if self.in_flight() == 0 {
            self.wire.close_when_flushed(CloseReason::PeerClosed);
        }
        self.wire.closed().await;
        CloseReason::PeerClosed
    }
}

/// Serves a connection until it is closed.
pub(super) async fn serve(
    worker: Rc<Worker>,
    door: Arc<Door>,
    stream: TcpStream,
    peer: SocketAddr,
    guest: Option<Guest>,
) {
    let shard = worker.shard(door.side, &door.protocol);
    let now = Instant::now();
    let downstream = Rc::new(Downstream {
        wire: Wire::downstream(&worker.io, shard, stream),
        peer,
        opened: now,
        callbacks: Callbacks::default(),
        recent: RefCell::default(),
        door,
        guest,
        dialect: Cell::new(None),
        in_flight: Cell::new(0),
        is_half_closed: Cell::new(false),
        application: RefCell::default(),
        own_pools: RefCell::default(),
        is_greeted: Cell::new(false),
        was_told: Cell::new(false),
        last_request: Cell::new(now),
    });
    let key = worker.downstreams.borrow_mut().insert(downstream.clone());
    run(worker, downstream, key).await;
}

/// Reads until the connection is over; `key` is its place in the worker's list.
async fn run(worker: Rc<Worker>, downstream: Rc<Downstream>, key: usize) {
    let guard = downstream.shard().downstream();
    worker.clock.connection_opened();
    let end = downstream.read(&worker).await;

    let (bytes_in, bytes_out) = downstream.wire.traffic();
    let end = downstream.wire.shut(end);
    downstream.guest.iter().for_each(Guest::leave);
    worker.downstreams.borrow_mut().remove(key);
    downstream.shard().connection_closed(end.index());
    downstream.callbacks.end(&worker);
    downstream.application.take();
    for pool in downstream.own_pools.take().into_iter().flatten() {
        // The provider sees the connection close, as it would without us, and forgets the callback.
        pool.close(CloseReason::Retired);
    }
    drop(guard);
    worker.connection_closed();
    debug!(
        reason = end.label(),
        bytes_in,
        bytes_out,
        in_flight = downstream.in_flight(),
        "closed"
    );
}

/// Silence after which is forgotten which requests a connection repeats.
const FORGET_AFTER: Duration = Duration::from_secs(10);
