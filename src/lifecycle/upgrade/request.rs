// SPDX-License-Identifier: Apache-2.0
//! Where an upgrade is asked for: a UNIX socket in the data directory.
//!
//! Whoever may ask can make this process start a program, so it is not the admin port, which any user of the machine
//! reaches: the socket takes the same user, and root. One line of JSON each way.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tracing::{debug, warn};

/// The socket.
#[derive(Debug)]
pub struct Requests {
    listener: UnixListener,
    path: PathBuf,
}

/// Somebody asked for an upgrade and waits for the answer.
#[derive(Debug)]
pub struct Request {
    /// The program; `None`: the running one.
    pub binary: Option<PathBuf>,
    stream: UnixStream,
}

/// What came of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A new process serves.
    Done {
        /// Its process id.
        pid: u32,
        /// Its version.
        version: String,
        /// Connections that were handed over.
        connections: usize,
        /// How long calls were not read, in milliseconds.
        pause_ms: u64,
        /// From the request to the end, in milliseconds.
        took_ms: u64,
    },
    /// The old process goes on.
    Failed {
        /// Short and fixed.
        reason: String,
        /// For people.
        why: String,
    },
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The socket cannot be reached.
    #[error("no Remora takes upgrades at {path}: {cause}; ask as the user that runs it, or as root")]
    Unreachable {
        /// Where.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// It went away without an answer.
    #[error("Remora ended without an answer; see its log")]
    NoAnswer,
}

impl RequestError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::NoAnswer => "no_answer",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Words {
    binary: Option<PathBuf>,
}

impl Requests {
    /// Listens in `data_dir`, whose lock the caller holds: a socket that is there is a former run's.
    ///
    /// # Errors
    /// The system's.
    pub fn listen(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(short(&path).path())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next request of somebody who may ask. Cancel safe: one that was not read to its end is dropped.
    pub async fn next(&self) -> Request {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Some(request) = hear(stream).await {
                        return request;
                    }
                }
                Err(error) => {
                    debug!(%error, "could not accept a request for an upgrade");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Request {
    /// Tells what came of it.
    pub async fn answer(mut self, answer: &Answer) {
        let Ok(mut line) = serde_json::to_vec(answer) else {
            return;
        };
        line.push(b'\n');
        // Who asked may have given up.
        let _ = timeout(PATIENCE, self.stream.write_all(&line)).await;
    }
}

async fn hear(mut stream: UnixStream) -> Option<Request> {
    let peer = stream.peer_cred().ok()?;
    let own = rustix::process::geteuid().as_raw();
    if peer.uid() != own && peer.uid() != 0 {
        warn!(uid = peer.uid(), "another user asked for an upgrade, refused");
        return None;
    }
    let mut line = String::new();
    let reading = async { BufReader::new((&mut stream).take(LINE_MAX)).read_line(&mut line).await };
    timeout(PATIENCE, reading).await.ok()?.ok()?;
    let Words { binary } = serde_json::from_str(&line).ok()?;
    Some(Request { binary, stream })
}

/// Asks the Remora that listens at `path` for an upgrade and waits for what comes of it.
///
/// # Errors
/// Nobody is there, or nobody answers.
pub async fn ask(path: &Path, binary: Option<PathBuf>) -> Result<Answer, RequestError> {
    let unreachable = |cause| RequestError::Unreachable {
        path: path.to_owned(),
        cause,
    };
    let mut stream = UnixStream::connect(short(path).path()).await.map_err(unreachable)?;
    let mut line = serde_json::to_vec(&Words { binary }).map_err(|e| unreachable(e.into()))?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(unreachable)?;
    let mut answer = String::new();
    let reading = async { BufReader::new(stream.take(LINE_MAX)).read_line(&mut answer).await };
    match timeout(ANSWER_WAIT, reading).await {
        Ok(Ok(_)) => serde_json::from_str(&answer).map_err(|_| RequestError::NoAnswer),
        _ => Err(RequestError::NoAnswer),
    }
}

/// A path that fits into a socket's address (108 bytes), for as long as it lives.
struct Short {
    path: PathBuf,
    _folder: Option<std::fs::File>,
}

impl Short {
    fn path(&self) -> &Path {
        &self.path
    }
}

/// The path itself, or the same by way of its open folder.
fn short(path: &Path) -> Short {
    let whole = || Short {
        path: path.to_owned(),
        _folder: None,
    };
    if path.as_os_str().len() < PATH_MAX {
        return whole();
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return whole();
    };
    match std::fs::File::open(parent) {
        Ok(folder) => {
            use std::os::fd::AsRawFd;
            let by_folder = format!("/proc/self/fd/{}", folder.as_raw_fd());
            Short {
                path: Path::new(&by_folder).join(name),
                _folder: Some(folder),
            }
        }
        Err(_) => whole(),
    }
}

const SOCKET: &str = "upgrade.sock";
const PATH_MAX: usize = 100;
const LINE_MAX: u64 = 64 << 10;
/// Time for a line that is a few bytes long.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
/// Longer than all steps of an upgrade together.
const ANSWER_WAIT: Duration = Duration::from_secs(120);
