// SPDX-License-Identifier: Apache-2.0
//! A call in flight that changes hands.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::super::connection::Downstream;
use super::super::kept::handover::KeptText;
use super::super::router::LocalRoute;
use super::super::worker::Worker;
use super::{Call, Failure};
use crate::metrics::call::Side;

/// A call that waits for its reply.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::call) struct CallText {
    /// Its id on the upstream connection.
    pub(in crate::call) id: u64,
    /// Number of the connection that it came on.
    pub(in crate::call) from: usize,
    service: String,
    kept: KeptText,
    age_ms: u64,
    left_ms: u64,
    sent_at: u64,
    attempts: u32,
    #[serde(default)]
    excluded: Vec<SocketAddr>,
}

impl Call {
    pub(in crate::call) fn freeze(&self, id: u64, from: usize, now: Instant) -> (CallText, Vec<u8>) {
        let (kept, bytes) = self.kept.freeze();
        let excluded = self.failures().iter().filter(|failure| failure.is_excluded);
        let text = CallText {
            id,
            from,
            service: self.route.label.to_string(),
            kept,
            age_ms: ms(now.saturating_duration_since(self.started)),
            left_ms: ms(self.deadline().saturating_duration_since(now)),
            sent_at: self.sent_at,
            attempts: self.attempts,
            excluded: excluded.map(|failure| failure.addr).collect(),
        };
        (text, bytes)
    }

    /// The call again, with the route that it would get now; it waits for `addr`.
    pub(in crate::call) fn adopt(
        worker: &Worker,
        from: &Rc<Downstream>,
        addr: SocketAddr,
        text: CallText,
        bytes: Vec<u8>,
        now: Instant,
    ) -> Self {
        let kept = worker.kept.adopt(&text.kept, bytes);
        let mut serialization = None;
        let route = kept.frame().and_then(|frame| {
            let keys = from.protocol().route_keys(&frame);
            let route = match from.side() {
                Side::Egress => {
                    let mut router = worker.router.borrow_mut();
                    router.service(&worker.pools, from.protocol(), &keys, &frame)
                }
                Side::Ingress => from.application(worker),
            };
            serialization = keys.ok().and_then(|keys| keys.serialization);
            route.ok()
        });
        let failure = |addr| Failure {
            addr,
            why: "tried before the upgrade".to_owned(),
            is_excluded: true,
        };
        let failures: Vec<Failure> = text.excluded.into_iter().map(failure).collect();
        let started = before(now, text.age_ms);
        let limit_ms = ms(now.saturating_duration_since(started)).saturating_add(text.left_ms);
        Self {
            from: from.clone(),
            route: route.unwrap_or_else(|| {
                let (side, protocol) = (from.side(), from.protocol());
                Rc::new(LocalRoute::to_instance(
                    &text.service,
                    &worker.pools,
                    side,
                    protocol,
                    addr,
                ))
            }),
            kept,
            started,
            limit_ms: u32::try_from(limit_ms).unwrap_or(u32::MAX),
            sent_at: text.sent_at,
            serialization,
            attempts: text.attempts,
            failures: (!failures.is_empty()).then(|| Box::new(failures)),
        }
    }
}

/// Whole milliseconds.
pub(in crate::call) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The moment that many milliseconds ago, as far as the clock goes back.
pub(in crate::call) fn before(now: Instant, age_ms: u64) -> Instant {
    now.checked_sub(Duration::from_millis(age_ms)).unwrap_or(now)
}
