// SPDX-License-Identifier: Apache-2.0
//! What takeover would do with lists that somebody else read: the decisions of `takeover.rs`, `merge.rs` and `endpoint.rs`,
//! without opening a port, publishing or following anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use remora_registry::{Client, Instance, Params, PublishError, ServiceKey, Snapshot, Target, Why};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::config::Setup;
use super::egress::Egress;
use super::endpoint::{self, Policy};
use super::hosts::{Hosts, resolve};
use super::merge;
use super::policy::{self, Rule, Sides, Subject};
use super::routes::address_of;
use super::takeover::{self, Own};

/// The settings of a Remora that may run somewhere.
pub struct Forecast {
    setup: Setup,
    egress: Egress,
    spoken: Vec<Arc<str>>,
    policy: Policy,
    takeover: policy::Policy,
    hosts: Hosts,
}

/// A consumer, as far as decisions on its lists go.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// Its application.
    pub application: &'a str,
    /// Its machine; `None` for one that would be in any share but none.
    pub host: Option<&'a str>,
}

/// An application's address, as a Remora beside it would publish it; the port is its ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Host to publish.
    pub host: String,
    /// The port that the application listens on.
    pub app_port: u16,
}

/// Providers that consumers would be shown as one.
pub struct Merged {
    /// Those behind it.
    pub members: Vec<Arc<Instance>>,
    /// What is shown.
    pub shown: Instance,
}

/// A parameter on which the members of one shown provider differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub name: String,
    /// What they say, without repetition; empty for those that say nothing.
    pub said: BTreeSet<String>,
    /// What consumers would be shown; `None`: nothing.
    pub shown: Option<String>,
    /// Whether consumers take a default of theirs from it.
    pub sets_default: bool,
}

impl Forecast {
    /// Of a Remora with these settings.
    pub fn new(setup: Setup, egress: Egress) -> Self {
        let spoken: Vec<Arc<str>> = setup.protocols.iter().map(|p| p.name.as_str().into()).collect();
        let policy = Policy {
            spoken: spoken.clone(),
            allows_loopback: setup.advertise.is_some_and(|ip| ip.is_loopback()),
            ..Policy::default()
        };
        // What `takeover` says, also while `mode` still holds it back.
        let takeover = policy::Policy::new(policy::Mode::Takeover, setup.takeover.clone(), false);
        Self {
            takeover,
            setup,
            egress,
            spoken,
            policy,
            hosts: Hosts::default(),
        }
    }

    /// Its settings.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Whether calls to this protocol go through it.
    pub fn speaks(&self, protocol: &str) -> bool {
        self.policy.speaks(protocol)
    }

    /// What a Remora beside the application would publish. A host that other machines cannot dial stays: only that machine
    /// knows its own. `offers` is what an application's entry stands for, as far as it is known.
    ///
    /// # Errors
    /// When it would be passed on unchanged.
    pub fn outward(
        &self,
        target: &Target,
        instance: &Instance,
        application: &str,
        offers: &[ServiceKey],
    ) -> Result<Published, PublishError> {
        let Own { host, app_port } = takeover::outward(&self.setup, Vec::new, instance)?;
        let address = format!("{host}:{app_port}");
        let subject = Subject {
            side: policy::Side::Provider,
            address: &address,
            application,
            ..policy::of_instance(target, instance)
        };
        let decision = self.takeover.decide_entry(&subject, offers);
        match decision.taken {
            true => Ok(Published { host, app_port }),
            false => Err(PublishError::NotTaken { why: decision.why }),
        }
    }

    /// Why a consumer would be shown an instance as it is although it could be taken over; `None` if it would be.
    pub fn left(&self, target: &Target, instance: &Instance, reader: Reader<'_>, offers: &[ServiceKey]) -> Option<Why> {
        let subject = Subject {
            side: policy::Side::Consumer,
            address: reader.host.unwrap_or_default(),
            application: reader.application,
            ..policy::of_instance(target, instance)
        };
        let decision = match reader.host {
            Some(_) => self.takeover.decide_entry(&subject, offers),
            None => self.takeover.in_any_share().decide_entry(&subject, offers),
        };
        (!decision.taken).then_some(decision.why)
    }

