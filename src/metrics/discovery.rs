// SPDX-License-Identifier: Apache-2.0
//! Metrics of the `discovery` room.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::names;

/// Label `registry`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RegistryLabel {
    /// Name of the configured registry.
    pub registry: String,
}

/// Labels `registry` and `state`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RegistryStateLabel {
    /// Name of the configured registry.
    pub registry: String,
    /// From a small closed set.
    pub state: &'static str,
}

/// Label `reason`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// From a small closed set.
    pub reason: &'static str,
}

/// Label `outcome`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// From a small closed set.
    pub outcome: &'static str,
}

/// Labels `side` and `decision`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DecisionLabel {
    /// `provider` or `consumer`.
    pub side: &'static str,
    /// `taken_over`, or why not.
    pub decision: &'static str,
}

type Number = Gauge<i64, AtomicI64>;

/// Metrics of the `discovery` room; clones share their values.
#[derive(Clone, Debug)]
pub struct DiscoveryMetrics {
    /// 1 while a registry is reachable.
    pub registry_up: Family<RegistryLabel, Number>,
    /// Applications at the facades.
    pub leases: Number,
    /// What they publish.
    pub publications: Number,
    /// Lists that are followed.
    pub lists: Number,
    /// Instances in them.
    pub instances: Number,
    /// Service keys with a route.
    pub routes: Number,
    /// Entries of followed lists that could not be read.
    pub malformed: Number,
    /// Instances that are not dialled, by reason.
    pub refused: Family<ReasonLabel, Number>,
    /// Instances that the guard holds against the registry's word.
    pub held: Number,
    /// Times that the guard stepped in.
    pub collapses: Counter,
    /// Rules kept from applications and not applied.
    pub rules_not_applied: Number,
    /// Publications: `taken_over`, or why not.
    pub publish: Family<OutcomeLabel, Counter>,
    /// What the policy decides on publications and lists.
    pub takeover: Family<DecisionLabel, Number>,
    /// Publications that lead here in a registry.
    pub leads_here: Number,
    /// Publications that Remora keeps in a registry itself, by how far they are.
    pub kept: Family<RegistryStateLabel, Number>,
    /// What was asked of registries for them.
    pub kept_operations: Family<OutcomeLabel, Counter>,
    /// Fetches of metadata documents.
    pub metadata: Family<OutcomeLabel, Counter>,
    /// Writes of the last known lists.
    pub snapshot_writes: Family<OutcomeLabel, Counter>,
    /// Whether the last write worked.
    pub snapshot_kept: Family<RegistryLabel, Number>,
    /// Time to take a changed list into the routes.
    pub rebuild: Histogram,
}

impl DiscoveryMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            registry_up: Family::default(),
            leases: Number::default(),
            publications: Number::default(),
            lists: Number::default(),
            instances: Number::default(),
            routes: Number::default(),
            malformed: Number::default(),
            refused: Family::default(),
            held: Number::default(),
            collapses: Counter::default(),
            rules_not_applied: Number::default(),
            publish: Family::default(),
            takeover: Family::default(),
            leads_here: Number::default(),
            kept: Family::default(),
            kept_operations: Family::default(),
            metadata: Family::default(),
            snapshot_writes: Family::default(),
            snapshot_kept: Family::default(),
            rebuild: Histogram::new([0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5]),
        };
        let all = metrics.clone();
        registry.register(names::REGISTRY_UP, "1 while the registry is reachable", all.registry_up);
        registry.register(names::LEASES, "Applications at the facades", all.leases);
        registry.register(
            names::PUBLICATIONS,
            "Instances that applications here publish",
            all.publications,
        );
        registry.register(names::LISTS, "Lists that are followed", all.lists);
        registry.register(names::INSTANCES, "Instances in the followed lists", all.instances);
        registry.register(names::ROUTES, "Service keys with a route", all.routes);
        registry.register(
            names::MALFORMED,
            "Entries of followed lists that cannot be read",
            all.malformed,
        );
        registry.register(names::REFUSED, "Instances that are not dialled", all.refused);
        registry.register(names::HELD, "Instances held although the registry lost them", all.held);
        registry.register(names::COLLAPSES, "Lists that collapsed and were held", all.collapses);
        registry.register(
            names::RULES_NOT_APPLIED,
            "Rules kept from applications, not applied",
            all.rules_not_applied,
        );
        registry.register(names::PUBLISH, "Publications by outcome", all.publish);
        registry.register(
            names::TAKEOVER,
            "Publications and lists of applications, by what the takeover policy decides",
            all.takeover,
        );
        registry.register(
            names::LEADS_HERE,
            "Publications of applications here that lead to our ingress",
            all.leads_here,
        );
        registry.register(
            names::KEPT,
            "Publications that Remora keeps in a registry itself",
            all.kept,
        );
        registry.register(
            names::KEPT_OPERATIONS,
            "What was asked of registries for them, by outcome",
            all.kept_operations,
        );
        registry.register(
            names::METADATA,
            "Fetches of application metadata by outcome",
            all.metadata,
        );
        registry.register(
            names::SNAPSHOT_WRITES,
            "Writes of the last known lists by outcome",
            all.snapshot_writes,
        );
        registry.register(
            names::SNAPSHOT_KEPT,
            "1 while the last known lists on disk are those in memory",
            all.snapshot_kept,
        );
        registry.register(
            names::REBUILD,
            "Time to take a changed list into the routes",
            all.rebuild,
        );
        metrics
    }
}
