// SPDX-License-Identifier: Apache-2.0
//! Who is told of what. Watches belong to connections and go with them.
//!
//! Source: ZooKeeper 3.9 `WatchManager`, `WatchStats`, `DataTree.addWatch`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::wire::{Acl, EventKind, Seq, watcher_kind};

/// Number of a connection.
pub(super) type ConnId = u64;

/// How long a watch stays. Bits: one connection may hold several on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Modes(u8);

impl Modes {
    pub(super) const ONCE: Self = Self(1);
    pub(super) const PERSISTENT: Self = Self(2);
    pub(super) const RECURSIVE: Self = Self(4);
    const ANY: Self = Self(7);

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// All watches.
#[derive(Default)]
pub(super) struct Watches {
    data: Table,
    child: Table,
}

#[derive(Default)]
struct Table {
    by_path: HashMap<Arc<str>, BTreeMap<ConnId, Modes>>,
    by_conn: HashMap<ConnId, HashSet<Arc<str>>>,
    // How many recursive watches there are: without any, parents need not be looked at.
    recursive: usize,
}

impl Watches {
    /// Of `exists` and `getData`.
    pub(super) fn add_data(&mut self, path: &str, conn: ConnId) {
        self.data.add(path, conn, Modes::ONCE);
    }

    /// Of `getChildren`.
    pub(super) fn add_child(&mut self, path: &str, conn: ConnId) {
        self.child.add(path, conn, Modes::ONCE);
    }

    /// Of `addWatch`, mode 0.
    pub(super) fn add_persistent(&mut self, path: &str, conn: ConnId) {
        self.data.add(path, conn, Modes::PERSISTENT);
        self.child.add(path, conn, Modes::PERSISTENT);
    }

    /// Of `addWatch`, mode 1.
    pub(super) fn add_recursive(&mut self, path: &str, conn: ConnId) {
        self.data.add(path, conn, Modes::RECURSIVE);
    }

    /// Who hears that `path` was created or its data changed.
    pub(super) fn data_event(&mut self, path: &str) -> BTreeSet<ConnId> {
        self.data.trigger(path)
    }

    /// Who hears that the child list of `path` changed.
    pub(super) fn child_event(&mut self, path: &str) -> BTreeSet<ConnId> {
        self.child.trigger(path)
    }

    /// Who hears that `path` was deleted: each connection once.
    pub(super) fn deleted_event(&mut self, path: &str) -> BTreeSet<ConnId> {
        let mut told = self.data.trigger(path);
        told.append(&mut self.child.trigger(path));
        told
    }

    /// Whether the connection has a watch of this kind there; `None` for a kind that does not exist.
    pub(super) fn contains(&self, path: &str, conn: ConnId, kind: i32) -> Option<bool> {
        let (data, child) = (self.data.modes(path, conn), self.child.modes(path, conn));
        Some(match kind {
            watcher_kind::CHILDREN => child.has(Modes::ONCE),
            watcher_kind::DATA => data.has(Modes::ONCE),
            watcher_kind::PERSISTENT => data.has(Modes::PERSISTENT),
            watcher_kind::PERSISTENT_RECURSIVE => data.has(Modes::RECURSIVE),
            watcher_kind::ANY => data.has(Modes::ANY) || child.has(Modes::ANY),
            _ => return None,
        })
    }

    /// Removes the connection's watches of this kind there; whether there were any; `None` for a kind that does not exist.
    pub(super) fn remove(&mut self, path: &str, conn: ConnId, kind: i32) -> Option<bool> {
        let mut both = |modes| self.data.remove(path, conn, modes) | self.child.remove(path, conn, modes);
        Some(match kind {
            watcher_kind::CHILDREN => self.child.remove(path, conn, Modes::ONCE),
            watcher_kind::DATA => self.data.remove(path, conn, Modes::ONCE),
            watcher_kind::PERSISTENT => both(Modes::PERSISTENT),
            watcher_kind::PERSISTENT_RECURSIVE => self.data.remove(path, conn, Modes::RECURSIVE),
            watcher_kind::ANY => both(Modes::ANY),
            _ => return None,
        })
    }

