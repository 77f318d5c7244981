// SPDX-License-Identifier: Apache-2.0
//! Whatever the application and the registry send: no panic, replies in the order of requests, nothing lost.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use remora_naming::dubbo_url;
use remora_registry::{
    BoxFuture, Client, Discovery, Instance, Lease, LeaseId, LeaseInfo, Outward, PublishError, Snapshot, Source, Target,
    UnappliedRule,
};
use tokio::sync::watch;

use super::door::Door;
use super::session::State;
use super::{Config, ZookeeperFacade};
use crate::backend::Embedded;
use crate::embedded::{Options, Server};
use crate::wire::request::{Create, SetData, SetWatches};
use crate::wire::{
    Acl, ErrorCode, Op, OpCode, OpResult, Ops, Reader, Record, Reply, ReplyHeader, Request, RequestHeader, Seq, Stat,
    Text, WatcherEvent, split_frame, xid,
};

/// Takes over what it can read, shows what it is told.
struct Echo(watch::Sender<Option<Arc<Snapshot>>>);

impl Discovery for Echo {
    fn open_lease(&self, _: LeaseInfo) -> LeaseId {
        LeaseId(0)
    }

    fn name_lease(&self, _: LeaseId, _: &str) {}

    fn close_lease(&self, _: LeaseId) {}

    fn publish(&self, _: LeaseId, _: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        Ok(Outward {
            host: instance.host.to_string(),
            port: instance.port ^ 1,
            app_port: instance.port,
        })
    }

    fn publish_kept(&self, lease: LeaseId, target: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        self.publish(lease, target, instance)
    }
    fn cannot_hold(&self, _: &Target) -> Option<String> {
        None
    }
    fn withdraw(&self, _: LeaseId, _: &Target, _: &Instance) {}

    fn follow(&self, _: LeaseId, _: &Target) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.0.subscribe()
    }

    fn inward(&self, _: LeaseId, snapshot: &Snapshot, _: Client) -> Vec<Instance> {
        snapshot.instances.iter().map(|one| Instance::clone(one)).collect()
    }

    fn inward_metadata<'a>(&'a self, application: &'a str, _: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move { (application == "shop").then(|| "{}".to_owned()) })
    }

    fn rules_not_applied(&self, _: &str, _: Vec<UnappliedRule>) {}
}

#[derive(Debug, Clone)]
enum Step {
    Ask(Request),
    /// Any operation with any body.
    AskBytes(i32, Vec<u8>),
    AskNoHead(Vec<u8>),
    /// The registry answers what is next in turn.
    Answer(Body),
    Event(i32, String),
    EventBytes(Vec<u8>),
    /// The registry sends what nobody asked for.
    Any(Vec<u8>),
    Show(Vec<String>, Vec<String>),
    /// Jobs get a turn, and time passes.
    Turn(u64),
}

#[derive(Debug, Clone)]
enum Body {
    Fitting,
    Error(i32),
    Bytes(Vec<u8>),
}

const PATHS: [&str; 16] = [
    "/",
    "/a",
    "/dubbo",
    "/dubbo/a.B/providers",
    "/dubbo/a.B/providers/dubbo%3A%2F%2F10.0.0.5%3A20880%2Fa.B",
    "/dubbo/a.B/providers/dubbo%3A%2F%2F10.0.0.5%3A20881%2Fa.B%3Fremora.app.port%3D20880",
    "/dubbo/a.B/providers/dubbo%3A%2F%2F%3A%2F",
    "/dubbo/a.B/providers/lock",
    "/dubbo/a.B/routers",
    "/dubbo/a.B/consumers/consumer%3A%2F%2Fh%2Fa.B%3Frelease%3Ddubbo-golang-3.1",
    "/dubbo/config/dubbo/a.condition-router",
    "/dubbo/metadata/shop/0123456789abcdef0123456789abcdef",
    "/services/shop",
    "/services/shop/10.0.0.5:20880",
    "/zookeeper/config",
    "",
];

const DOCUMENT: &str = r#"{"name":"shop","id":"h:20880","address":"h","port":20880,"payload":{"id":"h:20880","name":"shop","metadata":{"dubbo.endpoints":"[{\"port\":20880,\"protocol\":\"dubbo\"}]","dubbo.metadata.revision":"r","remora.app.port":"20880"}}}"#;

