// SPDX-License-Identifier: Apache-2.0
//! Last known lists on disk, one file per registry: `lists-<registry name>.jsonl`.
//!
//! First line: the registry's identity, so that lists of one registry never serve for another; then one JSON value per
//! line: a list, or the document of an application's revision. An entry whose name says everything (a Dubbo URL) is kept
//! as that name alone. Written whole, from immutable lists, off the runtime's thread.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use remora_naming::sofa::is_sofa;
use remora_naming::{application, dubbo_url};
use remora_registry::{Instance, Params, ServiceKey, Snapshot, Source, Target};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::disk::{self, Seal};
use super::error::DiscoveryError;
use super::metadata::Document;

/// What is kept.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) lists: Vec<Arc<Snapshot>>,
    pub(super) documents: Vec<(Arc<str>, Arc<str>, Arc<Document>)>,
}

impl Lists {
    fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.documents.is_empty()
    }
}

/// The file of a registry.
pub(super) fn file(data_dir: &Path, registry: &str) -> PathBuf {
    data_dir.join(format!("lists-{}.jsonl", dubbo_url::encode_component(registry)))
}

pub(super) fn write(path: &Path, identity: &str, lists: &Lists) -> Result<(), DiscoveryError> {
    disk::write_keeping(path, SEAL, |out| {
        line(
            out,
            &Line::Registry {
                identity: identity.into(),
            },
        )?;
        for list in &lists.lists {
            let entries = list.instances.iter().map(|i| Entry::of(i, &list.target)).collect();
            let (level, namespace, name) = match &list.target {
                Target::Service { namespace, name } => (Level::Service, namespace, name),
                Target::Application { namespace, name } => (Level::Application, namespace, name),
            };
            let list = Line::List {
                level,
                namespace: namespace.to_string(),
                name: name.to_string(),
                entries,
                foreign: list.foreign.iter().map(|name| name.to_string()).collect(),
            };
            line(out, &list)?;
        }
        for (application, revision, document) in &lists.documents {
            let document = Line::Document {
                application: application.to_string(),
                revision: revision.to_string(),
                json: document.json.to_string(),
            };
            line(out, &document)?;
        }
        Ok(())
    })
}

/// What was kept; nothing if there is no file. Where the last state cannot be used, the one before, if that can. Entries that
/// cannot be read any more are left out.
///
/// # Errors
/// `OtherRegistry`, `Damaged`, `File`.
pub(super) fn read(path: &Path, identity: &str) -> Result<Lists, DiscoveryError> {
    let former = disk::former(path);
    match read_one(path, identity) {
        // Never the state before of another registry: it is older than what is there.
        Err(error @ DiscoveryError::OtherRegistry { .. }) => Err(error),
        Err(error) => match read_one(&former, identity) {
            Ok(lists) if !lists.is_empty() => {
                warn!(reason = error.reason(), %error, "the last known lists of before are used");
                Ok(lists)
            }
            _ => Err(error),
        },
        Ok(lists) if !path.exists() && former.exists() => read_one(&former, identity).or(Ok(lists)),
        read => read,
    }
}

fn read_one(path: &Path, identity: &str) -> Result<Lists, DiscoveryError> {
    let mut lists = Lists::default();
    let Some(content) = disk::read(path, SEAL)? else {
        return Ok(lists);
    };
    let damaged = |cause: String| DiscoveryError::Damaged {
        path: path.to_owned(),
        cause,
    };
    let mut lines = content.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    let first = lines.next().unwrap_or_default();
    match serde_json::from_slice(first).map_err(|e| damaged(e.to_string()))? {
        Line::Registry { identity: found } if found == identity => {}
        Line::Registry { identity: found } => {
            return Err(DiscoveryError::OtherRegistry {
                path: path.to_owned(),
                found,
                configured: identity.to_owned(),
            });
        }
        _ => return Err(damaged("it does not say which registry it is of".into())),
    }
    for text in lines {
        match serde_json::from_slice(text).map_err(|e| damaged(e.to_string()))? {
            Line::Registry { .. } => {}
            Line::List {
                level,
                namespace,
                name,
                entries,
                foreign,
            } => {
                let (namespace, name) = (namespace.into(), name.into());
                let target = match level {
                    Level::Service => Target::Service { namespace, name },
                    Level::Application => Target::Application { namespace, name },
                };
                lists.lists.push(Arc::new(Snapshot {
                    target,
                    instances: entries.into_iter().filter_map(Entry::instance).map(Arc::new).collect(),
                    malformed: Vec::new(),
                    foreign: foreign.into_iter().map(Arc::from).collect(),
                    source: Source::Disk,
                }));
            }
            Line::Document {
                application,
                revision,
                json,
            } => {
                if let Ok(document) = Document::read(&json) {
                    lists
                        .documents
                        .push((application.into(), revision.into(), Arc::new(document)));
                }
            }
        }
    }
    Ok(lists)
}

fn line(out: &mut dyn Write, line: &Line) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Registry {
        identity: String,
    },
    List {
        level: Level,
        namespace: String,
        name: String,
        entries: Vec<Entry>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        foreign: Vec<String>,
    },
    Document {
        application: String,
        revision: String,
        json: String,
    },
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    Service,
    Application,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// A child's name.
    Url(String),
    /// A node's name and document.
    Node(String, String),
    /// Everything, for registries that have other forms.
    Whole(Box<Whole>),
}

/// An instance in full.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Whole {
    id: String,
    key: Option<(String, String, String)>,
    protocol: String,
    host: String,
    port: u16,
    path: String,
    params: Vec<(String, String)>,
    raw: String,
}

impl Entry {
    fn of(instance: &Instance, target: &Target) -> Self {
        let is_node = instance.key.is_none() && instance.raw.starts_with('{');
        // A SOFARPC child does not say everything: its key is read in another way, and its node's data counts.
        if instance.key.is_some() && !is_sofa(target) && dubbo_url::is_provider_child(&instance.id) {
            return Self::Url(instance.id.to_string());
        }
        if is_node {
            return Self::Node(instance.id.to_string(), instance.raw.to_string());
        }
        Self::Whole(Box::new(Whole::of(instance)))
    }

    fn instance(self) -> Option<Instance> {
        match self {
            Self::Url(child) => dubbo_url::parse_child(&child).ok(),
            Self::Node(node, json) => application::parse(&node, json.as_bytes()).ok().flatten(),
            Self::Whole(whole) => Some(whole.instance()),
        }
    }
}

impl Whole {
    pub(super) fn of(instance: &Instance) -> Self {
        let key = instance.key.as_ref();
        Self {
            id: instance.id.to_string(),
            key: key.map(|k| (k.name.to_string(), k.group.to_string(), k.version.to_string())),
            protocol: instance.protocol.to_string(),
            host: instance.host.to_string(),
            port: instance.port,
            path: instance.path.to_string(),
            params: instance.params.0.clone(),
            raw: instance.raw.to_string(),
        }
    }

    pub(super) fn instance(self) -> Instance {
        Instance {
            id: self.id.into(),
            key: self
                .key
                .map(|(name, group, version)| ServiceKey::new(&name, &group, &version)),
            protocol: self.protocol.into(),
            host: self.host.into(),
            port: self.port,
            path: self.path.into(),
            params: Params(self.params),
            raw: self.raw.into(),
        }
    }
}

const SEAL: Seal = Seal {
    kind: "lists",
    version: 1,
};

#[cfg(test)]
mod tests;
