// SPDX-License-Identifier: Apache-2.0
//! The front door: a ZooKeeper for applications that relays to the real one and owns discovery's paths.
//!
//! ```text
//! application --TCP--> connection.rs --frames--> door.rs -+- requests.rs  relayed, rewritten or answered
//!                                                         +- publish.rs kept.rs  what it publishes, outward
//!                                                         +- dirs.rs list.rs  lists that it is shown, inward
//!                                                         +- rewatch.rs multi.rs heir.rs rules.rs frozen.rs farewell.rs steps.rs overlap.rs papers.rs
//!                                                         `- line.rs      replies in the order of the requests
//! ```
//! One upstream session per application session, id and password untouched: its ephemerals are its own, and live through
//! a restart of Remora that is shorter than the session timeout. Sessions opened while the registry is away are the
//! stand-in's (`stand_in.rs`). A door whose registry speaks another protocol has the
//! embedded one behind it for sessions and all other nodes; lists come from the registry, publications go there.

mod bridge;
mod config;
mod connection;
mod copies;
mod dirs;
mod door;
mod farewell;
mod frozen;
mod greeting;
mod guard;
mod heir;
mod hold;
mod kept;
mod learn;
mod line;
mod list;
mod multi;
mod names;
mod overlap;
mod owed;
mod papers;
mod paths;
mod publish;
mod replies;
mod requests;
mod rewatch;
mod rules;
mod sent;
mod session;
mod stand_in;
mod stats;
mod steps;
mod watches;
mod words;

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use remora_registry::peers::{Gate, PROC_NET, Users};
use remora_registry::places::{Place, Places};
use remora_registry::{BoxFuture, Discovery, Facade, FacadeError, Ports, UnappliedRule};
use tokio::task::{JoinSet, yield_now};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::bridge::Bridge;
pub use self::config::Config;
use self::connection::Keys;
use self::copies::Copies;
use self::farewell::Withdrawn;
pub(crate) use self::paths::{Roots, Shape};
use self::session::Sessions;
use self::stand_in::{Absence, Reach, StandIn};
pub use self::stats::Stats;
use crate::backend::Backend;
use crate::chroot::Chroot;

/// The door, bound to its port.
pub struct ZookeeperFacade {
    listener: TcpListener,
    raw: Option<TcpListener>,
    shared: Arc<Shared>,
}

/// What the connections of one door share.
pub(crate) struct Shared {
    config: Config,
    roots: Roots,
    chroot: Chroot,
    stats: Arc<Stats>,
    backend: Arc<dyn Backend>,
    /// Which configured registry this is.
    registry: Arc<str>,
    sessions: Sessions,
    /// Those whose entries were withdrawn when Remora left.
    withdrawn: Withdrawn,
    stand_in: StandIn,
    /// Last known copies of what is not discovery's.
    copies: Copies,
    bridge: Bridge,
    /// What was reported of each place, to report changes only.
    reported_rules: Mutex<HashMap<String, Vec<UnappliedRule>>>,
    /// Roots below which services were seen; who lists one is an operator's tool.
    namespaces: Mutex<HashSet<String>>,
    /// Services of which was said that the registry behind cannot hold them.
    not_shared: Mutex<HashSet<String>>,
}

// As many roots as one shop can have; paths are the application's words.
const MAX_NAMESPACES: usize = 1_000;

impl ZookeeperFacade {
    /// Binds the door's ports.
    ///
    /// # Errors
    /// `Bind` with the key that changes the port.
    pub fn bind(config: Config, backend: Arc<dyn Backend>, registry: &str) -> Result<Self, FacadeError> {
        Self::bind_from(&Ports::default(), config, backend, registry)
    }

