// SPDX-License-Identifier: Apache-2.0
//! Many calls at a time, timed and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use remora_dubbo::Answer;
use tokio::task::JoinSet;

use super::DemoError;
use super::consumer::{Consumer, NoAnswer};
use super::story::{millis, percentile};

/// Calls in flight.
const AT_A_TIME: u64 = 16;

/// What came of it.
pub(super) struct Load {
    /// Calls without the right answer.
    pub(super) failed: u64,
    sorted: Vec<Duration>,
}

impl Load {
    /// Makes `calls` calls, some at a time.
    pub(super) async fn run(consumer: &Arc<Consumer>, calls: u64) -> Self {
        let left = Arc::new(AtomicU64::new(calls));
        let mut callers = JoinSet::new();
        for _ in 0..AT_A_TIME {
            let (consumer, left) = (Arc::clone(consumer), Arc::clone(&left));
            callers.spawn(async move {
                let (mut times, mut failed) = (Vec::new(), 0);
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                    .is_ok()
                {
                    let (answer, took) = consumer.call("again").await;
                    failed += u64::from(expect_value(answer).is_err());
                    times.push(took);
                }
                (times, failed)
            });
        }
        let (mut sorted, mut failed) = (Vec::new(), 0);
        while let Some(Ok((times, failures))) = callers.join_next().await {
            sorted.extend(times);
            failed += failures;
        }
        sorted.sort_unstable();
        Self {
            failed: failed + calls.saturating_sub(sorted.len() as u64),
            sorted,
        }
    }

    /// `0 failed, p50 0.21 ms, p99 0.60 ms`.
    pub(super) fn text(&self) -> String {
        let [p50, p99] = [50, 99].map(|percent| millis(percentile(&self.sorted, percent)));
        format!("{} failed, p50 {p50}, p99 {p99}", self.failed)
    }
}

/// The value of an answer that has one.
pub(super) fn expect_value(answer: Result<Answer, NoAnswer>) -> Result<String, DemoError> {
    match answer {
        Ok(Answer::Returned(Some(value))) => Ok(value),
        other => Err(DemoError::Unexpected(format!("a value was expected: {other:?}"))),
    }
}
