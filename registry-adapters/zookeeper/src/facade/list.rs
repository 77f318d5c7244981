// SPDX-License-Identifier: Apache-2.0
//! A list as one session is shown it.
//!
//! The real children of a list are replaced by what discovery makes of them; children that are not discovery's stay.
//! Everything that a client may compare is kept in agreement with the list shown, not with the real one: `numChildren`,
//! `cversion`, `pzxid`, the Stat of each entry.
//! Not here: watches and replies (`dirs.rs`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use remora_naming::application;
use remora_naming::dubbo_url::is_provider_child;
use remora_naming::sofa;
use remora_registry::{Client, Discovery, Instance, LeaseId, Snapshot, Target};
use tokio::time::Instant;
use tracing::warn;

use super::overlap::Before;
use crate::places::{child_data, print_child};
use crate::wire::{EventKind, Request, Stat};

/// The list shown for one directory.
#[derive(Debug, Default)]
pub(super) struct Shown {
    entries: BTreeMap<String, Entry>,
    /// Nothing in it is discovery's, or all of it is left as it is: the real directory is shown.
    pub(super) is_foreign: bool,
    /// What stands in for the directory's `cversion` and `pzxid`; `None` until the directory was read once.
    figures: Option<(i32, i64)>,
    /// Changes of the list since.
    changes: i32,
    /// zxid of the last change.
    changed_at: i64,
    /// What was shown before a list took its place as a whole; it is shown beside that.
    before: Option<Before<BTreeMap<String, Entry>>>,
}

/// Who looks at a list.
#[derive(Clone, Copy)]
pub(super) struct Viewer<'a> {
    pub(super) discovery: &'a dyn Discovery,
    pub(super) lease: LeaseId,
    pub(super) client: Client,
    /// The registry can answer reads of a list that is left as it is.
    pub(super) may_see_registry: bool,
}

/// An entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// Made by discovery; exists here only.
    Made(Made),
    /// A real child that is not discovery's; requests on it are relayed.
    Foreign,
}

/// An entry that exists here only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    /// Its data: empty for a Dubbo URL, one byte for SOFARPC's, JSON for an application's instance.
    pub(super) data: Bytes,
    created: i64,
    modified: i64,
    version: i32,
    created_ms: i64,
    modified_ms: i64,
}

/// A difference between two lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) kind: EventKind,
    pub(super) name: String,
    /// It is a real child that is not discovery's.
    pub(super) is_foreign: bool,
}

impl Shown {
    /// Replaces the list by what `snapshot` shows to `viewer`; `stamp` is the zxid to give to what changed.
    pub(super) fn refresh(&mut self, snapshot: &Snapshot, viewer: &Viewer<'_>, stamp: i64) -> Vec<Change> {
        let Viewer {
            discovery,
            lease,
            client,
            ..
        } = *viewer;
        let foreign = &snapshot.foreign;
        if viewer.may_see_registry && discovery.leaves(lease, snapshot) {
            self.is_foreign = true;
            return self.over_both(snapshot, BTreeMap::new(), real_names(snapshot), stamp);
        }
        self.is_foreign = snapshot.instances.is_empty() && !foreign.is_empty();
        let mut next: BTreeMap<String, Bytes> = BTreeMap::new();
        let stored: HashMap<&str, &Instance> = snapshot.instances.iter().map(|i| (&*i.id, &**i)).collect();
        for instance in discovery.inward(lease, snapshot, client) {
            let is_untouched = stored.get(&*instance.id).is_some_and(|stored| **stored == instance);
            match printed(&snapshot.target, &instance, is_untouched) {
                Ok((name, data)) => drop(next.insert(name, data)),
                Err(e) => warn!(list = %snapshot.target, reason = e.reason(), "an entry cannot be shown"),
            }
        }
        self.over_both(snapshot, next, foreign.clone(), stamp)
    }

    /// Until when it is shown with what was shown before.
    pub(super) fn both_until(&self) -> Option<Instant> {
        self.before.as_ref().map(Before::until)
    }

    /// The application reads it.
    pub(super) fn read(&mut self) {
        if let Some(before) = &mut self.before {
            before.read();
        }
    }

    /// Replaces the list; one of SOFARPC of which nothing would be left is shown with what it showed before, for a while.
    fn over_both(
        &mut self,
        snapshot: &Snapshot,
        mut next: BTreeMap<String, Bytes>,
        mut foreign: Vec<Arc<str>>,
        stamp: i64,
    ) -> Vec<Change> {
        let is_left = |name: &String| next.contains_key(name) || foreign.iter().any(|other| **other == **name);
        let is_empty = next.is_empty() && foreign.is_empty();
        if self.before.is_none()
            && sofa::is_sofa(&snapshot.target)
            && !is_empty
            && !self.entries.is_empty()
            && !self.entries.keys().any(is_left)
        {
            self.before = Some(Before::new(self.entries.clone()));
        }
        if let Some(before) = self.before.take().filter(|before| !before.is_over() && !is_empty) {
            let real = real_names(snapshot);
            for (name, entry) in &before.entries {
                match entry {
                    Entry::Made(made) => drop(next.entry(name.clone()).or_insert_with(|| made.data.clone())),
                    Entry::Foreign if foreign.iter().any(|other| **other == **name) => {}
                    // Only the registry can answer for it.
                    Entry::Foreign => foreign.extend(real.iter().find(|other| ***other == **name).cloned()),
                }
            }
            self.is_foreign = false;
            self.before = Some(before);
        }
        self.replace(next, &foreign, stamp)
    }

