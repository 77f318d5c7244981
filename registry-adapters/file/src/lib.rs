// SPDX-License-Identifier: Apache-2.0
//! The file registry: an adapter without a facade. A YAML file lists instances; it is read again when it changes.
//!
//! ```yaml
//! instances:
//!   - { protocol: dubbo, service: com.example.EchoService, version: 1.0.0, group: blue, address: 10.0.0.5:20880 }
//! ```
//!
//! Nothing can be published into it: the file is the operator's.
#![forbid(unsafe_code)]

mod entry;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use entry::Entry;
use remora_registry::{BoxFuture, Instance, Registry, RegistryError, RegistryState, Snapshot, Source, Target};
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the file is looked at. Watching by inotify would miss how Kubernetes swaps a mounted ConfigMap.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A list longer than this is a mistake, not a registry.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The adapter. One task re-reads the file until `drain` is cancelled.
#[derive(Debug)]
pub struct FileRegistry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: watch::Sender<RegistryState>,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    entries: Option<Vec<Entry>>,
    followed: Vec<(Target, watch::Sender<Option<Arc<Snapshot>>>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    instances: Vec<Entry>,
}

impl FileRegistry {
    /// Reads the file now and then every second, on the current runtime. A file that cannot be read is no failure: the
    /// registry is "down" with the reason, and the last good list stands.
    pub fn open(path: &Path, drain: CancellationToken) -> Self {
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            state: watch::Sender::new(RegistryState::Connecting),
            lists: Mutex::default(),
        });
        let mut last = None;
        shared.read_if_changed(&mut last);
        let task = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(LOOK_EVERY);
            while drain.run_until_cancelled(tick.tick()).await.is_some() {
                task.read_if_changed(&mut last);
            }
        });
        Self { shared }
    }

    /// Reads a file once, for `check`.
    ///
    /// # Errors
    /// The text says file, line and key.
    pub fn read(path: &Path) -> Result<Vec<Entry>, RegistryError> {
        let unreachable = |cause: String| RegistryError::Unreachable {
            registry: format!("file://{}", path.display()),
            cause,
        };
        let size = std::fs::metadata(path).map_err(|e| unreachable(e.to_string()))?.len();
        if size > MAX_FILE_BYTES {
            return Err(unreachable(format!("{size} bytes, more than {MAX_FILE_BYTES}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| unreachable(e.to_string()))?;
        serde_saphyr::from_str::<Document>(&text)
            .map(|document| document.instances)
            .map_err(|e| unreachable(e.without_snippet().to_string()))
    }
}

/// What tells a changed file from an unchanged one, without reading it.
type Stamp = Option<(std::time::SystemTime, u64)>;

impl Shared {
    fn read_if_changed(&self, last: &mut Option<Stamp>) {
        let stamp: Stamp = std::fs::metadata(&self.path)
            .ok()
            .and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        if *last == Some(stamp) {
            return;
        }
        *last = Some(stamp);
        match FileRegistry::read(&self.path) {
            Ok(entries) => self.replace(entries),
            Err(error) => {
                warn!(registry = "file", reason = error.reason(), %error, "file registry unreadable, keeping the last list");
                self.state.send_replace(RegistryState::Down {
                    since: Instant::now(),
                    cause: error.to_string().into(),
                });
            }
        }
    }

    fn replace(&self, entries: Vec<Entry>) {
        info!(registry = "file", instances = entries.len(), "file registry read");
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.followed.retain(|(_, list)| !list.is_closed());
        for (target, list) in &lists.followed {
            list.send_replace(Some(snapshot(target, &entries)));
        }
        lists.entries = Some(entries);
        self.state.send_replace(RegistryState::Up { since: Instant::now() });
    }

    fn cannot(&self, operation: &'static str) -> RegistryError {
        RegistryError::Unsupported {
            registry: format!("file://{}", self.path.display()),
            operation,
        }
    }
}

fn snapshot(target: &Target, entries: &[Entry]) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        target: target.clone(),
        instances: entries
            .iter()
            .filter(|entry| entry.matches(target))
            .map(|entry| Arc::new(entry.instance()))
            .collect(),
        malformed: Vec::new(),
        foreign: Vec::new(),
        source: Source::Registry,
    })
}

impl Registry for FileRegistry {
    fn name(&self) -> &'static str {
        "file"
    }

    fn is_operators_own(&self) -> bool {
        true
    }

    fn state(&self) -> watch::Receiver<RegistryState> {
        self.shared.state.subscribe()
    }

    fn follow(&self, target: Target) -> watch::Receiver<Option<Arc<Snapshot>>> {
        let mut lists = self.shared.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, list)) = lists.followed.iter().find(|(followed, _)| *followed == target) {
            return list.subscribe();
        }
        let first = lists.entries.as_ref().map(|entries| snapshot(&target, entries));
        let (list, receiver) = watch::channel(first);
        lists.followed.push((target, list));
        receiver
    }

    fn publish<'a>(&'a self, _: &'a Target, _: &'a Instance) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(async { Err(self.shared.cannot("take publications: the file is the operator's")) })
    }

    fn withdraw<'a>(&'a self, _: &'a Target, _: &'a Instance) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(async { Ok(()) })
    }

    fn metadata<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<String>, RegistryError>> {
        Box::pin(async { Ok(None) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "instances:\n  - {protocol: dubbo, service: a.B, address: 127.0.0.1:20880}\n";

    fn target() -> Target {
        Target::Service {
            namespace: "/dubbo".into(),
            name: "a.B".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_reaches_its_followers_and_a_broken_one_keeps_the_last_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("services.yaml");
        std::fs::write(&path, ONE).unwrap();
        let drain = CancellationToken::new();
        let registry = FileRegistry::open(&path, drain.clone());
        let mut list = registry.follow(target());
        assert_eq!(list.borrow_and_update().as_ref().unwrap().instances.len(), 1);

        let two = format!("{ONE}  - {{protocol: dubbo, service: a.B, address: 127.0.0.1:20890}}\n");
        std::fs::write(&path, two).unwrap();
        list.changed().await.unwrap();
        assert_eq!(list.borrow_and_update().as_ref().unwrap().instances.len(), 2);

        let mut state = registry.state();
        state.borrow_and_update();
        std::fs::write(&path, "instances: 7").unwrap();
        state.changed().await.unwrap();
        assert!(!state.borrow().is_up());
        assert_eq!(list.borrow().as_ref().unwrap().instances.len(), 2);
        drain.cancel();
    }

    #[tokio::test]
    async fn an_absent_file_is_down_with_its_name_and_takes_no_publications() {
        let drain = CancellationToken::new();
        let registry = FileRegistry::open(Path::new("/nonexistent/services.yaml"), drain);
        let state = registry.state().borrow().clone();
        assert!(
            matches!(&state, RegistryState::Down { cause, .. } if cause.contains("/nonexistent/services.yaml")),
            "{state:?}"
        );
        let entry: Entry = serde_saphyr::from_str("{protocol: dubbo, service: a.B, address: 127.0.0.1:1}").unwrap();
        assert!(registry.publish(&target(), &entry.instance()).await.is_err());
    }
}
