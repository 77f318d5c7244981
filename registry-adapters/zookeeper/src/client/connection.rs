// SPDX-License-Identifier: Apache-2.0
//! One connection of the session: the greeting, then questions out, answers and events in, pings between them.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::watcher::{Table, Waiter, Watches};
use crate::backend::Duplex;
use crate::wire::request::Auth;
use crate::wire::{
    ConnectRequest, ConnectResponse, ErrorCode, EventKind, OpCode, Reader, Record, Reply, ReplyHeader, Request,
    WatcherEvent, WireError, begin_frame, end_frame, split_frame, xid,
};

/// A question and who waits for its answer.
pub(super) struct Question {
    pub request: Request,
    pub answer: oneshot::Sender<Result<Reply, Failure>>,
    /// To be armed when the answer says that the server armed the watch.
    pub watch: Option<Waiter>,
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    Code(ErrorCode),
    Lost(std::sync::Arc<str>),
    Closed,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("the server closed the connection")]
    Eof,
    #[error("the server sent what is no answer: {0}")]
    Wire(#[from] WireError),
    #[error("the server answered request {found}, {expected:?} is next")]
    Order { found: i32, expected: Option<i32> },
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    #[error("the server says that the session is gone")]
    Session,
    #[error("the server refused the credentials")]
    Auth,
    #[error("we closed the session")]
    Closed,
}

/// A connection with a session on it.
pub(super) struct Connection {
    reader: ReadHalf<Box<dyn Duplex>>,
    writer: WriteHalf<Box<dyn Duplex>>,
    input: BytesMut,
    out: BytesMut,
    is_flushed: bool,
    max_frame_bytes: usize,
    // Sent, in order; at most MAX_UNANSWERED.
    unanswered: VecDeque<Unanswered>,
    last_xid: i32,
    last_sent: Instant,
    last_heard: Instant,
    pub session: ConnectResponse,
    pub last_zxid: i64,
}

struct Unanswered {
    xid: i32,
    question: Question,
}

impl Connection {
    /// Greets the server and shows it `auth`; gives `None` when the session asked for is gone. The caller sets the deadline.
    pub async fn open(
        io: Box<dyn Duplex>,
        greeting: &ConnectRequest,
        auth: Option<&Auth>,
        max_frame_bytes: usize,
    ) -> Result<Option<Self>, End> {
        let (mut reader, mut writer) = tokio::io::split(io);
        let mut out = BytesMut::new();
        let start = begin_frame(&mut out);
        greeting.write(&mut out);
        end_frame(&mut out, start);
        writer.write_all(&out).await?;
        writer.flush().await?;
        let mut input = BytesMut::new();
        let frame = next_frame(&mut reader, &mut input, max_frame_bytes).await?;
        let session = ConnectResponse::read(&mut Reader::new(frame))?;
        if session.timeout_ms <= 0 || session.session_id == 0 {
            return Ok(None);
        }
        if let Some(auth) = auth {
            let mut out = BytesMut::new();
            Request::Auth(auth.clone()).encode_frame(xid::AUTH, &mut out);
            writer.write_all(&out).await?;
            writer.flush().await?;
            let frame = next_frame(&mut reader, &mut input, max_frame_bytes).await?;
            if !ReplyHeader::read(&mut Reader::new(frame))?.err.is_ok() {
                return Err(End::Auth);
            }
        }
        let now = Instant::now();
        Ok(Some(Self {
            reader,
            writer,
            input,
            out: BytesMut::new(),
            is_flushed: true,
            max_frame_bytes,
            unanswered: VecDeque::new(),
            last_xid: 0,
            last_sent: now,
            last_heard: now,
            // A copy, so that the read buffer does not stay with it.
            session: ConnectResponse {
                password: Bytes::copy_from_slice(&session.password),
                ..session
            },
            last_zxid: greeting.last_zxid_seen,
        }))
    }

    /// Serves until the connection ends, or closes the session when `stop` is cancelled or nobody can ask any more.
    /// Questions that are still open then stay in `self`, see `fail`.
    pub async fn serve(
        &mut self,
        questions: &mut mpsc::Receiver<Question>,
        watches: &mut Watches,
        stop: &CancellationToken,
    ) -> End {
        let timeout = Duration::from_millis(u64::try_from(self.session.timeout_ms).unwrap_or(0));
        // Java's client: silent for two thirds means lost, a ping is due after a third or 10 s.
        let (silence, ping_every) = (timeout * 2 / 3, (timeout / 3).min(MAX_PING_INTERVAL));
        let mut close_by: Option<Instant> = None;
        loop {
            let is_open = close_by.is_none();
            let ping_at = self.last_sent + ping_every;
            let lost_at = self.last_heard + silence;
            let wake_at = close_by.unwrap_or(lost_at.min(ping_at));
            let has_room = self.unanswered.len() < MAX_UNANSWERED && self.out.len() < MAX_OUT_BYTES;
            self.input.reserve(READ_BYTES);
            // Every arm is cancel safe: reads and writes move bytes only when they are ready.
            tokio::select! {
                () = stop.cancelled(), if is_open => {
                    self.close_session();
                    close_by = Some(Instant::now() + CLOSE_TIMEOUT);
                }
                read = self.reader.read_buf(&mut self.input) => {
                    match read {
                        Ok(0) if !is_open => return End::Closed,
                        Ok(0) => return End::Eof,
                        Ok(_) => {}
                        Err(e) => return End::Io(e),
                    }
                    self.last_heard = Instant::now();
                    if let Err(end) = self.take_in(watches) {
                        return end;
                    }
                }
                pushed = push(&mut self.writer, &mut self.out), if !self.is_flushed => match pushed {
                    Ok(is_flushed) => self.is_flushed = is_flushed,
                    Err(e) => return End::Io(e),
                },
                question = questions.recv(), if is_open && has_room => match question {
                    Some(question) => {
                        self.take(question);
                        while self.unanswered.len() < MAX_UNANSWERED && self.out.len() < MAX_OUT_BYTES {
                            let Ok(question) = questions.try_recv() else { break };
                            self.take(question);
                        }
                    }
                    None => {
                        self.close_session();
                        close_by = Some(Instant::now() + CLOSE_TIMEOUT);
                    }
                },
                () = tokio::time::sleep_until(wake_at) => {
                    if close_by.is_some() {
                        return End::Closed;
                    }
                    if Instant::now() >= lost_at {
                        return End::Silent(silence);
                    }
                    Request::Ping.encode_frame(xid::PING, &mut self.out);
                    self.is_flushed = false;
                    self.last_sent = Instant::now();
                    watches.prune();
                }
            }
        }
    }

