// SPDX-License-Identifier: Apache-2.0
//! Service by service, for `/services`: what stands in the registry, what applications here are shown instead, what of it is
//! taken over and why, and which rules do not work.
//!
//! A page at a time: of all services only the names are looked at, and the rest is made for those of the page.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use remora_registry::{Client, Instance, RuleKind, Snapshot, Source, Target, UnappliedRule};

use super::catalog::{Catalog, List, State};
use super::lease::{Held, Publication};
use super::routes::{ListId, address_of};
use super::takeover;
use crate::views::{
    FollowerView, RealView, RuleView, ServiceListView, ServicePublishedView, ServiceView, ServicesView,
};

/// Which services are asked for.
#[derive(Clone, Debug, Default)]
pub struct ServiceQuery {
    /// Only those whose name has this text in it.
    pub service: Option<String>,
    /// Only those that this application publishes, provides or follows.
    pub application: Option<String>,
    /// The first so many are left out.
    pub offset: usize,
    /// At most so many.
    pub limit: usize,
}

/// What of a service is known.
#[derive(Default)]
struct Found<'a> {
    publications: Vec<(&'a Held, &'a Target, &'a Publication)>,
    lists: Vec<(ListId, &'a List)>,
}

impl Catalog {
    /// A page of services.
    pub fn services(&self, query: &ServiceQuery) -> ServicesView {
        let state = self.state();
        let mut found: BTreeMap<(&'static str, &str), Found<'_>> = BTreeMap::new();
        for (_, held) in state.leases.iter() {
            for ((target, _), publication) in &held.publications {
                let entry = found.entry((level(target), target.name())).or_default();
                entry.publications.push((held, target, publication));
            }
        }
        for (id, list) in &state.lists {
            let entry = found.entry((level(&list.target), list.target.name())).or_default();
            entry.lists.push((*id, list));
        }
        found.retain(|(_, name), found| {
            query.service.as_ref().is_none_or(|text| name.contains(text.as_str()))
                && query
                    .application
                    .as_ref()
                    .is_none_or(|asked| concerns(&state, name, found, asked))
        });
        let total = found.len();
        let page = found.into_iter().skip(query.offset).take(query.limit);
        let services = page.map(|((level, name), found)| self.service(&state, level, name, found));
        ServicesView {
            services: services.collect(),
            total: total as u64,
            offset: query.offset as u64,
        }
    }

    fn service(&self, state: &State, level: &'static str, name: &str, found: Found<'_>) -> ServiceView {
        let published = found
            .publications
            .iter()
            .map(|(held, _, publication)| published(held, publication));
        let mut lists: Vec<ServiceListView> = found
            .lists
            .iter()
            .map(|(id, list)| self.followed(state, *id, list))
            .collect();
        lists.sort_by(|a, b| (&a.registry, &a.namespace).cmp(&(&b.registry, &b.namespace)));
        let rules = state.rules.values().flatten();
        ServiceView {
            level: level.to_owned(),
            name: name.to_owned(),
            publishes: published.collect(),
            lists,
            rules_not_applied: rules
                .map(rule)
                .filter(|rule| is_about(&rule.about, level, name))
                .collect(),
        }
    }

    fn followed(&self, state: &State, id: ListId, list: &List) -> ServiceListView {
        let shown = list.shown.borrow().clone();
        let policy = self.policy();
        let instances = instances_of(&shown);
        let uses = self.uses(state, id, instances);
        let followers = list.followers.iter().filter_map(|lease| {
            let held = state.leases.get(*lease)?;
            let application = held.info.application.as_str();
            let is_taken = |instance: &Arc<Instance>| {
                let (documents, target) = (&state.documents, &list.target);
                self.decide_inward(documents, &policy, application, target, Some(&**instance))
                    .taken
            };
            let entries = shown
                .iter()
                .flat_map(|snapshot| takeover::inward(snapshot, Client::Java, &self.egress, &self.spoken, &is_taken));
            let why = self.why_inward(state, application, list);
            Some(FollowerView {
                application: state.leases.application(*lease).unwrap_or_default().to_owned(),
                decision: why.label().to_owned(),
                why: why.to_string(),
                handed_out: entries.take(SHOWN_OF_ONE).map(|entry| handed(&entry)).collect(),
            })
        });
        ServiceListView {
            registry: state.registry_of(list),
            namespace: list.target.namespace().to_string(),
            source: source_of(&shown).to_owned(),
            held: list.held as u64,
            real: instances
                .iter()
                .take(SHOWN_OF_ONE)
                .map(|i| real(i, uses.of(i)))
                .collect(),
            real_left_out: instances.len().saturating_sub(SHOWN_OF_ONE) as u64,
            followers: followers.take(SHOWN_OF_ONE).collect(),
        }
    }

    /// Every rule that does not work, with what it is about and what follows.
    pub fn rules_without_effect(&self) -> Vec<RuleView> {
        self.state().rules.values().flatten().map(rule).collect()
    }

    /// What is done with the entries of a list.
    pub(super) fn uses(&self, state: &State, id: ListId, instances: &[Arc<Instance>]) -> Uses {
        let refused = state.routes.refused(id).iter();
        Uses {
            direct: takeover::direct(instances, &self.spoken),
            refused: refused.map(|(i, refusal)| (address_of(i), refusal.label())).collect(),
        }
    }
}

/// What is done with the entries of a list, by where they stand in memory.
pub(super) struct Uses {
    direct: HashSet<usize>,
    refused: HashMap<usize, &'static str>,
}

impl Uses {
    /// `dialled`, `shown as it is`, or why it is not dialled.
    pub(super) fn of(&self, instance: &Arc<Instance>) -> &'static str {
        let address = address_of(instance);
        match self.refused(instance) {
            Some(why) => why,
            None if self.direct.contains(&address) => "shown as it is",
            None => "dialled",
        }
    }

    /// Why an entry is not dialled.
    pub(super) fn refused(&self, instance: &Arc<Instance>) -> Option<&'static str> {
        self.refused.get(&address_of(instance)).copied()
    }
}

