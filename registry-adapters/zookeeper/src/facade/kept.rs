// SPDX-License-Identifier: Apache-2.0
//! What discovery is told of an application's nodes, in front of a ZooKeeper and in front of another registry.
//!
//! In front of a ZooKeeper a node is its own publication. In front of another registry the node stands in the embedded one,
//! and discovery keeps a publication of its own where the lists come from, as long as the node and the session last. A
//! node that is not ephemeral is kept for its session, too: nobody could take it back later.

use std::sync::{Arc, PoisonError};

use remora_naming::sofa::{self, Service};
use remora_registry::{Instance, Outward, PublishError, Snapshot, Target};
use tokio::sync::watch;
use tracing::warn;

use super::door::Door;
use super::names::Own;
use crate::places;

type List = watch::Receiver<Option<Arc<Snapshot>>>;

/// A single service that an application follows.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Where its interface's list is shown.
    dir: String,
    target: Target,
    list: List,
}

impl Door {
    /// Publishes with discovery.
    pub(super) fn publish(&self, target: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        let (lease, discovery) = (self.lease(), self.discovery());
        match self.place_of(target, instance) {
            Ok(place) if self.shared.config.keeps_publications => discovery.publish_kept(lease, &place, instance),
            Ok(place) => discovery.publish(lease, &place, instance),
            Err(why) => {
                self.warn_not_shared(target, &why);
                discovery.publish(lease, target, instance)
            }
        }
    }

    /// Withdraws from discovery what `publish` told it.
    pub(super) fn take_back(&self, own: &Own) {
        let (lease, discovery) = (self.lease(), self.discovery());
        for instance in std::iter::once(&own.instance).chain(&own.also) {
            let place = self.place_of(&own.target, instance);
            discovery.withdraw(lease, place.as_ref().unwrap_or(&own.target), instance);
        }
    }

    /// As [`take_back`](Self::take_back), when the application did so itself.
    pub(super) fn leave(&self, own: &Own) {
        let (lease, discovery) = (self.lease(), self.discovery());
        for instance in std::iter::once(&own.instance).chain(&own.also) {
            let place = self.place_of(&own.target, instance);
            discovery.leave(lease, place.as_ref().unwrap_or(&own.target), instance);
        }
    }

    /// The list that an instance is published in: its own, or, in a registry without lists of interfaces, its service's.
    ///
    /// # Errors
    /// Why that registry cannot hold it.
    fn place_of(&self, target: &Target, instance: &Instance) -> Result<Target, String> {
        if !self.shared.config.keeps_publications {
            return Ok(target.clone());
        }
        if let Target::Application { .. } = target {
            return Err("lists of applications are kept by ZooKeeper only".to_owned());
        }
        let service = sofa::group_of(target).and_then(|group| Service::of_instance(instance, group));
        let place = service.map_or_else(|| target.clone(), |service| service.target());
        match self.discovery().cannot_hold(&place) {
            None => Ok(place),
            Some(why) => Err(why),
        }
    }

    fn warn_not_shared(&self, target: &Target, why: &str) {
        let mut known = self.shared.not_shared.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_WARNINGS && known.insert(target.to_string()) {
            warn!(
                registry = "zookeeper",
                service = %target,
                why,
                "published in the embedded registry only: nobody but the applications of this door finds it there"
            );
        }
    }

    /// A SOFARPC consumer of another service than the usual one of its interface: a registry that keeps each service by
    /// itself has to be asked for that one, too. It then is in the interface's list.
    pub(super) fn follow_service_of(&mut self, path: &str, target: &Target, consumer: &Instance) {
        let Some(group) = sofa::group_of(target).filter(|_| self.shared.config.keeps_publications) else {
            return;
        };
        let Some(service) = Service::of_instance(consumer, group) else {
            return;
        };
        let is_usual = service == Service::of_interface(&service.interface, group);
        if !is_usual && self.state.wanted.len() < self.shared.config.max_lists {
            let (dir, target) = (places::dir_of(target), service.target());
            let list = self.discovery().follow(self.lease(), &target);
            self.state.wanted.insert(path.to_owned(), Wanted { dir, target, list });
        }
    }

    /// The lists of single services that have to be known before the list of their interface, in `dir`, is shown.
    pub(super) fn unknown_services(&self, dir: &str) -> Vec<List> {
        let wanted = self.state.wanted.values();
        let unknown = wanted.filter(|wanted| wanted.dir == dir && wanted.list.borrow().is_none());
        unknown.map(|wanted| wanted.list.clone()).collect()
    }

    /// A consumer takes its node back.
    pub(super) fn consumer_went(&mut self, path: &str) {
        let Some(gone) = self.state.wanted.remove(path) else {
            return;
        };
        if !self.state.wanted.values().any(|other| other.target == gone.target) {
            self.discovery().unfollow(self.lease(), &gone.target);
        }
    }
}

/// The application's name, in the word of its framework.
pub(super) fn application_of<'a>(target: &Target, instance: &'a Instance) -> Option<&'a str> {
    match sofa::is_sofa(target) {
        true => sofa::params::word(&instance.params, "appName"),
        false => instance.params.get("application"),
    }
}

/// A registry full of services must not fill the memory.
const MAX_WARNINGS: usize = 10_000;
