// SPDX-License-Identifier: Apache-2.0
//! Operations that change nothing but watches. Source: ZooKeeper 3.9 `FinalRequestProcessor`, `DataTree.setWatches`.

use tracing::warn;

use super::access;
use super::core::{Asker, Core};
use super::node::Node;
use crate::wire::request::SetWatches;
use crate::wire::{ErrorCode, EventKind, Op, OpResult, Ops, Reply, Request, Seq, Text, perms};

impl Core {
    /// Answers a read.
    pub(super) fn read(&mut self, asker: &Asker, request: Request) -> Result<Reply, ErrorCode> {
        match request {
            Request::Exists { path, watch } => {
                if path.contains('\0') {
                    return Err(ErrorCode::BAD_ARGUMENTS);
                }
                let stat = self
                    .tree
                    .node(&path)
                    .map(|node| asker.may(&node.acl, perms::READ).map(|()| node.stat()));
                let stat = stat.transpose()?;
                if watch {
                    self.room_for_watches(asker, 1)?;
                    self.watches.add_data(&path, asker.conn);
                }
                stat.map(Reply::Stat).ok_or(ErrorCode::NO_NODE)
            }
            Request::GetData { path, watch } => {
                let node = self.readable(asker, &path)?;
                let (data, stat) = (node.data.clone(), node.stat());
                self.watch_data(asker, &path, watch)?;
                Ok(Reply::Data { data, stat })
            }
            Request::GetChildren { path, watch } => {
                let children = names(self.readable(asker, &path)?);
                self.watch_child(asker, &path, watch)?;
                Ok(Reply::Children(children))
            }
            Request::GetChildren2 { path, watch } => {
                let node = self.readable(asker, &path)?;
                let (children, stat) = (names(node), node.stat());
                self.watch_child(asker, &path, watch)?;
                Ok(Reply::Children2 { children, stat })
            }
            Request::GetAcl { path } => {
                let node = self.tree.node(&path).ok_or(ErrorCode::NO_NODE)?;
                asker.may(&node.acl, perms::READ | perms::ADMIN)?;
                let acl = match asker.may(&node.acl, perms::ADMIN) {
                    Ok(()) => node.acl.clone(),
                    Err(_) => access::without_hashes(&node.acl),
                };
                let stat = node.stat();
                Ok(Reply::Acl { acl, stat })
            }
            Request::GetAllChildrenNumber { path } => {
                self.readable(asker, &path)?;
                let number = self.tree.descendants(&path);
                Ok(Reply::Number(i32::try_from(number).unwrap_or(i32::MAX)))
            }
            Request::GetEphemerals { prefix } => {
                let all = prefix.trim().is_empty() || prefix.trim() == "/";
                let owned = self.tree.ephemerals(asker.session);
                let owned = owned.filter(|path| all || path.starts_with(prefix.as_str()));
                Ok(Reply::Children(Seq::of_strs(owned.map(|path| &**path))))
            }
            Request::MultiRead(ops) => self.multi_read(asker, &ops),
            Request::SetWatches(set) | Request::SetWatches2(set) => self.set_watches(asker, &set),
            Request::AddWatch { path, mode } => {
                self.room_for_watches(asker, 2)?;
                match mode {
                    0 => self.watches.add_persistent(&path, asker.conn),
                    1 => self.watches.add_recursive(&path, asker.conn),
                    _ => return Err(ErrorCode::MARSHALLING_ERROR),
                }
                Ok(Reply::Number(0))
            }
            Request::CheckWatches { path, kind } => found(self.watches.contains(&path, asker.conn, kind)),
            Request::RemoveWatches { path, kind } => found(self.watches.remove(&path, asker.conn, kind)),
            // One server, one order: whatever was asked before is done.
            Request::Sync { path } => Ok(Reply::Path { path }),
            Request::WhoAmI => Ok(Reply::Identities(
                asker.identities.iter().map(access::Identity::info).collect(),
            )),
            // As a server without a login of its own: nothing to say, the client goes on unauthenticated.
            Request::Sasl { .. } => Ok(Reply::Token(None)),
            _ => Err(ErrorCode::UNIMPLEMENTED),
        }
    }

