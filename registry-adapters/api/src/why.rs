// SPDX-License-Identifier: Apache-2.0
//! Why something is taken over, or left as it is.

use std::fmt;

/// What the operator's takeover policy says of one publication or one list, and which part of it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// It is taken over.
    TakenOver,
    /// It would be taken over, but `mode` is `observe`.
    Observed,
    /// It would be taken over, but `remora rollback` was asked for.
    RolledBack,
    /// `takeover.allow` names others only.
    NotAllowed,
    /// An entry of `takeover.deny` names it.
    Denied,
    /// `takeover.side` names the other side only.
    OtherSide,
    /// This instance is not in the share that `takeover.percent` chooses.
    NotInPercent,
    /// Remora withdrew all that led here and leaves (`remora withdraw`); nothing is decided any more.
    Withdrawn,
}

impl Why {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::TakenOver,
        Self::Observed,
        Self::RolledBack,
        Self::NotAllowed,
        Self::Denied,
        Self::OtherSide,
        Self::NotInPercent,
        Self::Withdrawn,
    ];

    /// Metric label, word in `status`.
    pub fn label(self) -> &'static str {
        match self {
            Self::TakenOver => "taken_over",
            Self::Observed => "observed",
            Self::RolledBack => "rolled_back",
            Self::NotAllowed => "not_allowed",
            Self::Denied => "denied",
            Self::OtherSide => "other_side",
            Self::NotInPercent => "not_in_percent",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Whether it is taken over.
    pub fn is_taken(self) -> bool {
        self == Self::TakenOver
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TakenOver => "taken over",
            Self::Observed => "mode is observe",
            Self::RolledBack => "rolled back; remora rollback --forward takes it over again",
            Self::NotAllowed => "takeover.allow names others only",
            Self::Denied => "takeover.deny names it",
            Self::OtherSide => "takeover.side names the other side only",
            Self::NotInPercent => "not in the share of takeover.percent",
            Self::Withdrawn => "withdrawn for good; a Remora that starts again publishes it again",
        })
    }
}
