// SPDX-License-Identifier: Apache-2.0
//! `differential ADDR-A ADDR-B [SEED] [OPS]`: the same random requests to two servers, a real ZooKeeper and one that must
//! behave like it; compares replies, figures and events.
//!
//! Several sessions on each. Compared as they are: errors, data, paths, versions, counts, events in their order. Compared by
//! meaning: zxids (the n-th of one server is the n-th of the other), session ids, child lists as sets. Not compared: times.
//! The real one needs `-Dzookeeper.extendedTypesEnabled=true` for TTL nodes.

use bytes::{Bytes, BytesMut};
use remora_zk_clients::Connection;
use remora_zookeeper::wire::request::{Auth, Create, Reconfig, SetData, SetWatches};
use remora_zookeeper::wire::{
    Acl, ErrorCode, NO_ZXID, Op, OpCode, OpResult, Reply, ReplyHeader, Request, Seq, Stat, Text, WatcherEvent,
};
use std::collections::BTreeMap;

const CLIENTS: usize = 3;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (Some(a), Some(b)) = (args.get(1), args.get(2)) else {
        eprintln!("usage: differential ADDR-A ADDR-B [SEED] [OPS]");
        std::process::exit(2);
    };
    let seed = args.get(3).map_or(0, |s| s.parse().expect("a seed"));
    let ops = args
        .get(4)
        .map_or(5_000, |s| s.parse().expect("a number of operations"));
    let mut world = World::new(a, b, seed);
    for n in 0..ops {
        world.step(n);
        if world.differences >= 10 {
            break;
        }
    }
    let failed = world.differences;
    println!("{:?}", world.seen_errors);
    println!("{} passed, {failed} failed", world.compared - failed);
    std::process::exit(i32::from(failed > 0));
}

struct World {
    addrs: [String; 2],
    clients: Vec<[Connection; 2]>,
    root: String,
    // zxid at A -> zxid at B; zxids of both, to pick from.
    zxids: BTreeMap<i64, i64>,
    sessions: BTreeMap<i64, i64>,
    random: fastrand::Rng,
    compared: usize,
    differences: usize,
    seen_errors: BTreeMap<i32, usize>,
    // DIFFERENTIAL_LOUD=1 prints each request.
    is_loud: bool,
}

impl World {
    fn new(a: &str, b: &str, seed: u64) -> Self {
        let mut world = Self {
            addrs: [a.to_owned(), b.to_owned()],
            clients: Vec::new(),
            root: format!("/diff-{seed}-{}", std::process::id()),
            zxids: BTreeMap::new(),
            sessions: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
            compared: 0,
            differences: 0,
            seen_errors: BTreeMap::new(),
            is_loud: std::env::var_os("DIFFERENTIAL_LOUD").is_some(),
        };
        for _ in 0..CLIENTS {
            let pair = world.connect(None);
            world.clients.push(pair);
        }
        world.settle(0);
        let root = create(OpCode::Create, &world.root, 0, 0, open());
        world.both(0, &Request::Create(root));
        world
    }

    fn connect(&mut self, before: Option<&[Connection; 2]>) -> [Connection; 2] {
        let a = Connection::open(&self.addrs[0], before.map(|b| &b[0]));
        let b = Connection::open(&self.addrs[1], before.map(|b| &b[1]));
        self.sessions.insert(a.session, b.session);
        [a, b]
    }

    // What both have done so far gets one pair of zxids.
    fn settle(&mut self, client: usize) {
        let [a, b] = &mut self.clients[client];
        let (a, _) = a.ask(OpCode::Ping.number(), &[]).expect("a pong");
        let (b, _) = b.ask(OpCode::Ping.number(), &[]).expect("a pong");
        self.same_zxid("a ping", "pong", a.zxid, b.zxid);
    }

    fn step(&mut self, n: usize) {
        let client = self.random.usize(..CLIENTS);
        match self.random.u32(..100) {
            0 => self.reconnect(client),
            1 => self.close(client),
            2 => self.raw(client),
            _ => {
                let request = self.request();
                self.both(client, &request);
            }
        }
        if n.is_multiple_of(500) {
            println!("{n} operations, {} differences", self.differences);
        }
    }

    fn reconnect(&mut self, client: usize) {
        let before = self.clients.remove(client);
        let after = self.connect(Some(&before));
        drop(before);
        self.clients.insert(client, after);
        self.settle(client);
    }

    fn close(&mut self, client: usize) {
        self.exchange(client, OpCode::CloseSession.number(), &[], "closeSession");
        let fresh = self.connect(None);
        self.clients[client] = fresh;
        self.settle(client);
        self.compare_events("closeSession", true);
    }

    // Bodies that cannot be read, operations that do not exist.
    fn raw(&mut self, client: usize) {
        let ops = [4, 8, 3, 5, 1, 14, 101, 106, 12345, -77, 0, 13, 108];
        let op = ops[self.random.usize(..ops.len())];
        let body: Vec<u8> = (0..self.random.usize(..6)).map(|_| self.random.u8(128..)).collect();
        self.exchange(client, op, &body, &format!("raw {op} {body:?}"));
        self.compare_events("raw", false);
    }

