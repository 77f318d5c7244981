// SPDX-License-Identifier: Apache-2.0
//! Many callers on one thread, in a closed loop (each sends its next call when a reply came) or an open one (calls fall due
//! at a fixed rate whatever happens, and their latency counts from when they were due).

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;

use super::link::{Frames, Link, MARK};
use super::report::{Report, unix_ms};
use crate::link::Scratch;
use crate::poll::{Alarm, Interest, Poll, Ready};
use crate::proc::Watched;
use crate::wire::Protocol;

/// A run.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// dubbo or bolt.
    #[arg(long)]
    pub protocol: Protocol,
    /// Whom to call.
    #[arg(long)]
    pub to: SocketAddr,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    pub connections: u64,
    /// Closed loop: calls in flight on each connection.
    #[arg(long, default_value_t = 1)]
    pub outstanding: usize,
    /// Characters of the string that is sent and expected back.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
    /// Open loop: calls a second, all connections together.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Seconds before the measurement.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Seconds of measurement.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Processes whose CPU time and memory are measured: name=pid or name=pid+pid. May be given several times.
    #[arg(long)]
    pub watch: Vec<Watched>,
}

/// Makes the calls; says `begin` and `end` on standard output.
///
/// # Errors
/// When the first connections cannot be made, or a watched process is gone.
pub fn calls(plan: &Plan) -> anyhow::Result<Report> {
    ensure!(plan.payload >= MARK, "a payload has {MARK} characters at least");
    ensure!(plan.connections > 0 && plan.outstanding > 0, "nothing to do");
    Generator::new(plan)?.run()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measured,
    /// Nothing new; replies are awaited.
    End,
}

struct Generator<'p> {
    plan: &'p Plan,
    frames: Frames,
    poll: Poll,
    links: Vec<Link>,
    scratch: Scratch,
    start: Instant,
    phase: Phase,
    begun: u64,
    cpu_before: Vec<Duration>,
    own: Watched,
    own_before: Duration,
    report: Report,
    schedule: Option<Schedule>,
    lost_at: Option<u64>,
}

/// When calls of an open loop fall due.
struct Schedule {
    interval: f64,
    /// Calls that fell due so far.
    count: u64,
    next_link: usize,
    /// Rings when the next call falls due, or soon after.
    alarm: Alarm,
    /// When it rings.
    alarm_at: u64,
}

