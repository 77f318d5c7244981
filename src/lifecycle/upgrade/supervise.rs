// SPDX-License-Identifier: Apache-2.0
//! The process that stands in for the serving one after an upgrade.
//!
//! Whoever started Remora knows one process id: a shell, a container's runtime (for which it is process 1), a supervisor.
//! Unless that is systemd, which can be told another id, the first process stays when a new one serves: it passes signals
//! on, and ends when and how the serving one ends. It runs `remora supervise` in its own place then, and holds nothing.
//! Further upgrades tell it who serves.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
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
    let serving = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(wrong)?;
    let socket: OwnedFd = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?;
    adopt_orphans()?;
    let mut children = signal(SignalKind::child())?;
    let mut passed_on = Passed::catch()?;
    let mut watch = Watch::new(Channel::new(UnixStream::from(socket)), serving);
    loop {
        if let Some(code) = watch.look() {
            return Ok(code);
        }
        tokio::select! {
            _ = children.recv() => {}
            which = passed_on.next() => {
                // Whom it is meant for may have changed.
                if let Some(code) = watch.look() {
                    return Ok(code);
                }
                if let Err(error) = kill_process(watch.serving, which) {
                    warn!(pid = watch.serving.as_raw_nonzero().get(), %error, "a signal could not be passed on");
                }
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Makes processes ours whose parent ends: those who take over from the one that serves. Holds over an `exec`.
///
/// # Errors
/// The system's.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Who serves, and who has ended.
pub(super) struct Watch {
    channel: Channel,
    is_closed: bool,
    serving: Pid,
    ended: VecDeque<(Pid, ExitCode)>,
}

impl Watch {
    pub(super) fn new(channel: Channel, serving: Pid) -> Self {
        Self {
            channel,
            is_closed: false,
            serving,
            ended: VecDeque::new(),
        }
    }

    /// Takes in who has ended and who took over; gives how the serving process ended, if it has.
    fn look(&mut self) -> Option<ExitCode> {
        let is_alone = loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.has_ended(pid, exit_code(status)),
                Ok(None) => break false,
                Err(Errno::INTR) => {}
                Err(_) => break true,
            }
        };
        self.hear();
        match self.verdict() {
            None if is_alone => {
                warn!(pid = self.serving.as_raw_nonzero().get(), "nobody serves any more");
                Some(ExitCode::FAILURE)
            }
            verdict => verdict,
        }
    }

    pub(super) fn has_ended(&mut self, pid: Pid, code: ExitCode) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((pid, code));
    }

    /// Who takes over is told by the one who ends, before it does: after an end, the letter about it has arrived.
    pub(super) fn hear(&mut self) {
        while !self.is_closed && self.channel.has_arrived() {
            match self.channel.receive(Instant::now() + LETTER_WAIT) {
                Ok(letter) => {
                    let told = letter.read::<Serves>().ok().and_then(|told| Pid::from_raw(told.pid));
                    if let (Some(Kind::Serves), Some(pid)) = (Kind::of(letter.kind), told) {
                        self.serving = pid;
                    }
                }
                Err(_) => self.is_closed = true,
            }
        }
    }

    pub(super) fn verdict(&self) -> Option<ExitCode> {
        let of_serving = |(pid, _): &&(Pid, ExitCode)| *pid == self.serving;
        self.ended.iter().rev().find(of_serving).map(|(_, code)| *code)
    }
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
/// For the rest of a letter that has begun.
const LETTER_WAIT: Duration = Duration::from_secs(1);
/// An end may be known before the letter that says who it was.
const ENDED_MAX: usize = 16;
/// A child that ended before its signal could be caught.
const LOOK_EVERY: Duration = Duration::from_secs(1);
