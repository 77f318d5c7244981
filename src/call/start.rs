// SPDX-License-Identifier: Apache-2.0
//! Starts the call path on threads of its own, and what the rest of the program holds of it.

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use remora_protocol::{Pooling, Protocol};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::config::Config;
use super::error::StartError;
use super::guests::Guests;
use super::half_read::Totals;
use super::handover::Frozen;
use super::listener::{Door, Hub};
use super::tally::TalliesView;
use super::view::ConnectionView;
use super::worker::{Message, Parts, Worker};
use crate::discovery::ingress::{IngressChange, IngressListener};
use crate::discovery::route_table::SharedRoutes;
use crate::metrics::call::{CallMetrics, Side};

/// A bound socket on which our applications call out.
#[derive(Debug)]
pub struct EgressListener {
    /// Protocol plugin that speaks on it.
    pub protocol: Arc<str>,
    /// The socket.
    pub listener: TcpListener,
}

/// Everything the call path needs.
#[derive(Debug)]
pub struct Setup {
    /// The plugins.
    pub protocols: Vec<Arc<dyn Protocol>>,
    /// Where services are.
    pub routes: SharedRoutes,
    /// Where our applications call out.
    pub egress: Vec<EgressListener>,
    /// Ingress ports, as discovery opens and assigns them.
    pub ingress: mpsc::Receiver<IngressChange>,
    /// Settings.
    pub config: Config,
    /// Worker threads; one is enough for a sidecar (60 000 calls/s and more).
    pub workers: usize,
    /// Metrics.
    pub metrics: CallMetrics,
    /// How long calls in flight may take to finish once `drain` is cancelled.
    pub drain_deadline: Duration,
    /// Cancelled when Remora stops: the call path drains and ends.
    pub drain: CancellationToken,
    /// Nothing is accepted, read or written before [`CallHandle::begin`].
    pub is_held: bool,
}

/// The call path.
#[derive(Debug)]
pub struct CallPath;

/// A running call path.
#[derive(Debug)]
pub struct CallHandle {
    workers: Vec<Running>,
    begin: CancellationToken,
    /// Ends accepting alone.
    accepting: CancellationToken,
    doors: Doors,
}

/// The ports that are listened on.
type Doors = Arc<Mutex<Vec<Arc<Door>>>>;

#[derive(Debug)]
struct Running {
    inbox: mpsc::Sender<Message>,
    done: oneshot::Receiver<()>,
    thread: thread::JoinHandle<()>,
}

impl CallPath {
    /// Starts the workers; returns when all of them serve.
    ///
    /// # Errors
    /// A plugin without stream ids, a listener of an unknown protocol or without an address, or a thread that could not be made. Nothing runs then.
    pub fn start(setup: Setup) -> Result<CallHandle, StartError> {
        if let Some(plugin) = setup.protocols.iter().find(|p| p.pooling() == Pooling::PingPong) {
            let protocol = plugin.name();
            return Err(StartError::NoStreamIds { protocol });
        }
        let own_listeners = Arc::new(ArcSwap::from_pointee(Vec::new()));
        let mut doors = Vec::new();
        for egress in setup.egress {
            doors.push(open(
                &setup.protocols,
                Side::Egress,
                &egress.protocol,
                egress.listener,
                None,
            )?);
        }
        own_listeners.store(Arc::new(doors.iter().map(|(door, _)| door.local).collect()));
        let open_doors: Doors = Arc::new(Mutex::new(doors.iter().map(|(door, _)| door.clone()).collect()));
        let begin = CancellationToken::new();
        if !setup.is_held {
            begin.cancel();
        }
        let accepting = setup.drain.child_token();

        let config = Arc::new(setup.config);
        let count = setup.workers.max(1);
        let mut loads: Vec<Arc<AtomicUsize>> = (0..count).map(|_| Arc::default()).collect();
        let (inboxes, mut receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(INBOX)).unzip();
        let guests = Arc::<Guests>::default();
        let half_read = Arc::<Totals>::default();
        let parts = |index: usize| Parts {
            index,
            config: config.clone(),
            routes: setup.routes.clone(),
            metrics: setup.metrics.clone(),
            own_listeners: own_listeners.clone(),
            load: loads[index].clone(),
            guests: guests.clone(),
            half_read: half_read.clone(),
            drain_deadline: setup.drain_deadline,
            protocols: setup.protocols.clone(),
            begin: begin.clone(),
        };
        let mut workers = Vec::new();
        for (index, inbox) in receivers.drain(1..).enumerate() {
            let index = index + 1;
            workers.push(spawn(
                parts(index),
                inboxes[index].clone(),
                inbox,
                setup.drain.clone(),
                |_| {},
            )?);
        }
        let first = parts(0);
        let elsewhere = inboxes.iter().cloned().zip(loads.drain(..)).skip(1).collect();
        let acceptor = Acceptor {
            protocols: setup.protocols.clone(),
            open_doors: open_doors.clone(),
            ingress: setup.ingress,
            doors,
            own_listeners: own_listeners.clone(),
            drain: accepting.clone(),
            elsewhere,
        };
        let inbox = receivers.remove(0);
        workers.insert(
            0,
            spawn(first, inboxes[0].clone(), inbox, setup.drain, |worker| {
                acceptor.start(worker)
            })?,
        );
        Ok(CallHandle {
            workers,
            begin,
            accepting,
            doors: open_doors,
        })
    }
}

