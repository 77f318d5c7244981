// SPDX-License-Identifier: Apache-2.0
//! The client's life: find a server, connect, serve, and again. Ends when it is stopped or its last handle is dropped.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::connection::{Connection, End, Question};
use super::servers::{self, Endpoint, REFRESH_EVERY, Server};
use super::{ClientError, ClientState, OnPush, Options};
use crate::wire::SyncConfigResponse;

pub(super) struct Session {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) options: Arc<Options>,
    pub(super) on_push: Arc<OnPush>,
    pub(super) questions: mpsc::Receiver<Question>,
    pub(super) state: watch::Sender<ClientState>,
    pub(super) stop: CancellationToken,
    /// The last list that anybody gave.
    pub(super) servers: Vec<Server>,
    /// The one that we were connected to last.
    pub(super) lost: Option<Server>,
    pub(super) connections: u64,
}

impl Session {
    pub(super) async fn run(mut self) {
        // Failures since a connection held for a while.
        let mut failures = 0;
        loop {
            let attempt = Attempt {
                endpoints: self.endpoints.clone(),
                lost: self.lost.clone(),
                number: self.connections + 1,
                options: Arc::clone(&self.options),
                on_push: Arc::clone(&self.on_push),
            };
            let attempt = attempt.connect(self.servers.clone());
            let Some((servers, opened)) = self.while_refusing(attempt).await else {
                break;
            };
            self.servers = servers;
            match opened {
                Ok(opened) => {
                    let opened_at = Instant::now();
                    let server = opened.server.clone();
                    if let End::Closed = self.serve(opened).await {
                        break;
                    }
                    self.lost = Some(server);
                    if opened_at.elapsed() >= self.options.reconnect_max {
                        failures = 0;
                    }
                }
                Err(cause) => self.tell_lost(cause),
            }
            let pause = pause(&self.options, failures);
            failures = failures.saturating_add(1);
            if self.while_refusing(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
        }
        self.state.send_replace(ClientState::Closed);
        self.questions.close();
        while let Ok(question) = self.questions.try_recv() {
            let _ = question.answer.send(Err(ClientError::Closed));
        }
    }

    async fn serve(&mut self, opened: Opened) -> End {
        let Opened {
            mut connection,
            server,
            settings,
        } = opened;
        self.connections += 1;
        info!(registry = "sofaregistry", peer = %server, "connected to a session server");
        self.state.send_replace(ClientState::Up {
            connection: self.connections,
            peer: server.to_string().into(),
            since: std::time::Instant::now(),
            settings: Arc::new(settings),
        });
        let end = {
            let refresh = refresh(&self.endpoints, &self.options, &mut self.servers);
            tokio::select! {
                end = connection.serve(&mut self.questions, &self.stop) => end,
                () = refresh => End::Closed,
            }
        };
        let cause: Arc<str> = end.to_string().into();
        if let End::Closed = end {
            connection.fail(|| ClientError::Closed);
        } else {
            self.tell_lost(Arc::clone(&cause));
            connection.fail(|| ClientError::Lost {
                cause: Arc::clone(&cause),
            });
        }
        end
    }

    /// Says that we are down, since when we first were.
    fn tell_lost(&self, cause: Arc<str>) {
        debug!(registry = "sofaregistry", cause = &*cause, "no connection");
        self.state.send_if_modified(|state| {
            let (since, is_news) = match &*state {
                ClientState::Down { since, cause: told } => (*since, *told != cause),
                _ => (std::time::Instant::now(), true),
            };
            *state = ClientState::Down { since, cause };
            is_news
        });
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
                        ClientState::Down { cause, .. } => Arc::clone(cause),
                        _ => "not connected yet".into(),
                    };
                    let _ = question?.answer.send(Err(ClientError::Lost { cause }));
                }
            }
        }
    }
}

/// Keeps the list of servers new; an endpoint that goes with its session server cannot be asked any more. Never ends.
async fn refresh(endpoints: &[Endpoint], options: &Arc<Options>, servers: &mut Vec<Server>) {
    let mut tick = interval(REFRESH_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tick.tick().await;
        if let Ok(list) = servers::ask(endpoints, options).await {
            *servers = list;
        }
    }
}

/// A connection whose server answers.
struct Opened {
    connection: Connection,
    server: Server,
    settings: SyncConfigResponse,
}

struct Attempt {
    endpoints: Vec<Endpoint>,
    /// The server that was lost.
    lost: Option<Server>,
    /// Of the connection to be made.
    number: u64,
    options: Arc<Options>,
    on_push: Arc<OnPush>,
}

impl Attempt {
    /// Tries the servers that were known last, at once and the one that was lost last of all; then those that somebody newly
    /// names. Gives the list for the next time.
    async fn connect(self, known: Vec<Server>) -> (Vec<Server>, Result<Opened, Arc<str>>) {
        let mut first = servers::order(known.clone());
        first.sort_by_key(|server| self.lost.as_ref() == Some(server));
        if let Ok(opened) = self.try_each(first).await {
            return (known, Ok(opened));
        }
        match servers::ask(&self.endpoints, &self.options).await {
            Ok(servers) => {
                let fresh = servers.iter().filter(|server| !known.contains(server)).cloned();
                // A server that comes back may listen again by now.
                let again = servers.iter().filter(|server| known.contains(server)).cloned();
                let mut order = servers::order(fresh.collect());
                order.extend(servers::order(again.collect()));
                let opened = self.try_each(order).await;
                (servers, opened)
            }
            Err(cause) => (known, Err(cause)),
        }
    }

    async fn try_each(&self, servers: Vec<Server>) -> Result<Opened, Arc<str>> {
        let mut cause = "no session server is known".into();
        for server in servers {
            match self.open(&server).await {
                Ok((connection, settings)) => {
                    return Ok(Opened {
                        connection,
                        server,
                        settings,
                    });
                }
                Err(why) => cause = format!("session server {server}: {why}").into(),
            }
        }
        Err(cause)
    }

    /// A server that hangs still takes connections, so it must answer a question, too.
    async fn open(&self, server: &Server) -> Result<(Connection, SyncConfigResponse), String> {
        let waited = self.options.connect_timeout;
        let connect = TcpStream::connect((server.host.as_str(), server.port));
        let stream = match timeout(waited, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("it took no connection within {waited:?}")),
        };
        // Replies and registrations are small; none may wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let (options, on_push) = (Arc::clone(&self.options), Arc::clone(&self.on_push));
        let mut connection = Connection::new(self.number, stream, server.to_string(), options, on_push);
        match timeout(waited, connection.greet()).await {
            Ok(Ok(settings)) => Ok((connection, settings)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(format!("it gave no answer within {waited:?}")),
        }
    }
}

/// Doubles with each failure, a random half of it.
fn pause(options: &Options, failures: u32) -> Duration {
    let full = options
        .reconnect_min
        .saturating_mul(1_u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX))
        .min(options.reconnect_max);
    full / 2 + (full / 2).mul_f64(fastrand::f64())
}
