// SPDX-License-Identifier: Apache-2.0
//! The front door: a SOFARegistry session server for unmodified clients (registry-client, SOFARPC's `sofa` registry).
//!
//! ```text
//! client --HTTP--> http.rs: "the session server is here"
//!        --bolt--> connection.rs --> session.rs -+- publish.rs  --> discovery, or the SOFARegistry behind as it is
//!                                                +- follow.rs   <-- lists, shown inward
//!                                                `- push.rs     what is pushed when
//!                  applications.rs: what they publish, kept for a grace when a connection is lost
//!                  memory.rs: and over a restart of Remora, until their clients are back
//! ```
//! Whatever happens, a client sends all its registrations again on each new connection.
//! Not here: protobuf (codec 11), compression and pushes of several data centres at once, which Java clients do not ask
//! for; checking of signatures, which the open-source client does not make.

mod applications;
mod clock;
mod config;
mod connection;
mod follow;
mod http;
mod memory;
mod publish;
mod push;
mod rules;
mod session;
mod stats;
mod subject;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use remora_registry::peers::{Gate, PROC_NET, Reader, Users};
use remora_registry::places::Places;
use remora_registry::{BoxFuture, Discovery, Facade, FacadeError, Ports, UnappliedRule};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::applications::Applications;
use self::clock::Clock;
pub use self::config::Config;
use self::connection::Keys;
use self::memory::Memory;
pub(crate) use self::rules::split as split_overrides;
pub use self::stats::Stats;
pub(crate) use self::subject::{CONFIG_GROUP, service as service_of};
use crate::adapter::SofaRegistry;

pub(crate) const NAME: &str = "sofaregistry";

/// The door, bound to its ports.
pub struct SofaRegistryFacade {
    http: TcpListener,
    session: TcpListener,
    memory: Option<Memory>,
    /// Where the system tells about sockets.
    proc_net: PathBuf,
    config: Config,
    relay: Option<Arc<SofaRegistry>>,
    registry: Arc<str>,
    stats: Arc<Stats>,
}

/// What the connections of one door share.
pub(crate) struct Shared {
    config: Config,
    /// Where sessions are served, with the port that the system chose for 0.
    session: SocketAddr,
    stats: Arc<Stats>,
    gate: Gate,
    /// Which configured registry this is.
    registry: Arc<str>,
    /// The SOFARegistry behind, if it is one: it gets what is not SOFARPC's.
    relay: Option<Arc<SofaRegistry>>,
    applications: Applications,
    clock: Clock,
    /// What was reported of each place, to report changes only.
    reported_rules: Mutex<HashMap<String, Vec<UnappliedRule>>>,
}

impl SofaRegistryFacade {
    /// Binds the door's ports. `relay` is the registry behind if it is a SOFARegistry.
    ///
    /// # Errors
    /// `Bind` with the key that changes the port.
    pub fn bind(config: Config, relay: Option<Arc<SofaRegistry>>, registry: &str) -> Result<Self, FacadeError> {
        Self::bind_from(&Ports::default(), config, relay, registry)
    }

    /// As [`bind`](Self::bind), with the sockets of `ports`.
    ///
    /// # Errors
    /// `Bind` with the key that changes the port.
    pub fn bind_from(
        ports: &Ports,
        config: Config,
        relay: Option<Arc<SofaRegistry>>,
        registry: &str,
    ) -> Result<Self, FacadeError> {
        let http = listen(ports, config.listen, "facades.sofaregistry.listen")?;
        let session = listen(ports, config.session, "facades.sofaregistry.session")?;
        Ok(Self {
            http,
            session,
            memory: None,
            proc_net: PROC_NET.into(),
            config,
            relay,
            registry: registry.into(),
            stats: Arc::default(),
        })
    }

    /// Remembers in a file of `dir` what applications publish. Clients need 5 to 10 s to come back when this process was
    /// away; what they publish is there again at once if their ports are.
    #[must_use]
    pub fn remember_in(mut self, dir: &Path) -> Self {
        self.memory = Some(Memory::new(dir));
        self
    }

    /// Reads elsewhere what the system tells about sockets.
    #[must_use]
    pub fn reads_sockets_from(mut self, dir: &Path) -> Self {
        self.proc_net = dir.to_owned();
        self
    }

    /// Where clients ask for the session server: their registry address.
    pub fn local_addr(&self) -> SocketAddr {
        self.http.local_addr().unwrap_or(self.config.listen)
    }

    /// Where sessions are served.
    pub fn session_addr(&self) -> SocketAddr {
        self.session.local_addr().unwrap_or(self.config.session)
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }
}

impl Facade for SofaRegistryFacade {
    fn name(&self) -> &'static str {
        NAME
    }

    fn banner(&self) -> String {
        let (http, session) = (self.local_addr(), self.session_addr());
        format!("sofaregistry {http}, sessions {session}; set the registry address sofa://{http} in the application")
    }

    fn serve(
        self: Box<Self>,
        discovery: Arc<dyn Discovery>,
        drain: CancellationToken,
    ) -> BoxFuture<'static, Result<(), FacadeError>> {
        Box::pin(self.run(discovery, drain))
    }
}

