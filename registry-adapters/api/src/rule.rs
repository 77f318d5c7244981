// SPDX-License-Identifier: Apache-2.0
//! Governance rules that name hosts. The application would apply them to 127.0.0.1 and lose its providers, so a facade
//! keeps them from it and reports them here.

/// What kind of rule it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleKind {
    /// A condition router.
    Condition,
    /// A tag router.
    Tag,
    /// A script router.
    Script,
    /// A configurator (override) that matches addresses.
    Configurator,
    /// A mesh rule (`MESHAPPRULE`).
    Mesh,
}

impl RuleKind {
    /// The word shown in `status`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Condition => "condition",
            Self::Tag => "tag",
            Self::Script => "script",
            Self::Configurator => "configurator",
            Self::Mesh => "mesh",
        }
    }
}

/// A rule that was kept from an application, or means nothing to it, and is not applied by Remora either.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnappliedRule {
    /// What kind.
    pub kind: RuleKind,
    /// Where the registry keeps it (a path).
    pub place: String,
    /// The rule's text, cut to 200 bytes.
    pub text: String,
    /// Why it cannot be handed to the application.
    pub why: &'static str,
}