    /// Forgets a connection.
    pub(super) fn drop_conn(&mut self, conn: ConnId) {
        self.data.drop_conn(conn);
        self.child.drop_conn(conn);
    }

    /// Watches of one connection.
    pub(super) fn count_of(&self, conn: ConnId) -> usize {
        let of = |table: &Table| table.by_conn.get(&conn).map_or(0, HashSet::len);
        of(&self.data) + of(&self.child)
    }

    /// Watches of all connections.
    pub(super) fn count(&self) -> usize {
        let of = |table: &Table| table.by_conn.values().map(HashSet::len).sum::<usize>();
        of(&self.data) + of(&self.child)
    }
}

impl Table {
    fn add(&mut self, path: &str, conn: ConnId, mode: Modes) {
        let key = match self.by_path.get_key_value(path) {
            Some((key, _)) => key.clone(),
            None => Arc::from(path),
        };
        let modes = self
            .by_path
            .entry(key.clone())
            .or_default()
            .entry(conn)
            .or_insert(Modes(0));
        if mode == Modes::RECURSIVE && !modes.has(Modes::RECURSIVE) {
            self.recursive += 1;
        }
        modes.0 |= mode.0;
        self.by_conn.entry(conn).or_default().insert(key);
    }

    fn modes(&self, path: &str, conn: ConnId) -> Modes {
        let modes = self.by_path.get(path).and_then(|conns| conns.get(&conn));
        modes.copied().unwrap_or(Modes(0))
    }

    fn remove(&mut self, path: &str, conn: ConnId, modes: Modes) -> bool {
        let Some(conns) = self.by_path.get_mut(path) else {
            return false;
        };
        let Some(held) = conns.get_mut(&conn) else { return false };
        if !held.has(modes) {
            return false;
        }
        if held.has(Modes::RECURSIVE) && modes.has(Modes::RECURSIVE) {
            self.recursive -= 1;
        }
        held.0 &= !modes.0;
        if held.0 == 0 {
            conns.remove(&conn);
            if conns.is_empty() {
                self.by_path.remove(path);
            }
            if let Some(paths) = self.by_conn.get_mut(&conn) {
                paths.remove(path);
                if paths.is_empty() {
                    self.by_conn.remove(&conn);
                }
            }
        }
        true
    }

    fn trigger(&mut self, path: &str) -> BTreeSet<ConnId> {
        let mut told: BTreeSet<ConnId> = match self.by_path.get(path) {
            Some(conns) => conns.keys().copied().collect(),
            None => BTreeSet::new(),
        };
        for conn in &told {
            self.remove(path, *conn, Modes::ONCE);
        }
        if self.recursive > 0 {
            for parent in parents(path) {
                let conns = self.by_path.get(parent).into_iter().flatten();
                told.extend(
                    conns
                        .filter(|(_, modes)| modes.has(Modes::RECURSIVE))
                        .map(|(conn, _)| *conn),
                );
            }
        }
        told
    }

    fn drop_conn(&mut self, conn: ConnId) {
        for path in self.by_conn.remove(&conn).unwrap_or_default() {
            let Some(conns) = self.by_path.get_mut(&path) else {
                continue;
            };
            if conns.remove(&conn).is_some_and(|modes| modes.has(Modes::RECURSIVE)) {
                self.recursive -= 1;
            }
            if conns.is_empty() {
                self.by_path.remove(&path);
            }
        }
    }
}

// `/a/b/c` has `/a/b`, `/a` and `/`.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        if rest.len() <= 1 {
            return None;
        }
        let at = rest.rfind('/')?;
        rest = if at == 0 { "/" } else { rest.get(..at)? };
        Some(rest)
    })
}

/// Something that watchers are told.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) kind: EventKind,
    pub(super) path: Arc<str>,
    /// Who may not read by this list is not told.
    pub(super) acl: Option<Seq<Acl>>,
}
