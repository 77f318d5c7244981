// SPDX-License-Identifier: Apache-2.0
//! Everything discovery cares about in a ZooKeeper, read once on a session of its own that asks and never writes.
//!
//! Operations sent: the greeting, credentials, `exists`, `getData`, `getChildren`, pings, the end of the session; no watch.
//! What a path and an entry are is decided where the front door and the adapter decide it (`facade::Roots`, `places`,
//! `adapter`). Reads are pipelined, each with a deadline, the whole with another; what is kept is bounded ([`limits`]).
//!
//! `reads.rs` asks, `walk.rs` finds the places, `content.rs` reads what stands there, `servers.rs` asks servers about
//! themselves.

mod content;
mod entries;
pub mod limits;
mod reads;
mod servers;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use remora_registry::survey::Survey;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::reads::Reads;
use crate::backend::Backend;
use crate::client::{Client, ClientError, Options as Session, SessionState};
use crate::facade::Roots;

/// What to look at, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The session: credentials, deadlines.
    pub session: Session,
    /// Its servers as `host:port`, to be asked about themselves; none for a registry inside this process.
    pub servers: Vec<String>,
    /// Roots of services that the front door takes in; `None`: any.
    pub service_roots: Option<Vec<String>>,
    /// Roots of application-level lists.
    pub application_roots: Vec<String>,
    /// Time for all of it.
    pub deadline: Duration,
}

/// The registry could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// No session.
    #[error("no session at {server}: {cause}{}", if .hint.is_empty() { String::new() } else { format!("; {}", .hint) })]
    NoSession {
        /// What was tried.
        server: Arc<str>,
        /// The client's words.
        cause: Arc<str>,
        /// What seems to listen there instead.
        hint: String,
    },
    /// The connection broke, or an answer did not come.
    #[error("{cause}; {reads} reads were answered before")]
    Broke {
        /// What happened.
        cause: ClientError,
        /// Answers before it.
        reads: u64,
    },
    /// The registry URL's path is not there.
    #[error("{server} has no node {path}: is the path in the registry's address right?")]
    NoChroot {
        /// What is connected.
        server: Arc<str>,
        /// The path.
        path: String,
    },
    /// Not done in time.
    #[error("{server} was not read within {deadline:?} ({reads} reads were answered); give it more time or name less")]
    TooSlow {
        /// What is connected.
        server: Arc<str>,
        /// The limit.
        deadline: Duration,
        /// Answers so far.
        reads: u64,
    },
}

impl SurveyError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoSession { .. } => "no_session",
            Self::Broke { .. } => "registry_broke",
            Self::NoChroot { .. } => "no_chroot",
            Self::TooSlow { .. } => "registry_slow",
        }
    }
}

/// Reads all there is.
///
/// # Errors
/// See [`SurveyError`]. A node that may not be read, or vanishes meanwhile, is no error: see `Survey::unread`.
pub async fn survey(backend: Arc<dyn Backend>, options: Options) -> Result<Survey, SurveyError> {
    let started = Instant::now();
    let stop = CancellationToken::new();
    let chroot = backend.chroot().to_owned();
    let client = Client::start(backend, options.session.clone(), stop.clone());
    // Whatever happens below, the session is closed.
    let _stop = stop.clone().drop_guard();
    connected(&client, &options).await?;
    let reads = Reads::new(client.clone());
    let server = Arc::clone(client.server());
    // The session has had its part of it.
    let left = options.deadline.saturating_sub(started.elapsed());
    let read = match left.is_zero() {
        true => None,
        false => tokio::time::timeout(left, read_all(&reads, &options, &chroot))
            .await
            .ok(),
    };
    let survey = read.unwrap_or_else(|| {
        Err(SurveyError::TooSlow {
            server,
            deadline: options.deadline,
            reads: reads.cost().reads,
        })
    });
    stop.cancel();
    // An answer to the farewell is waited for, but not for long: it changes nothing here.
    let left = options.deadline.saturating_sub(started.elapsed()).max(MOMENT);
    let _ = tokio::time::timeout(FAREWELL.min(left), client.closed()).await;
    survey
}

async fn connected(client: &Client, options: &Options) -> Result<(), SurveyError> {
    let mut state = client.state();
    let is_decided = |s: &SessionState| !matches!(s, SessionState::Connecting);
    // A part of the time is for the question what listens there instead.
    let asking = HINT.min(options.deadline / 4);
    let limit = (options.deadline - asking).min(SESSION);
    let cause: Arc<str> = match tokio::time::timeout(limit, state.wait_for(is_decided))
        .await
        .as_ref()
        .map(|s| s.as_deref())
    {
        Ok(Ok(SessionState::Up { .. })) => return Ok(()),
        Ok(Ok(SessionState::Down { cause, .. })) => Arc::clone(cause),
        Ok(_) => "it was closed".into(),
        Err(_) => format!("it gave none within {:?}", options.deadline.min(SESSION)).into(),
    };
    let hint = match options.servers.first() {
        Some(server) => {
            let hint = tokio::time::timeout(asking, servers::what_listens(server)).await;
            hint.unwrap_or_else(|_| "something listens there and says nothing".to_owned())
        }
        None => String::new(),
    };
    Err(SurveyError::NoSession {
        server: Arc::clone(client.server()),
        cause,
        hint,
    })
}

async fn read_all(reads: &Reads, options: &Options, chroot: &str) -> Result<Survey, SurveyError> {
    let broke = |cause: ClientError| SurveyError::Broke {
        cause,
        reads: reads.cost().reads,
    };
    if reads.stat("/").await.map_err(broke)?.is_none() && !chroot.is_empty() && reads.unread().is_empty() {
        return Err(SurveyError::NoChroot {
            server: Arc::from(reads.server()),
            path: chroot.to_owned(),
        });
    }
    let roots = Roots::new(options.service_roots.clone(), options.application_roots.clone());
    let mut survey = Survey::default();
    let (servers, walked) = tokio::join!(
        servers::facts(&options.servers),
        walk::walk(reads, &options.application_roots, &mut survey.left_out)
    );
    survey.servers = servers;
    let places = walked.map_err(broke)?;
    content::read(reads, &roots, places, &mut survey).await.map_err(broke)?;
    survey.unread.extend(reads.unread());
    survey.cost = reads.cost();
    survey.sort();
    Ok(survey)
}

/// Each server of an ensemble has 3 s for the connection; this is for five of them.
const SESSION: Duration = Duration::from_secs(20);
const HINT: Duration = Duration::from_secs(3);
const FAREWELL: Duration = Duration::from_secs(2);
const MOMENT: Duration = Duration::from_millis(100);
