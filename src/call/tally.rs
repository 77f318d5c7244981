// SPDX-License-Identifier: Apache-2.0
//! Who calls what, and where it goes: what one worker counts for `/topology`.
//!
//! A line is a caller and the service that it calls; a hop is a service and the instance that its calls are sent to. Both
//! are looked up when a connection's kind of request is read for the first time, or a route is joined, and kept there: a call
//! costs two plain additions. Bounded; what has no room any more is counted under no name.

use std::cell::{Cell, RefCell};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{Equivalent, HashMap};
use remora_registry::ServiceKey;
use tokio::time::Instant;

use crate::discovery::route_table::{Endpoint, KeyRef};
use crate::metrics::call::Side;

/// A count with one writer, the worker's thread.
#[derive(Debug, Default)]
pub(super) struct Tally {
    calls: Cell<u64>,
    failed: Cell<u64>,
    last: Cell<Option<Instant>>,
}

impl Tally {
    #[inline]
    pub(super) fn count(&self, now: Instant) {
        self.calls.set(self.calls.get().wrapping_add(1));
        self.last.set(Some(now));
    }

    pub(super) fn fail(&self) {
        self.failed.set(self.failed.get().wrapping_add(1));
    }

    fn idle_ms(&self, now: Instant) -> Option<u64> {
        let idle = now.saturating_duration_since(self.last.get()?);
        Some(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX))
    }

    /// Nobody counts here, nor did for long.
    fn is_over(self: &Rc<Self>, now: Instant) -> bool {
        let last = self.last.get();
        Rc::strong_count(self) == 1 && last.is_none_or(|last| now.saturating_duration_since(last) >= KEPT_FOR)
    }
}

/// A caller and what it calls, as one call shows them.
#[derive(Debug, Hash)]
pub(super) struct LineRef<'a> {
    pub(super) side: Side,
    pub(super) protocol: &'static str,
    /// The host that the connection came from.
    pub(super) peer: IpAddr,
    /// The port of ours that it came to.
    pub(super) door: SocketAddr,
    /// The calling application as the frame says it; empty if it does not.
    pub(super) caller: &'a str,
    /// Nothing but empty strings: the body could not be read.
    pub(super) service: KeyRef<'a>,
}

#[derive(Debug, Hash, PartialEq, Eq)]
struct Line {
    side: Side,
    protocol: &'static str,
    peer: IpAddr,
    door: SocketAddr,
    caller: Box<str>,
    service: ServiceKey,
}

impl Equivalent<Line> for LineRef<'_> {
    fn equivalent(&self, line: &Line) -> bool {
        self.side == line.side
            && self.protocol == line.protocol
            && self.peer == line.peer
            && self.door == line.door
            && *self.caller == *line.caller
            && self.service.equivalent(&line.service)
    }
}

#[derive(Debug, Hash, PartialEq, Eq)]
struct Hop {
    side: Side,
    protocol: &'static str,
    service: Box<str>,
    /// `None`: no instance was found for the call.
    addr: Option<SocketAddr>,
}

/// What was sent, and the instance as it was last known.
type Sent = (Rc<Tally>, Option<Arc<Endpoint>>);

/// All that one worker counts.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    lines: RefCell<HashMap<Line, Rc<Tally>>>,
    hops: RefCell<HashMap<Hop, Sent>>,
    /// For lines without room.
    others: Rc<Tally>,
}

impl Tallies {
    pub(super) fn line(&self, line: &LineRef<'_>) -> Rc<Tally> {
        let mut lines = self.lines.borrow_mut();
        if let Some(known) = lines.get(line) {
            return known.clone();
        }
        let service = &line.service;
        let is_short = line.caller.len() <= NAME_MAX && service.name.len() + service.version.len() <= NAME_MAX;
        if lines.len() >= LINES_MAX || !is_short || service.group.len() > NAME_MAX {
            return self.others.clone();
        }
        let owned = Line {
            side: line.side,
            protocol: line.protocol,
            peer: line.peer,
            door: line.door,
            caller: line.caller.into(),
            service: ServiceKey::new(service.name, service.group, service.version),
        };
        lines.entry(owned).or_default().clone()
    }

    /// What is sent to an instance; the same one again for a route that is joined anew.
    pub(super) fn hop(
        &self,
        side: Side,
        protocol: &'static str,
        service: &str,
        endpoint: Option<&Arc<Endpoint>>,
    ) -> Rc<Tally> {
        let mut hops = self.hops.borrow_mut();
        let hop = Hop {
            side,
            protocol,
            service: service.into(),
            addr: endpoint.map(|endpoint| endpoint.addr),
        };
        if hops.len() >= HOPS_MAX && !hops.contains_key(&hop) {
            return Rc::default();
        }
        let (tally, last) = hops.entry(hop).or_default();
        *last = endpoint.cloned();
        tally.clone()
    }

    /// Forgets what is over, where room is scarce. Call about once a second.
    pub(super) fn clean(&self, now: Instant) {
        let mut lines = self.lines.borrow_mut();
        if lines.len() >= LINES_MAX / 2 {
            lines.retain(|_, tally| !tally.is_over(now));
        }
        let mut hops = self.hops.borrow_mut();
        if hops.len() >= HOPS_MAX / 2 {
            hops.retain(|_, (tally, _)| !tally.is_over(now));
        }
    }

