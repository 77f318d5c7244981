// SPDX-License-Identifier: Apache-2.0
//! Scripted peers and a call path to put between them. Every wait has a deadline.

use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::registry::Registry;
use remora_protocol::{BytesMut, Decoded, Frame, FrameKind, Protocol};
use remora_registry::ServiceKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::wire::Mini;
use crate::call::{CallHandle, CallPath, Config, ConnectionView, EgressListener, Setup};
use crate::config::Span;
use crate::discovery::ingress::{IngressChange, IngressListener};
use crate::discovery::route_table::{Endpoint, Route, RouteTable, SharedRoutes};
use crate::metrics::call::{CallMetrics, CallShard};

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn ms(n: u64) -> Span {
    Span(Duration::from_millis(n))
}

/// A future that must be done soon.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Waits for a fact.
pub(super) async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    soon(what, async {
        while !fact() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// One end of a connection, which speaks the test protocol unless told otherwise.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    input: BytesMut,
    protocol: Arc<dyn Protocol>,
}

impl Peer {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self::speaking(Arc::new(Mini), stream)
    }

    pub(super) fn speaking(protocol: Arc<dyn Protocol>, stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            input: BytesMut::new(),
            protocol,
        }
    }

    pub(super) async fn connect(addr: SocketAddr) -> Self {
        Self::connect_speaking(Arc::new(Mini), addr).await
    }

    pub(super) async fn connect_speaking(protocol: Arc<dyn Protocol>, addr: SocketAddr) -> Self {
        Self::speaking(protocol, soon("connect", TcpStream::connect(addr)).await.unwrap())
    }

    pub(super) async fn send(&mut self, frame: &Frame) {
        soon("send", self.stream.write_all(&frame.wire)).await.unwrap();
    }

    /// The next frame; `None` when the other end closed.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        soon("a frame", async {
            loop {
                match self.protocol.decode(&mut self.input, 1 << 30).unwrap() {
                    Decoded::Frame(frame) => return Some(frame),
                    Decoded::Incomplete { .. } => {}
                    Decoded::TooLong { .. } => unreachable!(),
                }
                match self.stream.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
    }

    /// The next frame, which must be of that kind. Heartbeats are answered on the way to it.
    pub(super) async fn expect(&mut self, kind: FrameKind) -> Frame {
        loop {
            let frame = self.next().await.expect("a frame, not the end");
            if frame.kind == FrameKind::Heartbeat && kind != FrameKind::Heartbeat {
                self.answer(&frame).await;
                continue;
            }
            assert_eq!(frame.kind, kind, "{frame:?}");
            return frame;
        }
    }

    pub(super) async fn answer(&mut self, heartbeat: &Frame) {
        if let Some(answer) = self.protocol.heartbeat_reply(heartbeat) {
            soon("send", self.stream.write_all(&answer)).await.unwrap();
        }
    }

    /// Sends a request and gives its reply.
    pub(super) async fn call(&mut self, request: &Frame) -> Frame {
        self.send(request).await;
        let reply = self.expect(FrameKind::Reply).await;
        assert_eq!(reply.stream_id, request.stream_id);
        reply
    }
}

/// A listening provider.
pub(super) struct Provider {
    pub(super) addr: SocketAddr,
    listener: TcpListener,
}

impl Provider {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            addr: listener.local_addr().unwrap(),
            listener,
        }
    }

    pub(super) async fn accept(&self) -> Peer {
        Peer::new(soon("accept", self.listener.accept()).await.unwrap().0)
    }

    /// Answers every request with its own payload, on every connection, for as long as the test runs.
    pub(super) fn echo(self) -> SocketAddr {
        let addr = self.addr;
        tokio::spawn(async move {
            loop {
                let mut peer = Peer::new(self.listener.accept().await.unwrap().0);
                tokio::spawn(async move {
                    while let Some(frame) = peer.next().await {
                        match frame.kind {
                            FrameKind::Request => {
                                let payload = super::wire::payload(&frame).to_vec();
                                peer.send(&super::wire::reply(&frame, &payload)).await;
                            }
                            FrameKind::Heartbeat => peer.answer(&frame).await,
                            _ => {}
                        }
                    }
                });
            }
        });
        addr
    }
}

