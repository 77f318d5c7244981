// SPDX-License-Identifier: Apache-2.0
//! What the facades of one configured registry ask.

use std::sync::Arc;

use remora_naming::metadata as document;
use remora_registry::{
    BoxFuture, Client, Discovery, InRegistry, Instance, LeaseId, LeaseInfo, Outward, PublishError, Registry,
    RegistryState, Seat, Snapshot, Target, UnappliedRule,
};
use tokio::sync::watch;

use super::catalog::{Catalog, lock};
use super::metadata::Document;
use super::routes::address_of;
use super::sync::{self, Link};
use super::takeover;

/// The discovery of one configured registry, at the catalog that all share.
pub struct Desk {
    catalog: Arc<Catalog>,
    link: Arc<Link>,
}

impl Desk {
    /// Opens a desk. `name` is the registry's configured name (`default`); `identity` tells it from other registries
    /// (its URL without secrets): last known lists of another identity are not used. Reads the last known lists and
    /// follows them again at once.
    pub fn open(catalog: &Arc<Catalog>, name: &str, identity: &str, registry: Arc<dyn Registry>) -> Arc<Self> {
        let link = sync::link(catalog, name, identity, registry);
        Arc::new(Self {
            catalog: Arc::clone(catalog),
            link,
        })
    }

    pub(super) fn parts(&self) -> (&Arc<Catalog>, &Arc<Link>) {
        (&self.catalog, &self.link)
    }

    /// Whether a followed list of this registry has the revision.
    fn is_listed(&self, application: &str, revision: &str) -> bool {
        let state = self.catalog.state();
        let mut lists = state.lists.values().filter(|l| l.link == self.link.number);
        lists.any(|l| l.is_application(application) && l.has_revision(revision))
    }

    /// The document of a revision, once it is known; waits for it.
    async fn document(&self, application: &str, revision: &str) -> Option<Arc<Document>> {
        let mut changes = {
            let state = self.catalog.state();
            if let Some(known) = state.documents.known(application, revision) {
                return Some(Arc::clone(known));
            }
            if state.documents.is_failed(application, revision) {
                return None;
            }
            state.documents.changes()
        };
        let known = async {
            loop {
                if changes.changed().await.is_err() {
                    return None;
                }
                let state = self.catalog.state();
                if let Some(known) = state.documents.known(application, revision) {
                    return Some(Arc::clone(known));
                }
                if state.documents.is_failed(application, revision) {
                    return None;
                }
            }
        };
        let limit = self.catalog.setup.config.load().metadata_timeout.0;
        tokio::time::timeout(limit, known).await.unwrap_or(None)
    }
}

impl Discovery for Desk {
    fn open_lease(&self, info: LeaseInfo) -> LeaseId {
        let id = self.catalog.next_lease();
        let mut state = self.catalog.state();
        state.leases.open(id, info);
        self.catalog
            .metrics
            .leases
            .set(i64::try_from(state.leases.len()).unwrap_or(i64::MAX));
        id
    }

    fn name_lease(&self, lease: LeaseId, application: &str) {
        if let Some(held) = self.catalog.state().leases.get_mut(lease) {
            application.clone_into(&mut held.info.application);
        }
        self.catalog.named(lease);
    }

    fn note_framework(&self, lease: LeaseId, framework: &str) {
        if let Some(held) = self.catalog.state().leases.get_mut(lease) {
            framework.clone_into(&mut held.framework);
        }
    }

    fn close_lease(&self, lease: LeaseId) {
        self.catalog.close_lease(lease);
    }

    fn publish(&self, lease: LeaseId, target: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        self.catalog.publish(lease, target, instance)
    }

    fn known_outward(&self, instance: &Instance) -> Option<Outward> {
        self.catalog.known_outward(instance)
    }

    fn publish_kept(&self, lease: LeaseId, target: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        self.catalog.publish_kept(lease, &self.link, target, instance)
    }

    fn cannot_hold(&self, target: &Target) -> Option<String> {
        self.link.registry.cannot_hold(target)
    }

    fn reach(&self) -> Option<watch::Receiver<RegistryState>> {
        Some(self.link.registry.state())
    }

    fn withdraw(&self, lease: LeaseId, target: &Target, instance: &Instance) {
        self.catalog.withdraw(lease, target, instance);
    }

    fn leave(&self, lease: LeaseId, target: &Target, instance: &Instance) {
        self.catalog.leave(lease, target, instance);
    }

    fn follow(&self, lease: LeaseId, target: &Target) -> watch::Receiver<Option<Arc<Snapshot>>> {
        let mut state = self.catalog.state();
        let (id, is_new) = self.catalog.list(&mut state, self.link.number, target);
        if let Some(held) = state.leases.get_mut(lease) {
            held.follows.insert(id);
            if let Some(list) = state.lists.get_mut(&id) {
                list.followers.insert(lease);
                list.idle_since = None;
                list.is_restored = false;
            }
        }
        let Some(list) = state.lists.get(&id) else {
            return watch::Sender::new(None).subscribe();
        };
        if is_new {
            sync::feed(&self.catalog, &self.link, id, target.clone(), list.end.clone());
        }
        list.shown.subscribe()
    }

    fn unfollow(&self, lease: LeaseId, target: &Target) {
        let mut state = self.catalog.state();
        let Some(id) = state.by_target.get(&(self.link.number, target.clone())).copied() else {
            return;
        };
        if let Some(held) = state.leases.get_mut(lease) {
            held.follows.remove(&id);
        }
        if let Some(list) = state.lists.get_mut(&id) {
            list.lose(lease);
        }
    }

    fn inward(&self, lease: LeaseId, snapshot: &Snapshot, client: Client) -> Vec<Instance> {
        let catalog = &self.catalog;
        let left = catalog.left_entries(lease, snapshot);
        let is_taken = |instance: &Arc<Instance>| !left.contains(&address_of(instance));
        takeover::inward(snapshot, client, &catalog.egress, &catalog.spoken, &is_taken)
    }

    fn policy(&self) -> watch::Receiver<u64> {
        self.catalog.policy_number()
    }

    fn stands(&self, lease: LeaseId, target: &Target, instance: &Instance, standing: InRegistry) {
        self.catalog.stands(lease, target, instance, standing);
    }

    fn takes_lists(&self) -> bool {
        self.catalog.takes_lists()
    }

    fn behind(&self, ingress: u16) -> Option<u16> {
        let table = lock(&self.catalog.ingress).by_ingress();
        Some(table.get(&ingress).copied().flatten()?.port())
    }

    fn leaves(&self, lease: LeaseId, snapshot: &Snapshot) -> bool {
        self.catalog.leaves(lease, snapshot)
    }

    fn inward_metadata<'a>(&'a self, application: &'a str, revision: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            let mirrored = takeover::mirrored(revision);
            let speaks = |protocol: &str| self.catalog.spoken.iter().any(|p| &**p == protocol);
            let real = takeover::at_egress(revision);
            let shown = if self.is_listed(application, &real) {
                let known = self.document(application, &real).await?;
                document::inward(known.json.as_bytes(), &speaks, revision)
            } else if self.is_listed(application, &mirrored) {
                let known = self.document(application, &mirrored).await?;
                document::direct(known.json.as_bytes(), &speaks, revision)
            } else {
                return None;
            };
            shown.ok()
        })
    }

    fn rules_not_applied(&self, place: &str, rules: Vec<UnappliedRule>) {
        self.catalog.rules_not_applied(self.link.number, place, rules);
    }

    fn seat(&self) -> Seat {
        self.catalog.farewell.seat()
    }
}
