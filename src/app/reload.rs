// SPDX-License-Identifier: Apache-2.0
//! Takes a changed configuration over while Remora runs: only what changed is touched.
//!
//! The new file is read and checked whole, and the ports that it asks for are bound, before anything is changed: one that is
//! wrong changes nothing. What needs a restart keeps its value and is named. One reload at a time.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::Mutex as TurnMutex;
use tracing::{error, info, warn};

use super::SharedCall;
use super::house::{House, Plan};
use super::published::Words;
use crate::admin::{ReloadOutcome, ReloadView};
use crate::config::{self, Changes, Config, Facades, Loaded, Served};
use crate::discovery::Catalog;
use crate::lifecycle::{self, LogLevels, Notify, Readiness, Stop};

/// What a reload works on.
pub(super) struct Reloader {
    pub(super) loaded: Loaded,
    pub(super) served: Served,
    pub(super) catalog: Arc<Catalog>,
    pub(super) call: SharedCall,
    pub(super) lifecycle: Arc<ArcSwap<lifecycle::Config>>,
    pub(super) readiness: Readiness,
    pub(super) stop: Stop,
    /// What `App::attach` was given.
    pub(super) outside: OnceLock<Outside>,
    /// Held during a reload, and by the end of the run.
    pub(super) parts: TurnMutex<Parts>,
    pub(super) state: Mutex<State>,
}

/// What is neither asked nor told by the rooms inside.
#[derive(Clone, Debug, Default)]
pub(super) struct Outside {
    pub(super) notify: Notify,
    pub(super) levels: Option<LogLevels>,
}

/// What belongs to each registry, in the order of the configuration.
pub(super) struct Parts {
    /// Doors are closed, here or for another process.
    pub(super) is_over: bool,
    pub(super) houses: Vec<House>,
    pub(super) words: Vec<Words>,
}

/// What runs now, and how the last reload went.
pub(super) struct State {
    /// As configured: doors that were left out are on.
    pub(super) running: Config,
    /// As it takes effect.
    pub(super) effective: Config,
    pub(super) last: Option<ReloadView>,
    /// Reloads by outcome.
    pub(super) counts: [(ReloadOutcome, u64); 3],
}

impl State {
    pub(super) fn new(running: Config, effective: Config) -> Self {
        let counts = [ReloadOutcome::Unchanged, ReloadOutcome::Applied, ReloadOutcome::Refused].map(|o| (o, 0));
        Self {
            running,
            effective,
            last: None,
            counts,
        }
    }
}

/// Why a reload is refused, a line for each problem.
struct Refused(Vec<String>);

impl Reloader {
    /// Reads the configuration again; `asked_by` is for the report.
    pub(super) async fn reload(&self, asked_by: &str) -> ReloadView {
        let notify = self
            .outside
            .get()
            .map(|outside| outside.notify.clone())
            .unwrap_or_default();
        let mut parts = self.parts.lock().await;
        notify.reloading();
        let mut view = match self.take_over(&mut parts).await {
            Ok(view) => view,
            Err(Refused(problems)) => ReloadView {
                outcome: ReloadOutcome::Refused,
                problems,
                ..ReloadView::default()
            },
        };
        asked_by.clone_into(&mut view.asked_by);
        view.at_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        match view.outcome {
            ReloadOutcome::Refused => {
                error!(
                    asked_by,
                    problems = view.problems.join("; "),
                    "the configuration is not taken over, nothing changes"
                );
            }
            ReloadOutcome::Applied => {
                info!(
                    asked_by,
                    applied = view.applied.join(" "),
                    restart = view.restart.join(" "),
                    "configuration taken over"
                );
            }
            ReloadOutcome::Unchanged if !view.restart.is_empty() => {
                warn!(
                    asked_by,
                    restart = view.restart.join(" "),
                    "what changed in the configuration needs a restart"
                );
            }
            ReloadOutcome::Unchanged => info!(asked_by, "the configuration has not changed"),
        }
        self.note(&view);
        notify.ready();
        view
    }