fn path() -> impl Strategy<Value = Text> {
    prop_oneof![
        12 => prop::sample::select(&PATHS[..]).prop_map(Text::from),
        1 => "/[a-z/%3A2F]{0,30}".prop_map(Text::from),
    ]
}

fn data() -> impl Strategy<Value = Option<Bytes>> {
    prop_oneof![
        Just(None),
        Just(Some(Bytes::from_static(DOCUMENT.as_bytes()))),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Some(Bytes::from(bytes))),
    ]
}

fn create() -> impl Strategy<Value = Create> {
    let ops = [
        OpCode::Create,
        OpCode::Create2,
        OpCode::CreateContainer,
        OpCode::CreateTtl,
    ];
    (prop::sample::select(ops.to_vec()), path(), data(), -1..8).prop_map(|(op, path, data, flags)| Create {
        op,
        path,
        data,
        acl: Seq::from_iter([Acl::open()]),
        flags,
        ttl_ms: 1,
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        create().prop_map(Op::Create),
        path().prop_map(|path| Op::Delete { path, version: -1 }),
        (path(), data()).prop_map(|(path, data)| Op::SetData(SetData {
            path,
            data,
            version: -1
        })),
        path().prop_map(|path| Op::Check { path, version: 0 }),
    ]
}

fn read() -> impl Strategy<Value = Op> {
    (path(), any::<bool>(), any::<bool>()).prop_map(|(path, watch, is_data)| match is_data {
        true => Op::GetData { path, watch },
        false => Op::GetChildren { path, watch },
    })
}

fn paths() -> impl Strategy<Value = Seq<Text>> {
    prop::collection::vec(path(), 0..4).prop_map(Seq::from_iter)
}

fn watches() -> impl Strategy<Value = SetWatches> {
    (any::<i64>(), paths(), paths(), paths(), paths(), paths()).prop_map(
        |(relative_zxid, data, exist, child, persistent, persistent_recursive)| SetWatches {
            relative_zxid,
            data,
            exist,
            child,
            persistent,
            persistent_recursive,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        4 => create().prop_map(Request::Create),
        2 => (path(), data()).prop_map(|(path, data)| Request::SetData(SetData { path, data, version: -1 })),
        2 => path().prop_map(|path| Request::Delete { path, version: -1 }),
        3 => (path(), any::<bool>()).prop_map(|(path, watch)| Request::Exists { path, watch }),
        3 => (path(), any::<bool>()).prop_map(|(path, watch)| Request::GetData { path, watch }),
        3 => (path(), any::<bool>()).prop_map(|(path, watch)| Request::GetChildren { path, watch }),
        3 => (path(), any::<bool>()).prop_map(|(path, watch)| Request::GetChildren2 { path, watch }),
        2 => path().prop_map(|path| Request::GetAllChildrenNumber { path }),
        1 => path().prop_map(|path| Request::Sync { path }),
        1 => path().prop_map(|prefix| Request::GetEphemerals { prefix }),
        2 => (path(), -1..3).prop_map(|(path, mode)| Request::AddWatch { path, mode }),
        2 => (path(), 0..7).prop_map(|(path, kind)| Request::CheckWatches { path, kind }),
        2 => (path(), 0..7).prop_map(|(path, kind)| Request::RemoveWatches { path, kind }),
        2 => prop::collection::vec(op(), 0..4).prop_map(|ops| Request::Multi(Ops::from_iter(ops))),
        2 => prop::collection::vec(read(), 0..4).prop_map(|ops| Request::MultiRead(Ops::from_iter(ops))),
        1 => watches().prop_map(Request::SetWatches),
        1 => watches().prop_map(Request::SetWatches2),
        1 => Just(Request::Ping),
        1 => Just(Request::WhoAmI),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

fn step() -> impl Strategy<Value = Step> {
    let body = prop_oneof![
        6 => Just(Body::Fitting),
        2 => prop::sample::select(&[-101, -110, -103, -2, -4, 7][..]).prop_map(Body::Error),
        1 => bytes().prop_map(Body::Bytes),
    ];
    let url = (1..4_u16, 0..3_u16).prop_map(|(host, port)| format!("dubbo://10.0.0.{host}:2088{port}/a.B"));
    let names = prop::collection::vec("[a-c]", 0..3);
    prop_oneof![
        12 => request().prop_map(Step::Ask),
        1 => (any::<i32>(), bytes()).prop_map(|(op, body)| Step::AskBytes(op, body)),
        1 => (0..110, bytes()).prop_map(|(op, body)| Step::AskBytes(op, body)),
        12 => body.prop_map(Step::Answer),
        2 => (-2..8, path()).prop_map(|(kind, path)| Step::Event(kind, path.to_string())),
        2 => (prop::collection::vec(url, 0..3), names).prop_map(|(urls, names)| Step::Show(urls, names)),
        3 => (0..4_000_u64).prop_map(Step::Turn),
    ]
}

fn last_step() -> impl Strategy<Value = Option<Step>> {
    prop::option::of(prop_oneof![
        bytes().prop_map(Step::Any),
        bytes().prop_map(Step::EventBytes),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(Step::AskNoHead),
    ])
}

/// A door, and what the two ends of it said.
struct World {
    door: Door,
    lists: watch::Sender<Option<Arc<Snapshot>>>,
    next_xid: i32,
    asked: Vec<i32>,
    answered: Vec<i32>,
    zxid: i64,
}

impl World {
    fn new(is_resumed: bool) -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        let config = Config {
            listen,
            ..Config::default()
        };
        let server = Server::in_memory(Options::default());
        let facade = ZookeeperFacade::bind(config, Arc::new(Embedded::new(server)), "default").unwrap();
        let shared = facade.shared;
        let lists = watch::channel(None).0;
        let lease = Lease::open(Arc::new(Echo(lists.clone())), LeaseInfo::default());
        let state = Box::new(State::new(lease, Client::Java, &shared.stats));
        let mut door = Door::new(shared, state, false);
        if is_resumed {
            door.state.is_resumed = true;
            door.learn_soon();
        }
        Self {
            door,
            lists,
            next_xid: 1,
            asked: Vec::new(),
            answered: Vec::new(),
            zxid: 100,
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Ask(request) => {
                let mut out = BytesMut::new();
                request.encode_frame(0, &mut out);
                let op = request.op().number();
                let body = Bytes::from(out.split_off(12));
                self.ask(op, &body);
            }
            Step::AskBytes(op, body) => self.ask(op, &body),
            Step::AskNoHead(bytes) => drop(self.door.on_app_frame(bytes.into())),
            Step::Answer(body) => self.answer(&body),
            Step::Event(kind, path) => {
                let mut out = BytesMut::new();
                let head = ReplyHeader {
                    xid: xid::EVENT,
                    zxid: self.zxid,
                    err: ErrorCode::OK,
                };
                head.write(&mut out);
                let event = WatcherEvent {
                    kind,
                    state: 3,
                    path: path.into(),
                };
                event.write(&mut out);
                self.door.on_upstream_frame(out.freeze()).unwrap();
            }
            Step::EventBytes(body) => {
                let mut out = BytesMut::new();
                out.put_i32(xid::EVENT);
                out.put_slice(&body);
                drop(self.door.on_upstream_frame(out.freeze()));
            }
            Step::Any(bytes) => drop(self.door.on_upstream_frame(bytes.into())),
            Step::Show(urls, foreign) => {
                let parsed = urls
                    .iter()
                    .map(|url| dubbo_url::parse_child(&dubbo_url::encode_component(url)));
                let snapshot = Snapshot {
                    target: Target::Service {
                        namespace: "/dubbo".into(),
                        name: "a.B".into(),
                    },
                    instances: parsed.map(|one| Arc::new(one.unwrap())).collect(),
                    malformed: Vec::new(),
                    foreign: foreign.into_iter().map(Arc::from).collect(),
                    source: Source::Registry,
                };
                self.lists.send_replace(Some(Arc::new(snapshot)));
            }
            Step::Turn(ms) => self.turn(ms).await,
        }
        self.collect();
    }

    /// What the pump does when nothing arrives.
    async fn turn(&mut self, ms: u64) {
        tokio::time::advance(std::time::Duration::from_millis(ms)).await;
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        while let Some(done) = self.door.jobs.try_join_next() {
            self.door.on_done(done.unwrap());
        }
        self.door.on_deadline();
    }

    fn ask(&mut self, op: i32, body: &[u8]) {
        if !self.door.takes_requests() {
            return;
        }
        let is_ping = op == OpCode::Ping.number();
        let number = if is_ping { xid::PING } else { self.next_xid };
        let mut out = BytesMut::new();
        RequestHeader { xid: number, op }.write(&mut out);
        out.put_slice(body);
        self.door.on_app_frame(out.freeze()).unwrap();
        if !is_ping {
            self.asked.push(number);
            self.next_xid += 1;
        }
    }

    fn answer(&mut self, body: &Body) {
        let Some(sent) = self.door.sent.front() else { return };
        let (xid, op) = (sent.xid, sent.op);
        self.zxid += 1;
        let mut out = BytesMut::new();
        let err = match body {
            Body::Error(err) => ErrorCode(*err),
            _ => ErrorCode::OK,
        };
        let zxid = self.zxid;
        ReplyHeader { xid, zxid, err }.write(&mut out);
        match body {
            Body::Fitting => op.map(fitting).unwrap_or(Reply::Empty).encode(&mut out),
            Body::Error(_) => {}
            Body::Bytes(bytes) => out.put_slice(bytes),
        }
        self.door.on_upstream_frame(out.freeze()).unwrap();
    }

    fn collect(&mut self) {
        self.door.up_out.clear();
        while let Some(frame) = split_frame(&mut self.door.app_out, usize::MAX).unwrap() {
            let head = ReplyHeader::read(&mut Reader::new(frame)).unwrap();
            if !matches!(head.xid, xid::EVENT | xid::PING) {
                self.answered.push(head.xid);
            }
        }
        assert!(self.door.app_out.is_empty(), "whole frames only");
        assert_eq!(
            self.answered[..],
            self.asked[..self.answered.len()],
            "the order of requests"
        );
    }

    /// Everything is answered in the end.
    async fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.door.sent.is_empty() && self.door.line.len() == 0 {
                break;
            }
            self.answer(&Body::Fitting);
            self.turn(1_000).await;
            self.collect();
        }
        assert_eq!(self.answered, self.asked);
    }
}

fn fitting(op: OpCode) -> Reply {
    let path = || Text::from(PATHS[5]);
    let names = || Seq::of_strs([PATHS[5], PATHS[13], "lock"]);
    let (data, stat) = (Some(Bytes::from_static(DOCUMENT.as_bytes())), Stat::default());
    match op {
        OpCode::Create => Reply::Created { path: path() },
        OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => Reply::Created2 { path: path(), stat },
        OpCode::Exists | OpCode::SetData | OpCode::SetAcl | OpCode::Check => Reply::Stat(stat),
        OpCode::GetData | OpCode::Reconfig => Reply::Data { data, stat },
        OpCode::GetAcl => Reply::Acl {
            acl: Seq::from_iter([Acl::open()]),
            stat,
        },
        OpCode::GetChildren | OpCode::GetEphemerals => Reply::Children(names()),
        OpCode::GetChildren2 => Reply::Children2 {
            children: names(),
            stat,
        },
        OpCode::Sync => Reply::Path { path: path() },
        OpCode::Multi | OpCode::MultiRead => Reply::Results(
            [
                OpResult::Create { path: path() },
                OpResult::Delete,
                OpResult::GetChildren { children: names() },
                OpResult::GetData { data, stat },
                OpResult::Error(ErrorCode::NO_NODE),
            ]
            .into_iter()
            .collect(),
        ),
        OpCode::GetAllChildrenNumber | OpCode::AddWatch => Reply::Number(0),
        _ => Reply::Empty,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_is_said_replies_keep_their_order(
        is_resumed: bool,
        steps in prop::collection::vec(step(), 0..60),
        last in last_step(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new(is_resumed);
            for step in steps {
                world.step(step).await;
            }
            world.finish().await;
            if let Some(step) = last {
                world.step(step).await;
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_does_not_tell_what_a_session_published_is_not_waited_for() {
    let mut world = World::new(true);
    let exists = Request::Exists {
        path: "/a".into(),
        watch: false,
    };
    world.step(Step::Ask(exists)).await;
    let waits = |world: &World| (world.door.sent.len(), world.door.takes_requests());
    assert_eq!(waits(&world), (1, false));
    world.step(Step::Turn(4_900)).await;
    assert_eq!(waits(&world), (1, false));
    world.step(Step::Turn(200)).await;
    assert_eq!(waits(&world), (2, true));
    world.finish().await;
}
