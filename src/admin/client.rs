// SPDX-License-Identifier: Apache-2.0
//! The command line's side of the admin port: one request, one answer, each with a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, HOST, HeaderMap, SERVER};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::Span;

/// A status page of ten thousand services is about 10 MB.
const MAX_BODY_BYTES: usize = 256 << 20;
/// The answer comes from memory.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Whatever time is left: an answer of this machine needs a moment.
const MOMENT: Duration = Duration::from_millis(100);
/// Of the words of a foreign program.
const MAX_SAID: usize = 100;
/// Of a Remora's.
const MAX_REASON: usize = 400;
/// What Remora calls itself in its answers.
pub(super) const NAME: &str = "remora";

/// Asks one admin port.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    addr: SocketAddr,
    deadline: Option<Instant>,
}

/// No usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("no Remora answers on {addr}: {cause}; is it running, and is its admin.listen this address (--admin)?")]
    Unreachable {
        /// Asked.
        addr: SocketAddr,
        /// Why.
        cause: String,
    },
    /// Somebody is there, and says nothing in time.
    #[error(
        "{addr} takes connections, but no answer to {path} came within {waited}: a Remora that hangs (its log says more), \
         or another program (--admin names another address)"
    )]
    Silent {
        /// Asked.
        addr: SocketAddr,
        /// Page.
        path: String,
        /// For so long.
        waited: Span,
    },
    /// Somebody was there.
    #[error("{addr} closed the connection before its answer to {path}; is that Remora ending?")]
    Closed {
        /// Asked.
        addr: SocketAddr,
        /// Page.
        path: String,
    },
    /// A Remora that does not do it, or cannot.
    #[error("{path} refused: {said}")]
    Refused {
        /// Page.
        path: String,
        /// Why, in its words.
        said: String,
    },
    /// An answer that we do not understand.
    #[error(
        "what listens on {addr} is no Remora, or one of another version: it answered {path} with {what} \
         (--admin names another address)"
    )]
    Strange {
        /// Asked.
        addr: SocketAddr,
        /// Page.
        path: String,
        /// Status, its words or the parse error.
        what: String,
    },
}

impl ClientError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "admin_unreachable",
            Self::Silent { .. } => "admin_silent",
            Self::Closed { .. } => "admin_closed",
            Self::Refused { .. } => "admin_refused",
            Self::Strange { .. } => "admin_strange",
        }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
    /// Whether it calls itself a Remora.
    is_remora: bool,
}

impl Answer {
    /// Whether a Remora says that it is done.
    pub fn is_remoras(&self) -> bool {
        self.status.is_success() && self.is_remora
    }
}

