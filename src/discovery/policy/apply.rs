// SPDX-License-Identifier: Apache-2.0
//! The policy at the catalog: what is asked of it, and what follows from a change.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use remora_naming::sofa;
use remora_registry::{InRegistry, Instance, LeaseId, Outward, ServiceKey, Snapshot, Target, Why};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Config, Decision, Mode, Policy, Rollback, Side, Subject};
use crate::discovery::DiscoveryError;
use crate::discovery::catalog::{Catalog, State, lock};
use crate::discovery::config::Setup;
use crate::discovery::hosts::own_addresses;
use crate::discovery::metadata::Documents;
use crate::discovery::routes::address_of;

/// The policy in force, and who hears of another one.
pub(in crate::discovery) struct Steps {
    policy: ArcSwap<Policy>,
    rollback: Mutex<Rollback>,
    /// Counts the changes.
    number: watch::Sender<u64>,
    /// This machine, for the share on the consumer side.
    host: String,
}

impl Steps {
    pub(in crate::discovery) fn open(setup: &Setup) -> Self {
        let rollback = Rollback::read(setup.data_dir.as_deref());
        if let Some(since) = rollback.since() {
            warn!(
                since,
                "rolled back: nothing is taken over until remora rollback --forward"
            );
        }
        let host = setup.advertise.or_else(|| own_addresses().first().copied());
        Self {
            policy: ArcSwap::from_pointee(Policy::new(
                setup.mode,
                setup.takeover.clone(),
                rollback.since().is_some(),
            )),
            rollback: Mutex::new(rollback),
            number: watch::Sender::new(0),
            host: host.map(|ip| ip.to_string()).unwrap_or_default(),
        }
    }

    pub(in crate::discovery) fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Since when it is rolled back, in seconds since 1970.
    pub(super) fn rolled_back_since(&self) -> Option<u64> {
        lock(&self.rollback).since()
    }
}

impl Catalog {
    /// Takes another `mode` and `takeover` over: what stands is brought to it, lists are shown again.
    pub fn set_takeover(&self, mode: Mode, takeover: Config) {
        let rolled_back = lock(&self.steps.rollback).since().is_some();
        info!(mode = mode.label(), rolled_back, "takeover policy changed");
        self.put_policy(Policy::new(mode, takeover, rolled_back));
    }

    /// Gives everything back to the applications (`true`), or takes it over again (`false`), over restarts too. `false` when
    /// it was so already.
    ///
    /// # Errors
    /// `File` when it cannot be written down; nothing changes then.
    pub fn roll_back(&self, is_rolled_back: bool) -> Result<bool, DiscoveryError> {
        let mut rollback = lock(&self.steps.rollback);
        if !rollback.set(is_rolled_back)? {
            return Ok(false);
        }
        let policy = self.steps.policy();
        let next = Policy {
            rolled_back: is_rolled_back,
            ..Policy::clone(&policy)
        };
        match is_rolled_back {
            true => info!("rolled back: applications get their own addresses back"),
            false => info!("the rollback is taken back"),
        }
        self.put_policy(next);
        Ok(true)
    }

    /// Whether, and since when, everything was given back.
    pub fn rolled_back_for(&self) -> Option<Duration> {
        let since = self.steps.rolled_back_since()?;
        let now = UNIX_EPOCH.elapsed().unwrap_or_default();
        Some(now.saturating_sub(Duration::from_secs(since)))
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.steps.policy()
    }

    pub(in crate::discovery) fn policy_number(&self) -> watch::Receiver<u64> {
        self.steps.number.subscribe()
    }

    fn put_policy(&self, policy: Policy) {
        self.steps.policy.store(Arc::new(policy));
        // Whoever hears of it may ask at once: it is in force.
        self.steps.number.send_modify(|number| *number += 1);
        self.keep_again();
        let state = self.state();
        for list in state.lists.values() {
            list.shown.send_modify(|_| {});
        }
    }

    /// What Remora keeps in registries itself is decided again: the new entry is held before the old one is let go.
    fn keep_again(&self) {
        let (kept, links) = {
            let state = self.state();
            let mut kept = Vec::new();
            for (lease, held) in state.leases.iter() {
                let registry = &held.info.registry;
                for ((target, _), publication) in &held.publications {
                    if let Some(instance) = &publication.kept {
                        kept.push((*lease, Arc::clone(registry), target.clone(), Arc::clone(instance)));
                    }
                }
            }
            (kept, state.links.clone())
        };
        for (lease, registry, target, instance) in kept {
            let Some(link) = links.iter().find(|link| link.name == registry) else {
                continue;
            };
            if let Err(error) = self.publish_kept(lease, link, &target, &instance) {
                warn!(registry = &*registry, service = %target, reason = error.reason(), %error, "a publication stays as it was");
            }
        }
    }

