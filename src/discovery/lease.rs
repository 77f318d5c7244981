// SPDX-License-Identifier: Apache-2.0
//! What one application holds: what it publishes and follows. The end of its lease withdraws it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remora_registry::{Instance, LeaseId, LeaseInfo, Outward, ServiceKey, Target, Why};

use super::kept::Hold;
use super::policy::Decision;
use super::routes::ListId;

/// All leases.
#[derive(Default)]
pub(super) struct Leases {
    open: BTreeMap<LeaseId, Held>,
}

/// One application's stay.
pub(super) struct Held {
    pub(super) info: LeaseInfo,
    /// Framework and version, empty while unknown.
    pub(super) framework: String,
    pub(super) follows: BTreeSet<ListId>,
    pub(super) publications: BTreeMap<(Target, Arc<str>), Publication>,
}

/// Something that an application publishes.
pub(super) struct Publication {
    /// For people: a service key, or an application's name.
    pub(super) what: String,
    pub(super) protocol: Arc<str>,
    pub(super) outward: Outward,
    /// Keeps it in the registry, for an application without a session there.
    pub(super) hold: Option<Hold>,
    /// As the application gave it, where Remora keeps it: it may be decided on again.
    pub(super) kept: Option<Arc<Instance>>,
    /// The service, for the policy; none for an application-level entry.
    pub(super) key: Option<ServiceKey>,
    /// Whether it is taken over, and why.
    pub(super) decision: Decision,
    /// Whether our ingress stands in the registry: after a change of the decision not yet, or still.
    pub(super) leads_here: bool,
    /// What stands there stands alone: the form that it had before is gone.
    pub(super) is_alone: bool,
}

impl Publication {
    /// Remora keeps it, and withdrew it for good.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.state().is_none())
    }

    /// What was decided stands in the registry, and nothing beside it.
    pub(super) fn stands_as_decided(&self) -> bool {
        self.is_alone && self.leads_here == self.decision.taken
    }

    /// What became of it.
    pub(super) fn why(&self) -> Why {
        match self.is_withdrawn() {
            true => Why::Withdrawn,
            false => self.decision.why,
        }
    }
}

impl Leases {
    pub(super) fn open(&mut self, id: LeaseId, info: LeaseInfo) {
        let held = Held {
            info,
            framework: String::new(),
            follows: BTreeSet::new(),
            publications: BTreeMap::new(),
        };
        self.open.insert(id, held);
    }

    pub(super) fn get(&self, id: LeaseId) -> Option<&Held> {
        self.open.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: LeaseId) -> Option<&mut Held> {
        self.open.get_mut(&id)
    }

    pub(super) fn close(&mut self, id: LeaseId) -> Option<Held> {
        self.open.remove(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&LeaseId, &Held)> {
        self.open.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Name of the application behind a lease, for people.
    pub(super) fn application(&self, id: LeaseId) -> Option<&str> {
        let info = &self.open.get(&id)?.info;
        Some(if info.application.is_empty() {
            &info.peer
        } else {
            &info.application
        })
    }
}
