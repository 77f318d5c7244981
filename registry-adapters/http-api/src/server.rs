// SPDX-License-Identifier: Apache-2.0
//! HTTP for both doors: who may ask, and how much.
//!
//! A connection carries one request and is closed, as both clients expect. Bounded: connections, head, body, and the time
//! for each; of connections without a whole request the oldest makes way. A request with an `Origin`, or a GET that a page caused, is a web page's, and one whose `Host` is a foreign name got here by a name that
//! was made to point at this host; both are refused.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN, REFERER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use remora_registry::peers::{Gate, Users};
use remora_registry::places::{Place, Places};
use remora_registry::{BoxFuture, FacadeError};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::application::Configured;
use crate::book::Caller;
use crate::config::Settings;
use crate::error::Refused;
use crate::stats::{Raised, Refusal, Stats};

/// What a door answers.
pub(crate) trait Api: Send + Sync + 'static {
    /// Its paths, for people.
    fn pages(&self) -> &'static str;

    /// The method of a path; `None` if there is no such path.
    fn method_of(&self, path: &str) -> Option<Method>;

    /// The body that tells the client of a refusal.
    fn refusal(&self, path: &str, refused: &Refused) -> String;

    /// Accepts a request; the answer is the body.
    fn accept(&self, call: Call) -> BoxFuture<'_, Result<String, Refused>>;
}

/// A request that passed the door.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Bytes,
    pub(crate) caller: Caller,
}

/// The server of one door.
pub(crate) struct Server {
    pub(crate) door: &'static str,
    pub(crate) settings: Settings,
    /// The key of the configuration for further names of `Host`.
    pub(crate) names_setting: &'static str,
    pub(crate) api: Arc<dyn Api>,
    pub(crate) gate: Gate,
    pub(crate) users: Users,
    pub(crate) stats: Arc<Stats>,
}

impl Server {
    /// Serves on every listener until `drain`, then lets the requests at hand end.
    pub(crate) async fn run(self, listeners: Vec<TcpListener>, drain: CancellationToken) -> Result<(), FacadeError> {
        let places = Places::new(self.settings.max_connections);
        let server = Arc::new(self);
        let tasks = TaskTracker::new();
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(|cause| FacadeError::Stopped {
                facade: server.door,
                cause: cause.to_string(),
            })?;
            let accept = accept(
                Arc::clone(&server),
                listener,
                places.clone(),
                tasks.clone(),
                drain.clone(),
            );
            tasks.spawn(drain.clone().run_until_cancelled_owned(accept));
        }
        drop(server);
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    async fn exchange(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, place: Place, drain: CancellationToken) {
        let _open = Raised::new(Arc::clone(&self.stats), |stats| &stats.connections);
        let local = stream.local_addr().unwrap_or(self.settings.listen);
        if self.gate.admit(peer, local).await.is_err() {
            return self.stats.count_refused(Refusal::Peer);
        }
        let server = Arc::clone(&self);
        let speaker = &place;
        let service = service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.answer(request, peer, local, speaker).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let done = tokio::select! {
            done = timeout(EXCHANGE_TIMEOUT, connection.as_mut()) => done,
            () = place.must_go() => return debug!(registry = self.door, %peer, "silent connection closed, others need its place"),
            () = drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(DRAIN_TIMEOUT, connection).await
            }
        };
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(registry = self.door, %peer, %error, "connection ended"),
            Err(_) => debug!(registry = self.door, %peer, "connection closed, it took too long"),
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        local: SocketAddr,
        place: &Place,
    ) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        match self.accept(request, peer, local, place).await {
            Ok(body) => json(body),
            Err(refused) => {
                self.stats.count_refused(refused.refusal());
                warn!(registry = self.door, %peer, path, reason = refused.reason(), error = %refused, "request refused");
                let mut answer = json(self.api.refusal(&path, &refused));
                *answer.status_mut() = refused.status();
                if let Refused::Method { allowed, .. } = &refused
                    && let Ok(allowed) = HeaderValue::from_str(allowed.as_str())
                {
                    answer.headers_mut().insert(ALLOW, allowed);
                }
                answer
            }
        }
    }

    async fn accept(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        local: SocketAddr,
        place: &Place,
    ) -> Result<String, Refused> {
        let (head, body) = request.into_parts();
        self.check_origin(&head.headers)?;
        let path = head.uri.path().to_owned();
        let Some(allowed) = self.api.method_of(&path) else {
            let pages = self.api.pages();
            return Err(Refused::Path { path, pages });
        };
        if head.method != allowed {
            return Err(Refused::Method { path, allowed });
        }
        if allowed == Method::POST {
            check_content_type(&head.headers)?;
        }
        let limit = self.settings.max_body_bytes;
        let body = read(body, limit).await?;
        place.is_at_work();
        let (user, sockets) = self.users.of(peer, local).await;
        let caller = Caller {
            place: Configured::place_of(&self.settings, local.ip()),
            peer,
            user,
            sockets,
        };
        let query = head.uri.query().unwrap_or_default().to_owned();
        self.api
            .accept(Call {
                path,
                query,
                body,
                caller,
            })
            .await
    }

    /// A page that a browser loaded from elsewhere can send requests here under a name that resolves to 127.0.0.1; it
    /// cannot make the browser send an IP address as `Host`, nor leave out `Origin` on a POST. A GET, as for an image, has
    /// no `Origin`, but says by what page it was caused.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let is_of_other_page = headers.get(SEC_FETCH_SITE).is_some_and(|site| site != "none");
        if is_of_other_page || headers.contains_key(ORIGIN) || headers.contains_key(REFERER) {
            return Err(Refused::Origin);
        }
        let host = headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let is_same = |allowed: &str| name.eq_ignore_ascii_case(allowed);
        let is_allowed = name.parse::<IpAddr>().is_ok()
            || is_same("localhost")
            || self.settings.host_names.iter().any(|allowed| is_same(allowed));
        match is_allowed {
            true => Ok(()),
            false => Err(Refused::Host {
                host: host.chars().take(MAX_SHOWN_CHARS).collect(),
                setting: self.names_setting,
            }),
        }
    }
}