impl Client {
    /// For the admin port at `addr`.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, deadline: None }
    }

    /// The same, with the end of all that is asked.
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self {
            deadline: Some(deadline),
            ..self
        }
    }

    /// Where it asks.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Status and body of one page.
    ///
    /// # Errors
    /// Without an answer in time.
    pub async fn ask(&self, method: Method, path: &str) -> Result<Answer, ClientError> {
        self.ask_within(TIMEOUT, method, path).await
    }

    /// As [`ask`](Self::ask), for what takes its time.
    ///
    /// # Errors
    /// Without an answer within `limit`, or before the deadline.
    pub async fn ask_within(&self, limit: Duration, method: Method, path: &str) -> Result<Answer, ClientError> {
        let left = self.deadline.map(|end| end.saturating_duration_since(Instant::now()));
        let limit = left.map_or(limit, |left| limit.min(left)).max(MOMENT);
        let end = Instant::now() + limit;
        let unreachable = |cause: String| ClientError::Unreachable { addr: self.addr, cause };
        let stream = match tokio::time::timeout_at(end, TcpStream::connect(self.addr)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no connection within {}", whole(limit)))),
        };
        match tokio::time::timeout_at(end, self.exchange(stream, method, path)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Silent {
                addr: self.addr,
                path: path.to_owned(),
                waited: whole(limit),
            }),
        }
    }

    /// One page read as JSON, whatever its status.
    ///
    /// # Errors
    /// Also when the body is something else.
    pub async fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.ask(Method::GET, path).await?;
        self.read(path, &answer)
    }

    /// Has something done, and reads what came of it.
    ///
    /// # Errors
    /// Likewise; `Refused` with its words.
    pub async fn post<T: DeserializeOwned>(&self, limit: Duration, path: &str) -> Result<T, ClientError> {
        let answer = self.ask_within(limit, Method::POST, path).await?;
        self.read(path, &answer)
    }

    /// As [`json`](Self::json), of a page that an older Remora does not have: the default then.
    ///
    /// # Errors
    /// Likewise.
    pub async fn json_if_there<T: DeserializeOwned + Default>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.ask(Method::GET, path).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(T::default()),
            _ => self.read(path, &answer),
        }
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// `Refused` in a Remora's words, `Strange` for anything else.
    pub fn read<T: DeserializeOwned>(&self, path: &str, answer: &Answer) -> Result<T, ClientError> {
        serde_json::from_slice(&answer.body).map_err(|error| match answer.status.is_success() {
            true if answer.is_remora => self.strange(path, format!("JSON that does not fit ({error})")),
            _ => self.unwanted(path, answer),
        })
    }

    /// The error for an answer that is not the wanted one.
    pub fn unwanted(&self, path: &str, answer: &Answer) -> ClientError {
        if answer.is_remora && !answer.status.is_success() {
            let said = said(&answer.body, MAX_REASON);
            let words = said.strip_prefix(&format!("{path}: ")).unwrap_or(&said);
            return ClientError::Refused {
                path: path.to_owned(),
                said: words.to_owned(),
            };
        }
        let said = said(&answer.body, MAX_SAID);
        let what = match said.is_empty() {
            true => answer.status.to_string(),
            false => format!("{} and `{said}`", answer.status),
        };
        self.strange(path, what)
    }

    fn strange(&self, path: &str, what: String) -> ClientError {
        ClientError::Strange {
            addr: self.addr,
            path: path.to_owned(),
            what,
        }
    }

    async fn exchange(&self, stream: TcpStream, method: Method, path: &str) -> Result<Answer, ClientError> {
        let wrong = |error: hyper::Error| match error.is_parse() {
            true => self.strange(path, format!("something that is no HTTP ({error})")),
            false => ClientError::Closed {
                addr: self.addr,
                path: path.to_owned(),
            },
        };
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(wrong)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.addr.to_string())
            .header(ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.strange(path, error.to_string()))?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(wrong)?;
            let (status, is_remora) = (answer.status(), is_remora(answer.headers()));
            let body = Limited::new(answer.into_body(), MAX_BODY_BYTES).collect().await;
            let body = body.map_err(|error| self.strange(path, format!("a body that cannot be had ({error})")))?;
            Ok(Answer {
                status,
                body: body.to_bytes(),
                is_remora,
            })
        };
        // The connection moves the bytes; it ends by itself only after the answer.
        tokio::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = &mut connection => {
                ended.map_err(wrong)?;
                exchange.await
            }
        }
    }
}

/// In whole milliseconds, as people read it.
fn whole(limit: Duration) -> Span {
    let ms = limit.as_millis().div_ceil(100) * 100;
    Span(Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)))
}

fn is_remora(headers: &HeaderMap) -> bool {
    let name = headers.get(SERVER).and_then(|value| value.to_str().ok());
    name.is_some_and(|name| name == NAME || name.strip_prefix(NAME).is_some_and(|rest| rest.starts_with('/')))
}

/// The first line of a body that has words, cut; nothing of a web page.
fn said(body: &[u8], max: usize) -> String {
    let text = String::from_utf8_lossy(body.get(..1024).unwrap_or(body)).into_owned();
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    if line.starts_with('<') {
        return String::new();
    }
    let clean = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(max).collect()
}
