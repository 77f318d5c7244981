// SPDX-License-Identifier: Apache-2.0
//! A run: connections, the pace of the calls, the list of addresses, the report.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use remora_bench::load::unix_ms;
use remora_bench::poll::Poll;
use remora_bench::wire::Protocol;
use serde_json::{Value, json};

use super::link::{Link, Shared};
use crate::journal::Journal;
use crate::payload::{Payload, Wish};
use crate::provider::on_signal;
use crate::registry::{Role, Stay};

/// A run.
#[derive(Clone, Debug, clap::Args)]
pub struct CallPlan {
    /// dubbo or bolt.
    #[arg(long)]
    pub protocol: Protocol,
    /// The application's registry, zookeeper://host:port, whose list is followed.
    #[arg(long, required_unless_present = "to")]
    pub registry: Option<String>,
    /// Whom to call, in place of a list.
    #[arg(long)]
    pub to: Option<SocketAddr>,
    /// Connections.
    #[arg(long, default_value_t = 8)]
    pub connections: u64,
    /// Calls in flight on each connection.
    #[arg(long, default_value_t = 1)]
    pub outstanding: usize,
    /// Calls a second at most, all connections together; 0: as fast as answers come.
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// Ends after so many calls.
    #[arg(long, default_value_t = u64::MAX)]
    pub calls: u64,
    /// Ends after so many seconds.
    #[arg(long, default_value_t = 3600.0)]
    pub seconds: f64,
    /// Milliseconds until a call is given up.
    #[arg(long, default_value_t = 1000)]
    pub timeout_ms: u64,
    /// Each so many calls one that the provider shall answer with an error; 0: none.
    #[arg(long, default_value_t = 0)]
    pub errors_every: u64,
    /// Each so many calls one that the provider shall answer late; 0: none.
    #[arg(long, default_value_t = 0)]
    pub slow_every: u64,
    /// How late.
    #[arg(long, default_value_t = 10_000)]
    pub slow_ms: u32,
    /// Characters of the string that is sent and expected back, at least those that are needed.
    #[arg(long, default_value_t = 0)]
    pub payload: usize,
    /// Who calls: no two callers of one run may have the same number.
    #[arg(long)]
    pub client: u32,
    /// Of the random bytes.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where to note how each call ended.
    #[arg(long)]
    pub journal: Option<PathBuf>,
    /// Seconds to wait for a list.
    #[arg(long, default_value_t = 30.0)]
    pub wait: f64,
}

/// Calls until a signal, or as planned; says `ready`, each `second`, and at the end `result` on standard output.
///
/// # Errors
/// When there is no list in time, or the journal cannot be written.
pub fn call(plan: &CallPlan) -> anyhow::Result<Value> {
    ensure!(plan.connections > 0 && plan.outstanding > 0, "nothing to do");
    let is_ending = on_signal()?;
    let addresses = Addresses::find(plan)?;
    println!("{}", json!({"event": "ready", "ms": unix_ms()}));
    let mut run = Run::new(plan)?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(plan.seconds);
    let mut list = addresses.list();
    let (mut ready, mut next_look, mut next_second) = (Vec::new(), begun, begun + SECOND);
    loop {
        run.poll.wait(WAIT, &mut ready)?;
        let now = Instant::now();
        for event in &ready {
            if let Some(link) = usize::try_from(event.key).ok().and_then(|at| run.links.get_mut(at)) {
                link.turn(event.is_readable, &mut run.shared, &run.poll, now);
            }
        }
        if now >= next_look {
            next_look = now + LOOK;
            list = addresses.list();
            for link in &mut run.links {
                link.look(&list, &mut run.shared, now);
            }
            run.shared.journal.flush()?;
        }
        if now >= next_second {
            next_second += SECOND;
            println!("{}", run.shared.tally.second());
        }
        if is_ending.load(Ordering::Relaxed) || now >= end || run.started >= plan.calls {
            break;
        }
        run.start_calls(&list, now);
    }
    run.finish()?;
    addresses.end();
    Ok(run.shared.tally.json(begun.elapsed().as_secs_f64()))
}

struct Run<'p> {
    plan: &'p CallPlan,
    poll: Poll,
    links: Vec<Link>,
    shared: Shared,
    random: fastrand::Rng,
    started: u64,
    /// Calls that may be started now.
    credit: f64,
    credited: Instant,
    next_link: usize,
}

