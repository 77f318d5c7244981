// SPDX-License-Identifier: Apache-2.0
//! A provider that gives the string of each call back, on one thread.
//!
//! Says `{"event": "ready"}` on standard output once it listens, and ends with the signal that ends it.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use remora_bench::link::{Input, Output, Scratch, Whole};
use remora_bench::poll::{Interest, Poll};
use remora_bench::wire::{Answerer, Kind, Protocol};

#[derive(Parser)]
struct Arguments {
    /// dubbo or bolt.
    #[arg(long)]
    protocol: Protocol,
    /// Where to listen; may be given several times.
    #[arg(long, required = true)]
    listen: Vec<SocketAddr>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut provider = Provider::new(&arguments)?;
    println!("{}", serde_json::json!({"event": "ready"}));
    let mut ready = Vec::new();
    loop {
        provider.poll.wait(FOREVER, &mut ready)?;
        for event in &ready {
            match usize::try_from(event.key)
                .ok()
                .and_then(|at| provider.listeners.get(at))
            {
                Some(_) => provider.accept(event.key)?,
                None => provider.serve(event.key, event.is_readable),
            }
        }
    }
}

struct Provider {
    poll: Poll,
    answerer: Answerer,
    listeners: Vec<TcpListener>,
    /// By key; keys of listeners come first.
    callers: HashMap<u64, Caller>,
    next_key: u64,
    scratch: Scratch,
}

struct Caller {
    stream: TcpStream,
    input: Input,
    output: Output,
    interest: Interest,
}

impl Provider {
    fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut listeners = Vec::new();
        for (key, address) in (0..).zip(&arguments.listen) {
            let listener = listen(*address).with_context(|| format!("cannot listen on {address}"))?;
            poll.add(&listener, key, Interest::Read)?;
            listeners.push(listener);
        }
        Ok(Self {
            poll,
            answerer: Answerer::new(arguments.protocol),
            next_key: listeners.len() as u64,
            listeners,
            callers: HashMap::new(),
            scratch: Scratch::default(),
        })
    }

    fn accept(&mut self, listener: u64) -> io::Result<()> {
        loop {
            let stream = match self.listeners[listener as usize].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            self.poll.add(&stream, self.next_key, Interest::Read)?;
            let caller = Caller {
                stream,
                input: Input::default(),
                output: Output::default(),
                interest: Interest::Read,
            };
            self.callers.insert(self.next_key, caller);
            self.next_key += 1;
        }
    }

    fn serve(&mut self, key: u64, is_readable: bool) {
        let Some(caller) = self.callers.get_mut(&key) else {
            return;
        };
        let is_open = caller.turn(&self.answerer, &mut self.scratch, is_readable);
        let is_open = is_open.and_then(|is_open| {
            let wanted = caller.wants();
            if is_open && wanted != caller.interest {
                self.poll.modify(&caller.stream, key, wanted)?;
                caller.interest = wanted;
            }
            Ok(is_open)
        });
        if !is_open.unwrap_or(false) {
            self.callers.remove(&key);
        }
    }
}

impl Caller {
    /// Reads, answers and writes; false when the caller is gone.
    fn turn(&mut self, answerer: &Answerer, scratch: &mut Scratch, is_readable: bool) -> io::Result<bool> {
        if is_readable && self.interest != Interest::Write {
            let output = &mut self.output;
            let is_open = self.input.read(&self.stream, answerer.protocol(), scratch, |frame| {
                answer(answerer, frame, output);
            })?;
            if !is_open {
                return Ok(false);
            }
        }
        self.output.flush(&self.stream)?;
        Ok(true)
    }

    fn wants(&self) -> Interest {
        match self.output.queued() {
            0 => Interest::Read,
            // Who does not read its replies is not listened to.
            queued if queued > BACKLOG_MAX => Interest::Write,
            _ => Interest::Both,
        }
    }
}

fn answer(answerer: &Answerer, frame: Whole<'_>, output: &mut Output) {
    let protocol = answerer.protocol();
    match (protocol.kind(frame.bytes()), frame) {
        (Kind::Request, Whole::Lent(request)) => {
            // A caller that sends something else waits in vain, and says so.
            output.append(|out| answerer.answer(request, out));
        }
        (Kind::Request, Whole::Given(request)) => {
            if let Some(string) = answerer.string(&request) {
                output.append(|out| answerer.reply().pour_lead(protocol.id(&request), string.len(), out));
                output.give(request, string);
                output.append(|out| out.extend_from_slice(answerer.reply().trail()));
            }
        }
        (Kind::Probe, probe) => output.append(|out| protocol.answer_probe(probe.bytes(), out)),
        _ => {}
    }
}

/// With a backlog for thousands of connections at once.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

const FOREVER: Duration = Duration::from_secs(3600);
/// Bytes waiting for one caller above which it is not read.
const BACKLOG_MAX: usize = 16 << 20;