/// Where a list is from: `registry`, `disk`, or `unknown` while there is none.
pub(super) fn source_of(shown: &Option<Arc<Snapshot>>) -> &'static str {
    match shown.as_ref().map(|snapshot| snapshot.source) {
        None => "unknown",
        Some(Source::Disk) => "disk",
        Some(Source::Registry) => "registry",
    }
}

pub(super) fn instances_of(shown: &Option<Arc<Snapshot>>) -> &[Arc<Instance>] {
    shown
        .as_ref()
        .map(|snapshot| snapshot.instances.as_slice())
        .unwrap_or_default()
}

pub(super) fn level(target: &Target) -> &'static str {
    match target {
        Target::Service { .. } => "service",
        Target::Application { .. } => "application",
    }
}

fn concerns(state: &State, name: &str, found: &Found<'_>, asked: &str) -> bool {
    let provides = |instance: &Arc<Instance>| application_of(instance) == asked;
    name == asked
        || found
            .publications
            .iter()
            .any(|(held, ..)| held.info.application == asked)
        || found.lists.iter().any(|(_, list)| {
            let mut followers = list
                .followers
                .iter()
                .filter_map(|lease| state.leases.application(*lease));
            followers.any(|follower| follower == asked)
                || list.shown.borrow().iter().flat_map(|s| &s.instances).any(provides)
        })
}

fn published(held: &Held, publication: &Publication) -> ServicePublishedView {
    let outward = &publication.outward;
    let ours = format!("{}:{}", outward.host, outward.port);
    let own = format!("{}:{}", outward.host, outward.app_port);
    let (is_withdrawn, why) = (publication.is_withdrawn(), publication.why());
    ServicePublishedView {
        application: held.info.application.clone(),
        service: publication.what.clone(),
        protocol: publication.protocol.to_string(),
        in_registry: match (is_withdrawn, publication.leads_here) {
            (true, _) => String::new(),
            (false, true) => ours,
            (false, false) => own.clone(),
        },
        own,
        decision: why.label().to_owned(),
        why: why.to_string(),
        is_settled: is_withdrawn || publication.stands_as_decided(),
    }
}

fn real(instance: &Instance, use_: &'static str) -> RealView {
    let revision = || instance.revision().unwrap_or_default().to_owned();
    RealView {
        service: instance.key.as_ref().map_or_else(revision, ToString::to_string),
        protocol: instance.protocol.to_string(),
        address: format!("{}:{}", instance.host, instance.port),
        application: application_of(instance).to_owned(),
        framework: remora_naming::framework(&instance.params).unwrap_or_default(),
        is_taken_over: instance.app_port().is_some(),
        use_: use_.to_owned(),
    }
}

fn application_of(instance: &Instance) -> &str {
    let params = &instance.params;
    let named = params.get("application").or_else(|| params.get("appName"));
    named.unwrap_or_default()
}

fn handed(entry: &Instance) -> String {
    let address = format!("{}://{}:{}", entry.protocol, entry.host, entry.port);
    match &entry.key {
        Some(key) => format!("{address}/{key}"),
        None => address,
    }
}

fn rule(known: &UnappliedRule) -> RuleView {
    RuleView {
        kind: known.kind.label().to_owned(),
        about: remora_naming::rules::subject(&known.place),
        place: known.place.clone(),
        text: known.text.clone(),
        why: known.why.to_owned(),
        consequence: consequence(known.kind).to_owned(),
    }
}

/// What an operator will see of it.
fn consequence(kind: RuleKind) -> &'static str {
    match kind {
        RuleKind::Condition => "calls also go to providers that it would leave out",
        RuleKind::Tag => "calls with its tags go to any provider, not to the tagged addresses",
        RuleKind::Script => "the script does not run: calls go to all providers",
        RuleKind::Configurator => "what it sets does not reach the addresses that it names",
        RuleKind::Mesh => "its subsets are not told apart: calls go to all providers, or to none where it must match",
    }
}

/// Whether a rule's subject is this service or application.
fn is_about(about: &str, level: &str, name: &str) -> bool {
    let Some(subject) = about.strip_prefix(level).map(str::trim_start) else {
        return false;
    };
    let service = subject.rsplit('/').next().unwrap_or(subject);
    service.split(':').next() == Some(name)
}

/// Entries of one list that are shown.
const SHOWN_OF_ONE: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_belongs_to_its_service_whatever_the_version() {
        for (about, level, name, expected) in [
            ("service demo.Echo", "service", "demo.Echo", true),
            ("service demo.Echo:1.0.0", "service", "demo.Echo", true),
            ("service blue/demo.Echo:1.0.0", "service", "demo.Echo", true),
            ("service demo.EchoMore", "service", "demo.Echo", false),
            ("application shop", "application", "shop", true),
            ("application shop", "service", "shop", false),
            ("everything", "service", "demo.Echo", false),
        ] {
            assert_eq!(is_about(about, level, name), expected, "{about}");
        }
    }
}
