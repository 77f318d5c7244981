// SPDX-License-Identifier: Apache-2.0
//! The SOFARPC mesh API: what SOFARPC's `mesh` registry calls.
//!
//! POST `/configs/application`, `/services/{publish,unpublish,subscribe,unsubscribe}` with JSON as `text/plain`; GET
//! `/heartbeat` is ours. Source: `MeshRegistry`, `MeshApiClient` of sofa-rpc 5.6 to 5.14, and captures in
//! `testbed/golden/mesh/`. The client reads a body only at status 200, and never asks twice: what cannot be accepted for
//! good is answered with 200 and `success: false`, everything else is accepted.

mod api;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use remora_registry::{BoxFuture, Discovery, Facade, FacadeError, Ports};
use tokio_util::sync::CancellationToken;

use self::api::MeshApi;
use crate::config::Settings;
use crate::door::{Door, Traits};
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
    door: Door,
    first_list_wait: Duration,
}

impl MeshFacade {
    /// Binds the door's ports. What applications registered is kept as `mesh.json` in `state_dir`.
    ///
    /// # Errors
    /// `Bind` with the key that changes the address.
    pub fn bind(config: Config, state_dir: &Path, registry_name: &str) -> Result<Self, FacadeError> {
        Self::bind_from(&Ports::default(), config, state_dir, registry_name)
    }

    /// As [`bind`](Self::bind), with the sockets of `ports`.
    ///
    /// # Errors
    /// `Bind` with the key that changes the address.
    pub fn bind_from(
        ports: &Ports,
        config: Config,
        state_dir: &Path,
        registry_name: &str,
    ) -> Result<Self, FacadeError> {
        Ok(Self {
            door: Door::bind(TRAITS, ports, config.door, state_dir, registry_name)?,
            first_list_wait: config.first_list_wait,
        })
    }

    /// Reads the system's tables of sockets elsewhere.
    #[cfg(test)]
    pub(crate) fn reads_sockets_from(&mut self, dir: std::path::PathBuf) {
        self.door.proc_net = dir;
    }

    /// Where it listens: `listen` first, then one address for each further application.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.door.local_addrs()
    }

    /// Addresses where the bolt egress must answer: SOFARPC calls port 12220 of the host that its registry address names.
    pub fn egress_hosts(&self) -> Vec<IpAddr> {
        let settings = self.door.settings();
        let applications = settings.applications.iter().map(|a| a.address);
        std::iter::once(settings.listen.ip()).chain(applications).collect()
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<Stats> {
        self.door.stats()
    }
}

impl Facade for MeshFacade {
    fn name(&self) -> &'static str {
        TRAITS.name
    }

    fn banner(&self) -> String {
        let addr = self
            .local_addrs()
            .first()
            .copied()
            .unwrap_or(self.door.settings().listen);
        format!("mesh {addr}; set the registry protocol mesh and its address http://{addr} in the application")
    }

    fn serve(
        self: Box<Self>,
        discovery: Arc<dyn Discovery>,
        drain: CancellationToken,
    ) -> BoxFuture<'static, Result<(), FacadeError>> {
        let first_list_wait = self.first_list_wait;
        let api = move |desk| Arc::new(MeshApi::new(desk, first_list_wait)) as Arc<dyn crate::server::Api>;
        Box::pin(self.door.serve(discovery, drain, api))
    }
}

const TRAITS: Traits = Traits {
    name: "mesh",
    listen_setting: "facades.mesh.listen",
    applications_setting: "facades.mesh.applications",
    names_setting: "facades.mesh.host_names",
    stamp: api::STAMP,
    is_egress_shared: false,
};
