// SPDX-License-Identifier: Apache-2.0
//! The path that stands before every path in the registry, when its URL names one.

use crate::wire::request::SetWatches;
use crate::wire::{Op, OpResult, Ops, Request, Results, Seq, Text};

/// A path prefix; empty for none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chroot(String);

impl Chroot {
    pub(crate) fn new(path: &str) -> Self {
        Self(path.trim_end_matches('/').to_owned())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The path in the registry.
    pub(crate) fn real(&self, path: &str) -> Text {
        if self.0.is_empty() {
            Text::from(path)
        } else if path == "/" {
            Text::from(self.0.as_str())
        } else {
            Text::from(format!("{}{path}", self.0))
        }
    }

    /// The path below the prefix. What does not stand below it comes as it is.
    pub(crate) fn seen<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(self.0.as_str()) {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        }
    }

    /// Puts the prefix before every path of a request.
    pub(crate) fn enter(&self, request: &mut Request) {
        match request {
            Request::Multi(ops) | Request::MultiRead(ops) => {
                let inside: Vec<Op> = ops.iter().map(|op| self.enter_op(op)).collect();
                *ops = Ops::from_iter(inside);
            }
            Request::SetWatches(set) | Request::SetWatches2(set) => self.enter_watches(set),
            other => {
                if let Some(path) = other.path().map(|path| self.real(path)) {
                    set_path(other, path);
                }
            }
        }
    }

    fn enter_op(&self, op: Op) -> Op {
        let path = self.real(op.path());
        with_op_path(op, path)
    }

    fn enter_watches(&self, set: &mut SetWatches) {
        let lists = [
            &mut set.data,
            &mut set.exist,
            &mut set.child,
            &mut set.persistent,
            &mut set.persistent_recursive,
        ];
        for list in lists {
            let inside: Seq<Text> = list.iter().map(|path| self.real(&path)).collect();
            *list = inside;
        }
    }

    /// Takes the prefix off the paths in the results of a multi.
    pub(crate) fn leave_results(&self, results: &Results) -> Results {
        results
            .iter()
            .map(|result| match result {
                OpResult::Create { path } => OpResult::Create {
                    path: Text::from(self.seen(&path)),
                },
                OpResult::Create2 { op, path, stat } => OpResult::Create2 {
                    op,
                    path: Text::from(self.seen(&path)),
                    stat,
                },
                other => other,
            })
            .collect()
    }
}

/// Replaces the one path of a request; nothing happens to one that has none.
pub(crate) fn set_path(request: &mut Request, new: Text) {
    match request {
        Request::Create(create) => create.path = new,
        Request::SetData(set) => set.path = new,
        Request::Delete { path, .. }
        | Request::Exists { path, .. }
        | Request::GetData { path, .. }
        | Request::GetAcl { path }
        | Request::SetAcl { path, .. }
        | Request::GetChildren { path, .. }
        | Request::GetChildren2 { path, .. }
        | Request::Sync { path }
        | Request::Check { path, .. }
        | Request::CheckWatches { path, .. }
        | Request::RemoveWatches { path, .. }
        | Request::DeleteContainer { path }
        | Request::GetEphemerals { prefix: path }
        | Request::GetAllChildrenNumber { path }
        | Request::AddWatch { path, .. } => *path = new,
        Request::Ping
        | Request::Multi(_)
        | Request::MultiRead(_)
        | Request::Reconfig(_)
        | Request::Auth(_)
        | Request::SetWatches(_)
        | Request::SetWatches2(_)
        | Request::Sasl { .. }
        | Request::WhoAmI
        | Request::CloseSession => {}
    }
}

/// The same operation of a multi on another path.
pub(crate) fn with_op_path(op: Op, path: Text) -> Op {
    match op {
        Op::Create(mut create) => {
            create.path = path;
            Op::Create(create)
        }
        Op::SetData(mut set) => {
            set.path = path;
            Op::SetData(set)
        }
        Op::Delete { version, .. } => Op::Delete { path, version },
        Op::Check { version, .. } => Op::Check { path, version },
        Op::GetData { watch, .. } => Op::GetData { path, watch },
        Op::GetChildren { watch, .. } => Op::GetChildren { path, watch },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_enter_and_leave() {
        let chroot = Chroot::new("/prod/");
        assert_eq!(chroot.real("/"), "/prod");
        assert_eq!(chroot.real("/dubbo"), "/prod/dubbo");
        assert_eq!(chroot.seen("/prod"), "/");
        assert_eq!(chroot.seen("/prod/dubbo"), "/dubbo");
        assert_eq!(chroot.seen("/production"), "/production");
        let none = Chroot::new("");
        assert_eq!(none.real("/a"), "/a");
        assert_eq!(none.seen("/a"), "/a");
    }
}
