// SPDX-License-Identifier: Apache-2.0
//! Opens one door of a configured registry.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use remora_http_api::{HttpFacade, dubbod, mesh};
use remora_registry::{Facade, FacadeError, Ports};
use remora_sofaregistry::adapter::SofaRegistry;
use remora_sofaregistry::facade::{SofaRegistryFacade, Stats as SofaRegistryStats};
use remora_zookeeper::backend::Backend;
use remora_zookeeper::facade::{Stats as ZooKeeperStats, ZookeeperFacade};

use super::AppError;
use crate::config::{Access, Config, Door, Facades};

/// The doors that there can be, in the order in which they are opened.
pub(super) const KINDS: [Kind; 4] = [Kind::ZooKeeper, Kind::Mesh, Kind::Dubbod, Kind::SofaRegistry];

/// Which door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ZooKeeper,
    Mesh,
    Dubbod,
    SofaRegistry,
}

impl Kind {
    /// `facades.mesh`.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::ZooKeeper => "facades.zookeeper",
            Self::Mesh => "facades.mesh",
            Self::Dubbod => "facades.dubbod",
            Self::SofaRegistry => "facades.sofaregistry",
        }
    }

    /// The facade's name.
    pub(super) fn name(self) -> &'static str {
        self.key().trim_start_matches("facades.")
    }

    /// Whether it has the same settings in both.
    pub(super) fn is_same(self, one: &Facades, other: &Facades) -> bool {
        match self {
            Self::ZooKeeper => one.zookeeper == other.zookeeper,
            Self::Mesh => one.mesh == other.mesh,
            Self::Dubbod => one.dubbod == other.dubbod,
            Self::SofaRegistry => one.sofaregistry == other.sofaregistry,
        }
    }

    /// Where it listens; nowhere if it is off.
    pub(super) fn addresses(self, facades: &Facades) -> Vec<SocketAddr> {
        match self {
            Self::ZooKeeper => facades.zookeeper.on().map(|door| {
                let raw = door.raw.map(|raw| raw.0);
                std::iter::once(door.listen.0).chain(raw).collect()
            }),
            Self::Mesh => facades.mesh.on().map(|door| door.addresses()),
            Self::Dubbod => facades.dubbod.on().map(|door| door.addresses()),
            Self::SofaRegistry => facades
                .sofaregistry
                .on()
                .map(|door| vec![door.listen.0, door.session.0]),
        }
        .unwrap_or_default()
    }
}

/// An open door, for `status` and metrics.
#[derive(Clone)]
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

/// What became of a door.
pub(super) enum Opened {
    /// It is off.
    Off,
    /// It is bound.
    Door(OpenDoor, Box<dyn Facade>),
    /// Nobody named it, and somebody else listens where it would have.
    LeftOut(FacadeError),
}

/// Where the doors of one registry are opened.
pub(super) struct Site {
    /// Configured name of the registry.
    pub(super) registry: String,
    /// `zookeeper`, `sofaregistry`, ...
    pub(super) scheme: String,
    pub(super) data_dir: PathBuf,
    /// Where applications call, by protocol.
    pub(super) egress_ports: BTreeMap<String, u16>,
    /// Where sockets come from, for this registry.
    pub(super) ports: Ports,
    /// Who may come in.
    pub(super) access: Access,
    /// Doors that nobody named.
    pub(super) optional: BTreeSet<&'static str>,
    /// What a ZooKeeper door shows.
    pub(super) backend: Option<Arc<dyn Backend>>,
    /// The registry behind, if it is a SOFARegistry.
    pub(super) sofaregistry: Option<Arc<SofaRegistry>>,
}

