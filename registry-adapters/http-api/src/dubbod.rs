// SPDX-License-Identifier: Apache-2.0
//! MOSN's dubbod API, for Dubbo applications with an SDK of MOSN, and the variant of it with a heartbeat.
//!
//! POST `/pub /unpub /sub /unsub`, GET `/heartbeat`. Source: MOSN's `servicediscovery/dubbod`, and `httpregistry/dubbod` of
//! its fork symcn/mosn. Every answer to a well-formed request has status 200; the outcome is in the body.

mod api;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use remora_registry::{BoxFuture, Discovery, Facade, FacadeError, Ports};
use tokio_util::sync::CancellationToken;

use self::api::DubbodApi;
use crate::config::Settings;
use crate::door::{Door, Traits};
use crate::stats::Stats;

/// Settings of the dubbod door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What both doors have.
    pub door: Settings,
    /// Where Dubbo's services are kept in the registry.
    pub namespace: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // 22222 is MOSN's own, 20880 is where Dubbo listens unless told otherwise.
            door: Settings::at(22222, 20882, "dubbo", 20880),
            namespace: "/dubbo".to_owned(),
        }
    }
}

/// The dubbod door, bound to its ports.
pub struct DubbodFacade {
    door: Door,
    namespace: String,
}

impl DubbodFacade {
    /// Binds the door's ports. What applications registered is kept as `dubbod.json` in `state_dir`.
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
            namespace: config.namespace,
        })
    }

    /// Where it listens: `listen` first, then one address for each further application.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.door.local_addrs()
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<Stats> {
        self.door.stats()
    }
}

impl Facade for DubbodFacade {
    fn name(&self) -> &'static str {
        TRAITS.name
    }

    fn banner(&self) -> String {
        let addr = self
            .local_addrs()
            .first()
            .copied()
            .unwrap_or(self.door.settings().listen);
        format!("dubbod {addr}; let the application's MOSN SDK call http://{addr}/pub and /sub")
    }

    fn serve(
        self: Box<Self>,
        discovery: Arc<dyn Discovery>,
        drain: CancellationToken,
    ) -> BoxFuture<'static, Result<(), FacadeError>> {
        let namespace = self.namespace;
        let api = move |desk| Arc::new(DubbodApi::new(desk, &namespace)) as Arc<dyn crate::server::Api>;
        Box::pin(self.door.serve(discovery, drain, api))
    }
}

const TRAITS: Traits = Traits {
    name: "dubbod",
    listen_setting: "facades.dubbod.listen",
    applications_setting: "facades.dubbod.applications",
    names_setting: "facades.dubbod.host_names",
    stamp: api::STAMP,
    is_egress_shared: true,
};
