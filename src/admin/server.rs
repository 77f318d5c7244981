// SPDX-License-Identifier: Apache-2.0
//! The HTTP server. GET `/livez /readyz /metrics /catalog /services /connections /topology /takeover /config`, POST `/drain /reload
//! /withdraw /rollback /forward`.
//!
//! Bounded: connections, header time, header size; bodies are not read. Of connections that say nothing, the longest
//! silent makes way. Names in `Host` are refused where the answer tells about the catalog or the request changes something,
//! so that no web page can reach it through a browser; who may change something is in `guard.rs`.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use remora_registry::places::{Place, Places};
use remora_registry::{BoxFuture, Ports};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::client::NAME;
use super::guard::{Ends, Guard};
use super::{AdminError, Filter, ReloadOutcome, RollBackError, UpgradeView, Views};
use crate::lifecycle::StopKind;

/// Health checks, scrapes and a few people; beyond that silent connections make way, and new ones wait for the others.
const MAX_CONNECTIONS: usize = 64;
/// A client that says nothing is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// No exchange here takes longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of one request's head.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Pause after a failed accept (no file descriptors left), so that the thread does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound admin port.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
}

impl Admin {
    /// Binds the port. Needs a running tokio runtime.
    ///
    /// # Errors
    /// With the port and the key that changes it.
    pub fn bind(addr: SocketAddr) -> Result<Self, AdminError> {
        Self::bind_from(&Ports::default(), addr)
    }

    /// As [`bind`](Self::bind), with the socket of `ports`.
    ///
    /// # Errors
    /// Likewise.
    pub fn bind_from(ports: &Ports, addr: SocketAddr) -> Result<Self, AdminError> {
        let bound = ports
            .listen("admin", addr, std::net::TcpListener::bind)
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            });
        match bound {
            Ok(listener) => Ok(Self { listener }),
            Err(cause) => Err(AdminError::Bind { addr, cause }),
        }
    }

    /// Where it listens (with the port that the system chose for 0).
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `closing` is cancelled.
    pub async fn serve(self, views: Arc<Views>, closing: CancellationToken) {
        let places = Places::new(MAX_CONNECTIONS);
        let connections = TaskTracker::new();
        let port = self.local_addr().map_or(0, |addr| addr.port());
        let (guard, reader) = Guard::new(port, MAX_CONNECTIONS);
        connections.spawn(reader.run());
        let site = Arc::new(Site { views, guard });
        let accept = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, peer)) => {
                        if places.is_full() {
                            // Those accepted before may have said something by now.
                            yield_now().await;
                        }
                        let place = Arc::new(places.wait().await);
                        let site = Arc::clone(&site);
                        let closing = closing.clone();
                        connections.spawn(async move {
                            tokio::select! {
                                done = serve_connection(stream, peer, site, &place, closing) => if let Err(error) = done {
                                    debug!(%peer, %error, "admin connection ended");
                                },
                                () = place.must_go() => debug!(%peer, "silent admin connection closed, others need its place"),
                            }
                        });
                    }
                    Err(error) => {
                        debug!(%error, "admin accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        closing.run_until_cancelled(accept).await;
        drop(site);
        connections.close();
        connections.wait().await;
    }
}