impl<'p> Run<'p> {
    fn new(plan: &'p CallPlan) -> anyhow::Result<Self> {
        let journal = Journal::open(plan.journal.as_deref())?;
        let timeout = Duration::from_millis(plan.timeout_ms);
        Ok(Self {
            plan,
            poll: Poll::new()?,
            links: (0..plan.connections).map(Link::new).collect(),
            shared: Shared::new(plan.protocol, plan.payload, timeout, journal),
            random: fastrand::Rng::with_seed(plan.seed ^ u64::from(plan.client)),
            started: 0,
            credit: 0.0,
            credited: Instant::now(),
            next_link: 0,
        })
    }

    /// As many calls as the pace and the connections allow.
    fn start_calls(&mut self, list: &[SocketAddr], now: Instant) {
        if self.plan.rate > 0.0 {
            let earned = now.saturating_duration_since(self.credited).as_secs_f64() * self.plan.rate;
            // What could not be called in time is not made up for.
            self.credit = (self.credit + earned).min((self.plan.rate * BURST).max(1.0));
        } else {
            self.credit = f64::MAX;
        }
        self.credited = now;
        let mut skipped = 0;
        while self.credit >= 1.0 && skipped < self.links.len() && self.started < self.plan.calls {
            let at = self.next_link;
            self.next_link = (at + 1) % self.links.len();
            if self.links[at].waiting() >= self.plan.outstanding || !self.links[at].takes_calls(now) {
                skipped += 1;
                continue;
            }
            skipped = 0;
            self.credit -= 1.0;
            self.started += 1;
            let payload = self.payload();
            self.links[at].start(payload, list, &mut self.shared, &self.poll, now);
        }
    }

    fn payload(&mut self) -> Payload {
        let is_each = |every: u64| every > 0 && self.started.is_multiple_of(every);
        Payload {
            wish: if is_each(self.plan.errors_every) {
                Wish::Error
            } else {
                Wish::Echo
            },
            wait_ms: if is_each(self.plan.slow_every) {
                self.plan.slow_ms
            } else {
                0
            },
            client: self.plan.client,
            number: self.started,
            random: self.random.u128(..),
        }
    }

    /// Waits for what is in flight.
    fn finish(&mut self) -> anyhow::Result<()> {
        let slow = if self.plan.slow_every > 0 { self.plan.slow_ms } else { 0 };
        let until = Instant::now() + self.shared.timeout + Duration::from_millis(slow.into()) + SECOND;
        let mut ready = Vec::new();
        while Instant::now() < until && self.links.iter().any(|link| link.waiting() > 0) {
            self.poll.wait(WAIT, &mut ready)?;
            for event in &ready {
                if let Some(link) = usize::try_from(event.key).ok().and_then(|at| self.links.get_mut(at)) {
                    link.turn(event.is_readable, &mut self.shared, &self.poll, Instant::now());
                }
            }
        }
        for link in &mut self.links {
            link.give_up(&mut self.shared);
        }
        self.shared.journal.flush().context("the journal cannot be written")
    }
}

enum Addresses {
    Fixed(SocketAddr),
    Followed(Stay),
}

impl Addresses {
    fn find(plan: &CallPlan) -> anyhow::Result<Self> {
        if let Some(to) = plan.to {
            return Ok(Self::Fixed(to));
        }
        let registry = plan.registry.as_deref().context("neither --registry nor --to")?;
        let stay = Stay::begin(registry, plan.protocol, Role::Follow, Duration::from_secs(10))?;
        let until = Instant::now() + Duration::from_secs_f64(plan.wait);
        while stay.addresses().is_empty() {
            ensure!(Instant::now() < until, "no provider in the list within {} s", plan.wait);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self::Followed(stay))
    }

    fn list(&self) -> Vec<SocketAddr> {
        match self {
            Self::Fixed(to) => vec![*to],
            Self::Followed(stay) => stay.addresses(),
        }
    }

    fn end(self) {
        if let Self::Followed(stay) = self {
            stay.end();
        }
    }
}

const WAIT: Duration = Duration::from_millis(2);
const LOOK: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);
/// Seconds of calls that are made up for after a pause.
const BURST: f64 = 0.05;
