// SPDX-License-Identifier: Apache-2.0
//! The old process's side of a hot upgrade, step by step; the protocol is in `lifecycle::upgrade`.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remora_registry::Ports;
use remora_sofaregistry::adapter::SofaRegistry;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::handover::{Control, Former, FormerCalls, parcels, parts as parts_of};
use super::run::Running;
use crate::call::{Frozen, into_parts};
use crate::lifecycle::upgrade::{Answer, Parcel, Request, Successor, Supervisor, UpgradeError, adopt_orphans};

/// How a proxy ended its work.
#[derive(Debug)]
pub enum Ended {
    /// It drained.
    Stopped,
    /// Another process serves.
    HandedOver(HandedOver),
    /// It let go and could not hand over: to be built again from what it had, by the same configuration.
    TookBack(Box<TookBack>),
}

/// Another process serves.
#[derive(Debug)]
pub struct HandedOver {
    /// Its id.
    pub pid: u32,
    /// What is left to do for this process.
    pub then: Then,
}

/// What is left to do for a process that handed over.
#[derive(Debug)]
pub enum Then {
    /// Nothing.
    End,
    /// It stands in for the new one, at the other end of this socket.
    StandIn(UnixStream),
}

/// What a proxy had that could not hand over.
#[derive(Debug)]
pub struct TookBack {
    /// All of it.
    pub former: Former,
    /// Who is to be told, once it serves again.
    pub told: (Request, Answer),
    /// Who stands in for us.
    pub stand_in: StandIn,
}

/// How whoever started this process learns that another one serves.
#[derive(Debug, Default)]
pub enum StandIn {
    /// It is told: systemd.
    Told,
    /// Another process stands in for us already.
    Supervised(Supervisor),
    /// It knows this process only, so this one stays and stands in for the next.
    #[default]
    Stays,
}

/// Why nothing came of it, and whether anything was let go.
pub(super) enum Failed {
    /// Nothing has changed.
    Early(Box<Running>, Request, UpgradeError),
    /// All of it was let go.
    Late(Box<TookBack>),
}

/// One attempt to hand over.
pub(super) async fn attempt(running: Running, request: Request) -> Result<HandedOver, Failed> {
    let started = Instant::now();
    let prepared = prepare(&running, request.binary.clone()).await;
    let successor = match prepared {
        Ok(successor) => successor,
        Err(error) => return Err(Failed::Early(Box::new(running), request, error)),
    };
    // What was asked for meanwhile was asked of this process, and nothing has been let go.
    if let Err(error) = may_hand_over(&running) {
        // Ends the new process, and waits for it.
        let _ = spawn_blocking(move || drop(successor)).await;
        return Err(Failed::Early(Box::new(running), request, error));
    }
    commit(running, request, successor, started).await
}

/// Whether another process could go on with what this one is about.
fn may_hand_over(running: &Running) -> Result<(), UpgradeError> {
    let own = |cause: String| UpgradeError::Own { cause };
    if running.stop.is_asked() {
        return Err(own("it was asked to stop".into()));
    }
    if running.leave.readiness.is_leaving() {
        let why =
            "what led here was withdrawn for good, and a new process would publish it again; stop and start instead";
        return Err(own(why.into()));
    }
    let left = running.catalog.withdrawals();
    if left > 0 {
        let why = "withdrawals are still to be done, which need a registry that answers";
        return Err(own(format!("{left} {why}; try again when it does")));
    }
    Ok(())
}

/// Nothing changes here.
async fn prepare(running: &Running, binary: Option<PathBuf>) -> Result<Successor, UpgradeError> {
    let own = |cause: String| UpgradeError::Own { cause };
    may_hand_over(running)?;
    let mut program = running
        .binary
        .clone()
        .ok_or_else(|| own("its own program is not known".into()))?;
    if let Some(path) = binary {
        program.path = path;
    }
    let ports = running.ports.all().map_err(|e| own(e.to_string()))?;
    let lock = running.lock.try_clone().map_err(|e| own(e.to_string()))?;
    blocking(move || {
        let mut successor = Successor::start(&program)?;
        successor.prepare(ports, Some(lock))?;
        Ok(successor)
    })
    .await
}

