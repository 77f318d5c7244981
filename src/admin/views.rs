// SPDX-License-Identifier: Apache-2.0
//! What the admin pages show, as data: `/catalog` and `/connections` are these types as JSON, and `remora status` reads
//! them back.
//!
//! `app.rs` fills them, so that this room knows nothing of discovery and the call path.

use std::fmt;
use std::path::PathBuf;

use remora_registry::BoxFuture;
use serde::{Deserialize, Serialize};

use super::takeover::{RollBackError, TakeoverView};
use super::topology::{Filter, TopologyView};
use crate::lifecycle::{Readiness, Stop};
use crate::views::{LeaseView, ListView, OddView, RuleView, ServicesView, WithdrawalView};

/// Where the pages come from.
pub struct Views {
    /// `/readyz`.
    pub readiness: Readiness,
    /// `/metrics`, OpenMetrics text.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// `/catalog`.
    pub catalog: Box<dyn Fn() -> CatalogView + Send + Sync>,
    /// `/connections`; the worker threads are asked.
    pub connections: Box<dyn Fn() -> BoxFuture<'static, ConnectionsView> + Send + Sync>,
    /// `/livez`: `None`, or what has come to a standstill.
    pub alive: Box<dyn Fn() -> BoxFuture<'static, Option<String>> + Send + Sync>,
    /// `/services`: a page of them, both views.
    pub services: Box<dyn Fn(Filter) -> ServicesView + Send + Sync>,
    /// `/topology`; the worker threads are asked.
    pub topology: Box<dyn Fn(Filter) -> BoxFuture<'static, TopologyView> + Send + Sync>,
    /// `/config`: the effective configuration as YAML, secrets hidden.
    pub config: Box<dyn Fn() -> String + Send + Sync>,
    /// `POST /reload`: reads the configuration again.
    pub reload: Verb<ReloadView>,
    /// `POST /withdraw`: takes all that leads here out of the registries, and goes on serving.
    pub withdraw: Verb<LeftView>,
    /// `POST /drain?wait`: what came of the withdrawals of the stop that was asked for; `None` if it will not be known.
    pub withdrawn: Verb<Option<LeftView>>,
    /// `/takeover`: what is taken over.
    pub takeover: Verb<TakeoverView>,
    /// `POST /rollback` (`true`) and `POST /forward`. The error is why nothing changed.
    pub roll_back: Box<dyn Fn(bool) -> Result<bool, RollBackError> + Send + Sync>,
    /// Asked by `POST /drain`.
    pub stop: Stop,
    /// `/upgrade`: the socket where an upgrade is asked for.
    pub upgrade: Option<PathBuf>,
}

/// Something that an operator asks for, and what came of it.
pub type Verb<T> = Box<dyn Fn() -> BoxFuture<'static, T> + Send + Sync>;

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views")
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

/// `/upgrade`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeView {
    /// Where an upgrade is asked for; absent if nowhere.
    pub socket: Option<PathBuf>,
    /// Remora's version.
    pub version: String,
    /// The process.
    pub pid: u32,
}

/// `/catalog`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogView {
    /// Remora's version.
    pub version: String,
    /// Since the process started, in seconds.
    pub uptime_s: u64,
    /// Each real registry.
    pub registries: Vec<RegistryView>,
    /// Each application that is here.
    pub leases: Vec<LeaseView>,
    /// What is still to be taken out of the registries.
    pub withdrawing: Vec<WithdrawalView>,
    /// Each followed list.
    pub lists: Vec<ListView>,
    /// Where calls can go, by service key.
    pub routes: Vec<RouteView>,
    /// Rules that were kept from the applications.
    pub rules_not_applied: Vec<RuleView>,
    /// Entries of followed lists that could not be read.
    pub malformed: Vec<OddView>,
    /// Addresses of followed lists that are never dialled.
    pub refused: Vec<OddView>,
    /// How the last reload of the configuration went, if there was one.
    #[serde(default)]
    pub reload: Option<ReloadView>,
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReloadOutcome {
    /// Nothing that a running Remora takes over has changed.
    #[default]
    Unchanged,
    /// What could be taken over is in use.
    Applied,
    /// The file cannot be used; all is as before.
    Refused,
}