impl SofaRegistryFacade {
    async fn run(self: Box<Self>, discovery: Arc<dyn Discovery>, drain: CancellationToken) -> Result<(), FacadeError> {
        let (users, reader) = self.users();
        let shared = self.shared(&users);
        let http = tokio_listener(self.http)?;
        let session = tokio_listener(self.session)?;
        let max = shared.config.max_connections;
        let (http_places, places) = (Places::new(max), Places::new(max));
        // Ends with the last that may ask it.
        let reading = tokio::spawn(reader.run());
        let (mut asking, mut sessions) = (JoinSet::new(), JoinSet::new());
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut memory = self.memory;
        if let Some(memory) = &memory {
            let remembered = memory.read();
            asking.spawn(memory::bring_back(
                remembered,
                Arc::clone(&shared),
                Arc::clone(&discovery),
                drain.clone(),
            ));
        }
        loop {
            // Nothing to look after, and nobody who could bring something.
            let is_unused = sessions.is_empty() && asking.is_empty() && shared.applications.is_unused();
            // Each arm is cancel safe.
            tokio::select! {
                () = drain.cancelled() => break,
                _ = sweep.tick(), if !is_unused => {
                    shared.applications.sweep(Instant::now(), &shared.stats);
                    if let Some(memory) = &mut memory {
                        memory.keep(&shared.applications);
                    }
                }
                Some(_) = asking.join_next() => {}
                Some(_) = sessions.join_next() => {}
                accepted = http.accept() => match accepted {
                    Ok((stream, peer)) => {
                        hear_the_others(&http_places).await;
                        match http_places.enter() {
                            Some(place) => {
                                asking.spawn(http::serve(Arc::clone(&shared), stream, peer, place, drain.clone()));
                            }
                            None => shared.refused(peer),
                        }
                    }
                    Err(e) => accept_failed(&e).await,
                },
                accepted = session.accept() => match accepted {
                    Ok((stream, peer)) => {
                        hear_the_others(&places).await;
                        // Publishers of lost connections count too, for their grace.
                        let has_room = shared.applications.len() < 2 * max;
                        match has_room.then(|| places.enter()).flatten() {
                            Some(place) => {
                                let keys = Keys { users: users.clone(), place };
                                let discovery = Arc::clone(&discovery);
                                sessions.spawn(connection::serve(
                                    Arc::clone(&shared), discovery, stream, peer, keys, drain.clone(),
                                ));
                            }
                            None => shared.refused(peer),
                        }
                    }
                    Err(e) => accept_failed(&e).await,
                },
            }
        }
        while asking.join_next().await.is_some() {}
        while sessions.join_next().await.is_some() {}
        if let Some(mut memory) = memory {
            memory.keep_last(&shared.applications).await;
        }
        drop((users, shared));
        // A panic in there was logged by the panic hook.
        let _ = reading.await;
        Ok(())
    }

    fn users(&self) -> (Users, Reader) {
        let ports = HashSet::from([self.local_addr().port(), self.session_addr().port()]);
        Users::new(
            NAME,
            self.proc_net.clone(),
            ports,
            NO_EGRESS,
            2 * self.config.max_connections,
        )
    }

    fn shared(&self, users: &Users) -> Arc<Shared> {
        Arc::new(Shared {
            session: self.session_addr(),
            stats: Arc::clone(&self.stats),
            gate: Gate::new(NAME, self.config.access.clone(), users.clone()),
            registry: Arc::clone(&self.registry),
            relay: self.relay.clone(),
            applications: Applications::default(),
            clock: Clock::default(),
            reported_rules: Mutex::default(),
            config: self.config.clone(),
        })
    }
}

impl Shared {
    fn refused(&self, peer: SocketAddr) {
        Stats::count(&self.stats.refused);
        warn!(registry = "sofaregistry", %peer, "connection refused, there are as many as allowed");
    }

    /// The session server's address for a client that reached us at `came_to`: an application with a loopback address of
    /// its own stays there.
    fn session_for(&self, came_to: IpAddr) -> SocketAddr {
        let ip = match self.session.ip() {
            ip if !ip.is_unspecified() => ip,
            _ => came_to,
        };
        // Clients cut at the first colon.
        let ip = match ip {
            IpAddr::V6(v6) if v6.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.session.port())
    }

    /// Tells discovery what was kept at a place, if it was not told the same before.
    fn report(&self, discovery: &Arc<dyn Discovery>, place: &str, rules: Vec<UnappliedRule>) {
        let mut reported = self.reported_rules.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = match reported.get(place) {
            Some(before) => *before != rules,
            None => !rules.is_empty(),
        };
        if !is_news {
            return;
        }
        match rules.is_empty() {
            true => reported.remove(place),
            false => reported.insert(place.to_owned(), rules.clone()),
        };
        drop(reported);
        discovery.rules_not_applied(place, rules);
    }
}

// Of connections that were accepted a moment ago, those that have said something must not make way.
async fn hear_the_others(places: &Places) {
    if places.is_full() {
        yield_now().await;
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
        facade: NAME,
        cause: e.to_string(),
    })
}

// Out of file descriptors, mostly: others close theirs meanwhile.
async fn accept_failed(e: &std::io::Error) {
    warn!(registry = "sofaregistry", cause = %e, "cannot accept, trying again");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Nobody is looked for at an egress here.
const NO_EGRESS: u16 = 0;
const SWEEP_EVERY: Duration = Duration::from_millis(250);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
