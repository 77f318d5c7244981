// SPDX-License-Identifier: Apache-2.0
//! Whether an instance is worth trying. One that cannot be reached is left alone for a while, longer each time, and comes
//! back when a connection to it was made in the background.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use super::super::config::Config;

/// What is known of one instance.
#[derive(Debug, Default)]
pub(in crate::call) struct Health {
    ejection: Cell<Option<Ejection>>,
    /// Failures without a success in between.
    failures: Cell<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Ejection {
    until: Instant,
    cause: Cause,
}

/// Why an instance is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::call) enum Cause {
    /// No connection could be made: out until one is.
    Connect,
    /// The Remora there answered that it could not pass a call on: out for a time.
    NothingSent,
}

impl Health {
    /// Leaves the instance alone from now on; true if it was not already left alone.
    pub(in crate::call) fn eject(&self, config: &Config, cause: Cause, now: Instant) -> bool {
        let was_out = self.is_out(now);
        if was_out && cause == Cause::NothingSent {
            return false;
        }
        let failures = self.failures.get();
        self.failures.set(failures.saturating_add(1));
        let longest = config.eject_max.0;
        let time = config.eject_min.0.saturating_mul(1 << failures.min(16)).min(longest);
        self.ejection.set(Some(Ejection {
            until: now + spread(time),
            cause,
        }));
        !was_out
    }

    /// The instance did what it should.
    pub(in crate::call) fn recover(&self) {
        self.ejection.set(None);
        self.failures.set(0);
    }

    /// A connection was made: enough to come back from a failed one, not from refused calls.
    pub(in crate::call) fn connected(&self) {
        if self.ejection.get().is_some_and(|e| e.cause == Cause::Connect) {
            self.recover();
        }
    }

    /// Whether it is to be left alone.
    pub(in crate::call) fn is_out(&self, now: Instant) -> bool {
        self.ejection
            .get()
            .is_some_and(|e| e.cause == Cause::Connect || now < e.until)
    }

    /// Whether a connection should be tried in the background.
    pub(in crate::call) fn wants_probe(&self, now: Instant) -> bool {
        self.ejection
            .get()
            .is_some_and(|e| e.cause == Cause::Connect && now >= e.until)
    }
}

/// A tenth more or less, so that many Remoras do not come back to an instance at the same moment.
fn spread(time: Duration) -> Duration {
    time.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_instance_is_left_alone_longer_each_time_until_a_connection_is_made() {
        let config = Config::default();
        let health = Health::default();
        let mut now = Instant::now();
        let mut last = Duration::ZERO;
        for _ in 0..4 {
            health.eject(&config, Cause::Connect, now);
            assert!(health.is_out(now) && !health.wants_probe(now));
            let start = now;
            while !health.wants_probe(now) {
                now += Duration::from_millis(10);
            }
            assert!(health.is_out(now), "out until a connection is made");
            assert!(now - start > last);
            last = now - start;
        }
        health.connected();
        assert!(!health.is_out(now));
    }

    #[test]
    fn an_instance_that_refused_a_call_comes_back_by_time() {
        let config = Config::default();
        let health = Health::default();
        let now = Instant::now();
        assert!(health.eject(&config, Cause::NothingSent, now));
        assert!(!health.eject(&config, Cause::NothingSent, now), "counted once");
        health.connected();
        assert!(health.is_out(now));
        assert!(!health.is_out(now + config.eject_min.0 * 2));
    }
}