    /// Answers what is still open.
    pub fn fail(self, mut failure: impl FnMut() -> Failure) {
        for open in self.unanswered {
            // Who asked may have given up.
            let _ = open.question.answer.send(Err(failure()));
        }
    }

    fn take(&mut self, question: Question) {
        // Who asked may have given up; a write must not come as a surprise later.
        if !question.answer.is_closed() {
            self.send(question);
        }
    }

    fn send(&mut self, question: Question) {
        self.last_xid = if self.last_xid == i32::MAX {
            1
        } else {
            self.last_xid + 1
        };
        question.request.encode_frame(self.last_xid, &mut self.out);
        self.is_flushed = false;
        self.last_sent = Instant::now();
        self.unanswered.push_back(Unanswered {
            xid: self.last_xid,
            question,
        });
    }

    fn close_session(&mut self) {
        let (answer, _) = oneshot::channel();
        self.send(Question {
            request: Request::CloseSession,
            answer,
            watch: None,
        });
    }

    fn take_in(&mut self, watches: &mut Watches) -> Result<(), End> {
        while let Some(frame) = split_frame(&mut self.input, self.max_frame_bytes)? {
            let mut frame = Reader::new(frame);
            let head = ReplyHeader::read(&mut frame)?;
            match head.xid {
                xid::EVENT => {
                    let event = WatcherEvent::read(&mut frame)?;
                    if let Some(kind) = EventKind::from_wire(event.kind) {
                        watches.fire(kind, &event.path);
                    }
                    continue;
                }
                xid::PING => {}
                _ => self.answer(head, frame.rest(), watches)?,
            }
            self.last_zxid = self.last_zxid.max(head.zxid);
        }
        Ok(())
    }

    fn answer(&mut self, head: ReplyHeader, body: Bytes, watches: &mut Watches) -> Result<(), End> {
        let found = head.xid;
        let expected = self.unanswered.front().map(|open| open.xid);
        if expected != Some(found) {
            return Err(End::Order { found, expected });
        }
        let Some(Unanswered { question, .. }) = self.unanswered.pop_front() else {
            return Err(End::Order { found, expected });
        };
        let op = question.request.op();
        if matches!(head.err, ErrorCode::SESSION_EXPIRED | ErrorCode::SESSION_MOVED) {
            let _ = question
                .answer
                .send(Err(Failure::Lost(End::Session.to_string().into())));
            return Err(End::Session);
        }
        let is_armed = head.err.is_ok() || (op == OpCode::Exists && head.err == ErrorCode::NO_NODE);
        if let (Some(waiter), true, Some(path)) = (question.watch, is_armed, question.request.path()) {
            let table = match op {
                OpCode::GetChildren | OpCode::GetChildren2 => Table::Child,
                _ => Table::Data,
            };
            watches.add(table, path, waiter);
        }
        let answer = match head.err.is_ok() {
            true => Ok(Reply::decode(op, body)?),
            false => Err(Failure::Code(head.err)),
        };
        // Who asked may have given up.
        let _ = question.answer.send(answer);
        if op == OpCode::CloseSession {
            return Err(End::Closed);
        }
        Ok(())
    }
}

async fn next_frame(
    reader: &mut ReadHalf<Box<dyn Duplex>>,
    input: &mut BytesMut,
    max_frame_bytes: usize,
) -> Result<Bytes, End> {
    loop {
        if let Some(frame) = split_frame(input, max_frame_bytes)? {
            return Ok(frame);
        }
        if reader.read_buf(input).await? == 0 {
            return Err(End::Eof);
        }
    }
}

/// Writes a part of `out`, or flushes if all of it was written; says whether that is done. Cancel safe.
async fn push(writer: &mut WriteHalf<Box<dyn Duplex>>, out: &mut BytesMut) -> std::io::Result<bool> {
    if out.is_empty() {
        writer.flush().await?;
        return Ok(true);
    }
    match writer.write_buf(out).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        _ => Ok(false),
    }
}

/// ZooKeeper's Java client: `MAX_SEND_PING_INTERVAL`.
const MAX_PING_INTERVAL: Duration = Duration::from_secs(10);
/// A server stops reading from everybody at 1000 (`globalOutstandingLimit`).
const MAX_UNANSWERED: usize = 1_000;
/// No more questions are taken while this much waits to be written.
const MAX_OUT_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 32 * 1024;
/// A server answers closeSession once its quorum has it; ephemerals go by their timeout otherwise.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
