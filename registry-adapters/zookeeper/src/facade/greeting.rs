// SPDX-License-Identifier: Apache-2.0
//! The first frames of a connection: the application's `ConnectRequest`, passed on to the registry, and its answer.
//!
//! The registry decides about the session. One that came back emptied has lower zxids than the application saw and closes
//! every connection that says so; the request is said again then with 0, and the difference is found out here.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Shared;
use super::stats::Stats;
use super::words;
use crate::backend::{Backend, BackendError, Duplex};
use crate::wire::{
    ConnectRequest, ConnectResponse, Reader, Record, ReplyHeader, Request, WireError, begin_frame, end_frame,
    four_letter_word, split_frame,
};

/// How a connection begins.
pub(super) enum Hello {
    /// A client; what it sent behind its first frame is left in the input.
    Client(ConnectRequest),
    /// An operator's four letters, answered.
    Word,
}

/// The registry's side of a session.
pub(super) struct Upstream {
    pub(super) io: Box<dyn Duplex>,
    /// Bytes read and not used.
    pub(super) input: BytesMut,
    pub(super) response: ConnectResponse,
    /// The registry's last zxid, if it had to be asked.
    pub(super) zxid: Option<i64>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum GreetingError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it closed before its first frame was whole")]
    Closed,
    #[error("no first frame within {0:?}")]
    Late(Duration),
    #[error("its first frame cannot be read: {0}")]
    Wire(#[from] WireError),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Reads an application's first frame.
pub(super) async fn hear(
    shared: &Shared,
    stream: &mut TcpStream,
    input: &mut BytesMut,
) -> Result<Hello, GreetingError> {
    let wait = shared.config.greeting_timeout;
    let heard = async {
        loop {
            if let Some(word) = four_letter_word(input) {
                if let Some(text) = words::answer(&shared.stats, word) {
                    stream.write_all(text.as_bytes()).await?;
                    stream.shutdown().await?;
                }
                return Ok(Hello::Word);
            }
            if let Some(frame) = split_frame(input, MAX_GREETING)? {
                return Ok(Hello::Client(ConnectRequest::read(&mut Reader::new(frame))?));
            }
            if stream.read_buf(input).await? == 0 {
                return Err(GreetingError::Closed);
            }
        }
    };
    timeout(wait, heard).await.map_err(|_| GreetingError::Late(wait))?
}

/// Opens the registry's side of the session that `request` asks for.
pub(super) async fn open(shared: &Shared, request: &ConnectRequest) -> Result<Upstream, GreetingError> {
    let wait = shared.config.greeting_timeout;
    let opened = async {
        let backend = &*shared.backend;
        let mut answer = ask(backend, request).await;
        for _ in 1..ASK_TIMES {
            // Of an ensemble, it may be a server that lags behind; another one does not.
            if request.last_zxid_seen > 0 && matches!(answer, Err(GreetingError::Closed)) {
                answer = ask(backend, request).await;
            }
        }
        match answer {
            Err(GreetingError::Closed) if request.last_zxid_seen > 0 => {
                let humble = ConnectRequest {
                    last_zxid_seen: 0,
                    ..request.clone()
                };
                let mut upstream = ask(backend, &humble).await?;
                if upstream.is_alive() {
                    upstream.zxid = Some(ask_zxid(shared, &mut upstream).await?);
                }
                Ok(upstream)
            }
            other => other,
        }
    };
    let opened = timeout(wait, opened).await.map_err(|_| GreetingError::Late(wait));
    if !matches!(opened, Ok(Ok(_))) {
        Stats::count(&shared.stats.upstream_failures);
    }
    opened?
}

/// Asks a registry for a session.
pub(super) async fn ask(backend: &dyn Backend, request: &ConnectRequest) -> Result<Upstream, GreetingError> {
    timeout(ANSWER_WAIT, ask_once(backend, request))
        .await
        .map_err(|_| GreetingError::Late(ANSWER_WAIT))?
}

async fn ask_once(backend: &dyn Backend, request: &ConnectRequest) -> Result<Upstream, GreetingError> {
    let mut io = backend.connect().await?;
    let mut out = BytesMut::new();
    let start = begin_frame(&mut out);
    request.write(&mut out);
    end_frame(&mut out, start);
    io.write_all(&out).await?;
    let mut input = BytesMut::new();
    let response = ConnectResponse::read(&mut Reader::new(frame(&mut io, &mut input).await?))?;
    Ok(Upstream {
        io,
        input,
        response,
        zxid: None,
    })
}

impl Upstream {
    /// Whether the registry knows the session.
    pub(super) fn is_alive(&self) -> bool {
        self.response.timeout_ms > 0 && self.response.session_id != 0
    }
}

/// Ends a session at the registry, and answers as if it had expired.
pub(super) async fn end(shared: &Shared, mut upstream: Upstream) -> Upstream {
    let ended = async {
        let mut out = BytesMut::new();
        Request::CloseSession.encode_frame(ASK_XID, &mut out);
        upstream.io.write_all(&out).await?;
        frame(&mut upstream.io, &mut upstream.input).await
    };
    // One that does not end now expires soon: nobody comes back to it.
    if !matches!(timeout(ANSWER_WAIT, ended).await, Ok(Ok(_))) {
        Stats::count(&shared.stats.upstream_failures);
    }
    let response = ConnectResponse {
        timeout_ms: 0,
        session_id: 0,
        password: Bytes::from_static(&[0; 16]),
        ..upstream.response
    };
    Upstream { response, ..upstream }
}

// Every reply carries the server's last zxid; the cheapest question is whether the root is there.
async fn ask_zxid(shared: &Shared, upstream: &mut Upstream) -> Result<i64, GreetingError> {
    let Upstream { io, input, .. } = upstream;
    let question = Request::Exists {
        path: shared.chroot.real("/"),
        watch: false,
    };
    let mut out = BytesMut::new();
    question.encode_frame(ASK_XID, &mut out);
    io.write_all(&out).await?;
    loop {
        let head = ReplyHeader::read(&mut Reader::new(frame(io, input).await?))?;
        // Nothing else can come: the session has no watches on a new connection.
        if head.xid == ASK_XID {
            return Ok(head.zxid);
        }
    }
}

async fn frame(io: &mut Box<dyn Duplex>, input: &mut BytesMut) -> Result<Bytes, GreetingError> {
    loop {
        if let Some(frame) = split_frame(input, MAX_GREETING)? {
            return Ok(frame);
        }
        if io.read_buf(input).await? == 0 {
            return Err(GreetingError::Closed);
        }
    }
}

/// The answer for the application: the registry's own.
pub(super) fn answer(response: &ConnectResponse, out: &mut BytesMut) {
    let start = begin_frame(out);
    response.write(out);
    end_frame(out, start);
}

// A ConnectRequest has 45 bytes; longer passwords than 16 bytes were never seen.
const MAX_GREETING: usize = 4096;
const ASK_XID: i32 = i32::MIN;
// Servers are tried from a random one on, so this finds a server of three that is up to date in 26 of 27 cases.
/// Time for one server to answer. One that has just started takes connections before it serves, and never answers those;
/// the application tries again sooner than its session runs out.
const ANSWER_WAIT: Duration = Duration::from_secs(4);
const ASK_TIMES: usize = 3;