impl<'p> Generator<'p> {
    fn new(plan: &'p Plan) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut links = Vec::new();
        for number in 0..plan.connections {
            let link = Link::connect(number, plan.to).with_context(|| format!("no connection to {}", plan.to))?;
            poll.add(&link.stream, number, Interest::Read)?;
            links.push(link);
        }
        let schedule = match plan.rate {
            None => None,
            Some(rate) => {
                ensure!(rate > 0.0, "--rate is more than 0");
                Some(Schedule {
                    interval: 1e9 / rate,
                    count: 0,
                    next_link: 0,
                    alarm: poll.add_alarm(ALARM)?,
                    alarm_at: 0,
                })
            }
        };
        Ok(Self {
            plan,
            frames: Frames::new(plan.protocol, plan.payload),
            poll,
            links,
            scratch: Scratch::default(),
            start: Instant::now(),
            phase: Phase::WarmUp,
            begun: 0,
            cpu_before: Vec::new(),
            own: Watched {
                name: "load".to_owned(),
                pids: vec![std::process::id()],
            },
            own_before: Duration::ZERO,
            report: Report::default(),
            schedule,
            lost_at: None,
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn run(mut self) -> anyhow::Result<Report> {
        let warmup = nanos(self.plan.warmup);
        let end = warmup + nanos(self.plan.seconds);
        let give_up = end + nanos(PATIENCE);
        if self.schedule.is_none() {
            for at in 0..self.links.len() {
                self.fill(at);
            }
        }
        let mut ready = Vec::new();
        loop {
            self.poll.wait(WAIT, &mut ready)?;
            for event in &ready {
                if event.key != ALARM {
                    self.turn(event);
                }
            }
            let now = self.now();
            if self.lost_at.is_some_and(|at| now >= at + RECONNECT_AFTER) {
                self.reconnect(now);
            }
            match self.phase {
                Phase::WarmUp if now >= warmup => self.begin()?,
                Phase::Measured if now >= end => self.finish()?,
                Phase::End if now >= give_up || self.links.iter().all(|link| link.in_flight() == 0) => break,
                _ => {}
            }
            if self.phase != Phase::End {
                self.send_due(now)?;
            }
        }
        for link in &self.links {
            for _ in 0..link.in_flight() {
                self.report.errors.count("no_reply", String::new());
            }
        }
        Ok(self.report)
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        self.cpu_before = self.plan.watch.iter().map(Watched::cpu).collect::<Result<_, _>>()?;
        self.own_before = self.own.cpu()?;
        self.phase = Phase::Measured;
        self.begun = self.now();
        println!("{}", json!({"event": "begin", "ms": unix_ms()}));
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.report.measured = Duration::from_nanos(self.now() - self.begun);
        self.report.calls = self.report.latency.count();
        self.report.watch(&self.plan.watch, &self.cpu_before)?;
        self.report.own_cpu = self.own.cpu()?.saturating_sub(self.own_before);
        self.phase = Phase::End;
        println!("{}", json!({"event": "end", "ms": unix_ms()}));
        Ok(())
    }

    /// Reads the replies of one connection, sends what follows from them.
    fn turn(&mut self, event: &Ready) {
        let at = event.key as usize;
        let now = self.now();
        let (phase, begun) = (self.phase, self.begun);
        let Some(link) = self.links.get_mut(at).filter(|link| link.is_up) else {
            return;
        };
        if event.is_readable {
            let latency = &mut self.report.latency;
            let read = link.read(&self.frames, &mut self.scratch, &mut self.report.errors, |since| {
                // A closed loop counts the replies in the measured time, an open one the calls that fell due in it.
                if phase == Phase::Measured && (self.plan.rate.is_none() || since >= begun) {
                    latency.record(now.saturating_sub(since));
                }
            });
            match read {
                Ok(true) => {}
                Ok(false) => return self.lost(at, "closed", String::new()),
                Err(error) => return self.lost(at, "broken", error.to_string()),
            }
        }
        if self.schedule.is_none() && phase != Phase::End {
            self.fill(at);
        } else {
            self.flush(at);
        }
    }

    /// Closed loop: as many calls as may be in flight.
    fn fill(&mut self, at: usize) {
        let now = self.now();
        let link = &mut self.links[at];
        while link.in_flight() < self.plan.outstanding && link.start(&self.frames, now) {}
        self.flush(at);
    }

    /// Open loop: every call that fell due.
    fn send_due(&mut self, now: u64) -> anyhow::Result<()> {
        let Some(schedule) = &mut self.schedule else {
            return Ok(());
        };
        let first = schedule.next_link;
        let mut started = 0;
        loop {
            let due = (schedule.count as f64 * schedule.interval) as u64;
            if due > now {
                if schedule.alarm_at != due {
                    schedule.alarm_at = due;
                    schedule.alarm.set(Duration::from_nanos(due - now).max(TOGETHER))?;
                }
                break;
            }
            schedule.count += 1;
            started += 1;
            let at = schedule.next_link;
            schedule.next_link = (at + 1) % self.links.len();
            let link = &mut self.links[at];
            if !link.is_up {
                self.report.errors.count("no_connection", String::new());
            } else if !link.start(&self.frames, due) {
                self.report.errors.count("too_many_in_flight", String::new());
            } else if self.phase == Phase::Measured {
                self.report.late.record(now - due);
            }
        }
        for step in 0..started.min(self.links.len()) {
            self.flush((first + step) % self.links.len());
        }
        Ok(())
    }

    fn flush(&mut self, at: usize) {
        let link = &mut self.links[at];
        if !link.is_up {
            return;
        }
        let flushed = link.flush().and_then(|is_empty| {
            let wanted = if is_empty { Interest::Read } else { Interest::Both };
            if wanted != link.interest {
                self.poll.modify(&link.stream, at as u64, wanted)?;
                link.interest = wanted;
            }
            Ok(())
        });
        if let Err(error) = flushed {
            self.lost(at, "broken", error.to_string());
        }
    }

    fn lost(&mut self, at: usize, kind: &str, words: String) {
        // A connection that was lost with nothing in flight cost no call.
        for _ in 0..self.links[at].lost() {
            self.report.errors.count(kind, words.clone());
        }
        let now = self.now();
        self.lost_at.get_or_insert(now);
    }

    fn reconnect(&mut self, now: u64) {
        self.lost_at = None;
        for at in 0..self.links.len() {
            if self.links[at].is_up {
                continue;
            }
            let connected = self.links[at].reconnect(self.plan.to);
            match connected.and_then(|()| self.poll.add(&self.links[at].stream, at as u64, Interest::Read)) {
                Ok(()) => self.report.reconnects += 1,
                Err(error) => {
                    self.report.errors.count("no_connection", reason(&error));
                    self.links[at].is_up = false;
                    self.lost_at = Some(now);
                    continue;
                }
            }
            if self.schedule.is_none() && self.phase != Phase::End {
                self.fill(at);
            }
        }
    }
}

fn reason(error: &io::Error) -> String {
    error.to_string()
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// Key of the alarm of an open loop.
const ALARM: u64 = u64::MAX;
/// Calls that fall due closer together are sent together.
const TOGETHER: Duration = Duration::from_micros(20);
const WAIT: Duration = Duration::from_millis(10);
/// Nanoseconds between attempts to connect again.
const RECONNECT_AFTER: u64 = 10_000_000;
/// Seconds that replies are awaited after the end.
const PATIENCE: f64 = 5.0;
