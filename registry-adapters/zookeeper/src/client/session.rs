// SPDX-License-Identifier: Apache-2.0
//! The session's life: connect, serve, connect again. Ends when the client is stopped or its last handle is dropped.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::connection::{Connection, End, Failure, Question};
use super::watcher::Watches;
use super::{Options, SessionState, Ticket};
use crate::backend::Backend;
use crate::wire::ConnectRequest;

pub(super) struct Session {
    pub backend: Arc<dyn Backend>,
    pub options: Options,
    pub questions: mpsc::Receiver<Question>,
    pub state: watch::Sender<SessionState>,
    /// Of the session that we have or had last.
    pub ticket: watch::Sender<Option<Ticket>>,
    pub stop: CancellationToken,
    /// What the next connection asks for.
    pub greeting: ConnectRequest,
    pub watches: Watches,
    pub connections: u64,
}

impl Session {
    pub fn new(
        backend: Arc<dyn Backend>,
        options: Options,
        questions: mpsc::Receiver<Question>,
        state: watch::Sender<SessionState>,
        ticket: watch::Sender<Option<Ticket>>,
        stop: CancellationToken,
    ) -> Self {
        let resume = options.resume.clone();
        let (session_id, password) = resume.map_or((0, NO_PASSWORD), |ticket| (ticket.session, ticket.password.into()));
        let timeout_ms = i32::try_from(options.session_timeout.as_millis()).unwrap_or(i32::MAX);
        Self {
            backend,
            options,
            questions,
            state,
            ticket,
            stop,
            greeting: ConnectRequest {
                protocol_version: 0,
                last_zxid_seen: 0,
                timeout_ms,
                session_id,
                password,
                read_only: Some(false),
            },
            watches: Watches::default(),
            connections: 0,
        }
    }

    pub async fn run(mut self) {
        let server = self.backend.describe();
        // Failures since a connection held for a while; refusals among them since the server answered a greeting.
        let mut failures = 0;
        let mut refusals = 0;
        loop {
            let answer_within = greeting_limit(&self.options, refusals);
            let attempt = open(
                Arc::clone(&self.backend),
                self.greeting.clone(),
                self.options.clone(),
                answer_within,
            );
            let Some(opened) = self.while_refusing(attempt).await else {
                break;
            };
            match opened {
                Ok(Some(connection)) => {
                    refusals = 0;
                    let opened_at = Instant::now();
                    let end = self.serve(connection, &server).await;
                    if let End::Closed = end {
                        break;
                    }
                    if opened_at.elapsed() >= self.options.reconnect_max {
                        failures = 0;
                    }
                }
                Ok(None) if self.greeting.session_id != 0 => {
                    info!(
                        registry = "zookeeper",
                        peer = server,
                        "session expired, starting a new one"
                    );
                    self.greeting.session_id = 0;
                    self.greeting.password = NO_PASSWORD;
                    self.greeting.last_zxid_seen = 0;
                    refusals = 0;
                    continue;
                }
                Ok(None) => self.lost("the server gives no session".into()),
                Err(Unopened::Greeting(cause)) => {
                    refusals += 1;
                    // A server whose zxids are lower than what we saw (it came back emptied) closes without a word, and so does
                    // one that has no quorum. Every list is read anew after a reconnect, so what we saw need not bind the
                    // server: the session is resumed if it has it, or answered as expired.
                    if refusals >= REFUSALS_BEFORE_FORGETTING {
                        self.greeting.last_zxid_seen = 0;
                    }
                    self.lost(cause);
                }
                Err(Unopened::Connect(cause)) => self.lost(cause),
            }
            let pause = pause(&self.options, failures);
            failures = failures.saturating_add(1);
            if self.while_refusing(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
        }
        self.state.send_replace(SessionState::Closed);
        self.questions.close();
        while let Ok(question) = self.questions.try_recv() {
            let _ = question.answer.send(Err(Failure::Closed));
        }
    }

    async fn serve(&mut self, mut connection: Connection, server: &str) -> End {
        let session = connection.session.session_id;
        let is_resumed = session == self.greeting.session_id;
        self.greeting.session_id = session;
        self.greeting.password = connection.session.password.clone();
        self.ticket.send_replace(Some(Ticket {
            session,
            password: self.greeting.password.to_vec(),
        }));
        self.connections += 1;
        let timeout_ms = connection.session.timeout_ms;
        info!(
            registry = "zookeeper",
            peer = server,
            session = format_args!("{session:#x}"),
            timeout_ms,
            is_resumed,
            "session is up"
        );
        self.state.send_replace(SessionState::Up {
            session,
            connection: self.connections,
            since: std::time::Instant::now(),
        });
        // They were armed on the connection before.
        self.watches.fire_all();
        let end = connection
            .serve(&mut self.questions, &mut self.watches, &self.stop)
            .await;
        self.greeting.last_zxid_seen = connection.last_zxid;
        let cause: Arc<str> = end.to_string().into();
        if let End::Closed = end {
            connection.fail(|| Failure::Closed);
        } else {
            self.lost(Arc::clone(&cause));
            connection.fail(|| Failure::Lost(Arc::clone(&cause)));
        }
        end
    }

    /// Says that we are down, since when we first were.
    fn lost(&self, cause: Arc<str>) {
        debug!(registry = "zookeeper", cause = &*cause, "no connection");
        let since = match &*self.state.borrow() {
            SessionState::Down { since, .. } => *since,
            _ => std::time::Instant::now(),
        };
        self.state.send_replace(SessionState::Down { since, cause });
    }

    /// Does `work` and meanwhile answers every question that there is no connection. `None` when we are to end.
    async fn while_refusing<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                done = &mut work => return Some(done),
                question = self.questions.recv() => {
                    let cause = match &*self.state.borrow() {
                        SessionState::Down { cause, .. } => Arc::clone(cause),
                        _ => "not connected yet".into(),
                    };
                    let _ = question?.answer.send(Err(Failure::Lost(cause)));
                }
            }
        }
    }
}

