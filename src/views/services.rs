// SPDX-License-Identifier: Apache-2.0
//! `/services`: service by service, the real registry beside what applications here publish and are handed.

use serde::{Deserialize, Serialize};

use super::RuleView;

/// A page of services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicesView {
    /// The page, by name.
    pub services: Vec<ServiceView>,
    /// How many services there are that fit the filter.
    pub total: u64,
    /// The first so many are left out.
    pub offset: u64,
}

/// One service, or one application of an application-level registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// `service` or `application`.
    pub level: String,
    /// Its name.
    pub name: String,
    /// What applications here publish of it.
    pub publishes: Vec<ServicePublishedView>,
    /// Its lists: one for each registry and place where an application here follows it.
    pub lists: Vec<ServiceListView>,
    /// Rules on it that do not work.
    pub rules_not_applied: Vec<RuleView>,
}

/// Something that an application publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePublishedView {
    /// Who.
    pub application: String,
    /// Service key, or the application's name.
    pub service: String,
    /// Protocol.
    pub protocol: String,
    /// Where it listens, as others would dial it.
    pub own: String,
    /// What stands in the registry.
    pub in_registry: String,
    /// `taken_over`, or a word for why not.
    pub decision: String,
    /// The same for people.
    pub why: String,
    /// Whether the registry has what is decided; a change is on its way otherwise.
    pub is_settled: bool,
}

/// One followed list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceListView {
    /// Registry.
    pub registry: String,
    /// Where the registry keeps it.
    pub namespace: String,
    /// `registry`, `disk` (last known), `unknown` (no list yet).
    pub source: String,
    /// Instances that are held although the registry lost them.
    pub held: u64,
    /// Entries of the registry.
    pub real: Vec<RealView>,
    /// Entries that are left out of `real` because there are too many.
    pub real_left_out: u64,
    /// What each application that follows it is handed.
    pub followers: Vec<FollowerView>,
}

/// An entry as the registry has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealView {
    /// Service key; for an application-level entry its revision.
    pub service: String,
    /// Protocol.
    pub protocol: String,
    /// Address.
    pub address: String,
    /// Providing application.
    pub application: String,
    /// Framework and version.
    pub framework: String,
    /// A Remora published it.
    pub is_taken_over: bool,
    /// `dialled`, `shown as it is`, or why it is not dialled.
    #[serde(rename = "use")]
    pub use_: String,
}

/// What an application is handed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerView {
    /// Who; its address while its name is not known.
    pub application: String,
    /// `taken_over`, or a word for why not.
    pub decision: String,
    /// The same for people.
    pub why: String,
    /// Entries, as a Java application gets them.
    pub handed_out: Vec<String>,
}
