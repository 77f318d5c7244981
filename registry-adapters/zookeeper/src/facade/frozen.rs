// SPDX-License-Identifier: Apache-2.0
//! `/zookeeper` and below: the server's own nodes, answered here and never forwarded.
//!
//! Curator 4 and later read `/zookeeper/config` at every connect and switch to the servers it lists, past the facade
//! (`EnsembleTracker.processConfigData`). A standalone server answers empty data and a Stat of zeros but aversion -1, and
//! so does this.

use bytes::Bytes;

use super::door::Door;
use crate::wire::{Acl, ErrorCode, Reply, Request, RequestHeader, Seq, Stat, Text, perms};

impl Door {
    pub(super) fn frozen(&mut self, head: RequestHeader, request: &Request, path: &str) {
        let node = node(path);
        match request {
            Request::Exists { watch, .. }
            | Request::GetData { watch, .. }
            | Request::GetChildren { watch, .. }
            | Request::GetChildren2 { watch, .. } => {
                let arms = *watch && (node.is_some() || matches!(request, Request::Exists { .. }));
                if arms && self.frozen_watches.len() < MAX_WATCHES {
                    self.frozen_watches.insert(path.to_owned());
                }
            }
            Request::CheckWatches { .. } => {
                let is_watched = self.frozen_watches.contains(path);
                self.answer_watcher(head, is_watched);
                return;
            }
            Request::RemoveWatches { .. } => {
                let was_watched = self.frozen_watches.remove(path);
                self.answer_watcher(head, was_watched);
                return;
            }
            Request::AddWatch { .. } => {
                if self.frozen_watches.len() < MAX_WATCHES {
                    self.frozen_watches.insert(path.to_owned());
                }
                return self.answer(head, &Reply::Number(0));
            }
            Request::Sync { path } => return self.answer(head, &Reply::Path { path: path.clone() }),
            Request::GetEphemerals { .. } => return self.answer(head, &Reply::Children(Seq::empty())),
            _ => {}
        }
        let Some((stat, children)) = node else {
            let err = match is_write(request) {
                true => ErrorCode::NO_AUTH,
                false => ErrorCode::NO_NODE,
            };
            return self.refuse(head, err);
        };
        let names = || children.iter().map(|name| Text::from(*name)).collect();
        let reply = match request {
            Request::Exists { .. } => Reply::Stat(stat),
            Request::GetData { .. } => Reply::Data {
                data: Some(Bytes::new()),
                stat,
            },
            Request::GetAcl { .. } => Reply::Acl {
                acl: Seq::from_iter([Acl {
                    perms: perms::READ,
                    ..Acl::open()
                }]),
                stat,
            },
            Request::GetChildren { .. } => Reply::Children(names()),
            Request::GetChildren2 { .. } => Reply::Children2 {
                children: names(),
                stat,
            },
            Request::GetAllChildrenNumber { .. } => Reply::Number(stat.num_children),
            _ => return self.refuse(head, ErrorCode::NO_AUTH),
        };
        self.answer(head, &reply);
    }
}

fn node(path: &str) -> Option<(Stat, &'static [&'static str])> {
    let (aversion, children): (i32, &[&str]) = match path {
        "/zookeeper" => (0, &["config", "quota"]),
        "/zookeeper/config" => (-1, &[]),
        "/zookeeper/quota" => (0, &[]),
        _ => return None,
    };
    let stat = Stat {
        aversion,
        num_children: i32::try_from(children.len()).unwrap_or(0),
        ..Stat::default()
    };
    Some((stat, children))
}

fn is_write(request: &Request) -> bool {
    request.op().is_write()
}

// There are three nodes; what else is watched there is absent for ever.
const MAX_WATCHES: usize = 64;
