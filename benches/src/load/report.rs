// SPDX-License-Identifier: Apache-2.0
//! What a run came to, as one line of JSON.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::proc::Watched;

/// Times in nanoseconds, three significant digits, up to a minute.
#[derive(Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(100, 60_000_000_000, 3).expect("constant bounds that it takes"))
    }
}

impl Latency {
    /// Counts one.
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// In microseconds.
    pub fn json(&self) -> Value {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let at = |quantile: f64| micros(self.0.value_at_quantile(quantile));
        json!({
            "mean": (self.0.mean() / 1e3 * 1e3).round() / 1e3, "p50": at(0.5), "p90": at(0.9), "p99": at(0.99),
            "p999": at(0.999), "max": micros(self.0.max()),
        })
    }
}

/// Errors by kind, with when they were seen and what the first ones said.
#[derive(Debug, Default)]
pub struct Errors {
    kinds: BTreeMap<String, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    count: u64,
    first_ms: u64,
    last_ms: u64,
    words: BTreeMap<String, Told>,
}

/// How often something was said, and in which tenths of a second since 1970.
#[derive(Debug, Default)]
struct Told {
    count: u64,
    tenths: BTreeMap<u64, u64>,
}

impl Errors {
    /// Counts one; `words` is what it said.
    pub fn count(&mut self, kind: &str, words: String) {
        let now = unix_ms();
        let seen = match self.kinds.get_mut(kind) {
            Some(seen) => seen,
            None => self.kinds.entry(kind.to_owned()).or_insert(Seen {
                first_ms: now,
                ..Seen::default()
            }),
        };
        seen.count += 1;
        seen.last_ms = now;
        if seen.words.len() < WORDS_MAX || seen.words.contains_key(&words) {
            let told = seen.words.entry(words).or_default();
            told.count += 1;
            let tenth = now / 100;
            if told.tenths.len() < TENTHS_MAX || told.tenths.contains_key(&tenth) {
                *told.tenths.entry(tenth).or_default() += 1;
            }
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.kinds.values().map(|seen| seen.count).sum()
    }

    fn json(&self) -> Value {
        let kinds = self.kinds.iter().map(|(kind, seen)| {
            let words = seen.words.iter().map(|(words, told)| {
                let tenths = told.tenths.iter().map(|(tenth, count)| json!([tenth * 100, count]));
                let told = json!({"count": told.count, "at_ms": tenths.collect::<Vec<_>>()});
                (words.clone(), told)
            });
            let value = json!({
                "count": seen.count, "first_ms": seen.first_ms, "last_ms": seen.last_ms, "words": words.collect::<Value>(),
            });
            (kind.clone(), value)
        });
        kinds.collect()
    }
}

/// A measured run.
#[derive(Debug, Default)]
pub struct Report {
    /// Calls answered well in the measured time.
    pub calls: u64,
    /// The measured time.
    pub measured: Duration,
    /// From the call's due time, or its sending in a closed loop, to its reply.
    pub latency: Latency,
    /// Open loop: how late calls were sent.
    pub late: Latency,
    /// Of the whole run.
    pub errors: Errors,
    /// Connections made again.
    pub reconnects: u64,
    /// CPU time in the measured time, and resident memory at its end in KiB, by watched name.
    pub watched: Vec<(String, Duration, u64)>,
    /// CPU time of this program in the measured time.
    pub own_cpu: Duration,
}

impl Report {
    /// Takes the figures of the watched processes; `before` is what they had used when the measurement began.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn watch(&mut self, watched: &[Watched], before: &[Duration]) -> anyhow::Result<()> {
        for (one, before) in watched.iter().zip(before) {
            let cpu = one.cpu()?.saturating_sub(*before);
            self.watched.push((one.name.clone(), cpu, one.rss_kib()?));
        }
        Ok(())
    }

    /// The line.
    pub fn json(&self) -> Value {
        let seconds = self.measured.as_secs_f64();
        let per_call = |cpu: Duration| cpu.as_secs_f64() * 1e6 / self.calls.max(1) as f64;
        let watched = self.watched.iter().map(|(name, cpu, rss)| {
            let value = json!({
                "cpu_us_per_call": per_call(*cpu), "cpu": cpu.as_secs_f64() / seconds.max(1e-9), "rss_kib": rss,
            });
            (name.clone(), value)
        });
        json!({
            "event": "result", "calls": self.calls, "seconds": seconds, "rate": self.calls as f64 / seconds.max(1e-9),
            "latency_us": self.latency.json(), "late_us": self.late.json(), "errors": self.errors.json(),
            "error_count": self.errors.total(), "reconnects": self.reconnects,
            "own_cpu": self.own_cpu.as_secs_f64() / seconds.max(1e-9), "watched": watched.collect::<Value>(),
        })
    }
}

/// Milliseconds since 1970, to be compared with what other programs did.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Different texts kept of one kind.
const WORDS_MAX: usize = 8;
/// Tenths of a second kept of one text.
const TENTHS_MAX: usize = 64;
