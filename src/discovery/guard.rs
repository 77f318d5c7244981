// SPDX-License-Identifier: Apache-2.0
//! Protection against lists that collapse: a registry that lost its data, or all sessions at once, says "nobody".
//!
//! When a list loses most of its instances at once, those that are missing are held as long as they answer (`probe.rs`),
//! and for a limited time. Withdrawals that come one by one are believed, and so is a list that is
//! replaced by another of its size. Only provider lists are guarded; rules may be emptied freely.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use remora_registry::{Instance, ServiceKey, Snapshot};
use tokio::time::Instant;

use super::config::GuardConfig;
use super::probe::Knock;

/// What one list's guard remembers.
#[derive(Default)]
pub(super) struct Guard {
    held: Vec<Arc<Instance>>,
    until: Option<Instant>,
}

/// What became of a fresh list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Believed.
    Believed,
    /// So many instances are held; they must be probed now.
    Holding(usize),
}

impl Guard {
    /// Looks at a fresh list called `name`: `last` is what was shown so far, `is_reconnect` says that the registry was away just now.
    pub(super) fn judge(
        &mut self,
        config: &GuardConfig,
        name: &str,
        last: &[Arc<Instance>],
        fresh: &[Arc<Instance>],
        is_reconnect: bool,
        now: Instant,
    ) -> Verdict {
        let present: HashSet<_> = fresh.iter().map(place).collect();
        let known: HashSet<_> = last.iter().map(place).collect();
        let shrank = present.len() * 100 < known.len() * usize::from(100 - config.max_drop_percent.min(100));
        let is_large = known.len() >= config.min_instances;
        let collapsed = shrank && (is_large || is_reconnect || !self.held.is_empty());
        let is_concerned = collapsed || !self.held.is_empty();
        if !is_concerned || !config.guards(name) {
            self.let_go();
            return Verdict::Believed;
        }
        // Providers come back one after the other, and each offers many services: a service is believed as soon as it has
        // most of its instances again.
        let short = short_services(&known, &present, config);
        let mut held = HashSet::new();
        self.held = last
            .iter()
            .filter(|i| short.contains(&i.key.as_ref()) && !present.contains(&place(i)) && held.insert(i.id.clone()))
            .cloned()
            .collect();
        if self.held.is_empty() {
            self.let_go();
            return Verdict::Believed;
        }
        let is_sure = self.held.iter().all(|instance| Knock::at(instance).is_sure(instance));
        let hold = if is_large && is_sure {
            MAX_HOLD
        } else {
            config.after_reconnect.0
        };
        self.until.get_or_insert(now + hold);
        Verdict::Holding(self.held.len())
    }

    /// The fresh list with what is held.
    pub(super) fn shown(&self, fresh: &Snapshot) -> Snapshot {
        let mut shown = fresh.clone();
        shown.instances.extend(self.held.iter().cloned());
        shown
    }

    /// The instances that are held.
    pub(super) fn held(&self) -> &[Arc<Instance>] {
        &self.held
    }

    /// Keeps of the held ones those that answer; all go when the time is over. Says how many went.
    pub(super) fn probed(&mut self, answers: &[bool], now: Instant) -> usize {
        let before = self.held.len();
        if self.until.is_some_and(|until| now >= until) {
            self.let_go();
            return before;
        }
        let mut answers = answers.iter();
        self.held.retain(|_| answers.next().copied().unwrap_or(false));
        if self.held.is_empty() {
            self.let_go();
        }
        before - self.held.len()
    }

    fn let_go(&mut self) {
        self.held.clear();
        self.until = None;
    }
}

/// The services that lost more than they may.
fn short_services<'a>(
    known: &HashSet<Place<'a>>,
    present: &HashSet<Place<'_>>,
    config: &GuardConfig,
) -> HashSet<Option<&'a ServiceKey>> {
    let mut services: HashMap<Option<&ServiceKey>, usize> = HashMap::new();
    for (_, _, key) in known {
        *services.entry(*key).or_default() += 1;
    }
    let keeps = usize::from(100 - config.max_drop_percent.min(100));
    let mut left: HashMap<Option<&ServiceKey>, usize> = HashMap::new();
    for (_, _, key) in present {
        *left.entry(*key).or_default() += 1;
    }
    services.retain(|key, before| left.get(key).copied().unwrap_or(0) * 100 < *before * keeps);
    services.into_keys().collect()
}

type Place<'a> = (&'a str, u16, Option<&'a ServiceKey>);