    fn both(&mut self, client: usize, request: &Request) {
        let what = format!("client {client} {request:?}");
        let bodies = self.clients[client].each_ref().map(|connection| {
            let request = self.for_side(request, connection.session == self.clients[client][1].session);
            let mut out = BytesMut::new();
            request.encode(&mut out);
            out
        });
        if self.is_loud {
            println!("{what}");
        }
        let op = request.op();
        let [a, b] = &mut self.clients[client];
        let (a, b) = (a.ask(op.number(), &bodies[0]), b.ask(op.number(), &bodies[1]));
        let (Some((head_a, body_a)), Some((head_b, body_b))) = (a, b) else {
            self.differ(&what, &"closed", &"or closed");
            return;
        };
        self.same_zxid(&what, "reply", head_a.zxid, head_b.zxid);
        *self.seen_errors.entry(head_a.err.0).or_default() += 1;
        if head_a.err != head_b.err {
            self.differ(&what, &head_a.err, &head_b.err);
        } else if head_a.err == ErrorCode::OK {
            let a = Reply::decode(op, body_a.clone()).map(|reply| self.seen_from_b(reply));
            let b = Reply::decode(op, body_b.clone()).map(without_times);
            if a != b {
                self.differ(&what, &a, &b);
            }
        }
        self.compared += 1;
        self.compare_events(&what, false);
    }

    fn exchange(&mut self, client: usize, op: i32, body: &[u8], what: &str) {
        let [a, b] = &mut self.clients[client];
        let (a, b) = (a.ask(op, body), b.ask(op, body));
        let error = |answer: &Option<(ReplyHeader, Bytes)>| answer.as_ref().map(|(head, _)| head.err);
        if error(&a) != error(&b) {
            self.differ(what, &error(&a), &error(&b));
        }
        if let (Some((a, _)), Some((b, _))) = (&a, &b)
            && op == OpCode::CloseSession.number()
        {
            self.same_zxid(what, "reply", a.zxid, b.zxid);
        }
        self.compared += 1;
        // Some answers are a server's last.
        let is_open = |connection: &mut Connection| connection.ask(OpCode::Ping.number(), &[]).is_some();
        let [open_a, open_b] = self.clients[client].each_mut().map(is_open);
        if open_a != open_b {
            self.differ(&format!("open after {what}"), &open_a, &open_b);
        }
        if !open_a || !open_b {
            let fresh = self.connect(None);
            self.clients[client] = fresh;
        }
        self.settle(client);
    }

    fn compare_events(&mut self, what: &str, any_order: bool) {
        for client in 0..self.clients.len() {
            let [a, b] = &mut self.clients[client];
            let (mut a, mut b) = (a.told(), b.told());
            if any_order {
                let key = |(_, event): &(i64, WatcherEvent)| (event.path.to_string(), event.kind);
                a.sort_by_key(key);
                b.sort_by_key(key);
            }
            let plain = |events: &[(i64, WatcherEvent)]| -> Vec<_> {
                events
                    .iter()
                    .map(|(_, e)| (e.kind, e.state, e.path.to_string()))
                    .collect()
            };
            if plain(&a) != plain(&b) {
                self.differ(
                    &format!("events of client {client} after {what}"),
                    &plain(&a),
                    &plain(&b),
                );
                continue;
            }
            self.compared += a.len();
            for ((a, event), (b, _)) in a.iter().zip(&b) {
                self.same_zxid(what, &format!("event {event:?}"), *a, *b);
            }
        }
    }

    // The same pair each time, and in the same order on both sides.
    fn same_zxid(&mut self, what: &str, place: &str, a: i64, b: i64) {
        if a <= 0 && b <= 0 && a == b {
            return;
        }
        if let Some(known) = self.zxids.get(&a) {
            if *known != b {
                let offset = (a, *known);
                self.differ(&format!("zxid of {place} in {what}"), &offset, &b);
            }
            return;
        }
        let below = self.zxids.range(..a).next_back().is_none_or(|(_, known)| *known < b);
        let above = self.zxids.range(a..).next().is_none_or(|(_, known)| *known > b);
        if !below || !above {
            self.differ(&format!("zxid order of {place} in {what}"), &a, &b);
        }
        self.zxids.insert(a, b);
    }

    fn differ(&mut self, what: &str, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug) {
        self.differences += 1;
        println!("DIFFERENT {what}\n  A {a:?}\n  B {b:?}");
    }

    // A's reply with B's zxids and sessions in it.
    fn seen_from_b(&self, reply: Reply) -> Reply {
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
    fn for_side(&self, request: &Request, is_b: bool) -> Request {
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

    fn request(&mut self) -> Request {
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

fn create(op: OpCode, path: &str, flags: i32, ttl: i64, acl: Seq<Acl>) -> Create {
    Create {
        op,
        path: path.into(),
        data: None,
        acl,
        flags,
        ttl_ms: if op == OpCode::CreateTtl { ttl } else { 0 },
    }
}

fn open() -> Seq<Acl> {
    [Acl::open()].into_iter().collect()
}

fn sort(children: &Seq<Text>) -> Seq<Text> {
    let mut children: Vec<Text> = children.iter().collect();
    children.sort();
    children.into_iter().collect()
}

fn without_times(reply: Reply) -> Reply {
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
