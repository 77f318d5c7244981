// SPDX-License-Identifier: Apache-2.0
//! Remora's own session at a ZooKeeper.
//!
//! One task connects, pings, and connects again for ever with a jittered pause, resuming the session while the server has
//! it and starting a new one when it has not. Requests are pipelined; each has a deadline, and fails at once while there is
//! no connection. Watches are one-shot and are not armed again after a reconnect: every watch fires then, and who follows
//! reads again.
//! Not here: what is read; applications' sessions (the facade relays them).

mod connection;
mod error;
mod session;
mod watcher;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::connection::{Failure, Question};
pub use self::error::ClientError;
use self::session::Session;
use self::watcher::Waiter;
pub use self::watcher::Watcher;
use crate::backend::Backend;
use crate::wire::request::{Auth, Create, SetData};
use crate::wire::{Acl, CreateMode, ErrorCode, OpCode, Reply, Request, Seq, Stat, Text, parent_and_name, perms};

/// Times and limits of a session.
#[derive(Clone, Debug)]
pub struct Options {
    /// Session timeout asked for; the server decides. Ephemerals outlive a lost connection by this. Dubbo asks for 60 s;
    /// half of it takes the instances of a crashed Remora off the lists sooner.
    pub session_timeout: Duration,
    /// Time for one operation, from asking to the answer. Curator waits 15 s for a connection.
    pub operation_timeout: Duration,
    /// Pause before the first attempt to reconnect; doubles with each failure, a random half is left out.
    pub reconnect_min: Duration,
    /// Longest pause between attempts.
    pub reconnect_max: Duration,
    /// Longest frame taken. Lists are not bound by the server's `jute.maxbuffer`: 2,000 providers are 1 to 3 MB.
    pub max_frame_bytes: usize,
    /// Sent ahead of everything else on each connection. With it, nodes are made for its owner only, as Dubbo does.
    pub auth: Option<Auth>,
    /// A session to go on with, of a client that was detached. A new one is started if the server has it no more.
    pub resume: Option<Ticket>,
}

/// What it takes to go on with a session: see [`Client::detach`].
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Id of the session.
    pub session: i64,
    /// Its password, 16 bytes; whoever has it can take the session over.
    pub password: Vec<u8>,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({:#x})", self.session)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(30),
            operation_timeout: Duration::from_secs(10),
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(2),
            max_frame_bytes: 64 << 20,
            auth: None,
            resume: None,
        }
    }
}