    fn replace(&mut self, next: BTreeMap<String, Bytes>, foreign: &[Arc<str>], stamp: i64) -> Vec<Change> {
        let now = now_ms();
        let mut changes = Vec::new();
        let mut old = std::mem::take(&mut self.entries);
        let mut change = |kind, name: &str, is_foreign| {
            let name = name.to_owned();
            changes.push(Change { kind, name, is_foreign });
        };
        for (name, data) in next {
            let entry = match old.remove(&name) {
                Some(Entry::Made(made)) if made.data == data => made,
                Some(Entry::Made(made)) => {
                    change(EventKind::NodeDataChanged, &name, false);
                    Made {
                        data,
                        modified: stamp,
                        modified_ms: now,
                        version: made.version.wrapping_add(1),
                        ..made
                    }
                }
                _ => {
                    change(EventKind::NodeCreated, &name, false);
                    Made {
                        data,
                        created: stamp,
                        modified: stamp,
                        version: 0,
                        created_ms: now,
                        modified_ms: now,
                    }
                }
            };
            self.entries.insert(name, Entry::Made(entry));
        }
        for name in foreign {
            if old.remove(&**name).is_none() && !self.entries.contains_key(&**name) {
                change(EventKind::NodeCreated, name, true);
            }
            self.entries.entry(name.to_string()).or_insert(Entry::Foreign);
        }
        for (name, entry) in old {
            change(EventKind::NodeDeleted, &name, entry == Entry::Foreign);
        }
        let moved = changes.iter().filter(|c| c.kind != EventKind::NodeDataChanged).count();
        if moved > 0 {
            self.changes = self.changes.wrapping_add(i32::try_from(moved).unwrap_or(i32::MAX));
            self.changed_at = stamp;
        }
        changes
    }

    /// Number of the list's version; another number is another list.
    pub(super) fn version(&self) -> i32 {
        self.changes
    }

    /// The entry called `name`.
    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The names in order.
    pub(super) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The directory's own Stat, made to agree with the list.
    pub(super) fn adjust(&mut self, stat: &mut Stat) {
        let (cversion, pzxid) = *self.figures.get_or_insert((stat.cversion, stat.pzxid));
        stat.cversion = cversion.wrapping_add(self.changes);
        stat.pzxid = pzxid.max(self.changed_at);
        stat.num_children = i32::try_from(self.entries.len()).unwrap_or(i32::MAX);
    }
}

impl Made {
    /// Its Stat.
    pub(super) fn stat(&self) -> Stat {
        Stat {
            czxid: self.created,
            mzxid: self.modified,
            ctime: self.created_ms,
            mtime: self.modified_ms,
            version: self.version,
            data_length: i32::try_from(self.data.len()).unwrap_or(i32::MAX),
            pzxid: self.created,
            ..Stat::default()
        }
    }

    /// zxid of its last change.
    pub(super) fn modified(&self) -> i64 {
        self.modified
    }
}

/// Name and data of an entry. One that discovery left alone keeps its stored form, byte for byte.
fn printed(
    target: &Target,
    instance: &Instance,
    is_untouched: bool,
) -> Result<(String, Bytes), remora_naming::NamingError> {
    match target {
        Target::Service { .. } if is_untouched && is_provider_child(&instance.id) => {
            Ok((instance.id.to_string(), child_data(target)))
        }
        Target::Service { .. } => Ok((print_child(target, instance), child_data(target))),
        Target::Application { .. } if is_untouched => {
            Ok((instance.id.to_string(), Bytes::copy_from_slice(instance.raw.as_bytes())))
        }
        Target::Application { .. } => {
            let (name, json) = application::print(instance)?;
            Ok((name, Bytes::from(json)))
        }
    }
}

/// Names of all children that the registry has.
fn real_names(snapshot: &Snapshot) -> Vec<Arc<str>> {
    let ids = snapshot.instances.iter().map(|instance| &instance.id);
    snapshot.foreign.iter().chain(ids).cloned().collect()
}

/// Whether a read of a list sets a watch.
pub(super) fn wants_watch(request: &Request) -> bool {
    matches!(
        request,
        Request::GetChildren { watch: true, .. } | Request::GetChildren2 { watch: true, .. }
    )
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
