// SPDX-License-Identifier: Apache-2.0
//! One thread of the call path: its connections, its clock, its drain.
//!
//! Everything here belongs to one thread; nothing on the path of a call is shared with another.

use std::cell::{Cell, Ref, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use remora_protocol::Protocol;
use slab::Slab;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::clock::{self, Clock, TICK};
use super::config::Config;
use super::connection::Downstream;
use super::guests::{Guest, Guests};
use super::half_read::Totals;
use super::handover::Frozen;
use super::kept::KeptStore;
use super::listener::Door;
use super::listening::Listening;
use super::router::Router;
use super::tally::{Tallies, TalliesView};
use super::upstream::connection::Upstream;
use super::upstream::pool::Pools;
use super::view::{self, ConnectionView};
use super::wire::{CloseReason, Io};
use crate::discovery::route_table::SharedRoutes;
use crate::metrics::call::{CallMetrics, CallShard, Side};

/// What a worker is made from; travels to its thread.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) index: usize,
    pub(super) config: Arc<Config>,
    pub(super) routes: SharedRoutes,
    pub(super) metrics: CallMetrics,
    pub(super) own_listeners: Arc<ArcSwap<Vec<SocketAddr>>>,
    pub(super) load: Arc<AtomicUsize>,
    pub(super) guests: Arc<Guests>,
    pub(super) half_read: Arc<Totals>,
    pub(super) drain_deadline: Duration,
    pub(super) protocols: Vec<Arc<dyn Protocol>>,
    /// Cancelled when connections may be read and written.
    pub(super) begin: CancellationToken,
}

/// What is sent to a worker.
#[derive(Debug)]
pub(super) enum Message {
    /// A connection to serve; already counted in the worker's load.
    Connection {
        door: Arc<Door>,
        stream: std::net::TcpStream,
        peer: SocketAddr,
        guest: Option<Guest>,
    },
    /// Connections that another worker had; already waits for their number.
    Adopt(Box<Frozen>, Vec<Arc<Door>>, oneshot::Sender<usize>),
    /// Everything is to be handed over; this worker ends.
    Freeze(oneshot::Sender<Frozen>),
    /// Somebody wants to see the connections.
    View(oneshot::Sender<Vec<ConnectionView>>),
    /// Somebody wants to see who calls what.
    Tallies(oneshot::Sender<TalliesView>),
    /// Somebody wants to know whether this worker still turns.
    Ping(oneshot::Sender<()>),
    /// Other settings, and another time for the drain; what is under way goes on with what it began with.
    Configure(Arc<Config>, Duration),
}

/// One thread's share of the call path.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) io: Rc<Io>,
    pub(super) router: RefCell<Router>,
    pub(super) pools: Pools,
    pub(super) upstreams: RefCell<Slab<Rc<Upstream>>>,
    pub(super) downstreams: RefCell<Slab<Rc<Downstream>>>,
    pub(super) own_listeners: Arc<ArcSwap<Vec<SocketAddr>>>,
    /// Downstream connections, also those on their way here.
    pub(super) load: Arc<AtomicUsize>,
    /// Callers at the ingress ports, of all workers.
    pub(super) guests: Arc<Guests>,
    drain_deadline: Cell<Duration>,
    protocols: Vec<Arc<dyn Protocol>>,
    begin: CancellationToken,
    metrics: CallMetrics,
    shards: RefCell<Vec<(Side, &'static str, Arc<CallShard>)>>,
    /// Entries in all stream tables.
    waiting: Cell<usize>,
    pub(super) clock: Clock,
    pub(super) kept: KeptStore,
    pub(super) tallies: Rc<Tallies>,
    pub(super) listening: Listening,
}

impl Worker {
    pub(super) fn new(parts: Parts) -> Rc<Self> {
        let tallies = Rc::<Tallies>::default();
        Rc::new(Self {
            index: parts.index,
            io: Rc::new(Io::new(parts.config, parts.half_read)),
            router: RefCell::new(Router::new(&parts.routes, &tallies)),
            pools: Pools::default(),
            upstreams: RefCell::default(),
            downstreams: RefCell::default(),
            own_listeners: parts.own_listeners,
            load: parts.load,
            guests: parts.guests,
            drain_deadline: Cell::new(parts.drain_deadline),
            protocols: parts.protocols,
            begin: parts.begin,
            metrics: parts.metrics,
            shards: RefCell::default(),
            waiting: Cell::new(0),
            clock: Clock::default(),
            kept: KeptStore::default(),
            tallies,
            listening: Listening::default(),
        })
    }

