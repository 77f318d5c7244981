// SPDX-License-Identifier: Apache-2.0
//! Children of a SOFARPC interface, of all its services or of one.
//!
//! The data is one byte, 1 for online, 0 for offline. SOFARPC's own consumers do not look at it, and a provider that is
//! configured with `dynamic=false` registers with 0 and is called all the same. So only a 0 that was written later, by an
//! operator, takes a provider out.
//!
//! The version in a URL is 1.0 whatever the service's is, unless a Remora wrote it for a door that knows better. So the
//! list of another version has the providers that say so, and if there are none, those that say 1.0.

use std::sync::Arc;

use remora_naming::dubbo_url;
use remora_naming::sofa::{self, Service, VERSION, params};
use remora_registry::{Instance, Target};
use tracing::warn;

use super::follow::Content;
use super::nodes::NodeContent;
use crate::places;
use crate::wire::Stat;

pub(crate) struct SofaChildren {
    interface: String,
    /// The one service that is followed; `None`: all.
    service: Option<Service>,
}

impl SofaChildren {
    pub fn of(target: &Target) -> Self {
        Self {
            interface: places::interface_of(target).unwrap_or_default(),
            service: Service::of_target(target),
        }
    }

    /// What a child is, by its name, data and Stat.
    pub fn content(&self, name: &str, data: &[u8], stat: &Stat) -> NodeContent {
        if !dubbo_url::is_provider_child(name) {
            return NodeContent::Other;
        }
        match sofa::child::parse(name, &self.interface) {
            Ok(mut instance) => {
                if data == places::OFFLINE && stat.version > 0 {
                    instance.params.set(params::OFFLINE, "true");
                }
                NodeContent::Instance(Arc::new(instance))
            }
            Err(error) => {
                warn!(registry = "zookeeper", service = self.interface, reason = error.reason(), %error, "provider cannot be read, skipped");
                NodeContent::Malformed
            }
        }
    }

    /// Leaves the instances of the one service, under its key.
    pub(super) fn narrow(&self, content: &mut Content) {
        let Some(service) = &self.service else { return };
        content.foreign.clear();
        let (mut exact, mut any) = (Vec::new(), Vec::new());
        for instance in content.instances.drain(..) {
            let Some(listed) = Service::of_instance(&instance, &service.group) else {
                continue;
            };
            if (&listed.unique_id, &listed.protocol) != (&service.unique_id, &service.protocol) {
                continue;
            }
            if listed.version == service.version {
                exact.push(instance);
            } else if listed.version == VERSION {
                any.push(Arc::new(Instance {
                    key: Some(service.key()),
                    ..Instance::clone(&instance)
                }));
            }
        }
        content.instances = if exact.is_empty() { any } else { exact };
    }
}
