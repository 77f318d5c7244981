// SPDX-License-Identifier: Apache-2.0
//! A provider that gives the string of each call back, notes each call that it executes, and fails or waits when a call says so.
//!
//! One thread around epoll. A signal that asks it to end makes it withdraw, say goodbye to its callers, answer what still comes
//! for a while, and go.

use std::collections::BinaryHeap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use remora_bench::callers::{Callers, listen};
use remora_bench::link::Scratch;
use remora_bench::load::unix_ms;
use remora_bench::poll::{Interest, Poll};
use remora_bench::wire::{Answerer, Kind, Protocol};
use serde_json::json;

use crate::journal::{EXECUTED, Journal};
use crate::payload::Wish;
use crate::registry::{Role, Stay};
use crate::words;

/// A run.
#[derive(Clone, Debug, clap::Args)]
pub struct ProvidePlan {
    /// dubbo or bolt.
    #[arg(long)]
    pub protocol: Protocol,
    /// Where to listen.
    #[arg(long)]
    pub listen: SocketAddr,
    /// The application's registry, zookeeper://host:port; without one nothing is published.
    #[arg(long)]
    pub registry: Option<String>,
    /// What to publish, host:port; where it listens if left out.
    #[arg(long)]
    pub publish: Option<String>,
    /// Session timeout at the registry, in milliseconds.
    #[arg(long, default_value_t = 10_000)]
    pub session_ms: u64,
    /// Where to note the calls that were executed.
    #[arg(long)]
    pub journal: Option<PathBuf>,
    /// Milliseconds from the goodbye to the end.
    #[arg(long, default_value_t = 2_000)]
    pub linger_ms: u64,
}

/// Serves until a signal ends it; says `ready` and at the end `result` on standard output.
///
/// # Errors
/// When it cannot listen, or not write its journal.
pub fn provide(plan: &ProvidePlan) -> anyhow::Result<()> {
    let is_ending = on_signal()?;
    let mut provider = Provider::new(plan)?;
    let mut stay = None;
    if let Some(registry) = &plan.registry {
        let address = plan.publish.clone().unwrap_or_else(|| plan.listen.to_string());
        let session = Duration::from_millis(plan.session_ms);
        stay = Some(Stay::begin(registry, plan.protocol, Role::Publish(address), session)?);
    }
    println!("{}", json!({"event": "ready", "ms": unix_ms()}));
    let mut goes_at = None;
    let mut ready = Vec::new();
    loop {
        provider.poll.wait(provider.pause(), &mut ready)?;
        for event in &ready {
            match event.key {
                DOOR => provider.accept()?,
                key => provider.serve(key, event.is_readable),
            }
        }
        provider.answer_due();
        match goes_at {
            None if is_ending.load(Ordering::Relaxed) => {
                if let Some(stay) = stay.take() {
                    // It waits for the registry, callers do not wait for it.
                    std::thread::spawn(|| stay.end());
                }
                provider.say_goodbye();
                goes_at = Some(Instant::now() + Duration::from_millis(plan.linger_ms));
            }
            Some(at) if Instant::now() >= at && provider.later.is_empty() => break,
            _ => {}
        }
    }
    println!(
        "{}",
        json!({"event": "result", "executed": provider.executed, "broken": provider.broken, "after_goodbye": provider.after_goodbye, "ms": unix_ms()})
    );
    Ok(())
}

/// A flag that SIGTERM and SIGINT set.
///
/// # Errors
/// When signals cannot be listened to.
pub fn on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = flag.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut terminate), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            seen.store(true, Ordering::Relaxed);
        });
    });
    Ok(flag)
}

struct Provider {
    poll: Poll,
    answerer: Answerer,
    door: TcpListener,
    callers: Callers,
    scratch: Scratch,
    journal: Journal,
    /// Replies that wait for their time, earliest first.
    later: BinaryHeap<Later>,
    executed: u64,
    /// Requests that were not as some caller wrote them.
    broken: u64,
    after_goodbye: u64,
    is_ending: bool,
}

struct Later {
    at: Instant,
    caller: u64,
    reply: Vec<u8>,
}

