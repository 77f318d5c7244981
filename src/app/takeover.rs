// SPDX-License-Identifier: Apache-2.0
//! The takeover policy for operators: what it does, rolled back and forward, and when Remora may be taken away.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::SharedCall;
use crate::admin::{DecisionsView, RuleUseView, TakeoverView};
use crate::discovery::{Catalog, RuleUse};
use crate::lifecycle::Readiness;
use crate::metrics::CallMetrics;
use crate::metrics::call::Side;

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
    pub(super) metrics: CallMetrics,
    pub(super) readiness: Readiness,
    pub(super) last: Mutex<LastCall>,
}

/// How many calls there were when somebody looked, and since when there were no more.
#[derive(Default)]
pub(super) struct LastCall {
    calls: u64,
    since: Option<Instant>,
}

impl Takeover {
    /// Gives everything back, or takes it over again.
    pub(super) fn roll_back(&self, is_rolled_back: bool) -> Result<bool, String> {
        let done = self.catalog.roll_back(is_rolled_back);
        note(&self.readiness, &self.catalog);
        done.map_err(|error| format!("not written down, so nothing changes: {error}"))
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
            ..TakeoverView::default()
        };
        let withdrawing = self.catalog.withdrawals();
        if let Some(calls) = &calls {
            view.egress_connections = calls.egress;
            view.ingress_connections = calls.ingress;
            view.in_flight = calls.in_flight;
        }
        let mut wait = |is: bool, what: String| {
            if is {
                view.waits_for.push(what);
            }
        };
        let is_leaving = self.readiness.is_leaving();
        wait(
            is_leaving,
            "all that led here was withdrawn for good; what is left here ends with remora stop".to_owned(),
        );
        wait(
            !policy.is_off && !is_leaving,
            "the takeover is in force; remora rollback gives everything back".to_owned(),
        );
        wait(
            policy.leads_here > 0,
            format!("{} publications lead here", policy.leads_here),
        );
        wait(
            withdrawing > 0,
            format!("{withdrawing} publications are still to be withdrawn"),
        );
        match &calls {
            None => wait(true, "the call path does not say who calls through here".to_owned()),
            Some(calls) => {
                // A client may keep a connection that it has no use for, as SOFARPC's do.
                let is_in_use = !self.is_quiet();
                wait(
                    is_in_use && calls.egress > 0,
                    format!("{} connections of applications here at the egress", calls.egress),
                );
                wait(
                    is_in_use && calls.ingress > 0,
                    format!("{} connections of consumers at the ingress", calls.ingress),
                );
                wait(calls.in_flight > 0, format!("{} calls in flight", calls.in_flight));
            }
        }
        view.out_of_the_way = view.waits_for.is_empty();
        view.applications = policy.applications;
        view.configured = policy.configured as u64;
        view.may_be_removed = view.before_removal().is_empty();
        view
    }

    /// Whether no call came through here for a while, as far as somebody looked.
    fn is_quiet(&self) -> bool {
        let outcomes = self.metrics.totals().into_values().flatten();
        let calls: u64 = outcomes.map(|(_, number)| number).sum();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.calls != calls {
            last.since = None;
        }
        last.calls = calls;
        now.duration_since(*last.since.get_or_insert(now)) >= QUIET
    }

    /// Who calls through here; `None` if a worker does not answer.
    async fn calls(&self) -> Option<Calls> {
        let call = self.call.lock().await;
        let Some(call) = &*call else {
            return Some(Calls::default());
        };
        let all = timeout(ANSWER_TIMEOUT, call.connections()).await.ok()?;
        let mut calls = Calls::default();
        for connection in all.iter().filter(|c| c.direction == "downstream") {
            match connection.side {
                Side::Egress => calls.egress += 1,
                Side::Ingress => calls.ingress += 1,
            }
            calls.in_flight += connection.in_flight as u64;
        }
        Some(calls)
    }
}

/// Connections that came to us.
#[derive(Default)]
struct Calls {
    egress: u64,
    ingress: u64,
    in_flight: u64,
}

fn rule(known: &RuleUse) -> RuleUseView {
    RuleUseView {
        rule: known.rule.clone(),
        names: known.names as u64,
    }
}

/// Then connections that are open are not in use. Applications that call less often have their registry's list for it.
const QUIET: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
