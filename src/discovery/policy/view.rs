// SPDX-License-Identifier: Apache-2.0
//! The policy and what came of it, for `status` and metrics.

use std::collections::{BTreeMap, BTreeSet};

use remora_registry::{Instance, Why};
use serde::Serialize;

use super::apply::of_target;
use super::{Mode, Rule, Side, Subject};
use crate::discovery::catalog::{Catalog, List, State};
use crate::discovery::lease::Held;

/// What is taken over, and why the rest is not.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyView {
    /// Key `mode`.
    pub mode: &'static str,
    /// Key `takeover.side`.
    pub side: &'static str,
    /// Key `takeover.percent`.
    pub percent: u8,
    /// Since when all is rolled back, in seconds since 1970.
    pub rolled_back_since: Option<u64>,
    /// Entries of `takeover.allow`, and how much each names.
    pub allow: Vec<RuleUse>,
    /// Entries of `takeover.deny`.
    pub deny: Vec<RuleUse>,
    /// Publications (`provider`) and lists of applications (`consumer`) by decision.
    pub decisions: Vec<SideCount>,
    /// Publications that lead here in a registry, whatever is decided.
    pub leads_here: usize,
    /// Publications that are not yet what was decided.
    pub unsettled: usize,
    /// Entries that Remora keeps in a registry and nobody wants any more: still to be withdrawn, or beside their successors
    /// until consumers have heard of those.
    pub passing: usize,
    /// Nothing is to be taken over at all.
    pub is_off: bool,
    /// Applications that have their registry here, by name as far as it is known.
    pub applications: Vec<String>,
    /// Publications of the configuration: they have no session but Remora's.
    pub configured: usize,
}

/// The facade of leases that are the configuration's own words, not an application's.
pub const CONFIGURATION: &str = "config";

/// One entry of a list of the policy.
#[derive(Clone, Debug, Serialize)]
pub struct RuleUse {
    /// As it is written.
    pub rule: String,
    /// How many publications and followed lists it names now. None: nobody here publishes or follows such a thing.
    pub names: usize,
}

/// How many are decided in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SideCount {
    /// `provider` or `consumer`.
    pub side: &'static str,
    /// `taken_over`, or why not.
    pub decision: &'static str,
    /// How many.
    pub count: usize,
}

impl Catalog {
    /// The policy and what came of it.
    pub fn policy_view(&self) -> PolicyView {
        let state = self.state();
        let policy = self.policy();
        let rules = |rules: &[Rule]| rules.iter().map(|rule| self.rule_use(&state, rule)).collect();
        let decisions = self.decisions(&state);
        let is_configured = |held: &Held| held.info.facade == CONFIGURATION;
        let configured = state.leases.iter().filter(|(_, held)| is_configured(held));
        let here = state.leases.iter().filter(|(_, held)| !is_configured(held));
        // One application may have several sessions.
        let applications: BTreeSet<&str> = here.filter_map(|(id, _)| state.leases.application(*id)).collect();
        PolicyView {
            mode: policy.mode.label(),
            side: policy.takeover.side.label(),
            percent: policy.takeover.percent,
            rolled_back_since: self.steps.rolled_back_since(),
            allow: rules(&policy.takeover.allow),
            deny: rules(&policy.takeover.deny),
            decisions: decisions
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|((side, why), count)| SideCount {
                    side: side.label(),
                    decision: why.label(),
                    count,
                })
                .collect(),
            leads_here: leading(&state),
            unsettled: unsettled(&state),
            passing: state.links.iter().map(|link| link.kept.passing()).sum(),
            is_off: policy.mode == Mode::Observe || policy.rolled_back,
            applications: applications.into_iter().map(str::to_owned).collect(),
            configured: configured.map(|(_, held)| held.publications.len()).sum(),
        }
    }

    /// How many publications, and lists of applications, are decided in each way.
    pub(in crate::discovery) fn decisions(&self, state: &State) -> BTreeMap<(Side, Why), usize> {
        let sides = [Side::Provider, Side::Consumer];
        let mut counts: BTreeMap<(Side, Why), usize> = sides
            .iter()
            .flat_map(|side| Why::ALL.map(|why| ((*side, why), 0)))
            .collect();
        for (_, held) in state.leases.iter() {
            for publication in held.publications.values() {
                *counts.entry((Side::Provider, publication.why())).or_default() += 1;
            }
            for list in held.follows.iter().filter_map(|id| state.lists.get(id)) {
                let why = self.why_inward(state, &held.info.application, list);
                *counts.entry((Side::Consumer, why)).or_default() += 1;
            }
        }
        counts
    }

    /// What is decided on a list for an application: taken over if anything in it is.
    pub(in crate::discovery) fn why_inward(&self, state: &State, application: &str, list: &List) -> Why {
        let policy = self.policy();
        if policy.takes_all() {
            return Why::TakenOver;
        }
        let shown = list.shown.borrow();
        let instances = shown.iter().flat_map(|snapshot| &snapshot.instances);
        let whole = std::iter::once(None).filter(|_| shown.as_ref().is_none_or(|s| s.instances.is_empty()));
        let subjects = instances.map(|instance| Some(&**instance)).chain(whole);
        let why = |instance: Option<&Instance>| {
            let decided = self.decide_inward(&state.documents, &policy, application, &list.target, instance);
            decided.why
        };
        subjects.map(why).min().unwrap_or(Why::TakenOver)
    }

    fn rule_use(&self, state: &State, rule: &Rule) -> RuleUse {
        let mut names = 0;
        for (_, held) in state.leases.iter() {
            let application = held.info.application.as_str();
            for ((target, _), publication) in &held.publications {
                let key = publication.key.as_ref();
                names += usize::from(rule.names(&Subject {
                    side: Side::Provider,
                    service: key.map_or(target.name(), |key| &key.name),
                    group: key.map_or("", |key| &key.group),
                    application,
                    address: "",
                }));
            }
            for list in held.follows.iter().filter_map(|id| state.lists.get(id)) {
                let shown = list.shown.borrow();
                let subject = Subject {
                    side: Side::Consumer,
                    application,
                    ..of_target(&list.target)
                };
                let is_named = match shown.as_ref().filter(|snapshot| !snapshot.instances.is_empty()) {
                    None => rule.names(&subject),
                    Some(snapshot) => snapshot.instances.iter().any(|instance| match &instance.key {
                        Some(key) => rule.names(&Subject {
                            service: &key.name,
                            group: &key.group,
                            ..subject
                        }),
                        None => rule.names(&subject),
                    }),
                };
                names += usize::from(is_named);
            }
        }
        RuleUse {
            rule: rule.to_string(),
            names,
        }
    }
}

fn unsettled(state: &State) -> usize {
    let publications = state.leases.iter().flat_map(|(_, held)| held.publications.values());
    publications
        .filter(|known| match &known.hold {
            Some(hold) => !hold.is_settled(),
            None => !known.stands_as_decided(),
        })
        .count()
}

/// Publications that lead here in a registry; of those that Remora keeps there, what still stands.
pub(in crate::discovery) fn leading(state: &State) -> usize {
    let publications = state.leases.iter().flat_map(|(_, held)| held.publications.values());
    let sessions = publications.filter(|publication| publication.kept.is_none() && publication.leads_here);
    let kept: usize = state.links.iter().map(|link| link.kept.leading()).sum();
    sessions.count() + kept
}