impl CallHandle {
    /// Every connection, for `/connections`.
    pub async fn connections(&self) -> Vec<ConnectionView> {
        let mut all = Vec::new();
        for worker in &self.workers {
            let (answer, view) = oneshot::channel();
            if worker.inbox.send(Message::View(answer)).await.is_ok() {
                all.extend(view.await.unwrap_or_default());
            }
        }
        all
    }

    /// Who calls what, for `/topology`; one for each worker.
    pub async fn tallies(&self) -> Vec<TalliesView> {
        let mut all = Vec::new();
        for worker in &self.workers {
            let (answer, view) = oneshot::channel();
            if worker.inbox.send(Message::Tallies(answer)).await.is_ok() {
                all.extend(view.await.ok());
            }
        }
        all
    }

    /// The workers that do not answer within `limit`: they hang, or have ended.
    pub async fn silent(&self, limit: Duration) -> Vec<usize> {
        let mut asked = JoinSet::new();
        for (index, worker) in self.workers.iter().enumerate() {
            let inbox = worker.inbox.clone();
            asked.spawn(async move {
                let (answer, pong) = oneshot::channel();
                let answered = async { inbox.send(Message::Ping(answer)).await.is_ok() && pong.await.is_ok() };
                let is_silent = !timeout(limit, answered).await.unwrap_or(false);
                is_silent.then_some(index)
            });
        }
        let mut silent: Vec<usize> = asked.join_all().await.into_iter().flatten().collect();
        silent.sort_unstable();
        silent
    }

    /// Accepts, reads and writes from now on.
    pub fn begin(&self) {
        self.begin.cancel();
    }

    /// Stops everything between two frames and gives what there is, one for each worker; the workers end. Takes no longer
    /// than a turn of each.
    pub async fn freeze(self) -> Vec<Frozen> {
        // The first worker accepts for the others: after its answer nothing new is on its way to them.
        self.accepting.cancel();
        let mut all = Vec::new();
        for worker in &self.workers {
            let (answer, frozen) = oneshot::channel();
            let is_asked = worker.inbox.send(Message::Freeze(answer)).await.is_ok();
            match frozen.await {
                Ok(frozen) if is_asked => all.push(frozen),
                _ => warn!("a worker of the call path has nothing to hand over, it has ended"),
            }
        }
        self.join().await;
        all
    }

    /// Goes on with what another call path had; gives how many connections that are. For one that is held.
    pub async fn adopt(&self, frozen: Vec<Frozen>) -> usize {
        let doors = self.doors_of(&frozen).await;
        let mut adopted = 0;
        for (frozen, worker) in frozen.into_iter().zip(self.workers.iter().cycle()) {
            let (answer, count) = oneshot::channel();
            let message = Message::Adopt(Box::new(frozen), doors.clone(), answer);
            if worker.inbox.send(message).await.is_ok() {
                adopted += count.await.unwrap_or_default();
            }
        }
        adopted
    }

    /// The open ports, once those of the connections are among them; discovery opens ingress ports on its own time.
    async fn doors_of(&self, frozen: &[Frozen]) -> Vec<Arc<Door>> {
        let wanted: HashSet<SocketAddr> = frozen.iter().flat_map(Frozen::doors).collect();
        let give_up = Instant::now() + DOORS_WAIT;
        loop {
            let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let is_complete = wanted.iter().all(|addr| doors.iter().any(|door| door.local == *addr));
            if is_complete || Instant::now() >= give_up {
                return doors;
            }
            sleep(DOORS_LOOK).await;
        }
    }

    /// Other settings from now on; what is under way goes on with what it began with.
    pub async fn configure(&self, config: Config, drain_deadline: Duration) {
        let config = Arc::new(config);
        for worker in &self.workers {
            // One that has ended needs none.
            let _ = worker
                .inbox
                .send(Message::Configure(Arc::clone(&config), drain_deadline))
                .await;
        }
    }

    /// Waits until every worker has drained and ended; cancel `Setup::drain` to make that happen.
    pub async fn join(self) {
        for worker in self.workers {
            // A worker that panicked has dropped its sender.
            let _ = worker.done.await;
            if worker.thread.join().is_err() {
                warn!("a worker of the call path panicked");
            }
        }
    }
}

/// What the first worker does besides: accept.
struct Acceptor {
    protocols: Vec<Arc<dyn Protocol>>,
    open_doors: Doors,
    ingress: mpsc::Receiver<IngressChange>,
    doors: Vec<(Arc<Door>, TcpListener)>,
    own_listeners: Arc<ArcSwap<Vec<SocketAddr>>>,
    drain: CancellationToken,
    elsewhere: Vec<(mpsc::Sender<Message>, Arc<AtomicUsize>)>,
}

