// SPDX-License-Identifier: Apache-2.0
//! Publications: what an application publishes gets its ingress port, and the call path is told.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use remora_registry::{InRegistry, Instance, LeaseId, Outward, PublishError, Target, Why};
use tracing::info;

use super::catalog::{Catalog, lock};
use super::hosts::published_addresses;
use super::ingress::IngressChange;
use super::kept::Hold;
use super::lease::Publication;
use super::policy::Decision;
use super::sync::Link;
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

    /// Takes a publication over and keeps it in the registry; see `Discovery::publish_kept`.
    pub(super) fn publish_kept(
        &self,
        lease: LeaseId,
        link: &Link,
        target: &Target,
        instance: &Instance,
    ) -> Result<Outward, PublishError> {
        let taken = self.keep(lease, link, target, instance);
        let outcome = taken.as_ref().map_or_else(PublishError::reason, |(_, outcome)| outcome);
        self.metrics.publish.get_or_create(&OutcomeLabel { outcome }).inc();
        taken.map(|(outward, _)| outward)
    }

    fn keep(
        &self,
        lease: LeaseId,
        link: &Link,
        target: &Target,
        instance: &Instance,
    ) -> Result<(Outward, &'static str), PublishError> {
        let is_marked = instance.params.get(Instance::MARKER).is_some();
        let assigned = self.assign(instance);
        let decision = match &assigned {
            Ok(outward) => self.decide_outward(lease, target, instance, outward),
            Err(_) => Why::TakenOver.into(),
        };
        let own_host = takeover::own_host(&self.setup, published_addresses, instance);
        let ingress_host = assigned.as_ref().ok().map(|outward| outward.host.clone());
        let hosts: Vec<String> = ingress_host.into_iter().chain([own_host.clone()]).collect();
        let (outward, shown, outcome) = match assigned {
            Ok(_) if !decision.taken => {
                let (outward, mut shown, _) = unchanged(instance, own_host)?;
                // Read from where it goes to, it goes there letter for letter.
                shown.raw = Arc::clone(&instance.raw);
                (outward, shown, decision.why.label())
            }
            Ok(outward) => {
                let shown = takeover::shown_outward(instance, &outward)?;
                (outward, shown, "taken_over")
            }
            Err(PublishError::Protocol { .. }) => self.left(instance)?,
            Err(PublishError::AlreadyTakenOver { .. }) if is_marked => self.left(instance)?,
            Err(PublishError::AlreadyTakenOver { port, .. }) => return Err(PublishError::OwnPort { port }),
            Err(error) => return Err(error),
        };
        let hold = link.kept.hold(target, shown.clone())?;
        link.inherited
            .hand_over(target, &shown, outward.app_port, &hosts, &hold);
        self.record(lease, target, instance, &outward, decision, Some(hold));
        self.stands(lease, target, instance, InRegistry::alone(outcome == "taken_over"));
        Ok((outward, outcome))
    }

    /// What no hop of ours can carry: it stands in the registry where the application listens.
    fn left(&self, instance: &Instance) -> Result<(Outward, Instance, &'static str), PublishError> {
        unchanged(
            instance,
            takeover::published_host(&self.setup, published_addresses, instance),
        )
    }

    fn take_over(&self, lease: LeaseId, target: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        // Also of what is left as it is: who still calls there is served, and its port is known before it is needed.
        let outward = self.assign(instance)?;
        let decision = self.decide_outward(lease, target, instance, &outward);
        self.record(lease, target, instance, &outward, decision, None);
        match decision.taken {
            true => Ok(outward),
            false => Err(PublishError::NotTaken { why: decision.why }),
        }
    }

    /// The ingress of an application's instance, open and known to the call path.
    fn assign(&self, instance: &Instance) -> Result<Outward, PublishError> {
        let Own { host, app_port } = takeover::outward(&self.setup, published_addresses, instance)?;
        if self.is_own_port(app_port) {
            return Err(PublishError::OwnPort { port: app_port });
        }
        let (port, table) = {
            let mut ingress = lock(&self.ingress);
            if ingress.by_ingress().contains_key(&app_port) {
                // Calls would go round in a circle: nothing but this Remora can listen there.
                return Err(PublishError::AlreadyTakenOver {
                    host: instance.host.to_string(),
                    port: app_port,
                });
            }
            ingress.set_leaving(&instance.protocol, app_port, false);
            let mut assigned = ingress.assign(&instance.protocol, app_port);
            if assigned.is_err() {
                drop(ingress);
                let held = self.held_ports(&instance.protocol);
                ingress = lock(&self.ingress);
                let reused = ingress.reuse(&instance.protocol, app_port, &held);
                assigned = reused.map_or(assigned, Ok);
            }
            if ingress.publish_with(&instance.protocol, app_port, &host) {
                self.wake.ingress.notify_one();
            }
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
        Ok(outward)
    }

    /// What stands in the registry for an application's instance, if it has an ingress already; nothing changes.
    pub(super) fn known_outward(&self, instance: &Instance) -> Option<Outward> {
        let Own { host, app_port } = takeover::outward(&self.setup, published_addresses, instance).ok()?;
        let port = lock(&self.ingress).known(&instance.protocol, app_port)?;
        Some(Outward { host, port, app_port })
    }

    /// Takes a publication back; gives the application's port if nothing else is published there.
    pub(super) fn withdraw(&self, lease: LeaseId, target: &Target, instance: &Instance) -> Option<u16> {
        let mut state = self.state();
        let held = state.leases.get_mut(lease)?;
        let gone = held.publications.remove(&(target.clone(), Arc::clone(&instance.id)))?;
        info!(service = gone.what, application = held.info.application, "withdrawn");
        self.metrics.publications.dec();
        let port = gone.outward.app_port;
        let mut left = state.leases.iter().flat_map(|(_, held)| held.publications.values());
        let is_last = !left.any(|p| p.outward.app_port == port && p.protocol == gone.protocol);
        is_last.then_some(port)
    }

    /// Takes a publication back of an application that did so itself; see `Discovery::leave`.
    pub(super) fn leave(&self, lease: LeaseId, target: &Target, instance: &Instance) {
        if let Some(app_port) = self.withdraw(lease, target, instance) {
            let mut ingress = lock(&self.ingress);
            ingress.set_leaving(&instance.protocol, app_port, true);
            self.send_changes(ingress.take_changes());
        }
    }

    /// Application ports of a protocol that something is published for.
    fn held_ports(&self, protocol: &str) -> BTreeSet<u16> {
        let state = self.state();
        let publications = state.leases.iter().flat_map(|(_, held)| held.publications.values());
        let of_protocol = publications.filter(|p| &*p.protocol == protocol);
        of_protocol.map(|p| p.outward.app_port).collect()
    }

    /// Writes a publication down with its lease. What it held before is let go after the new one is held.
    fn record(
        &self,
        lease: LeaseId,
        target: &Target,
        instance: &Instance,
        outward: &Outward,
        decision: Decision,
        hold: Option<Hold>,
    ) {
        let mut state = self.state();
        let Some(held) = state.leases.get_mut(lease) else {
            return;
        };
        if held.framework.is_empty() {
            held.framework = remora_naming::framework(&instance.params).unwrap_or_default();
        }
        let what = instance
            .key
            .as_ref()
            .map_or_else(|| target.name().to_string(), ToString::to_string);
        let place = (target.clone(), Arc::clone(&instance.id));
        let leads_here = held
            .publications
            .get(&place)
            .map_or(decision.taken, |former| former.leads_here);
        let is_alone = held.publications.get(&place).is_none_or(|former| former.is_alone);
        let mut former = held.publications.remove(&place);
        if let (Some(hold), Some(former)) = (&hold, former.as_mut().and_then(|former| former.hold.take())) {
            hold.succeed(former);
        }
        held.publications.insert(
            place,
            Publication {
                what: what.clone(),
                protocol: Arc::clone(&instance.protocol),
                outward: outward.clone(),
                kept: hold.as_ref().map(|_| Arc::new(instance.clone())),
                hold,
                key: instance.key.clone(),
                decision,
                leads_here,
                is_alone,
            },
        );
        if former.is_none() {
            let application = held.info.application.clone();
            info!(
                service = what,
                application,
                app_port = outward.app_port,
                host = outward.host,
                port = outward.port,
                decision = decision.why.label(),
                "published"
            );
            self.metrics.publications.inc();
        }
    }

    /// Whether `127.0.0.1:port`, where the application would be dialled, is a door, an egress or the admin port of ours.
    fn is_own_port(&self, port: u16) -> bool {
        let state = self.state();
        let mut own = state.policy.own_listeners.iter();
        own.any(|l| l.port() == port && (l.ip().is_unspecified() || l.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST)))
    }

    fn send_changes(&self, changes: Vec<IngressChange>) {
        if !changes.is_empty() {
            lock(&self.outbox).extend(changes);
            self.wake.outbox.notify_one();
        }
    }
}

/// An instance where its application listens, on `host`.
fn unchanged(instance: &Instance, host: String) -> Result<(Outward, Instance, &'static str), PublishError> {
    if instance.port == 0 {
        return Err(PublishError::NotKept {
            cause: "the application published no port".into(),
        });
    }
    let mut shown = instance.clone();
    shown.host = host.as_str().into();
    if instance.key.is_some() {
        (shown.id, shown.raw) = ("".into(), "".into());
    }
    let outward = Outward {
        host,
        port: instance.port,
        app_port: instance.port,
    };
    Ok((outward, shown, "kept_unchanged"))
}
