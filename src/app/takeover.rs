// SPDX-License-Identifier: Apache-2.0
//! The takeover policy for operators: what it does, rolled back and forward, and when Remora may be taken away.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::SharedCall;
use crate::admin::{DecisionsView, RollBackError, RuleUseView, TakeoverView};
use crate::call::ConnectionView;
use crate::discovery::policy::PolicyView;
use crate::discovery::{Catalog, RuleUse};
use crate::lifecycle::Readiness;
use crate::metrics::call::Side;
use crate::views::counted;

/// Says in `/readyz` when nothing is taken over: whoever wonders looks there.
pub(super) fn note(readiness: &Readiness, catalog: &Catalog) {
    let policy = catalog.policy_view();
    let why = match (policy.mode, policy.rolled_back_since) {
        (_, Some(_)) => Some("rolled back, nothing is taken over; remora rollback --forward ends it"),
        ("observe", None) => Some("mode is observe, nothing is taken over"),
        _ => None,
    };
    readiness.note("takeover", why.map(str::to_owned));
}

/// Asks discovery and the call path.
pub(super) struct Takeover {
    pub(super) catalog: Arc<Catalog>,
    pub(super) call: SharedCall,
    pub(super) readiness: Readiness,
}

impl Takeover {
    /// Gives everything back, or takes it over again. What was withdrawn for good is not taken over again.
    pub(super) fn roll_back(&self, is_rolled_back: bool) -> Result<bool, RollBackError> {
        if !is_rolled_back && self.readiness.is_leaving() {
            return Err(RollBackError::Withdrawn);
        }
        let done = self.catalog.roll_back(is_rolled_back);
        note(&self.readiness, &self.catalog);
        done.map_err(|error| RollBackError::NotWritten {
            cause: error.to_string(),
        })
    }

    pub(super) async fn view(&self) -> TakeoverView {
        let policy = self.catalog.policy_view();
        let calls = self.calls().await;
        let mut view = TakeoverView {
            mode: policy.mode.to_owned(),
            side: policy.side.to_owned(),
            percent: policy.percent,
            rolled_back_since: policy.rolled_back_since,
            allow: policy.allow.iter().map(rule).collect(),
            deny: policy.deny.iter().map(rule).collect(),
            decisions: policy
                .decisions
                .iter()
                .map(|known| DecisionsView {
                    side: known.side.to_owned(),
                    decision: known.decision.to_owned(),
                    count: known.count as u64,
                })
                .collect(),
            leads_here: policy.leads_here as u64,
            unsettled: policy.unsettled as u64,
            passing: policy.passing as u64,
            ..TakeoverView::default()
        };
        if let Some(calls) = &calls {
            view.egress_connections = calls.egress.all;
            view.ingress_connections = calls.ingress.all;
            view.in_flight = calls.in_flight;
        }
        view.withdrawn = self.readiness.is_leaving();
        view.waits_for = waits(&policy, view.withdrawn, calls.as_ref());
        view.forward_waits_for = forward_waits(&policy, view.withdrawn);
        view.out_of_the_way = view.waits_for.is_empty();
        view.applications = policy.applications;
        // What was withdrawn ends no more.
        view.configured = if view.withdrawn { 0 } else { policy.configured as u64 };
        view.may_be_removed = view.before_removal().is_empty();
        view
    }

    /// Who calls through here; `None` if a worker does not answer.
    async fn calls(&self) -> Option<Calls> {
        let call = self.call.lock().await;
        let Some(call) = &*call else {
            return Some(Calls::default());
        };
        let all = timeout(ANSWER_TIMEOUT, call.connections()).await.ok()?;
        Some(Calls::of(&all))
    }
}

