// SPDX-License-Identifier: Apache-2.0
//! The provider's end: a listening socket, and the callers that came to it. Not here: what they are answered.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::link::{Input, Output, Scratch, Whole};
use crate::poll::{Interest, Poll};
use crate::wire::Protocol;

/// Everyone who is connected, by the key under which the poll knows him.
#[derive(Debug)]
pub struct Callers {
    by_key: HashMap<u64, Caller>,
    next_key: u64,
}

impl Callers {
    /// Nobody yet; keys below `first_key` are those of listeners.
    pub fn new(first_key: u64) -> Self {
        Self {
            by_key: HashMap::new(),
            next_key: first_key,
        }
    }

    /// Takes in whoever waits; `greet` may write to each.
    ///
    /// # Errors
    /// As accept(2).
    pub fn accept(&mut self, door: &TcpListener, poll: &Poll, greet: impl Fn(&mut Output)) -> io::Result<()> {
        loop {
            let stream = match door.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            poll.add(&stream, self.next_key, Interest::Read)?;
            let mut output = Output::default();
            greet(&mut output);
            let caller = Caller {
                stream,
                input: Input::default(),
                output,
                interest: Interest::Read,
            };
            self.by_key.insert(self.next_key, caller);
            self.next_key += 1;
        }
    }

    /// The caller of that key, unless he is gone.
    pub fn find(&mut self, key: u64) -> Option<&mut Caller> {
        self.by_key.get_mut(&key)
    }

    /// Closes his connection.
    pub fn remove(&mut self, key: u64) {
        self.by_key.remove(&key);
    }

    /// Keeps those for whom `stays` says so.
    pub fn retain(&mut self, mut stays: impl FnMut(u64, &mut Caller) -> bool) {
        self.by_key.retain(|key, caller| stays(*key, caller));
    }
}

/// One of them.
#[derive(Debug)]
pub struct Caller {
    stream: TcpStream,
    input: Input,
    /// What waits for him.
    pub output: Output,
    interest: Interest,
}

impl Caller {
    /// Gives what he sent to `each`, unless he does not read what he gets. False when he is gone.
    ///
    /// # Errors
    /// As [`Input::read`].
    pub fn read(
        &mut self,
        protocol: Protocol,
        scratch: &mut Scratch,
        mut each: impl FnMut(Whole<'_>, &mut Output),
    ) -> io::Result<bool> {
        if self.interest == Interest::Write {
            return Ok(true);
        }
        let output = &mut self.output;
        self.input
            .read(&self.stream, protocol, scratch, |frame| each(frame, output))
    }

    /// Writes what the socket takes; `poll` is told what he waits for.
    ///
    /// # Errors
    /// As write(2).
    pub fn write(&mut self, poll: &Poll, key: u64) -> io::Result<()> {
        self.output.flush(&self.stream)?;
        let wanted = match self.output.queued() {
            0 => Interest::Read,
            // Who does not read its replies is not listened to.
            queued if queued > BACKLOG_MAX => Interest::Write,
            _ => Interest::Both,
        };
        if wanted != self.interest {
            poll.modify(&self.stream, key, wanted)?;
            self.interest = wanted;
        }
        Ok(())
    }
}

/// A listening socket with a backlog for thousands of connections at once.
///
/// # Errors
/// As bind(2).
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Bytes waiting for one caller above which it is not read.
const BACKLOG_MAX: usize = 16 << 20;
