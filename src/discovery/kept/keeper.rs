// SPDX-License-Identifier: Apache-2.0
//! The task that keeps one place of a registry as it is wanted.

use std::sync::Arc;
use std::time::Duration;

use remora_registry::{Instance, RegistryError, RegistryState};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{Hold, Kept, KeptState, Place};
use crate::metrics::discovery::OutcomeLabel;

/// Keeps one place as it is wanted.
pub(super) struct Keeper {
    kept: Arc<Kept>,
    place: Place,
    wishes: watch::Receiver<Option<Arc<Instance>>>,
    /// What the adapter was asked to publish and not yet, successfully, to withdraw.
    asked: Vec<Arc<Instance>>,
    /// The one of them that is known to stand.
    stands: Option<Arc<Instance>>,
    /// What the registry cannot hold, and why.
    refused: Option<(Arc<Instance>, Arc<str>)>,
    failures: u32,
}

enum Step {
    Publish(Arc<Instance>),
    Withdraw(Arc<Instance>),
    /// All is as it should be.
    Rest,
    /// Nothing is wanted and nothing is left.
    End,
}

impl Keeper {
    pub(super) fn new(kept: &Arc<Kept>, place: Place, wishes: watch::Receiver<Option<Arc<Instance>>>) -> Self {
        Self {
            kept: Arc::clone(kept),
            place,
            wishes,
            asked: Vec::new(),
            stands: None,
            refused: None,
            failures: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let mut states = self.kept.registry.state();
        let end = self.kept.end.clone();
        loop {
            let wanted = self.wishes.borrow_and_update().clone();
            let step = self.next_step(wanted.as_ref());
            if let Step::End = step {
                if self.is_forgotten() {
                    return;
                }
                // Taken back and wanted again before we looked.
                if let Some((refused, cause)) = &self.refused {
                    self.turn(refused, KeptState::Refused, Some(Arc::clone(cause)));
                }
            }
            let mut pause = None;
            if let Step::Publish(_) | Step::Withdraw(_) = step {
                let absence = absence(&states.borrow_and_update());
                match absence {
                    Some(cause) => self.report(cause),
                    None => {
                        let Some(done) = end.run_until_cancelled(self.take(&step)).await else {
                            return;
                        };
                        match self.settle(step, done) {
                            Some(wait) => pause = Some(wait),
                            None => continue,
                        }
                    }
                }
            }
            tokio::select! {
                () = end.cancelled() => return,
                changed = self.wishes.changed() => if changed.is_err() {
                    return;
                },
                changed = states.changed() => if changed.is_err() {
                    return;
                },
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    fn next_step(&self, wanted: Option<&Arc<Instance>>) -> Step {
        let is_refused = |wanted: &Arc<Instance>| self.refused.as_ref().is_some_and(|(refused, _)| refused == wanted);
        let wanted = wanted.filter(|wanted| !is_refused(wanted));
        let stale = self.asked.iter().find(|asked| Some(*asked) != wanted).cloned();
        match (wanted, stale) {
            // The new one stands before the old one goes, so that consumers always find one of them.
            (Some(wanted), stale) if self.stands.as_ref() != Some(wanted) => match stale {
                Some(stale) if self.asked.len() >= MAX_ASKED => Step::Withdraw(stale),
                _ => Step::Publish(Arc::clone(wanted)),
            },
            (_, Some(stale)) => Step::Withdraw(stale),
            (Some(_), None) => Step::Rest,
            (None, None) => Step::End,
        }
    }

    async fn take(&mut self, step: &Step) -> Result<(), RegistryError> {
        let (registry, target) = (Arc::clone(&self.kept.registry), self.place.target.clone());
        let asking = match step {
            Step::Publish(instance) => {
                if !self.asked.contains(instance) {
                    self.asked.push(Arc::clone(instance));
                }
                registry.publish(&target, instance)
            }
            Step::Withdraw(instance) => {
                self.stands = self.stands.take().filter(|stands| stands != instance);
                registry.withdraw(&target, instance)
            }
            Step::Rest | Step::End => return Ok(()),
        };
        let too_late = |_| RegistryError::Unreachable {
            registry: self.kept.name.to_string(),
            cause: format!("no answer within {OPERATION_TIMEOUT:?}"),
        };
        timeout(OPERATION_TIMEOUT, asking).await.map_err(too_late)?
    }

    /// Takes in what came of a step; gives how long to wait before the next.
    fn settle(&mut self, step: Step, done: Result<(), RegistryError>) -> Option<Duration> {
        let (word, instance) = match &step {
            Step::Publish(instance) => ("published", instance),
            Step::Withdraw(instance) => ("withdrawn", instance),
            Step::Rest | Step::End => return None,
        };
        let outcome = done.as_ref().map_or_else(RegistryError::reason, |()| word);
        self.kept
            .metrics
            .kept_operations
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
        let is_unsupported = matches!(done, Err(RegistryError::Unsupported { .. }));
        match done {
            Err(error) if !is_unsupported => {
                let failures = self.failures;
                self.failures += 1;
                if failures == 0 {
                    warn!(registry = &*self.kept.name, service = %self.place.target, reason = error.reason(), %error, "a publication is not up to date in the registry, trying again");
                }
                self.report(error.to_string().into());
                return Some(pause_after(failures));
            }
            done => {
                self.failures = 0;
                let (service, address) = (&self.place.target, format!("{}:{}", instance.host, instance.port));
                match (&step, done) {
                    (Step::Publish(_), Ok(())) => {
                        self.stands = Some(Arc::clone(instance));
                        info!(registry = &*self.kept.name, %service, address, "published");
                        self.turn(instance, KeptState::Published, None);
                    }
                    (Step::Publish(_), Err(error)) => {
                        self.asked.retain(|asked| asked != instance);
                        let cause: Arc<str> = error.to_string().into();
                        self.refused = Some((Arc::clone(instance), Arc::clone(&cause)));
                        warn!(registry = &*self.kept.name, %service, reason = error.reason(), %error, "the registry cannot hold this publication; calls that reach our ingress are served");
                        self.turn(instance, KeptState::Refused, Some(cause));
                    }
                    _ => {
                        self.asked.retain(|asked| asked != instance);
                        info!(registry = &*self.kept.name, %service, address, "withdrawn");
                        if let Some(stands) = &self.stands {
                            self.turn(stands, KeptState::Published, None);
                        }
                    }
                }
            }
        }
        None
    }

    /// Shows how far `instance` is, if it is still the one that is wanted.
    fn turn(&self, instance: &Arc<Instance>, state: KeptState, error: Option<Arc<str>>) {
        let mut former = Vec::new();
        let mut table = self.kept.table();
        if let Some(entry) = table.places.get_mut(&self.place)
            && entry.wishes.last().is_some_and(|wish| wish.instance == *instance)
        {
            if state == KeptState::Published {
                former = std::mem::take(&mut entry.former);
            }
            entry.turn(state, error);
        }
        drop(table);
        self.release_later(former);
    }

    /// Both stand until everybody has heard of the new one: a SOFARPC consumer that finds no address of its last list in the next
    /// one fails calls until it has connected.
    fn release_later(&self, former: Vec<Hold>) {
        if former.is_empty() {
            return;
        }
        let (end, both_for) = (self.kept.end.clone(), self.kept.registry.told_within());
        let releasing = async move {
            let _ = end.run_until_cancelled(sleep(both_for)).await;
            drop(former);
        };
        self.kept.tasks.spawn_on(releasing, &self.kept.runtime);
    }

    /// Shows why something waits. What stands goes on standing while its successor waits.
    fn report(&self, cause: Arc<str>) {
        let mut table = self.kept.table();
        if let Some(entry) = table.places.get_mut(&self.place) {
            let state = match entry.wishes.is_empty() {
                true => KeptState::Withdrawing,
                false => KeptState::Waiting,
            };
            entry.turn(state, Some(cause));
        }
    }

    /// Ends the place, unless it is wanted again.
    fn is_forgotten(&self) -> bool {
        let mut table = self.kept.table();
        let is_over = table.places.get(&self.place).is_none_or(|e| e.wishes.is_empty());
        if is_over {
            table.places.remove(&self.place);
            self.kept.count(&table);
        }
        is_over
    }
}

/// Why there is no point in asking the registry now.
fn absence(state: &RegistryState) -> Option<Arc<str>> {
    match state {
        RegistryState::Up { .. } => None,
        RegistryState::Connecting => Some("the registry is not connected yet".into()),
        RegistryState::Down { cause, .. } => Some(Arc::clone(cause)),
    }
}

/// Half of it fixed, half by chance, so that many Remoras do not come at once.
fn pause_after(failures: u32) -> Duration {
    let whole = MIN_PAUSE.saturating_mul(1 << failures.min(16)).min(MAX_PAUSE);
    whole / 2 + (whole / 2).mul_f64(fastrand::f64())
}

/// Former contents of one place that may still stand in the registry. Beyond it they go first.
const MAX_ASKED: usize = 4;
/// Longer than any adapter's own limit.
pub(super) const OPERATION_TIMEOUT: Duration = Duration::from_secs(15);
const MIN_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);
