// SPDX-License-Identifier: Apache-2.0
//! What is taken over and what is left as it is: `mode`, `takeover`, and the operator's rollback. The one place that decides.
//!
//! A change is heard of in three ways: lists that are followed are shown again (`catalog.rs` sends them once more), what
//! Remora keeps in a registry itself is decided again here, and facades whose applications publish in sessions of their own
//! are told by a number (`Discovery::policy`) and ask again. Ingress and egress serve whoever still calls through them,
//! whatever is decided: so no call fails.

mod apply;
mod config;
mod rollback;
mod share;
mod view;

use std::sync::Arc;

use remora_registry::{ServiceKey, Why};

pub(super) use self::apply::{Steps, of_instance};
pub use self::config::{Config, Mode, Pattern, Rule, Sides};
use self::rollback::Rollback;
pub(super) use self::view::leading;
pub use self::view::{CONFIGURATION, PolicyView, RuleUse, SideCount};

/// Which side of a call is decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// What an application here publishes.
    Provider,
    /// What an application here is shown.
    Consumer,
}

impl Side {
    /// Metric label, word in `status`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Consumer => "consumer",
        }
    }
}

/// What is decided on.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Whose.
    pub side: Side,
    /// Service name; for an application-level entry, the name of the application that it stands for.
    pub service: &'a str,
    /// Group of the service, empty if none.
    pub group: &'a str,
    /// The application beside this Remora; empty while it is not known.
    pub application: &'a str,
    /// Own address of the instance (`host:port`); on the consumer side this machine's.
    pub address: &'a str,
}

/// What is decided, and which part of the policy says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether addresses are swapped.
    pub taken: bool,
    /// Why, or why not.
    pub why: Why,
}

impl From<Why> for Decision {
    fn from(why: Why) -> Self {
        Self {
            taken: why.is_taken(),
            why,
        }
    }
}

/// The policy in force. Immutable; a change is a new one.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    mode: Mode,
    takeover: Arc<Config>,
    rolled_back: bool,
}

impl Policy {
    /// As configured, and rolled back or not.
    pub fn new(mode: Mode, takeover: Config, rolled_back: bool) -> Self {
        Self {
            mode,
            takeover: Arc::new(takeover),
            rolled_back,
        }
    }

    /// The decision on one subject. The same subject always gets the same one.
    ///
    /// What the lists, the side and the share leave out says so; what only `observe` or a rollback leaves says that, so that
    /// these two count what would be taken over.
    pub fn decide(&self, subject: &Subject<'_>) -> Decision {
        let config = &*self.takeover;
        let named = |rules: &[Rule]| rules.iter().any(|rule| rule.names(subject));
        let why = if !config.side.has(subject.side) {
            Why::OtherSide
        } else if named(&config.deny) {
            Why::Denied
        } else if !config.allow.is_empty() && !named(&config.allow) {
            Why::NotAllowed
        } else if !share::has(config.percent, subject.address) {
            Why::NotInPercent
        } else if self.mode == Mode::Observe {
            Why::Observed
        } else if self.rolled_back {
            Why::RolledBack
        } else {
            Why::TakenOver
        };
        why.into()
    }

    /// The decision on an entry that stands for an application's services: by its own name, but not if a service that it is
    /// known to offer is denied, and also if `allow` names every one of those instead.
    pub(super) fn decide_entry(&self, entry: &Subject<'_>, offers: &[ServiceKey]) -> Decision {
        let whole = self.decide(entry);
        let of_service = |key: &ServiceKey| {
            let service = Subject {
                service: &key.name,
                group: &key.group,
                ..*entry
            };
            self.decide(&service).why
        };
        let each: Vec<Why> = offers.iter().map(of_service).collect();
        match (whole.why, each.first()) {
            (_, Some(_)) if each.contains(&Why::Denied) => Why::Denied.into(),
            (Why::NotAllowed, Some(first)) if !each.contains(&Why::NotAllowed) => (*first).into(),
            _ => whole,
        }
    }

    /// The same for those who are in every share but an empty one.
    pub(super) fn in_any_share(&self) -> Self {
        let takeover = Config {
            percent: if self.takeover.percent == 0 { 0 } else { 100 },
            ..Config::clone(&self.takeover)
        };
        Self {
            takeover: Arc::new(takeover),
            ..self.clone()
        }
    }

    /// Whether everything is taken over, whatever it is.
    pub fn takes_all(&self) -> bool {
        self.mode == Mode::Takeover && !self.rolled_back && *self.takeover == Config::default()
    }

    /// Whether lists that are shown at this machine may be.
    pub(super) fn takes_lists(&self, host: &str) -> bool {
        self.mode == Mode::Takeover
            && !self.rolled_back
            && self.takeover.side.has(Side::Consumer)
            && share::has(self.takeover.percent, host)
    }

    /// Whether the name of an application may change a decision.
    pub fn asks_for_applications(&self) -> bool {
        let rules = self.takeover.allow.iter().chain(&self.takeover.deny);
        rules.into_iter().any(|rule| rule.application.is_some())
    }
}

impl Rule {
    /// Whether all its parts fit.
    pub fn names(&self, subject: &Subject<'_>) -> bool {
        let fits = |part: &Option<Pattern>, name: &str| part.as_ref().is_none_or(|pattern| pattern.fits(name));
        self.side.is_none_or(|side| side.has(subject.side))
            && fits(&self.service, subject.service)
            && fits(&self.group, subject.group)
            && fits(&self.application, subject.application)
    }
}

impl Sides {
    fn has(self, side: Side) -> bool {
        match self {
            Self::Both => true,
            Self::Consumer => side == Side::Consumer,
            Self::Provider => side == Side::Provider,
        }
    }
}

#[cfg(test)]
mod tests;
