// SPDX-License-Identifier: Apache-2.0
//! Applications, what they publish and follow, and what is not used of that: parts of `/catalog`.

use serde::{Deserialize, Serialize};

/// One application that came in by a facade.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// Its name, once known.
    pub application: String,
    /// Which door.
    pub facade: String,
    /// Which registry.
    pub registry: String,
    /// Its end of the connection.
    pub peer: String,
    /// What it offers.
    pub publishes: Vec<PublishedView>,
    /// How many lists it follows.
    pub follows: u64,
}

/// One publication, before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedView {
    /// Service key or application.
    pub service: String,
    /// Protocol.
    pub protocol: String,
    /// What the application registered.
    pub own: String,
    /// What stands in the registry.
    pub published: String,
    /// Who holds it there: `application` by its own session, or Remora, which is this far: `waiting`, `published`,
    /// `refused`, `withdrawing`.
    pub state: String,
    /// Why Remora has not published it; empty if it has.
    pub error: String,
}

/// Something that is no longer wanted and still to be taken out of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawalView {
    /// Which registry.
    pub registry: String,
    /// Which list.
    pub list: String,
    /// What stands in the registry.
    pub published: String,
    /// For how long, in seconds.
    pub for_s: u64,
    /// Why it still stands; empty if it is only a matter of moments.
    pub error: String,
}

/// One followed list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListView {
    /// `service` or `application`.
    pub level: String,
    /// Which registry.
    pub registry: String,
    /// Service or application name.
    pub name: String,
    /// Applications that follow it.
    pub followers: Vec<String>,
    /// `registry`, `disk` (last known), `unknown` (no list yet).
    pub source: String,
    /// Entries.
    pub providers: u64,
    /// Those of them that a Remora published.
    pub taken_over: u64,
    /// Entries that are held although the registry lost them.
    pub held: u64,
}

/// A rule that was kept from the applications and is not applied here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleView {
    /// `condition`, `tag`, `script`, `configurator`, `mesh`.
    pub kind: String,
    /// Where the registry keeps it.
    pub place: String,
    /// Why it is not passed on.
    pub why: String,
    /// Its text, cut.
    pub text: String,
    /// What it is about: `service demo.Echo:1.0.0`, `application shop`, `everything`.
    #[serde(default)]
    pub about: String,
    /// What follows for calls.
    #[serde(default)]
    pub consequence: String,
}

/// An entry that is not used, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OddView {
    /// Whose list.
    pub list: String,
    /// The entry as the registry has it.
    pub entry: String,
    /// Why it is not used.
    pub why: String,
}