    pub(super) fn view(&self, now: Instant) -> TalliesView {
        let lines = self.lines.borrow();
        let lines = lines.iter().map(|(line, tally)| LineView {
            side: line.side,
            protocol: line.protocol,
            peer: line.peer,
            door: line.door,
            caller: line.caller.to_string(),
            service: line.service.clone(),
            calls: tally.calls.get(),
            idle_ms: tally.idle_ms(now),
        });
        let hops = self.hops.borrow();
        let used = hops
            .iter()
            .filter(|(_, (tally, _))| tally.calls.get() > 0 || tally.failed.get() > 0);
        let hops = used.map(|(hop, (tally, endpoint))| HopView {
            side: hop.side,
            protocol: hop.protocol,
            service: hop.service.to_string(),
            addr: hop.addr,
            endpoint: endpoint.clone(),
            calls: tally.calls.get(),
            failed: tally.failed.get(),
            idle_ms: tally.idle_ms(now),
        });
        TalliesView {
            lines: lines.collect(),
            hops: hops.collect(),
            others: self.others.calls.get(),
        }
    }
}

/// Who calls what, and where it goes.
#[derive(Clone, Debug, Default)]
pub struct TalliesView {
    /// Callers and services.
    pub lines: Vec<LineView>,
    /// Services and instances.
    pub hops: Vec<HopView>,
    /// Calls of callers for whom there was no room.
    pub others: u64,
}

/// A caller and what it calls.
#[derive(Clone, Debug)]
pub struct LineView {
    /// Out of our application, or into it.
    pub side: Side,
    /// Protocol plugin.
    pub protocol: &'static str,
    /// The host that calls.
    pub peer: IpAddr,
    /// The port of ours that it calls at.
    pub door: SocketAddr,
    /// The calling application as its frames say it; empty if they do not.
    pub caller: String,
    /// The service; all of it empty if the bodies cannot be read.
    pub service: ServiceKey,
    /// Calls.
    pub calls: u64,
    /// Since the last one, in ms.
    pub idle_ms: Option<u64>,
}

/// A service and an instance that its calls are sent to.
#[derive(Clone, Debug)]
pub struct HopView {
    /// Out of our application, or into it.
    pub side: Side,
    /// Protocol plugin.
    pub protocol: &'static str,
    /// The service; of an ingress, what messages call the application.
    pub service: String,
    /// The instance; `None` for calls that found none.
    pub addr: Option<SocketAddr>,
    /// The instance as the registry last had it.
    pub endpoint: Option<Arc<Endpoint>>,
    /// Calls sent to it, further attempts too.
    pub calls: u64,
    /// Those that ended without the application's own answer.
    pub failed: u64,
    /// Since the last one, in ms.
    pub idle_ms: Option<u64>,
}

/// Callers and services of one worker; names in frames are the caller's own choice.
const LINES_MAX: usize = 4096;
/// Services and instances of one worker.
const HOPS_MAX: usize = 16_384;
/// Longest name that is kept, in bytes.
const NAME_MAX: usize = 512;
/// What was not called for so long makes room.
const KEPT_FOR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn line(caller: &str) -> LineRef<'_> {
        LineRef {
            side: Side::Ingress,
            protocol: "dubbo",
            peer: [10, 0, 0, 7].into(),
            door: ([0, 0, 0, 0], 20881).into(),
            caller,
            service: KeyRef {
                name: "demo.Echo",
                group: "",
                version: "1.0.0",
            },
        }
    }

    #[test]
    fn a_caller_is_the_same_line_on_each_of_its_connections() {
        let tallies = Tallies::default();
        let now = Instant::now();
        tallies.line(&line("shop")).count(now);
        tallies.line(&line("shop")).count(now);
        tallies.line(&line("till")).count(now);
        let mut seen: Vec<_> = tallies
            .view(now)
            .lines
            .into_iter()
            .map(|l| (l.caller, l.calls))
            .collect();
        seen.sort();
        assert_eq!(seen, [("shop".to_owned(), 2), ("till".to_owned(), 1)]);
    }

    #[test]
    fn callers_that_make_up_names_do_not_fill_the_memory() {
        let tallies = Tallies::default();
        let now = Instant::now();
        for number in 0..LINES_MAX + 10 {
            tallies.line(&line(&format!("app-{number}"))).count(now);
        }
        tallies.line(&line(&"x".repeat(NAME_MAX + 1))).count(now);
        let view = tallies.view(now);
        assert_eq!((view.lines.len(), view.others), (LINES_MAX, 11));
        tallies.clean(now + KEPT_FOR);
        assert!(tallies.view(now).lines.is_empty(), "nobody calls any more");
    }

    #[test]
    fn a_hop_goes_on_counting_when_its_route_is_joined_anew() {
        let tallies = Tallies::default();
        let now = Instant::now();
        let endpoint = Arc::new(Endpoint {
            addr: ([10, 0, 0, 5], 20880).into(),
            protocol: "dubbo".into(),
            weight: 100,
            started_ms: 0,
            warmup_ms: 0,
            warmup_weight: None,
            serializations: vec![],
            application: "orders".into(),
            framework: "".into(),
            is_taken_over: false,
        });
        tallies
            .hop(Side::Egress, "dubbo", "demo.Echo", Some(&endpoint))
            .count(now);
        let again = tallies.hop(Side::Egress, "dubbo", "demo.Echo", Some(&endpoint));
        again.count(now);
        again.fail();
        let hops = tallies.view(now).hops;
        assert_eq!((hops.len(), hops[0].calls, hops[0].failed), (1, 2, 1));
    }
}
