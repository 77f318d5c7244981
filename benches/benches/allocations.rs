// SPDX-License-Identifier: Apache-2.0
//! Allocations per call in steady state, over the real call path: sockets, stream tables, deadlines, metrics and all.
//!
//! Provider, callers and call paths run in this process, whose allocator counts; provider and callers allocate nothing once
//! they are warm. Says one row for each way and a line of JSON; with `--at-most N` ends with 1 when a way needs more a call.
//! `--calls N` sets how many are counted.
//! Housekeeping by the clock (deadlines, idle connections) is counted, too: it shows where calls are few.

use std::alloc::System;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use remora::call::{CallHandle, CallPath, Config, EgressListener, Setup};
use remora::discovery::ingress::{IngressChange, IngressListener};
use remora::discovery::route_table::{Endpoint, Route, RouteTable, SharedRoutes};
use remora::metrics::call::CallMetrics;
use remora_bench::link::{Input, Output, Scratch};
use remora_bench::wire::{Answerer, Kind, Mold, Protocol};
use remora_registry::ServiceKey;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How callers call: connections, and calls in flight on each.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    connections: usize,
    outstanding: usize,
}

const LOADS: [Load; 2] = [
    Load {
        name: "16 x 1",
        connections: 16,
        outstanding: 1,
    },
    Load {
        name: "4 x 32",
        connections: 4,
        outstanding: 32,
    },
];
/// Calls that are counted, unless told otherwise; a fifth of them go before.
const CALLS: usize = 100_000;
const PAYLOAD: [u8; 128] = [b'x'; 128];

fn main() -> ExitCode {
    let at_most = argument("--at-most");
    let calls = argument("--calls").map_or(CALLS, |calls| calls as usize);
    let (mut worst, mut ways) = (0.0f64, Vec::new());
    for protocol in [Protocol::Dubbo, Protocol::Bolt] {
        let provider = provider(protocol);
        let near = Hop::start(protocol, &[provider]);
        let far = Hop::start(protocol, &[]);
        let behind = far.open_ingress(provider);
        let first = Hop::start(protocol, &[behind]);
        for (way, to) in [("egress", near.egress), ("ingress", behind), ("both", first.egress)] {
            for load in LOADS {
                let (allocations, took) = count(protocol, to, load, calls);
                let per_call = allocations as f64 / calls as f64;
                let per_second = allocations as f64 / took.as_secs_f64();
                println!(
                    "{protocol:?} {way:8} {:7} {per_call:8.4} allocations a call, {per_second:8.0} a second",
                    load.name
                );
                worst = worst.max(per_call);
                ways.push(serde_json::json!({
                    "protocol": name(protocol), "way": way, "load": load.name, "per_call": per_call, "per_second": per_second,
                }));
            }
        }
    }
    println!("{}", serde_json::json!({ "worst_per_call": worst, "ways": ways }));
    ExitCode::from(u8::from(at_most.is_some_and(|limit| worst > limit)))
}

fn argument(name: &str) -> Option<f64> {
    let mut rest = std::env::args().skip_while(|argument| argument != name).skip(1);
    rest.next().and_then(|text| text.parse().ok())
}

/// Allocations of `calls` calls of warm callers, and the time that they took.
fn count(protocol: Protocol, to: SocketAddr, load: Load, calls: usize) -> (usize, Duration) {
    let gates: Arc<[Barrier; 3]> = Arc::new([(); 3].map(|()| Barrier::new(load.connections + 1)));
    let callers: Vec<JoinHandle<()>> = (0..load.connections)
        .map(|_| {
            let (gates, mut caller) = (gates.clone(), Caller::connect(protocol, to, load.outstanding));
            thread::spawn(move || {
                caller.make(calls / 5 / load.connections);
                gates[0].wait();
                gates[1].wait();
                caller.make(calls / load.connections);
                gates[2].wait();
            })
        })
        .collect();
    gates[0].wait();
    let region = Region::new(ALLOCATOR);
    let begun = Instant::now();
    gates[1].wait();
    gates[2].wait();
    let (change, took) = (region.change(), begun.elapsed());
    for caller in callers {
        caller.join().expect("a caller checks its replies");
    }
    (change.allocations + change.reallocations, took)
}

/// A connection with a number of calls in flight; blocking.
struct Caller {
    protocol: Protocol,
    stream: TcpStream,
    requests: Vec<u8>,
    outstanding: usize,
    reply_len: usize,
    input: Input,
    scratch: Scratch,
}

