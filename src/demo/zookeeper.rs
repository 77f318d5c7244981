// SPDX-License-Identifier: Apache-2.0
//! The registry client of the demo's applications: an ordinary ZooKeeper session, as little of it as Dubbo needs.
//!
//! It is given an address and knows nothing else; whether a ZooKeeper or a Remora answers there is not its business.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use remora_zookeeper::wire::request::Create;
use remora_zookeeper::wire::{
    Acl, ConnectRequest, ConnectResponse, CreateMode, DEFAULT_MAX_FRAME, ErrorCode, OpCode, Reader, Record, Reply,
    ReplyHeader, Request, Seq, begin_frame, end_frame, split_frame, xid,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

/// Asked for; what Dubbo's clients ask for is 60 s. Short, so that a killed provider is forgotten while somebody watches.
const SESSION_TIMEOUT: Duration = Duration::from_secs(4);
/// No answer takes longer, or the demo has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests on their way.
const QUEUED: usize = 64;

/// A session. Dropping it is a process that was killed: nobody says good-bye, the server finds out.
#[derive(Debug)]
pub(super) struct Session {
    addr: SocketAddr,
    requests: mpsc::Sender<Ask>,
    events: watch::Receiver<u64>,
    _task: AbortOnDropHandle<()>,
}

/// The session does not work.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No connection, or it broke.
    #[error("registry {0}: {1}")]
    Broken(SocketAddr, String),
    /// The server said no.
    #[error("registry refused {0}: error {1}")]
    Refused(&'static str, i32),
}

impl SessionError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Broken(..) => "session_broken",
            Self::Refused(..) => "session_refused",
        }
    }
}

struct Ask {
    request: Request,
    answer: oneshot::Sender<Result<Reply, ErrorCode>>,
}

