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

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use remora_registry::{BoxFuture, Discovery, Facade, FacadeError, UnappliedRule};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::applications::Applications;
use self::clock::Clock;
pub use self::config::Config;
use self::memory::Memory;
pub use self::stats::Stats;
use crate::adapter::SofaRegistry;

pub(crate) const NAME: &str = "sofaregistry";

/// The door, bound to its ports.
pub struct SofaRegistryFacade {
    http: TcpListener,
    session: TcpListener,
    memory: Option<Memory>,
    shared: Arc<Shared>,
}

/// What the connections of one door share.
pub(crate) struct Shared {
    config: Config,
    /// Where sessions are served, with the port that the system chose for 0.
    session: SocketAddr,
    stats: Arc<Stats>,
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
        let http = listen(config.listen, "facades.sofaregistry.listen")?;
        let session = listen(config.session, "facades.sofaregistry.session")?;
        let shared = Shared {
            session: session.local_addr().unwrap_or(config.session),
            stats: Arc::default(),
            registry: registry.into(),
            relay,
            applications: Applications::default(),
            clock: Clock::default(),
            reported_rules: Mutex::default(),
            config,
        };
        Ok(Self {
            http,
            session,
            memory: None,
            shared: Arc::new(shared),
        })
    }

    /// Remembers in a file of `dir` what applications publish. Clients need 5 to 10 s to come back when this process was
    /// away; what they publish is there again at once if their ports are.
    #[must_use]
    pub fn remember_in(mut self, dir: &Path) -> Self {
        self.memory = Some(Memory::new(dir));
        self
    }

    /// Where clients ask for the session server: their registry address.
    pub fn local_addr(&self) -> SocketAddr {
        self.http.local_addr().unwrap_or(self.shared.config.listen)
    }

    /// Where sessions are served.
    pub fn session_addr(&self) -> SocketAddr {
        self.shared.session
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.shared.stats)
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
        let http = tokio_listener(self.http)?;
        let session = tokio_listener(self.session)?;
        let shared = self.shared;
        let max = shared.config.max_connections;
        let (mut asking, mut sessions) = (JoinSet::new(), JoinSet::new());
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
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
            // Each arm is cancel safe.
            tokio::select! {
                () = drain.cancelled() => break,
                _ = sweep.tick() => {
                    shared.applications.sweep(Instant::now(), &shared.stats);
                    if let Some(memory) = &mut memory {
                        memory.keep(&shared.applications);
                    }
                }
                Some(_) = asking.join_next() => {}
                Some(_) = sessions.join_next() => {}
                accepted = http.accept() => match accepted {
                    Ok((stream, peer)) if asking.len() < max => {
                        asking.spawn(http::serve(Arc::clone(&shared), stream, peer, drain.clone()));
                    }
                    Ok((_, peer)) => shared.refused(peer),
                    Err(e) => accept_failed(&e).await,
                },
                accepted = session.accept() => match accepted {
                    // Publishers of lost connections count too, for their grace.
                    Ok((stream, peer)) if sessions.len() < max && shared.applications.len() < 2 * max => {
                        let discovery = Arc::clone(&discovery);
                        sessions.spawn(connection::serve(Arc::clone(&shared), discovery, stream, peer, drain.clone()));
                    }
                    Ok((_, peer)) => shared.refused(peer),
                    Err(e) => accept_failed(&e).await,
                },
            }
        }
        while asking.join_next().await.is_some() {}
        while sessions.join_next().await.is_some() {}
        if let Some(mut memory) = memory {
            memory.keep_last(&shared.applications).await;
        }
        Ok(())
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

fn listen(addr: SocketAddr, key: &'static str) -> Result<TcpListener, FacadeError> {
    let bind = || {
        let listener = TcpListener::bind(addr)?;
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

const SWEEP_EVERY: Duration = Duration::from_millis(250);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
