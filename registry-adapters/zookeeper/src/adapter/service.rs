// SPDX-License-Identifier: Apache-2.0
//! The list of a Dubbo service: children of one node, each an encoded URL.

use std::collections::HashMap;
use std::sync::Arc;

use remora_naming::dubbo_url;
use remora_registry::Target;
use tracing::warn;

use super::follow::{Content, MAX_MALFORMED, children_or_none};
use super::nodes::NodeContent as Child;
use crate::client::{Client, ClientError, Watcher};
use crate::places::dir_of;

pub(super) struct ServiceList {
    path: String,
    /// What stood in the list when it was last read; `None` before. A child's name never changes its meaning.
    known: Option<HashMap<Arc<str>, Child>>,
}

impl ServiceList {
    pub fn new(target: &Target) -> Self {
        Self {
            path: dir_of(target),
            known: None,
        }
    }

    /// Gives the list if it changed. Only new children are parsed.
    pub async fn read(&mut self, client: &Client, watcher: &Watcher) -> Result<Option<Content>, ClientError> {
        let mut names = children_or_none(client, &self.path, watcher).await?;
        names.sort_unstable();
        names.dedup();
        let known = self.known.as_ref();
        let is_same = known.is_some_and(|k| k.len() == names.len() && names.iter().all(|n| k.contains_key(n)));
        if is_same {
            return Ok(None);
        }
        let mut now = HashMap::with_capacity(names.len());
        let mut instances = Vec::with_capacity(names.len());
        let mut malformed = Vec::new();
        let mut foreign = Vec::new();
        for name in names {
            let child = match known.and_then(|k| k.get_key_value(&name)) {
                Some((_, child)) => child.clone(),
                None => service_child(&self.path, &name),
            };
            match &child {
                Child::Instance(instance) => instances.push(Arc::clone(instance)),
                Child::Malformed if malformed.len() < MAX_MALFORMED => malformed.push(Arc::clone(&name)),
                Child::Malformed => {}
                Child::Other => foreign.push(Arc::clone(&name)),
            }
            let key = match &child {
                Child::Instance(instance) => Arc::clone(&instance.id),
                Child::Malformed | Child::Other => name,
            };
            now.insert(key, child);
        }
        self.known = Some(now);
        Ok(Some(Content {
            instances,
            malformed,
            foreign,
        }))
    }
}

/// What a child of a Dubbo service's list is.
pub(crate) fn service_child(place: &str, name: &str) -> Child {
    if !dubbo_url::is_provider_child(name) {
        return Child::Other;
    }
    match dubbo_url::parse_child(name) {
        Ok(instance) => Child::Instance(Arc::new(instance)),
        Err(error) => {
            warn!(registry = "zookeeper", place, reason = error.reason(), %error, "provider cannot be read, skipped");
            Child::Malformed
        }
    }
}
