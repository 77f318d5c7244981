// SPDX-License-Identifier: Apache-2.0
//! `publish:`: providers without a registry client. They are taken over like any other and published on Remora's own
//! session, one lease for all of them per registry.

use std::sync::Arc;
use std::time::Duration;

use remora_file::Entry;
use remora_registry::{Discovery, Instance, Lease, LeaseInfo, Registry, RegistryError, Target};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::registries::OpenRegistry;
use crate::config::{Config, RegistryEntry};
use crate::discovery::Desk;

/// Dubbo's default root in ZooKeeper.
const NAMESPACE: &str = "/dubbo";
/// Between attempts, doubled up to the longest, with a random part so that many Remoras do not come at once.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Publishes every entry in the background until `drain`.
pub(super) fn start(
    config: &Config,
    entry: &RegistryEntry,
    registry: &OpenRegistry,
    desk: Arc<Desk>,
    drain: &CancellationToken,
) {
    if config.publish.is_empty() {
        return;
    }
    let publisher = Publisher {
        entries: config.publish.clone(),
        name: entry.name.clone(),
        adapter: Arc::clone(&registry.adapter),
        discovery: desk,
    };
    let drain = drain.clone();
    tokio::spawn(async move { publisher.run(drain).await });
}

struct Publisher {
    entries: Vec<Entry>,
    name: String,
    adapter: Arc<dyn Registry>,
    discovery: Arc<Desk>,
}

impl Publisher {
    async fn run(self, drain: CancellationToken) {
        let info = LeaseInfo {
            facade: "publish",
            registry: self.name.as_str().into(),
            application: "publish:".to_owned(),
            peer: String::new(),
        };
        let lease = Lease::open(Arc::clone(&self.discovery) as Arc<dyn Discovery>, info);
        for entry in &self.entries {
            let target = entry.target(NAMESPACE);
            let own = entry.instance();
            match self.discovery.publish(lease.id(), &target, &own) {
                Ok(outward) => {
                    let shown = outward_of(&own, &outward);
                    let publishing = self.publish(&target, &shown);
                    if drain.run_until_cancelled(publishing).await.is_none() {
                        return;
                    }
                }
                Err(error) => warn!(
                    service = entry.service,
                    reason = error.reason(),
                    %error,
                    "an entry of `publish` is not published"
                ),
            }
        }
        // The lease holds until the end; the adapter publishes again after a lost session.
        drain.cancelled().await;
    }

    async fn publish(&self, target: &Target, shown: &Instance) {
        let mut pause = RETRY_MIN;
        loop {
            match self.adapter.publish(target, shown).await {
                Ok(()) => return info!(service = %target.name(), registry = self.name, "entry of `publish` published"),
                Err(error @ RegistryError::Unsupported { .. }) => {
                    return warn!(
                        service = %target.name(),
                        registry = self.name,
                        %error,
                        "entry of `publish` is served at our ingress, but not published"
                    );
                }
                Err(error) => warn!(
                    service = %target.name(),
                    registry = self.name,
                    reason = error.reason(),
                    %error,
                    "entry of `publish` not published, trying again"
                ),
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }
}

/// The instance at our ingress, marked, and with what Dubbo's consumers expect of a provider.
fn outward_of(own: &Instance, outward: &remora_registry::Outward) -> Instance {
    let mut shown = own.clone();
    shown.host = outward.host.as_str().into();
    shown.port = outward.port;
    for (key, value) in [
        ("side", "provider"),
        ("dubbo", "2.0.2"),
        ("application", "remora-publish"),
    ] {
        if shown.params.get(key).is_none() {
            shown.params.set(key, value);
        }
    }
    shown.params.set(Instance::MARKER, outward.app_port.to_string());
    shown.raw = "".into();
    shown.id = remora_naming::dubbo_url::print_child(&shown).into();
    shown
}
