// SPDX-License-Identifier: Apache-2.0
//! The command line's side of the admin port: one request, one answer, each with a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

/// A status page of ten thousand services is about 10 MB.
const MAX_BODY_BYTES: usize = 256 << 20;
/// The answer comes from memory.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks one admin port.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    addr: SocketAddr,
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
    /// An answer that we do not understand.
    #[error("{addr}{path} answered {what}; is another program listening there?")]
    Strange {
        /// Asked.
        addr: SocketAddr,
        /// Page.
        path: String,
        /// Status or parse error.
        what: String,
    },
}

impl ClientError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "admin_unreachable",
            Self::Strange { .. } => "admin_strange",
        }
    }
}

impl Client {
    /// For the admin port at `addr`.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }

    /// Status and body of one page.
    ///
    /// # Errors
    /// `Unreachable` without an answer in time.
    pub async fn ask(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), ClientError> {
        self.ask_within(TIMEOUT, method, path).await
    }

    /// As [`ask`](Self::ask), for what takes its time.
    ///
    /// # Errors
    /// `Unreachable` without an answer within `limit`.
    pub async fn ask_within(
        &self,
        limit: Duration,
        method: Method,
        path: &str,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let unreachable = |cause: String| ClientError::Unreachable { addr: self.addr, cause };
        match tokio::time::timeout(limit, self.exchange(method, path)).await {
            Ok(answer) => answer.map_err(unreachable),
            Err(_) => Err(unreachable(format!("no answer within {limit:?}"))),
        }
    }

    /// One page read as JSON, whatever its status.
    ///
    /// # Errors
    /// Also when the body is something else.
    pub async fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let (status, body) = self.ask(Method::GET, path).await?;
        self.read(path, status, &body)
    }

    fn read<T: DeserializeOwned>(&self, path: &str, status: StatusCode, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| ClientError::Strange {
            addr: self.addr,
            path: path.to_owned(),
            what: format!("{status} and no JSON that fits ({error})"),
        })
    }

    /// As [`json`](Self::json), of a page that an older Remora does not have: the default then.
    ///
    /// # Errors
    /// Likewise.
    pub async fn json_if_there<T: DeserializeOwned + Default>(&self, path: &str) -> Result<T, ClientError> {
        match self.ask(Method::GET, path).await? {
            (StatusCode::NOT_FOUND, _) => Ok(T::default()),
            (status, body) => self.read(path, status, &body),
        }
    }

    /// The error is its cause.
    async fn exchange(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), String> {
        let stream = TcpStream::connect(self.addr).await.map_err(|e| e.to_string())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|e| e.to_string())?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.addr.to_string())
            .header(ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|e| e.to_string())?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_BODY_BYTES).collect().await;
            let body = body.map_err(|e| e.to_string())?;
            Ok((status, body.to_bytes()))
        };
        // The connection moves the bytes; it ends by itself only after the answer.
        tokio::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = &mut connection => {
                ended.map_err(|e| e.to_string())?;
                exchange.await
            }
        }
    }
}
