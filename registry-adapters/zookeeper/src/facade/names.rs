// SPDX-License-Identifier: Apache-2.0
//! Names that an application published: its own form, and the form that stands in the registry.
//!
//! Dead ones are remembered too, as long as there is room: a watch set after a delete must meet the next create.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use remora_naming::sofa;
use remora_registry::{Instance, Target};

use crate::places::child_data;
use crate::wire::request::Create;
use crate::wire::{Acl, CreateMode, Seq};

/// Both forms of what one session published.
#[derive(Debug, Default)]
pub(super) struct Names {
    own: HashMap<String, Own>,
    by_registry: HashMap<String, String>,
    /// Ephemerals found when an unknown session came back, whose own form was not asked for yet.
    learned: HashMap<String, Own>,
}

/// A published node.
#[derive(Debug, Clone)]
pub(super) struct Own {
    /// Its path in the registry.
    pub(super) registry_path: String,
    pub(super) target: Target,
    /// As the application wrote it.
    pub(super) instance: Instance,
    /// Its other endpoints that were published.
    pub(super) also: Vec<Instance>,
    /// Its data: as the application wrote it, and as it stands in the registry; `None` where they are the same.
    pub(super) data: Option<(Bytes, Bytes)>,
    /// What was created; not known of one that another Remora created.
    pub(super) node: Option<Node>,
    /// Whether it stands, as far as we know.
    pub(super) is_live: bool,
    /// Whether it stands in another form than the application's; one that does not is nobody's business but the application's.
    pub(super) is_taken: bool,
    /// Number of the takeover policy that decided so.
    pub(super) decided: u64,
}

/// A node as it stands in the registry.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) data: Option<Bytes>,
    pub(super) acl: Seq<Acl>,
    pub(super) is_ephemeral: bool,
}

impl Node {
    /// What a create makes. Copied: the frame's buffer would stay for as long as the node does.
    pub(super) fn of(create: &Create) -> Self {
        Self {
            data: create.data.as_deref().map(Bytes::copy_from_slice),
            acl: create.acl.iter().collect(),
            is_ephemeral: CreateMode::from_wire(create.flags) == Some(CreateMode::Ephemeral),
        }
    }
}

impl Own {
    /// The node, for one who has to make it again. Of one that another Remora made the access list is not known: the usual
    /// one then.
    pub(super) fn node(&self) -> Node {
        self.node.clone().unwrap_or_else(|| Node {
            data: Some(match (&self.data, sofa::is_sofa(&self.target)) {
                (Some((_, ours)), _) => ours.clone(),
                (None, true) => child_data(&self.target),
                // Dubbo puts the creator's address there, and never reads it.
                (None, false) => Bytes::copy_from_slice(self.instance.host.as_bytes()),
            }),
            acl: Seq::from_iter([Acl::open()]),
            is_ephemeral: true,
        })
    }
}

/// Most names kept for one session; further ones are passed on unchanged. A large provider has some thousand.
const MAX_NAMES: usize = 50_000;

impl Names {
    /// The node that the application calls `path`.
    pub(super) fn own(&self, path: &str) -> Option<&Own> {
        self.own.get(path)
    }

    pub(super) fn own_mut(&mut self, path: &str) -> Option<&mut Own> {
        self.own.get_mut(path)
    }

    /// The node at `registry_path`, if it stands as far as we know.
    pub(super) fn standing_at(&self, registry_path: &str) -> Option<&Own> {
        let own = self.by_registry.get(registry_path).and_then(|path| self.own.get(path));
        own.or_else(|| self.learned.get(registry_path))
            .filter(|own| own.is_live && own.is_taken)
    }

    /// Every node that stands as far as we know, of those that are taken over.
    pub(super) fn all_standing(&self) -> impl Iterator<Item = &Own> {
        self.all_live().filter(|own| own.is_taken)
    }

    /// Every node that stands as far as we know.
    pub(super) fn all_live(&self) -> impl Iterator<Item = &Own> {
        self.own.values().chain(self.learned.values()).filter(|own| own.is_live)
    }

    /// Paths, as the application knows them, of what another policy than number `decided` decided on.
    pub(super) fn decided_before(&self, decided: u64) -> Vec<String> {
        let before = |own: &Own| own.is_live && own.decided != decided;
        let own = self.own.iter().filter(|(_, own)| before(own));
        own.map(|(path, _)| path.clone()).collect()
    }

