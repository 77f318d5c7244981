// SPDX-License-Identifier: Apache-2.0
//! The life of a call, in two short halves.
//!
//! Out: route keys -> service -> deadline -> pick an instance -> send. Back: reply, or a failure -> another instance, or
//! an answer. Between the halves an entry of a stream table waits, not a task.

pub(super) mod handover;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use remora_protocol::{Frame, FrameKind, Outcome, RouteKeysError};
use tokio::time::Instant;
use tracing::trace;

use super::connection::Downstream;
use super::error::{CallError, Tried};
use super::governance::deadline;
use super::kept::Kept;
use super::recent::Facts;
use super::reply;
use super::router::{Candidate, LocalRoute};
use super::tally::LineRef;
use super::upstream::connection::Upstream;
use super::upstream::pool::{Lane, Pool};
use super::worker::Worker;
use crate::discovery::route_table::KeyRef;
use crate::metrics::call::{CallEnd, Dropped, Ejected, Side};

/// A call that waits for its reply.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) from: Rc<Downstream>,
    pub(super) route: Rc<LocalRoute>,
    pub(super) kept: Kept,
    pub(super) started: Instant,
    /// How long it is kept, in ms; at most a day and a little.
    limit_ms: u32,
    /// Where in the upstream connection's stream its frame begins.
    pub(super) sent_at: u64,
    serialization: Option<&'static str>,
    attempts: u32,
    /// Boxed: most calls have none, and what waits is to be small.
    #[allow(clippy::box_collection, reason = "a pointer is a third of a vector")]
    failures: Option<Box<Vec<Failure>>>,
}

/// Why an attempt failed. Nothing was sent then.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) addr: SocketAddr,
    pub(super) why: String,
    /// Whether the instance is not to be tried again for this call.
    pub(super) is_excluded: bool,
}

impl Call {
    pub(super) fn is_oneway(&self) -> bool {
        self.kept.kind == FrameKind::Oneway
    }

    /// Whether its route keys could be read. Who speaks the bare protocol may answer as if nothing had begun when something had:
    /// Java's bolt turns a `RejectedExecutionException` out of the middle of a user's own processor into "busy".
    fn is_of_the_framework(&self) -> bool {
        self.serialization.is_some()
    }

    /// When it is given up.
    pub(super) fn deadline(&self) -> Instant {
        self.started + Duration::from_millis(u64::from(self.limit_ms))
    }

    fn failures(&self) -> &[Failure] {
        self.failures.as_deref().map_or(&[], |failures| failures)
    }

    fn is_excluded(&self, addr: SocketAddr) -> bool {
        self.failures()
            .iter()
            .any(|failure| failure.is_excluded && failure.addr == addr)
    }

    fn pick(&self, worker: &Worker, now: Instant) -> Option<&Candidate> {
        let dialect = self.from.dialect();
        let is_excluded = |addr| self.is_excluded(addr);
        let config = worker.config();
        self.route.pick(&config, self.serialization, dialect, is_excluded, now)
    }

    fn pool(&self, candidate: &Candidate) -> Rc<Pool> {
        let own = self.from.own_pool(candidate);
        own.unwrap_or_else(|| candidate.pool.in_dialect(self.from.dialect()))
    }
}

/// Out: a request or one-way call of a downstream connection.
pub(super) fn out(worker: &Rc<Worker>, from: &Rc<Downstream>, frame: &Frame, now: Instant) {
    let Way {
        route,
        timeout,
        serialization,
    } = match way(worker, from, frame, now) {
        Ok(facts) => facts,
        Err(error) => return reply::refuse(from, frame, &error),
    };
    trace!(
        side = from.side().label(),
        service = &*route.label,
        stream_id = frame.stream_id.0,
        "call"
    );
    if frame.kind != FrameKind::Oneway {
        from.call_started();
    }
    let has_alternatives = route.candidates.len() > 1;
    let limit = deadline::limit(&worker.config(), timeout, route.timeout);
    let call = Call {
        from: from.clone(),
        kept: worker.kept.keep(frame, has_alternatives),
        route,
        started: now,
        limit_ms: u32::try_from(limit.as_millis()).unwrap_or(u32::MAX),
        sent_at: 0,
        serialization,
        attempts: 0,
        failures: None,
    };
    send(worker, call, frame, now);
}

/// Where a request goes and what else its body says.
struct Way {
    route: Rc<LocalRoute>,
    timeout: Option<Duration>,
    serialization: Option<&'static str>,
}

/// Remembered, or read.
fn way(worker: &Rc<Worker>, from: &Rc<Downstream>, frame: &Frame, now: Instant) -> Result<Way, CallError> {
    let generation = worker.router.borrow_mut().generation();
    let protocol = from.protocol();
    let mut recent = from.recent.borrow_mut();
    if let Some(facts) = recent.find(&**protocol, frame, generation) {
        if from.side() == Side::Ingress {
            facts.route = from.application(worker)?;
        }
        facts.line.count(now);
        return Ok(Way {
            route: facts.route.clone(),
            timeout: facts.timeout,
            serialization: facts.serialization,
        });
    }
    let keys = protocol.route_keys(frame);
    let route = match from.side() {
        Side::Egress => worker
            .router
            .borrow_mut()
            .service(&worker.pools, protocol, &keys, frame)?,
        Side::Ingress => from.application(worker)?,
    };
    let is_callback = match &keys {
        Ok(keys) => keys.pins_connection,
        Err(RouteKeysError::Opaque { pins_connection, .. }) => *pins_connection,
        Err(RouteKeysError::Malformed { .. }) => false,
    };
    if is_callback {
        from.pin();
    }
    let is_read = keys.is_ok();
    let keys = keys.unwrap_or_default();
    let service = match route.key() {
        Some(key) if !is_read => KeyRef {
            name: &key.name,
            group: &key.group,
            version: &key.version,
        },
        _ => KeyRef {
            name: &keys.service,
            group: &keys.group,
            version: &keys.version,
        },
    };
    let line = worker.tallies.line(&LineRef {
        side: from.side(),
        protocol: protocol.name(),
        peer: from.peer.ip(),
        door: from.door(),
        caller: keys.caller.as_deref().unwrap_or_default(),
        service,
    });
    line.count(now);
    let way = Way {
        route: route.clone(),
        timeout: keys.timeout,
        serialization: keys.serialization,
    };
    if is_read && !is_callback {
        let facts = Facts {
            route,
            generation,
            timeout: keys.timeout,
            serialization: keys.serialization,
            line,
        };
        recent.remember(&**protocol, frame, facts);
    }
    Ok(way)
}