impl Caller {
    fn connect(protocol: Protocol, to: SocketAddr, outstanding: usize) -> Self {
        let stream = TcpStream::connect(to).expect("the call path listens");
        stream.set_nodelay(true).expect("a socket option");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a socket option");
        let (mut request, _) = Mold::request(protocol).frame(&PAYLOAD);
        let mut requests = Vec::new();
        for id in 0..outstanding {
            protocol.set_id(&mut request, id as u64);
            requests.extend_from_slice(&request);
        }
        Self {
            protocol,
            stream,
            requests,
            outstanding,
            reply_len: Mold::reply(protocol).frame(&PAYLOAD).0.len(),
            input: Input::default(),
            scratch: Scratch::default(),
        }
    }

    fn make(&mut self, calls: usize) {
        for _ in 0..calls.div_ceil(self.outstanding) {
            std::io::Write::write_all(&mut self.stream, &self.requests).expect("the call path takes it");
            let mut replies = 0;
            while replies < self.outstanding {
                let (protocol, len) = (self.protocol, self.reply_len);
                let read = self.input.read(&self.stream, protocol, &mut self.scratch, |frame| {
                    let frame = frame.bytes();
                    assert_eq!(
                        (protocol.kind(frame), protocol.failure(frame), frame.len()),
                        (Kind::Reply, None, len)
                    );
                    replies += 1;
                });
                assert!(read.expect("the call path answers"), "closed");
            }
        }
    }
}

/// Answers for as long as this process lives, each connection on a thread.
fn provider(protocol: Protocol) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || {
                let answerer = Answerer::new(protocol);
                let (mut input, mut output, mut scratch) = (Input::default(), Output::default(), Scratch::default());
                let mut answer = |input: &mut Input, output: &mut Output| {
                    input.read(&stream, protocol, &mut scratch, |frame| {
                        output.append(|out| match protocol.kind(frame.bytes()) {
                            Kind::Request => _ = answerer.answer(frame.bytes(), out),
                            Kind::Probe => protocol.answer_probe(frame.bytes(), out),
                            _ => {}
                        });
                    })
                };
                while answer(&mut input, &mut output).unwrap_or(false) {
                    while !output.flush(&stream).unwrap_or(true) {}
                }
            });
        }
    });
    addr
}

/// A call path on a thread of its own, with default settings.
struct Hop {
    protocol: Protocol,
    egress: SocketAddr,
    ingress: mpsc::Sender<IngressChange>,
    // It serves for as long as it is held.
    _handle: CallHandle,
}

impl Hop {
    fn start(protocol: Protocol, providers: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let egress = listener.local_addr().expect("it is bound");
        let (ingress, changes) = mpsc::channel(8);
        let handle = CallPath::start(Setup {
            protocols: vec![match protocol {
                Protocol::Dubbo => Arc::new(remora_dubbo::Dubbo),
                Protocol::Bolt => Arc::new(remora_bolt::Bolt),
            }],
            routes: routes(protocol, providers),
            egress: vec![EgressListener {
                protocol: name(protocol).into(),
                listener,
            }],
            ingress: changes,
            config: Config::default(),
            workers: 1,
            metrics: CallMetrics::new(&mut prometheus_client::registry::Registry::default()),
            drain_deadline: Duration::from_secs(1),
            is_held: false,
            drain: CancellationToken::new(),
        })
        .expect("a call path starts");
        Self {
            protocol,
            egress,
            ingress,
            _handle: handle,
        }
    }

    fn open_ingress(&self, app: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket option");
        let addr = listener.local_addr().expect("it is bound");
        let open = IngressChange::Open(IngressListener {
            protocol: name(self.protocol).into(),
            listener,
            app: Some(app),
        });
        self.ingress
            .blocking_send(open)
            .expect("the call path listens to changes");
        addr
    }
}

fn routes(protocol: Protocol, providers: &[SocketAddr]) -> SharedRoutes {
    let endpoint = |addr: &SocketAddr| {
        Arc::new(Endpoint {
            addr: *addr,
            protocol: name(protocol).into(),
            weight: 100,
            started_ms: 0,
            warmup_ms: 0,
            warmup_weight: None,
            serializations: vec![],
            application: "bench".into(),
            framework: "".into(),
            is_taken_over: false,
        })
    };
    let version = if protocol == Protocol::Bolt { "1.0" } else { "" };
    let mut table = RouteTable::default();
    table.insert(Arc::new(Route {
        key: ServiceKey::new("demo.EchoService", "", version),
        endpoints: providers.iter().map(endpoint).collect(),
        timeout: None,
    }));
    let routes = SharedRoutes::default();
    routes.store(Arc::new(table));
    routes
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Dubbo => "dubbo",
        Protocol::Bolt => "bolt",
    }
}