enum Unopened {
    /// Nobody took the connection.
    Connect(Arc<str>),
    /// Somebody took it but did not answer the greeting.
    Greeting(Arc<str>),
}

async fn open(
    backend: Arc<dyn Backend>,
    greeting: ConnectRequest,
    options: Options,
    answer_within: Duration,
) -> Result<Option<Connection>, Unopened> {
    let io = match timeout(CONNECT_TIMEOUT, backend.connect()).await {
        Ok(Ok(io)) => io,
        Ok(Err(e)) => return Err(Unopened::Connect(e.to_string().into())),
        Err(_) => {
            let cause = format!("{} took no connection within {CONNECT_TIMEOUT:?}", backend.describe());
            return Err(Unopened::Connect(cause.into()));
        }
    };
    let open = Connection::open(io, &greeting, options.auth.as_ref(), options.max_frame_bytes);
    match timeout(answer_within, open).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(end)) => Err(Unopened::Greeting(format!("no session: {end}").into())),
        Err(_) => {
            let cause = format!("no session: no answer within {answer_within:?}");
            Err(Unopened::Greeting(cause.into()))
        }
    }
}

/// How long an answer to the greeting is waited for. A server that is starting takes connections and never answers some of them
/// (3.9.5, seen: they hang until the client gives up), so the first wait is short; a slow one gets longer ones.
fn greeting_limit(options: &Options, refusals: u32) -> Duration {
    FIRST_GREETING
        .saturating_mul(1_u32.checked_shl(refusals.min(16)).unwrap_or(u32::MAX))
        .min(options.operation_timeout)
}

/// Doubles with each failure, a random half of it.
fn pause(options: &Options, failures: u32) -> Duration {
    let full = options
        .reconnect_min
        .saturating_mul(1_u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX))
        .min(options.reconnect_max);
    full / 2 + (full / 2).mul_f64(fastrand::f64())
}

const NO_PASSWORD: Bytes = Bytes::from_static(&[0; 16]);
/// `Ensemble` tries its servers for 3 s each; this is for five of them and their names.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const REFUSALS_BEFORE_FORGETTING: u32 = 1;
const FIRST_GREETING: Duration = Duration::from_secs(2);