/// Whether the session is connected.
#[derive(Clone, Debug)]
pub enum SessionState {
    /// First connection not made yet.
    Connecting,
    /// Connected.
    Up {
        /// Id of the session; another one than before says that the one before expired, with its ephemerals.
        session: i64,
        /// Counts connections; another one than before says that all watches fired.
        connection: u64,
        /// When.
        since: Instant,
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

/// Remora's session. Clones are the same one; it is closed when `stop` is cancelled or the last clone is dropped.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    questions: mpsc::Sender<Question>,
    state: watch::Receiver<SessionState>,
    server: Arc<str>,
    chroot: String,
    options: Options,
    detach: CancellationToken,
    ticket: watch::Receiver<Option<Ticket>>,
}

impl Client {
    /// Starts the session on a task of the current runtime. Returns at once.
    pub fn start(backend: Arc<dyn Backend>, options: Options, stop: CancellationToken) -> Self {
        let (questions, asked) = mpsc::channel(MAX_WAITING);
        let (state, states) = watch::channel(SessionState::Connecting);
        let (tickets, ticket) = watch::channel(options.resume.clone());
        let shared = Shared {
            questions,
            state: states,
            server: backend.describe().into(),
            chroot: backend.chroot().to_owned(),
            options: options.clone(),
            detach: CancellationToken::new(),
            ticket,
        };
        let (session, detach) = (
            Session::new(backend, options, asked, state, tickets, stop),
            shared.detach.clone(),
        );
        tokio::spawn(async move {
            // Cut short, it leaves its session to whoever has the ticket.
            let _ = detach.run_until_cancelled(session.run()).await;
        });
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The connection's state and its changes.
    pub fn state(&self) -> watch::Receiver<SessionState> {
        self.shared.state.clone()
    }

    /// Waits until the session was closed.
    pub async fn closed(&self) {
        let is_closed = |state: &SessionState| matches!(state, SessionState::Closed);
        // An error says that the task is gone: closed, too.
        let _ = self.state().wait_for(is_closed).await;
    }

    /// Ends without closing the session, which lives on for its timeout; gives what it takes to go on with it, if there is
    /// one. Whoever still asks is told that it is closed.
    pub async fn detach(&self) -> Option<Ticket> {
        self.shared.detach.cancel();
        self.closed().await;
        self.shared.ticket.borrow().clone()
    }

    /// What it is connected to, for logs.
    pub fn server(&self) -> &Arc<str> {
        &self.shared.server
    }

    /// Names of the children of `path`, in the server's order. `watcher` learns of the next change of the list, if there is
    /// a node.
    ///
    /// # Errors
    /// See [`ClientError`]; `is_no_node` when it is absent.
    pub async fn children(&self, path: &str, watcher: Option<&Watcher>) -> Result<Seq<Text>, ClientError> {
        let request = Request::GetChildren {
            path: self.inside(path),
            watch: watcher.is_some(),
        };
        match self.ask(path, request, watcher).await? {
            Reply::Children(children) => Ok(children),
            _ => Err(self.odd_reply()),
        }
    }

    /// Data of `path`; null reads as empty. `watcher` learns of the next change of the data, if there is a node.
    ///
    /// # Errors
    /// See [`ClientError`]; `is_no_node` when it is absent.
    pub async fn data(&self, path: &str, watcher: Option<&Watcher>) -> Result<(Bytes, Stat), ClientError> {
        let request = Request::GetData {
            path: self.inside(path),
            watch: watcher.is_some(),
        };
        match self.ask(path, request, watcher).await? {
            Reply::Data { data, stat } => Ok((data.unwrap_or_default(), stat)),
            _ => Err(self.odd_reply()),
        }
    }

    /// Figures of `path`, `None` if it is absent. `watcher` learns when it is made, changed or deleted.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn exists(&self, path: &str, watcher: Option<&Watcher>) -> Result<Option<Stat>, ClientError> {
        let request = Request::Exists {
            path: self.inside(path),
            watch: watcher.is_some(),
        };
        match self.ask(path, request, watcher).await {
            Ok(Reply::Stat(stat)) => Ok(Some(stat)),
            Ok(_) => Err(self.odd_reply()),
            Err(e) if e.is_no_node() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes a node; gives its path, which for a sequential one is longer than `path`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create(&self, path: &str, data: Bytes, mode: CreateMode) -> Result<String, ClientError> {
        self.create_as(path, data, mode, self.acl()).await
    }

    /// As [`create`](Self::create), with an access list of its own.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_as(
        &self,
        path: &str,
        data: Bytes,
        mode: CreateMode,
        acl: Seq<Acl>,
    ) -> Result<String, ClientError> {
        let request = create_request(self.inside(path), data, mode, acl);
        match self.ask(path, request, None).await? {
            Reply::Created { path } => {
                let made = path.strip_prefix(&self.shared.chroot).unwrap_or(&path);
                Ok(made.to_owned())
            }
            _ => Err(self.odd_reply()),
        }
    }

    /// Makes the persistent nodes above `path` that are absent, the chroot among them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_parents(&self, path: &str) -> Result<(), ClientError> {
        self.create_parents_as(path, CreateMode::Persistent).await
    }

