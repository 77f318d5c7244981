// SPDX-License-Identifier: Apache-2.0
//! What this room hands to the process that takes over: the publications that Remora keeps in registries itself.
//!
//! Everything else stands in the data directory (lists, ingress ports, egress generation) or comes back with the
//! applications. Until one is back, what it published goes on standing: the next process holds it until then, for a grace
//! time at most.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use remora_registry::{Instance, Target};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::catalog::{Catalog, lock};
use super::desk::Desk;
use super::kept::{Hold, KeptState};
use super::snapshot::{Level, Whole};

/// One publication that is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Publication {
    level: Level,
    namespace: String,
    name: String,
    instance: Whole,
}

/// What stands for applications that are not back yet.
#[derive(Default)]
pub(super) struct Inherited(Mutex<Vec<Waiting>>);

/// One publication that waits for its application.
struct Waiting {
    target: Target,
    instance: Instance,
    hold: Hold,
}

impl Inherited {
    /// Gives the publication that is kept now what stood for it: that goes once `hold` stands, or at once where both are one
    /// place. `shown` is what is kept now, of an application that listens at `app_port`; `hosts` are its own and our ingress's.
    pub(super) fn hand_over(&self, target: &Target, shown: &Instance, app_port: u16, hosts: &[String], hold: &Hold) {
        let is_back = |waiting: &Waiting| {
            let stood = &waiting.instance;
            let is_same_place = (&stood.host, stood.port) == (&shown.host, shown.port);
            // One application of this host has the port, whether our ingress stood for it or itself.
            let is_same_port = stood.app_port().unwrap_or(stood.port) == app_port;
            waiting.target == *target
                && stood.protocol == shown.protocol
                && stood.key == shown.key
                && (is_same_place || (is_same_port && hosts.iter().any(|host| **host == *stood.host)))
        };
        let mut back = Vec::new();
        {
            let mut waiting = lock(&self.0);
            let mut at = 0;
            while let Some(one) = waiting.get(at) {
                match is_back(one) {
                    true => back.push(waiting.swap_remove(at)),
                    false => at += 1,
                }
            }
        }
        for waiting in back {
            hold.succeed(waiting.hold);
        }
    }

    fn end(&self) {
        let all = std::mem::take(&mut *lock(&self.0));
        drop(all);
    }
}

impl Catalog {
    /// How many publications are still to be taken out of registries: nobody else could do that.
    pub fn withdrawals(&self) -> usize {
        let links = self.state().links.clone();
        let rows = links.iter().flat_map(|link| link.kept.rows());
        rows.filter(|row| row.state == KeptState::Withdrawing).count()
    }

    /// Nothing is published or withdrawn by us from now on; gives what is kept, by registry.
    pub fn freeze_kept(&self) -> Vec<(String, Vec<Publication>)> {
        let links = self.state().links.clone();
        let frozen = links.iter().map(|link| {
            let kept = link.kept.freeze();
            let publications = kept.iter().map(|(target, instance)| {
                let (level, namespace, name) = match target {
                    Target::Service { namespace, name } => (Level::Service, namespace, name),
                    Target::Application { namespace, name } => (Level::Application, namespace, name),
                };
                Publication {
                    level,
                    namespace: namespace.to_string(),
                    name: name.to_string(),
                    instance: Whole::of(instance),
                }
            });
            (link.name.to_string(), publications.collect())
        });
        frozen.collect()
    }
}

impl Desk {
    /// Goes on keeping what the former process kept, until the applications are back or had time enough.
    pub fn inherit(&self, publications: Vec<Publication>) {
        let (catalog, link) = self.parts();
        let mut waiting = Vec::new();
        for publication in publications {
            let (namespace, name) = (publication.namespace.into(), publication.name.into());
            let target = match publication.level {
                Level::Service => Target::Service { namespace, name },
                Level::Application => Target::Application { namespace, name },
            };
            let instance = publication.instance.instance();
            match link.kept.hold(&target, instance.clone()) {
                Ok(hold) => waiting.push(Waiting { target, instance, hold }),
                Err(error) => {
                    warn!(registry = &*link.name, service = %target, %error, "a publication is not taken over")
                }
            }
        }
        if waiting.is_empty() {
            return;
        }
        info!(
            registry = &*link.name,
            publications = waiting.len(),
            "publications are taken over"
        );
        *lock(&link.inherited.0) = waiting;
        let (drain, link) = (catalog.drain.clone(), Arc::clone(link));
        let grace = async move {
            tokio::select! {
                () = drain.cancelled() => {}
                () = tokio::time::sleep(GRACE) => {}
            }
            link.inherited.end();
        };
        catalog.tasks.spawn_on(grace, &catalog.runtime);
    }
}

/// Longer than clients of any registry take to come back: SOFARegistry's 5 to 10 s, a ZooKeeper session 30 to 60 s.
const GRACE: Duration = Duration::from_secs(60);