    async fn take_over(&self, parts: &mut Parts) -> Result<ReloadView, Refused> {
        if parts.is_over || self.stop.is_asked() {
            return Err(Refused(vec!["Remora is stopping".to_owned()]));
        }
        let loaded = self.loaded.again().map_err(|error| Refused(vec![error.to_string()]))?;
        let checked = config::check(&loaded, &self.served);
        let checked = checked.map_err(|errors| Refused(errors.iter().map(ToString::to_string).collect()))?;
        let running = self.state().running.clone();
        let changes = Changes::between(&running, &checked.config);
        if changes.live.is_empty() {
            return Ok(ReloadView {
                outcome: ReloadOutcome::Unchanged,
                restart: changes.restart,
                ..ReloadView::default()
            });
        }
        let next = running.with_live(&checked.config);
        let plans = plans(&parts.houses, &running, &next)?;
        let problems = self.apply(parts, plans, &running, &next).await;
        Ok(ReloadView {
            outcome: ReloadOutcome::Applied,
            applied: changes.live,
            restart: changes.restart,
            problems,
            ..ReloadView::default()
        })
    }

    /// Every step leaves what has not changed alone.
    async fn apply(&self, parts: &mut Parts, plans: Vec<Plan>, now: &Config, next: &Config) -> Vec<String> {
        let mut problems = Vec::new();
        let (were, are) = (facades(now), facades(next));
        for (house, plan, was, is) in zip4(&mut parts.houses, plans, &were, &are) {
            problems.extend(house.change(plan, was, is).await);
        }
        for words in &mut parts.words {
            words.say(&next.publish, &next.follow);
        }
        if now.discovery != next.discovery {
            self.catalog.configure(next.discovery.clone());
        }
        if now.mode != next.mode || now.takeover != next.takeover {
            self.catalog.set_takeover(next.mode, next.takeover.clone());
            super::takeover::note(&self.readiness, &self.catalog);
        }
        for (name, ports) in &next.protocols.0 {
            if let Some(ports) = ports.on() {
                self.catalog.set_ingress_range(name, ports.ingress_range);
            }
        }
        self.lifecycle.store(Arc::new(next.lifecycle.clone()));
        if now.call != next.call || now.lifecycle.drain_timeout != next.lifecycle.drain_timeout {
            let call = self.call.lock().await;
            if let Some(call) = &*call {
                call.configure(next.call.clone(), next.lifecycle.drain_timeout.0).await;
            }
        }
        if now.log.level != next.log.level {
            let levels = self.outside.get().and_then(|outside| outside.levels.clone());
            if let Some(levels) = levels
                && !levels.set(&next.log.level)
            {
                problems.push("log.level: the levels of this process cannot be changed any more".to_owned());
            }
        }
        let mut state = self.state();
        state.effective = state.effective.with_live(next);
        state.running = next.clone();
        problems
    }

    /// Writes down how it went, for status, metrics and health.
    fn note(&self, view: &ReloadView) {
        let wrong = (view.outcome == ReloadOutcome::Refused).then(|| view.problems.join("; "));
        self.readiness.note(
            "configuration",
            wrong.map(|why| format!("the configuration file is not in use: {why}")),
        );
        let mut state = self.state();
        for (outcome, count) in &mut state.counts {
            *count += u64::from(*outcome == view.outcome);
        }
        let keeps_waiting = match (view.outcome, &state.last) {
            // What waits for a restart still does.
            (ReloadOutcome::Refused, Some(last)) => last.restart.clone(),
            _ => view.restart.clone(),
        };
        state.last = Some(ReloadView {
            restart: keeps_waiting,
            ..view.clone()
        });
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn facades(config: &Config) -> Vec<Facades> {
    config.all_registries().into_iter().map(|entry| entry.facades).collect()
}

fn plans(houses: &[House], now: &Config, next: &Config) -> Result<Vec<Plan>, Refused> {
    let (now, next) = (facades(now), facades(next));
    let planned = houses
        .iter()
        .zip(now.iter().zip(&next))
        .map(|(house, (now, next))| house.plan(now, next));
    planned
        .collect::<Result<_, _>>()
        .map_err(|error| Refused(vec![error.to_string()]))
}

fn zip4<'a>(
    houses: &'a mut [House],
    plans: Vec<Plan>,
    now: &'a [Facades],
    next: &'a [Facades],
) -> impl Iterator<Item = (&'a mut House, Plan, &'a Facades, &'a Facades)> {
    let facades = now.iter().zip(next);
    houses
        .iter_mut()
        .zip(plans)
        .zip(facades)
        .map(|((house, plan), (now, next))| (house, plan, now, next))
}
