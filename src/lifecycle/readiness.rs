// SPDX-License-Identifier: Apache-2.0
//! Whether new work may be sent here, and if not, why.
//!
//! Ready means: every door is open, no drain was asked for, and each registry is reachable or its lists are known from
//! before. A registry that went away later does not make us unready: calls go on over the last known lists.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use remora_registry::RegistryState;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Shared by everybody who asks; the parts report into it.
#[derive(Clone, Debug)]
pub struct Readiness {
    shared: Arc<Shared>,
    draining: CancellationToken,
}

#[derive(Debug, Default)]
struct Shared {
    registries: Mutex<Vec<Watched>>,
    doors_open: std::sync::atomic::AtomicBool,
    /// Everything was withdrawn, and this process goes on serving until it is stopped.
    leaving: std::sync::atomic::AtomicBool,
    /// What else is wrong, by the part that said so.
    notes: Mutex<BTreeMap<&'static str, String>>,
}

#[derive(Debug)]
struct Watched {
    name: String,
    state: watch::Receiver<RegistryState>,
    was_up: bool,
    has_lists: bool,
}

/// The answer, as `/readyz` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadinessReport {
    /// Whether new work may be sent here.
    pub ready: bool,
    /// Why not; empty if ready.
    pub reasons: Vec<String>,
    /// What is wrong but does not make us unready.
    pub notes: Vec<String>,
}

impl Readiness {
    /// Not ready until [`doors_open`](Self::doors_open); not ready again once `draining` is cancelled.
    pub fn new(draining: CancellationToken) -> Self {
        Self {
            shared: Arc::default(),
            draining,
        }
    }

    /// Watches a registry. `has_lists`: its last known lists were read back from disk.
    pub fn watch_registry(&self, name: &str, state: watch::Receiver<RegistryState>, has_lists: bool) {
        let was_up = state.borrow().is_up();
        let watched = Watched {
            name: name.to_owned(),
            was_up,
            state,
            has_lists,
        };
        self.shared
            .registries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(watched);
    }

    /// Every listener is bound and served.
    pub fn doors_open(&self) {
        self.shared.doors_open.store(true, std::sync::atomic::Ordering::Release);
    }

    /// All that leads here was withdrawn.
    pub fn leaving(&self) {
        self.shared.leaving.store(true, std::sync::atomic::Ordering::Release);
    }

    /// Whether it was.
    pub fn is_leaving(&self) -> bool {
        self.shared.leaving.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Something that is wrong but does not make us unready; `None` when it is right again.
    pub fn note(&self, part: &'static str, text: Option<String>) {
        let mut notes = self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner);
        match text {
            Some(text) => drop(notes.insert(part, text)),
            None => drop(notes.remove(part)),
        }
    }

    /// How it stands now.
    pub fn report(&self) -> ReadinessReport {
        let mut reasons = Vec::new();
        let mut notes = Vec::new();
        if self.draining.is_cancelled() {
            reasons.push("draining".to_owned());
        }
        if !self.shared.doors_open.load(std::sync::atomic::Ordering::Acquire) {
            reasons.push("starting".to_owned());
        }
        if self.is_leaving() {
            reasons.push("withdrawn".to_owned());
        }
        notes.extend(
            self.shared
                .notes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .cloned(),
        );
        let mut registries = self.shared.registries.lock().unwrap_or_else(PoisonError::into_inner);
        for watched in registries.iter_mut() {
            let problem = match &*watched.state.borrow_and_update() {
                RegistryState::Up { .. } => {
                    watched.was_up = true;
                    continue;
                }
                RegistryState::Connecting => format!("registry {}: connecting", watched.name),
                RegistryState::Down { since, cause } => {
                    format!(
                        "registry {}: down for {} s: {cause}",
                        watched.name,
                        since.elapsed().as_secs()
                    )
                }
            };
            match watched.was_up || watched.has_lists {
                true => notes.push(format!("{problem}; serving last known lists")),
                false => reasons.push(problem),
            }
        }
        ReadinessReport {
            ready: reasons.is_empty(),
            reasons,
            notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn down() -> RegistryState {
        RegistryState::Down {
            since: Instant::now(),
            cause: "connection refused".into(),
        }
    }

    #[test]
    fn a_registry_never_reached_makes_unready_and_says_why() {
        let readiness = Readiness::new(CancellationToken::new());
        let (_state, receiver) = watch::channel(down());
        readiness.watch_registry("default", receiver, false);
        readiness.doors_open();
        let report = readiness.report();
        assert!(!report.ready);
        assert_eq!(report.reasons, ["registry default: down for 0 s: connection refused"]);
    }

    #[test]
    fn a_registry_lost_later_is_only_noted() {
        let readiness = Readiness::new(CancellationToken::new());
        let (state, receiver) = watch::channel(RegistryState::Up { since: Instant::now() });
        readiness.watch_registry("default", receiver, false);
        readiness.doors_open();
        assert!(readiness.report().ready);
        state.send_replace(down());
        let report = readiness.report();
        assert!(report.ready);
        assert_eq!(report.notes.len(), 1);
    }

    #[test]
    fn a_drain_makes_unready() {
        let draining = CancellationToken::new();
        let readiness = Readiness::new(draining.clone());
        readiness.doors_open();
        assert!(readiness.report().ready);
        draining.cancel();
        assert_eq!(readiness.report().reasons, ["draining"]);
    }
}
