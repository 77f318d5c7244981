// SPDX-License-Identifier: Apache-2.0
//! What a registry holds, read once and without a write: what `remora preflight` looks at.
//!
//! An adapter makes it; nothing in it is interpreted beyond what the adapter itself does for its lists.

use std::sync::Arc;

use crate::{Instance, Snapshot, Target, UnappliedRule};

/// Everything that was read.
#[derive(Debug, Default)]
pub struct Survey {
    /// The servers that answered.
    pub servers: Vec<ServerFacts>,
    /// Every list of providers, of services and of applications, sorted by target.
    pub lists: Vec<SurveyedList>,
    /// Every consumer that is written down, sorted.
    pub consumers: Vec<SurveyedConsumer>,
    /// Governance rules, sorted by place.
    pub rules: Vec<SurveyedRule>,
    /// What revisions of applications offer: application, revision, JSON text.
    pub documents: Vec<(String, String, String)>,
    /// Who told the metadata centre that it provides or consumes something, sorted.
    pub definitions: Vec<Definition>,
    /// Settings of applications in the config centre: path, text.
    pub settings: Vec<(String, String)>,
    /// What could not be read, sorted.
    pub unread: Vec<Unread>,
    /// Some of the registry was left out, in words: it holds more than is looked at.
    pub left_out: Vec<String>,
    /// What it took.
    pub cost: Cost,
}

/// One server of the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// `host:port`.
    pub address: String,
    /// What it is, such as `ZooKeeper 3.9.5, standalone`; empty if it does not say.
    pub what: String,
    /// Most connections from one address; `None` if it does not say, 0 for any number.
    pub max_connections_per_host: Option<u32>,
    /// Why it could not be asked; empty if it could.
    pub trouble: String,
}

/// One list, and what the registry says of its entries.
#[derive(Debug)]
pub struct SurveyedList {
    /// The list as an adapter would tell it.
    pub snapshot: Snapshot,
    /// For each instance of the snapshot, in its order, what the registry says of its node.
    pub nodes: Vec<Option<NodeFacts>>,
    /// Entries that cannot be read, and why.
    pub malformed: Vec<(String, String)>,
    /// Whether the configured roots take it in; the door passes others on as they are.
    pub is_owned: bool,
    /// About how long the registry's answer was.
    pub bytes: usize,
}

/// What a registry says of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// When it was made, by the registry's clock, in milliseconds since the epoch.
    pub created_ms: i64,
    /// Session that holds it; 0 for one that stays.
    pub owner: i64,
}

/// A consumer as the registry has it.
#[derive(Clone, Debug)]
pub struct SurveyedConsumer {
    /// What it follows.
    pub target: Target,
    /// Its URL.
    pub instance: Arc<Instance>,
}

/// A governance rule.
#[derive(Clone, Debug)]
pub struct SurveyedRule {
    /// Where it stands.
    pub place: String,
    /// Its text, decoded once, cut to 16 KiB.
    pub text: String,
    /// The parts that a door keeps from applications.
    pub kept: Vec<UnappliedRule>,
}

/// What an application told the metadata centre.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Definition {
    /// Service name.
    pub service: String,
    /// Version and group, as they stand in the path; empty for none.
    pub qualifier: String,
    /// Whether it consumes, and does not provide.
    pub is_consumer: bool,
    /// Application.
    pub application: String,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unread {
    /// Where.
    pub place: String,
    /// Whether the registry does not let us, so that other credentials would help.
    pub is_forbidden: bool,
    /// Why.
    pub cause: String,
}

/// What a survey took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Questions to the registry.
    pub reads: u64,
    /// Bytes of the answers.
    pub bytes: u64,
}

impl Survey {
    /// Puts everything in its order.
    pub fn sort(&mut self) {
        self.lists.sort_by(|a, b| a.snapshot.target.cmp(&b.snapshot.target));
        self.consumers
            .sort_by(|a, b| (&a.target, &a.instance.id).cmp(&(&b.target, &b.instance.id)));
        self.rules.sort_by(|a, b| a.place.cmp(&b.place));
        self.documents.sort();
        self.definitions.sort();
        self.settings.sort();
        self.unread.sort();
        self.unread.dedup();
    }
}