/// A port on which nobody listens.
pub(super) fn dead_port() -> SocketAddr {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A running call path with one egress.
pub(super) struct Path {
    protocol: &'static str,
    pub(super) egress: SocketAddr,
    pub(super) ingress: mpsc::Sender<IngressChange>,
    pub(super) routes: SharedRoutes,
    pub(super) metrics: CallMetrics,
    pub(super) drain: CancellationToken,
    pub(super) handle: Option<CallHandle>,
    pub(super) listener: Option<StdListener>,
    pub(super) ingress_ports: Mutex<Vec<(StdListener, Option<SocketAddr>)>>,
}

impl Path {
    pub(super) fn start(config: Config) -> Self {
        Self::with_workers(config, 1)
    }

    pub(super) fn with_workers(config: Config, workers: usize) -> Self {
        Self::speaking(Arc::new(Mini), config, workers)
    }

    pub(super) fn speaking(protocol: Arc<dyn Protocol>, config: Config, workers: usize) -> Self {
        let mut path = Self::lasting(protocol, config, workers);
        path.listener = None;
        path
    }

    /// One whose ports stay open for another one.
    pub(super) fn lasting(protocol: Arc<dyn Protocol>, config: Config, workers: usize) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let path = Self::held(protocol, config, workers, listener, SharedRoutes::default());
        path.handle.as_ref().unwrap().begin();
        path
    }

    /// One that does not begin yet.
    pub(super) fn held(
        protocol: Arc<dyn Protocol>,
        config: Config,
        workers: usize,
        listener: StdListener,
        routes: SharedRoutes,
    ) -> Self {
        let name = protocol.name();
        let egress = listener.local_addr().unwrap();
        let second = listener.try_clone().unwrap();
        let metrics = CallMetrics::new(&mut Registry::default());
        let drain = CancellationToken::new();
        let (ingress, changes) = mpsc::channel(8);
        let handle = CallPath::start(Setup {
            protocols: vec![protocol],
            routes: routes.clone(),
            egress: vec![EgressListener {
                protocol: name.into(),
                listener,
            }],
            ingress: changes,
            config,
            workers,
            metrics: metrics.clone(),
            drain_deadline: Duration::from_millis(500),
            is_held: true,
            drain: drain.clone(),
        })
        .unwrap();
        Self {
            protocol: name,
            egress,
            ingress,
            routes,
            metrics,
            drain,
            handle: Some(handle),
            listener: Some(second),
            ingress_ports: Mutex::default(),
        }
    }

    /// Replaces the routes: service name (or `name:version`) and addresses.
    pub(super) fn route(&self, services: &[(&str, &[SocketAddr])]) {
        let endpoint = |addr: &SocketAddr| Endpoint {
            protocol: self.protocol.into(),
            ..endpoint(*addr)
        };
        let endpoints = |addrs: &[SocketAddr]| addrs.iter().map(endpoint).collect();
        self.route_endpoints(services.iter().map(|(name, addrs)| (*name, endpoints(addrs))).collect());
    }

    pub(super) fn route_endpoints(&self, services: Vec<(&str, Vec<Endpoint>)>) {
        let mut table = RouteTable::default();
        for (name, endpoints) in services {
            let (name, version) = name.split_once(':').unwrap_or((name, ""));
            table.insert(Arc::new(Route {
                key: ServiceKey::new(name, "", version),
                endpoints: endpoints.into_iter().map(Arc::new).collect(),
                timeout: None,
            }));
        }
        self.routes.store(Arc::new(table));
    }

    /// Opens an ingress port.
    pub(super) async fn open_ingress(&self, app: Option<SocketAddr>) -> SocketAddr {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        if self.listener.is_some() {
            let second = listener.try_clone().unwrap();
            self.ingress_ports.lock().unwrap().push((second, app));
        }
        self.open(listener, app).await;
        addr
    }

    pub(super) async fn open(&self, listener: StdListener, app: Option<SocketAddr>) {
        let open = IngressChange::Open(IngressListener {
            protocol: self.protocol.into(),
            listener,
            app,
        });
        self.ingress.send(open).await.unwrap();
    }

    pub(super) fn sum(&self, read: impl Fn(&CallShard) -> u64) -> u64 {
        self.metrics.sum(read)
    }

    pub(super) async fn connections(&self) -> Vec<ConnectionView> {
        soon("connections", self.handle.as_ref().unwrap().connections()).await
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.drain.cancel();
    }
}

pub(super) fn endpoint(addr: SocketAddr) -> Endpoint {
    Endpoint {
        addr,
        protocol: "mini".into(),
        weight: 100,
        started_ms: 0,
        warmup_ms: 0,
        warmup_weight: None,
        serializations: vec![],
        application: "app".into(),
        framework: "".into(),
        is_taken_over: false,
    }
}

pub(super) fn text(frame: &Frame) -> String {
    String::from_utf8_lossy(frame.body()).into_owned()
}
