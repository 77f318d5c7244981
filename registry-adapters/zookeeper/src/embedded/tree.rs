// SPDX-License-Identifier: Apache-2.0
//! The nodes. Knows what a create, a delete and a change do to figures and to the parent; not who may do it.
//!
//! Source: ZooKeeper 3.9 `DataTree`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::node::{Moment, Node, Owner};
use crate::wire::{Acl, Seq, Stat, perms};

/// All nodes, and what changed since the last [`Tree::take_changes`].
pub(super) struct Tree {
    nodes: HashMap<Arc<str>, Node>,
    ephemerals: HashMap<i64, BTreeSet<Arc<str>>>,
    // Containers and TTL nodes: those that upkeep looks at.
    transient: HashSet<Arc<str>>,
    data_bytes: usize,
    changed: HashSet<Arc<str>>,
    journal: Option<Vec<Undo>>,
}

enum Undo {
    Create {
        path: Arc<str>,
        parent_pzxid: i64,
    },
    Delete {
        path: Arc<str>,
        node: Box<Node>,
        parent_pzxid: i64,
    },
    SetData {
        path: Arc<str>,
        before: Box<(Option<Bytes>, i32, i64, i64)>,
    },
    SetAcl {
        path: Arc<str>,
        acl: Seq<Acl>,
        aversion: i32,
    },
}

/// A node as it goes to disk: its path, and its bytes or `None` when it is gone.
pub(super) type Change = (Arc<str>, Option<Vec<u8>>);

impl Tree {
    /// A fresh tree, as a standalone ZooKeeper starts with.
    pub(super) fn new() -> Self {
        let mut tree = Self::empty();
        let at = Moment { zxid: 0, ms: 0 };
        let open = open_acl();
        for path in ["/", "/zookeeper", "/zookeeper/quota"] {
            tree.insert(path, Node::new(Some(Bytes::new()), open.clone(), Owner::Nobody, at));
        }
        // A standalone server's config node: empty, readable, access list version -1.
        let readable = Acl {
            perms: perms::READ,
            ..Acl::open()
        };
        let mut config = Node::new(Some(Bytes::new()), [readable].into_iter().collect(), Owner::Nobody, at);
        config.aversion = -1;
        tree.insert("/zookeeper/config", config);
        tree
    }

    fn empty() -> Self {
        Self {
            nodes: HashMap::new(),
            ephemerals: HashMap::new(),
            transient: HashSet::new(),
            data_bytes: 0,
            changed: HashSet::new(),
            journal: None,
        }
    }

    // For nodes that were not created by a client.
    fn insert(&mut self, path: &str, node: Node) {
        let path: Arc<str> = Arc::from(path);
        if let Some((parent, name)) = split(&path)
            && let Some(parent) = self.nodes.get_mut(parent)
        {
            parent.children.insert(Arc::from(name));
        }
        self.index(&path, &node);
        self.changed.insert(path.clone());
        self.nodes.insert(path, node);
    }

