// SPDX-License-Identifier: Apache-2.0
//! `/takeover`: what the policy takes over, why the rest is left, and whether Remora may be taken away.

use serde::{Deserialize, Serialize};

use crate::views::counted;

/// `/takeover`, and the answer to `POST /rollback` and `POST /forward`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeoverView {
    /// Key `mode`.
    pub mode: String,
    /// Key `takeover.side`.
    pub side: String,
    /// Key `takeover.percent`.
    pub percent: u8,
    /// Since when all is rolled back, in seconds since 1970.
    pub rolled_back_since: Option<u64>,
    /// Entries of `takeover.allow`.
    pub allow: Vec<RuleUseView>,
    /// Entries of `takeover.deny`.
    pub deny: Vec<RuleUseView>,
    /// Publications (`provider`) and lists of applications (`consumer`), by what is decided on them.
    pub decisions: Vec<DecisionsView>,
    /// Publications that lead here in a registry.
    pub leads_here: u64,
    /// Publications that are not yet what was decided.
    pub unsettled: u64,
    /// Entries of before that still stand in a registry, beside what was decided or to be withdrawn.
    #[serde(default)]
    pub passing: u64,
    /// What is published here was withdrawn for good (`POST /withdraw`).
    #[serde(default)]
    pub withdrawn: bool,
    /// Connections of consumers here, at the egress.
    pub egress_connections: u64,
    /// Connections of consumers elsewhere, at the ingress.
    pub ingress_connections: u64,
    /// Calls that have no reply yet.
    pub in_flight: u64,
    /// Nothing leads here, and nobody calls through here: no call notices if Remora goes.
    pub out_of_the_way: bool,
    /// What a rollback still waits for.
    pub waits_for: Vec<String>,
    /// What a rollback that is taken back still waits for: nothing once everything stands as decided, and alone.
    #[serde(default)]
    pub forward_waits_for: Vec<String>,
    /// Applications that have their registry's address here. They lose the registry with Remora, and what they publish with
    /// their session: first they are to be started with the registry's own address.
    pub applications: Vec<String>,
    /// Publications of the configuration (`publish`), which end with Remora.
    #[serde(default)]
    pub configured: u64,
    /// Out of the way, and nothing in a registry ends with Remora: it may be taken away.
    pub may_be_removed: bool,
}

/// Why nothing is rolled back, or taken over again.
#[derive(Debug, thiserror::Error)]
pub enum RollBackError {
    /// It was withdrawn for good.
    #[error(
        "what is published here was withdrawn (remora withdraw) and stays so while this Remora runs; end it with remora stop and \
         start it again: then it is taken over"
    )]
    Withdrawn,
    /// It would not hold over a restart.
    #[error("not written down, so nothing changes: {cause}")]
    NotWritten {
        /// Why.
        cause: String,
    },
}

impl RollBackError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Withdrawn => "withdrawn",
            Self::NotWritten { .. } => "not_written",
        }
    }
}

/// One entry of a list of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleUseView {
    /// As it is written.
    pub rule: String,
    /// How many publications and followed lists it names now.
    pub names: u64,
}

/// How many are decided in one way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionsView {
    /// `provider` or `consumer`.
    pub side: String,
    /// `taken_over`, or why not.
    pub decision: String,
    /// How many.
    pub count: u64,
}

impl TakeoverView {
    /// What is to be done before Remora is taken away, a line each; nothing if it may be.
    pub fn before_removal(&self) -> Vec<String> {
        let mut lines = self.waits_for.clone();
        if !self.applications.is_empty() {
            let names = self.applications.join(", ");
            lines.push(format!("start these with the registry's own address: {names}"));
        }
        if self.configured > 0 {
            let entries = counted(
                self.configured,
                "entry in the registry ends",
                "entries in the registry end",
            );
            lines.push(format!("`publish` in the configuration: {entries} with Remora"));
        }
        lines
    }

    /// What an operator should know, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let lists = [("allow", &self.allow), ("deny", &self.deny)];
        let unused = lists.into_iter().flat_map(|(list, rules)| {
            let unused = rules.iter().filter(|rule| rule.names == 0);
            unused.map(move |rule| {
                format!(
                    "takeover.{list} names {{{}}}: nothing of the kind is published or followed here",
                    rule.rule
                )
            })
        });
        unused.collect()
    }
}
