// SPDX-License-Identifier: Apache-2.0
//! What lists are about: a dataId in its group.

use remora_naming::sofa::Service;
use remora_registry::Target;

use crate::wire::{DEFAULT_INSTANCE_ID, Registration};

/// A dataId with its group and instance id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// `demo.EchoService:1.0@DEFAULT`.
    pub data_id: String,
    /// `SOFA`.
    pub group: String,
    /// `None` for the usual one.
    pub instance_id: Option<String>,
}

impl Subject {
    /// What a registration is about.
    pub fn of(registration: &Registration) -> Self {
        let instance_id = registration.instance_id.as_deref();
        let instance_id = instance_id.filter(|id| !id.is_empty() && *id != DEFAULT_INSTANCE_ID);
        Self {
            data_id: registration.data_id.clone(),
            group: registration.group.clone(),
            instance_id: instance_id.map(str::to_owned),
        }
    }

    pub(super) fn of_service(service: &Service) -> Self {
        Self {
            data_id: service.data_id(),
            group: service.registry_group().to_owned(),
            instance_id: None,
        }
    }

    pub(super) fn registration(&self, zone: &str, app_name: &str) -> Registration {
        Registration {
            instance_id: self.instance_id.clone(),
            zone: Some(zone.to_owned()),
            app_name: Some(app_name.to_owned()),
            data_id: self.data_id.clone(),
            group: self.group.clone(),
            ..Registration::default()
        }
    }
}

/// A list that is followed, in SOFARegistry's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The service itself, or what SOFARPC takes when nothing but the interface is known: version 1.0, bolt.
    pub(super) service: Service,
    /// Whether every other service of the interface that is followed belongs to the list, too.
    pub(super) is_interface: bool,
}

impl Wanted {
    /// `None` for what is not SOFARPC's.
    pub(super) fn of_target(target: &Target) -> Option<Self> {
        let group = remora_naming::sofa::group_of(target)?;
        if let Some(service) = Service::of_target(target) {
            return Some(Self {
                service,
                is_interface: false,
            });
        }
        let service = Service::parse(target.name())?.in_group(Some(group));
        Some(Self {
            service,
            is_interface: true,
        })
    }

    /// Whether the list of `other` is a part of this one.
    pub(super) fn includes(&self, other: &Self) -> bool {
        self.is_interface
            && !other.is_interface
            && (&self.service.interface, &self.service.group) == (&other.service.interface, &other.service.group)
    }
}

/// Why a list cannot be held, for the application's log.
pub(super) fn cannot_hold(target: &Target) -> Option<String> {
    if Wanted::of_target(target).is_some() {
        return None;
    }
    let what = match target {
        Target::Application { .. } => "an application-level list of Dubbo",
        Target::Service { .. } if remora_naming::sofa::is_sofa(target) => "no name of a SOFARPC service",
        Target::Service { .. } => "a service of Dubbo",
    };
    Some(format!(
        "the registry is a SOFARegistry, which holds services of SOFARPC only, and {target} is {what}; Dubbo needs a ZooKeeper as registry"
    ))
}
