// SPDX-License-Identifier: Apache-2.0
//! Publications: what an application publishes gets its ingress port, and the call path is told.

use std::sync::Arc;

use remora_registry::{Instance, LeaseId, Outward, PublishError, Target};
use tracing::info;

use super::catalog::{Catalog, lock};
use super::hosts::own_addresses;
use super::ingress::IngressChange;
use super::lease::Publication;
use super::takeover::{self, Own};
use crate::metrics::discovery::OutcomeLabel;

impl Catalog {
    /// The next change for the call path.
    pub(super) fn next_change(&self) -> Option<IngressChange> {
        lock(&self.outbox).pop_front()
    }

    /// Tries again to open ingress ports of the former run.
    pub(super) fn open_missing_ingress(&self) -> bool {
        let mut ingress = lock(&self.ingress);
        let is_missing = ingress.open_missing();
        self.send_changes(ingress.take_changes());
        is_missing
    }

    /// Takes a publication over; see `Discovery::publish`.
    pub(super) fn publish(
        &self,
        lease: LeaseId,
        target: &Target,
        instance: &Instance,
    ) -> Result<Outward, PublishError> {
        let taken = self.take_over(lease, target, instance);
        let outcome = taken.as_ref().map_or_else(PublishError::reason, |_| "taken_over");
        self.metrics.publish.get_or_create(&OutcomeLabel { outcome }).inc();
        taken
    }

    fn take_over(&self, lease: LeaseId, target: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        let Own { host, app_port } = takeover::outward(&self.setup, own_addresses, instance)?;
        let (port, table) = {
            let mut ingress = lock(&self.ingress);
            if ingress.by_ingress().contains_key(&app_port) {
                // Calls would go round in a circle: nothing but this Remora can listen there.
                return Err(PublishError::AlreadyTakenOver {
                    host: instance.host.to_string(),
                    port: app_port,
                });
            }
            let assigned = ingress.assign(&instance.protocol, app_port);
            ingress.publish_with(&instance.protocol, app_port, &host);
            let changes = ingress.take_changes();
            let table = (!changes.is_empty()).then(|| ingress.by_ingress());
            self.send_changes(changes);
            (assigned, table)
        };
        let port = port.map_err(|cause| PublishError::NoIngress {
            protocol: instance.protocol.to_string(),
            app_port,
            cause,
        })?;
        let outward = Outward { host, port, app_port };
        let mut state = self.state();
        let is_new_host = state.policy.add_own_host(&outward.host);
        let is_new_port = table.is_some();
        if let Some(table) = table {
            state.policy.ingress = table;
        }
        if is_new_host || is_new_port {
            self.rebuild(&mut state, |_| true);
        }
        let Some(held) = state.leases.get_mut(lease) else {
            return Ok(outward);
        };
        let what = instance
            .key
            .as_ref()
            .map_or_else(|| target.name().to_string(), ToString::to_string);
        let former = held.publications.insert(
            (target.clone(), Arc::clone(&instance.id)),
            Publication {
                what: what.clone(),
                protocol: Arc::clone(&instance.protocol),
                outward: outward.clone(),
            },
        );
        if former.is_none() {
            let application = held.info.application.clone();
            info!(
                service = what,
                application,
                app_port,
                host = outward.host,
                port,
                "published at our ingress"
            );
            self.metrics.publications.inc();
        }
        Ok(outward)
    }

    fn send_changes(&self, changes: Vec<IngressChange>) {
        if !changes.is_empty() {
            lock(&self.outbox).extend(changes);
            self.wake.outbox.notify_one();
        }
    }
}
