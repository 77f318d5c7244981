// SPDX-License-Identifier: Apache-2.0
//! `multi` and `multiRead`: each operation inside is treated as it would be alone.

use bytes::Bytes;

use super::door::Door;
use super::list::Entry;
use super::paths::Shape;
use super::publish::log_unchanged;
use super::sent::Then;
use crate::chroot::with_op_path;
use crate::wire::{ErrorCode, Op, OpResult, Ops, Reply, Request, RequestHeader, Text};

/// What one operation of a multi was, in the application's terms.
#[derive(Debug, Clone)]
pub(super) enum MultiOp {
    Relayed,
    Created(String),
    Deleted(String),
}

impl Door {
    pub(super) fn multi(&mut self, head: RequestHeader, ops: &Ops, frame: &Bytes) {
        if let Some(refused) = self.refused_op(ops) {
            let results = Reply::Results(failed_at(ops, refused));
            return self.answer(head, &results);
        }
        let mut then = Vec::new();
        let mut outward = Vec::new();
        let mut is_changed = false;
        for op in ops.iter() {
            let (op, is) = self.outward_op(op, &mut is_changed);
            outward.push(op);
            then.push(is);
        }
        if !is_changed {
            return self.relay(head, Request::Multi(ops.clone()), frame, Then::Relay);
        }
        let place = self.place();
        let ops = Ops::from_iter(outward);
        self.send(head, Request::Multi(ops), place, Then::Multi { ops: then });
    }

    fn outward_op(&mut self, op: Op, is_changed: &mut bool) -> (Op, MultiOp) {
        let path = op.path().to_string();
        let roots = self.shared.roots.clone();
        let Shape::Child { dir, name } = roots.shape(&path) else {
            return (op, MultiOp::Relayed);
        };
        match op {
            Op::Create(create) => match self.outward_create(&create, &path, dir, name) {
                Ok(create) => {
                    *is_changed = true;
                    (Op::Create(create), MultiOp::Created(path))
                }
                Err(cause) => {
                    log_unchanged(&cause, &path);
                    (Op::Create(create), MultiOp::Relayed)
                }
            },
            Op::SetData(set) => match self.outward_set(&set, &path) {
                Some(set) => {
                    *is_changed = true;
                    (Op::SetData(set), MultiOp::Relayed)
                }
                None => (Op::SetData(set), MultiOp::Relayed),
            },
            other => {
                self.find_learned(&path, dir, name);
                let Some(own) = self.state.names.own(&path) else {
                    return (other, MultiOp::Relayed);
                };
                *is_changed = true;
                let is = match other {
                    Op::Delete { .. } => MultiOp::Deleted(path.clone()),
                    _ => MultiOp::Relayed,
                };
                (with_op_path(other, Text::from(own.registry_path.as_str())), is)
            }
        }
    }

    /// The first operation on a path that cannot be changed.
    fn refused_op(&self, ops: &Ops) -> Option<usize> {
        ops.iter()
            .position(|op| self.shared.roots.shape(op.path()) == Shape::Frozen)
    }

    /// The results of a multi, under the application's own paths.
    pub(super) fn multi_done(&mut self, ops: &[MultiOp], reply: Option<Reply>) -> Option<Reply> {
        let Some(Reply::Results(results)) = reply else {
            for op in ops {
                if let MultiOp::Created(path) = op {
                    self.created(path, ErrorCode::SYSTEM_ERROR);
                }
            }
            return reply;
        };
        let results: Vec<OpResult> = results.iter().collect();
        let mut shown = Vec::with_capacity(results.len());
        for (at, result) in results.into_iter().enumerate() {
            shown.push(match (ops.get(at), result) {
                (Some(MultiOp::Created(path)), OpResult::Create { .. }) => {
                    self.created(path, ErrorCode::OK);
                    OpResult::Create {
                        path: Text::from(path.as_str()),
                    }
                }
                (Some(MultiOp::Created(path)), OpResult::Create2 { op, stat, .. }) => {
                    self.created(path, ErrorCode::OK);
                    OpResult::Create2 {
                        op,
                        path: Text::from(path.as_str()),
                        stat,
                    }
                }
                (Some(MultiOp::Created(path)), OpResult::Error(err)) => {
                    // Another operation's fault: this one will be tried again, as after a missing parent.
                    let own_fault = !matches!(err, ErrorCode::OK | ErrorCode::RUNTIME_INCONSISTENCY);
                    self.created(path, if own_fault { err } else { ErrorCode::NO_NODE });
                    OpResult::Error(err)
                }
                (Some(MultiOp::Deleted(path)), OpResult::Delete) => {
                    self.deleted(path, ErrorCode::OK);
                    OpResult::Delete
                }
                (_, OpResult::Create { path }) => OpResult::Create {
                    path: Text::from(self.shared.chroot.seen(&path)),
                },
                (_, OpResult::Create2 { op, path, stat }) => OpResult::Create2 {
                    op,
                    path: Text::from(self.shared.chroot.seen(&path)),
                    stat,
                },
                (_, other) => other,
            });
        }
        Some(Reply::Results(shown.into_iter().collect()))
    }

