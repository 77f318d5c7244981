// SPDX-License-Identifier: Apache-2.0
//! Why connections are closed.

use crate::metrics::call::CLOSE_REASONS;

/// Why a connection was closed; a metric label and a log field. The labels are `CLOSE_REASONS`, in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The peer closed it.
    PeerClosed,
    /// A read or write failed.
    Broken,
    /// No connection came about.
    ConnectFailed,
    /// The first bytes were not of the protocol.
    NotTheProtocol,
    /// A later frame was malformed.
    BadFrame,
    /// The peer took nothing for too long.
    WriteStalled,
    /// The peer took too little: too much was waiting.
    WriteCap,
    /// A frame began and did not go on.
    FrameStalled,
    /// A frame that was not whole, when all of them took too much memory.
    HalfRead,
    /// The peer answered no probe.
    HeartbeatMissed,
    /// No call for a long time.
    Idle,
    /// It had said nothing yet, and another caller needed its place.
    MadeWay,
    /// Its instance is gone from the routes, or its owner is.
    Retired,
    /// Remora stops.
    Drained,
}

impl CloseReason {
    pub(super) fn index(self) -> usize {
        self as usize
    }

    pub(super) fn label(self) -> &'static str {
        CLOSE_REASONS.get(self.index()).copied().unwrap_or("other")
    }
}
