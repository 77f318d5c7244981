// SPDX-License-Identifier: Apache-2.0
//! Out of the registries before out of the world: what leads here is withdrawn, consumers get time to hear of it, and the
//! calls that they have made come to their end.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::SharedCall;
use crate::admin::LeftView;
use crate::discovery::Catalog;
use crate::lifecycle::{self, Readiness, StopKind};
use crate::metrics::call::Side;

/// Takes Remora out of the registries.
pub(super) struct Leave {
    pub(super) catalog: Arc<Catalog>,
    pub(super) call: SharedCall,
    pub(super) readiness: Readiness,
    pub(super) config: Arc<ArcSwap<lifecycle::Config>>,
    /// Held while something is withdrawn; until when all is served on, so that consumers hear of it.
    pub(super) told: Mutex<Option<Instant>>,
    /// Of the end of the process.
    pub(super) outcome: watch::Sender<Option<LeftView>>,
}

impl Leave {
    /// The way out of a process that ends.
    pub(super) async fn end(&self, kind: StopKind) {
        let withdrawn = self.withdraw(kind).await as u64;
        let left = match kind {
            // What stands in applications' sessions stays there.
            StopKind::Restart => 0,
            StopKind::ForGood => self.catalog.policy_view().leads_here as u64,
        };
        if left > 0 {
            warn!(withdrawn, left, "entries still lead here: their registry is away");
        }
        self.outcome.send_replace(Some(LeftView {
            withdrawn,
            left,
            in_flight: 0,
        }));
        self.pause().await;
    }

    /// What came of the withdrawals of the end, once that is known.
    pub(super) async fn outcome(&self) -> Option<LeftView> {
        let mut outcome = self.outcome.subscribe();
        let known = outcome.wait_for(Option::is_some).await.ok()?;
        *known
    }

    /// Withdraws what this kind of stop withdraws; gives how much it was. Again it does what is left to do.
    async fn withdraw(&self, kind: StopKind) -> usize {
        let limit = WITHDRAW_TIMEOUT.min(self.config.load().drain_timeout.0);
        let mut told = self.told.lock().await;
        let kept = self.catalog.withdraw_kept(limit);
        let withdrawn = match kind {
            StopKind::Restart => kept.await,
            StopKind::ForGood => {
                let (kept, own) = tokio::join!(kept, self.catalog.withdraw_own(limit));
                kept + own
            }
        };
        if withdrawn > 0 {
            let pause = self.config.load().withdraw_pause.0;
            info!(withdrawn, pause = ?pause, "withdrawn; served on until consumers have heard of it");
            *told = Some(Instant::now() + pause);
        }
        withdrawn
    }

    /// Serves on for a while if anything was withdrawn.
    async fn pause(&self) {
        let until = *self.told.lock().await;
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }

    /// The whole way out, while everything goes on being served: for whoever ends an application that is called through here.
    pub(super) async fn go(&self) -> LeftView {
        self.readiness.leaving();
        let withdrawn = self.withdraw(StopKind::ForGood).await as u64;
        self.pause().await;
        let deadline = Instant::now() + self.config.load().drain_timeout.0;
        let mut in_flight = self.in_flight().await;
        while in_flight > 0 && Instant::now() < deadline {
            sleep_until((Instant::now() + LOOK_EVERY).min(deadline)).await;
            in_flight = self.in_flight().await;
        }
        let left = self.catalog.policy_view().leads_here as u64;
        match left {
            0 => info!(withdrawn, in_flight, "nothing leads here any more"),
            _ => warn!(
                withdrawn,
                left, in_flight, "entries still lead here: their registry is away"
            ),
        }
        LeftView {
            withdrawn,
            left,
            in_flight,
        }
    }

    /// Calls of other hosts that applications here are working on.
    async fn in_flight(&self) -> u64 {
        let call = self.call.lock().await;
        let Some(call) = &*call else { return 0 };
        // A worker that does not answer has calls, as far as we know.
        match timeout(WITHDRAW_TIMEOUT, call.connections()).await {
            Ok(all) => all
                .iter()
                .filter(|c| c.side == Side::Ingress && c.direction == "downstream")
                .map(|c| c.in_flight as u64)
                .sum(),
            Err(_) => 1,
        }
    }
}

/// A registry that is there answers in milliseconds; calls in flight must not wait long for one that hangs.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);