/// Sends a call to an instance that was not tried yet.
#[inline]
fn send(worker: &Rc<Worker>, mut call: Call, frame: &Frame, now: Instant) {
    let mut full = None;
    while call.attempts < worker.config().max_attempts {
        let Some(candidate) = call.pick(worker, now) else {
            break;
        };
        candidate.tally.count(now);
        let pool = call.pool(candidate);
        call.attempts += 1;
        let upstream = pool.connection(worker, Lane::of(frame.wire.len()));
        match upstream.send(worker, call, frame, now) {
            None => return,
            Some(back) => call = back,
        }
        full = Some(upstream.in_flight());
        note(
            &mut call,
            pool.addr,
            format!("has {} calls in flight", upstream.in_flight()),
            true,
        );
    }
    let service = call.route.label.to_string();
    let error = match full {
        Some(in_flight) => CallError::Overloaded { service, in_flight },
        None if call.failures().is_empty() => CallError::NoInstance { service },
        None => CallError::Unreachable {
            service,
            tried: tried(&mut call),
        },
    };
    reply::fail(worker, call, &error, now);
}

/// Back, with nothing sent: the next instance, or an answer.
pub(super) fn again(worker: &Rc<Worker>, mut call: Call, failure: Failure) {
    note(&mut call, failure.addr, failure.why, failure.is_excluded);
    let now = Instant::now();
    match call.kept.frame() {
        Some(frame) if !call.from.is_closed() => {
            if call.attempts < worker.config().max_attempts && call.pick(worker, now).is_some() {
                call.from.shard().retries.inc();
            }
            send(worker, call, &frame, now);
        }
        _ => {
            let error = CallError::Unreachable {
                service: call.route.label.to_string(),
                tried: tried(&mut call),
            };
            reply::fail(worker, call, &error, now);
        }
    }
}

/// Back, with a reply.
#[inline]
pub(super) fn back(worker: &Rc<Worker>, upstream: &Rc<Upstream>, mut call: Call, reply: &Frame, now: Instant) {
    let outcome = upstream.protocol.outcome(reply);
    let attempts_max = match outcome {
        Outcome::NothingSent => {
            if upstream.health.eject(&worker.config(), Ejected::NothingSent, now) {
                upstream.wire.shard.ejected(Ejected::NothingSent);
            }
            worker.config().max_attempts
        }
        Outcome::Refused => {
            upstream.health.rest(now);
            match call.is_of_the_framework() {
                // Where all are busy more tries make it worse.
                true => worker.config().max_attempts.min(2),
                false => 0,
            }
        }
        _ => {
            upstream.health.recover(&worker.config(), now);
            0
        }
    };
    if call.attempts < attempts_max && !call.from.is_closed() {
        let why = match outcome {
            Outcome::Refused => "refused the call, none of its threads took it",
            _ => "answered that nothing was sent",
        };
        note(&mut call, upstream.addr, why.to_owned(), true);
        if let Some(frame) = call.kept.frame().filter(|_| call.pick(worker, now).is_some()) {
            call.from.shard().retries.inc();
            return send(worker, call, &frame, now);
        }
    }
    if !matches!(outcome, Outcome::Ok | Outcome::AppException) {
        call.route.failed_at(upstream.addr);
    }
    let end = match outcome {
        Outcome::Ok => CallEnd::Ok,
        Outcome::AppException => CallEnd::AppException,
        Outcome::Failed(_) | Outcome::Refused => CallEnd::Failed,
        Outcome::NothingSent => CallEnd::NothingSent,
    };
    reply::pass(worker, call, reply, end, now);
}

/// A one-way call is with its instance, as far as anybody can know.
pub(super) fn oneway_sent(worker: &Worker, call: Call) {
    call.from.shard().count_call(CallEnd::Oneway);
    worker.kept.give_back(call.kept);
}

/// A one-way call that went nowhere; nobody waits for an answer.
pub(super) fn oneway_lost(worker: &Worker, call: Call, error: &CallError) {
    trace!(reason = error.reason(), "one-way call dropped");
    call.from.shard().drop_frame(Dropped::Oneway);
    worker.kept.give_back(call.kept);
}

fn note(call: &mut Call, addr: SocketAddr, why: String, is_excluded: bool) {
    let failure = Failure { addr, why, is_excluded };
    call.failures.get_or_insert_default().push(failure);
}

fn tried(call: &mut Call) -> Tried {
    Tried(
        call.failures
            .take()
            .into_iter()
            .flat_map(|failures| *failures)
            .map(|failure| (failure.addr, failure.why))
            .collect(),
    )
}

/// How long a call took, or was waited for.
pub(super) fn took(call: &Call, now: Instant) -> Duration {
    now.saturating_duration_since(call.started)
}
