// SPDX-License-Identifier: Apache-2.0
//! Whether an instance is worth trying, told from what its connections do, never from what an application answers.
//!
//! One that gives reason for doubt (its connection broke, it owes answers and is silent) gets no calls while it is asked for a
//! sign of life; any byte is one, so an instance that is only slow is back after a round trip. One that gives none, or that
//! cannot be reached, is left alone for a while, longer each time, and is asked again before it gets calls.
//!
//! Not here: who is asked when too many are out (`LocalRoute::pick`), and the asking (`connection/doubt.rs`, `Pools::tend`).

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use super::super::config::Config;
use crate::metrics::call::Ejected;

/// What is known of one instance.
#[derive(Debug, Default)]
pub(in crate::call) struct Health {
    absence: Cell<Option<Absence>>,
    /// Times it was left alone, until it has done well for as long as the last time was.
    failures: Cell<u32>,
    back_since: Cell<Option<Instant>>,
    /// It has answered a heartbeat once, so silence is no habit of its.
    answers_heartbeats: Cell<bool>,
    /// A new connection was not answered in time, and none before.
    proves_nothing: Cell<bool>,
}

/// Why it gets no calls, and until when.
#[derive(Clone, Copy, Debug)]
struct Absence {
    phase: Phase,
    cause: Ejected,
    /// A connection is not enough to come back: something must be heard.
    needs_sign: bool,
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Asked for a sign of life; left alone if it gives none in time.
    Doubted,
    /// Left alone; then asked again, or back if it only refused calls.
    Out,
    /// Asked again.
    Asked,
    /// It never answered a heartbeat, so it gets one call now and then to show what it does.
    Trial,
}

/// What is to be done about an instance now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::call) enum Due {
    Nothing,
    /// It gave no sign of life and is left alone from now on.
    Ejected(Ejected),
    /// A connection should be made, and something be heard on it.
    Ask,
}

impl Health {
    /// Leaves the instance alone from now on; true if calls went there until now, or would have again soon.
    pub(in crate::call) fn eject(&self, config: &Config, cause: Ejected, now: Instant) -> bool {
        let before = self.absence.get();
        let was_out = before.is_some_and(|a| a.phase != Phase::Doubted && a.is_out(now));
        if was_out && cause == Ejected::NothingSent {
            return false;
        }
        if self.has_done_well(config, now) {
            self.failures.set(0);
        }
        let time = pause(config, self.failures.get());
        self.failures.set(self.failures.get().saturating_add(1));
        let wanted_sign = before.is_some_and(|a| a.needs_sign);
        self.absence.set(Some(Absence {
            phase: Phase::Out,
            cause,
            needs_sign: match cause {
                Ejected::Lost | Ejected::Silent => true,
                Ejected::Unreachable => wanted_sign,
                // An answer is a sign.
                Ejected::NothingSent => false,
            },
            until: now + spread(time),
        }));
        !was_out
    }

    /// It refused a call, being busy or about to end: the next ones go elsewhere, for a moment or until it answers one.
    pub(in crate::call) fn rest(&self, now: Instant) {
        if self.absence.get().is_none() {
            self.absence.set(Some(Absence {
                phase: Phase::Out,
                cause: Ejected::NothingSent,
                needs_sign: false,
                until: now + REST,
            }));
        }
    }

    /// Asks for a sign of life before more calls go there; true if it was not in doubt before. The caller asks.
    pub(in crate::call) fn doubt(&self, config: &Config, cause: Ejected, now: Instant) -> bool {
        let is_new = self.absence.get().is_none();
        if is_new {
            self.absence.set(Some(Absence {
                phase: Phase::Doubted,
                cause,
                needs_sign: true,
                until: now + config.doubt_after.0.saturating_mul(SIGN_WITHIN),
            }));
        }
        is_new
    }

    /// It answered a call.
    #[inline]
    pub(in crate::call) fn recover(&self, config: &Config, now: Instant) {
        if self.absence.get().is_some() {
            self.come_back(now);
        } else if self.failures.get() > 0 && self.has_done_well(config, now) {
            self.failures.set(0);
        }
    }

    /// A connection was made: enough to come back if that was all that failed.
    pub(in crate::call) fn connected(&self, now: Instant) {
        let only_unreachable = |a: Absence| a.cause == Ejected::Unreachable && !a.needs_sign;
        if self.absence.get().is_some_and(only_unreachable) {
            self.come_back(now);
        }
    }

    /// Something came from it: it lives. One that refuses calls does so alive.
    #[inline]
    pub(in crate::call) fn heard(&self, now: Instant) {
        if self.absence.get().is_some_and(|a| a.cause != Ejected::NothingSent) {
            self.come_back(now);
        }
    }