    /// As [`bind`](Self::bind), with the sockets of `ports`.
    ///
    /// # Errors
    /// `Bind` with the key that changes the port.
    pub fn bind_from(
        ports: &Ports,
        config: Config,
        backend: Arc<dyn Backend>,
        registry: &str,
    ) -> Result<Self, FacadeError> {
        let listener = listen(ports, config.listen, "facades.zookeeper.listen")?;
        let raw = match config.raw {
            Some(addr) => Some(listen(ports, addr, "facades.zookeeper.raw")?),
            None => None,
        };
        let stats = Arc::<Stats>::default();
        let shared = Shared {
            copies: Copies::new(&backend.describe(), &stats),
            roots: Roots::new(config.service_roots.clone(), config.application_roots.clone()),
            chroot: Chroot::new(backend.chroot()),
            stats,
            backend,
            registry: registry.into(),
            sessions: Sessions::default(),
            withdrawn: Withdrawn::default(),
            stand_in: StandIn::default(),
            bridge: Bridge::default(),
            reported_rules: Mutex::default(),
            namespaces: Mutex::new(HashSet::from(["/dubbo".to_owned(), "/sofa-rpc".to_owned()])),
            not_shared: Mutex::default(),
            config,
        };
        Ok(Self {
            listener,
            raw,
            shared: Arc::new(shared),
        })
    }

    /// Keeps in `dir` what a later run has to know of this one's end. To be called before it is served.
    pub fn remember_in(mut self, dir: &Path) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.withdrawn = Withdrawn::read(dir);
            if shared.keeps_copies() {
                let registry = Arc::clone(&shared.registry);
                shared.copies.remember_in(dir, &registry);
            }
        }
        self
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.shared.config.listen)
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.shared.stats)
    }
}

impl Facade for ZookeeperFacade {
    fn name(&self) -> &'static str {
        "zookeeper"
    }

    fn banner(&self) -> String {
        let addr = self.local_addr();
        format!(
            "zookeeper {addr} -> {}; set the registry address zookeeper://{addr} in the application",
            self.shared.backend.describe()
        )
    }

    fn serve(
        self: Box<Self>,
        discovery: Arc<dyn Discovery>,
        drain: CancellationToken,
    ) -> BoxFuture<'static, Result<(), FacadeError>> {
        Box::pin(self.run(discovery, drain))
    }
}

impl ZookeeperFacade {
    async fn run(self: Box<Self>, discovery: Arc<dyn Discovery>, drain: CancellationToken) -> Result<(), FacadeError> {
        let listener = tokio_listener(self.listener)?;
        let raw = self.raw.map(tokio_listener).transpose()?;
        let shared = self.shared;
        let mut connections = JoinSet::new();
        let places = Places::new(shared.config.max_connections);
        let ports = HashSet::from([listener.local_addr().map_or(0, |addr| addr.port())]);
        let (users, reader) = Users::new(
            "zookeeper",
            PROC_NET.into(),
            ports,
            NO_EGRESS,
            shared.config.max_connections,
        );
        let gate = Arc::new(Gate::new("zookeeper", shared.config.access.clone(), users));
        // Ends with the last that may ask it.
        let reading = tokio::spawn(reader.run());
        let reach = Reach::of(&shared, &*discovery);
        let mut absence = Absence::default();
        let mut keeping = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                () = drain.cancelled() => break,
                _ = sweep.tick() => {
                    let is_up = reach.is_up();
                    shared.sessions.sweep(is_up);
                    if is_up {
                        shared.stand_in.clear();
                    }
                    if keeping.is_empty() {
                        keeping.spawn(keep_copies(Arc::clone(&shared), is_up, drain.clone()));
                    }
                    if let Some(back) = absence.is_over(&reach, &shared.stand_in) {
                        for estate in shared.sessions.given_up(back) {
                            bridge::carry_living(&shared, estate, &drain);
                        }
                    }
                }
                Some(_) = connections.join_next() => {}
                Some(_) = keeping.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if places.is_full() {
                            // Those accepted before may have said something by now.
                            yield_now().await;
                        }
                        match places.enter() {
                            Some(place) => {
                                let keys = Keys { gate: Arc::clone(&gate), place };
                                connections.spawn(connection::serve(
                                    Arc::clone(&shared), Arc::clone(&discovery), stream, peer, keys, drain.clone(),
                                ));
                            }
                            None => {
                                Stats::count(&shared.stats.refused);
                                warn!(registry = "zookeeper", %peer, "connection refused, there are as many as allowed");
                            }
                        }
                    }
                    Err(e) => accept_failed(&e).await,
                },
                accepted = accept_raw(raw.as_ref()) => match accepted {
                    Ok(stream) => match places.enter() {
                        Some(place) => drop(connections.spawn(relay_raw(Arc::clone(&shared), stream, place, drain.clone()))),
                        None => Stats::count(&shared.stats.refused),
                    },
                    Err(e) => accept_failed(&e).await,
                },
            }
        }
        while connections.join_next().await.is_some() {}
        while keeping.join_next().await.is_some() {}
        write_copies(&shared).await;
        drop(gate);
        // A panic in there was logged by the panic hook.
        let _ = reading.await;
        Ok(())
    }
}

