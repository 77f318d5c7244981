// SPDX-License-Identifier: Apache-2.0
//! `differential ADDR-A ADDR-B [SEED] [OPS]`: the same random requests to two servers, a real ZooKeeper and one that must
//! behave like it; compares replies, figures and events.
//!
//! Several sessions on each. Compared as they are: errors, data, paths, versions, counts, events in their order. Compared by
//! meaning: zxids (the n-th of one server is the n-th of the other), session ids, child lists as sets. Not compared: times.
//! The real one needs `-Dzookeeper.extendedTypesEnabled=true` for TTL nodes.

mod meaning;
mod requests;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use remora_zk_clients::Connection;
use remora_zookeeper::wire::{ErrorCode, OpCode, Reply, ReplyHeader, Request, WatcherEvent};

use self::meaning::without_times;
use self::requests::{create, open};

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
}
