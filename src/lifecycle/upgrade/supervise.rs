// SPDX-License-Identifier: Apache-2.0
//! The process that stands in for the serving one after an upgrade.
//!
//! Whoever started Remora knows one process id: a shell, a container's runtime (for which it is process 1), a supervisor.
//! Unless that is systemd, which can be told another id, the first process stays when a new one serves: it passes signals
//! on, and ends when and how the serving one ends. It runs `remora supervise` in its own place then, and holds nothing.
//! Further upgrades tell it who serves.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, set_child_subreaper, wait};
use tokio::signal::unix::{Signal as Caught, SignalKind, signal};
use tracing::warn;

use super::channel::{Channel, ChannelError, Letter};
use super::message::{Kind, Serves};

/// The serving process's end of the channel to the process that stands in for it.
#[derive(Debug)]
pub struct Supervisor {
    socket: UnixStream,
}

impl Supervisor {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket }
    }

    /// For the next serving process.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn hand_on(&self) -> io::Result<UnixStream> {
        self.socket.try_clone()
    }

    /// Tells that process `pid` serves now.
    ///
    /// # Errors
    /// It is gone.
    pub fn serves(self, pid: u32) -> Result<(), ChannelError> {
        let pid = i32::try_from(pid).map_err(|_| ChannelError::Malformed("no process id"))?;
        let letter = Letter::new(Kind::Serves, &Serves { pid })?;
        Channel::new(self.socket).send(&letter, Instant::now() + SEND_WAIT)
    }

    /// Returns when that process is gone: whoever ended it meant us. Watches from now on.
    pub fn gone(&self) -> impl Future<Output = ()> + use<> {
        let watched = self.socket.try_clone().and_then(|socket| {
            socket.set_nonblocking(true)?;
            tokio::net::UnixStream::from_std(socket)
        });
        wait_for_end(watched.ok())
    }
}

async fn wait_for_end(watched: Option<tokio::net::UnixStream>) {
    let Some(watched) = watched else {
        return std::future::pending().await;
    };
    // Nothing is ever sent this way.
    while watched.readable().await.is_ok() {
        match watched.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

/// Puts `remora supervise` into the place of this process, for the serving process `child` at the other end of `socket`.
/// Returns only if that fails.
pub fn become_supervisor(socket: UnixStream, child: u32) -> io::Error {
    let name = std::env::args_os().next().unwrap_or_else(|| "remora".into());
    Command::new("/proc/self/exe")
        .arg0(name)
        .arg("supervise")
        .arg(child.to_string())
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .exec()
}

/// Asks a process to drain and end.
///
/// # Errors
/// It is gone, or no process id.
pub fn end_child(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no process id"))?;
    Ok(kill_process(pid, Signal::TERM)?)
}

/// Stands in for the process `pid`: until it, or the one that took over from it, ends. Standard input is the channel.
///
/// # Errors
/// No signal can be caught, or `pid` is none.
pub async fn supervise(pid: u32) -> io::Result<ExitCode> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "no process id");
    let mut serving = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(wrong)?;
    let socket: OwnedFd = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?;
    let mut channel = Channel::new(UnixStream::from(socket));
    // A successor's child becomes ours when its parent ends.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut children = signal(SignalKind::child())?;
    let mut passed_on = Passed::catch()?;
    loop {
        if let Some(status) = reap(&mut channel, &mut serving) {
            return Ok(exit_code(status));
        }
        tokio::select! {
            _ = children.recv() => {}
            which = passed_on.next() => {
                if let Err(error) = kill_process(serving, which) {
                    warn!(pid = serving.as_raw_nonzero().get(), %error, "a signal could not be passed on");
                }
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Takes in who has ended; gives how the serving process did, if it has and nobody took over from it.
fn reap(channel: &mut Channel, serving: &mut Pid) -> Option<WaitStatus> {
    let mut ended = Vec::new();
    while let Ok(Some(one)) = wait(WaitOptions::NOHANG) {
        ended.push(one);
    }
    // It tells who takes over before it ends.
    while let Ok(letter) = channel.receive(Instant::now() + AT_ONCE) {
        let told = letter.read::<Serves>().ok().and_then(|told| Pid::from_raw(told.pid));
        if let (Some(Kind::Serves), Some(pid)) = (Kind::of(letter.kind), told) {
            *serving = pid;
        }
    }
    ended
        .into_iter()
        .find(|(pid, _)| pid == serving)
        .map(|(_, status)| status)
}

fn exit_code(status: WaitStatus) -> ExitCode {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Signals that are meant for the serving process.
struct Passed {
    terminate: Caught,
    interrupt: Caught,
    hang_up: Caught,
}

impl Passed {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }
}

const SEND_WAIT: Duration = Duration::from_secs(5);
/// Long enough for a letter that has arrived.
const AT_ONCE: Duration = Duration::from_millis(2);
/// A child that ended before its signal could be caught.
const LOOK_EVERY: Duration = Duration::from_secs(1);
