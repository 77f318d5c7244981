// SPDX-License-Identifier: Apache-2.0
//! Watches over the nodes that an application publishes: one that somebody else deletes, or that belongs to a session that
//! is about to die, is made again in the application's own session.
//!
//! No client does that by itself (apache/dubbo#869, #2972). The registry is asked for each node once, with a watch; after a
//! reconnect all are looked at anew, since what happened meanwhile is told to nobody. An event that the application did not
//! ask for is passed on all the same: clients look at it and forget it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::door::Door;
use super::names::Own;
use super::sent::Then;
use super::stand_in::{Home, levels, node};
use crate::wire::request::Create;
use crate::wire::{CreateMode, ErrorCode, OpCode, Reply, ReplyHeader, Request, Text};

/// What is to be looked at or made again on one connection. Paths are the registry's.
#[derive(Debug, Default)]
pub(super) struct Guard {
    due: BTreeMap<(Instant, u64), Step>,
    number: u64,
    /// How often a node was made again lately, and when last.
    made_again: HashMap<String, (u32, Instant)>,
}

#[derive(Debug)]
enum Step {
    /// Is it there? And tell when that changes.
    Look(String),
    Restore(String),
}

impl Guard {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    fn add(&mut self, at: Instant, step: Step) {
        self.number += 1;
        self.due.insert((at, self.number), step);
    }

