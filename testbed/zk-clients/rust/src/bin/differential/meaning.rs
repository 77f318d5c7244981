// SPDX-License-Identifier: Apache-2.0
//! What is the same on two servers although its bytes differ: zxids, session ids, times, the order of sets.

use remora_zookeeper::wire::request::SetWatches;
use remora_zookeeper::wire::{NO_ZXID, OpResult, Reply, Request, Seq, Stat, Text};

use super::World;

impl World {
    // A's reply with B's zxids and sessions in it.
    pub(super) fn seen_from_b(&self, reply: Reply) -> Reply {
        let map = |stat: Stat| self.stat_from_b(stat);
        let sorted = |children: Seq<Text>| sort(&children);
        match without_times(reply) {
            Reply::Created2 { path, stat } => Reply::Created2 { path, stat: map(stat) },
            Reply::Stat(stat) => Reply::Stat(map(stat)),
            Reply::Data { data, stat } => Reply::Data { data, stat: map(stat) },
            Reply::Acl { acl, stat } => Reply::Acl { acl, stat: map(stat) },
            Reply::Children(children) => Reply::Children(sorted(children)),
            Reply::Children2 { children, stat } => Reply::Children2 {
                children: sorted(children),
                stat: map(stat),
            },
            Reply::Results(results) => Reply::Results(
                results
                    .iter()
                    .map(|result| match result {
                        OpResult::Create2 { op, path, stat } => OpResult::Create2 {
                            op,
                            path,
                            stat: map(stat),
                        },
                        OpResult::SetData { stat } => OpResult::SetData { stat: map(stat) },
                        OpResult::GetData { data, stat } => OpResult::GetData { data, stat: map(stat) },
                        other => other,
                    })
                    .collect(),
            ),
            other => other,
        }
    }

    fn stat_from_b(&self, stat: Stat) -> Stat {
        let zxid = |z: i64| {
            if z == 0 {
                0
            } else {
                self.zxids.get(&z).copied().unwrap_or(NO_ZXID)
            }
        };
        Stat {
            czxid: zxid(stat.czxid),
            mzxid: zxid(stat.mzxid),
            pzxid: zxid(stat.pzxid),
            ephemeral_owner: self
                .sessions
                .get(&stat.ephemeral_owner)
                .copied()
                .unwrap_or(stat.ephemeral_owner),
            ..stat
        }
    }

    // `setWatches` names a zxid, so each side gets its own.
    pub(super) fn for_side(&self, request: &Request, is_b: bool) -> Request {
        match request {
            Request::SetWatches2(set) if is_b => {
                let relative_zxid = self.zxids.get(&set.relative_zxid).copied().unwrap_or(0);
                Request::SetWatches2(SetWatches {
                    relative_zxid,
                    ..set.clone()
                })
            }
            Request::SetWatches(set) if is_b => {
                let relative_zxid = self.zxids.get(&set.relative_zxid).copied().unwrap_or(0);
                Request::SetWatches(SetWatches {
                    relative_zxid,
                    ..set.clone()
                })
            }
            other => other.clone(),
        }
    }
}

fn sort(children: &Seq<Text>) -> Seq<Text> {
    let mut children: Vec<Text> = children.iter().collect();
    children.sort();
    children.into_iter().collect()
}

pub(super) fn without_times(reply: Reply) -> Reply {
    let stat = |stat: Stat| Stat {
        ctime: 0,
        mtime: 0,
        ..stat
    };
    match reply {
        Reply::Created2 { path, stat: s } => Reply::Created2 { path, stat: stat(s) },
        Reply::Stat(s) => Reply::Stat(stat(s)),
        Reply::Data { data, stat: s } => Reply::Data { data, stat: stat(s) },
        Reply::Children(children) => Reply::Children(sort(&children)),
        // A hash set on a real server.
        Reply::Identities(who) => {
            let mut who: Vec<_> = who.iter().collect();
            who.sort_by_key(|identity| format!("{identity:?}"));
            Reply::Identities(who.into_iter().collect())
        }
        Reply::Acl { acl, stat: s } => {
            let mut acl: Vec<_> = acl.iter().collect();
            acl.sort_by_key(|entry| format!("{entry:?}"));
            Reply::Acl {
                acl: acl.into_iter().collect(),
                stat: stat(s),
            }
        }
        Reply::Children2 { children, stat: s } => Reply::Children2 {
            children: sort(&children),
            stat: stat(s),
        },
        Reply::Results(results) => Reply::Results(
            results
                .iter()
                .map(|result| match result {
                    OpResult::Create2 { op, path, stat: s } => OpResult::Create2 {
                        op,
                        path,
                        stat: stat(s),
                    },
                    OpResult::SetData { stat: s } => OpResult::SetData { stat: stat(s) },
                    OpResult::GetData { data, stat: s } => OpResult::GetData { data, stat: stat(s) },
                    OpResult::GetChildren { children } => OpResult::GetChildren {
                        children: sort(&children),
                    },
                    other => other,
                })
                .collect(),
        ),
        other => other,
    }
}