    /// Entries of `takeover.allow` and `takeover.deny`, with their keys, that name none of these instances, what they stand
    /// for, and applications that publish or follow them.
    pub fn naming_nothing<'i>(
        &self,
        all: impl Iterator<Item = (&'i Target, &'i Instance, &'i str)> + Clone,
        offers: &dyn Fn(&'i Target, &'i Instance) -> &'i [ServiceKey],
    ) -> Vec<(String, Rule)> {
        let takeover = &self.setup.takeover;
        let rules = [("allow", &takeover.allow), ("deny", &takeover.deny)];
        let keyed = rules.into_iter().flat_map(|(key, rules)| {
            let numbered = rules.iter().enumerate();
            numbered.map(move |(at, rule)| (format!("takeover.{key}[{at}]"), rule))
        });
        let names_nothing = |rule: &Rule| {
            // Whichever side it is for: the names are the question.
            let rule = Rule {
                side: None::<Sides>,
                ..rule.clone()
            };
            !all.clone().any(|(target, instance, application)| {
                let whole = Subject {
                    side: policy::Side::Provider,
                    address: "",
                    application,
                    ..policy::of_instance(target, instance)
                };
                let service = |key: &'i ServiceKey| Subject {
                    service: &key.name,
                    group: &key.group,
                    ..whole
                };
                let mut offered = offers(target, instance).iter().map(service);
                rule.names(&whole) || offered.any(|service| rule.names(&service))
            })
        };
        let found = keyed.filter(|(_, rule)| names_nothing(rule));
        found.map(|(key, rule)| (key, rule.clone())).collect()
    }

    /// The list that a consumer would be shown for whom these are taken over.
    pub fn inward(
        &self,
        snapshot: &Snapshot,
        client: Client,
        is_taken: &dyn Fn(&Arc<Instance>) -> bool,
    ) -> Vec<Instance> {
        takeover::inward(snapshot, client, &self.egress, &self.spoken, is_taken)
    }

    /// For each instance whether consumers would be shown it as it is.
    pub fn stay(&self, snapshot: &Snapshot) -> Vec<bool> {
        let direct = takeover::direct(&snapshot.instances, &self.spoken);
        let stays = |instance: &Arc<Instance>| direct.contains(&address_of(instance));
        snapshot.instances.iter().map(stays).collect()
    }

    /// The providers of a service list that would be shown as one, group for group. None of an application's list.
    pub fn merged(
        &self,
        snapshot: &Snapshot,
        client: Client,
        is_taken: &dyn Fn(&Arc<Instance>) -> bool,
    ) -> Vec<Merged> {
        let Target::Service { .. } = &snapshot.target else {
            return Vec::new();
        };
        let groups = takeover::groups(snapshot, &self.spoken, is_taken);
        let merged = groups.into_iter().filter_map(|group| {
            let (host, port) = self.egress.shown(&group.first()?.protocol, client)?;
            Some(Merged {
                shown: merge::virtual_provider(&group, &host, port)?,
                members: group.into_iter().cloned().collect(),
            })
        });
        merged.collect()
    }

    /// Looks names up, all at once; those that take longer than `limit` count as unknown.
    pub async fn resolve(&mut self, names: BTreeSet<Arc<str>>, limit: Duration) {
        let mut running = JoinSet::new();
        let mut names = names.into_iter();
        loop {
            while running.len() < LOOKUPS {
                let Some(name) = names.next() else { break };
                self.hosts.lookup(&name);
                running.spawn(async move {
                    let answer = timeout(limit, resolve(&name)).await;
                    (name, answer.unwrap_or_else(|_| Err("no answer in time".to_owned())))
                });
            }
            let Some(done) = running.join_next().await else { break };
            if let Ok((name, answer)) = done {
                self.hosts.answer(&name, answer);
            }
        }
    }

    /// Why a name is unknown.
    pub fn failure(&self, name: &str) -> Option<&str> {
        let mut failures = self.hosts.failures();
        failures.find(|(failed, _)| &***failed == name).map(|(_, why)| why)
    }

    /// The address that would be dialled for an instance somewhere in the shop.
    ///
    /// # Errors
    /// The word in `status` for why it would not be.
    pub fn dial(&mut self, host: &Arc<str>, port: u16) -> Result<SocketAddr, &'static str> {
        self.policy.dial(host, port, &mut self.hosts).map_err(|r| r.label())
    }
}

impl Merged {
    /// What its members differ in and consumers may look at, by name.
    pub fn differences(&self) -> Vec<Difference> {
        let mut said: BTreeMap<&str, (usize, BTreeSet<&str>)> = BTreeMap::new();
        for member in &self.members {
            let own: BTreeMap<&str, &str> = member.params.iter().collect();
            for (name, value) in own {
                let (count, values) = said.entry(name).or_default();
                *count += 1;
                values.insert(value);
            }
        }
        let differ = said
            .into_iter()
            .filter(|(name, (count, values))| {
                (values.len() > 1 || *count < self.members.len()) && !merge::is_of_one_host(&self.shown.protocol, name)
            })
            .map(|(name, (count, values))| {
                let mut said: BTreeSet<String> = values.into_iter().map(str::to_owned).collect();
                if count < self.members.len() {
                    said.insert(String::new());
                }
                Difference {
                    said,
                    shown: self.shown.params.get(name).map(str::to_owned),
                    sets_default: merge::sets_defaults(name),
                    name: name.to_owned(),
                }
            });
        differ.collect()
    }
}

/// Whether consumers may use an instance at all.
pub fn is_enabled(params: &Params) -> bool {
    endpoint::is_enabled(params)
}

/// Serializations that an instance announces, the preferred ones first; empty if it does not say.
pub fn serializations(params: &Params) -> Vec<&str> {
    endpoint::serializations(params)
}

/// The revision under which consumers are shown what stands under this one in the registry.
pub fn shown_revision(revision: &str) -> String {
    takeover::at_egress(revision)
}

/// A host that no other machine can dial.
pub fn is_nowhere(host: &str) -> bool {
    takeover::is_nowhere(host)
}

/// Host and port of a service's own address, for whoever compares addresses: IPv6 in brackets.
pub fn address(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// What an instance offers, in words.
pub fn offer(key: Option<&ServiceKey>, target: &Target) -> String {
    key.map_or_else(|| target.name().to_string(), ToString::to_string)
}

/// Names looked up at a time.
const LOOKUPS: usize = 64;