impl Session {
    /// Opens a session at `addr`.
    pub(super) async fn open(addr: SocketAddr) -> Result<Self, SessionError> {
        let broken = |cause: String| SessionError::Broken(addr, cause);
        let opening = Connection::open(addr);
        let connection = match tokio::time::timeout(ANSWER_TIMEOUT, opening).await {
            Ok(opened) => opened.map_err(|e| broken(e.to_string()))?,
            Err(_) => return Err(broken("no answer".to_owned())),
        };
        let (requests, queue) = mpsc::channel(QUEUED);
        let (changed, events) = watch::channel(0);
        let task = tokio::spawn(connection.serve(queue, changed));
        Ok(Self {
            addr,
            requests,
            events,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Creates a node and, if absent, everything above it.
    pub(super) async fn create(&self, path: &str, mode: CreateMode) -> Result<(), SessionError> {
        for (at, _) in path.match_indices('/').skip(1) {
            let parent = path.get(..at).unwrap_or_default();
            self.create_one(parent, CreateMode::Persistent).await?;
        }
        self.create_one(path, mode).await
    }

    async fn create_one(&self, path: &str, mode: CreateMode) -> Result<(), SessionError> {
        let create = Create {
            op: OpCode::Create,
            path: path.into(),
            data: Some(Bytes::from_static(b"127.0.0.1")),
            acl: Seq::from_iter([Acl::open()]),
            flags: mode.number(),
            ttl_ms: 0,
        };
        match self.ask(Request::Create(create)).await? {
            Ok(_) | Err(ErrorCode::NODE_EXISTS) => Ok(()),
            Err(code) => Err(SessionError::Refused("create", code.0)),
        }
    }

    /// Children of a node, and a watch for their next change.
    pub(super) async fn children(&self, path: &str) -> Result<Vec<String>, SessionError> {
        let request = Request::GetChildren {
            path: path.into(),
            watch: true,
        };
        match self.ask(request).await? {
            Ok(Reply::Children(children)) => Ok(children.iter().map(|child| child.as_str().to_owned()).collect()),
            Ok(_) | Err(ErrorCode::NO_NODE) => Ok(Vec::new()),
            Err(code) => Err(SessionError::Refused("getChildren", code.0)),
        }
    }

    /// Counts up with each event; a change means: ask again.
    pub(super) fn events(&self) -> watch::Receiver<u64> {
        self.events.clone()
    }

    /// Says good-bye, as an application that ends in order does.
    pub(super) async fn close(self) -> Result<(), SessionError> {
        self.ask(Request::CloseSession).await.map(|_| ())
    }

    async fn ask(&self, request: Request) -> Result<Result<Reply, ErrorCode>, SessionError> {
        let broken = || SessionError::Broken(self.addr, "connection lost".to_owned());
        let (answer, answered) = oneshot::channel();
        self.requests
            .send(Ask { request, answer })
            .await
            .map_err(|_| broken())?;
        match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
            Ok(Ok(reply)) => Ok(reply),
            _ => Err(broken()),
        }
    }
}

/// The socket and what is asked on it.
struct Connection {
    stream: TcpStream,
    input: BytesMut,
    session_timeout: Duration,
    /// Operation and asker of each request on its way, oldest first: a server answers in order.
    asked: VecDeque<(OpCode, oneshot::Sender<Result<Reply, ErrorCode>>)>,
    next_xid: i32,
    events: u64,
}

impl Connection {
    async fn open(addr: SocketAddr) -> std::io::Result<Self> {
        let mut connection = Self {
            stream: TcpStream::connect(addr).await?,
            input: BytesMut::new(),
            session_timeout: SESSION_TIMEOUT,
            asked: VecDeque::new(),
            next_xid: 1,
            events: 0,
        };
        connection.stream.set_nodelay(true)?;
        let hello = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: i32::try_from(SESSION_TIMEOUT.as_millis()).unwrap_or(i32::MAX),
            session_id: 0,
            password: Bytes::from_static(&[0; 16]),
            read_only: Some(false),
        };
        let mut out = BytesMut::new();
        let start = begin_frame(&mut out);
        hello.write(&mut out);
        end_frame(&mut out, start);
        connection.stream.write_all(&out).await?;
        let answer = connection.frame().await?;
        let answer = ConnectResponse::read(&mut Reader::new(answer)).map_err(std::io::Error::other)?;
        connection.session_timeout = Duration::from_millis(u64::try_from(answer.timeout_ms).unwrap_or(0));
        match answer.session_id {
            0 => Err(std::io::Error::other("no session was given")),
            _ => Ok(connection),
        }
    }

    /// Serves until the session is dropped or the connection breaks.
    async fn serve(mut self, mut queue: mpsc::Receiver<Ask>, changed: watch::Sender<u64>) {
        let mut ping = tokio::time::interval(self.session_timeout / 3);
        loop {
            let mut out = BytesMut::new();
            tokio::select! {
                ask = queue.recv() => {
                    let Some(Ask { request, answer }) = ask else { return };
                    request.encode_frame(self.next_xid, &mut out);
                    self.next_xid = self.next_xid.wrapping_add(1);
                    self.asked.push_back((request.op(), answer));
                }
                _ = ping.tick() => Request::Ping.encode_frame(xid::PING, &mut out),
                // Cancel safe: what was read stays in `input`.
                frame = self.frame() => {
                    let Ok(frame) = frame else { return };
                    if self.take(frame).is_none() {
                        return;
                    }
                    changed.send_replace(self.events);
                }
            }
            if self.stream.write_all(&out).await.is_err() {
                return;
            }
        }
    }

    async fn frame(&mut self) -> std::io::Result<Bytes> {
        loop {
            if let Some(frame) = split_frame(&mut self.input, DEFAULT_MAX_FRAME).map_err(std::io::Error::other)? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Hands a reply to its asker; `None` when the stream makes no sense.
    fn take(&mut self, frame: Bytes) -> Option<()> {
        let mut input = Reader::new(frame);
        let head = ReplyHeader::read(&mut input).ok()?;
        match head.xid {
            xid::PING => {}
            xid::EVENT => self.events += 1,
            _ => {
                let (op, asker) = self.asked.pop_front()?;
                let answer = match head.err.is_ok() {
                    true => Ok(Reply::decode(op, input.rest()).ok()?),
                    false => Err(head.err),
                };
                // An asker that gave up has gone.
                let _ = asker.send(answer);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use remora_zookeeper::embedded::{Options, Server};
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn a_session_creates_lists_and_is_told_of_changes() {
        let server = Server::in_memory(Options::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = server.clone();
        let (ended, token) = (stop.clone(), stop.clone());
        let task = tokio::spawn(async move { serving.serve(listener, token).await });
        let one = Session::open(addr).await.unwrap();
        one.create("/dubbo/a.B/providers", CreateMode::Persistent)
            .await
            .unwrap();
        assert!(one.children("/dubbo/a.B/providers").await.unwrap().is_empty());
        let mut events = one.events();
        events.borrow_and_update();
        let other = Session::open(addr).await.unwrap();
        other
            .create("/dubbo/a.B/providers/x", CreateMode::Ephemeral)
            .await
            .unwrap();
        events.wait_for(|count| *count > 0).await.unwrap();
        assert_eq!(one.children("/dubbo/a.B/providers").await.unwrap(), ["x"]);
        other.close().await.unwrap();
        assert!(one.children("/dubbo/a.B/providers").await.unwrap().is_empty());
        ended.cancel();
        task.await.unwrap();
    }
}
