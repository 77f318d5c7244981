// SPDX-License-Identifier: Apache-2.0
//! `publish:` and `follow:`: applications without a registry client. Their providers are taken over like any other and kept in
//! the registry by Remora, what they call is followed for them; one lease for all of it per registry.

use std::sync::Arc;

use remora_naming::sofa;
use remora_registry::{Instance, Lease, LeaseInfo};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::{Config, RegistryEntry};
use crate::discovery::Desk;

/// Name of applications that have none.
const APPLICATION: &str = "remora-publish";
/// Dubbo's default root in ZooKeeper.
const NAMESPACE: &str = "/dubbo";

/// Publishes and follows every entry until `stop`.
pub(super) fn start(config: &Config, entry: &RegistryEntry, desk: Arc<Desk>, stop: &CancellationToken) {
    if config.publish.is_empty() && config.follow.is_empty() {
        return;
    }
    let info = LeaseInfo {
        facade: "config",
        registry: entry.name.as_str().into(),
        application: "configuration".to_owned(),
        peer: String::new(),
    };
    let lease = Lease::open(desk, info);
    for entry in &config.publish {
        let target = entry.target(NAMESPACE);
        if let Err(error) = lease.discovery().publish_kept(lease.id(), &target, &own(entry)) {
            warn!(service = entry.service, reason = error.reason(), %error, "an entry of `publish` is not published");
        }
    }
    for entry in &config.follow {
        lease.discovery().follow(lease.id(), &entry.target(NAMESPACE));
    }
    let stop = stop.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        drop(lease);
    });
}

/// The instance as its application would have registered it, with what consumers expect of a provider.
fn own(entry: &remora_file::Entry) -> Instance {
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
    own
}
