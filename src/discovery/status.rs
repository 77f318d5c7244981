// SPDX-License-Identifier: Apache-2.0
//! What `/catalog` and `remora status` show of what discovery knows, and who is here for the topology.

use std::collections::BTreeSet;
use std::sync::Arc;

use remora_registry::{RegistryState, Snapshot, Target};

use super::catalog::{Catalog, List, State};
use super::hosts::own_addresses;
use super::ingress_ports::IngressRow;
use super::kept::KeptState;
use super::lease::Publication;
use super::services::{instances_of, level, source_of};
use super::sync::Link;
use crate::views::{LeaseView, ListView, OddView, PublishedView, WithdrawalView};

/// Everything.
#[derive(Clone, Debug)]
pub struct CatalogView {
    /// Configured registries.
    pub registries: Vec<RegistryView>,
    /// Applications at the facades, and what they publish.
    pub leases: Vec<LeaseView>,
    /// What is still to be taken out of registries.
    pub withdrawing: Vec<WithdrawalView>,
    /// Followed lists.
    pub lists: Vec<ListView>,
    /// Entries of them that cannot be read.
    pub malformed: Vec<OddView>,
    /// Entries of them that are never dialled.
    pub refused: Vec<OddView>,
    /// Host names that cannot be looked up.
    pub unresolved: Vec<OddView>,
    /// Ingress ports.
    pub ingress: Vec<IngressRow>,
    /// Egress addresses that applications are handed.
    pub egress: Vec<EgressView>,
}

/// A configured registry.
#[derive(Clone, Debug)]
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

/// An egress address.
#[derive(Clone, Debug)]
pub struct EgressView {
    /// Protocol.
    pub protocol: String,
    /// Address of this run.
    pub address: String,
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
    /// Services that it provides, with their protocols and own ports.
    pub provides: Vec<(String, Arc<str>, u16)>,
    /// Names of the services whose lists it follows.
    pub follows: BTreeSet<Arc<str>>,
    /// Names of the applications whose lists it follows.
    pub follows_applications: BTreeSet<Arc<str>>,
}

/// Of a publication that is one service.
fn provided(known: &Publication) -> Option<(String, Arc<str>, u16)> {
    let key = known.key.as_ref()?;
    Some((key.to_string(), Arc::clone(&known.protocol), known.outward.app_port))
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
                provides: held.publications.values().filter_map(provided).collect(),
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
        let mut lists = Vec::new();
        let (mut malformed, mut refused) = (Vec::new(), Vec::new());
        for (id, list) in &state.lists {
            let shown = list.shown.borrow().clone();
            lists.push(list_view(&state, list, &shown));
            let name = list.target.name();
            let odd = |entry: String, why: &str| OddView {
                list: name.to_string(),
                entry,
                why: why.to_owned(),
            };
            let unread = shown.iter().flat_map(|snapshot| &snapshot.malformed);
            malformed.extend(unread.map(|entry| odd(entry.to_string(), "cannot be read")));
            let instances = instances_of(&shown);
            let uses = self.uses(&state, *id, instances);
            refused.extend(instances.iter().filter_map(|instance| {
                let why = uses.refused(instance)?;
                let (protocol, host, port) = (&instance.protocol, &instance.host, instance.port);
                Some(odd(format!("{protocol}://{host}:{port}"), why))
            }));
        }
        lists.sort_by(|a, b| (&a.level, &a.name, &a.registry).cmp(&(&b.level, &b.name, &b.registry)));
        malformed.sort_by(|a, b| a.list.cmp(&b.list));
        refused.sort_by(|a, b| a.list.cmp(&b.list));
        let protocols = self.setup.protocols.iter();
        let unresolved = state.hosts.failures().map(|(host, cause)| OddView {
            list: "any".to_owned(),
            entry: host.to_string(),
            why: format!("cannot be looked up: {cause}"),
        });
        CatalogView {
            leases: leases(&state),
            withdrawing: state.links.iter().flat_map(|link| withdrawing(link)).collect(),
            lists,
            malformed,
            refused,
            unresolved: unresolved.collect(),
            ingress,
            egress: protocols
                .filter_map(|p| {
                    Some(EgressView {
                        protocol: p.name.clone(),
                        address: self.egress.address(&p.name)?.to_string(),
                    })
                })
                .collect(),
            registries,
        }
    }
}

impl State {
    /// Name of the registry that a list is in.
    pub(super) fn registry_of(&self, list: &List) -> String {
        let link = self.links.get(list.link);
        link.map(|link| link.name.to_string()).unwrap_or_default()
    }
}

fn list_view(state: &State, list: &List, shown: &Option<Arc<Snapshot>>) -> ListView {
    let instances = instances_of(shown);
    let followers = list.followers.iter().filter_map(|l| state.leases.application(*l));
    ListView {
        level: level(&list.target).to_owned(),
        registry: state.registry_of(list),
        name: list.target.name().to_string(),
        followers: followers.map(str::to_owned).collect(),
        source: source_of(shown).to_owned(),
        providers: instances.len() as u64,
        taken_over: instances.iter().filter(|i| i.app_port().is_some()).count() as u64,
        held: list.held as u64,
    }
}

fn leases(state: &State) -> Vec<LeaseView> {
    let views = state.leases.iter().map(|(_, held)| LeaseView {
        application: held.info.application.clone(),
        facade: held.info.facade.to_owned(),
        registry: held.info.registry.to_string(),
        peer: held.info.peer.clone(),
        follows: held.follows.len() as u64,
        publishes: held.publications.values().map(publication).collect(),
    });
    views.collect()
}

fn publication(known: &Publication) -> PublishedView {
    let (state, error) = match &known.hold {
        None => ("application", None),
        Some(hold) => hold.state().map_or((WITHDRAWN, None), |(s, e)| (s.label(), e)),
    };
    let outward = &known.outward;
    PublishedView {
        service: known.what.clone(),
        protocol: known.protocol.to_string(),
        own: format!("127.0.0.1:{}", outward.app_port),
        published: match known.leads_here {
            true => format!("{}:{}", outward.host, outward.port),
            false => format!("{}:{}", outward.host, outward.app_port),
        },
        state: state.to_owned(),
        error: error.map(|e| e.to_string()).unwrap_or_default(),
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
        list: row.target.to_string(),
        published: row.address,
        for_s: row.since.elapsed().unwrap_or_default().as_secs(),
        error: row.error.map(|e| e.to_string()).unwrap_or_default(),
    })
    .collect()
}