async fn commit(
    mut running: Running,
    request: Request,
    successor: Successor,
    started: Instant,
) -> Result<HandedOver, Failed> {
    let stand_in = std::mem::take(&mut running.stand_in);
    let ports = running.ports.clone();
    let lock = running.lock.try_clone().ok();
    let mut let_go = running.let_go().await;
    let mut pause = Duration::ZERO;
    match give(&mut let_go, successor, &stand_in, &mut pause).await {
        Ok(Given {
            successor,
            connections,
            socket,
        }) => {
            let answer = Answer::Done {
                pid: successor.pid(),
                version: successor.version().to_owned(),
                connections,
                pause_ms: millis(pause),
                took_ms: millis(started.elapsed()),
            };
            info!(
                pid = successor.pid(),
                connections,
                pause_ms = millis(pause),
                "handed over"
            );
            request.answer(&answer).await;
            let pid = successor.pid();
            successor.release();
            let_go.linger().await;
            let then = match (stand_in, socket) {
                (StandIn::Supervised(supervisor), _) => {
                    if let Err(error) = supervisor.serves(pid) {
                        warn!(%error, "the process that stands in for us is gone");
                    }
                    Then::End
                }
                (_, Some(socket)) => Then::StandIn(socket),
                (_, None) => Then::End,
            };
            Ok(HandedOver { pid, then })
        }
        Err(error) => {
            error!(reason = error.reason(), %error, "could not hand over, serving again");
            let answer = failed(&error);
            let former = Former {
                ports: Ports::of(ports.all().unwrap_or_default()),
                lock,
                control: Some(std::mem::take(&mut let_go.control)),
                calls: std::mem::take(&mut let_go.calls),
            };
            tokio::spawn(let_go.linger());
            Err(Failed::Late(Box::new(TookBack {
                former,
                told: (request, answer),
                stand_in,
            })))
        }
    }
}

/// What was handed over.
struct Given {
    successor: Successor,
    connections: usize,
    /// Our end, if we stand in for the new process.
    socket: Option<UnixStream>,
}

/// Gives all of it; what was not taken is still in `let_go` after an error.
async fn give(
    let_go: &mut LetGo,
    mut successor: Successor,
    stand_in: &StandIn,
    pause: &mut Duration,
) -> Result<Given, UpgradeError> {
    let own = |cause: String| UpgradeError::Own { cause };
    let control = Parcel::of(&let_go.control).map_err(|e| own(e.to_string()))?;
    successor = blocking(move || {
        successor.control(control)?;
        Ok(successor)
    })
    .await?;

    let paused = Instant::now();
    let frozen = std::mem::take(&mut let_go.calls).stop().await;
    let frozen = frozen.map_err(|e| own(e.to_string()))?;
    let connections = frozen.iter().map(Frozen::connections).sum();
    let parts = into_parts(frozen).map_err(|e| own(e.to_string()))?;
    let shared = Arc::new(parcels(parts));
    let given = Arc::clone(&shared);
    let taken = blocking(move || {
        successor.connections(&given)?;
        Ok(successor)
    })
    .await;
    let take_back = |let_go: &mut LetGo| {
        let parcels = Arc::into_inner(shared).unwrap_or_default();
        let_go.calls = FormerCalls::Stopped(parts_of(parcels));
    };
    let mut successor = match taken {
        Ok(successor) => successor,
        Err(error) => {
            take_back(let_go);
            return Err(error);
        }
    };
    let ends = match stand_in {
        StandIn::Told => Ok((None, None)),
        StandIn::Supervised(supervisor) => supervisor.hand_on().map(|theirs| (Some(theirs), None)),
        // Before it serves: it may hand over in turn, and end, long before this process is done.
        StandIn::Stays => {
            adopt_orphans().and_then(|()| UnixStream::pair().map(|(ours, theirs)| (Some(theirs), Some(ours))))
        }
    };
    let (theirs, ours) = match ends {
        Ok(ends) => ends,
        Err(error) => {
            take_back(let_go);
            return Err(own(error.to_string()));
        }
    };
    // From here on the connections are the new process's; if it fails now, they close with it.
    drop(take_back);
    successor = blocking(move || {
        successor.go(theirs)?;
        Ok(successor)
    })
    .await?;
    *pause = paused.elapsed();
    Ok(Given {
        successor,
        connections,
        socket: ours,
    })
}

/// What a proxy has let go of.
pub(super) struct LetGo {
    pub(super) control: Control,
    pub(super) calls: FormerCalls,
    /// Ends the adapters that are still connected.
    pub(super) adapters: CancellationToken,
    /// Those: what they published stands with the connection.
    pub(super) connected: Vec<Arc<SofaRegistry>>,
}

impl LetGo {
    /// Lets the next one publish on connections of its own before those of ours close.
    async fn linger(self) {
        if !self.connected.is_empty() {
            tokio::time::sleep(LINGER).await;
        }
        self.adapters.cancel();
        for registry in self.connected {
            registry.closed().await;
        }
    }
}

/// Tells why nothing came of an upgrade.
pub(super) fn failed(error: &UpgradeError) -> Answer {
    Answer::Failed {
        reason: error.reason().to_owned(),
        why: error.to_string(),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UpgradeError> + Send + 'static,
) -> Result<T, UpgradeError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(UpgradeError::Own {
            cause: error.to_string(),
        }),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Time for a session server to take the same publications from another connection.
const LINGER: Duration = Duration::from_secs(3);