impl Site {
    /// Binds a door, if it is on.
    ///
    /// # Errors
    /// A port, or the directory where registrations are kept.
    pub(super) fn open(&self, kind: Kind, facades: &Facades) -> Result<Opened, AppError> {
        match kind {
            Kind::ZooKeeper => self.zookeeper(facades),
            Kind::Mesh => {
                let Door::On(door) = &facades.mesh else {
                    return Ok(Opened::Off);
                };
                let mut settings = door.settings(self.egress_port("bolt"));
                settings.door.access = self.access.settings();
                self.http(
                    kind,
                    mesh::bind(&self.ports, settings, &self.state_dir()?, &self.registry),
                )
            }
            Kind::Dubbod => {
                let Door::On(door) = &facades.dubbod else {
                    return Ok(Opened::Off);
                };
                let mut settings = door.settings(self.egress_port("dubbo"));
                settings.door.access = self.access.settings();
                self.http(
                    kind,
                    dubbod::bind(&self.ports, settings, &self.state_dir()?, &self.registry),
                )
            }
            Kind::SofaRegistry => {
                let Door::On(door) = &facades.sofaregistry else {
                    return Ok(Opened::Off);
                };
                let dir = self.state_dir()?;
                let mut settings = door.settings();
                settings.access = self.access.settings();
                let bound =
                    SofaRegistryFacade::bind_from(&self.ports, settings, self.sofaregistry.clone(), &self.registry);
                self.bound(kind, bound.map(|facade| facade.remember_in(&dir)), |facade| {
                    let addrs = vec![facade.local_addr(), facade.session_addr()];
                    (addrs, DoorStats::SofaRegistry(facade.stats()))
                })
            }
        }
    }

    fn zookeeper(&self, facades: &Facades) -> Result<Opened, AppError> {
        let Door::On(door) = &facades.zookeeper else {
            return Ok(Opened::Off);
        };
        let Some(backend) = &self.backend else {
            return Err(AppError::Registry {
                name: self.registry.clone(),
                cause: "a ZooKeeper door in front of it needs an embedded ZooKeeper, which is opened at a start only"
                    .to_owned(),
            });
        };
        let mut settings = door.settings();
        settings.access = self.access.settings();
        // Its nodes stay in the embedded server then; in the registry stands what Remora publishes.
        settings.keeps_publications = self.scheme == "sofaregistry";
        let facade = ZookeeperFacade::bind_from(&self.ports, settings, Arc::clone(backend), &self.registry)?;
        let facade = facade.remember_in(&self.state_dir()?);
        let open = OpenDoor {
            name: Kind::ZooKeeper.name(),
            addrs: vec![facade.local_addr()],
            stats: DoorStats::ZooKeeper(facade.stats()),
        };
        Ok(Opened::Door(open, Box::new(facade)))
    }

    fn http(&self, kind: Kind, bound: Result<HttpFacade, FacadeError>) -> Result<Opened, AppError> {
        self.bound(kind, bound, |facade| {
            (facade.local_addrs(), DoorStats::Http(facade.stats()))
        })
    }

    /// What was bound; a door that nobody named may be left out.
    fn bound<F: Facade>(
        &self,
        kind: Kind,
        bound: Result<F, FacadeError>,
        told: impl FnOnce(&F) -> (Vec<SocketAddr>, DoorStats),
    ) -> Result<Opened, AppError> {
        match bound {
            Ok(facade) => {
                let (addrs, stats) = told(&facade);
                let name = kind.name();
                Ok(Opened::Door(OpenDoor { name, addrs, stats }, Box::new(facade)))
            }
            Err(why @ FacadeError::Bind { .. }) if self.optional.contains(kind.key()) => Ok(Opened::LeftOut(why)),
            Err(error) => Err(error.into()),
        }
    }

    fn egress_port(&self, protocol: &str) -> Option<u16> {
        self.egress_ports.get(protocol).copied()
    }

    /// Where the doors of a registry keep what applications registered.
    fn state_dir(&self) -> Result<PathBuf, AppError> {
        let path = self.data_dir.join("doors").join(&self.registry);
        std::fs::create_dir_all(&path).map_err(|cause| AppError::DataDir {
            path: path.clone(),
            cause,
        })?;
        Ok(path)
    }
}

/// Where applications call, by protocol.
pub(super) fn egress_ports(config: &Config) -> BTreeMap<String, u16> {
    let ports = config.protocols.0.iter();
    ports
        .filter_map(|(name, ports)| Some((name.clone(), ports.on()?.egress.0.port())))
        .collect()
}
