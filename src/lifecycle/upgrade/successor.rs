// SPDX-License-Identifier: Apache-2.0
//! The old process's side: it starts the new one and leads it through the steps. Blocking.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use remora_registry::Port;
use tracing::{info, warn};

use super::channel::{Channel, ChannelError, FDS_MAX, Letter};
use super::message::{Count, Go, Hello, Kind, Nothing, Parcel, PortText, Prepare, Refusal};
use super::{PROTOCOL, UpgradeError};

/// What is started: a program, and the arguments with which this process was.
#[derive(Clone, Debug)]
pub struct Binary {
    /// The program.
    pub path: PathBuf,
    /// Its arguments; the flag that makes it take over is added.
    pub arguments: Vec<OsString>,
}

impl Binary {
    /// The running program as it was named at the start: where another one stands by now, that one.
    ///
    /// # Errors
    /// The system's.
    pub fn own() -> std::io::Result<Self> {
        let path = std::env::current_exe()?;
        Ok(Self {
            path: without_deleted(path),
            // One that took over itself was told to.
            arguments: std::env::args_os().skip(1).filter(|arg| arg != TAKE_OVER).collect(),
        })
    }
}

/// Linux says so of a file that was replaced.
fn without_deleted(path: PathBuf) -> PathBuf {
    let text = path.to_string_lossy();
    match text.strip_suffix(" (deleted)") {
        Some(former) if !path.exists() => PathBuf::from(former),
        _ => path,
    }
}

/// The new process. Dropped before it serves, it is killed.
#[derive(Debug)]
pub struct Successor {
    child: Option<Child>,
    channel: Channel,
    version: String,
    binary: PathBuf,
}

