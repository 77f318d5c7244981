// SPDX-License-Identifier: Apache-2.0
//! What both doors are made of: ports, book, file, and the tasks that serve them.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use remora_registry::peers::{Gate, PROC_NET, Users};
use remora_registry::{Discovery, FacadeError, Ports};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::book::Book;
use crate::config::Settings;
use crate::error::Refused;
use crate::heartbeat;
use crate::listen;
use crate::server::{Api, Call, Server};
use crate::stats::Stats;
use crate::store::Store;
use crate::watch::Watch;

/// What one door has of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traits {
    pub(crate) name: &'static str,
    /// Keys of the configuration.
    pub(crate) listen_setting: &'static str,
    pub(crate) applications_setting: &'static str,
    pub(crate) names_setting: &'static str,
    /// Parameter that says when an application began to offer something.
    pub(crate) stamp: &'static str,
    /// Whether applications of every address call the egress at the same one.
    pub(crate) is_egress_shared: bool,
}

/// A door, bound to its ports.
pub(crate) struct Door {
    traits: Traits,
    listeners: Vec<TcpListener>,
    settings: Settings,
    registry: String,
    store: Store,
    stats: Arc<Stats>,
    /// Where the system tells about sockets.
    pub(crate) proc_net: PathBuf,
}

/// What the requests of a door work with.
pub(crate) struct Desk {
    pub(crate) book: Book,
    store: Store,
}

impl Door {
    /// Binds the ports.
    ///
    /// # Errors
    /// `Bind` with the key that changes the address.
    pub(crate) fn bind(
        traits: Traits,
        ports: &Ports,
        settings: Settings,
        state_dir: &Path,
        registry: &str,
    ) -> Result<Self, FacadeError> {
        let listeners = listen::bind(ports, &settings, traits.listen_setting, traits.applications_setting)?;
        if !settings.listen.ip().is_loopback() {
            warn!(
                registry = traits.name,
                listen = %settings.listen,
                "this door has no passwords: whoever reaches its address can publish and withdraw"
            );
        }
        let stats = Arc::<Stats>::default();
        Ok(Self {
            traits,
            listeners,
            settings,
            registry: registry.to_owned(),
            store: Store::new(state_dir, traits.name, Arc::clone(&stats)),
            stats,
            proc_net: PROC_NET.into(),
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.traits.name
    }

    pub(crate) fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|l| l.local_addr().ok()).collect()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Serves until `drain`. What was registered stays on disk for the next start.
    pub(crate) async fn serve(
        self,
        discovery: Arc<dyn Discovery>,
        drain: CancellationToken,
        api: impl FnOnce(Arc<Desk>) -> Arc<dyn Api>,
    ) -> Result<(), FacadeError> {
        let Traits { name, stamp, .. } = self.traits;
        let ports: HashSet<u16> = self.local_addrs().iter().map(SocketAddr::port).collect();
        let (users, reader) = Users::new(
            name,
            self.proc_net.clone(),
            ports,
            self.settings.egress_port,
            self.settings.max_connections,
        );
        let kept = self.store.read();
        let book = Book::open(
            name,
            self.settings.clone(),
            &self.registry,
            discovery,
            Arc::clone(&self.stats),
            &kept,
        );
        let desk = Arc::new(Desk {
            book,
            store: self.store,
        });
        let server = Server {
            door: name,
            gate: Gate::new(name, self.settings.access.clone(), users.clone()),
            settings: self.settings,
            names_setting: self.traits.names_setting,
            api: api(Arc::clone(&desk)),
            users,
            stats: self.stats,
        };
        let watch = Watch {
            proc_net: self.proc_net,
            is_egress_shared: self.traits.is_egress_shared,
            stamp,
        };
        let over = CancellationToken::new();
        let serving = async {
            let served = server.run(self.listeners, drain).await;
            over.cancel();
            served
        };
        let content = || desk.book.content();
        let keeping = desk.store.run(desk.book.changes(), content, over.clone());
        let (served, ..) = tokio::join!(serving, watch.run(&desk.book, over.clone()), keeping, reader.run());
        served
    }
}

impl Desk {
    /// Returns once a change is on disk.
    pub(crate) async fn kept(&self, generation: u64) {
        self.store.kept(generation).await;
    }

    /// Answers `/heartbeat`.
    pub(crate) async fn heartbeat(&self, call: &Call) -> Result<Value, Refused> {
        let ttl = heartbeat::ttl(&call.query)?;
        let (known, generation) = self.book.heartbeat(&call.caller, ttl)?;
        self.kept(generation).await;
        Ok(known)
    }
}
