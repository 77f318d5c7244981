// SPDX-License-Identifier: Apache-2.0
//! Versions of pushes.
//!
//! A client keeps the data of the highest version that it saw, over reconnects and restarts of ours. Real session servers
//! of 6.x push milliseconds since 2019 shifted by 15 bits (`DatumVersionUtil`, seen in `testbed/golden/sofaregistry/`), so
//! ours are made the same way: an application may be moved from a real server to this door and back without a restart.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Gives versions that grow.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last: AtomicI64,
}

impl Clock {
    /// The next version, higher than all before; in a later process too, unless the system's clock was set back.
    pub(super) fn next(&self) -> i64 {
        let now = version_at(SystemTime::now());
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = now.max(last.saturating_add(1));
            match self
                .last
                .compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return next,
                Err(seen) => last = seen,
            }
        }
    }
}

fn version_at(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    // Where real servers count within a millisecond: finer time, so that versions grow over the quickest restart.
    let within_ms = i64::from(since.subsec_micros() % 1_000) << (SEQUENCE_BITS - 10);
    let ms = ms.saturating_sub(EPOCH_MS).max(0);
    ms.saturating_mul(1 << SEQUENCE_BITS).saturating_add(within_ms)
}

/// 2019-01-01 in China.
const EPOCH_MS: i64 = 1_546_272_000_000;
const SEQUENCE_BITS: u32 = 15;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn versions_grow_and_lie_in_the_range_of_real_servers() {
        let clock = Clock::default();
        let first = clock.next();
        assert!(clock.next() > first);
        // Seen in a push of a real server in the golden bytes.
        let seen = 0x001c_fcda_f12c_8001_i64;
        let made = version_at(UNIX_EPOCH + Duration::from_millis(u64::try_from((seen >> 15) + EPOCH_MS).unwrap()));
        assert_eq!(made >> 15, seen >> 15);
        assert!(first > 0x001c_0000_0000_0000, "a version of this decade: {first:x}");
    }

    #[test]
    fn times_that_cannot_be_give_no_panic() {
        assert_eq!(version_at(UNIX_EPOCH), 0);
        assert!(version_at(UNIX_EPOCH + Duration::from_secs(u64::MAX / 4)) > 0);
    }
}
