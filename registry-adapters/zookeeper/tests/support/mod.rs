// SPDX-License-Identifier: Apache-2.0
//! A scripted ZooKeeper client: sends requests, keeps what comes back in its order.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

pub mod door;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use remora_zookeeper::backend::Duplex;
use remora_zookeeper::embedded::Server;
use remora_zookeeper::wire::request::{Auth, Create, SetData};
use remora_zookeeper::wire::{
    Acl, ConnectRequest, ConnectResponse, CreateMode, ErrorCode, EventKind, OpCode, Reader, Record, Reply, ReplyHeader,
    Request, Seq, Stat, WatcherEvent, begin_frame, end_frame, split_frame, xid,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub const DEADLINE: Duration = Duration::from_secs(10);

pub struct Client {
    io: Box<dyn Duplex>,
    input: BytesMut,
    next_xid: i32,
    pub session: i64,
    pub password: Bytes,
    pub timeout_ms: i32,
    pub zxid: i64,
    /// Events in the order in which they came, with what had been answered before them.
    pub events: VecDeque<(EventKind, String)>,
}

impl Client {
    pub async fn new(server: &Server) -> Self {
        Self::open(pipe(server), None).await.expect("a session")
    }

    pub async fn resume(server: &Server, before: &Client) -> Option<Self> {
        Self::open(pipe(server), Some(before)).await
    }

    /// `None` when the server says that the session is gone.
    pub async fn open(io: Box<dyn Duplex>, before: Option<&Client>) -> Option<Self> {
        Self::open_with(io, before, 30_000).await
    }

    pub async fn open_with(io: Box<dyn Duplex>, before: Option<&Client>, timeout_ms: i32) -> Option<Self> {
        let mut client = Self {
            io,
            input: BytesMut::new(),
            next_xid: 1,
            session: 0,
            password: Bytes::new(),
            timeout_ms: 0,
            zxid: before.map_or(0, |c| c.zxid),
            events: VecDeque::new(),
        };
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: client.zxid,
            timeout_ms,
            session_id: before.map_or(0, |c| c.session),
            password: before.map_or(Bytes::from_static(&[0; 16]), |c| c.password.clone()),
            read_only: Some(false),
        };
        let mut out = BytesMut::new();
        let start = begin_frame(&mut out);
        request.write(&mut out);
        end_frame(&mut out, start);
        client.io.write_all(&out).await.ok()?;
        let response = ConnectResponse::read(&mut Reader::new(client.frame().await?)).unwrap();
        client.session = response.session_id;
        client.password = response.password;
        client.timeout_ms = response.timeout_ms;
        (response.timeout_ms > 0).then_some(client)
    }

    /// The next frame, `None` when the server closed.
    pub async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = split_frame(&mut self.input, 64 << 20).expect("a frame") {
                return Some(frame);
            }
            let read = self.io.read_buf(&mut self.input);
            let n = tokio::time::timeout(DEADLINE, read).await.expect("an answer in time");
            if n.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub async fn send(&mut self, request: &Request) -> i32 {
        let number = match request {
            Request::Ping => xid::PING,
            Request::Auth(_) => xid::AUTH,
            _ => self.next_xid,
        };
        self.next_xid += i32::from(number > 0);
        let mut out = BytesMut::new();
        request.encode_frame(number, &mut out);
        // A server that closed meanwhile is noticed when reading.
        let _ = self.io.write_all(&out).await;
        number
    }

    /// The application loses its connection, and keeps its session.
    pub async fn part(&mut self) {
        self.io.shutdown().await.unwrap();
        while self.frame().await.is_some() {}
    }

    /// The connection, for who speaks in bytes.
    pub fn into_io(self) -> Box<dyn Duplex> {
        self.io
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
    }

    /// The next reply; events before it are kept.
    pub async fn reply(&mut self) -> Option<(ReplyHeader, Bytes)> {
        loop {
            let mut input = Reader::new(self.frame().await?);
            let head = ReplyHeader::read(&mut input).unwrap();
            if head.xid != xid::EVENT {
                if head.zxid > 0 {
                    assert!(head.zxid >= self.zxid, "zxid runs backwards");
                    self.zxid = head.zxid;
                }
                return Some((head, input.rest()));
            }
            let event = WatcherEvent::read(&mut input).unwrap();
            self.events
                .push_back((EventKind::from_wire(event.kind).unwrap(), event.path.to_string()));
        }
    }

    /// Asks and waits for the answer.
    pub async fn ask(&mut self, request: Request) -> Result<Reply, ErrorCode> {
        let number = self.send(&request).await;
        let (head, body) = self.reply().await.expect("an answer");
        assert_eq!(head.xid, number, "answers come in the order of requests");
        match head.err {
            ErrorCode::OK => Ok(Reply::decode(request.op(), body).unwrap()),
            err => Err(err),
        }
    }

    /// The next event, in whatever order it comes with replies that nobody waits for.
    pub async fn event(&mut self) -> (EventKind, String) {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let mut input = Reader::new(self.frame().await.expect("an event"));
            let head = ReplyHeader::read(&mut input).unwrap();
            assert_eq!(head.xid, xid::EVENT, "an event, not a reply");
            let event = WatcherEvent::read(&mut input).unwrap();
            self.events
                .push_back((EventKind::from_wire(event.kind).unwrap(), event.path.to_string()));
        }
    }

    /// Events so far; a ping makes sure that those caused before have come.
    pub async fn told(&mut self) -> Vec<(EventKind, String)> {
        self.ask(Request::Ping).await.unwrap();
        self.events.drain(..).collect()
    }

    pub async fn create(&mut self, path: &str, mode: CreateMode) -> Result<String, ErrorCode> {
        match self.ask(create(path, mode)).await? {
            Reply::Created { path } => Ok(path.to_string()),
            other => panic!("{other:?}"),
        }
    }

    pub async fn delete(&mut self, path: &str) -> Result<(), ErrorCode> {
        let request = Request::Delete {
            path: path.into(),
            version: -1,
        };
        self.ask(request).await.map(|_| ())
    }

    pub async fn set(&mut self, path: &str, data: &'static [u8]) -> Result<Stat, ErrorCode> {
        let data = Some(Bytes::from_static(data));
        let set = SetData {
            path: path.into(),
            data,
            version: -1,
        };
        match self.ask(Request::SetData(set)).await? {
            Reply::Stat(stat) => Ok(stat),
            other => panic!("{other:?}"),
        }
    }

    pub async fn exists(&mut self, path: &str, watch: bool) -> Result<Stat, ErrorCode> {
        match self
            .ask(Request::Exists {
                path: path.into(),
                watch,
            })
            .await?
        {
            Reply::Stat(stat) => Ok(stat),
            other => panic!("{other:?}"),
        }
    }

    pub async fn get(&mut self, path: &str, watch: bool) -> Result<(Option<Bytes>, Stat), ErrorCode> {
        match self
            .ask(Request::GetData {
                path: path.into(),
                watch,
            })
            .await?
        {
            Reply::Data { data, stat } => Ok((data, stat)),
            other => panic!("{other:?}"),
        }
    }

    pub async fn children(&mut self, path: &str, watch: bool) -> Result<Vec<String>, ErrorCode> {
        match self
            .ask(Request::GetChildren {
                path: path.into(),
                watch,
            })
            .await?
        {
            Reply::Children(children) => Ok(children.iter().map(|c| c.to_string()).collect()),
            other => panic!("{other:?}"),
        }
    }

    pub async fn auth(&mut self, user_and_password: &'static str) -> Result<(), ErrorCode> {
        let auth = Some(Bytes::from_static(user_and_password.as_bytes()));
        let auth = Auth {
            kind: 0,
            scheme: "digest".into(),
            auth,
        };
        self.ask(Request::Auth(auth)).await.map(|_| ())
    }

    pub async fn watch(&mut self, path: &str, mode: i32) {
        self.ask(Request::AddWatch {
            path: path.into(),
            mode,
        })
        .await
        .unwrap();
    }

    pub async fn close(mut self) {
        self.ask(Request::CloseSession).await.unwrap();
        assert!(self.frame().await.is_none(), "the server closes after closeSession");
    }
}

pub fn pipe(server: &Server) -> Box<dyn Duplex> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    server.attach(theirs).unwrap();
    Box::new(ours)
}

pub fn acl(scheme: &str, id: &str, perms: i32) -> Seq<Acl> {
    let entry = Acl {
        perms,
        scheme: scheme.into(),
        id: id.into(),
    };
    [entry].into_iter().collect()
}

pub fn create(path: &str, mode: CreateMode) -> Request {
    Request::Create(create_record(path, mode))
}

pub fn create_record(path: &str, mode: CreateMode) -> Create {
    Create {
        op: OpCode::Create,
        path: path.into(),
        data: Some(Bytes::from_static(b"data")),
        acl: acl("world", "anyone", 31),
        flags: mode.number(),
        ttl_ms: 0,
    }
}

/// Asks again until the answer is `Some`, or the deadline is over.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let until = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
