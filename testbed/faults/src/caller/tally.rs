// SPDX-License-Identifier: Apache-2.0
//! How calls ended, by kind and time.

use std::collections::BTreeMap;

use remora_bench::load::{Latency, unix_ms};
use serde_json::{Value, json};

/// How a call ended that did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// No connection could be made.
    NoConnection,
    /// The connection was lost with the call in flight.
    Lost,
    /// No answer in time.
    Timeout,
    /// A proxy answered in the provider's place.
    ProxyError,
    /// An error that was not asked for, and of no proxy.
    OtherError,
    /// An answer that is not this call's.
    WrongAnswer,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::NoConnection => "no_connection",
            Self::Lost => "lost",
            Self::Timeout => "timeout",
            Self::ProxyError => "proxy_error",
            Self::OtherError => "other_error",
            Self::WrongAnswer => "wrong_answer",
        }
    }
}

/// Counts since the start, and since the last second.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) ok: u64,
    /// Errors that were asked for.
    pub(super) app_errors: u64,
    /// Answers to calls that had been given up.
    pub(super) late: u64,
    /// Answers to nothing.
    pub(super) unknown: u64,
    pub(super) reconnects: u64,
    pub(super) latency: Latency,
    faults: BTreeMap<Fault, u64>,
    words: BTreeMap<String, u64>,
    ranges: Vec<Range>,
    second: Second,
}

#[derive(Debug, Default)]
struct Second {
    ok: u64,
    failed: u64,
    latency: Latency,
}

/// Failures with less than [`GAP_MS`] between them.
#[derive(Debug)]
struct Range {
    first_ms: u64,
    last_ms: u64,
    failed: u64,
}

impl Tally {
    /// A call that ended well.
    pub(super) fn ok(&mut self, nanos: u64, is_app_error: bool) {
        match is_app_error {
            true => self.app_errors += 1,
            false => self.ok += 1,
        }
        self.second.ok += 1;
        self.latency.record(nanos);
        self.second.latency.record(nanos);
    }

    /// One that did not; `words` are what was said.
    pub(super) fn fault(&mut self, fault: Fault, words: &str) {
        *self.faults.entry(fault).or_default() += 1;
        self.second.failed += 1;
        let words = format!("{}: {words}", fault.name());
        if self.words.len() < WORDS_MAX || self.words.contains_key(&words) {
            *self.words.entry(words).or_default() += 1;
        }
        let now = unix_ms();
        let is_room = self.ranges.len() < RANGES_MAX;
        match self.ranges.last_mut() {
            // The last one takes what there is no room for.
            Some(range) if now < range.last_ms + GAP_MS || !is_room => {
                range.last_ms = now;
                range.failed += 1;
            }
            _ => self.ranges.push(Range {
                first_ms: now,
                last_ms: now,
                failed: 1,
            }),
        }
    }

    /// All calls that ended.
    pub(super) fn calls(&self) -> u64 {
        self.ok + self.app_errors + self.failed()
    }

    fn failed(&self) -> u64 {
        self.faults.values().sum()
    }

    /// What happened since the last one.
    pub(super) fn second(&mut self) -> Value {
        let second = std::mem::take(&mut self.second);
        json!({"event": "second", "ms": unix_ms(), "ok": second.ok, "failed": second.failed, "latency_us": second.latency.json()})
    }

    /// All of it.
    pub(super) fn json(&self, seconds: f64) -> Value {
        let faults: Value = self
            .faults
            .iter()
            .map(|(fault, count)| (fault.name().to_owned(), json!(count)))
            .collect();
        let ranges = self
            .ranges
            .iter()
            .map(|range| json!({"first_ms": range.first_ms, "last_ms": range.last_ms, "failed": range.failed}));
        json!({
            "event": "result", "calls": self.calls(), "ok": self.ok, "app_errors": self.app_errors, "failed": self.failed(),
            "faults": faults, "wrong": self.faults.get(&Fault::WrongAnswer).copied().unwrap_or_default() + self.unknown,
            "unknown": self.unknown, "late": self.late, "reconnects": self.reconnects, "seconds": seconds,
            "ranges": ranges.collect::<Value>(), "words": self.words, "latency_us": self.latency.json(),
        })
    }
}

const GAP_MS: u64 = 1_000;
const RANGES_MAX: usize = 200;
const WORDS_MAX: usize = 24;
