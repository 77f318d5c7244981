// SPDX-License-Identifier: Apache-2.0
//! A door over a discovery in memory, and a client that says what it is told.

#![allow(dead_code, reason = "each test file needs a part of it")]

pub mod memory;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use memory::{Asked, Memory};
use remora_bolt::frame::Parts;
use remora_bolt::{Reply, Request};
use remora_protocol::{Decoded, Frame, FrameKind};
use remora_registry::Facade;
use remora_sofaregistry::adapter::SofaRegistry;
use remora_sofaregistry::facade::{Config, SofaRegistryFacade, Stats};
use remora_sofaregistry::wire::{
    ConfiguratorRegister, EventType, Limits, Message, PublisherRegister, PushResult, ReceivedConfigData, ReceivedData,
    RegisterResponse, Registration, Scope, SubscriberRegister,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Longer than anything takes here.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const ECHO: &str = "demo.EchoService:1.0@DEFAULT";
pub const ECHO_TARGET: &str = "service /sofa-rpc/demo.EchoService:1.0";
pub const LINE: &str = "10.77.0.3:12200?rpcVer=51302&serialization=hessian2&weight=100&appName=demo-app&p=1&v=4.0";

/// A door that ends with it.
pub struct Door {
    pub http: SocketAddr,
    pub session: SocketAddr,
    pub stats: Arc<Stats>,
    pub memory: Arc<Memory>,
    pub drain: CancellationToken,
    pub served: AbortOnDropHandle<()>,
}

/// Ports of our own, times that tests can wait for.
pub fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        session: "127.0.0.1:0".parse().unwrap(),
        grace: Duration::from_millis(300),
        debounce: Duration::from_millis(50),
        first_list_wait: Duration::from_millis(200),
        push_timeout: Duration::from_secs(5),
        ..Config::default()
    }
}

impl Door {
    pub fn open() -> Self {
        Self::with(config(), None)
    }

    pub fn with(config: Config, relay: Option<Arc<SofaRegistry>>) -> Self {
        Self::serving(SofaRegistryFacade::bind(config, relay, "default").unwrap())
    }

    /// One that remembers what is published.
    pub fn remembering(dir: &Path) -> Self {
        let facade = SofaRegistryFacade::bind(config(), None, "default").unwrap();
        Self::serving(facade.remember_in(dir))
    }

    pub fn serving(facade: SofaRegistryFacade) -> Self {
        let (http, session, stats) = (facade.local_addr(), facade.session_addr(), facade.stats());
        let memory = Arc::new(Memory::default());
        let drain = CancellationToken::new();
        let serving = Box::new(facade).serve(memory.clone(), drain.clone());
        let served = AbortOnDropHandle::new(tokio::spawn(async move { serving.await.unwrap() }));
        Self {
            http,
            session,
            stats,
            memory,
            drain,
            served,
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.session).await
    }

    /// Waits until the discovery was asked this, and gives everything that it was asked.
    pub async fn until(&self, is_it: impl Fn(&[Asked]) -> bool) -> Vec<Asked> {
        let mut asked = self.memory.asked();
        let seen = timeout(PATIENCE, asked.wait_for(|all| is_it(all))).await;
        match seen {
            Ok(seen) => seen.unwrap().clone(),
            Err(_) => panic!("not asked in time; {:#?}", *self.memory.asked().borrow()),
        }
    }
}

/// A registry client.
pub struct Client {
    stream: TcpStream,
    input: BytesMut,
    next_id: u32,
    /// Frames that came while another was waited for.
    earlier: Vec<Frame>,
}

/// A push that waits for its answer.
pub struct Pushed<T> {
    pub id: u32,
    pub data: T,
}

pub fn base(data_id: &str, group: &str, regist_id: &str) -> Registration {
    Registration {
        zone: Some("DEFAULT_ZONE".to_owned()),
        app_name: Some("demo-app".to_owned()),
        data_id: data_id.to_owned(),
        group: group.to_owned(),
        regist_id: regist_id.to_owned(),
        version: 1,
        ..Registration::default()
    }
}

pub fn publisher(data_id: &str, regist_id: &str, lines: &[&str]) -> Message {
    Message::PublisherRegister(PublisherRegister {
        base: base(data_id, "SOFA", regist_id),
        data: lines.iter().map(|line| (*line).to_owned()).collect(),
    })
}

pub fn subscriber(data_id: &str, regist_id: &str) -> Message {
    scoped(data_id, regist_id, Scope::Global)
}

pub fn scoped(data_id: &str, regist_id: &str, scope: Scope) -> Message {
    Message::SubscriberRegister(SubscriberRegister {
        base: base(data_id, "SOFA", regist_id),
        scope,
        ..SubscriberRegister::default()
    })
}

pub fn configurator(data_id: &str, regist_id: &str) -> Message {
    let base = Registration {
        version: 0,
        ..base(data_id, "SOFA.CONFIG", regist_id)
    };
    Message::ConfiguratorRegister(ConfiguratorRegister { base })
}

/// The registration of a message.
pub fn of(message: &mut Message) -> &mut Registration {
    match message {
        Message::PublisherRegister(register) => &mut register.base,
        Message::SubscriberRegister(register) => &mut register.base,
        Message::ConfiguratorRegister(register) => &mut register.base,
        other => panic!("no registration: {other:?}"),
    }
}

/// The same registration one version later.
pub fn again(mut message: Message) -> Message {
    of(&mut message).version += 1;
    message
}

/// Its end, as clients send it.
pub fn end(message: Message) -> Message {
    let mut message = again(message);
    of(&mut message).event = EventType::Unregister;
    if let Message::PublisherRegister(register) = &mut message {
        register.data.clear();
    }
    message
}