    pub(super) fn multi_read(&mut self, head: RequestHeader, ops: Ops, frame: &Bytes) {
        if !self.state.is_raw {
            let roots = &self.shared.roots;
            let lists = ops.iter().map(|op| op.path().to_string());
            let lists: Vec<String> = lists.filter(|path| roots.shape(path) == Shape::Dir).collect();
            if self.hold(head, &Request::MultiRead(ops.clone()), frame, &lists) {
                return;
            }
        }
        let paths: Vec<String> = ops.iter().map(|op| op.path().to_string()).collect();
        let roots = self.shared.roots.clone();
        let mut is_owned = false;
        let mut outward = Vec::new();
        for op in ops.iter() {
            let path = op.path().to_string();
            let op = match roots.shape(&path) {
                Shape::Dir if !self.state.is_raw => {
                    is_owned = true;
                    self.follow(&path);
                    op
                }
                Shape::Child { dir, name } => {
                    is_owned = true;
                    self.find_learned(&path, dir, name);
                    match self.state.names.own(&path) {
                        Some(own) => with_op_path(op, Text::from(own.registry_path.as_str())),
                        None => op,
                    }
                }
                Shape::Rule | Shape::RuleDir | Shape::Frozen => {
                    is_owned = true;
                    op
                }
                _ => op,
            };
            outward.push(op);
        }
        if !is_owned {
            return self.relay(head, Request::MultiRead(ops), frame, Then::Relay);
        }
        let place = self.place();
        let ops = Ops::from_iter(outward);
        self.send(head, Request::MultiRead(ops), place, Then::MultiRead { ops: paths });
    }

    /// The results of a `multiRead`, as each would have been alone. A list that is not known in time is shown as it stands
    /// in the registry. Watches inside count for nothing, as on a real server.
    pub(super) fn multi_read_done(&mut self, ops: &[String], reply: Option<Reply>) -> Option<Reply> {
        let Some(Reply::Results(results)) = reply else {
            return reply;
        };
        let roots = self.shared.roots.clone();
        let mut shown = Vec::new();
        for (at, result) in results.iter().enumerate() {
            let Some(path) = ops.get(at) else {
                shown.push(result);
                continue;
            };
            shown.push(match (roots.shape(path), result) {
                (Shape::Frozen, _) => frozen_result(path),
                (Shape::Dir, OpResult::GetChildren { children }) => {
                    self.shown_children(path).unwrap_or(OpResult::GetChildren { children })
                }
                (Shape::Dir, OpResult::GetData { data, mut stat }) => {
                    if let Some(Reply::Stat(adjusted)) =
                        self.dir_stat(path, false, ErrorCode::OK, Some(Reply::Stat(stat)))
                    {
                        stat = adjusted;
                    }
                    OpResult::GetData { data, stat }
                }
                (Shape::Child { dir, name }, result) => self.child_result(path, dir, name, result),
                (Shape::RuleDir, OpResult::GetChildren { children }) => {
                    let reply = self.without_rules(path, ErrorCode::OK, Some(Reply::Children(children.clone())));
                    match reply {
                        Some(Reply::Children(children)) => OpResult::GetChildren { children },
                        _ => OpResult::GetChildren { children },
                    }
                }
                (Shape::Rule, OpResult::GetData { data, stat }) => {
                    let before = Reply::Data {
                        data: data.clone(),
                        stat,
                    };
                    match self.without_rule(path, ErrorCode::OK, Some(before)) {
                        Some(Reply::Data { data, stat }) => OpResult::GetData { data, stat },
                        _ => OpResult::GetData { data, stat },
                    }
                }
                (_, result) => result,
            });
        }
        Some(Reply::Results(shown.into_iter().collect()))
    }

    fn child_result(&mut self, path: &str, dir: &str, name: &str, result: OpResult) -> OpResult {
        if let OpResult::GetData { data, stat } = result {
            return match self.own_data(path, Reply::Data { data, stat }) {
                Reply::Data { data, stat } => OpResult::GetData { data, stat },
                _ => OpResult::Error(ErrorCode::SYSTEM_ERROR),
            };
        }
        let view = self.state.views.get(dir);
        if let (Some(view), OpResult::Error(ErrorCode::NO_NODE)) = (view, &result)
            && let Some(Entry::Made(made)) = view.shown.entry(name)
        {
            return OpResult::GetData {
                data: Some(made.data.clone()),
                stat: made.stat(),
            };
        }
        result
    }

    fn shown_children(&mut self, dir: &str) -> Option<OpResult> {
        let is_raw = self.state.is_raw;
        let view = self
            .state
            .views
            .get_mut(dir)
            .filter(|view| !is_raw && !view.is_relayed())?;
        if !view.is_known {
            view.is_shown_late = true;
            return None;
        }
        view.read_version = Some(view.shown.version());
        let children = view.shown.names().map(Text::from).collect();
        Some(OpResult::GetChildren { children })
    }
}

fn frozen_result(path: &str) -> OpResult {
    match path {
        "/zookeeper/config" => OpResult::GetData {
            data: Some(Bytes::new()),
            stat: crate::wire::Stat {
                aversion: -1,
                ..Default::default()
            },
        },
        _ => OpResult::Error(ErrorCode::NO_NODE),
    }
}

/// A multi that failed at one operation: nothing was done, each result says so in ZooKeeper's way.
fn failed_at(ops: &Ops, refused: usize) -> crate::wire::Results {
    let err = |at: usize| match at.cmp(&refused) {
        std::cmp::Ordering::Less => ErrorCode::OK,
        std::cmp::Ordering::Equal => ErrorCode::NO_AUTH,
        std::cmp::Ordering::Greater => ErrorCode::RUNTIME_INCONSISTENCY,
    };
    (0..ops.iter().count()).map(|at| OpResult::Error(err(at))).collect()
}