    /// It answered a heartbeat.
    pub(in crate::call) fn answers_heartbeats(&self) {
        self.answers_heartbeats.set(true);
    }

    /// Whether it ever answered one.
    pub(in crate::call) fn is_known_to_answer(&self) -> bool {
        self.answers_heartbeats.get()
    }

    /// A heartbeat on a new connection was not answered in time.
    pub(in crate::call) fn has_proved_nothing(&self) {
        self.proves_nothing.set(true);
    }

    /// Whether waiting for an answer on a new connection is in vain.
    pub(in crate::call) fn proves_nothing(&self) -> bool {
        self.proves_nothing.get() && !self.answers_heartbeats.get()
    }

    /// Whether it is to be left alone.
    #[inline]
    pub(in crate::call) fn is_out(&self, now: Instant) -> bool {
        self.absence.get().is_some_and(|a| a.is_out(now))
    }

    /// Whether no connection can be made: a call that is sent there surely goes nowhere.
    pub(in crate::call) fn is_unreachable(&self) -> bool {
        self.absence.get().is_some_and(|a| a.cause == Ejected::Unreachable)
    }

    /// Whether something must be heard before calls go there.
    pub(in crate::call) fn needs_sign(&self) -> bool {
        self.absence.get().is_some_and(|a| a.needs_sign)
    }

    /// A call goes there; the only one for a while if it is on trial.
    #[inline]
    pub(in crate::call) fn picked(&self, config: &Config, now: Instant) {
        if let Some(absence) = self.absence.get()
            && absence.phase == Phase::Trial
        {
            let until = now + spread(pause(config, self.failures.get()));
            self.absence.set(Some(Absence { until, ..absence }));
        }
    }

    /// What is to be done now. Call about once a second.
    pub(in crate::call) fn tend(&self, config: &Config, now: Instant) -> Due {
        let Some(absence) = self.absence.get().filter(|a| now >= a.until) else {
            return Due::Nothing;
        };
        match absence.phase {
            Phase::Doubted => {
                self.eject(config, absence.cause, now);
                Due::Ejected(absence.cause)
            }
            Phase::Out if absence.cause == Ejected::NothingSent => {
                self.come_back(now);
                Due::Nothing
            }
            Phase::Out => self.ask(config, absence, now),
            // Connecting may take longer than an answer.
            Phase::Asked if absence.cause == Ejected::Unreachable => self.ask(config, absence, now),
            Phase::Asked if self.answers_heartbeats.get() => {
                self.eject(config, absence.cause, now);
                Due::Nothing
            }
            Phase::Asked => {
                let phase = Phase::Trial;
                self.absence.set(Some(Absence { phase, ..absence }));
                Due::Nothing
            }
            Phase::Trial => Due::Nothing,
        }
    }

    fn ask(&self, config: &Config, absence: Absence, now: Instant) -> Due {
        self.absence.set(Some(Absence {
            phase: Phase::Asked,
            until: now + config.connect_timeout.0 + config.doubt_after.0.saturating_mul(SIGN_WITHIN),
            ..absence
        }));
        Due::Ask
    }

    fn come_back(&self, now: Instant) {
        self.absence.set(None);
        self.back_since.set(Some(now));
    }

    /// Whether it has been there for as long as it was left alone last.
    fn has_done_well(&self, config: &Config, now: Instant) -> bool {
        let Some(last) = self.failures.get().checked_sub(1) else {
            return true;
        };
        let is_back = self.absence.get().is_none_or(|a| a.phase == Phase::Doubted);
        let there = self.back_since.get().map(|since| now.saturating_duration_since(since));
        is_back && there.is_some_and(|there| there >= pause(config, last))
    }
}

impl Absence {
    fn is_out(&self, now: Instant) -> bool {
        let ends_by_time = self.phase == Phase::Trial || self.cause == Ejected::NothingSent;
        !ends_by_time || now < self.until
    }
}

/// SOFARPC closes its port within as much of shutting its threads down; a busy pool has a free thread again in less.
const REST: Duration = Duration::from_millis(100);

/// Times `doubt_after` in which a sign of life must come: calls go elsewhere from the first, so there is no hurry.
const SIGN_WITHIN: u32 = 3;

/// How long it is left alone after so many times.
fn pause(config: &Config, failures: u32) -> Duration {
    config
        .eject_min
        .0
        .saturating_mul(1 << failures.min(16))
        .min(config.eject_max.0)
}

/// A tenth more or less, so that many Remoras do not come back to an instance at the same moment.
fn spread(time: Duration) -> Duration {
    time.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests;