/// What answers come from.
pub(super) struct Site {
    pub(super) views: Arc<Views>,
    pub(super) guard: Guard,
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    site: Arc<Site>,
    place: &Arc<Place>,
    closing: CancellationToken,
) -> Result<(), hyper::Error> {
    let local = stream.local_addr().unwrap_or(peer);
    let ends = Ends { peer, local };
    let service = service_fn(move |request: Request<Incoming>| {
        let (site, place) = (Arc::clone(&site), Arc::clone(place));
        async move {
            place.is_at_work();
            let answer = answer(request.method(), asked(request.uri()), request.headers(), ends, &site).await;
            place.is_silent();
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return done,
        () = closing.cancelled() => {}
        () = tokio::time::sleep(CONNECTION_TIMEOUT) => {}
    }
    connection.as_mut().graceful_shutdown();
    match tokio::time::timeout(HEADER_TIMEOUT, connection).await {
        Ok(done) => done,
        Err(_) => Ok(()),
    }
}

pub(super) async fn answer(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    ends: Ends,
    site: &Site,
) -> Response<Full<Bytes>> {
    let views = &*site.views;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let allowed = match path {
        "/livez" | "/readyz" | "/metrics" | "/catalog" | "/connections" | "/services" | "/topology" | "/takeover"
        | "/config" | "/upgrade" | "/" => Method::GET,
        "/drain" | "/reload" | "/withdraw" | "/rollback" | "/forward" => Method::POST,
        _ => return text(StatusCode::NOT_FOUND, format!("no such page; {PAGES}\n")),
    };
    if method != allowed && !(allowed == Method::GET && method == Method::HEAD) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes {allowed}\n"));
        if let Ok(value) = HeaderValue::from_str(allowed.as_str()) {
            answer.headers_mut().insert(ALLOW, value);
        }
        return answer;
    }
    let is_public = matches!(path, "/livez" | "/readyz" | "/metrics");
    if !is_public && !comes_from_here(headers) {
        let why = "Host must be an IP address or localhost, and Origin must be absent or the same\n";
        return text(StatusCode::FORBIDDEN, why.to_owned());
    }
    if allowed == Method::POST
        && let Err(forbidden) = site.guard.check(path, ends, headers).await
    {
        return text(StatusCode::FORBIDDEN, format!("{path}: {forbidden}\n"));
    }
    match path {
        "/livez" => match (views.alive)().await {
            None => text(StatusCode::OK, "ok\n".to_owned()),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
        },
        "/readyz" => readyz(headers, views),
        "/metrics" => typed(StatusCode::OK, OPENMETRICS, (views.metrics)()),
        "/catalog" => json(StatusCode::OK, &(views.catalog)()),
        "/connections" => json(StatusCode::OK, &(views.connections)().await),
        "/services" => match Filter::parse(query) {
            Ok(filter) => json(StatusCode::OK, &(views.services)(filter)),
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        "/topology" => match Filter::parse(query) {
            Ok(filter) => json(StatusCode::OK, &(views.topology)(filter).await),
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        "/config" => typed(StatusCode::OK, "application/yaml; charset=utf-8", (views.config)()),
        "/upgrade" => json(
            StatusCode::OK,
            &UpgradeView {
                socket: views.upgrade.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
            },
        ),
        "/reload" => match to_its_end((views.reload)()).await {
            Some(done) if done.outcome == ReloadOutcome::Refused => json(StatusCode::UNPROCESSABLE_ENTITY, &done),
            Some(done) => json(StatusCode::OK, &done),
            None => broken(),
        },
        "/takeover" => json(StatusCode::OK, &(views.takeover)().await),
        "/rollback" | "/forward" => match (views.roll_back)(path == "/rollback") {
            Ok(_) => json(StatusCode::OK, &(views.takeover)().await),
            Err(error @ RollBackError::Withdrawn) => text(StatusCode::CONFLICT, format!("{error}\n")),
            Err(error @ RollBackError::NotWritten { .. }) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
            }
        },
        "/withdraw" => match to_its_end((views.withdraw)()).await {
            Some(left) => json(StatusCode::OK, &left),
            None => broken(),
        },
        "/drain" => {
            views.stop.ask(StopKind::ForGood);
            let told = async {
                match query {
                    "wait" => (views.withdrawn)().await,
                    _ => None,
                }
            };
            match tokio::time::timeout(TOLD_WITHIN, told).await {
                Ok(Some(left)) => json(StatusCode::ACCEPTED, &left),
                Ok(None) | Err(_) => text(StatusCode::ACCEPTED, "draining\n".to_owned()),
            }
        }
        _ => text(
            StatusCode::OK,
            format!("remora {}; {PAGES}\n", env!("CARGO_PKG_VERSION")),
        ),
    }
}

/// What was begun is not broken off when its asker hangs up. It has deadlines of its own; `None` if it panicked.
async fn to_its_end<T: Send + 'static>(work: BoxFuture<'static, T>) -> Option<T> {
    tokio::spawn(work).await.ok()
}

fn broken() -> Response<Full<Bytes>> {
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "broken off, the log says why\n".to_owned(),
    )
}

/// Path and query.
fn asked(uri: &hyper::Uri) -> &str {
    uri.path_and_query().map_or(uri.path(), |asked| asked.as_str())
}

fn readyz(headers: &HeaderMap, views: &Views) -> Response<Full<Bytes>> {
    let report = views.readiness.report();
    let status = match report.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let wants_json = headers
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("application/json"));
    if wants_json {
        return json(status, &report);
    }
    let mut lines = vec![if report.ready { "ready" } else { "not ready" }.to_owned()];
    lines.extend(report.reasons);
    lines.extend(report.notes.into_iter().map(|note| format!("note: {note}")));
    text(status, lines.join("\n") + "\n")
}

/// A page that a browser loaded from elsewhere can send requests here under a name that resolves to 127.0.0.1; it cannot
/// make the browser send an IP address as `Host`, nor leave out `Origin` on a POST.
fn comes_from_here(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|v| v.to_str().ok()) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let host_is_plain = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok();
    let origin_is_same = match headers.get(ORIGIN) {
        None => true,
        Some(origin) => origin.to_str().is_ok_and(|origin| origin == format!("http://{host}")),
    };
    host_is_plain && origin_is_same
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string_pretty(value) {
        Ok(body) => typed(status, "application/json", body + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // So that the command line knows whom it talks to.
    headers.insert(SERVER, HeaderValue::from_static(NAME));
    answer
}

/// Longer than withdrawals have in a stop.
const TOLD_WITHIN: Duration = Duration::from_secs(8);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PAGES: &str = "GET /livez /readyz /metrics /catalog /services /connections /topology /takeover /config, \
    POST /drain /reload /withdraw /rollback /forward";
