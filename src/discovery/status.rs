// SPDX-License-Identifier: Apache-2.0
//! What `/catalog` and `remora status` show. Plain data, names as they are shown.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use remora_registry::{Instance, RegistryState, Source, Target};
use serde::Serialize;

use super::catalog::{Catalog, List, State};
use super::hosts::own_addresses;
use super::ingress_ports::IngressRow;
use super::kept::KeptState;
use super::lease::Publication;
use super::routes::{ListId, address_of};
use super::sync::Link;

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct CatalogView {
    /// Configured registries.
    pub registries: Vec<RegistryView>,
    /// Applications at the facades, and what they publish.
    pub leases: Vec<LeaseView>,
    /// What is still to be taken out of registries.
    pub withdrawing: Vec<WithdrawalView>,
    /// Followed lists.
    pub lists: Vec<ListView>,
    /// Number of service keys with a route.
    pub routes: usize,
    /// Ingress ports.
    pub ingress: Vec<IngressRow>,
    /// Egress addresses that applications are handed.
    pub egress: Vec<EgressView>,
    /// Rules kept from applications and not applied.
    pub rules_not_applied: Vec<RuleView>,
    /// Host names that cannot be looked up.
    pub unresolved: Vec<UnresolvedView>,
}

/// A configured registry.
#[derive(Clone, Debug, Serialize)]
pub struct RegistryView {
    /// Its configured name.
    pub name: String,
    /// Plugin.
    pub kind: &'static str,
    /// What it is, without secrets.
    pub identity: String,
    /// `connecting`, `up` or `down`.
    pub state: &'static str,
    /// For how long, in seconds.
    pub for_seconds: u64,
    /// Why it is down.
    pub cause: Option<String>,
}

/// An application at a facade.
#[derive(Clone, Debug, Serialize)]
pub struct LeaseView {
    /// Number.
    pub id: u64,
    /// Its name, empty while unknown.
    pub application: String,
    /// Which facade.
    pub facade: &'static str,
    /// Which registry.
    pub registry: String,
    /// Its address.
    pub peer: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Number of lists that it follows.
    pub follows: usize,
    /// What it publishes.
    pub publishes: Vec<PublicationView>,
}

/// Something published.
#[derive(Clone, Debug, Serialize)]
pub struct PublicationView {
    /// Service key or application name.
    pub service: String,
    /// Protocol.
    pub protocol: String,
    /// The application's own port.
    pub app_port: u16,
    /// The address in the registry.
    pub published: String,
    /// `taken_over`, or why it stands as the application published it.
    pub decision: &'static str,
    /// Who holds it there: `application` (its own session), or how far Remora is that keeps it: `waiting`, `published`,
    /// `refused`, `withdrawing`, `withdrawn`.
    pub state: &'static str,
    /// Why it is not published.
    pub error: Option<String>,
}

/// Something that is no longer wanted and still to be taken out of a registry.
#[derive(Clone, Debug, Serialize)]
pub struct WithdrawalView {
    /// Registry.
    pub registry: String,
    /// List.
    pub service: String,
    /// The address in the registry.
    pub published: String,
    /// For how long, in seconds.
    pub for_seconds: u64,
    /// Why it is still there.
    pub error: Option<String>,
}

/// A followed list.
#[derive(Clone, Debug, Serialize)]
pub struct ListView {
    /// `service` or `application`.
    pub level: &'static str,
    /// Registry.
    pub registry: String,
    /// Where the registry keeps it.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Applications that follow it.
    pub followers: Vec<String>,
    /// For each of them `taken_over`, or why it is shown the list as it stands.
    pub decisions: Vec<&'static str>,
    /// `registry`, `disk`, or `unknown` while no list is known.
    pub source: &'static str,
    /// Instances that are held although the registry lost them.
    pub held: usize,
    /// Providers.
    pub providers: Vec<ProviderView>,
    /// Entries that cannot be read.
    pub malformed: Vec<String>,
}

/// A provider in a list.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderView {
    /// Service key; for an application-level entry its revision.
    pub service: String,
    /// Protocol.
    pub protocol: String,
    /// The address in the registry.
    pub address: String,
    /// Providing application.
    pub application: String,
    /// Whether a Remora published it.
    pub is_taken_over: bool,
    /// `dialled`, `shown as it is`, or why it is not dialled.
    #[serde(rename = "use")]
    pub use_: &'static str,
}

/// An egress address.
#[derive(Clone, Debug, Serialize)]
pub struct EgressView {
    /// Protocol.
    pub protocol: String,
    /// Address of this run.
    pub address: String,
}

