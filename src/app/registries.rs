// SPDX-License-Identifier: Apache-2.0
//! Opens a configured registry: the adapter towards it and the door in front of it.
//!
//! The door's backend is the registry itself where that is a ZooKeeper. Where it is not (a file), applications meet an
//! embedded ZooKeeper: what they keep there is kept, and the lists they follow come from the registry.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use remora_file::FileRegistry;
use remora_registry::{Facade, Registry};
use remora_zookeeper::adapter::{self, ZookeeperRegistry};
use remora_zookeeper::backend::{Backend, Embedded, Ensemble};
use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::facade::{Stats, ZookeeperFacade};
use remora_zookeeper::wire::request::Auth;
use tokio_util::sync::CancellationToken;

use super::AppError;
use crate::config::{RegistryEntry, RegistryUrl};

/// A registry with its door.
pub(super) struct OpenRegistry {
    /// Configured name.
    pub(super) name: String,
    /// Address without secrets.
    pub(super) url: String,
    /// Towards the real registry.
    pub(super) adapter: Arc<dyn Registry>,
    /// The ZooKeeper door, until it is served.
    pub(super) door: Option<Box<dyn Facade>>,
    /// Where the door listens.
    pub(super) door_addr: Option<SocketAddr>,
    /// What the door counts.
    pub(super) stats: Option<Arc<Stats>>,
    /// The adapter's session, which ends with the drain.
    session: Option<Arc<ZookeeperRegistry>>,
    embedded: Option<Server>,
}

impl OpenRegistry {
    /// Waits until the adapter's session is closed, and brings an embedded registry to disk.
    pub(super) async fn close(self) {
        if let Some(session) = &self.session {
            session.closed().await;
        }
        if let Some(server) = self.embedded {
            server.close().await;
        }
    }
}

/// Opens a registry; its adapter's tasks end with `drain`. A registry that cannot be reached is no error.
///
/// # Errors
/// The door's port, the embedded registry's files, or an address that makes no sense.
pub(super) fn open(
    entry: &RegistryEntry,
    data_dir: &Path,
    drain: &CancellationToken,
) -> Result<OpenRegistry, AppError> {
    let (backend, embedded) = match &entry.registry {
        RegistryUrl::Url { scheme, .. } if scheme == "zookeeper" => (ensemble(entry)?, None),
        _ => {
            let server = embedded(entry, data_dir)?;
            (
                Arc::new(Embedded::new(server.clone())) as Arc<dyn Backend>,
                Some(server),
            )
        }
    };
    let mut session = None;
    let adapter: Arc<dyn Registry> = match &entry.registry {
        RegistryUrl::Url { scheme, path, .. } if scheme == "file" => {
            Arc::new(FileRegistry::open(Path::new(path), drain.clone()))
        }
        _ => {
            let adapter = ZookeeperRegistry::start(
                &entry.name,
                Arc::clone(&backend),
                adapter_config(&entry.registry),
                drain.clone(),
            );
            session = Some(Arc::clone(&adapter));
            adapter
        }
    };
    let door = match entry.facades.zookeeper.on() {
        Some(door) => Some(ZookeeperFacade::bind(door.settings(), backend, &entry.name)?),
        None => None,
    };
    Ok(OpenRegistry {
        name: entry.name.clone(),
        url: entry.registry.to_string(),
        adapter,
        door_addr: door.as_ref().map(ZookeeperFacade::local_addr),
        stats: door.as_ref().map(ZookeeperFacade::stats),
        door: door.map(|door| Box::new(door) as Box<dyn Facade>),
        session,
        embedded,
    })
}

/// The adapter's session shows the credentials of the address, as Dubbo's own registry client does.
fn adapter_config(registry: &RegistryUrl) -> adapter::Config {
    let mut config = adapter::Config::default();
    config.session.auth = registry.credentials().map(Auth::digest);
    config
}

fn ensemble(entry: &RegistryEntry) -> Result<Arc<dyn Backend>, AppError> {
    let ensemble = Ensemble::parse(&entry.registry.to_string()).map_err(|error| AppError::Registry {
        name: entry.name.clone(),
        cause: error.to_string(),
    })?;
    Ok(Arc::new(ensemble))
}

/// The embedded registry of one configured registry, in a folder of its own.
fn embedded(entry: &RegistryEntry, data_dir: &Path) -> Result<Server, AppError> {
    let wrong = |cause: String| AppError::Registry {
        name: entry.name.clone(),
        cause,
    };
    let folder = data_dir.join("registry").join(&entry.name);
    std::fs::create_dir_all(&folder).map_err(|e| wrong(format!("{}: {e}", folder.display())))?;
    Server::open(&folder, Options::default()).map_err(|e| wrong(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_the_address_are_shown_to_the_registry() {
        let auth = |url: &str| adapter_config(&url.parse().unwrap()).session.auth;
        let shown = auth("zookeeper://dubbo:s3:cret@h1:2181").unwrap();
        assert_eq!(shown.scheme, "digest");
        assert_eq!(shown.auth.as_deref(), Some(&b"dubbo:s3:cret"[..]));
        assert!(!format!("{shown:?}").contains("s3"), "{shown:?}");
        assert!(auth("zookeeper://h1:2181").is_none() && auth("embedded").is_none());
    }
}
