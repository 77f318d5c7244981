// SPDX-License-Identifier: Apache-2.0
//! Operations that change the tree. Checks stand in the order of ZooKeeper 3.9 `PrepRequestProcessor`, so that a request
//! with two faults gets the same answer.

use std::sync::Arc;

use bytes::Bytes;

use super::access;
use super::core::{Asker, Core};
use super::node::{Moment, Owner};
use super::watch::Event;
use crate::wire::request::{Create, SetData};
use crate::wire::{
    CreateMode, ErrorCode, EventKind, Op, OpCode, OpResult, Ops, Reply, Request, Stat, Text, check_path, perms,
};

type Events = Vec<Event>;

impl Core {
    /// Does a write at `at`; what to tell watchers is added to `events`.
    pub(super) fn write(
        &mut self,
        asker: &Asker,
        at: Moment,
        request: Request,
        events: &mut Events,
    ) -> Result<Reply, ErrorCode> {
        match request {
            Request::Create(create) => {
                let (path, stat) = self.create(asker, at, &create, events)?;
                Ok(match create.op {
                    OpCode::Create => Reply::Created { path },
                    _ => Reply::Created2 { path, stat },
                })
            }
            Request::Delete { path, version } => {
                self.delete(asker, at, &path, version, events)?;
                Ok(Reply::Empty)
            }
            Request::SetData(set) => Ok(Reply::Stat(self.set_data(asker, at, &set, events)?)),
            Request::SetAcl { path, acl, version } => {
                check_path(&path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
                let acl = access::resolve(&acl, &asker.identities)?;
                let node = self.tree.node(&path).ok_or(ErrorCode::NO_NODE)?;
                asker.may(&node.acl, perms::ADMIN)?;
                let version = next_version(node.aversion, version)?;
                let stat = self.tree.set_acl(&path, acl, version);
                stat.map(Reply::Stat).ok_or(ErrorCode::NO_NODE)
            }
            Request::Multi(ops) => self.multi(asker, at, &ops, events),
            Request::DeleteContainer { path } => {
                self.delete_container(asker, at, &path, events)?;
                Ok(Reply::Empty)
            }
            Request::Reconfig(_) => Err(ErrorCode::RECONFIG_DISABLED),
            _ => Err(ErrorCode::UNIMPLEMENTED),
        }
    }

    fn create(
        &mut self,
        asker: &Asker,
        at: Moment,
        create: &Create,
        events: &mut Events,
    ) -> Result<(Text, Stat), ErrorCode> {
        let mode = CreateMode::from_wire(create.flags).ok_or(ErrorCode::BAD_ARGUMENTS)?;
        let owner = owner(create, mode, asker.session)?;
        let (parent_path, _) = create.path.rsplit_once('/').ok_or(ErrorCode::BAD_ARGUMENTS)?;
        if create.path.contains('\0') {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        let acl = access::resolve(&create.acl, &asker.identities)?;
        let parent = self.tree.node(parent_path).ok_or(ErrorCode::NO_NODE)?;
        asker.may(&parent.acl, perms::CREATE)?;
        let path = match mode.is_sequential() {
            true => Text::from(format!("{}{:010}", create.path, parent.creates)),
            false => create.path.clone(),
        };
        check_path(&path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        if self.tree.node(&path).is_some() {
            return Err(ErrorCode::NODE_EXISTS);
        }
        if matches!(parent.owner, Owner::Session(_)) {
            return Err(ErrorCode::NO_CHILDREN_FOR_EPHEMERALS);
        }
        let stat = self
            .tree
            .create(&path, kept(create.data.as_deref()), acl.clone(), owner, at);
        events.push(Event {
            kind: EventKind::NodeCreated,
            path: Arc::from(path.as_str()),
            acl: Some(acl),
        });
        Ok((path, stat))
    }

    fn delete(
        &mut self,
        asker: &Asker,
        at: Moment,
        path: &str,
        version: i32,
        events: &mut Events,
    ) -> Result<(), ErrorCode> {
        let (parent_path, _) = path.rsplit_once('/').ok_or(ErrorCode::BAD_ARGUMENTS)?;
        if path.contains('\0') || is_special(path) {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        let parent = self.tree.node(parent_path).ok_or(ErrorCode::NO_NODE)?;
        asker.may(&parent.acl, perms::DELETE)?;
        let node = self.tree.node(path).ok_or(ErrorCode::NO_NODE)?;
        next_version(node.version, version)?;
        if !node.children.is_empty() {
            return Err(ErrorCode::NOT_EMPTY);
        }
        self.remove(at, path, events)
    }

    // A server's own operation, which ZooKeeper takes from clients too, for all but ephemerals. It asks nobody's permission
    // there; here it does.
    fn delete_container(
        &mut self,
        asker: &Asker,
        at: Moment,
        path: &str,
        events: &mut Events,
    ) -> Result<(), ErrorCode> {
        let (parent_path, _) = path.rsplit_once('/').ok_or(ErrorCode::BAD_ARGUMENTS)?;
        if path.contains('\0') || is_special(path) {
            return Err(ErrorCode::BAD_ARGUMENTS);
        }
        let node = self.tree.node(path).ok_or(ErrorCode::NO_NODE)?;
        if !node.children.is_empty() {
            return Err(ErrorCode::NOT_EMPTY);
        }
        if matches!(node.owner, Owner::Session(_)) {
            return Err(ErrorCode::BAD_VERSION);
        }
        let parent = self.tree.node(parent_path).ok_or(ErrorCode::NO_NODE)?;
        asker.may(&parent.acl, perms::DELETE)?;
        self.remove(at, path, events)
    }

    fn remove(&mut self, at: Moment, path: &str, events: &mut Events) -> Result<(), ErrorCode> {
        let node = self.tree.delete(path, at.zxid).ok_or(ErrorCode::NO_NODE)?;
        events.push(Event {
            kind: EventKind::NodeDeleted,
            path: Arc::from(path),
            acl: Some(node.acl),
        });
        Ok(())
    }

    fn set_data(&mut self, asker: &Asker, at: Moment, set: &SetData, events: &mut Events) -> Result<Stat, ErrorCode> {
        check_path(&set.path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        let node = self.tree.node(&set.path).ok_or(ErrorCode::NO_NODE)?;
        asker.may(&node.acl, perms::WRITE)?;
        let version = next_version(node.version, set.version)?;
        let acl = node.acl.clone();
        let data = kept(set.data.as_deref());
        let stat = self
            .tree
            .set_data(&set.path, data, version, at)
            .ok_or(ErrorCode::NO_NODE)?;
        events.push(Event {
            kind: EventKind::NodeDataChanged,
            path: Arc::from(set.path.as_str()),
            acl: Some(acl),
        });
        Ok(stat)
    }

    fn check(&self, asker: &Asker, path: &str, version: i32) -> Result<(), ErrorCode> {
        check_path(path).map_err(|_| ErrorCode::BAD_ARGUMENTS)?;
        let node = self.tree.node(path).ok_or(ErrorCode::NO_NODE)?;
        asker.may(&node.acl, perms::READ)?;
        next_version(node.version, version).map(|_| ())
    }

    // All or nothing. The first failure is reported at its place, those before it as 0, those behind it as -2.
    fn multi(&mut self, asker: &Asker, at: Moment, ops: &Ops, events: &mut Events) -> Result<Reply, ErrorCode> {
        if ops.iter().any(|op| !is_readable(&op)) {
            return Err(ErrorCode::MARSHALLING_ERROR);
        }
        self.tree.begin();
        let mut failed = None;
        let mut results = Vec::new();
        let mut told = Vec::new();
        for (at_op, op) in ops.iter().enumerate() {
            match self.multi_op(asker, at, op, &mut told) {
                Ok(result) => results.push(result),
                Err(err) => {
                    failed = Some((at_op, err));
                    break;
                }
            }
        }
        let Some((failed_at, err)) = failed else {
            self.tree.commit();
            events.append(&mut told);
            return Ok(Reply::Results(results.into_iter().collect()));
        };
        self.tree.roll_back();
        let error = |(i, _)| match i {
            i if i < failed_at => OpResult::Error(ErrorCode::OK),
            i if i == failed_at => OpResult::Error(err),
            _ => OpResult::Error(ErrorCode::RUNTIME_INCONSISTENCY),
        };
        Ok(Reply::Results(ops.iter().enumerate().map(error).collect()))
    }

    fn multi_op(&mut self, asker: &Asker, at: Moment, op: Op, events: &mut Events) -> Result<OpResult, ErrorCode> {
        Ok(match op {
            Op::Create(create) => {
                let create = in_multi(create);
                let (path, stat) = self.create(asker, at, &create, events)?;
                match create.op {
                    OpCode::Create => OpResult::Create { path },
                    _ => OpResult::Create2 {
                        op: OpCode::Create2,
                        path,
                        stat,
                    },
                }
            }
            Op::Delete { path, version } => {
                self.delete(asker, at, &path, version, events)?;
                OpResult::Delete
            }
            Op::SetData(set) => OpResult::SetData {
                stat: self.set_data(asker, at, &set, events)?,
            },
            Op::Check { path, version } => {
                self.check(asker, &path, version)?;
                OpResult::Check
            }
            Op::GetData { .. } | Op::GetChildren { .. } => return Err(ErrorCode::MARSHALLING_ERROR),
        })
    }
}

// What `MultiOperationRecord` refuses to read: reads, unknown flags, TTL flags without a TTL.
fn is_readable(op: &Op) -> bool {
    match op {
        Op::GetData { .. } | Op::GetChildren { .. } => false,
        Op::Create(create) if create.op != OpCode::CreateTtl => {
            CreateMode::from_wire(create.flags).is_some_and(|mode| !mode.has_ttl())
        }
        _ => true,
    }
}

// Inside a multi the flags decide what is created, where outside the operation does (`Op.Create.getOpcode`).
fn in_multi(create: Create) -> Create {
    let op = match (CreateMode::from_wire(create.flags), create.op) {
        (Some(CreateMode::Container), _) => OpCode::CreateContainer,
        (Some(mode), OpCode::CreateTtl) if !mode.has_ttl() => OpCode::Create,
        (_, op) => op,
    };
    Create { op, ..create }
}

// Container and TTL nodes are made by operations of their own; the flags say only what the client meant.
fn owner(create: &Create, mode: CreateMode, session: i64) -> Result<Owner, ErrorCode> {
    let is_ttl_op = create.op == OpCode::CreateTtl;
    if mode.has_ttl() != is_ttl_op || is_ttl_op && !(1..=Owner::MAX_TTL_MS).contains(&create.ttl_ms) {
        return Err(ErrorCode::BAD_ARGUMENTS);
    }
    Ok(match create.op {
        OpCode::CreateTtl => Owner::Ttl { ms: create.ttl_ms },
        OpCode::CreateContainer => Owner::Container,
        _ if mode.is_ephemeral() => Owner::Session(session),
        _ => Owner::Nobody,
    })
}

fn next_version(current: i32, expected: i32) -> Result<i32, ErrorCode> {
    if expected != -1 && expected != current {
        return Err(ErrorCode::BAD_VERSION);
    }
    Ok(current.wrapping_add(1))
}

fn is_special(path: &str) -> bool {
    matches!(path, "/" | "/zookeeper" | "/zookeeper/quota" | "/zookeeper/config")
}

// Data outlives the read buffer that it came in.
fn kept(data: Option<&[u8]>) -> Option<Bytes> {
    data.map(Bytes::copy_from_slice)
}