    /// The settings as they are now. Not to be kept over an `.await`.
    pub(super) fn config(&self) -> Ref<'_, Config> {
        self.io.config()
    }

    /// This worker's counters for a side and protocol; looked up once per connection.
    pub(super) fn shard(&self, side: Side, protocol: &Arc<dyn Protocol>) -> Arc<CallShard> {
        let mut shards = self.shards.borrow_mut();
        let name = protocol.name();
        if let Some((_, _, shard)) = shards.iter().find(|(s, p, _)| *s == side && *p == name) {
            return shard.clone();
        }
        let shard = self.metrics.shard(side, name);
        shards.push((side, name, shard.clone()));
        shard
    }

    /// The plugin of that name.
    pub(super) fn protocol(&self, name: &str) -> Option<Arc<dyn Protocol>> {
        self.protocols.iter().find(|protocol| protocol.name() == name).cloned()
    }

    /// Waits until connections may be read and written.
    pub(super) async fn may_begin(&self) {
        self.begin.cancelled().await;
    }

    /// A connection of another worker is ours now.
    pub(super) fn connection_adopted(&self) {
        self.load.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connection_closed(&self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }

    /// An entry came into a stream table.
    pub(super) fn call_waits(&self, deadline: Instant) {
        self.waiting.set(self.waiting.get() + 1);
        self.clock.waits_until(deadline);
    }

    /// Whether there are entries in stream tables.
    pub(super) fn waits(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Entries left stream tables.
    pub(super) fn calls_left(&self, count: usize) {
        self.waiting.set(self.waiting.get().saturating_sub(count));
    }

    /// Runs until the drain is over.
    pub(super) async fn run(self: Rc<Self>, mut inbox: mpsc::Receiver<Message>, drain: CancellationToken) {
        // Both end with this runtime, which ends when this function returns.
        tokio::task::spawn_local(self.io.flusher.clone().run());
        tokio::task::spawn_local(clock::run(self.clone()));
        loop {
            // Cancel safe: `recv` loses no message.
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(Message::Freeze(answer)) => {
                        // Who asked waits; if not, the connections close, as they would with us.
                        let _ = answer.send(self.freeze());
                        return;
                    }
                    Some(message) => self.receive(message),
                    // The handle is gone; connections go on until the drain.
                    None => { drain.cancelled().await; break }
                },
                () = drain.cancelled() => break,
            }
        }
        self.drain(&mut inbox).await;
    }

    fn receive(self: &Rc<Self>, message: Message) {
        match message {
            Message::Configure(config, drain_deadline) => {
                self.io.configure(config);
                self.drain_deadline.set(drain_deadline);
            }
            Message::Connection {
                door,
                stream,
                peer,
                guest,
            } => {
                let stream = stream
                    .set_nonblocking(true)
                    .and_then(|()| tokio::net::TcpStream::from_std(stream));
                match stream {
                    Ok(stream) => self.serve(door, stream, peer, guest),
                    Err(error) => {
                        warn!(%peer, %error, "could not take a connection over");
                        self.connection_closed();
                    }
                }
            }
            Message::Adopt(frozen, doors, answer) => {
                let _ = answer.send(self.adopt(*frozen, &doors));
            }
            // Asked for after the drain began: it is too late.
            Message::Freeze(answer) => drop(answer),
            Message::View(answer) => {
                // Nobody may be waiting any more.
                let _ = answer.send(view::connections(self, Instant::now()));
            }
            Message::Ping(answer) => {
                // Who asked may have given up.
                let _ = answer.send(());
            }
            Message::Tallies(answer) => {
                let _ = answer.send(self.tallies.view(Instant::now()));
            }
        }
    }

    /// Tells peers, finishes what runs, then closes. Ingress peers are told at once: their calls can go elsewhere. Our own
    /// application is told only when its connection closes: until then its calls are served.
    async fn drain(self: &Rc<Self>, inbox: &mut mpsc::Receiver<Message>) {
        let deadline = Instant::now() + self.drain_deadline.get();
        let mut was_cut = 0;
        loop {
            let now = Instant::now();
            let open = self.all_downstreams();
            for downstream in &open {
                if downstream.side() == Side::Ingress {
                    downstream.say_goaway();
                }
                if downstream.is_quiet(self, now) {
                    downstream.say_goaway();
                    downstream.wire.close_when_flushed(CloseReason::Drained);
                }
            }
            if open.is_empty() {
                break;
            }
            if now >= deadline {
                was_cut = open.iter().map(|downstream| downstream.in_flight()).sum();
                break;
            }
            tokio::select! {
                () = sleep(TICK) => {}
                Some(message) = inbox.recv() => self.receive(message),
            }
        }
        for upstream in self.all_upstreams() {
            upstream.wire.close(CloseReason::Drained);
        }
        self.until(|worker| worker.upstreams.borrow().is_empty()).await;
        for downstream in self.all_downstreams() {
            downstream.say_goaway();
            downstream.wire.close_when_flushed(CloseReason::Drained);
        }
        self.until(|worker| worker.downstreams.borrow().is_empty()).await;
        info!(worker = self.index, cut = was_cut, "call path drained");
    }

    async fn until(&self, is_done: impl Fn(&Self) -> bool) {
        let give_up = Instant::now() + LAST_WRITES;
        while !is_done(self) && Instant::now() < give_up {
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn all_upstreams(&self) -> Vec<Rc<Upstream>> {
        self.upstreams
            .borrow()
            .iter()
            .map(|(_, upstream)| upstream.clone())
            .collect()
    }

    fn all_downstreams(&self) -> Vec<Rc<Downstream>> {
        self.downstreams
            .borrow()
            .iter()
            .map(|(_, downstream)| downstream.clone())
            .collect()
    }
}

/// Time for the last replies to leave at the end of a drain.
const LAST_WRITES: Duration = Duration::from_secs(1);
