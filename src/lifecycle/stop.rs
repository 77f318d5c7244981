// SPDX-License-Identifier: Apache-2.0
//! How a stop is asked for, and which kind it is.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// What becomes of the publications at a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// This Remora, or a newer one, is back soon (SIGTERM by a supervisor): what applications published in sessions of their
    /// own stays in the registry, so that a restart changes nothing there.
    Restart,
    /// It does not come back (`remora stop`, `POST /drain`): all that leads here is withdrawn first.
    ForGood,
}

impl StopKind {
    /// Log field.
    pub fn label(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::ForGood => "for_good",
        }
    }
}

/// Asks for a stop, and tells that it was asked for. The first one to ask decides its kind.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    asked: CancellationToken,
    kind: Arc<OnceLock<StopKind>>,
}

impl Stop {
    /// Nobody has asked.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks.
    pub fn ask(&self, kind: StopKind) {
        // What was said first stands.
        let _ = self.kind.set(kind);
        self.asked.cancel();
    }

    /// Whether a stop was asked for.
    pub fn is_asked(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Waits until it is asked for. Cancel safe.
    pub async fn asked(&self) -> StopKind {
        self.asked.cancelled().await;
        *self.kind.get_or_init(|| StopKind::Restart)
    }

    /// Cancelled when a stop is asked for. Cancelling it asks for one of kind [`StopKind::Restart`].
    pub fn token(&self) -> &CancellationToken {
        &self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_to_ask_decides() {
        let stop = Stop::new();
        assert!(!stop.is_asked());
        stop.ask(StopKind::ForGood);
        stop.ask(StopKind::Restart);
        assert_eq!(stop.asked().await, StopKind::ForGood);
    }

    #[tokio::test]
    async fn a_part_that_fails_asks_for_a_restart() {
        let stop = Stop::new();
        stop.token().cancel();
        assert_eq!(stop.asked().await, StopKind::Restart);
    }
}
