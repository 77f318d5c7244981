// SPDX-License-Identifier: Apache-2.0
//! A provider that gives the string of each call back, on one thread.
//!
//! Says `{"event": "ready"}` on standard output once it listens, and ends with the signal that ends it.
#![forbid(unsafe_code)]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use remora_bench::callers::{Callers, listen};
use remora_bench::link::{Output, Scratch, Whole};
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
                Some(listener) => provider.callers.accept(listener, &provider.poll, |_| ())?,
                None => provider.serve(event.key, event.is_readable),
            }
        }
    }
}

struct Provider {
    poll: Poll,
    answerer: Answerer,
    listeners: Vec<TcpListener>,
    /// Keys of listeners come first.
    callers: Callers,
    scratch: Scratch,
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
            callers: Callers::new(listeners.len() as u64),
            listeners,
            scratch: Scratch::default(),
        })
    }

    fn serve(&mut self, key: u64, is_readable: bool) {
        if !self.turn(key, is_readable).unwrap_or(false) {
            self.callers.remove(key);
        }
    }

    /// Reads, answers and writes; false when the caller is gone.
    fn turn(&mut self, key: u64, is_readable: bool) -> io::Result<bool> {
        let Some(caller) = self.callers.find(key) else {
            return Ok(false);
        };
        if is_readable {
            let answerer = &self.answerer;
            let is_open = caller.read(answerer.protocol(), &mut self.scratch, |frame, output| {
                answer(answerer, frame, output);
            })?;
            if !is_open {
                return Ok(false);
            }
        }
        caller.write(&self.poll, key)?;
        Ok(true)
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

const FOREVER: Duration = Duration::from_secs(3600);
