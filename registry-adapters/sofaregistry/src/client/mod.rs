// SPDX-License-Identifier: Apache-2.0
//! Remora's own connection to a session server.
//!
//! One task asks the configured addresses for session servers, connects to one, and to another for ever when that is lost.
//! Requests are pipelined; each has a deadline, and fails at once while there is no connection. What was registered goes
//! with its connection: who registers does it again on the next one, see [`ClientState::Up`].
//! Not here: what is registered (`adapter`).

mod connection;
mod error;
mod http;
mod servers;
mod session;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::connection::Question;
pub use self::error::ClientError;
pub(crate) use self::http::get;
pub use self::servers::Endpoint;
use self::session::Session;
use crate::wire::{
    DEFAULT_DATA_CENTER, DEFAULT_ZONE, Limits, Message, RegisterResponse, SyncConfigRequest, SyncConfigResponse,
};

/// Times and limits of the connection, and what it says of us.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time for connecting to one server, for its first answer, and for one HTTP answer. Java: 3 s.
    pub connect_timeout: Duration,
    /// Time for one request, from asking to the answer. Java asks again after 1 s, and a busy server then has both.
    pub request_timeout: Duration,
    /// A heartbeat is sent when nothing was heard or sent for so long. Java: 15 s; a session server closes after 45 s.
    pub heartbeat_idle: Duration,
    /// The connection is lost when nothing is heard for so long after a heartbeat.
    pub heartbeat_timeout: Duration,
    /// Pause before the first attempt to reconnect; doubles with each failure, a random half is left out. Short, as the
    /// server withdraws what we published with the connection.
    pub reconnect_min: Duration,
    /// Longest pause between attempts.
    pub reconnect_max: Duration,
    /// Limits of messages.
    pub limits: Limits,
    /// Zone that we say we are in.
    pub zone: String,
    /// Data centre that we say we are in.
    pub data_center: String,
    /// Name by which we introduce ourselves.
    pub app_name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(3),
            heartbeat_idle: Duration::from_secs(15),
            heartbeat_timeout: Duration::from_secs(10),
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(5),
            limits: Limits::default(),
            zone: DEFAULT_ZONE.to_owned(),
            data_center: DEFAULT_DATA_CENTER.to_owned(),
            app_name: "remora".to_owned(),
        }
    }
}

impl Options {
    fn settings_request(&self) -> SyncConfigRequest {
        SyncConfigRequest {
            data_center: Some(self.data_center.clone()),
            zone: Some(self.zone.clone()),
        }
    }
}

/// Whether there is a connection.
#[derive(Clone, Debug)]
pub enum ClientState {
    /// First connection not made yet.
    Connecting,
    /// Connected to a server that answers.
    Up {
        /// Counts connections; another one than before says that everything must be registered again.
        connection: u64,
        /// The session server.
        peer: Arc<str>,
        /// When.
        since: Instant,
        /// What the server said of itself.
        settings: Arc<SyncConfigResponse>,
    },
    /// Lost or never reached.
    Down {
        /// When it went down.
        since: Instant,
        /// The last failure.
        cause: Arc<str>,
    },
    /// Stopped by us; final.
    Closed,
}

impl ClientState {
    /// Number of the connection, if there is one.
    pub fn connection(&self) -> Option<u64> {
        match self {
            Self::Up { connection, .. } => Some(*connection),
            _ => None,
        }
    }
}

/// What is done with a push: number of the connection it came on, the message. Must not block; an error is told to the
/// server, which pushes again.
pub type OnPush = dyn Fn(u64, Message) -> Result<(), String> + Send + Sync;

/// Remora's connection. Clones are the same one; it is closed when `stop` is cancelled or the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    questions: mpsc::Sender<Question>,
    state: watch::Receiver<ClientState>,
    options: Arc<Options>,
}

impl Client {
    /// Starts on a task of the current runtime. Returns at once.
    pub fn start(endpoints: Vec<Endpoint>, options: Options, on_push: Arc<OnPush>, stop: CancellationToken) -> Self {
        let (questions, asked) = mpsc::channel(MAX_WAITING);
        let (state, states) = watch::channel(ClientState::Connecting);
        let options = Arc::new(options);
        let session = Session {
            endpoints,
            options: Arc::clone(&options),
            on_push,
            questions: asked,
            state,
            stop,
            servers: Vec::new(),
            lost: None,
            connections: 0,
        };
        tokio::spawn(session.run());
        Self {
            questions,
            state: states,
            options,
        }
    }

    /// Its options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The connection's state and its changes.
    pub fn state(&self) -> watch::Receiver<ClientState> {
        self.state.clone()
    }

    /// Waits until the connection was closed by us.
    pub async fn closed(&self) {
        let is_closed = |state: &ClientState| matches!(state, ClientState::Closed);
        // An error says that the task is gone: closed, too.
        let _ = self.state().wait_for(is_closed).await;
    }

    /// Sends one of the three registrations; `regist_id` and `version` are those in it, and must come back.
    ///
    /// # Errors
    /// See [`ClientError`]; `NotTaken` also when the answer is for another version.
    pub async fn register(&self, request: Message, regist_id: &str, version: i64) -> Result<(), ClientError> {
        let asked = request.class();
        match self.ask(request).await? {
            Message::RegisterResponse(answer) => check(answer, regist_id, version),
            other => Err(odd(asked, &other)),
        }
    }

    /// Asks for the server's settings.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn settings(&self) -> Result<SyncConfigResponse, ClientError> {
        let request = Message::SyncConfigRequest(self.options.settings_request());
        let asked = request.class();
        match self.ask(request).await? {
            Message::SyncConfigResponse(settings) if settings.success => Ok(settings),
            Message::SyncConfigResponse(settings) => Err(ClientError::NotTaken {
                message: settings.message.unwrap_or_default(),
            }),
            other => Err(odd(asked, &other)),
        }
    }

    async fn ask(&self, request: Message) -> Result<Message, ClientError> {
        let asked = request.class();
        let waited = self.options.request_timeout;
        let (answer, answered) = oneshot::channel();
        let content = request.encode();
        let exchange = async {
            let question = Question { asked, content, answer };
            let sent = self.questions.send(question).await;
            sent.map_err(|_| ClientError::Closed)?;
            answered.await.unwrap_or(Err(ClientError::Closed))
        };
        match timeout(waited, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout { asked, waited }),
        }
    }
}

fn check(answer: RegisterResponse, regist_id: &str, version: i64) -> Result<(), ClientError> {
    let message = answer.message.unwrap_or_default();
    if !answer.success {
        return Err(ClientError::NotTaken { message });
    }
    if answer.refused {
        return Err(ClientError::Refused { message });
    }
    if answer.version != version || answer.regist_id != regist_id {
        let message = format!(
            "it answered for version {} of {}, version {version} of {regist_id} was sent",
            answer.version, answer.regist_id
        );
        return Err(ClientError::NotTaken { message });
    }
    Ok(())
}

fn odd(asked: &'static str, answer: &Message) -> ClientError {
    ClientError::Odd {
        asked,
        cause: format!("it is a {}", answer.class()),
    }
}

/// Questions that wait for a connection to take them; further ones wait to be asked, within their deadline.
const MAX_WAITING: usize = 1024;
