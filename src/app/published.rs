// SPDX-License-Identifier: Apache-2.0
//! `publish:` and `follow:`: applications without a registry client. Their providers are taken over like any other and kept in
//! the registry by Remora, what they call is followed for them; one lease for all of it per registry.

use std::sync::Arc;

use remora_file::Entry;
use remora_naming::sofa;
use remora_registry::{Instance, Lease, LeaseInfo, Target};
use tracing::warn;

use crate::config::Followed;
use crate::discovery::Desk;
use crate::discovery::policy::CONFIGURATION;

/// Name of applications that have none: what the configuration publishes and follows is theirs.
const APPLICATION: &str = "remora-publish";
/// Dubbo's default root in ZooKeeper.
const NAMESPACE: &str = "/dubbo";

/// What the configuration publishes and follows in one registry. Ends when it is dropped.
pub(super) struct Words {
    registry: Arc<str>,
    desk: Arc<Desk>,
    /// Opened when there is something.
    lease: Option<Lease>,
    published: Vec<Entry>,
    followed: Vec<Followed>,
}

impl Words {
    /// Nothing yet.
    pub(super) fn new(registry: &str, desk: Arc<Desk>) -> Self {
        Self {
            registry: registry.into(),
            desk,
            lease: None,
            published: Vec::new(),
            followed: Vec::new(),
        }
    }

    /// Publishes and follows what is new, takes back what is gone, and leaves the rest alone.
    pub(super) fn say(&mut self, publish: &[Entry], follow: &[Followed]) {
        if self.lease.is_none() && publish.is_empty() && follow.is_empty() {
            return;
        }
        let lease = self.lease.get_or_insert_with(|| {
            let info = LeaseInfo {
                facade: CONFIGURATION,
                registry: Arc::clone(&self.registry),
                application: APPLICATION.to_owned(),
                peer: String::new(),
            };
            Lease::open(Arc::clone(&self.desk) as _, info)
        });
        let discovery = lease.discovery();
        for entry in publish.iter().filter(|entry| !self.published.contains(entry)) {
            let (target, instance) = place(entry);
            if let Err(error) = discovery.publish_kept(lease.id(), &target, &instance) {
                warn!(service = entry.service, reason = error.reason(), %error, "an entry of `publish` is not published");
            }
        }
        let wanted: Vec<(Target, Instance)> = publish.iter().map(place).collect();
        for entry in self.published.iter().filter(|entry| !publish.contains(entry)) {
            let (target, instance) = place(entry);
            // The same id with other parameters has replaced it.
            if !wanted.iter().any(|(t, i)| *t == target && i.id == instance.id) {
                discovery.withdraw(lease.id(), &target, &instance);
            }
        }
        for entry in follow.iter().filter(|entry| !self.followed.contains(entry)) {
            discovery.follow(lease.id(), &entry.target(NAMESPACE));
        }
        let wanted: Vec<Target> = follow.iter().map(|entry| entry.target(NAMESPACE)).collect();
        for entry in self.followed.iter().filter(|entry| !follow.contains(entry)) {
            let target = entry.target(NAMESPACE);
            if !wanted.contains(&target) {
                discovery.unfollow(lease.id(), &target);
            }
        }
        (self.published, self.followed) = (publish.to_vec(), follow.to_vec());
    }
}

/// Where an entry stands, and the instance as its application would have registered it, with what consumers expect.
fn place(entry: &Entry) -> (Target, Instance) {
    let mut own = entry.instance();
    let expected: &[(&str, &str)] = match sofa::is_protocol(&entry.protocol) {
        true => &[("appName", APPLICATION)],
        false => &[("side", "provider"), ("dubbo", "2.0.2"), ("application", APPLICATION)],
    };
    for (key, value) in expected {
        if own.params.get(key).is_none() {
            own.params.set(key, *value);
        }
    }
    (entry.target(NAMESPACE), own)
}