    fn take_due(&mut self, now: Instant) -> Option<Step> {
        let first = self.due.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// How long to wait before a node is made again: longer each time, lest two fight over it at full speed.
    fn pause(&mut self, path: &str) -> Duration {
        let now = Instant::now();
        if self.made_again.len() >= MAX_REMEMBERED {
            self.made_again.retain(|_, (_, last)| now - *last < FORGOTTEN_AFTER);
        }
        let times = match self.made_again.get(path) {
            Some((times, last)) if now - *last < FORGOTTEN_AFTER => *times,
            _ => 0,
        };
        self.made_again.insert(path.to_owned(), (times.saturating_add(1), now));
        let whole = FIRST_PAUSE.saturating_mul(1 << times.min(16)).min(LONGEST_PAUSE);
        whole.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

impl Door {
    /// From now on the node at `path` is watched over.
    pub(super) fn guard_node(&mut self, path: &str) {
        let is_ephemeral = |own: &Own| own.node.as_ref().is_none_or(|node| node.is_ephemeral);
        if self.home == Home::Registry && self.state.names.standing_at(path).is_some_and(is_ephemeral) {
            self.guard.add(Instant::now(), Step::Look(path.to_owned()));
        }
    }

    /// A session came back: everything is looked at again, spread over some time.
    pub(super) fn guard_all(&mut self) {
        let paths = self.state.names.standing();
        let number = u32::try_from(paths.len()).unwrap_or(u32::MAX);
        let spread = (PER_NODE * number).min(LONGEST_SPREAD);
        let begin = Instant::now() + AFTER_RETURN;
        for path in paths {
            let at = begin + spread.mul_f64(fastrand::f64());
            self.guard.add(at, Step::Look(path));
        }
    }

    /// The registry tells that something happened to a node. It is looked at without a watch: where nothing is, a watch would
    /// tell the application of its own next create.
    pub(super) fn guard_event(&mut self, path: &str) {
        if self.home == Home::Registry && self.state.names.standing_at(path).is_some() {
            self.ask_for(path.to_owned(), false);
        }
    }

    /// The time to look at a node, or to make it again, may have come.
    pub(super) fn guard_in_time(&mut self) {
        let now = Instant::now();
        for _ in 0..STEPS_AT_ONCE {
            let Some(step) = self.guard.take_due(now) else { return };
            match step {
                // What goes because Remora does is not made again.
                _ if self.is_leaving() => {}
                // A watch where nothing is would tell the application of its own next create.
                Step::Look(path) if self.may_be_going() => self.guard.add(now + SHORT_PAUSE, Step::Look(path)),
                Step::Look(path) if self.state.names.standing_at(&path).is_some() => self.ask_for(path, true),
                Step::Look(_) => {}
                Step::Restore(path) => self.restore(path),
            }
        }
    }

    fn ask_for(&mut self, path: String, watch: bool) {
        let request = Request::Exists {
            path: Text::from(path.as_str()),
            watch,
        };
        self.send_own(request, 0, None, Then::Guard { path, watch });
    }

    /// Whether a node stands is known.
    pub(super) fn guarded(&mut self, path: &str, watch: bool, head: ReplyHeader, reply: Option<Reply>) {
        let Some(own) = self.state.names.standing_at(path) else {
            return;
        };
        match reply {
            Some(Reply::Stat(_)) if !watch => self.guard_node(path),
            Some(Reply::Stat(stat)) if self.is_orphan(stat.ephemeral_owner) => {
                let create = create(own);
                self.inherit_unasked(create, head, stat);
            }
            None if head.err == ErrorCode::NO_NODE => {
                let at = Instant::now() + self.guard.pause(path);
                self.guard.add(at, Step::Restore(path.to_owned()));
            }
            _ => {}
        }
    }

    fn restore(&mut self, path: String) {
        let Some(own) = self.state.names.standing_at(&path) else {
            return;
        };
        let create = create(own);
        if self.may_be_going() {
            return self.ask_for(path, false);
        }
        let then = Then::Restore { path, is_second: false };
        self.send_own(Request::Create(create), 0, None, then);
    }

    /// Whether the application may be taking nodes back: what became of that is known before the answer to the next question.
    fn may_be_going(&self) -> bool {
        let may_go = |then: &Then| {
            matches!(
                then,
                Then::Delete { .. }
                    | Then::DeleteUnknown { .. }
                    | Then::Farewell { .. }
                    | Then::Multi { .. }
                    | Then::Close
            )
        };
        self.sent.iter().any(|sent| may_go(&sent.then))
    }

    /// A node was made again, or could not be.
    pub(super) fn restored(&mut self, path: String, is_second: bool, err: ErrorCode) {
        match err {
            ErrorCode::OK => {
                info!(
                    registry = "zookeeper",
                    path, "a published node was gone, it stands again"
                );
                super::stats::Stats::count(&self.shared.stats.restored);
                self.guard_node(&path);
            }
            ErrorCode::NODE_EXISTS => self.guard_node(&path),
            ErrorCode::NO_NODE if !is_second => {
                let Some(own) = self.state.names.standing_at(&path) else {
                    return;
                };
                let create = create(own);
                if let Some((parent, _)) = path.rsplit_once('/') {
                    for level in levels(parent) {
                        self.send_own(node(level), 0, None, Then::Ignore);
                    }
                }
                let then = Then::Restore { path, is_second: true };
                self.send_own(Request::Create(create), 0, None, then);
            }
            _ => {
                warn!(
                    registry = "zookeeper",
                    path,
                    code = err.0,
                    "a published node is gone and cannot be made again"
                );
                let at = Instant::now() + self.guard.pause(&path).max(AFTER_REFUSAL);
                self.guard.add(at, Step::Restore(path));
            }
        }
    }
}

fn create(own: &Own) -> Create {
    let node = own.node();
    Create {
        op: OpCode::Create,
        path: Text::from(own.registry_path.as_str()),
        data: node.data,
        acl: node.acl,
        flags: CreateMode::Ephemeral.number(),
        ttl_ms: 0,
    }
}

const SHORT_PAUSE: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const AFTER_REFUSAL: Duration = Duration::from_secs(5);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);
/// The application says who it is first, and asks for what it needs.
const AFTER_RETURN: Duration = Duration::from_millis(300);
const PER_NODE: Duration = Duration::from_millis(1);
const LONGEST_SPREAD: Duration = Duration::from_secs(3);
/// The rest waits for the next turn: an application with thousands of nodes must not hold up the others.
const STEPS_AT_ONCE: usize = 256;
const MAX_REMEMBERED: usize = 10_000;
