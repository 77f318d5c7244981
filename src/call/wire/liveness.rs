// SPDX-License-Identifier: Apache-2.0
//! Whether the peer of a wire still lives, reads and sends: what is looked at from time to time.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{CloseReason, Wire};

impl Wire {
    /// Whether it is not read for now.
    pub(in crate::call) fn is_paused(&self) -> bool {
        self.pauses.get() > 0 || self.half.get().waits()
    }

    /// Whether something is still being written, with progress within `limit`.
    pub(in crate::call) fn is_writing(&self, limit: Duration, now: Instant) -> bool {
        let is_stuck = |since: Instant| now.saturating_duration_since(since) >= limit;
        self.queued() > 0 && !self.stalled_since.get().is_some_and(is_stuck)
    }

    /// Probes a peer that was silent for long, closes the wire if it answers no probe; call about once a second.
    pub(in crate::call) fn keep_alive(self: &Rc<Self>, now: Instant, heartbeat: impl FnOnce() -> Option<Bytes>) {
        let config = self.io.config();
        let silence = now.saturating_duration_since(self.last_read.get());
        let since_probe = now.saturating_duration_since(self.probed_at.get());
        let probes = self.probes.get();
        // While we do not read, silence is not the peer's fault.
        let is_fine = self.is_paused()
            || silence < config.heartbeat_interval.0
            || (probes > 0 && since_probe < config.heartbeat_timeout.0);
        if is_fine {
            return;
        }
        if probes >= config.heartbeat_misses {
            self.close(CloseReason::HeartbeatMissed);
        } else if let Some(heartbeat) = heartbeat() {
            self.probes.set(probes + 1);
            self.probed_at.set(now);
            self.send_bytes(&heartbeat);
        }
    }

    /// Closes a wire whose peer takes nothing, or that stopped in the middle of a frame; call about once a second.
    pub(in crate::call) fn check_stalls(&self, now: Instant) {
        let older = |since: Option<Instant>, limit: Duration| {
            since.is_some_and(|since| now.saturating_duration_since(since) > limit)
        };
        if older(self.stalled_since.get(), self.io.config().write_stall.0) {
            self.close(CloseReason::WriteStalled);
        } else if !self.is_paused() && older(self.mid_frame_since.get(), self.io.config().frame_stall.0) {
            self.close(CloseReason::FrameStalled);
        }
    }
}
