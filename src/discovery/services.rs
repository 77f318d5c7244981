// SPDX-License-Identifier: Apache-2.0
//! Service by service, for `/services`: what stands in the registry, what applications here are shown instead, what of it is
//! taken over and why, and which rules do not work.
//!
//! A page at a time: of all services only the names are looked at, and the rest is made for those of the page.

use std::collections::BTreeMap;
use std::sync::Arc;

use remora_registry::{Client, Instance, RuleKind, Source, Target, UnappliedRule};

use super::catalog::{Catalog, List, State};
use super::lease::{Held, Publication};
use super::routes::{ListId, address_of};
use super::takeover;

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

/// A page of services.
#[derive(Clone, Debug, Default)]
pub struct ServicesView {
    /// The page, by name.
    pub services: Vec<ServiceView>,
    /// How many there are that fit.
    pub total: usize,
}

/// One service, or one application of an application-level registry.
#[derive(Clone, Debug, Default)]
pub struct ServiceView {
    /// `service` or `application`.
    pub level: &'static str,
    /// Its name.
    pub name: String,
    /// What applications here publish of it.
    pub publishes: Vec<PublishedView>,
    /// Its lists: one for each registry and place where somebody follows it.
    pub lists: Vec<FollowedView>,
    /// Rules on it that do not work.
    pub rules: Vec<ServiceRule>,
}

/// Something that an application publishes.
#[derive(Clone, Debug, Default)]
pub struct PublishedView {
    /// Who.
    pub application: String,
    /// Service key, or the application's name.
    pub service: String,
    /// Protocol.
    pub protocol: String,
    /// Where it listens, as others would dial it.
    pub own: String,
    /// What stands in the registry; empty when it was withdrawn.
    pub in_registry: String,
    /// Word for what is decided.
    pub decision: &'static str,
    /// The same for people.
    pub why: String,
    /// Whether the registry has what is decided; a change is on its way otherwise.
    pub is_settled: bool,
}

/// One followed list.
#[derive(Clone, Debug, Default)]
pub struct FollowedView {
    /// Registry.
    pub registry: String,
    /// Where the registry keeps it.
    pub namespace: String,
    /// `registry`, `disk`, or `unknown` while no list is known.
    pub source: &'static str,
    /// Instances that are held although the registry lost them.
    pub held: usize,
    /// Entries of the registry.
    pub real: Vec<RealView>,
    /// Entries that are left out of `real` because there are too many.
    pub real_left_out: usize,
    /// What each application that follows it is handed.
    pub followers: Vec<FollowerView>,
}

/// An entry as the registry has it.
#[derive(Clone, Debug, Default)]
pub struct RealView {
    /// Service key; for an application-level entry its revision.
    pub service: String,
    /// Protocol.
    pub protocol: String,
    /// Address.
    pub address: String,
    /// Providing application.
    pub application: String,
    /// Framework and version.
    pub framework: String,
    /// Another Remora, or this one, published it.
    pub is_taken_over: bool,
    /// `dialled`, `shown as it is`, or why it is not dialled.
    pub use_: &'static str,
}

/// What an application is handed.
#[derive(Clone, Debug, Default)]
pub struct FollowerView {
    /// Who; its address while its name is not known.
    pub application: String,
    /// Word for what is decided.
    pub decision: &'static str,
    /// The same for people.
    pub why: String,
    /// Entries, as a Java application gets them.
    pub handed_out: Vec<String>,
}

/// A rule that does not work.
#[derive(Clone, Debug, Default)]
pub struct ServiceRule {
    /// `condition`, `tag`, `script`, `configurator`, `mesh`.
    pub kind: &'static str,
    /// What it is about, such as `service demo.Echo:1.0.0` or `application shop`.
    pub about: String,
    /// Where the registry keeps it.
    pub place: String,
    /// Its text, cut.
    pub text: String,
    /// Why it does not work.
    pub why: &'static str,
    /// What follows for calls.
    pub consequence: &'static str,
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
            total,
        }
    }

    fn service(&self, state: &State, level: &'static str, name: &str, found: Found<'_>) -> ServiceView {
        let published = found
            .publications
            .iter()
            .map(|(held, _, publication)| published(held, publication));
        let mut lists: Vec<FollowedView> = found
            .lists
            .iter()
            .map(|(id, list)| self.followed(state, *id, list))
            .collect();
        lists.sort_by(|a, b| (&a.registry, &a.namespace).cmp(&(&b.registry, &b.namespace)));
        let rules = state.rules.values().flatten();
        ServiceView {
            level,
            name: name.to_owned(),
            publishes: published.collect(),
            lists,
            rules: rules
                .map(rule)
                .filter(|rule| is_about(&rule.about, level, name))
                .collect(),
        }
    }

    fn followed(&self, state: &State, id: ListId, list: &List) -> FollowedView {
        let shown = list.shown.borrow().clone();
        let policy = self.policy();
        let (source, instances) = match &shown {
            None => ("unknown", &[][..]),
            Some(s) if s.source == Source::Disk => ("disk", s.instances.as_slice()),
            Some(s) => ("registry", s.instances.as_slice()),
        };
        let direct = takeover::direct(instances, &self.spoken);
        let refused = state.routes.refused(id);
        let use_of = |instance: &Arc<Instance>| match refused.iter().find(|(i, _)| Arc::ptr_eq(i, instance)) {
            Some((_, refusal)) => refusal.label(),
            None if direct.contains(&address_of(instance)) => "shown as it is",
            None => "dialled",
        };
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
                decision: why.label(),
                why: why.to_string(),
                handed_out: entries.take(SHOWN_OF_ONE).map(|entry| handed(&entry)).collect(),
            })
        });
        FollowedView {
            registry: state
                .links
                .get(list.link)
                .map(|l| l.name.to_string())
                .unwrap_or_default(),
            namespace: list.target.namespace().to_string(),
            source,
            held: list.held,
            real: instances
                .iter()
                .take(SHOWN_OF_ONE)
                .map(|i| real(i, use_of(i)))
                .collect(),
            real_left_out: instances.len().saturating_sub(SHOWN_OF_ONE),
            followers: followers.take(SHOWN_OF_ONE).collect(),
        }
    }

    /// Every rule that does not work, with what it is about and what follows.
    pub fn rules_without_effect(&self) -> Vec<ServiceRule> {
        self.state().rules.values().flatten().map(rule).collect()
    }
}

fn level(target: &Target) -> &'static str {
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

fn published(held: &Held, publication: &Publication) -> PublishedView {
    let outward = &publication.outward;
    let ours = format!("{}:{}", outward.host, outward.port);
    let own = format!("{}:{}", outward.host, outward.app_port);
    let (is_withdrawn, why) = (publication.is_withdrawn(), publication.why());
    PublishedView {
        application: held.info.application.clone(),
        service: publication.what.clone(),
        protocol: publication.protocol.to_string(),
        in_registry: match (is_withdrawn, publication.leads_here) {
            (true, _) => String::new(),
            (false, true) => ours,
            (false, false) => own.clone(),
        },
        own,
        decision: why.label(),
        why: why.to_string(),
        is_settled: is_withdrawn || publication.leads_here == publication.decision.taken,
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
        use_,
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

fn rule(known: &UnappliedRule) -> ServiceRule {
    ServiceRule {
        kind: known.kind.label(),
        about: remora_naming::rules::subject(&known.place),
        place: known.place.clone(),
        text: known.text.clone(),
        why: known.why,
        consequence: consequence(known.kind),
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