pub fn message(frame: &Frame) -> Message {
    let parts = Parts::of(&frame.wire).unwrap();
    let class = std::str::from_utf8(parts.class).unwrap();
    Message::decode(class, parts.content, &Limits::default()).unwrap_or_else(|e| panic!("{class}: {e}"))
}

impl Client {
    pub async fn connect(to: SocketAddr) -> Self {
        Self::on(TcpStream::connect(to).await.unwrap())
    }

    /// One whose system takes little of what it does not read.
    pub async fn with_small_buffer(to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        Self::on(socket.connect(to).await.unwrap())
    }

    pub fn on(stream: TcpStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            next_id: 1,
            earlier: Vec::new(),
        }
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a request; gives its stream id.
    pub async fn send(&mut self, message: &Message) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        let request = Request {
            id,
            timeout: Some(Duration::from_secs(1)),
            class: message.class(),
            content: &message.encode(),
            ..Request::default()
        };
        let frame = request.to_frame().unwrap();
        self.send_raw(&frame).await;
        id
    }

    /// The next frame; `None` when the door closed.
    pub async fn frame(&mut self) -> Option<Frame> {
        if !self.earlier.is_empty() {
            return Some(self.earlier.remove(0));
        }
        self.read().await
    }

    async fn read(&mut self) -> Option<Frame> {
        loop {
            match remora_bolt::decode(&mut self.input, 64 << 20).unwrap() {
                Decoded::Frame(frame) => return Some(frame),
                Decoded::TooLong { .. } => panic!("64 MiB from the door"),
                Decoded::Incomplete { .. } => {}
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
            // A reset is a close too.
            match read.expect("the door says nothing") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The first frame that is so, of those that came and come; the others stay for later.
    async fn frame_that(&mut self, is_it: impl Fn(&Frame) -> bool) -> Frame {
        if let Some(at) = self.earlier.iter().position(&is_it) {
            return self.earlier.remove(at);
        }
        loop {
            let frame = self.read().await.expect("the door closed");
            if is_it(&frame) {
                return frame;
            }
            self.earlier.push(frame);
        }
    }

    pub async fn reply(&mut self, id: u32) -> Frame {
        self.frame_that(|frame| frame.kind == FrameKind::Reply && frame.stream_id.0 == u64::from(id))
            .await
    }

    /// Registers something and gives the answer.
    pub async fn ask(&mut self, message_: &Message) -> RegisterResponse {
        let id = self.send(message_).await;
        let frame = self.reply(id).await;
        match message(&frame) {
            Message::RegisterResponse(response) => response,
            other => panic!("another answer: {other:?}"),
        }
    }

    /// Registers something that must be taken.
    pub async fn register(&mut self, message: &Message) {
        let mut sent = message.clone();
        let sent = of(&mut sent).clone();
        let answer = self.ask(message).await;
        assert!(answer.success && !answer.refused, "{answer:?}");
        assert_eq!((answer.regist_id, answer.version), (sent.regist_id, sent.version));
    }

    /// The next list pushed.
    pub async fn pushed(&mut self) -> Pushed<ReceivedData> {
        let is_list =
            |frame: &Frame| frame.kind == FrameKind::Request && matches!(message(frame), Message::ReceivedData(_));
        let frame = self.frame_that(is_list).await;
        match message(&frame) {
            Message::ReceivedData(data) => Pushed {
                id: u32::try_from(frame.stream_id.0).unwrap(),
                data,
            },
            other => panic!("another push: {other:?}"),
        }
    }

    /// The next configuration pushed.
    pub async fn pushed_config(&mut self) -> Pushed<ReceivedConfigData> {
        let is_config = |frame: &Frame| {
            frame.kind == FrameKind::Request && matches!(message(frame), Message::ReceivedConfigData(_))
        };
        let frame = self.frame_that(is_config).await;
        match message(&frame) {
            Message::ReceivedConfigData(data) => Pushed {
                id: u32::try_from(frame.stream_id.0).unwrap(),
                data,
            },
            other => panic!("another push: {other:?}"),
        }
    }

    /// Answers a push.
    pub async fn answer(&mut self, id: u32, is_taken: bool) {
        let result = Message::PushResult(PushResult {
            success: is_taken,
            message: None,
        });
        let reply = Reply {
            id,
            class: result.class(),
            content: &result.encode(),
            ..Reply::default()
        };
        let frame = reply.to_frame().unwrap();
        self.send_raw(&frame).await;
    }

    /// The next list pushed, taken: its lines, sorted, of all zones.
    pub async fn list(&mut self) -> Vec<String> {
        let pushed = self.pushed().await;
        self.answer(pushed.id, true).await;
        lines(&pushed.data)
    }

    /// Waits until the door closes the connection.
    pub async fn closed(&mut self) {
        while self.frame().await.is_some() {}
    }
}

pub fn lines(push: &ReceivedData) -> Vec<String> {
    let zones = push
        .data
        .as_ref()
        .expect("a push without a map says nothing to a client");
    let mut lines: Vec<String> = zones.iter().flat_map(|(_, lines)| lines.clone()).collect();
    lines.sort();
    lines
}

/// Bytes of a golden file: its lines that hold frames, with their side (`>` client to server, or none).
pub fn golden(name: &str) -> Vec<(bool, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testbed/golden/sofaregistry");
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    let is_connection = name.ends_with("connection.hex");
    let bytes = |hex: &str| -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks_exact(2).map(byte).collect()
    };
    match is_connection {
        true => rows.map(|row| (row.starts_with('>'), bytes(row))).collect(),
        false => vec![(true, bytes(&rows.collect::<String>()))],
    }
}