impl Successor {
    /// Starts the new process and waits until it says hello.
    ///
    /// # Errors
    /// `Start`, `Ended`, `Late`, `Version`.
    pub fn start(binary: &Binary) -> Result<Self, UpgradeError> {
        let start = |cause| UpgradeError::Start {
            binary: binary.path.display().to_string(),
            cause,
        };
        let (ours, theirs) = UnixStream::pair().map_err(start)?;
        // Standard input: the one descriptor that a child gets without further ado.
        let child = Command::new(&binary.path)
            .args(&binary.arguments)
            .arg(TAKE_OVER)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // A signal from the terminal is for the process that the shell knows, which passes it on.
            .process_group(0)
            // Names this process; the next one is meant as well.
            .env_remove("WATCHDOG_PID")
            .spawn()
            .map_err(start)?;
        info!(pid = child.id(), binary = %binary.path.display(), "a new process was started to take over");
        let mut successor = Self {
            child: Some(child),
            channel: Channel::new(ours),
            version: String::new(),
            binary: binary.path.clone(),
        };
        let hello: Hello = successor.hear(Kind::Hello, "to begin", HELLO_WAIT)?;
        if !(hello.speaks.0..=hello.speaks.1).contains(&PROTOCOL) {
            return Err(UpgradeError::Version {
                theirs: hello.version,
                ours: env!("CARGO_PKG_VERSION"),
            });
        }
        successor.version = hello.version;
        Ok(successor)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Gives it the listening sockets and waits until it has checked its configuration. Nothing has changed if that fails.
    ///
    /// # Errors
    /// All of them.
    pub fn prepare(&mut self, ports: Vec<Port>, lock: Option<File>) -> Result<(), UpgradeError> {
        let step = "to be prepared";
        let mut ports = ports.into_iter().peekable();
        while ports.peek().is_some() {
            let (mut texts, mut fds) = (Vec::new(), Vec::new());
            for port in ports.by_ref().take(FDS_MAX) {
                texts.push(PortText {
                    name: port.name,
                    asked: port.asked,
                });
                fds.push(OwnedFd::from(port.socket));
            }
            let mut letter = at(step, Letter::new(Kind::Ports, &texts))?;
            letter.fds = fds;
            self.say(&letter, step)?;
        }
        let prepare = Prepare {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            has_lock: lock.is_some(),
        };
        let mut letter = at(step, Letter::new(Kind::Prepare, &prepare))?;
        letter.fds = lock.into_iter().map(OwnedFd::from).collect();
        self.say(&letter, step)?;
        self.hear::<Nothing>(Kind::Prepared, step, PREPARE_WAIT)?;
        Ok(())
    }

    /// Gives it what doors and registries had, and waits until it could serve.
    ///
    /// # Errors
    /// All of them.
    pub fn control(&mut self, parcel: Parcel) -> Result<(), UpgradeError> {
        let step = "to be ready";
        self.say(&Letter::of_parcel(Kind::Control, parcel), step)?;
        self.hear::<Nothing>(Kind::Ready, step, READY_WAIT)?;
        Ok(())
    }

    /// Gives it connections, and waits until it has them. The descriptors stay open here, too.
    ///
    /// # Errors
    /// All of them.
    pub fn connections(&mut self, parcels: &[Parcel]) -> Result<(), UpgradeError> {
        let step = "to take the connections";
        let deadline = Instant::now() + TAKE_WAIT;
        let mut count = 0;
        for Parcel { text, bytes, fds } in parcels {
            let kind = Kind::Connections as u16;
            let sent = self.channel.send_parts(kind, text, bytes, fds, deadline);
            self.checked(sent, step, TAKE_WAIT)?;
            count += fds.len();
        }
        let end = at(step, Letter::new(Kind::ConnectionsEnd, &Count { count }))?;
        self.say(&end, step)?;
        self.hear::<Count>(Kind::Taken, step, TAKE_WAIT)?;
        Ok(())
    }

    /// Lets it serve. From now on nothing of what it was given may be touched here. `supervisor` is the channel to the
    /// process that stands in for us, if there is one.
    ///
    /// # Errors
    /// It is gone, or hangs: then it is killed, and what it was given is lost.
    pub fn go(&mut self, supervisor: Option<UnixStream>) -> Result<(), UpgradeError> {
        let step = "to serve";
        let go = Go {
            has_supervisor: supervisor.is_some(),
        };
        let mut letter = at(step, Letter::new(Kind::Go, &go))?;
        letter.fds = supervisor.into_iter().map(OwnedFd::from).collect();
        self.say(&letter, step)?;
        self.hear::<Nothing>(Kind::Serving, step, SERVE_WAIT)?;
        Ok(())
    }

    /// It serves: it is not killed any more.
    pub fn release(mut self) -> Option<Child> {
        self.child.take()
    }

    fn say(&mut self, letter: &Letter, step: &'static str) -> Result<(), UpgradeError> {
        let sent = self.channel.send(letter, Instant::now() + SEND_WAIT);
        self.checked(sent, step, SEND_WAIT)
    }

    fn hear<T: serde::de::DeserializeOwned>(
        &mut self,
        expected: Kind,
        step: &'static str,
        wait: Duration,
    ) -> Result<T, UpgradeError> {
        let received = self.channel.receive(Instant::now() + wait);
        let letter = self.checked(received, step, wait)?;
        match Kind::of(letter.kind) {
            Some(kind) if kind == expected => at(step, letter.read()),
            Some(Kind::Refused) => {
                let Refusal { why } = at(step, letter.read())?;
                Err(UpgradeError::Refused { why })
            }
            _ => at(step, Err(ChannelError::Malformed("another letter was expected"))),
        }
    }

    fn checked<T>(
        &mut self,
        done: Result<T, ChannelError>,
        step: &'static str,
        wait: Duration,
    ) -> Result<T, UpgradeError> {
        match done {
            Ok(done) => Ok(done),
            Err(ChannelError::Closed) => Err(UpgradeError::Ended {
                step,
                status: self.status(),
            }),
            Err(ChannelError::Late) => Err(UpgradeError::Late {
                step,
                seconds: wait.as_secs(),
            }),
            Err(cause) => Err(UpgradeError::Channel { step, cause }),
        }
    }

    /// How it ended, if it does so soon.
    fn status(&mut self) -> String {
        let Some(child) = &mut self.child else {
            return String::new();
        };
        for _ in 0..STATUS_LOOKS {
            match child.try_wait() {
                Ok(Some(status)) => return format!(", {status}"),
                Ok(None) => std::thread::sleep(STATUS_LOOK_EVERY),
                Err(_) => break,
            }
        }
        String::new()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            warn!(pid = child.id(), "the new process is ended, it does not take over");
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn at<T>(step: &'static str, done: Result<T, ChannelError>) -> Result<T, UpgradeError> {
    done.map_err(|cause| UpgradeError::Channel { step, cause })
}

/// Makes `remora run` take over from the process at the other end of its standard input.
const TAKE_OVER: &str = "--take-over";
/// Time for a program to start.
const HELLO_WAIT: Duration = Duration::from_secs(10);
/// Time to read a configuration.
const PREPARE_WAIT: Duration = Duration::from_secs(10);
/// Time to read last known lists and an embedded registry: 2 s for a hundred thousand nodes. Calls go on meanwhile, but doors
/// are closed, and the shortest sessions in use last 10 s.
const READY_WAIT: Duration = Duration::from_secs(8);
/// Time to take connections over; calls wait for it, and consumers' shortest timeouts are about a second.
const TAKE_WAIT: Duration = Duration::from_secs(2);
const SERVE_WAIT: Duration = Duration::from_secs(3);
const SEND_WAIT: Duration = Duration::from_secs(10);
const STATUS_LOOKS: u32 = 20;
const STATUS_LOOK_EVERY: Duration = Duration::from_millis(25);
