// SPDX-License-Identifier: Apache-2.0
//! One bolt connection to a session server: requests out, their replies in; the server's pushes in, our replies out;
//! heartbeats both ways.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use remora_bolt::frame::{Parts, Version};
use remora_bolt::{Reply, Request, heartbeat, heartbeat_ack, status};
use remora_protocol::{DecodeError, Decoded, Frame, FrameKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::error::ClientError;
use super::{OnPush, Options, odd};
use crate::wire::{Message, PushResult, SyncConfigResponse, WireError};

/// A request and who waits for its reply.
#[derive(Debug)]
pub(super) struct Question {
    /// Class of the request.
    pub(super) asked: &'static str,
    pub(super) content: Vec<u8>,
    pub(super) answer: oneshot::Sender<Result<Message, ClientError>>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("the session server closed the connection")]
    Eof,
    #[error("the session server sent what is not bolt: {0}")]
    Garbage(#[from] DecodeError),
    #[error("nothing was heard for {0:?}")]
    Silent(std::time::Duration),
    #[error("the session server asked us to go")]
    GoAway,
    #[error("we closed the connection")]
    Closed,
}

pub(super) struct Connection {
    /// Counts connections.
    number: u64,
    stream: TcpStream,
    peer: String,
    input: BytesMut,
    out: BytesMut,
    /// Bytes still to come of a frame over the limit.
    dropping: u64,
    waiting: HashMap<u32, Question>,
    last_id: u32,
    last_sent: Instant,
    last_heard: Instant,
    probed_at: Option<Instant>,
    options: Arc<Options>,
    on_push: Arc<OnPush>,
}

impl Connection {
    pub(super) fn new(
        number: u64,
        stream: TcpStream,
        peer: String,
        options: Arc<Options>,
        on_push: Arc<OnPush>,
    ) -> Self {
        let now = Instant::now();
        Self {
            number,
            stream,
            peer,
            input: BytesMut::new(),
            out: BytesMut::new(),
            dropping: 0,
            waiting: HashMap::new(),
            last_id: 0,
            last_sent: now,
            last_heard: now,
            probed_at: None,
            options,
            on_push,
        }
    }

    /// Asks for the server's settings, before anything else is asked. The caller sets the deadline.
    pub(super) async fn greet(&mut self) -> Result<SyncConfigResponse, String> {
        let (answer, answered) = oneshot::channel();
        let question = Message::SyncConfigRequest(self.options.settings_request());
        let asked = question.class();
        self.ask(Question {
            asked,
            content: question.encode(),
            answer,
        });
        let (_nobody, mut others) = mpsc::channel(1);
        let stop = CancellationToken::new();
        tokio::select! {
            end = self.serve(&mut others, &stop) => Err(end.to_string()),
            answer = answered => match answer {
                Ok(Ok(Message::SyncConfigResponse(settings))) => Ok(settings),
                Ok(Ok(other)) => Err(odd(asked, &other).to_string()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(End::Closed.to_string()),
            },
        }
    }

    /// Serves until the connection ends or `stop` is cancelled. Questions that are still open then stay in `self`.
    pub(super) async fn serve(&mut self, questions: &mut mpsc::Receiver<Question>, stop: &CancellationToken) -> End {
        loop {
            let lost_at = self.probed_at.map(|at| at + self.options.heartbeat_timeout);
            let probe_at = self.last_heard.min(self.last_sent) + self.options.heartbeat_idle;
            let has_room = self.waiting.len() < MAX_UNANSWERED && self.out.len() < MAX_OUT_BYTES;
            // A server that does not read our replies gets no more of them.
            let may_read = self.out.len() < MAX_UNREAD_BYTES;
            self.input.reserve(READ_BYTES);
            let (mut reader, mut writer) = self.stream.split();
            // Every arm is cancel safe: reads and writes move bytes only when they are ready.
            tokio::select! {
                () = stop.cancelled() => return End::Closed,
                read = reader.read_buf(&mut self.input), if may_read => {
                    match read {
                        Ok(0) => return End::Eof,
                        Ok(_) => {}
                        Err(error) => return End::Io(error),
                    }
                    self.last_heard = Instant::now();
                    self.probed_at = None;
                    if let Err(end) = self.take_in() {
                        return end;
                    }
                }
                written = writer.write_buf(&mut self.out), if !self.out.is_empty() => match written {
                    Ok(0) => return End::Io(std::io::ErrorKind::WriteZero.into()),
                    Ok(_) => self.last_sent = Instant::now(),
                    Err(error) => return End::Io(error),
                },
                question = questions.recv(), if has_room => match question {
                    Some(question) => self.ask(question),
                    None => return End::Closed,
                },
                () = tokio::time::sleep_until(lost_at.unwrap_or(probe_at)) => {
                    if let Some(probed_at) = self.probed_at {
                        return End::Silent(probed_at.duration_since(self.last_heard) + self.options.heartbeat_timeout);
                    }
                    self.probe();
                }
            }
        }
    }

    /// Answers what is still open.
    pub(super) fn fail(self, failure: impl Fn() -> ClientError) {
        for (_, open) in self.waiting {
            // Who asked may have given up.
            let _ = open.answer.send(Err(failure()));
        }
    }

    fn ask(&mut self, mut question: Question) {
        // Who asked may have given up; a registration must not come as a surprise later.
        if question.answer.is_closed() {
            return;
        }
        let id = self.next_id();
        let request = Request {
            id,
            timeout: Some(self.options.request_timeout),
            class: question.asked,
            content: &question.content,
            ..Request::default()
        };
        match request.to_frame() {
            Ok(frame) => {
                self.out.extend_from_slice(&frame);
                question.content = Vec::new();
                self.waiting.insert(id, question);
            }
            Err(error) => {
                let _ = question.answer.send(Err(error.into()));
            }
        }
    }

    fn probe(&mut self) {
        self.waiting.retain(|_, open| !open.answer.is_closed());
        let id = self.next_id();
        self.out.extend_from_slice(&heartbeat(Version::V1, id));
        self.probed_at = Some(Instant::now());
    }

    fn next_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if !self.waiting.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    fn take_in(&mut self) -> Result<(), End> {
        loop {
            if self.dropping > 0 {
                let len = usize::try_from(self.dropping)
                    .unwrap_or(usize::MAX)
                    .min(self.input.len());
                let _ = self.input.split_to(len);
                self.dropping -= len as u64;
                if self.dropping > 0 {
                    return Ok(());
                }
            }
            match remora_bolt::decode(&mut self.input, self.options.limits.max_content_bytes + MAX_HEAD_BYTES)? {
                Decoded::Incomplete { .. } => return Ok(()),
                Decoded::Frame(frame) => self.take(&frame)?,
                Decoded::TooLong { head, body_len } => {
                    self.dropping = body_len;
                    self.refuse_long(&head, body_len);
                }
            }
        }
    }

    fn take(&mut self, frame: &Frame) -> Result<(), End> {
        let Some(parts) = Parts::of(&frame.wire) else {
            return Ok(());
        };
        match frame.kind {
            FrameKind::Heartbeat => self
                .out
                .extend_from_slice(&heartbeat_ack(parts.head.version, parts.head.id)),
            FrameKind::Reply => self.reply(&parts),
            FrameKind::Request => {
                let result = self.push(&parts);
                self.answer(parts.head.id, result);
            }
            FrameKind::Oneway => {
                let _ = self.push(&parts);
            }
            FrameKind::GoAway => return Err(End::GoAway),
            FrameKind::HeartbeatReply | FrameKind::Resume | FrameKind::Ignorable => {}
        }
        Ok(())
    }

    fn reply(&mut self, parts: &Parts<'_>) {
        let Some(open) = self.waiting.remove(&parts.head.id) else {
            debug!(
                registry = "sofaregistry",
                peer = self.peer,
                stream_id = parts.head.id,
                "reply that nobody waits for"
            );
            return;
        };
        let asked = open.asked;
        let answer = match parts.head.status {
            status::SUCCESS => self.decode(parts).map_err(|error| ClientError::Odd {
                asked,
                cause: error.to_string(),
            }),
            status => Err(ClientError::Status { asked, status }),
        };
        // Who asked may have given up.
        let _ = open.answer.send(answer);
    }

    /// Hands a push over. `None` if it is of a class that nobody here reads.
    fn push(&self, parts: &Parts<'_>) -> Option<PushResult> {
        let result = match self.decode(parts) {
            Ok(message) => (self.on_push)(self.number, message),
            Err(error @ WireError::UnknownClass { .. }) => {
                warn!(registry = "sofaregistry", peer = self.peer, reason = error.reason(), %error, "push of an unknown kind");
                return None;
            }
            Err(error) => {
                warn!(registry = "sofaregistry", peer = self.peer, reason = error.reason(), %error, "push cannot be read, the last list stands");
                Err(error.to_string())
            }
        };
        Some(PushResult {
            success: result.is_ok(),
            message: result.err(),
        })
    }

    fn answer(&mut self, id: u32, result: Option<PushResult>) {
        let frame = match result.map(Message::PushResult) {
            Some(result) => Reply {
                id,
                class: result.class(),
                content: &result.encode(),
                ..Reply::default()
            }
            .to_frame(),
            None => Reply {
                id,
                status: status::NO_PROCESSOR,
                ..Reply::default()
            }
            .to_frame(),
        };
        if let Ok(frame) = frame {
            self.out.extend_from_slice(&frame);
        }
    }

    /// The rest of it is dropped as it comes.
    fn refuse_long(&mut self, head: &Frame, body_len: u64) {
        let max = self.options.limits.max_content_bytes;
        warn!(
            registry = "sofaregistry",
            peer = self.peer,
            bytes_in = body_len,
            max,
            "message over the limit dropped"
        );
        let Some(parts) = Parts::of(&head.wire) else { return };
        match head.kind {
            FrameKind::Request => {
                let message = format!("{body_len} bytes are over the limit of {max}");
                let result = PushResult {
                    success: false,
                    message: Some(message),
                };
                self.answer(parts.head.id, Some(result));
            }
            FrameKind::Reply => {
                if let Some(open) = self.waiting.remove(&parts.head.id) {
                    let _ = open.answer.send(Err(ClientError::Odd {
                        asked: open.asked,
                        cause: format!("{body_len} bytes are over the limit of {max}"),
                    }));
                }
            }
            _ => {}
        }
    }

    fn decode(&self, parts: &Parts<'_>) -> Result<Message, WireError> {
        Message::decode(
            &String::from_utf8_lossy(parts.class),
            parts.content,
            &self.options.limits,
        )
    }
}

/// Requests without a reply at once; the others wait their turn. A session server handles registrations on 400 threads.
const MAX_UNANSWERED: usize = 64;
/// No more requests are taken while this much waits to be written.
const MAX_OUT_BYTES: usize = 1 << 20;
/// Nothing more is read while this much waits to be written.
const MAX_UNREAD_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 32 * 1024;
/// Head, class name and header map at their longest.
const MAX_HEAD_BYTES: usize = 24 + 2 * 0x7fff;