/// What stands between a rollback and its end, a line each.
fn waits(policy: &PolicyView, is_withdrawn: bool, calls: Option<&Calls>) -> Vec<String> {
    let mut lines = Vec::new();
    match (policy.is_off, is_withdrawn) {
        (true, _) => {}
        (false, true) => lines.push(
            "what is published here was withdrawn (remora withdraw); remora rollback gives lists their real addresses back, \
             remora stop ends it"
                .to_owned(),
        ),
        (false, false) => {
            lines.push("the takeover is in force; remora rollback gives everything back".to_owned());
        }
    }
    if policy.leads_here > 0 {
        lines.push(format!(
            "{} here",
            counted(policy.leads_here, "publication leads", "publications lead")
        ));
    }
    if policy.passing > 0 {
        lines.push(still_there(policy.passing));
    }
    let Some(calls) = calls else {
        lines.push("the call path does not say who calls through here".to_owned());
        return lines;
    };
    for (number, of) in [
        (calls.egress.in_use, "of applications here at the egress"),
        (calls.ingress.in_use, "of consumers at the ingress"),
    ] {
        if number > 0 {
            let connections = counted(number, "connection", "connections");
            lines.push(format!(
                "{connections} {of} in use: opened or called within the last {QUIET:?}, or with a callback"
            ));
        }
    }
    if calls.in_flight > 0 {
        lines.push(format!("{} in flight", counted(calls.in_flight, "call", "calls")));
    }
    lines
}

/// What stands between the end of a rollback and everything as it is decided, a line each.
fn forward_waits(policy: &PolicyView, is_withdrawn: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if is_withdrawn {
        lines.push(RollBackError::Withdrawn.to_string());
    }
    if policy.rolled_back_since.is_some() {
        lines.push("all is rolled back; remora rollback --forward ends it".to_owned());
    }
    if policy.unsettled > 0 {
        let publications = counted(policy.unsettled, "publication is", "publications are");
        lines.push(format!("{publications} not yet in the registry as decided"));
    }
    if policy.passing > 0 {
        lines.push(still_there(policy.passing));
    }
    lines
}

fn still_there(number: usize) -> String {
    let entries = counted(number, "former entry still stands", "former entries still stand");
    format!("{entries} in the registry")
}

/// Connections that came to us.
#[derive(Debug, Default, PartialEq, Eq)]
struct Calls {
    egress: Came,
    ingress: Came,
    in_flight: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Came {
    all: u64,
    in_use: u64,
}

impl Calls {
    /// A connection is in use while a call is in flight on it, for a while after its last one or after it was opened, and as long
    /// as a callback may come. Open alone it is not: clients keep what they have no use for, as SOFARPC's do.
    fn of(connections: &[ConnectionView]) -> Self {
        let mut calls = Self::default();
        for connection in connections.iter().filter(|c| c.direction == "downstream") {
            let came = match connection.side {
                Side::Egress => &mut calls.egress,
                Side::Ingress => &mut calls.ingress,
            };
            let is_recent = Duration::from_millis(connection.idle_ms) < QUIET;
            came.all += 1;
            came.in_use += u64::from(is_recent || connection.in_flight > 0 || connection.pinned);
            calls.in_flight += connection.in_flight as u64;
        }
        calls
    }
}

fn rule(known: &RuleUse) -> RuleUseView {
    RuleUseView {
        rule: known.rule.clone(),
        names: known.names as u64,
    }
}

/// So long after its last call a connection is in use. An application that calls less often has its registry's list for it.
const QUIET: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn came(side: Side, idle_ms: u64) -> ConnectionView {
        ConnectionView {
            side,
            direction: "downstream",
            protocol: "dubbo",
            peer: "127.0.0.1:1".parse().unwrap(),
            age_ms: 3_600_000,
            // Heartbeats come.
            silent_ms: 0,
            idle_ms,
            in_flight: 0,
            bytes_in: 0,
            bytes_out: 0,
            queued_bytes: 0,
            pinned: false,
            going_away: false,
            worker: 0,
        }
    }

    #[test]
    fn a_connection_is_in_use_by_its_calls_and_not_by_being_open() {
        let silent = came(Side::Egress, 10_000);
        let called = came(Side::Egress, 9_999);
        let busy = ConnectionView {
            in_flight: 2,
            ..came(Side::Ingress, 60_000)
        };
        let with_callback = ConnectionView {
            pinned: true,
            ..came(Side::Ingress, 60_000)
        };
        let ours = ConnectionView {
            direction: "upstream",
            ..busy.clone()
        };
        let calls = Calls::of(&[silent.clone(), called, busy, with_callback, ours]);
        assert_eq!(calls.egress, Came { all: 2, in_use: 1 });
        assert_eq!(calls.ingress, Came { all: 2, in_use: 2 });
        assert_eq!(calls.in_flight, 2);
        let calls = Calls::of(&[silent]);
        assert_eq!((calls.egress.all, calls.egress.in_use), (1, 0));
    }
}
