// SPDX-License-Identifier: Apache-2.0
//! What this room hands to the process that takes over: the publications that Remora keeps in registries itself.
//!
//! Everything else stands in the data directory (lists, ingress ports, egress generation) or comes back with the
//! applications. Until they are back, what they published goes on standing: the next process holds it for a grace time.

use std::time::Duration;

use remora_registry::Target;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::catalog::Catalog;
use super::desk::Desk;
use super::kept::KeptState;
use super::snapshot::{Level, Whole};

/// One publication that is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Publication {
    level: Level,
    namespace: String,
    name: String,
    instance: Whole,
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
        let mut holds = Vec::new();
        for publication in publications {
            let (namespace, name) = (publication.namespace.into(), publication.name.into());
            let target = match publication.level {
                Level::Service => Target::Service { namespace, name },
                Level::Application => Target::Application { namespace, name },
            };
            match link.kept.hold(&target, publication.instance.instance()) {
                Ok(hold) => holds.push(hold),
                Err(error) => {
                    warn!(registry = &*link.name, service = %target, %error, "a publication is not taken over")
                }
            }
        }
        if holds.is_empty() {
            return;
        }
        info!(
            registry = &*link.name,
            publications = holds.len(),
            "publications are taken over"
        );
        let drain = catalog.drain.clone();
        let grace = async move {
            tokio::select! {
                () = drain.cancelled() => {}
                () = tokio::time::sleep(GRACE) => {}
            }
            // Whoever came back holds it, too.
            drop(holds);
        };
        catalog.tasks.spawn_on(grace, &catalog.runtime);
    }
}

/// Longer than clients of any registry take to come back: SOFARegistry's 5 to 10 s, a ZooKeeper session 30 to 60 s.
const GRACE: Duration = Duration::from_secs(60);
