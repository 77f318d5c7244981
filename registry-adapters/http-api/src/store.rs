// SPDX-License-Identifier: Apache-2.0
//! Keeps what applications wanted on disk, since they never say it twice.
//!
//! Every change counts up a generation. One task writes the newest content as often as the disk lets it, so that a
//! hundred requests at once cost two or three writes; a request is answered once its generation is on disk.

use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use remora_registry::sealed::{self, FileError};
use remora_registry::{Instance, Params, ServiceKey, Target};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::registration::Key;
use crate::stats::Stats;

/// All that is kept.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Content {
    pub(crate) applications: Vec<KeptApplication>,
}

/// One application.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KeptApplication {
    /// `None`: the one at the door's own address.
    pub(crate) address: Option<IpAddr>,
    pub(crate) names: Vec<String>,
    /// What it said of itself besides its name.
    pub(crate) about: Map<String, Value>,
    /// Time to live that it asked for; 0 for none.
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) has_heartbeat: bool,
    pub(crate) registrations: Vec<Kept>,
    pub(crate) follows: Vec<KeptFollow>,
}

/// One registration.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptRegistration {
    namespace: String,
    name: String,
    protocol: String,
    interface: String,
    group: String,
    version: String,
    host: String,
    port: u16,
    path: String,
    params: Vec<(String, String)>,
    owner: Option<u32>,
}

/// One followed service.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptFollow {
    namespace: String,
    name: String,
    /// How often each user asked for it.
    pub(crate) counts: Vec<(Option<u32>, u32)>,
}

/// A registration that is shared by the file's next contents.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept(Arc<KeptRegistration>);

impl Kept {
    pub(crate) fn new(registration: KeptRegistration) -> Self {
        Self(Arc::new(registration))
    }
}

impl Deref for Kept {
    type Target = KeptRegistration;

    fn deref(&self) -> &KeptRegistration {
        &self.0
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        KeptRegistration::deserialize(deserializer).map(Self::new)
    }
}

impl KeptRegistration {
    pub(crate) fn of(key: &Key, instance: &Instance) -> Self {
        Self {
            namespace: key.target.namespace().to_string(),
            name: key.target.name().to_string(),
            protocol: instance.protocol.to_string(),
            interface: key.service.name.to_string(),
            group: key.service.group.to_string(),
            version: key.service.version.to_string(),
            host: instance.host.to_string(),
            port: key.port,
            path: instance.path.to_string(),
            params: instance.params.0.clone(),
            owner: key.owner,
        }
    }

    pub(crate) fn key(&self) -> Key {
        Key {
            target: service(&self.namespace, &self.name),
            service: ServiceKey::new(&self.interface, &self.group, &self.version),
            port: self.port,
            owner: self.owner,
        }
    }

    pub(crate) fn instance(&self) -> Instance {
        let key = self.key();
        Instance {
            id: key.instance_id(),
            key: Some(key.service),
            protocol: self.protocol.as_str().into(),
            host: self.host.as_str().into(),
            port: self.port,
            path: self.path.as_str().into(),
            params: Params(self.params.clone()),
            raw: "".into(),
        }
    }
}

impl KeptFollow {
    pub(crate) fn of(target: &Target, counts: Vec<(Option<u32>, u32)>) -> Self {
        Self {
            namespace: target.namespace().to_string(),
            name: target.name().to_string(),
            counts,
        }
    }

    pub(crate) fn target(&self) -> Target {
        service(&self.namespace, &self.name)
    }
}

fn service(namespace: &str, name: &str) -> Target {
    Target::Service {
        namespace: namespace.into(),
        name: name.into(),
    }
}

/// The file of one door.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    door: &'static str,
    stats: Arc<Stats>,
    written: watch::Sender<u64>,
}

impl Store {
    /// `<dir>/<door>.json`. The directory is made if it is missing.
    pub(crate) fn new(dir: &Path, door: &'static str, stats: Arc<Stats>) -> Self {
        if let Err(cause) = std::fs::create_dir_all(dir) {
            error!(registry = door, dir = %dir.display(), %cause, "no directory for registrations; they will not survive a restart");
        }
        Self {
            path: dir.join(format!("{door}.json")),
            door,
            stats,
            written: watch::Sender::new(0),
        }
    }

    /// What a former run kept.
    pub(crate) fn read(&self) -> Content {
        let content = sealed::read(&self.path, self.door, |error| {
            error!(
                registry = self.door,
                reason = error.reason(),
                %error,
                "registrations of the former run cannot be read and were set aside; if one is missing, restart its application"
            );
        });
        let Some(content) = content else {
            return Content::default();
        };
        serde_json::from_slice(&content).unwrap_or_else(|cause| {
            sealed::set_aside(&self.path);
            error!(registry = self.door, reason = "damaged", %cause, "registrations of the former run make no sense and were set aside; restart the applications");
            Content::default()
        })
    }

    /// Writes what `content` gives whenever `changed` has a new generation, until `end`, and once more then.
    pub(crate) async fn run(
        &self,
        mut changed: watch::Receiver<u64>,
        content: impl Fn() -> (u64, Content),
        end: CancellationToken,
    ) {
        let (mut on_disk, mut pause) = (0, None);
        loop {
            let is_over = tokio::select! {
                () = end.cancelled() => true,
                change = changed.changed() => change.is_err(),
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => false,
            };
            if *changed.borrow_and_update() > on_disk {
                let (generation, content) = content();
                match self.write(content).await {
                    true => (on_disk, pause) = (generation, None),
                    false => pause = Some(pause.map_or(AGAIN, |pause: Duration| (pause * 2).min(AGAIN_MAX))),
                }
                // A request is accepted even if the disk refuses: nobody would send it again.
                self.written.send_replace(generation);
            }
            if is_over {
                return;
            }
        }
    }

    /// Returns once a generation is on disk, or could not be brought there in time.
    pub(crate) async fn kept(&self, generation: u64) {
        let mut written = self.written.subscribe();
        let waited = tokio::time::timeout(MAX_WAIT, written.wait_for(|written| *written >= generation)).await;
        if waited.is_err() {
            error!(
                registry = self.door,
                "the disk takes too long; a registration was accepted that is not written yet"
            );
        }
    }

    async fn write(&self, content: Content) -> bool {
        let (path, door) = (self.path.clone(), self.door);
        let written = tokio::task::spawn_blocking(move || {
            let bytes = serde_json::to_vec(&content).map_err(|error| FileError::Io {
                path: path.clone(),
                cause: error.into(),
            })?;
            sealed::write(&path, door, &bytes)
        });
        match written.await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                Stats::count(&self.stats.store_failures);
                error!(registry = door, reason = error.reason(), %error, "registrations are not on disk and would be lost by a restart; trying again");
                false
            }
            // The runtime is going down.
            Err(_) => false,
        }
    }
}

/// The clients wait 15 s.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// Between attempts to write to a disk that refused, doubled up to the longest.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);