impl Acceptor {
    fn start(mut self, worker: &Rc<Worker>) {
        let hub = Rc::new(Hub {
            here: worker.clone(),
            elsewhere: std::mem::take(&mut self.elsewhere),
            warned: Cell::default(),
        });
        for (door, listener) in std::mem::take(&mut self.doors) {
            self.listen(&hub, door, listener);
        }
        // Ends when discovery drops its end, or with the drain.
        tokio::task::spawn_local(self.follow(hub));
    }

    async fn follow(mut self, hub: Rc<Hub>) {
        let mut ingress: Vec<Arc<Door>> = Vec::new();
        loop {
            let change = tokio::select! {
                // Cancel safe: `recv` loses no message.
                change = self.ingress.recv() => change,
                () = self.drain.cancelled() => return,
            };
            match change {
                None => return,
                Some(IngressChange::Open(IngressListener {
                    protocol,
                    listener,
                    app,
                })) => match open(&self.protocols, Side::Ingress, &protocol, listener, app) {
                    Ok((door, listener)) => {
                        let mut own = Vec::clone(&self.own_listeners.load());
                        own.push(door.local);
                        self.own_listeners.store(Arc::new(own));
                        ingress.push(door.clone());
                        let mut open_doors = self.open_doors.lock().unwrap_or_else(PoisonError::into_inner);
                        open_doors.push(door.clone());
                        drop(open_doors);
                        self.listen(&hub, door, listener);
                    }
                    Err(error) => warn!(side = "ingress", %error, "could not open an ingress port"),
                },
                Some(IngressChange::Assign { ingress: local, app }) => match door(&ingress, local) {
                    Some(door) => {
                        door.app.store(Some(Arc::new(app)));
                        door.is_leaving.store(false, Ordering::Relaxed);
                    }
                    None => warn!(side = "ingress", peer = %local, "no such ingress port"),
                },
                Some(IngressChange::Leaving {
                    ingress: local,
                    is_leaving,
                }) => {
                    if let Some(door) = door(&ingress, local) {
                        door.is_leaving.store(is_leaving, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    fn listen(&self, hub: &Rc<Hub>, door: Arc<Door>, listener: TcpListener) {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                let (side, protocol) = (door.side.label(), door.protocol.name());
                match door.side {
                    // The banner names the egress; its aliases are many.
                    Side::Egress => debug!(side, protocol, peer = %door.local, "listening"),
                    Side::Ingress => info!(side, protocol, peer = %door.local, "listening"),
                }
                // Ends with the drain.
                tokio::task::spawn_local(hub.clone().listen(door, listener, self.drain.clone()));
            }
            Err(error) => warn!(side = door.side.label(), peer = %door.local, %error, "could not listen"),
        }
    }
}

fn door(doors: &[Arc<Door>], local: SocketAddr) -> Option<&Arc<Door>> {
    doors.iter().find(|door| door.local == local)
}

fn open(
    protocols: &[Arc<dyn Protocol>],
    side: Side,
    protocol: &str,
    listener: TcpListener,
    app: Option<SocketAddr>,
) -> Result<(Arc<Door>, TcpListener), StartError> {
    let plugin = protocols.iter().find(|p| p.name() == protocol);
    let plugin = plugin.ok_or_else(|| StartError::UnknownProtocol {
        protocol: protocol.to_owned(),
    })?;
    let none = SocketAddr::from(([0, 0, 0, 0], 0));
    let local = listener
        .local_addr()
        .map_err(|error| StartError::Listener { addr: none, error })?;
    listener
        .set_nonblocking(true)
        .map_err(|error| StartError::Listener { addr: local, error })?;
    let door = Door {
        side,
        protocol: plugin.clone(),
        local,
        app: ArcSwapOption::new(app.map(Arc::new)),
        is_leaving: AtomicBool::new(false),
    };
    Ok((Arc::new(door), listener))
}

fn spawn(
    parts: Parts,
    inbox: mpsc::Sender<Message>,
    receiver: mpsc::Receiver<Message>,
    drain: CancellationToken,
    first: impl FnOnce(&Rc<Worker>) + Send + 'static,
) -> Result<Running, StartError> {
    let index = parts.index;
    let failed = |error| StartError::Worker { worker: index, error };
    let (ended, done) = oneshot::channel();
    let (started, is_started) = std::sync::mpsc::channel();
    let body = move || {
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        runtime.block_on(async move {
            let worker = Worker::new(parts);
            first(&worker);
            // The starter waits for this; it cannot be gone.
            let _ = started.send(Ok(()));
            worker.run(receiver, drain).await;
        });
        drop(runtime);
        drop(ended);
    };
    let thread = thread::Builder::new()
        .name(format!("call-{index}"))
        .spawn(body)
        .map_err(failed)?;
    match is_started.recv() {
        Ok(Ok(())) => Ok(Running { inbox, done, thread }),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(failed(io::Error::other("its thread ended at once"))),
    }
}

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build_local(LocalOptions::default())
}

/// Messages waiting for one worker: connections handed over and questions of the admin. When full, further connections are
/// refused.
const INBOX: usize = 1024;
/// Discovery opens ports in milliseconds.
const DOORS_WAIT: Duration = Duration::from_secs(1);
const DOORS_LOOK: Duration = Duration::from_millis(2);
