// SPDX-License-Identifier: Apache-2.0
//! What applications publish. SOFARPC's lines go to the proxy's discovery, each as an instance, kept at the registry behind
//! whatever it is; anything else goes to the SOFARegistry behind as it is, or is refused where there is none.

use std::sync::Arc;

use remora_naming::sofa::{Service, line};
use remora_registry::peers::User;
use remora_registry::{Instance, LeaseId, PublishError, Target};
use tracing::{debug, warn};

use super::applications::{Held, Publication};
use super::session::{Session, Verdict};
use super::stats::{Raised, Stats};
use super::subject;
use crate::wire::{EventType, PublisherRegister};

/// What is to be done with a publisher's data.
enum Plan {
    /// Its lines are instances of a service.
    Service(Target, Vec<Instance>),
    /// They are not.
    Relay,
    Refuse(String),
}

/// The publisher as it was before, and the lease that it is published under.
struct Former {
    lease: LeaseId,
    publication: Publication,
}

impl Session {
    /// A publisher, or its end.
    pub(super) fn publisher(&mut self, register: &PublisherRegister) -> Verdict {
        if register.base.event == EventType::Unregister {
            return self.withdraw(&register.base.regist_id);
        }
        if let Some(verdict) = self.is_nobodys().or_else(|| self.is_of_other(&register.base.regist_id)) {
            return verdict;
        }
        let (app, lease) = self.lease(&register.base);
        let regist_id: Arc<str> = register.base.regist_id.as_str().into();
        let applications = &self.shared.applications;
        // A late copy of an older one says nothing; its answer is looked at no more.
        let is_late = |known| known > register.base.version;
        let is_late = applications.version(app, &regist_id).is_some_and(is_late);
        if is_late || applications.is_with_younger(self.rank, &regist_id) {
            return Verdict::Taken;
        }
        if let Some(why) = self.is_too_much(register) {
            return Verdict::Later(why);
        }
        let plan = self.plan(register);
        let former = applications.take(&regist_id, self.shared.config.grace);
        let former = former.map(|(holder, lease, publication)| {
            if holder != app {
                Stats::count(&self.shared.stats.resumed);
            }
            Former { lease, publication }
        });
        let (held, verdict) = match plan {
            Plan::Service(target, instances) => self.hold(lease, target, instances, former),
            Plan::Relay => self.relay(register, former),
            Plan::Refuse(why) => {
                self.drop_former(former);
                (None, Verdict::Refused(why))
            }
        };
        if let Some(held) = held {
            let publication = Publication {
                application: register.base.app_name.clone(),
                data_id: register.base.data_id.clone(),
                group: register.base.group.clone(),
                version: register.base.version,
                data: register.data.clone(),
                held,
                _counted: Raised::new(&self.shared.stats, |stats| &stats.publishers),
            };
            self.shared.applications.put(app, &regist_id, publication);
        }
        verdict
    }

    fn withdraw(&mut self, regist_id: &str) -> Verdict {
        if let Some(verdict) = self.is_of_other(regist_id) {
            return verdict;
        }
        let former = self.shared.applications.take(regist_id, self.shared.config.grace);
        // SOFARPC does not wait for the answer: a few milliseconds later its port is closed.
        if let Some((_, lease, publication)) = former
            && let Held::Service { target, instances, .. } = publication.held
        {
            for instance in &instances {
                self.discovery.leave(lease, &target, instance);
            }
        }
        Verdict::Taken
    }

    /// A process of this host that is gone before anybody looked whose it is: what it publishes would be nobody's.
    fn is_nobodys(&self) -> Option<Verdict> {
        let is_gone = matches!(self.user, User::Elsewhere(peer) if peer.ip().to_canonical().is_loopback());
        let why = "the connection was closed before its user was known";
        (is_gone && self.sockets.is_some()).then(|| Verdict::Later(why.to_owned()))
    }

    /// Another user's publisher is left alone.
    fn is_of_other(&self, regist_id: &str) -> Option<Verdict> {
        let owner = self.shared.applications.owner(regist_id);
        let caller = self.user.label();
        let why = |owner| format!("it was registered by user {owner}, and {caller} may not change it");
        (!self.user.may_change(owner)).then(|| Verdict::Refused(why(owner.unwrap_or_default())))
    }

    /// The port of another user, who listens on it, is not published. Root may.
    fn is_port_of_other(&self, instances: &[Instance]) -> Option<String> {
        let User::Uid(uid) = self.user else { return None };
        let sockets = self.sockets.as_ref()?;
        let owners = instances.iter().map(|i| (i.port, sockets.listener(i.port)));
        let other = owners.filter_map(|(port, owner)| Some((port, owner.filter(|owner| *owner != uid && uid != 0)?)));
        let (port, owner) = other.min()?;
        Some(format!(
            "port {port} is listened on by user {owner}, and user {uid} may not publish it"
        ))
    }

    fn is_too_much(&self, register: &PublisherRegister) -> Option<String> {
        let config = &self.shared.config;
        let (app, _) = self.known_lease()?;
        let (count, bytes) = self.shared.applications.size_without(app, &register.base.regist_id);
        if count + self.followers.len() >= config.max_registrations {
            return Some(format!("this client has {count} publishers, as many as allowed"));
        }
        let new_bytes: usize = register.data.iter().map(String::len).sum();
        (bytes + new_bytes > config.max_data_bytes).then(|| {
            format!(
                "the data of this client's publishers is over {} bytes",
                config.max_data_bytes
            )
        })
    }

