// SPDX-License-Identifier: Apache-2.0
//! Protection against lists that collapse: a registry that lost its data, or all sessions at once, says "nobody".
//!
//! When a list loses most of its instances within some seconds, those that are missing are held as long as they answer
//! (`probe.rs`), and for a limited time. A registry takes nodes away one by one also when it errs, so what left a moment ago
//! counts, and comes back if it answers. Withdrawals with more time between them are believed, and so is a list that is
//! replaced by another of its size; one whose address is another one by a step of the takeover did not leave. Only provider
//! lists are guarded; rules may be emptied freely.

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
    /// What was believed to be gone a moment ago, and when that was.
    left: Vec<(Instant, Arc<Instance>)>,
    /// Those of the held ones that were believed to be gone: not shown again before they have answered.
    unproven: HashSet<Arc<str>>,
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
        let present = Places::of(fresh);
        let mut left = std::mem::take(&mut self.left);
        left.retain(|(at, instance)| now < *at + MOMENT && !present.has(instance));
        let before: Vec<&Arc<Instance>> = last.iter().chain(left.iter().map(|(_, instance)| instance)).collect();
        let places_before = Places::of(before.iter().copied());
        // One that stands elsewhere by now counts there.
        let (stay, new): (Vec<_>, Vec<_>) = fresh.iter().partition(|instance| places_before.has(instance));
        let missing = before.iter().copied().filter(|instance| !present.has(instance));
        let known: HashSet<Place<'_>> = stay.into_iter().chain(missing).map(place).collect();
        let present_places = &present.listed;
        let shrank = present_places.len() * 100 < known.len() * usize::from(100 - config.max_drop_percent.min(100));
        let is_large = known.len() >= config.min_instances;
        // Sessions that an outage ended end when the registry is back, and are made anew one by one: a list of many groups and
        // versions may look well by half while one of its services has nobody.
        let short = short_services(&known, present_places, config);
        let collapsed = match is_reconnect {
            true => !short.is_empty(),
            false => shrank && (is_large || !self.held.is_empty()),
        };
        let is_concerned = collapsed || !self.held.is_empty();
        let mut replaced = by_service(new.into_iter().map(place));
        let leaving = last.iter().filter(|i| !present.has(i));
        let leaving = leaving.filter(|i| match replaced.get_mut(&i.key.as_ref()) {
            Some(number @ 1..) => {
                *number -= 1;
                false
            }
            _ => true,
        });
        let leaving = leaving.map(|instance| (now, Arc::clone(instance)));
        if !is_concerned || !config.guards(name) {
            self.let_go();
            left.extend(leaving);
            self.left = left;
            return Verdict::Believed;
        }
        // Providers come back one after the other, and each offers many services: a service is believed as soon as it has
        // most of its instances again.
        let mut held = HashSet::new();
        let mut is_held =
            |i: &Arc<Instance>| short.contains(&i.key.as_ref()) && !present.has(i) && held.insert(i.id.clone());
        let mut holding: Vec<_> = last.iter().filter(|i| is_held(i)).cloned().collect();
        let back: Vec<_> = left.iter().map(|(_, i)| i).filter(|i| is_held(i)).cloned().collect();
        self.unproven.extend(back.iter().map(|i| Arc::clone(&i.id)));
        holding.extend(back);
        // Services that kept enough so far may lose the rest in a moment.
        left.extend(leaving);
        left.retain(|(_, instance)| !held.contains(&instance.id));
        self.left = left;
        self.held = holding;
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
        let held = self
            .held
            .iter()
            .filter(|instance| !self.unproven.contains(&instance.id));
        shown.instances.extend(held.cloned());
        shown
    }

    /// Whether some are held that are not shown, since they have not answered yet.
    pub(super) fn has_unproven(&self) -> bool {
        !self.unproven.is_empty()
    }

    /// The instances that are held.
    pub(super) fn held(&self) -> &[Arc<Instance>] {
        &self.held
    }

    /// Keeps of the held ones those that answer; all go when the time is over. Says how many went.
    pub(super) fn probed(&mut self, answers: &[bool], now: Instant) -> usize {
        let before = self.held.len();
        self.unproven.clear();
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
        self.unproven.clear();
        self.until = None;
    }
}

/// The services that lost more than they may.
fn short_services<'a>(
    known: &HashSet<Place<'a>>,
    present: &HashSet<Place<'_>>,
    config: &GuardConfig,
) -> HashSet<Option<&'a ServiceKey>> {
    let keeps = usize::from(100 - config.max_drop_percent.min(100));
    let left = by_service(present.iter().copied());
    let mut services = by_service(known.iter().copied());
    services.retain(|key, before| left.get(key).copied().unwrap_or(0) * 100 < *before * keeps);
    services.into_keys().collect()
}

fn by_service<'a>(places: impl Iterator<Item = Place<'a>>) -> HashMap<Option<&'a ServiceKey>, usize> {
    let mut services = HashMap::new();
    for (_, _, key) in places {
        *services.entry(key).or_default() += 1;
    }
    services
}

/// Where the instances of a list are.
struct Places<'a> {
    listed: HashSet<Place<'a>>,
    /// Where the applications behind a Remora's ingress listen themselves.
    behind: HashSet<Place<'a>>,
}

impl<'a> Places<'a> {
    fn of(instances: impl IntoIterator<Item = &'a Arc<Instance>>) -> Self {
        let (mut listed, mut behind) = (HashSet::new(), HashSet::new());
        for instance in instances {
            listed.insert(place(instance));
            behind.extend(place_behind(instance));
        }
        Self { listed, behind }
    }

    /// Whether an instance is there, at its own port or at an ingress: a step of the takeover changes its address, and it
    /// neither comes nor goes.
    fn has(&self, instance: &Arc<Instance>) -> bool {
        let at = place(instance);
        self.listed.contains(&at)
            || self.behind.contains(&at)
            || place_behind(instance).is_some_and(|behind| self.listed.contains(&behind))
    }
}

type Place<'a> = (&'a str, u16, Option<&'a ServiceKey>);

/// Instances are the same if they offer the same at the same place: one that registers again has another name, and one
/// address offers many groups and versions.
fn place(instance: &Arc<Instance>) -> Place<'_> {
    (&instance.host, instance.port, instance.key.as_ref())
}

fn place_behind(instance: &Arc<Instance>) -> Option<Place<'_>> {
    Some((&instance.host, instance.app_port()?, instance.key.as_ref()))
}

/// Sessions that one fault ends do not end at once: ZooKeeper's clients ping every 10 s at most, so by so much do the last
/// signs of life differ that a server had of them.
const MOMENT: Duration = Duration::from_secs(10);
/// A mass withdrawal that somebody meant, of providers that go on listening, is honoured after this.
const MAX_HOLD: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