impl ReloadOutcome {
    /// Metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Applied => "applied",
            Self::Refused => "refused",
        }
    }
}

/// One reload of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadView {
    /// What came of it.
    pub outcome: ReloadOutcome,
    /// `file`, `signal`, `admin`.
    pub asked_by: String,
    /// When, in seconds since 1970.
    pub at_s: u64,
    /// Keys whose new values are in use.
    pub applied: Vec<String>,
    /// Keys that differ from the file, and keep their value until a restart or an upgrade.
    pub restart: Vec<String>,
    /// Why it was refused, or what did not work.
    pub problems: Vec<String>,
}

/// What a withdrawal left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftView {
    /// Entries taken out of registries.
    pub withdrawn: u64,
    /// Entries that still lead here: their registry is away or did not answer in time. They go when it is back, or end with Remora.
    #[serde(default)]
    pub left: u64,
    /// Calls of other hosts that applications here are still working on.
    pub in_flight: u64,
}

/// One real registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryView {
    /// Its name here.
    pub name: String,
    /// Its address, password hidden.
    pub url: String,
    /// `up`, `connecting`, `down`.
    pub state: String,
    /// How long it has been so, in seconds.
    pub for_s: u64,
    /// The last failure; empty if up.
    pub cause: String,
    /// Its doors: facade name and address.
    pub facades: Vec<String>,
}

/// Where calls of one service can go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// Service key.
    pub service: String,
    /// Its instances.
    pub instances: Vec<InstanceView>,
}

/// One instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceView {
    /// Where calls go.
    pub address: String,
    /// Protocol.
    pub protocol: String,
    /// Weight as published.
    pub weight: u32,
    /// The application that provides it.
    pub application: String,
}

/// `/connections`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsView {
    /// Ports of the call path.
    pub listeners: Vec<ListenerView>,
    /// Connections now.
    pub connections: Vec<ConnectionView>,
    /// Connections that were left out of the list because it is long.
    pub left_out: u64,
    /// Calls since the start.
    pub calls: Vec<CallsView>,
    /// Connections of applications at the facades.
    #[serde(default)]
    pub facade_connections: u64,
}

/// One port of the call path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerView {
    /// `egress`, `ingress`.
    pub side: String,
    /// Protocol.
    pub protocol: String,
    /// Where it listens.
    pub address: String,
    /// The application behind an ingress port; empty if none yet.
    pub app: String,
}

/// One connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    /// `egress`, `ingress`.
    pub side: String,
    /// `downstream` (it came to us) or `upstream` (we opened it).
    pub direction: String,
    /// Protocol.
    pub protocol: String,
    /// The other end.
    pub peer: String,
    /// Since it was opened, in ms.
    pub age_ms: u64,
    /// Since the other end was last heard, in ms.
    pub silent_ms: u64,
    /// Downstream: since its last call came, or since it was opened, in ms. Upstream: as `silent_ms`.
    #[serde(default)]
    pub idle_ms: u64,
    /// Calls waiting for their reply.
    pub in_flight: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Bytes waiting to be written.
    pub queued_bytes: u64,
    /// Belongs to one callback user alone.
    pub is_pinned: bool,
    /// The other end takes no new calls.
    pub is_going_away: bool,
    /// The worker thread that serves it.
    pub worker: u64,
}

/// Calls of one side and protocol since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallsView {
    /// `egress`, `ingress`.
    pub side: String,
    /// Protocol.
    pub protocol: String,
    /// Calls by outcome: `ok`, `app_exception`, `failed`, `oneway`, and reasons of local replies.
    pub outcomes: Vec<(String, u64)>,
}

impl CallsView {
    /// Outcomes in which the application's own answer came back, or none was wanted.
    pub const GOOD: [&'static str; 3] = ["ok", "app_exception", "oneway"];

    /// All calls.
    pub fn total(&self) -> u64 {
        self.outcomes.iter().map(|(_, n)| n).sum()
    }

    /// Calls with another outcome than [`GOOD`](Self::GOOD).
    pub fn errors(&self) -> u64 {
        let good = |outcome: &str| Self::GOOD.contains(&outcome);
        self.outcomes.iter().filter(|(o, _)| !good(o)).map(|(_, n)| n).sum()
    }
}
