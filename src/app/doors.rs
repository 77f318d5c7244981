// SPDX-License-Identifier: Apache-2.0
//! Opens the doors of a configured registry.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use remora_http_api::dubbod::DubbodFacade;
use remora_http_api::mesh::MeshFacade;
use remora_registry::{Facade, FacadeError, Ports};
use remora_sofaregistry::adapter::SofaRegistry;
use remora_sofaregistry::facade::{SofaRegistryFacade, Stats as SofaRegistryStats};
use remora_zookeeper::backend::Backend;
use remora_zookeeper::facade::{Stats as ZooKeeperStats, ZookeeperFacade};

use super::AppError;
use crate::config::{Config, Door, RegistryEntry};

/// An open door, for `status` and metrics.
pub(super) struct OpenDoor {
    /// Facade name.
    pub(super) name: &'static str,
    /// Where it listens.
    pub(super) addrs: Vec<SocketAddr>,
    /// What it counts.
    pub(super) stats: DoorStats,
}

/// What a door counts.
#[derive(Clone)]
pub(super) enum DoorStats {
    /// The ZooKeeper door.
    ZooKeeper(Arc<ZooKeeperStats>),
    /// A door of the HTTP APIs.
    Http(Arc<remora_http_api::Stats>),
    /// The SOFARegistry door.
    SofaRegistry(Arc<SofaRegistryStats>),
}

/// A door that is not opened.
pub(super) struct LeftOut {
    /// `facades.mesh`.
    pub(super) key: &'static str,
    pub(super) why: FacadeError,
    /// Where it would have listened: somebody else does.
    pub(super) addrs: Vec<SocketAddr>,
}

/// Doors with the facades that serve them.
#[derive(Default)]
pub(super) struct Doors {
    pub(super) open: Vec<OpenDoor>,
    pub(super) facades: Vec<Box<dyn Facade>>,
    /// Optional ones whose port could not be had.
    pub(super) left_out: Vec<LeftOut>,
}

/// Where doors are opened.
pub(super) struct Site<'a> {
    pub(super) config: &'a Config,
    pub(super) data_dir: &'a Path,
    /// Where sockets come from, for this registry.
    pub(super) ports: Ports,
    /// Whether a door may be left out.
    pub(super) is_optional: &'a dyn Fn(&str) -> bool,
    /// What the ZooKeeper door shows; there is one if the door is on.
    pub(super) backend: Option<Arc<dyn Backend>>,
    /// The registry behind, if it is a SOFARegistry.
    pub(super) sofaregistry: Option<Arc<SofaRegistry>>,
}

impl Site<'_> {
    /// Opens the doors of `entry`.
    ///
    /// # Errors
    /// A port, or the directory where registrations are kept.
    pub(super) fn open(&self, entry: &RegistryEntry) -> Result<Doors, AppError> {
        let mut doors = Doors::default();
        if let (Door::On(door), Some(backend)) = (&entry.facades.zookeeper, &self.backend) {
            let mut settings = door.settings();
            settings.access = self.config.access.settings();
            // Its nodes stay in the embedded server then; in the registry stands what Remora publishes.
            settings.keeps_publications = entry.registry.scheme() == "sofaregistry";
            let facade = ZookeeperFacade::bind_from(&self.ports, settings, Arc::clone(backend), &entry.name)?;
            let addrs = vec![facade.local_addr()];
            doors.push("zookeeper", addrs, DoorStats::ZooKeeper(facade.stats()), facade);
        }
        if let Door::On(door) = &entry.facades.mesh {
            let mut settings = door.settings(self.egress_port("bolt"));
            settings.door.access = self.config.access.settings();
            let bound = MeshFacade::bind_from(&self.ports, settings, &self.state_dir(entry)?, &entry.name);
            if let Some(facade) = self.bound("facades.mesh", door.addresses(), bound, &mut doors)? {
                doors.push("mesh", facade.local_addrs(), DoorStats::Http(facade.stats()), facade);
            }
        }
        if let Door::On(door) = &entry.facades.dubbod {
            let mut settings = door.settings(self.egress_port("dubbo"));
            settings.door.access = self.config.access.settings();
            let bound = DubbodFacade::bind_from(&self.ports, settings, &self.state_dir(entry)?, &entry.name);
            if let Some(facade) = self.bound("facades.dubbod", door.addresses(), bound, &mut doors)? {
                doors.push("dubbod", facade.local_addrs(), DoorStats::Http(facade.stats()), facade);
            }
        }
        if let Door::On(door) = &entry.facades.sofaregistry {
            let mut settings = door.settings();
            settings.access = self.config.access.settings();
            let bound = SofaRegistryFacade::bind_from(&self.ports, settings, self.sofaregistry.clone(), &entry.name);
            let addrs = vec![door.listen.0, door.session.0];
            if let Some(facade) = self.bound("facades.sofaregistry", addrs, bound, &mut doors)? {
                let facade = facade.remember_in(&self.state_dir(entry)?);
                let addrs = vec![facade.local_addr(), facade.session_addr()];
                doors.push("sofaregistry", addrs, DoorStats::SofaRegistry(facade.stats()), facade);
            }
        }
        Ok(doors)
    }

    /// What was bound; `None` for a door that is left out.
    fn bound<F>(
        &self,
        key: &'static str,
        addrs: Vec<SocketAddr>,
        bound: Result<F, FacadeError>,
        doors: &mut Doors,
    ) -> Result<Option<F>, AppError> {
        match bound {
            Ok(facade) => Ok(Some(facade)),
            Err(why @ FacadeError::Bind { .. }) if (self.is_optional)(key) => {
                doors.left_out.push(LeftOut { key, why, addrs });
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn egress_port(&self, protocol: &str) -> Option<u16> {
        let ports = self.config.protocols.0.get(protocol)?.on()?;
        Some(ports.egress.0.port())
    }

    /// Where the doors of a registry keep what applications registered.
    fn state_dir(&self, entry: &RegistryEntry) -> Result<std::path::PathBuf, AppError> {
        let path = self.data_dir.join("doors").join(&entry.name);
        std::fs::create_dir_all(&path).map_err(|cause| AppError::DataDir {
            path: path.clone(),
            cause,
        })?;
        Ok(path)
    }
}

impl Doors {
    fn push(&mut self, name: &'static str, addrs: Vec<SocketAddr>, stats: DoorStats, facade: impl Facade) {
        self.open.push(OpenDoor { name, addrs, stats });
        self.facades.push(Box::new(facade));
    }
}
