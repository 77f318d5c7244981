// SPDX-License-Identifier: Apache-2.0
//! One registration and how far it is.
//!
//! ```text
//!  publish --> waiting --port open--> published --port closed twice--> away --forget_after--> gone
//!                 |                      ^   ^                          |
//!                 |                      |   `--------port open---------'
//!                 `--port open, but its owner or discovery forbids--> refused, tried again
//! ```
//! Pure: what is to be done comes out as a [`Step`]; `book.rs` does it.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use remora_registry::{Instance, ServiceKey, Target};
use tokio::time::Instant;

use crate::application;
use crate::stats::State;
use crate::store::{Kept, KeptRegistration};

/// What tells the registrations of one application apart. Users do not share any: whose process listens on the port is
/// the one that is published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) target: Target,
    pub(crate) service: ServiceKey,
    /// The application's own.
    pub(crate) port: u16,
    /// The user who asked for it; `None` if the system did not tell.
    pub(crate) owner: Option<u32>,
}

impl Key {
    /// All keys beside this one, whoever's: they follow each other.
    pub(crate) fn beside(&self) -> RangeInclusive<Self> {
        let of = |owner| Self { owner, ..self.clone() };
        of(None)..=of(Some(u32::MAX))
    }

    /// Name of the instance at discovery: the same while its parameters change.
    pub(crate) fn instance_id(&self) -> Arc<str> {
        format!("{}@{}", self.service, self.port).into()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on port {}", self.service, self.port)
    }
}

/// What an application wants to be published.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// At the application's own port.
    pub(crate) instance: Instance,
    pub(crate) state: State,
    /// Since when it is in this state.
    pub(crate) since: Instant,
    /// It was read back from disk, and its port has not been looked at twice since.
    pub(crate) is_restored: bool,
    /// Looks in a row that found the port closed.
    closed: u8,
    /// The operator was told why it is not published.
    pub(crate) is_told: bool,
    /// As it stands on disk: made once, since every write of the file needs all of them.
    kept: OnceLock<Kept>,
}

/// What a look at a port found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Somebody accepts there; the user, if the system tells.
    Open(Option<u32>),
    /// Nobody listens.
    Closed,
    /// Neither: the application may be paused, or too busy to accept.
    Unclear,
}

/// What a look leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Stay,
    /// Publish it now.
    Publish,
    /// Its port belongs to another user; withdraw it, do not publish it.
    Forbid(u32),
    /// Withdraw it now.
    Withdraw,
    /// It has waited long for its port: tell the operator.
    Tell,
    /// Forget it.
    Forget,
}

impl Registration {
    pub(crate) fn new(instance: Instance) -> Self {
        Self {
            instance,
            state: State::Waiting,
            since: Instant::now(),
            is_restored: false,
            closed: 0,
            is_told: false,
            kept: OnceLock::new(),
        }
    }

    /// As it is to be kept.
    pub(crate) fn kept(&self, key: &Key) -> Kept {
        let make = || Kept::new(KeptRegistration::of(key, &self.instance));
        self.kept.get_or_init(make).clone()
    }

    /// Its process is a new one: parameter `key` says that it began now.
    pub(crate) fn stamp(&mut self, key: &str) {
        application::stamp(&mut self.instance, key);
        self.kept = OnceLock::new();
    }

    /// Enters a state.
    pub(crate) fn enter(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.since = Instant::now();
            self.is_told = false;
        }
    }

    /// What a look at the port of `owner`'s registration leads to. `is_regular` is false for looks between the regular
    /// ones.
    pub(crate) fn look(&mut self, look: Look, owner: Option<u32>, is_regular: bool, forget_after: Duration) -> Step {
        match (look, self.state) {
            (Look::Open(user), state) => {
                self.closed = 0;
                self.is_restored = false;
                let is_soon = state == State::Refused && self.since.elapsed() < REFUSED_AGAIN;
                match (user, owner) {
                    _ if is_soon => Step::Stay,
                    (Some(user), Some(owner)) if user != owner && owner != 0 => Step::Forbid(user),
                    _ if state == State::Published => Step::Stay,
                    _ => Step::Publish,
                }
            }
            (Look::Closed, State::Published | State::Refused) => {
                self.closed += u8::from(is_regular);
                match self.closed >= CLOSED_LOOKS {
                    true => Step::Withdraw,
                    false => Step::Stay,
                }
            }
            (Look::Closed, State::Waiting | State::Away) => {
                self.closed = self.closed.saturating_add(u8::from(is_regular));
                if self.is_restored && self.closed >= CLOSED_LOOKS {
                    return Step::Withdraw;
                }
                self.waits(forget_after)
            }
            (Look::Unclear, State::Waiting | State::Away) => self.waits(forget_after),
            (Look::Unclear, _) => Step::Stay,
        }
    }

    fn waits(&mut self, forget_after: Duration) -> Step {
        let waited = self.since.elapsed();
        if waited >= forget_after {
            return Step::Forget;
        }
        let is_long = self.state == State::Waiting && !self.is_restored && waited >= TELL_AFTER;
        match is_long && !std::mem::replace(&mut self.is_told, true) {
            true => Step::Tell,
            false => Step::Stay,
        }
    }
}