    /// Takes over one stored node; a parent comes before its children. Start with [`Tree::default`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn load_node(&mut self, path: &str, bytes: &[u8]) -> Result<(), String> {
        let node = Node::decode(bytes).map_err(|e| e.to_string())?;
        let path: Arc<str> = Arc::from(path);
        if &*path != "/" {
            let (parent, name) = split(&path).ok_or("its path is no path")?;
            let parent = self.nodes.get_mut(parent).ok_or("its parent is missing")?;
            parent.children.insert(Arc::from(name));
        }
        self.index(&path, &node);
        self.nodes.insert(path, node);
        Ok(())
    }

    fn index(&mut self, path: &Arc<str>, node: &Node) {
        self.data_bytes += path.len() + node.data.as_ref().map_or(0, Bytes::len);
        match node.owner {
            Owner::Nobody => {}
            Owner::Session(id) => {
                self.ephemerals.entry(id).or_default().insert(path.clone());
            }
            Owner::Container | Owner::Ttl { .. } => {
                self.transient.insert(path.clone());
            }
        }
    }

    fn unindex(&mut self, path: &Arc<str>, node: &Node) {
        self.data_bytes -= path.len() + node.data.as_ref().map_or(0, Bytes::len);
        match node.owner {
            Owner::Nobody => {}
            Owner::Session(id) => {
                if let Some(owned) = self.ephemerals.get_mut(&id) {
                    owned.remove(path);
                    if owned.is_empty() {
                        self.ephemerals.remove(&id);
                    }
                }
            }
            Owner::Container | Owner::Ttl { .. } => {
                self.transient.remove(path);
            }
        }
    }

    /// The node there. The empty path is the root too, as in ZooKeeper.
    pub(super) fn node(&self, path: &str) -> Option<&Node> {
        self.nodes.get(if path.is_empty() { "/" } else { path })
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Paths and data together, in bytes.
    pub(super) fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// How many nodes go with a session.
    pub(super) fn ephemeral_count(&self) -> usize {
        self.ephemerals.values().map(BTreeSet::len).sum()
    }

    /// The nodes that go with this session.
    pub(super) fn ephemerals(&self, session: i64) -> impl Iterator<Item = &Arc<str>> + Clone {
        self.ephemerals.get(&session).into_iter().flatten()
    }

    /// Sessions that own a node.
    pub(super) fn owners(&self) -> impl Iterator<Item = i64> {
        self.ephemerals.keys().copied()
    }

    /// Nodes below `path`, at any depth.
    pub(super) fn descendants(&self, path: &str) -> usize {
        let mut count = 0;
        let mut open = vec![path.trim_end_matches('/').to_owned()];
        while let Some(path) = open.pop() {
            let Some(node) = self.node(&path) else { continue };
            count += node.children.len();
            open.extend(node.children.iter().map(|name| format!("{path}/{name}")));
        }
        count
    }

    /// Containers that had children and have none, and TTL nodes without children whose time is over.
    pub(super) fn outlived(&self, now_ms: i64) -> Vec<Arc<str>> {
        let outlived = |path: &&Arc<str>| {
            let Some(node) = self.nodes.get(&***path) else {
                return false;
            };
            node.children.is_empty()
                && match node.owner {
                    Owner::Container => node.creates > 0,
                    Owner::Ttl { ms } => now_ms.saturating_sub(node.mtime) > ms,
                    _ => false,
                }
        };
        self.transient.iter().filter(outlived).cloned().collect()
    }

    /// Adds a node below an existing parent; the caller has looked.
    pub(super) fn create(&mut self, path: &str, data: Option<Bytes>, acl: Seq<Acl>, owner: Owner, at: Moment) -> Stat {
        let path: Arc<str> = Arc::from(path);
        let node = Node::new(data, acl, owner, at);
        let stat = node.stat();
        let mut parent_pzxid = 0;
        if let Some((parent, name)) = split(&path)
            && let Some((key, parent)) = self.entry(parent)
        {
            parent_pzxid = parent.pzxid;
            parent.children.insert(Arc::from(name));
            parent.creates = parent.creates.wrapping_add(1);
            parent.pzxid = at.zxid;
            self.changed.insert(key);
        }
        self.index(&path, &node);
        self.changed.insert(path.clone());
        self.nodes.insert(path.clone(), node);
        self.note(|| Undo::Create { path, parent_pzxid });
        stat
    }

    /// Takes a childless node away; `None` if there is none.
    pub(super) fn delete(&mut self, path: &str, zxid: i64) -> Option<Node> {
        let (path, node) = self.nodes.remove_entry(path)?;
        let mut parent_pzxid = 0;
        if let Some((parent, name)) = split(&path)
            && let Some((key, parent)) = self.entry(parent)
        {
            parent_pzxid = parent.pzxid;
            parent.children.remove(name);
            parent.pzxid = parent.pzxid.max(zxid);
            self.changed.insert(key);
        }
        self.unindex(&path, &node);
        self.changed.insert(path.clone());
        self.note(|| Undo::Delete {
            path,
            node: Box::new(node.clone()),
            parent_pzxid,
        });
        Some(node)
    }

    /// Replaces a node's data; the version is the caller's.
    pub(super) fn set_data(&mut self, path: &str, data: Option<Bytes>, version: i32, at: Moment) -> Option<Stat> {
        let (key, node) = self.entry(path)?;
        let before = (node.data.take(), node.version, node.mtime, node.mzxid);
        let (old, new) = (
            before.0.as_ref().map_or(0, Bytes::len),
            data.as_ref().map_or(0, Bytes::len),
        );
        node.data = data;
        node.version = version;
        node.mtime = at.ms;
        node.mzxid = at.zxid;
        let stat = node.stat();
        self.data_bytes = self.data_bytes - old + new;
        self.changed.insert(key.clone());
        self.note(|| Undo::SetData {
            path: key,
            before: Box::new(before),
        });
        Some(stat)
    }

    /// Replaces a node's access list; the version is the caller's.
    pub(super) fn set_acl(&mut self, path: &str, acl: Seq<Acl>, aversion: i32) -> Option<Stat> {
        let (key, node) = self.entry(path)?;
        let before = std::mem::replace(&mut node.acl, acl);
        let before_version = std::mem::replace(&mut node.aversion, aversion);
        let stat = node.stat();
        self.changed.insert(key.clone());
        self.note(|| Undo::SetAcl {
            path: key,
            acl: before,
            aversion: before_version,
        });
        Some(stat)
    }

    /// From here on, changes can be taken back.
    pub(super) fn begin(&mut self) {
        self.journal = Some(Vec::new());
    }

    /// Keeps what was changed since [`Tree::begin`].
    pub(super) fn commit(&mut self) {
        self.journal = None;
    }

    /// Takes back what was changed since [`Tree::begin`].
    pub(super) fn roll_back(&mut self) {
        for undo in self.journal.take().unwrap_or_default().into_iter().rev() {
            self.undo(undo);
        }
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Create { path, parent_pzxid } => {
                if let Some(node) = self.nodes.remove(&*path) {
                    self.unindex(&path, &node);
                }
                if let Some((parent, name)) = split(&path)
                    && let Some((_, parent)) = self.entry(parent)
                {
                    parent.children.remove(name);
                    parent.creates = parent.creates.wrapping_sub(1);
                    parent.pzxid = parent_pzxid;
                }
            }
            Undo::Delete {
                path,
                node,
                parent_pzxid,
            } => {
                if let Some((parent, name)) = split(&path)
                    && let Some((_, parent)) = self.entry(parent)
                {
                    parent.children.insert(Arc::from(name));
                    parent.pzxid = parent_pzxid;
                }
                self.index(&path, &node);
                self.nodes.insert(path, *node);
            }
            Undo::SetData { path, before } => {
                let (data, version, mtime, mzxid) = *before;
                let Some(node) = self.nodes.get_mut(&*path) else { return };
                let (new, old) = (
                    node.data.as_ref().map_or(0, Bytes::len),
                    data.as_ref().map_or(0, Bytes::len),
                );
                node.data = data;
                node.version = version;
                node.mtime = mtime;
                node.mzxid = mzxid;
                self.data_bytes = self.data_bytes - new + old;
            }
            Undo::SetAcl { path, acl, aversion } => {
                let Some(node) = self.nodes.get_mut(&*path) else { return };
                node.acl = acl;
                node.aversion = aversion;
            }
        }
    }

    /// What has to go to disk, each node once, as it is now.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let changed = std::mem::take(&mut self.changed);
        let encode = |path: Arc<str>| {
            let bytes = self.nodes.get(&*path).map(Node::encode);
            (path, bytes)
        };
        changed.into_iter().map(encode).collect()
    }

    /// Whether something has to go to disk.
    pub(super) fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    fn entry(&mut self, path: &str) -> Option<(Arc<str>, &mut Node)> {
        let path = if path.is_empty() { "/" } else { path };
        let key = self.nodes.get_key_value(path)?.0.clone();
        self.nodes.get_mut(path).map(|node| (key, node))
    }

    fn note(&mut self, undo: impl FnOnce() -> Undo) {
        if let Some(journal) = &mut self.journal {
            journal.push(undo());
        }
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::empty()
    }
}

/// Parent (empty for the root) and name, by the last slash alone.
pub(super) fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    if name.is_empty() && parent.is_empty() {
        return None;
    }
    Some((if parent.is_empty() { "/" } else { parent }, name))
}

/// The access list that nearly every node has.
pub(super) fn open_acl() -> Seq<Acl> {
    [Acl::open()].into_iter().collect()
}
