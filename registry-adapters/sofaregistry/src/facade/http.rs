// SPDX-License-Identifier: Apache-2.0
//! The HTTP port: where clients learn which session servers there are. There is one, here.
//!
//! | path, GET | answer |
//! |---|---|
//! | `/api/servers/query` | `127.0.0.1:9600`; any query string |
//! | `/api/servers/queryWithWeight` | `127.0.0.1:9600?weight=N`, N connections; clients of 6.5 ask this first |
//! | `/api/servers/query.json`, `/api/servers/dataCenter` | `["127.0.0.1:9600"]` |
//! | `/api/servers/alive` | `OK` |
//! | `/api/servers/connectionNum` | N |
//!
//! Source: `SessionOpenResource` of sofa-registry 6.3 and 6.6, and `testbed/golden/sofaregistry/*-http.txt`.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use remora_registry::places::Place;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Shared;
use super::stats::Stats;

/// Serves one connection until it closes or `drain` is cancelled.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    drain: CancellationToken,
) {
    let local = match stream.local_addr() {
        Ok(addr) => addr,
        Err(e) => return debug!(registry = "sofaregistry", %peer, cause = %e, "connection closed"),
    };
    if shared.gate.admit(peer, local).await.is_err() {
        return Stats::count(&shared.stats.denied);
    }
    let came_to = local.ip().to_canonical();
    let stats = Arc::clone(&shared.stats);
    let place = Arc::new(place);
    let speaker = Arc::clone(&place);
    let service = service_fn(move |request: Request<Incoming>| {
        speaker.is_at_work();
        let answer = answer(&shared, came_to, request.method(), request.uri().path());
        speaker.is_silent();
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(KEPT_ALIVE)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        () = drain.cancelled() => {}
        () = place.must_go() => Stats::count(&stats.made_way),
        done = connection => if let Err(e) = done {
            debug!(registry = "sofaregistry", %peer, cause = %e, "connection closed");
        },
    }
}

fn answer(shared: &Shared, came_to: IpAddr, method: &Method, path: &str) -> Response<Full<Bytes>> {
    Stats::count(&shared.stats.http_requests);
    let Some(what) = path.strip_prefix("/api/servers/") else {
        return of(StatusCode::NOT_FOUND, TEXT, String::new());
    };
    let session = shared.session_for(came_to);
    let connections = shared.stats.connections.load(Ordering::Relaxed);
    let (kind, text) = match what {
        "query" => (TEXT, session.to_string()),
        "queryWithWeight" => (TEXT, format!("{session}?weight={connections}")),
        "query.json" | "dataCenter" => (JSON, format!("[\"{session}\"]")),
        "alive" => (TEXT, "OK".to_owned()),
        "connectionNum" => (TEXT, connections.to_string()),
        _ => return of(StatusCode::NOT_FOUND, TEXT, String::new()),
    };
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = of(StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refusal;
    }
    of(StatusCode::OK, kind, text)
}

fn of(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

const TEXT: &str = "text/plain";
const JSON: &str = "application/json";
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Java keeps an idle connection for 5 s; clients ask every 30 s.
const KEPT_ALIVE: Duration = Duration::from_secs(40);
