// SPDX-License-Identifier: Apache-2.0
//! One GET, answered within a deadline and a limit.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Endpoint;

/// Status and text. `waited` is for all of it together.
pub(crate) async fn get(endpoint: &Endpoint, path: &str, waited: Duration) -> io::Result<(u16, String)> {
    match timeout(waited, exchange(endpoint, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {waited:?}"),
        )),
    }
}

async fn exchange(endpoint: &Endpoint, path: &str) -> io::Result<(u16, String)> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = hyper::Request::get(path)
        .header(HOST, endpoint.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await;
        let body = body.map_err(io::Error::other)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let mut exchange = std::pin::pin!(exchange);
    // The connection is driven here, so that nothing of it outlives the answer.
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(io::Error::other(error)),
        },
    }
}

const MAX_BODY_BYTES: usize = 1 << 20;
