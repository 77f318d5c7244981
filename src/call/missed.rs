// SPDX-License-Identifier: Apache-2.0
//! Time in which a worker's thread did not run although it should have: the machine is busy, the container is throttled, the
//! process was stopped. What a peer said meanwhile is not read yet, and what was to be sent may not be sent; so the silence of
//! that time is ours, not the peer's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// When the thread did not run, lately.
#[derive(Debug, Default)]
pub(super) struct Missed(RefCell<VecDeque<(Instant, Instant)>>);

impl Missed {
    /// The thread was to run at `due` and does at `now`; whether that is late.
    pub(super) fn woke(&self, due: Instant, now: Instant) -> bool {
        let is_late = now.saturating_duration_since(due) >= LATE;
        if is_late {
            let mut spans = self.0.borrow_mut();
            if spans.len() == SPANS_MAX {
                spans.pop_front();
            }
            spans.push_back((due, now));
        }
        is_late
    }

    /// How much time was missed since then.
    pub(super) fn since(&self, since: Instant) -> Duration {
        let spans = self.0.borrow();
        let within = spans.iter().rev().take_while(|(_, end)| *end > since);
        within
            .map(|(begin, end)| end.saturating_duration_since(since.max(*begin)))
            .sum()
    }
}

/// Delay of a wake-up that says that the thread did not run. An idle system is late by 1 to 2 ms.
const LATE: Duration = Duration::from_millis(20);
/// Spans that are remembered: more than the usual silence before doubt (300 ms) can hold.
const SPANS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_missed_since_then_counts() {
        let ms = Duration::from_millis;
        let (missed, begin) = (Missed::default(), Instant::now());
        assert!(!missed.woke(begin, begin + ms(5)), "a timer is never exact");
        assert!(missed.woke(begin + ms(100), begin + ms(400)));
        assert!(missed.woke(begin + ms(500), begin + ms(600)));
        assert_eq!(missed.since(begin), ms(400));
        assert_eq!(
            missed.since(begin + ms(300)),
            ms(200),
            "the rest of the first one, and the second"
        );
        assert_eq!(missed.since(begin + ms(400)), ms(100));
        assert_eq!(missed.since(begin + ms(600)), ms(0));
    }

    #[test]
    fn a_machine_that_is_late_for_hours_takes_no_memory() {
        let ms = Duration::from_millis;
        let (missed, begin) = (Missed::default(), Instant::now());
        for n in 0..1000 {
            missed.woke(begin + ms(n * 100), begin + ms(n * 100 + 50));
        }
        assert_eq!(missed.0.borrow().len(), SPANS_MAX);
        assert_eq!(missed.since(begin + ms(99_800)), ms(100));
    }
}