impl Provider {
    fn new(plan: &ProvidePlan) -> anyhow::Result<Self> {
        let door = listen(plan.listen).with_context(|| format!("cannot listen on {}", plan.listen))?;
        let poll = Poll::new()?;
        poll.add(&door, DOOR, Interest::Read)?;
        Ok(Self {
            poll,
            answerer: Answerer::new(plan.protocol),
            door,
            callers: Callers::new(DOOR + 1),
            scratch: Scratch::default(),
            journal: Journal::open(plan.journal.as_deref())?,
            later: BinaryHeap::new(),
            executed: 0,
            broken: 0,
            after_goodbye: 0,
            is_ending: false,
        })
    }

    fn pause(&self) -> Duration {
        let next = self
            .later
            .peek()
            .map(|later| later.at.saturating_duration_since(Instant::now()));
        next.unwrap_or(PAUSE).min(PAUSE)
    }

    fn accept(&mut self) -> io::Result<()> {
        let (is_ending, protocol) = (self.is_ending, self.answerer.protocol());
        self.callers.accept(&self.door, &self.poll, |output| {
            if is_ending {
                output.append(|out| words::goodbye(protocol, out));
            }
        })
    }

    fn serve(&mut self, key: u64, is_readable: bool) {
        if !self.turn(key, is_readable).unwrap_or(false) {
            self.callers.remove(key);
        }
    }

    /// Reads, executes, writes; false when the caller is gone.
    fn turn(&mut self, key: u64, is_readable: bool) -> io::Result<bool> {
        let Some(caller) = self.callers.find(key) else {
            return Ok(false);
        };
        let answerer = &self.answerer;
        let protocol = answerer.protocol();
        if is_readable {
            let (journal, later) = (&mut self.journal, &mut self.later);
            let (executed, broken, after_goodbye) = (&mut self.executed, &mut self.broken, &mut self.after_goodbye);
            let is_ending = self.is_ending;
            let is_open = caller.read(protocol, &mut self.scratch, |frame, output| {
                let frame = frame.bytes();
                match protocol.kind(frame) {
                    Kind::Request => {}
                    Kind::Probe => return output.append(|out| protocol.answer_probe(frame, out)),
                    _ => return,
                }
                let Some(payload) = words::payload(answerer, frame) else {
                    *broken += 1;
                    return;
                };
                *executed += 1;
                *after_goodbye += u64::from(is_ending);
                journal.note(payload.client, payload.number, EXECUTED);
                let answer = |out: &mut Vec<u8>| match payload.wish {
                    Wish::Echo => drop(answerer.answer(frame, out)),
                    Wish::Error => words::error_reply(protocol, protocol.id(frame), out),
                };
                if payload.wait_ms == 0 {
                    return output.append(answer);
                }
                let mut reply = Vec::new();
                answer(&mut reply);
                let at = Instant::now() + Duration::from_millis(payload.wait_ms.into());
                later.push(Later { at, caller: key, reply });
            })?;
            if !is_open {
                return Ok(false);
            }
        }
        // Noted before it is answered: a provider that is killed in between has executed it.
        self.journal.flush()?;
        caller.write(&self.poll, key)?;
        Ok(true)
    }

    fn answer_due(&mut self) {
        let now = Instant::now();
        while self.later.peek().is_some_and(|later| later.at <= now) {
            let Some(later) = self.later.pop() else { return };
            if let Some(caller) = self.callers.find(later.caller) {
                let len = later.reply.len();
                caller.output.give(later.reply, 0..len);
                if caller.write(&self.poll, later.caller).is_err() {
                    self.callers.remove(later.caller);
                }
            }
        }
    }

    fn say_goodbye(&mut self) {
        self.is_ending = true;
        let protocol = self.answerer.protocol();
        let poll = &self.poll;
        self.callers.retain(|key, caller| {
            caller.output.append(|out| words::goodbye(protocol, out));
            caller.write(poll, key).is_ok()
        });
    }
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Later {}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
}

const DOOR: u64 = 0;
const PAUSE: Duration = Duration::from_millis(100);
