// SPDX-License-Identifier: Apache-2.0
//! What preflight found, in a form that can be printed for people (`page.rs`) and programs (JSON). Everything is sorted, so
//! that two runs over the same registry print the same.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::codes::{Code, Severity};

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    /// In a word.
    pub verdict: Verdict,
    /// The registries that were looked at.
    pub registries: Vec<RegistryRow>,
    /// Applications, by name.
    pub applications: Vec<Application>,
    /// Lists, by registry and place.
    pub services: Vec<Service>,
    /// Findings, the gravest first.
    pub findings: Vec<Finding>,
}

/// Whether takeover can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing stands in the way.
    Ready,
    /// Something would behave otherwise.
    ReadyWithWarnings,
    /// Something would break.
    NotReady,
}

impl Verdict {
    /// Exit code of the command.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::ReadyWithWarnings => 3,
            Self::NotReady => 4,
        }
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::ReadyWithWarnings => "ready, with warnings",
            Self::NotReady => "not ready",
        }
    }
}

/// A registry.
#[derive(Debug, Serialize)]
pub struct RegistryRow {
    /// Configured name.
    pub name: String,
    /// Address, without its password.
    pub url: String,
    /// Its servers, and what they are.
    pub servers: Vec<ServerRow>,
    /// Questions asked.
    pub reads: u64,
    /// Bytes of the answers.
    pub bytes: u64,
    /// How long that took.
    pub elapsed_ms: u64,
}

/// A server.
#[derive(Debug, Serialize)]
pub struct ServerRow {
    /// `host:port`.
    pub address: String,
    /// `ZooKeeper 3.9.5, standalone`.
    pub what: String,
    /// maxClientCnxns, if it says.
    pub max_connections_per_host: Option<u32>,
}

/// An application.
#[derive(Debug, Default, Serialize)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// `Dubbo 2.7.23`, each that was seen.
    pub frameworks: BTreeSet<String>,
    /// Hosts that it was seen on.
    pub hosts: BTreeSet<String>,
    /// Services that it provides.
    pub provides: BTreeSet<String>,
    /// Services that it consumes.
    pub consumes: BTreeSet<String>,
}

/// A list.
#[derive(Debug, Serialize)]
pub struct Service {
    /// Name of its registry.
    pub registry: String,
    /// Its name; of an application-level list the application's.
    pub name: String,
    /// Where it stands: `/dubbo`.
    pub namespace: String,
    /// Whether it is a list of an application's instances.
    pub is_application: bool,
    /// `Dubbo` or `SOFARPC`.
    pub framework: &'static str,
    /// What is published, before and after.
    pub providers: Vec<Provider>,
    /// Who follows.
    pub consumers: Vec<Consumer>,
    /// What consumers would be handed.
    pub handed: Vec<Handed>,
}

/// One provider.
#[derive(Debug, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Provider {
    /// `group/name:version`.
    pub service: String,
    /// Its protocol.
    pub protocol: String,
    /// Its application.
    pub application: String,
    /// `Dubbo 2.7.23`.
    pub framework: String,
    /// What stands in the registry.
    pub before: String,
    /// What a Remora beside it would publish; the same where it is left.
    pub after: String,
    /// Why it is left; absent if it is taken over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
}

/// One consumer.
#[derive(Debug, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Consumer {
    /// Its application.
    pub application: String,
    /// `Dubbo 2.7.23`.
    pub framework: String,
    /// Its host.
    pub host: String,
    /// Why it would be shown the list, or a part of it, as it is; absent if nothing is left so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
}

/// One entry of the list that consumers would be handed.
#[derive(Debug, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handed {
    /// `group/name:version`.
    pub service: String,
    /// Its protocol.
    pub protocol: String,
    /// Where consumers would call.
    pub address: String,
    /// How many providers it stands for; absent for one that is shown as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stands_for: Option<usize>,
    /// The whole entry.
    pub entry: String,
}

/// A finding and everything that it was found at.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// Its number.
    pub code: Code,
    /// Its name.
    pub name: &'static str,
    /// How grave.
    pub severity: Severity,
    /// What it says.
    pub title: &'static str,
    /// What to do.
    pub advice: &'static str,
    /// Where.
    pub at: Vec<At>,
}

/// One place of a finding.
#[derive(Clone, Debug, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The service, application, host or node.
    pub subject: String,
    /// What was seen there.
    pub seen: String,
}

/// Findings as they come in.
#[derive(Debug, Default)]
pub struct Findings(BTreeMap<(Severity, Code), BTreeSet<At>>);

impl Findings {
    /// Notes one.
    pub fn add(&mut self, code: Code, subject: impl Into<String>, seen: impl Into<String>) {
        let at = At {
            subject: subject.into(),
            seen: seen.into(),
        };
        self.0.entry((code.severity(), code)).or_default().insert(at);
    }

    /// Whether there is one of this kind.
    pub fn has(&self, code: Code) -> bool {
        self.0.contains_key(&(code.severity(), code))
    }

    /// In a word.
    pub fn verdict(&self) -> Verdict {
        match self.0.keys().next() {
            Some((Severity::NotReady, _)) => Verdict::NotReady,
            Some((Severity::Warning, _)) => Verdict::ReadyWithWarnings,
            _ => Verdict::Ready,
        }
    }

    /// The gravest first, then by number.
    pub fn into_rows(self) -> Vec<Finding> {
        let row = |((severity, code), at): ((Severity, Code), BTreeSet<At>)| Finding {
            code,
            name: code.slug(),
            severity,
            title: code.title(),
            advice: code.advice(),
            at: at.into_iter().collect(),
        };
        self.0.into_iter().map(row).collect()
    }
}