    fn readable(&self, asker: &Asker, path: &str) -> Result<&Node, ErrorCode> {
        let node = self.tree.node(path).ok_or(ErrorCode::NO_NODE)?;
        asker.may(&node.acl, perms::READ)?;
        Ok(node)
    }

    fn watch_data(&mut self, asker: &Asker, path: &str, watch: bool) -> Result<(), ErrorCode> {
        if watch {
            self.room_for_watches(asker, 1)?;
            self.watches.add_data(path, asker.conn);
        }
        Ok(())
    }

    fn watch_child(&mut self, asker: &Asker, path: &str, watch: bool) -> Result<(), ErrorCode> {
        if watch {
            self.room_for_watches(asker, 1)?;
            self.watches.add_child(path, asker.conn);
        }
        Ok(())
    }

    fn room_for_watches(&self, asker: &Asker, more: usize) -> Result<(), ErrorCode> {
        if self.watches.count_of(asker.conn).saturating_add(more) > self.options.max_watches {
            let session = format_args!("0x{:x}", asker.session);
            warn!(
                session,
                limit = self.options.max_watches,
                "session has too many watches, one is refused"
            );
            return Err(ErrorCode::SYSTEM_ERROR);
        }
        Ok(())
    }

    // Each by itself: an error stands in its place. Their watch flags count for nothing (`MultiOperationRecord` drops them).
    fn multi_read(&mut self, asker: &Asker, ops: &Ops) -> Result<Reply, ErrorCode> {
        let mut results = Vec::new();
        for op in ops.iter() {
            let request = match op {
                Op::GetData { path, .. } => Request::GetData { path, watch: false },
                Op::GetChildren { path, .. } => Request::GetChildren { path, watch: false },
                _ => return Err(ErrorCode::MARSHALLING_ERROR),
            };
            results.push(match self.read(asker, request) {
                Ok(Reply::Data { data, stat }) => OpResult::GetData { data, stat },
                Ok(Reply::Children(children)) => OpResult::GetChildren { children },
                Ok(_) => OpResult::Error(ErrorCode::SYSTEM_ERROR),
                Err(err) => OpResult::Error(err),
            });
        }
        Ok(Reply::Results(results.into_iter().collect()))
    }

    // A client is back and tells what it watched up to `relative_zxid`: what changed since is told, the rest armed again.
    fn set_watches(&mut self, asker: &Asker, set: &SetWatches) -> Result<Reply, ErrorCode> {
        let lists = [
            &set.data,
            &set.exist,
            &set.child,
            &set.persistent,
            &set.persistent_recursive,
        ];
        self.room_for_watches(asker, lists.iter().map(|list| list.len()).sum())?;
        let conn = asker.conn;
        for path in set.data.iter() {
            match self.tree.node(&path).map(|node| node.mzxid) {
                None => self.tell_late(conn, EventKind::NodeDeleted, &path),
                Some(mzxid) if mzxid > set.relative_zxid => self.tell_late(conn, EventKind::NodeDataChanged, &path),
                Some(_) => self.watches.add_data(&path, conn),
            }
        }
        for path in set.exist.iter() {
            match self.tree.node(&path) {
                Some(_) => self.tell_late(conn, EventKind::NodeCreated, &path),
                None => self.watches.add_data(&path, conn),
            }
        }
        for path in set.child.iter() {
            match self.tree.node(&path).map(|node| node.pzxid) {
                None => self.tell_late(conn, EventKind::NodeDeleted, &path),
                Some(pzxid) if pzxid > set.relative_zxid => {
                    self.tell_late(conn, EventKind::NodeChildrenChanged, &path);
                }
                Some(_) => self.watches.add_child(&path, conn),
            }
        }
        for path in set.persistent.iter() {
            self.watches.add_persistent(&path, conn);
        }
        for path in set.persistent_recursive.iter() {
            self.watches.add_recursive(&path, conn);
        }
        Ok(Reply::Empty)
    }
}

fn names(node: &Node) -> Seq<Text> {
    Seq::of_strs(node.children.iter().map(|name| &**name))
}

fn found(found: Option<bool>) -> Result<Reply, ErrorCode> {
    match found {
        Some(true) => Ok(Reply::Empty),
        Some(false) => Err(ErrorCode::NO_WATCHER),
        None => Err(ErrorCode::MARSHALLING_ERROR),
    }
}
