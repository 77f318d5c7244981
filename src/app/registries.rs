// SPDX-License-Identifier: Apache-2.0
//! Opens a configured registry: the adapter towards it, and what its ZooKeeper door shows.
//!
//! The ZooKeeper door's backend is the registry itself where that is a ZooKeeper. Where it is not, applications meet an
//! embedded ZooKeeper: what they keep there is kept, the lists they follow come from the registry, and what they publish is
//! published there by Remora if the registry takes it.

use std::path::Path;
use std::sync::Arc;

use remora_file::FileRegistry;
use remora_registry::Registry;
use remora_sofaregistry::adapter::{self as sofaregistry, SofaRegistry, Standing};
use remora_sofaregistry::client::Endpoint;
use remora_zookeeper::adapter::{self, ZookeeperRegistry};
use remora_zookeeper::backend::{Backend, Embedded, Ensemble};
use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::wire::request::Auth;
use tokio_util::sync::CancellationToken;

use super::AppError;
use super::handover::FormerRegistry;
use super::house::OpenDoors;
use crate::config::{RegistryEntry, RegistryUrl};
use crate::discovery::Publication;

/// A registry.
pub(super) struct OpenRegistry {
    /// Configured name.
    pub(super) name: String,
    /// Address without secrets.
    pub(super) url: String,
    /// Towards the real registry.
    pub(super) adapter: Arc<dyn Registry>,
    /// What a ZooKeeper door shows.
    pub(super) backend: Option<Arc<dyn Backend>>,
    /// The doors in front of it.
    pub(super) doors: OpenDoors,
    /// The adapter's session, which ends with the drain.
    session: Option<Arc<ZookeeperRegistry>>,
    /// The adapter itself where it is one of SOFARegistry's.
    pub(super) sofaregistry: Option<Arc<SofaRegistry>>,
    embedded: Option<Server>,
}

/// A registry that was let go of.
pub(super) struct LeftRegistry {
    pub(super) name: String,
    pub(super) former: FormerRegistry,
    /// What was published stands with this connection.
    pub(super) connected: Option<Arc<SofaRegistry>>,
    /// To be closed when nobody asks it any more.
    pub(super) embedded: Option<Server>,
}

impl OpenRegistry {
    /// Nothing is taken back from there any more. Before doors close: what they held would be.
    pub(super) fn freeze(&self) -> Vec<Standing> {
        self.sofaregistry.as_ref().map(|r| r.freeze()).unwrap_or_default()
    }

    /// Leaves what is there to whoever takes over.
    pub(super) async fn let_go(self, standing: Vec<Standing>, published: Vec<Publication>) -> LeftRegistry {
        let ticket = match &self.session {
            Some(session) => session.detach().await,
            None => None,
        };
        LeftRegistry {
            name: self.name,
            former: FormerRegistry::new(self.url, ticket, standing, published),
            connected: self.sofaregistry,
            embedded: self.embedded,
        }
    }

    /// Waits until the adapter's session is closed, and brings an embedded registry to disk.
    pub(super) async fn close(self) {
        if let Some(session) = &self.session {
            session.closed().await;
        }
        if let Some(sofaregistry) = &self.sofaregistry {
            sofaregistry.closed().await;
        }
        if let Some(server) = self.embedded {
            server.close().await;
        }
    }
}

/// Opens a registry, and goes on with what a former process had there; its adapter's tasks end with `stop`. A registry that cannot be reached is no error.
///
/// # Errors
/// The embedded registry's files, or an address that makes no sense.
pub(super) fn open(
    entry: &RegistryEntry,
    data_dir: &Path,
    stop: &CancellationToken,
    former: &mut FormerRegistry,
) -> Result<OpenRegistry, AppError> {
    let scheme = entry.registry.scheme();
    let is_zookeeper = matches!(scheme, "zookeeper" | "embedded");
    let needs_server = scheme == "embedded" || (!is_zookeeper && entry.facades.zookeeper.on().is_some());
    let server = match needs_server {
        true => Some(embedded(entry, data_dir)?),
        false => None,
    };
    let backend: Option<Arc<dyn Backend>> = match &server {
        Some(server) => Some(Arc::new(Embedded::new(server.clone()))),
        None if is_zookeeper => Some(ensemble(entry)?),
        None => None,
    };
    let wrong = |cause: String| AppError::Registry {
        name: entry.name.clone(),
        cause,
    };
    let (mut session, mut sofaregistry) = (None, None);
    let adapter: Arc<dyn Registry> = match (&entry.registry, &backend) {
        (RegistryUrl::Url { path, .. }, _) if scheme == "file" => {
            Arc::new(FileRegistry::open(Path::new(path), stop.clone()))
        }
        (_, Some(backend)) if is_zookeeper => {
            let mut config = adapter_config(&entry.registry);
            config.session.resume = former.ticket();
            let adapter = ZookeeperRegistry::start(&entry.name, Arc::clone(backend), config, stop.clone());
            session = Some(Arc::clone(&adapter));
            adapter
        }
        (RegistryUrl::Url { hosts, .. }, _) if scheme == "sofaregistry" => {
            let endpoints = Endpoint::parse_list(hosts).ok_or_else(|| wrong(format!("`{hosts}` names no hosts")))?;
            let mut config = sofaregistry_config(&entry.registry);
            config.former = std::mem::take(&mut former.standing);
            let adapter = SofaRegistry::start(&entry.name, endpoints, config, stop.clone());
            sofaregistry = Some(Arc::clone(&adapter));
            adapter
        }
        _ => return Err(wrong(format!("no plugin for {scheme}://"))),
    };
    Ok(OpenRegistry {
        name: entry.name.clone(),
        url: entry.registry.to_string(),
        adapter,
        backend,
        doors: OpenDoors::default(),
        session,
        sofaregistry,
        embedded: server,
    })
}

/// The adapter's session shows the credentials of the address, as Dubbo's own registry client does.
pub(crate) fn adapter_config(registry: &RegistryUrl) -> adapter::Config {
    let mut config = adapter::Config::default();
    config.session.auth = registry.credentials().map(Auth::digest);
    config
}

pub(crate) fn sofaregistry_config(registry: &RegistryUrl) -> sofaregistry::Config {
    let mut config = sofaregistry::Config::default();
    if let Some(zone) = registry.setting("zone") {
        zone.clone_into(&mut config.connection.zone);
    }
    if let Some(data_center) = registry.setting("dataCenter") {
        data_center.clone_into(&mut config.connection.data_center);
    }
    config
}

pub(crate) fn ensemble(entry: &RegistryEntry) -> Result<Arc<Ensemble>, AppError> {
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