    /// The same of ephemerals that were found; paths in the registry.
    pub(super) fn learned_before(&self, decided: u64) -> Vec<String> {
        let learned = self.learned.values().filter(|own| own.decided != decided);
        learned.map(|own| own.registry_path.clone()).collect()
    }

    /// The ephemeral that was found at `registry_path`, to be changed.
    pub(super) fn learned_mut(&mut self, registry_path: &str) -> Option<&mut Own> {
        self.learned.get_mut(registry_path)
    }

    /// Forgets the ephemeral that was found at `registry_path`.
    pub(super) fn forget_learned(&mut self, registry_path: &str) {
        self.learned.remove(registry_path);
    }

    /// What the application calls the node at `registry_path`.
    pub(super) fn app_path(&self, registry_path: &str) -> Option<&str> {
        self.by_registry.get(registry_path).map(String::as_str)
    }

    /// Remembers a name. `false` when there is no room.
    pub(super) fn insert(&mut self, path: &str, own: Own) -> bool {
        if self.own.len() >= MAX_NAMES && !self.own.contains_key(path) {
            self.own.retain(|_, own| own.is_live);
            let own = &self.own;
            self.by_registry.retain(|_, path| own.contains_key(path));
            if self.own.len() >= MAX_NAMES {
                return false;
            }
        }
        self.learned.remove(&own.registry_path);
        self.by_registry.insert(own.registry_path.clone(), path.to_owned());
        if let Some(old) = self.own.insert(path.to_owned(), own)
            && self
                .own
                .get(path)
                .is_some_and(|new| new.registry_path != old.registry_path)
        {
            self.by_registry.remove(&old.registry_path);
        }
        true
    }

    /// Remembers an ephemeral that was found; its `instance` has the application's own port.
    pub(super) fn learn(&mut self, own: Own) {
        if self.learned.len() < MAX_NAMES {
            self.learned.insert(own.registry_path.clone(), own);
        }
    }

    /// Whether an ephemeral was found whose own form may have this port.
    pub(super) fn may_be_learned(&self, target: &Target, port: u16) -> bool {
        self.learned
            .values()
            .any(|own| own.instance.port == port && own.target == *target)
    }

    /// The ephemeral that was found at `registry_path`.
    pub(super) fn learned(&self, registry_path: &str) -> Option<&Own> {
        self.learned.get(registry_path)
    }

    /// Takes the ephemeral that was found for this port.
    pub(super) fn take_learned(&mut self, target: &Target, port: u16) -> Option<Own> {
        let found = |own: &&Own| own.instance.port == port && own.target == *target;
        let path = self.learned.values().find(found)?.registry_path.clone();
        self.learned.remove(&path)
    }

    /// Paths in the registry of all that stands and is taken over, as far as we know.
    pub(super) fn standing(&self) -> Vec<String> {
        self.all_standing().map(|own| own.registry_path.clone()).collect()
    }

    /// What stood at `registry_path` stands no more; gives it, if it did.
    pub(super) fn fell(&mut self, registry_path: &str) -> Option<Own> {
        if let Some(learned) = self.learned.remove(registry_path) {
            return Some(learned);
        }
        let own = self.own.get_mut(self.by_registry.get(registry_path)?)?;
        std::mem::replace(&mut own.is_live, false).then(|| own.clone())
    }

    /// A host that the application published.
    pub(super) fn any_host(&self) -> Option<Arc<str>> {
        self.own.values().map(|own| Arc::clone(&own.instance.host)).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remora_naming::dubbo_url;

    fn own(registry_path: &str) -> Own {
        Own {
            registry_path: registry_path.to_owned(),
            target: Target::Service {
                namespace: "/dubbo".into(),
                name: "a.B".into(),
            },
            instance: dubbo_url::parse_child("dubbo%3A%2F%2F10.0.0.5%3A20880%2Fa.B").unwrap(),
            also: Vec::new(),
            data: None,
            node: None,
            is_live: true,
            is_taken: true,
            decided: 0,
        }
    }

    #[test]
    fn a_name_moved_elsewhere_leaves_nothing_behind() {
        let mut names = Names::default();
        names.insert("/a", own("/x"));
        names.insert("/a", own("/y"));
        assert_eq!(names.app_path("/x"), None);
        assert_eq!(names.app_path("/y"), Some("/a"));
        names.insert("/a", own("/y"));
        assert_eq!(names.app_path("/y"), Some("/a"));
    }
}