/// A rule that is not applied.
#[derive(Clone, Debug, Serialize)]
pub struct RuleView {
    /// Registry.
    pub registry: String,
    /// `condition`, `tag`, `script`, `configurator`.
    pub kind: &'static str,
    /// Where the registry keeps it.
    pub place: String,
    /// Its text, cut.
    pub text: String,
    /// Why.
    pub why: &'static str,
}

/// A host name that cannot be looked up.
#[derive(Clone, Debug, Serialize)]
pub struct UnresolvedView {
    /// The name.
    pub host: String,
    /// The failure.
    pub cause: String,
}

/// An application at a facade, for the topology.
#[derive(Clone, Debug, Default)]
pub struct ApplicationFacts {
    /// Its name, empty while unknown.
    pub application: String,
    /// Framework and version, empty while unknown.
    pub framework: String,
    /// Which facade.
    pub facade: &'static str,
    /// Its address.
    pub peer: String,
    /// Protocols and own ports of what it publishes, one for each publication.
    pub ports: Vec<(Arc<str>, u16)>,
    /// Names of the services whose lists it follows.
    pub follows: BTreeSet<Arc<str>>,
    /// Names of the applications whose lists it follows.
    pub follows_applications: BTreeSet<Arc<str>>,
}

impl Catalog {
    /// Every application at a facade.
    pub fn application_facts(&self) -> Vec<ApplicationFacts> {
        let state = self.state();
        let facts = state.leases.iter().map(|(_, held)| {
            let mut facts = ApplicationFacts {
                application: held.info.application.clone(),
                framework: held.framework.clone(),
                facade: held.info.facade,
                peer: held.info.peer.clone(),
                ports: held
                    .publications
                    .values()
                    .map(|p| (Arc::clone(&p.protocol), p.outward.app_port))
                    .collect(),
                ..ApplicationFacts::default()
            };
            for list in held.follows.iter().filter_map(|id| state.lists.get(id)) {
                match &list.target {
                    Target::Service { .. } => facts.follows.insert(Arc::clone(list.target.name())),
                    Target::Application { .. } => facts.follows_applications.insert(Arc::clone(list.target.name())),
                };
            }
            facts
        });
        facts.collect()
    }

    /// Addresses of this machine, the published one first.
    pub fn own_hosts(&self) -> Vec<String> {
        let advertised = self.setup.advertise;
        let others = own_addresses()
            .into_iter()
            .filter(|ip| Some(*ip) != advertised && !ip.is_loopback());
        advertised.into_iter().chain(others).map(|ip| ip.to_string()).collect()
    }

    /// The state of each configured registry; cheap, for `/readyz`.
    pub fn registries(&self) -> Vec<RegistryView> {
        let state = self.state();
        let views = state.links.iter().map(|link| {
            let now = link.registry.state().borrow().clone();
            let (word, since, cause) = match now {
                RegistryState::Connecting => ("connecting", None, None),
                RegistryState::Up { since } => ("up", Some(since), None),
                RegistryState::Down { since, cause } => ("down", Some(since), Some(cause.to_string())),
            };
            RegistryView {
                name: link.name.to_string(),
                kind: link.registry.name(),
                identity: link.identity.clone(),
                state: word,
                for_seconds: since.map_or(0, |s| s.elapsed().as_secs()),
                cause,
            }
        });
        views.collect()
    }

    /// Everything, for `/catalog` and `remora status`.
    pub fn view(&self) -> CatalogView {
        let registries = self.registries();
        let ingress = self.ingress();
        let state = self.state();
        let mut lists: Vec<ListView> = state
            .lists
            .iter()
            .map(|(id, list)| self.list_view(&state, *id, list))
            .collect();
        lists.sort_by(|a, b| (a.level, &a.name, &a.registry).cmp(&(b.level, &b.name, &b.registry)));
        let protocols = self.setup.protocols.iter();
        let registry = |number: usize| state.links.get(number).map(|l| l.name.to_string()).unwrap_or_default();
        let rules = state
            .rules
            .iter()
            .flat_map(|((link, _), rules)| rules.iter().map(move |rule| (*link, rule)));
        CatalogView {
            leases: leases(&state),
            withdrawing: state.links.iter().flat_map(|link| withdrawing(link)).collect(),
            lists,
            routes: self.routes().load().len(),
            ingress,
            egress: protocols
                .filter_map(|p| {
                    Some(EgressView {
                        protocol: p.name.clone(),
                        address: self.egress.address(&p.name)?.to_string(),
                    })
                })
                .collect(),
            rules_not_applied: rules
                .map(|(link, rule)| RuleView {
                    registry: registry(link),
                    kind: rule.kind.label(),
                    place: rule.place.clone(),
                    text: rule.text.clone(),
                    why: rule.why,
                })
                .collect(),
            unresolved: state
                .hosts
                .failures()
                .map(|(host, cause)| UnresolvedView {
                    host: host.to_string(),
                    cause: cause.to_owned(),
                })
                .collect(),
            registries,
        }
    }