async fn accept(
    server: Arc<Server>,
    listener: tokio::net::TcpListener,
    places: Places,
    tasks: TaskTracker,
    drain: CancellationToken,
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if places.is_full() {
                    // Those accepted before may have said something by now.
                    yield_now().await;
                }
                // A client that is refused never asks again, so one too many waits.
                let place = places.wait().await;
                tasks.spawn(Arc::clone(&server).exchange(stream, peer, place, drain.clone()));
            }
            Err(error) => {
                warn!(registry = server.door, %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn read(body: Incoming, limit: usize) -> Result<Bytes, Refused> {
    match timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refused::TooLong { limit }),
        Ok(Err(error)) => Err(Refused::Body {
            cause: error.to_string(),
        }),
        Err(_) => Err(Refused::Body {
            cause: format!("nothing more within {BODY_TIMEOUT:?}"),
        }),
    }
}

/// JSON under any name of its own, or text, or nothing said; what a form of a web page sends is refused.
fn check_content_type(headers: &HeaderMap) -> Result<(), Refused> {
    let Some(found) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let found = found.to_str().unwrap_or("?").to_ascii_lowercase();
    let media = found.split(';').next().unwrap_or_default().trim();
    let is_json = media.rsplit(['/', '+']).next() == Some("json");
    if is_json || media.is_empty() || media.starts_with("text/") {
        return Ok(());
    }
    Err(Refused::ContentType {
        found: media.chars().take(MAX_SHOWN_CHARS).collect(),
    })
}

fn json(body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json;charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Sent by browsers: `none` if a person typed the address.
const SEC_FETCH_SITE: &str = "sec-fetch-site";
/// A client that says nothing is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A body comes at once from this host.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// SOFARPC gives up after 15 s.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// For a request at hand when the door closes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);
/// Bytes of one request's head.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Pause after a failed accept (no file descriptors left), so that the thread does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Of a foreign text in a message.
const MAX_SHOWN_CHARS: usize = 100;