/// Instances are the same if they offer the same at the same place: one that registers again has another name, and one
/// address offers many groups and versions.
fn place(instance: &Arc<Instance>) -> Place<'_> {
    (&instance.host, instance.port, instance.key.as_ref())
}

/// A mass withdrawal that somebody meant, of providers that go on listening, is honoured after this.
const MAX_HOLD: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::test_support::provider;

    fn list(hosts: std::ops::Range<usize>) -> Vec<Arc<Instance>> {
        hosts.map(|n| provider(&format!("10.0.0.{n}"), 20880, "")).collect()
    }

    fn judge(guard: &mut Guard, last: &[Arc<Instance>], fresh: &[Arc<Instance>], is_reconnect: bool) -> usize {
        match guard.judge(
            &GuardConfig::default(),
            "demo.Echo",
            last,
            fresh,
            is_reconnect,
            Instant::now(),
        ) {
            Verdict::Believed => 0,
            Verdict::Holding(n) => n,
        }
    }

    #[test]
    fn a_collapse_is_held_until_most_are_back() {
        let all = list(0..10);
        let mut guard = Guard::default();
        assert_eq!(judge(&mut guard, &all, &[], false), 10);
        assert_eq!(judge(&mut guard, &all, &all[..4], false), 6);
        assert_eq!(judge(&mut guard, &all, &all[..5], false), 0);
        assert!(guard.held().is_empty());
    }

    #[test]
    fn a_small_step_and_a_replacement_are_believed() {
        let all = list(0..10);
        assert_eq!(judge(&mut Guard::default(), &all, &all[..5], false), 0);
        assert_eq!(judge(&mut Guard::default(), &all, &list(20..30), false), 0);
    }

    #[test]
    fn services_of_one_address_are_held_each_for_itself() {
        let services: Vec<_> = ["1.0.0", "2.0.0", "3.0.0", "4.0.0"]
            .iter()
            .map(|version| {
                let mut instance = (*provider("10.0.0.1", 20880, "")).clone();
                instance.id = (*version).into();
                instance.key = Some(ServiceKey::new("demo.Echo", "", version));
                Arc::new(instance)
            })
            .collect();
        let mut guard = Guard::default();
        assert_eq!(judge(&mut guard, &services, &[], true), 4);
        assert_eq!(judge(&mut guard, &services, &services[..1], true), 3);
        assert_eq!(judge(&mut guard, &services, &services[..3], true), 1);
        assert_eq!(judge(&mut guard, &services, &services, true), 0);
    }

    #[test]
    fn withdrawals_one_by_one_are_believed_down_to_nothing() {
        let all = list(0..10);
        let mut guard = Guard::default();
        for left in (0..10).rev() {
            assert_eq!(judge(&mut guard, &all[..=left], &all[..left], false), 0, "{left} left");
        }
    }

    #[test]
    fn a_service_that_is_excepted_is_believed() {
        let all = list(0..10);
        let config = GuardConfig {
            off_for: vec!["demo.Other".into(), "com.example.*".into()],
            ..GuardConfig::default()
        };
        for (name, is_held) in [
            ("demo.Other", false),
            ("com.example.Echo", false),
            ("demo.OtherOne", true),
        ] {
            let verdict = Guard::default().judge(&config, name, &all, &[], true, Instant::now());
            assert_eq!(verdict != Verdict::Believed, is_held, "{name}");
        }
    }

    #[test]
    fn the_last_one_is_held_only_after_a_reconnect() {
        let one = list(0..1);
        assert_eq!(judge(&mut Guard::default(), &one, &[], false), 0);
        assert_eq!(judge(&mut Guard::default(), &one, &[], true), 1);
    }

    #[test]
    fn what_does_not_answer_goes_and_the_rest_goes_in_time() {
        let all = list(0..4);
        let now = Instant::now();
        let mut guard = Guard::default();
        assert_eq!(judge(&mut guard, &all, &[], false), 4);
        assert_eq!(guard.probed(&[true, false, true, false], now), 2);
        assert_eq!(guard.held(), &[Arc::clone(&all[0]), Arc::clone(&all[2])]);
        assert_eq!(guard.probed(&[true, true], now + MAX_HOLD + Duration::from_secs(1)), 2);
    }

    #[test]
    fn a_provider_that_registers_again_is_not_held_twice() {
        let all = list(0..4);
        let mut guard = Guard::default();
        assert_eq!(judge(&mut guard, &all, &[], false), 4);
        let again = [provider("10.0.0.0", 20880, "timestamp=2")];
        assert_eq!(judge(&mut guard, &all, &again, false), 3);
    }
}