    fn plan(&self, register: &PublisherRegister) -> Plan {
        let base = &register.base;
        let Some(service) = subject::service(base) else {
            return self.plan_to_relay(|| "it is none of SOFARPC's".to_owned());
        };
        let instances = instances(&service, register);
        if instances.is_empty() && !register.data.is_empty() {
            return self.plan_to_relay(|| "none of its lines begins with host:port".to_owned());
        }
        if instances.len() > MAX_LINES {
            return Plan::Refuse(format!("more than {MAX_LINES} lines in one publisher"));
        }
        if let Some(why) = self.is_port_of_other(&instances) {
            return Plan::Refuse(why);
        }
        let target = service.target();
        match self.discovery.cannot_hold(&target) {
            Some(why) => Plan::Refuse(why),
            None => Plan::Service(target, instances),
        }
    }

    fn plan_to_relay(&self, why: impl FnOnce() -> String) -> Plan {
        match self.shared.relay {
            Some(_) => Plan::Relay,
            None => Plan::Refuse(format!("{}, and the registry behind is no SOFARegistry", why())),
        }
    }

    /// Publishes the instances of a service; what the publisher had before goes afterwards.
    fn hold(
        &self,
        lease: LeaseId,
        target: Target,
        instances: Vec<Instance>,
        former: Option<Former>,
    ) -> (Option<Held>, Verdict) {
        if let Some(known) = &former
            && known.lease == lease
            && let Held::Service {
                target: at,
                instances: had,
                is_partial: false,
            } = &known.publication.held
            && (at, had) == (&target, &instances)
        {
            return (former.map(|former| former.publication.held), Verdict::Taken);
        }
        let mut verdict = Verdict::Taken;
        for instance in &instances {
            match self.discovery.publish_kept(lease, &target, instance) {
                Ok(outward) => debug!(
                    registry = "sofaregistry", service = %target, host = %instance.host, port = instance.port,
                    ingress = outward.port, "published"
                ),
                Err(e) => {
                    warn!(registry = "sofaregistry", service = %target, reason = e.reason(), %e, "not published");
                    verdict = match e {
                        // It will be no other port as long as the application runs.
                        PublishError::OwnPort { .. } => Verdict::Refused(e.to_string()),
                        _ => Verdict::Later(e.to_string()),
                    };
                }
            }
        }
        let is_partial = verdict != Verdict::Taken;
        match former.map(|former| (former.lease, former.publication.held)) {
            // Those of the same place in the list were replaced.
            Some((
                by,
                Held::Service {
                    target: at,
                    instances: had,
                    ..
                },
            )) if by == lease && at == target => {
                self.withdraw_instances(by, &at, had.get(instances.len()..).unwrap_or_default());
            }
            Some((
                by,
                Held::Service {
                    target: at,
                    instances: had,
                    ..
                },
            )) => self.withdraw_instances(by, &at, &had),
            Some((_, Held::Relayed(_))) | None => {}
        }
        let held = Held::Service {
            target,
            instances,
            is_partial,
        };
        (Some(held), verdict)
    }

    /// Hands a publisher to the SOFARegistry behind.
    fn relay(&self, register: &PublisherRegister, former: Option<Former>) -> (Option<Held>, Verdict) {
        let Some(relay) = &self.shared.relay else {
            self.drop_former(former);
            return (None, Verdict::Refused("there is no SOFARegistry behind".to_owned()));
        };
        Stats::count(&self.shared.stats.relayed);
        if let Some(Former { lease, publication }) = former {
            match publication.held {
                Held::Relayed(publisher) => {
                    if publication.data != register.data {
                        publisher.update(register);
                    }
                    return (Some(Held::Relayed(publisher)), Verdict::Taken);
                }
                Held::Service { target, instances, .. } => self.withdraw_instances(lease, &target, &instances),
            }
        }
        (Some(Held::Relayed(relay.relay_publish(register))), Verdict::Taken)
    }

    fn drop_former(&self, former: Option<Former>) {
        // A relayed publisher is taken back by its end.
        if let Some(Former { lease, publication }) = former
            && let Held::Service { target, instances, .. } = publication.held
        {
            self.withdraw_instances(lease, &target, &instances);
        }
    }

    fn withdraw_instances(&self, lease: LeaseId, target: &Target, instances: &[Instance]) {
        for instance in instances {
            self.discovery.withdraw(lease, target, instance);
        }
    }
}

/// The lines as instances. Each is named after its publisher and place, so that another line in the same place replaces it.
fn instances(service: &Service, register: &PublisherRegister) -> Vec<Instance> {
    let mut instances = Vec::with_capacity(register.data.len().min(MAX_LINES));
    for line in &register.data {
        match line::parse(line, service) {
            Ok(instance) => instances.push(Instance {
                id: format!("{}#{}", register.base.regist_id, instances.len()).into(),
                ..instance
            }),
            Err(e) => {
                warn!(registry = "sofaregistry", %service, reason = e.reason(), %e, "line left out, it is no provider");
            }
        }
    }
    instances
}

/// SOFARPC has one line in a publisher.
const MAX_LINES: usize = 1_000;