/// Writes down what is known, and tells the registry what is owed to it.
async fn keep_copies(shared: Arc<Shared>, is_up: bool, drain: CancellationToken) {
    write_copies(&shared).await;
    if is_up {
        owed::pay(shared, drain.clone()).await;
    }
    tokio::select! {
        () = drain.cancelled() => {}
        () = tokio::time::sleep(KEEP_EVERY) => {}
    }
}

async fn write_copies(shared: &Shared) {
    let Some(draft) = shared.copies.draft() else { return };
    // A panic in there was logged by the panic hook.
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || draft.write()).await {
        shared.copies.not_written(&error);
    }
}

async fn accept_raw(listener: Option<&tokio::net::TcpListener>) -> std::io::Result<tokio::net::TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// The raw door: bytes to the registry and back.
async fn relay_raw(shared: Arc<Shared>, mut stream: tokio::net::TcpStream, place: Place, drain: CancellationToken) {
    // What it says is not looked at, so it makes way for nobody.
    place.is_at_work();
    let mut upstream = match shared.backend.connect().await {
        Ok(upstream) => upstream,
        Err(e) => {
            Stats::count(&shared.stats.upstream_failures);
            debug!(registry = "zookeeper", reason = e.reason(), %e, "raw connection closed");
            return;
        }
    };
    tokio::select! {
        () = drain.cancelled() => {}
        ended = tokio::io::copy_bidirectional(&mut stream, &mut upstream) => {
            if let Err(e) = ended {
                debug!(registry = "zookeeper", cause = %e, "raw connection closed");
            }
        }
    }
}

// Out of file descriptors, mostly: others close theirs meanwhile.
async fn accept_failed(e: &std::io::Error) {
    warn!(registry = "zookeeper", cause = %e, "cannot accept, trying again");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

impl Shared {
    /// Told that services stand below `namespace`.
    fn saw_namespace(&self, namespace: &str) {
        let mut known = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        // Dubbo 3 lists the root of applications to see whether the registry is there.
        let is_root_of_applications = self.application_root().as_ref() == namespace;
        if known.len() < MAX_NAMESPACES && !is_root_of_applications && !known.contains(namespace) {
            known.insert(namespace.to_owned());
        }
    }

    /// Whether last known copies are kept of what applications read: a registry inside this process is never away.
    fn keeps_copies(&self) -> bool {
        self.config.stand_in && self.backend.can_be_away()
    }

    /// Whether services stand below `path`.
    fn is_namespace(&self, path: &str) -> bool {
        let known = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(path)
    }

    /// The root that application-level lists are kept below.
    fn application_root(&self) -> Arc<str> {
        let first = self.config.application_roots.first();
        first.map_or("/services", |root| root.trim_end_matches('/')).into()
    }
}

fn listen(ports: &Ports, addr: SocketAddr, key: &'static str) -> Result<TcpListener, FacadeError> {
    let bind = || {
        let listener = ports.listen(key, addr, TcpListener::bind)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|cause| FacadeError::Bind { addr, key, cause })
}

fn tokio_listener(listener: TcpListener) -> Result<tokio::net::TcpListener, FacadeError> {
    tokio::net::TcpListener::from_std(listener).map_err(|e| FacadeError::Stopped {
        facade: "zookeeper",
        cause: e.to_string(),
    })
}

/// Nobody is looked for at an egress here.
const NO_EGRESS: u16 = 0;
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Copies are written at most so often.
const KEEP_EVERY: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
