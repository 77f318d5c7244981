// SPDX-License-Identifier: Apache-2.0
//! The new process's side: it takes what the old one gives. Blocking; the old one sets the pace and ends us when it gives up.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use remora_registry::{Port, Ports};
use serde::Serialize;

use super::channel::{Channel, ChannelError, Letter};
use super::message::{Count, Go, Hello, Kind, Nothing, Parcel, PortText, Prepare, Refusal};
use super::{PROTOCOL, Supervisor};

/// The old process.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
    version: String,
}

/// What it gives first.
#[derive(Debug)]
pub struct Offer {
    /// Its listening sockets.
    pub ports: Ports,
    /// The lock of its data directory.
    pub lock: Option<File>,
}

impl Predecessor {
    /// Takes the channel from standard input, says hello, and receives the listening sockets.
    ///
    /// # Errors
    /// Standard input is no channel of an old process.
    pub fn meet() -> Result<(Self, Offer), ChannelError> {
        let socket: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned()?;
        // Nobody else may read from it.
        if let Ok(nothing) = File::open("/dev/null") {
            rustix::stdio::dup2_stdin(&nothing).map_err(std::io::Error::from)?;
        }
        Self::over(UnixStream::from(socket))
    }

    /// As [`meet`](Self::meet), over a socket that is already there.
    ///
    /// # Errors
    /// Likewise.
    pub fn over(socket: UnixStream) -> Result<(Self, Offer), ChannelError> {
        let mut channel = Channel::new(socket);
        let hello = Hello {
            speaks: (PROTOCOL, PROTOCOL),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        channel.send(&Letter::new(Kind::Hello, &hello)?, Instant::now() + STEP_WAIT)?;
        let mut ports = Vec::new();
        loop {
            let mut letter = channel.receive(Instant::now() + STEP_WAIT)?;
            match Kind::of(letter.kind) {
                Some(Kind::Ports) => {
                    let texts: Vec<PortText> = letter.read()?;
                    if texts.len() != letter.fds.len() {
                        return Err(ChannelError::Malformed("not one socket for each port"));
                    }
                    let named = texts.into_iter().zip(letter.fds);
                    ports.extend(named.map(|(text, fd)| Port {
                        name: text.name,
                        asked: text.asked,
                        socket: TcpListener::from(fd),
                    }));
                }
                Some(Kind::Prepare) => {
                    let prepare: Prepare = letter.read()?;
                    let lock = letter.fds.pop().filter(|_| prepare.has_lock).map(File::from);
                    let predecessor = Self {
                        channel,
                        version: prepare.version,
                    };
                    let ports = Ports::of(ports);
                    return Ok((predecessor, Offer { ports, lock }));
                }
                _ => return Err(ChannelError::Malformed("another letter was expected")),
            }
        }
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The configuration is good; gives what doors and registries had, once they are let go.
    ///
    /// # Errors
    /// The old process goes on without us.
    pub fn prepared(&mut self) -> Result<Parcel, ChannelError> {
        self.say(Kind::Prepared, &Nothing {})?;
        // It decides when to begin.
        self.hear_letter(Kind::Control).map(Letter::parcel)
    }

    /// Everything is open; gives the connections.
    ///
    /// # Errors
    /// The old process goes on without us.
    pub fn ready(&mut self) -> Result<Vec<Parcel>, ChannelError> {
        self.say(Kind::Ready, &Nothing {})?;
        let mut parcels = Vec::new();
        let mut connections = 0;
        loop {
            let letter = self.channel.receive(Instant::now() + STEP_WAIT)?;
            match Kind::of(letter.kind) {
                Some(Kind::Connections) => {
                    connections += letter.fds.len();
                    parcels.push(letter.parcel());
                }
                Some(Kind::ConnectionsEnd) => {
                    let Count { count } = letter.read()?;
                    return match count == connections {
                        true => Ok(parcels),
                        false => Err(ChannelError::Malformed("connections are missing")),
                    };
                }
                _ => return Err(ChannelError::Malformed("another letter was expected")),
            }
        }
    }

    /// The connections are taken; waits until they may be used.
    ///
    /// # Errors
    /// The old process goes on without us: nothing of what it gave may be touched.
    pub fn taken(&mut self, count: usize) -> Result<Option<Supervisor>, ChannelError> {
        self.say(Kind::Taken, &Count { count })?;
        let mut letter = self.hear_letter(Kind::Go)?;
        let go: Go = letter.read()?;
        let supervisor = letter.fds.pop().filter(|_| go.has_supervisor);
        Ok(supervisor.map(|socket| Supervisor::new(UnixStream::from(socket))))
    }

    /// We serve.
    ///
    /// # Errors
    /// The old process is gone, which is fine.
    pub fn serving(mut self) -> Result<(), ChannelError> {
        self.say(Kind::Serving, &Nothing {})
    }

    /// We cannot take over.
    pub fn refuse(mut self, why: String) {
        // It notices that we end, too.
        let _ = self.say(Kind::Refused, &Refusal { why });
    }

    fn say<T: Serialize>(&mut self, kind: Kind, text: &T) -> Result<(), ChannelError> {
        self.channel.send(&Letter::new(kind, text)?, Instant::now() + STEP_WAIT)
    }

    fn hear_letter(&mut self, expected: Kind) -> Result<Letter, ChannelError> {
        let letter = self.channel.receive(Instant::now() + STEP_WAIT)?;
        match Kind::of(letter.kind) == Some(expected) {
            true => Ok(letter),
            false => Err(ChannelError::Malformed("another letter was expected")),
        }
    }
}

/// Longer than any step of the old process.
const STEP_WAIT: Duration = Duration::from_secs(60);
