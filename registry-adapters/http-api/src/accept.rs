// SPDX-License-Identifier: Apache-2.0
//! Requests that change the book: what is accepted, and from whom.
//!
//! All are idempotent, since applications say things twice at their end. A user changes his own registrations only, unless
//! he is root. Not here: reading bodies (the doors), publishing (`book.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use remora_naming::sofa;
use remora_registry::peers::User;
use remora_registry::{Instance, LeaseId, Snapshot, Target};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::application::{Application, stamp};
use crate::book::{Book, Caller, Table};
use crate::error::Refused;
use crate::registration::{Key, Registration};
use crate::stats::State;

/// A followed list, as discovery gives it.
pub(crate) type List = watch::Receiver<Option<Arc<Snapshot>>>;

/// What a publish request asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) key: Key,
    /// At the application's own port; the book gives it its id.
    pub(crate) instance: Instance,
    /// Parameter that says when the application began to offer it.
    pub(crate) stamp: &'static str,
}

impl Book {
    /// A process says who it is. What one of the same name left behind when it died is forgotten: this one will say what it
    /// offers.
    pub(crate) fn name(&self, caller: &Caller, name: Option<&str>, mut about: Map<String, Value>) -> u64 {
        if about.len() > MAX_ABOUT {
            warn!(
                registry = self.door,
                keys = about.len(),
                "an application says too much of itself to be kept"
            );
            about.clear();
        }
        let mut table = self.table();
        let application = self.here(&mut table, caller);
        let mut is_changed = name.is_some_and(|name| application.is_called(name));
        if application.about != about {
            application.about = about;
            is_changed = true;
        }
        let left = application.registrations.len();
        let names = self.configured(caller.place).name(&application.names);
        let is_left_behind = |key: &Key, r: &Registration| {
            let of_other = sofa::params::word(&r.instance.params, "appName").is_some_and(|of| Some(of) != name);
            r.state == State::Away && !of_other && caller.user.may_change(key.owner)
        };
        application.registrations.retain(|key, r| !is_left_behind(key, r));
        is_changed |= application.registrations.len() < left;
        if let (Some(lease), Some(_)) = (application.lease_id(), name) {
            self.discovery.name_lease(lease, &names);
        }
        self.tell(table, is_changed)
    }

    /// An application publishes. Idempotent; what the caller published at the same place before is replaced.
    pub(crate) fn publish(&self, caller: &Caller, wanted: Wanted) -> Result<u64, Refused> {
        let Wanted {
            mut key,
            mut instance,
            stamp: stamp_key,
        } = wanted;
        key.owner = caller.user.uid();
        let port = key.port;
        (instance.id, instance.raw) = (key.instance_id(), "".into());
        if let Some(cause) = self.discovery.cannot_hold(&key.target) {
            return Err(Refused::Registry { cause });
        }
        self.check_listener(caller, port)?;
        let mut table = self.table();
        self.check_port(&mut table, caller, &key, &instance.protocol)?;
        let of_caller = |a: &Application| a.registrations.keys().filter(|k| k.owner == key.owner).count();
        let total: usize = table.applications.values().map(of_caller).sum();
        let application = self.here(&mut table, caller);
        let beside: Vec<Key> = application
            .registrations
            .range(key.beside())
            .map(|(beside, _)| beside.clone())
            .collect();
        let is_published = |key: &&Key| {
            application
                .registrations
                .get(key)
                .is_some_and(|r| r.state == State::Published)
        };
        let living = beside.iter().find(is_published);
        if let Some(living) = living.filter(|living| !caller.user.may_change(living.owner)) {
            return Err(not_owned(living, caller));
        }
        if let Some(peer) = caller.hidden() {
            return Err(Refused::Nobody { peer });
        }
        // Root and unknown users replace what is there, whoever asked for it.
        if let Some(known) = living.or(beside.iter().find(|k| caller.user.may_change(k.owner))) {
            key.owner = known.owner.or(key.owner);
            if *known != key {
                self.forget_one(application, &known.clone());
            }
        }
        let mut state = State::Waiting;
        match application.registrations.get(&key) {
            Some(known) => {
                let since = known.instance.params.get(stamp_key).map(str::to_owned);
                if let (State::Published, Some(since)) = (known.state, since) {
                    instance.params.set(stamp_key, since);
                    if known.instance == instance {
                        return Ok(self.tell(table, false));
                    }
                }
                state = known.state;
            }
            None if total >= self.settings.max_entries => {
                let limit = self.settings.max_entries;
                return Err(Refused::Full { limit });
            }
            None => {}
        }
        // Its process is a new one, so what the former one left behind on this port does not come back by itself.
        application
            .registrations
            .retain(|other, r| r.state != State::Away || other.port != port || *other == key);
        if instance.params.get(stamp_key).is_none() {
            stamp(&mut instance, stamp_key);
        }
        let mut registration = Registration::new(instance);
        let is_published = state == State::Published;
        if is_published {
            registration.enter(State::Published);
        }
        info!(
            registry = self.door,
            service = %key.service,
            application = self.configured(caller.place).name(&application.names),
            port,
            "publish accepted"
        );
        application.registrations.insert(key.clone(), registration);
        if is_published {
            self.publish_now(&mut table, caller.place, &key);
        } else {
            self.look_now.notify_one();
        }
        Ok(self.tell(table, true))
    }

