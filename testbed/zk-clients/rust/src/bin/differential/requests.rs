// SPDX-License-Identifier: Apache-2.0
//! The random requests: mostly what may go well, at times what must not.

use bytes::Bytes;
use remora_zookeeper::wire::request::{Auth, Create, Reconfig, SetData, SetWatches};
use remora_zookeeper::wire::{Acl, Op, OpCode, Request, Seq, Text};

use super::World;

impl World {
    fn path(&mut self) -> Text {
        let r = &mut self.random;
        if r.u32(..40) == 0 {
            let odd = [
                "",
                "/",
                "relative",
                "/diff-none/x",
                "/zookeeper",
                "/zookeeper/config",
                "/zookeeper/quota",
                "/x//y",
            ];
            return odd[r.usize(..odd.len())].into();
        }
        let tails = [
            "", "/a", "/b", "/c", "/a/x", "/a/y", "/b/x", "/a/x/1", "/a/x/2", "/c/q", "/a/", "/a/./b", "/a/\u{1}",
        ];
        let usual = if r.u32(..20) == 0 { tails.len() } else { 10 };
        format!("{}{}", self.root, tails[r.usize(..usual)]).into()
    }

    fn paths(&mut self) -> Seq<Text> {
        (0..self.random.usize(..4)).map(|_| self.path()).collect()
    }

    fn version(&mut self) -> i32 {
        if self.random.bool() { -1 } else { self.random.i32(0..4) }
    }

    fn data(&mut self) -> Option<Bytes> {
        let r = &mut self.random;
        match r.u32(..6) {
            0 => None,
            1 => Some(Bytes::new()),
            _ => Some(Bytes::from(vec![7; r.usize(..40)])),
        }
    }

    fn acl(&mut self) -> Seq<Acl> {
        let r = &mut self.random;
        let entry = |perms, scheme: &str, id: &str| Acl {
            perms,
            scheme: scheme.into(),
            id: id.into(),
        };
        match r.u32(..40) {
            0 => Seq::empty(),
            1 => [entry(31, "auth", "")].into_iter().collect(),
            2 => [entry(1, "world", "anyone"), entry(31, "auth", "")]
                .into_iter()
                .collect(),
            3 => [entry(31, "digest", "u1:x")].into_iter().collect(),
            4 => [entry(31, "digest", "u1")].into_iter().collect(),
            5 => [entry(31, "ip", "127.0.0.1/8")].into_iter().collect(),
            6 => [entry(31, "ip", "300.0.0.1")].into_iter().collect(),
            7 => [entry(31, "sasl", "a")].into_iter().collect(),
            8 => [Acl::open(), Acl::open()].into_iter().collect(),
            9 => [entry(29, "world", "anyone")].into_iter().collect(),
            _ => open(),
        }
    }

    fn create(&mut self) -> Create {
        let op = match self.random.u32(..10) {
            0 => OpCode::CreateContainer,
            1 => OpCode::CreateTtl,
            2..5 => OpCode::Create2,
            _ => OpCode::Create,
        };
        let usual = match op {
            OpCode::CreateContainer => 4,
            OpCode::CreateTtl => 5 + self.random.i32(0..2),
            _ => [0, 0, 0, 1, 1, 2, 3][self.random.usize(..7)],
        };
        let flags = if self.random.u32(..30) == 0 {
            self.random.i32(-1..9)
        } else {
            usual
        };
        // A negative time without a TTL flag makes a real server fail while it applies the create.
        let odd_ttl = [0, -1, 1 << 40][self.random.usize(..3)];
        let is_odd = flags == usual && self.random.u32(..8) == 0;
        let ttl = if is_odd { odd_ttl } else { 600_000 };
        let (path, acl) = (self.path(), self.acl());
        Create {
            data: self.data(),
            ..create(op, &path, flags, ttl, acl)
        }
    }

    fn op(&mut self) -> Op {
        let (path, version) = (self.path(), self.version());
        match self.random.u32(..5) {
            0 => Op::Delete { path, version },
            1 => Op::Check { path, version },
            2 => Op::SetData(SetData {
                path,
                data: self.data(),
                version,
            }),
            _ => Op::Create(self.create()),
        }
    }

    pub(super) fn request(&mut self) -> Request {
        let (path, version) = (self.path(), self.version());
        let watch = self.random.bool();
        match self.random.u32(..100) {
            0..22 => Request::Create(self.create()),
            22..36 => Request::Delete { path, version },
            36..46 => Request::SetData(SetData {
                path,
                data: self.data(),
                version,
            }),
            46..52 => Request::Exists { path, watch },
            52..58 => Request::GetData { path, watch },
            58..62 => Request::GetChildren { path, watch },
            62..68 => Request::GetChildren2 { path, watch },
            68..70 => Request::GetAcl { path },
            70..73 => Request::SetAcl {
                path,
                acl: self.acl(),
                version,
            },
            73..80 => Request::Multi((0..self.random.usize(..5)).map(|_| self.op()).collect()),
            80..82 => {
                let ops = (0..self.random.usize(..4)).map(|i| {
                    let path = self.path();
                    if i % 2 == 0 {
                        Op::GetData { path, watch }
                    } else {
                        Op::GetChildren { path, watch }
                    }
                });
                Request::MultiRead(ops.collect::<Vec<_>>().into_iter().collect())
            }
            82..85 => Request::AddWatch {
                path,
                mode: if version == 3 { 2 } else { self.random.i32(0..2) },
            },
            85..87 => Request::CheckWatches {
                path,
                kind: self.random.i32(0..7),
            },
            87..90 => Request::RemoveWatches {
                path,
                kind: self.random.i32(0..7),
            },
            90..93 => {
                let known: Vec<i64> = self.zxids.keys().copied().collect();
                let newest = known.len().saturating_sub(30);
                let relative_zxid = known[newest + self.random.usize(..known.len() - newest)];
                let set = SetWatches {
                    relative_zxid,
                    data: self.paths(),
                    exist: self.paths(),
                    child: self.paths(),
                    persistent: Seq::empty(),
                    persistent_recursive: Seq::empty(),
                };
                if watch {
                    return Request::SetWatches(set);
                }
                let (persistent, persistent_recursive) = (self.paths(), self.paths());
                Request::SetWatches2(SetWatches {
                    persistent,
                    persistent_recursive,
                    ..set
                })
            }
            93 => Request::Sync { path },
            94 => Request::GetEphemerals { prefix: path },
            // Of the empty path, a real server counts the root as its own child.
            95 if !path.is_empty() => Request::GetAllChildrenNumber { path },
            95 | 96 => Request::WhoAmI,
            97 => {
                let users = ["u1:p", "u2:p", "noword"];
                let user = users[self.random.usize(..3)];
                Request::Auth(Auth {
                    kind: 0,
                    scheme: "digest".into(),
                    auth: Some(Bytes::from_static(user.as_bytes())),
                })
            }
            98 => Request::Reconfig(Reconfig {
                joining: "".into(),
                leaving: "".into(),
                new_members: "".into(),
                config: 1,
            }),
            // Without a permission check on a real server: only where everyone may anyway.
            _ => Request::DeleteContainer {
                path: format!("{}none/x", self.root).into(),
            },
        }
    }
}

pub(super) fn create(op: OpCode, path: &str, flags: i32, ttl: i64, acl: Seq<Acl>) -> Create {
    Create {
        op,
        path: path.into(),
        data: None,
        acl,
        flags,
        ttl_ms: if op == OpCode::CreateTtl { ttl } else { 0 },
    }
}

pub(super) fn open() -> Seq<Acl> {
    [Acl::open()].into_iter().collect()
}