/// A look may meet the moment in which an application opens its port anew.
const CLOSED_LOOKS: u8 = 2;
/// Some JVMs take half a minute to start; a port that is not open by then is probably another one.
const TELL_AFTER: Duration = Duration::from_secs(30);
/// Between attempts to publish what was refused: ports and owners change seldom.
const REFUSED_AGAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use remora_registry::Params;

    const HOUR: Duration = Duration::from_secs(3600);

    fn registration() -> Registration {
        let instance = Instance {
            id: "a".into(),
            key: Some(ServiceKey::new("demo.Echo", "", "1.0")),
            protocol: "bolt".into(),
            host: "127.0.0.1".into(),
            port: 12200,
            path: "".into(),
            params: Params::default(),
            raw: "".into(),
        };
        Registration::new(instance)
    }

    fn published() -> Registration {
        let mut it = registration();
        assert_eq!(it.look(Look::Open(Some(7)), None, true, HOUR), Step::Publish);
        it.enter(State::Published);
        it
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_its_port_and_tells_the_operator_once_when_that_takes_long() {
        let mut it = registration();
        assert_eq!(it.look(Look::Closed, None, true, HOUR), Step::Stay);
        assert_eq!(it.look(Look::Unclear, None, true, HOUR), Step::Stay);
        tokio::time::advance(TELL_AFTER).await;
        assert_eq!(it.look(Look::Closed, None, true, HOUR), Step::Tell);
        assert_eq!(it.look(Look::Closed, None, true, HOUR), Step::Stay);
        assert_eq!(it.look(Look::Open(None), None, false, HOUR), Step::Publish);
    }

    #[tokio::test(start_paused = true)]
    async fn two_regular_looks_at_a_closed_port_withdraw_it_and_no_pause_does() {
        let mut it = published();
        for _ in 0..100 {
            assert_eq!(it.look(Look::Unclear, None, true, HOUR), Step::Stay);
        }
        assert_eq!(it.look(Look::Closed, None, true, HOUR), Step::Stay);
        assert_eq!(
            it.look(Look::Open(None), None, true, HOUR),
            Step::Stay,
            "it was a moment"
        );
        assert_eq!(it.look(Look::Closed, None, true, HOUR), Step::Stay);
        assert_eq!(
            it.look(Look::Closed, None, false, HOUR),
            Step::Stay,
            "too soon after the last one"
        );
        assert_eq!(it.look(Look::Closed, None, true, HOUR), Step::Withdraw);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_port_brings_it_back_until_it_is_forgotten() {
        let mut it = published();
        it.enter(State::Away);
        assert_eq!(it.look(Look::Closed, None, true, HOUR), Step::Stay);
        assert_eq!(it.look(Look::Open(None), None, true, HOUR), Step::Publish);
        it.enter(State::Published);
        it.enter(State::Away);
        tokio::time::advance(HOUR).await;
        assert_eq!(it.look(Look::Closed, None, true, HOUR), Step::Forget);
    }

    #[tokio::test(start_paused = true)]
    async fn the_port_of_another_user_is_not_published_unless_root_asked() {
        let (ours, theirs) = (Look::Open(Some(1000)), Look::Open(Some(1001)));
        let mut it = registration();
        assert_eq!(it.look(theirs, Some(1000), true, HOUR), Step::Forbid(1001));
        it.enter(State::Refused);
        assert_eq!(it.look(ours, Some(1000), true, HOUR), Step::Stay, "not yet tried again");
        tokio::time::advance(REFUSED_AGAIN).await;
        assert_eq!(it.look(ours, Some(1000), true, HOUR), Step::Publish);
        it.enter(State::Published);
        assert_eq!(
            it.look(theirs, Some(1000), true, HOUR),
            Step::Forbid(1001),
            "another process took it"
        );
        assert_eq!(registration().look(theirs, Some(0), true, HOUR), Step::Publish);
        assert_eq!(
            registration().look(Look::Open(None), Some(9), true, HOUR),
            Step::Publish
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_restored_is_away_after_two_looks_at_a_closed_port() {
        let mut it = registration();
        it.is_restored = true;
        assert_eq!(it.look(Look::Closed, None, true, HOUR), Step::Stay);
        assert_eq!(it.look(Look::Closed, None, true, HOUR), Step::Withdraw);
        let mut open = registration();
        open.is_restored = true;
        assert_eq!(open.look(Look::Open(None), None, true, HOUR), Step::Publish);
    }
}