    /// An application takes back what it published, on `port` if it says one. Idempotent.
    pub(crate) fn unpublish(
        &self,
        caller: &Caller,
        is_meant: impl Fn(&Key) -> bool,
        port: Option<u16>,
    ) -> Result<u64, Refused> {
        let mut table = self.table();
        let application = self.here(&mut table, caller);
        let meant = |key: &Key| is_meant(key) && port.is_none_or(|port| port == key.port);
        let found = application.registrations.iter().filter(|(key, _)| meant(key));
        let (own, others): (Vec<_>, Vec<_>) = found.partition(|(key, _)| caller.user.may_change(key.owner));
        if let (true, Some((key, _))) = (own.is_empty(), others.first()) {
            return Err(not_owned(key, caller));
        }
        let living = own
            .iter()
            .filter(|(_, r)| r.state == State::Published)
            .map(|(key, _)| key.port);
        let living = living.collect::<BTreeSet<u16>>().len();
        if port.is_none() && living > 1 {
            // Two processes share this address, and one of them ends; its closing port will say which.
            warn!(
                registry = self.door,
                living,
                "an unpublish does not say which of several ports it means; give each application an address of its own"
            );
            return Ok(self.tell(table, false));
        }
        let keys: Vec<Key> = own.into_iter().map(|(key, _)| key.clone()).collect();
        let is_changed = !keys.is_empty();
        for key in keys {
            info!(registry = self.door, service = %key.service, port = key.port, "unpublished");
            self.leave(&mut table, caller.place, &key);
        }
        Ok(self.tell(table, is_changed))
    }

    /// An application follows a service: its lease, the list, and the generation to be kept.
    pub(crate) fn subscribe(&self, caller: &Caller, target: &Target) -> Result<(LeaseId, List, u64), Refused> {
        if let Some(cause) = self.discovery.cannot_hold(target) {
            return Err(Refused::Registry { cause });
        }
        let mut table = self.table();
        let total: usize = table.applications.values().map(|a| a.follows_of(caller.user)).sum();
        let application = self.here(&mut table, caller);
        let known = application.follows.get(target);
        let is_new = !known.is_some_and(|counts| counts.contains_key(&caller.user.uid()));
        if is_new && total >= self.settings.max_entries {
            let limit = self.settings.max_entries;
            return Err(Refused::Full { limit });
        }
        if application.wants(target, caller.user) {
            info!(registry = self.door, service = %target.name(), "followed");
        }
        let lease = self.lease(&mut table, caller.place);
        let list = self.discovery.follow(lease, target);
        Ok((lease, list, self.tell(table, true)))
    }

    /// One wish for a service less. Idempotent.
    pub(crate) fn unsubscribe(&self, caller: &Caller, target: &Target) -> u64 {
        let mut table = self.table();
        let application = self.here(&mut table, caller);
        let is_last = application.wants_no_more(target, caller.user);
        if is_last == Some(true) {
            info!(registry = self.door, service = %target.name(), "no longer followed");
            if let Some(lease) = application.lease_id() {
                self.discovery.unfollow(lease, target);
            }
        }
        self.tell(table, is_last.is_some())
    }

    /// A port belongs to one application. What a dead one left on it makes way.
    fn check_port(&self, table: &mut Table, caller: &Caller, key: &Key, protocol: &str) -> Result<(), Refused> {
        let port = key.port;
        for (place, other) in &table.applications {
            let mut of_port = other.registrations.iter().filter(|(key, _)| key.port == port);
            if *place == caller.place {
                continue;
            }
            let holds = |(key, r): &(&Key, &Registration)| {
                r.state == State::Published || (r.state != State::Away && caller.user.may_change(key.owner))
            };
            if of_port.any(|it| holds(&it)) {
                let names = table
                    .applications
                    .get(&caller.place)
                    .map(|a| a.names.clone())
                    .unwrap_or_default();
                return Err(Refused::PortTaken {
                    port,
                    other: self.configured(*place).name(&other.names),
                    application: self.configured(caller.place).name(&names),
                    setting: self.configured(caller.place).port_setting(self.door, protocol),
                });
            }
        }
        for (place, other) in &mut table.applications {
            if *place != caller.place {
                other
                    .registrations
                    .retain(|key, _| key.port != port || !caller.user.may_change(key.owner));
            }
        }
        Ok(())
    }

    fn check_listener(&self, caller: &Caller, port: u16) -> Result<(), Refused> {
        let listener = caller.sockets.as_ref().and_then(|sockets| sockets.listener(port));
        match (listener, caller.user) {
            (Some(owner), User::Uid(uid)) if owner == uid || uid == 0 => Ok(()),
            (Some(owner), User::Uid(_) | User::Elsewhere(_)) => Err(Refused::PortOwner {
                port,
                owner,
                caller: caller.user.label(),
            }),
            _ => Ok(()),
        }
    }
}

/// Keys of what an application says of itself; inside companies it may be a dozen.
const MAX_ABOUT: usize = 100;

fn not_owned(key: &Key, caller: &Caller) -> Refused {
    Refused::Owner {
        what: key.to_string(),
        owner: key.owner.unwrap_or_default(),
        caller: caller.user.label(),
    }
}