    /// The decision on something that an application publishes.
    pub(in crate::discovery) fn decide_outward(
        &self,
        lease: LeaseId,
        target: &Target,
        instance: &Instance,
        outward: &Outward,
    ) -> Decision {
        let policy = self.steps.policy();
        if policy.takes_all() {
            return Why::TakenOver.into();
        }
        let (lease_name, offers) = {
            let state = self.state();
            let held = state.leases.get(lease);
            let name = held.map(|held| held.info.application.clone()).unwrap_or_default();
            let published = held.into_iter().flat_map(|held| held.publications.values());
            let keys: Vec<ServiceKey> = published.filter_map(|known| known.key.clone()).collect();
            (name, keys)
        };
        let word = match sofa::is_protocol(&instance.protocol) {
            true => sofa::params::word(&instance.params, "appName"),
            false => instance.params.get("application"),
        };
        let address = format!("{}:{}", outward.host, outward.app_port);
        let subject = Subject {
            side: Side::Provider,
            address: &address,
            application: word.filter(|name| !name.is_empty()).unwrap_or(&lease_name),
            ..of_instance(target, instance)
        };
        match target {
            Target::Service { .. } => policy.decide(&subject),
            Target::Application { .. } => policy.decide_entry(&subject, &offers),
        }
    }

    /// The decision on an entry of a list, or on a list without entries, for an application here.
    pub(in crate::discovery) fn decide_inward(
        &self,
        documents: &Documents,
        policy: &Policy,
        application: &str,
        target: &Target,
        instance: Option<&Instance>,
    ) -> Decision {
        let subject = match instance {
            Some(instance) => of_instance(target, instance),
            None => of_target(target),
        };
        let subject = Subject {
            side: Side::Consumer,
            address: &self.steps.host,
            application,
            ..subject
        };
        let revision = instance.and_then(|instance| instance.revision());
        let document = revision.and_then(|revision| documents.known(target.name(), revision));
        match (target, document) {
            (Target::Application { .. }, Some(document)) => {
                let offers: Vec<ServiceKey> = document.services.iter().map(|service| service.key.clone()).collect();
                policy.decide_entry(&subject, &offers)
            }
            _ => policy.decide(&subject),
        }
    }

    /// The entries of a list that the application behind a lease is shown as they stand, by their address.
    pub(in crate::discovery) fn left_entries(&self, lease: LeaseId, snapshot: &Snapshot) -> HashSet<usize> {
        let policy = self.steps.policy();
        if policy.takes_all() {
            return HashSet::new();
        }
        let state = self.state();
        let application = state.leases.get(lease).map(|held| held.info.application.as_str());
        let application = application.unwrap_or_default();
        let is_left = |instance: &&Arc<Instance>| {
            let decided = self.decide_inward(
                &state.documents,
                &policy,
                application,
                &snapshot.target,
                Some(&***instance),
            );
            !decided.taken
        };
        snapshot.instances.iter().filter(is_left).map(address_of).collect()
    }

    /// Whether any list may be shown otherwise than it stands.
    pub(in crate::discovery) fn takes_lists(&self) -> bool {
        let policy = self.steps.policy();
        policy.takes_all() || policy.takes_lists(&self.steps.host)
    }

    /// Whether nothing in a list is taken over.
    pub(in crate::discovery) fn leaves(&self, lease: LeaseId, snapshot: &Snapshot) -> bool {
        let policy = self.steps.policy();
        if policy.takes_all() {
            return false;
        }
        if !snapshot.instances.is_empty() {
            return self.left_entries(lease, snapshot).len() == snapshot.instances.len();
        }
        let state = self.state();
        let application = state.leases.get(lease).map(|held| held.info.application.as_str());
        let application = application.unwrap_or_default();
        let decided = self.decide_inward(&state.documents, &policy, application, &snapshot.target, None);
        !decided.taken
    }

    /// It became known what a revision of an application offers: its lists may be decided otherwise by it.
    pub(in crate::discovery) fn offers_known(&self, state: &State, application: &str) {
        if self.steps.policy().takes_all() {
            return;
        }
        for list in state.lists.values().filter(|list| list.is_application(application)) {
            list.shown.send_modify(|_| {});
        }
    }

    /// The application's name became known: what it is shown may be decided otherwise by it.
    pub(in crate::discovery) fn named(&self, lease: LeaseId) {
        if !self.steps.policy().asks_for_applications() {
            return;
        }
        let state = self.state();
        let follows: Vec<_> = state
            .leases
            .get(lease)
            .map(|held| held.follows.iter().copied().collect())
            .unwrap_or_default();
        for id in follows {
            if let Some(list) = state.lists.get(&id) {
                list.shown.send_modify(|_| {});
            }
        }
    }

    /// What the registry has of a publication, whatever was decided last.
    pub(in crate::discovery) fn stands(
        &self,
        lease: LeaseId,
        target: &Target,
        instance: &Instance,
        standing: InRegistry,
    ) {
        let mut state = self.state();
        let key = (target.clone(), Arc::clone(&instance.id));
        let publication = state
            .leases
            .get_mut(lease)
            .and_then(|held| held.publications.get_mut(&key));
        if let Some(publication) = publication {
            publication.leads_here = standing != InRegistry::Own;
            publication.is_alone = standing != InRegistry::Both;
        }
    }
}

pub(in crate::discovery) fn of_instance<'a>(target: &'a Target, instance: &'a Instance) -> Subject<'a> {
    match (&instance.key, target) {
        (Some(key), Target::Service { .. }) => Subject {
            service: &key.name,
            group: &key.group,
            ..of_target(target)
        },
        // One service of a document stands for its application's entry.
        _ => of_target(target),
    }
}

pub(super) fn of_target(target: &Target) -> Subject<'_> {
    Subject {
        side: Side::Provider,
        service: target.name(),
        group: "",
        application: "",
        address: "",
    }
}