    fn list_view(&self, state: &State, id: ListId, list: &List) -> ListView {
        let shown = list.shown.borrow().clone();
        let (source, instances, malformed) = match &shown {
            None => ("unknown", &[][..], &[][..]),
            Some(s) if s.source == Source::Disk => ("disk", s.instances.as_slice(), s.malformed.as_slice()),
            Some(s) => ("registry", s.instances.as_slice(), s.malformed.as_slice()),
        };
        let direct = super::takeover::direct(instances, &self.spoken);
        let refused: std::collections::HashMap<usize, &'static str> = state
            .routes
            .refused(id)
            .iter()
            .map(|(i, refusal)| (address_of(i), refusal.label()))
            .collect();
        let providers = instances.iter().map(|instance| {
            let address = address_of(instance);
            let use_ = match refused.get(&address) {
                Some(reason) => reason,
                None if direct.contains(&address) => "shown as it is",
                None => "dialled",
            };
            provider(instance, use_)
        });
        ListView {
            level: match list.target {
                remora_registry::Target::Service { .. } => "service",
                remora_registry::Target::Application { .. } => "application",
            },
            registry: state
                .links
                .get(list.link)
                .map(|l| l.name.to_string())
                .unwrap_or_default(),
            namespace: list.target.namespace().to_string(),
            name: list.target.name().to_string(),
            followers: list
                .followers
                .iter()
                .filter_map(|l| state.leases.application(*l))
                .map(str::to_owned)
                .collect(),
            decisions: list
                .followers
                .iter()
                .filter_map(|lease| state.leases.iter().find(|(id, _)| *id == lease))
                .map(|(_, held)| self.why_inward(state, &held.info.application, list).label())
                .collect(),
            source,
            held: list.held,
            providers: providers.collect(),
            malformed: malformed.iter().map(|m| m.to_string()).collect(),
        }
    }
}

fn leases(state: &State) -> Vec<LeaseView> {
    let views = state.leases.iter().map(|(id, held)| LeaseView {
        id: id.0,
        application: held.info.application.clone(),
        facade: held.info.facade,
        registry: held.info.registry.to_string(),
        peer: held.info.peer.clone(),
        since: held
            .since
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
            .min(now()),
        follows: held.follows.len(),
        publishes: held.publications.values().map(publication).collect(),
    });
    views.collect()
}

fn publication(known: &Publication) -> PublicationView {
    let (state, error) = match &known.hold {
        None => ("application", None),
        Some(hold) => hold.state().map_or((WITHDRAWN, None), |(s, e)| (s.label(), e)),
    };
    PublicationView {
        service: known.what.clone(),
        protocol: known.protocol.to_string(),
        app_port: known.outward.app_port,
        published: match known.leads_here {
            true => format!("{}:{}", known.outward.host, known.outward.port),
            false => format!("{}:{}", known.outward.host, known.outward.app_port),
        },
        decision: known.why().label(),
        state,
        error: error.map(|e| e.to_string()),
    }
}

/// Nobody holds it: all was withdrawn, for good.
const WITHDRAWN: &str = "withdrawn";

fn withdrawing(link: &Link) -> Vec<WithdrawalView> {
    let rows = link
        .kept
        .rows()
        .into_iter()
        .filter(|row| row.state == KeptState::Withdrawing);
    rows.map(|row| WithdrawalView {
        registry: link.name.to_string(),
        service: row.target.to_string(),
        published: row.address,
        for_seconds: row.since.elapsed().unwrap_or_default().as_secs(),
        error: row.error.map(|e| e.to_string()),
    })
    .collect()
}

fn provider(instance: &Instance, use_: &'static str) -> ProviderView {
    let revision = || instance.revision().unwrap_or_default().to_owned();
    ProviderView {
        service: instance.key.as_ref().map_or_else(revision, ToString::to_string),
        protocol: instance.protocol.to_string(),
        address: format!("{}:{}", instance.host, instance.port),
        application: instance.params.get("application").unwrap_or_default().to_owned(),
        is_taken_over: instance.app_port().is_some(),
        use_,
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