    /// As [`create_parents`](Self::create_parents), but with nodes of another kind. Where the registry does not know
    /// containers, they are persistent, as Curator makes them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_parents_as(&self, path: &str, mut mode: CreateMode) -> Result<(), ClientError> {
        let whole = self.inside(path);
        let mut absent = Vec::new();
        let mut at: &str = &whole;
        while let Some((parent, _)) = parent_and_name(at).filter(|(parent, _)| *parent != "/") {
            let request = Request::Exists {
                path: parent.into(),
                watch: false,
            };
            match self.ask(parent, request, None).await {
                Ok(_) => break,
                Err(e) if e.is_no_node() => absent.push(parent),
                Err(e) => return Err(e),
            }
            at = parent;
        }
        for path in absent.into_iter().rev() {
            loop {
                let request = create_request(path.into(), Bytes::new(), mode, self.acl());
                match self.ask(path, request, None).await {
                    Ok(_) => break,
                    // Somebody else made it meanwhile.
                    Err(e) if e.code() == Some(ErrorCode::NODE_EXISTS) => break,
                    Err(e) if e.code() == Some(ErrorCode::UNIMPLEMENTED) && mode == CreateMode::Container => {
                        mode = CreateMode::Persistent;
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// Deletes a node of any version.
    ///
    /// # Errors
    /// See [`ClientError`]; `is_no_node` when it is absent.
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        let request = Request::Delete {
            path: self.inside(path),
            version: ANY_VERSION,
        };
        self.ask(path, request, None).await.map(|_| ())
    }

    /// Replaces a node's data, of any version.
    ///
    /// # Errors
    /// See [`ClientError`]; `is_no_node` when it is absent.
    pub async fn set_data(&self, path: &str, data: Bytes) -> Result<Stat, ClientError> {
        self.set_data_of(path, data, ANY_VERSION).await
    }

    /// Replaces a node's data, if it is of `version`.
    ///
    /// # Errors
    /// See [`ClientError`]; code `BAD_VERSION` when somebody else was faster.
    pub async fn set_data_of(&self, path: &str, data: Bytes, version: i32) -> Result<Stat, ClientError> {
        let request = Request::SetData(SetData {
            path: self.inside(path),
            data: Some(data),
            version,
        });
        match self.ask(path, request, None).await? {
            Reply::Stat(stat) => Ok(stat),
            _ => Err(self.odd_reply()),
        }
    }

    async fn ask(&self, path: &str, request: Request, watcher: Option<&Watcher>) -> Result<Reply, ClientError> {
        let shared = &self.shared;
        let op = request.op();
        let waited = shared.options.operation_timeout;
        let watch = watcher.map(|w| w.waiter(path));
        let server = || Arc::clone(&shared.server);
        let failure = match tokio::time::timeout(waited, self.exchange(request, watch)).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(failure)) => failure,
            Err(_) => {
                return Err(ClientError::Timeout {
                    server: server(),
                    op,
                    path: path.to_owned(),
                    waited,
                });
            }
        };
        Err(match failure {
            Failure::Lost(cause) => ClientError::Lost {
                server: server(),
                cause,
            },
            Failure::Closed => ClientError::Closed { server: server() },
            Failure::Code(code) => ClientError::Code {
                server: server(),
                op,
                path: path.to_owned(),
                code,
            },
        })
    }

    async fn exchange(&self, request: Request, watch: Option<Waiter>) -> Result<Reply, Failure> {
        let mut state = self.state();
        let is_decided = |state: &SessionState| !matches!(state, SessionState::Connecting);
        match state.wait_for(is_decided).await.as_deref() {
            Ok(SessionState::Down { cause, .. }) => return Err(Failure::Lost(Arc::clone(cause))),
            Ok(SessionState::Closed) | Err(_) => return Err(Failure::Closed),
            Ok(SessionState::Up { .. } | SessionState::Connecting) => {}
        }
        let (answer, answered) = oneshot::channel();
        let question = Question { request, answer, watch };
        let sent = self.shared.questions.send(question).await;
        sent.map_err(|_| Failure::Closed)?;
        // Dropped unanswered only when the answer could not be read; the connection ends with it.
        let unreadable = || Failure::Lost("the answer cannot be read".into());
        answered.await.unwrap_or_else(|_| Err(unreadable()))
    }

    /// Who may do what with nodes of ours.
    fn acl(&self) -> Seq<Acl> {
        let acl = match &self.shared.options.auth {
            None => Acl::open(),
            Some(_) => Acl {
                perms: perms::ALL,
                scheme: "auth".into(),
                id: Text::empty(),
            },
        };
        Seq::from_iter([acl])
    }

    /// The path with the chroot before it.
    fn inside(&self, path: &str) -> Text {
        match (self.shared.chroot.as_str(), path) {
            ("", _) => path.into(),
            (chroot, "/") => chroot.into(),
            (chroot, _) => format!("{chroot}{path}").into(),
        }
    }

    // `Reply::decode` gives what belongs to the operation; here stands the proof's missing half.
    fn odd_reply(&self) -> ClientError {
        ClientError::Lost {
            server: Arc::clone(&self.shared.server),
            cause: "the answer belongs to another operation".into(),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.shared.server)
    }
}

fn create_request(path: Text, data: Bytes, mode: CreateMode, acl: Seq<Acl>) -> Request {
    Request::Create(Create {
        op: match mode {
            CreateMode::Container => OpCode::CreateContainer,
            _ => OpCode::Create,
        },
        path,
        data: Some(data),
        acl,
        flags: mode.number(),
        ttl_ms: 0,
    })
}

const ANY_VERSION: i32 = -1;
/// Questions not yet taken by the task; who asks beyond waits, within the operation's deadline.
const MAX_WAITING: usize = 1_024;
