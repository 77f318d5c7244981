// SPDX-License-Identifier: Apache-2.0
//! Lists of which the children's data counts, so that each child is watched, too: an application's, where Dubbo keeps an
//! instance in the data and changes it in place, and SOFARPC's, where the data says whether a provider is online.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use remora_naming::application;
use remora_registry::{Instance, Target};
use tokio::task::JoinSet;
use tracing::warn;

use super::follow::{Content, MAX_MALFORMED, Scope, children_or_none};
use super::sofa::SofaChildren;
use crate::client::{Client, ClientError, Watcher};
use crate::places::dir_of;
use crate::wire::Stat;

pub(super) struct NodeList {
    path: String,
    children: Children,
    nodes: HashMap<Arc<str>, Node>,
    is_told: bool,
}

struct Node {
    /// Change of the data that was read: creation and last write.
    version: (i64, i64),
    content: NodeContent,
}

/// What an entry of a list is.
#[derive(Clone, PartialEq)]
pub(crate) enum NodeContent {
    Instance(Arc<Instance>),
    /// Not discovery's.
    Other,
    Malformed,
}

/// What the children are.
enum Children {
    /// An application's instances.
    Dubbo,
    Sofa(SofaChildren),
}

impl NodeList {
    pub fn new(target: &Target) -> Self {
        Self {
            path: dir_of(target),
            children: match target {
                Target::Application { .. } => Children::Dubbo,
                Target::Service { .. } => Children::Sofa(SofaChildren::of(target)),
            },
            nodes: HashMap::new(),
            is_told: false,
        }
    }

    /// Gives the list if it changed. Only new nodes and those in `scope` are read.
    pub async fn read(
        &mut self,
        client: &Client,
        watcher: &Watcher,
        scope: &Scope,
    ) -> Result<Option<Content>, ClientError> {
        let mut is_changed = !self.is_told;
        let mut wanted: Vec<Arc<str>> = Vec::new();
        if self.is_in(scope, &self.path) {
            let names = children_or_none(client, &self.path, watcher).await?;
            wanted.extend(names.iter().filter(|n| !self.nodes.contains_key(*n)).cloned());
            let before = self.nodes.len();
            let names: std::collections::HashSet<Arc<str>> = names.into_iter().collect();
            self.nodes.retain(|name, _| names.contains(name));
            is_changed |= self.nodes.len() != before;
        }
        let again = self.nodes.keys().filter(|n| self.is_in(scope, &self.node_path(n)));
        wanted.extend(again.cloned());
        for (name, read) in self.read_nodes(client, watcher, wanted).await? {
            is_changed |= self.take_in(name, read);
        }
        if !is_changed {
            return Ok(None);
        }
        self.is_told = true;
        Ok(Some(self.content()))
    }

    /// Reads nodes, all at once; `None` for one that is gone or may not be read.
    async fn read_nodes(
        &self,
        client: &Client,
        watcher: &Watcher,
        names: Vec<Arc<str>>,
    ) -> Result<Vec<(Arc<str>, Result<(Bytes, Stat), ClientError>)>, ClientError> {
        // Dropped when this future is: no read outlives the follow.
        let mut reads = JoinSet::new();
        for name in names {
            let (client, watcher, path) = (client.clone(), watcher.clone(), self.node_path(&name));
            reads.spawn(async move { (name, client.data(&path, Some(&watcher)).await) });
        }
        let mut done = Vec::with_capacity(reads.len());
        while let Some(read) = reads.join_next().await {
            let Ok((name, read)) = read else { continue };
            match read {
                Err(error @ (ClientError::Lost { .. } | ClientError::Timeout { .. } | ClientError::Closed { .. })) => {
                    return Err(error);
                }
                read => done.push((name, read)),
            }
        }
        Ok(done)
    }

    /// Says whether it changes the list.
    fn take_in(&mut self, name: Arc<str>, read: Result<(Bytes, Stat), ClientError>) -> bool {
        let (data, stat) = match (read, &self.children) {
            (Ok(read), _) => read,
            (Err(error), _) if error.is_no_node() => return self.nodes.remove(&name).is_some(),
            // The name says nearly everything.
            (Err(_), Children::Sofa(sofa)) => {
                let content = sofa.content(&name, &[], &Stat::default());
                return self.put(name, (0, 0), content);
            }
            (Err(error), Children::Dubbo) => {
                warn!(registry = "zookeeper", place = self.path, node = &*name, reason = error.reason(), %error, "instance cannot be read, skipped");
                return self.put(name, (0, 0), NodeContent::Malformed);
            }
        };
        let version = (stat.czxid, stat.mzxid);
        if self.nodes.get(&name).is_some_and(|node| node.version == version) {
            return false;
        }
        let content = match &self.children {
            Children::Sofa(sofa) => sofa.content(&name, &data, &stat),
            Children::Dubbo => application_node(&self.path, &name, &data),
        };
        self.put(name, version, content)
    }

    fn put(&mut self, name: Arc<str>, version: (i64, i64), content: NodeContent) -> bool {
        let before = self.nodes.get_mut(&name);
        match before {
            // The instance that others share stays the same one.
            Some(node) if node.content == content => {
                node.version = version;
                false
            }
            _ => {
                self.nodes.insert(name, Node { version, content });
                true
            }
        }
    }

    fn content(&self) -> Content {
        let mut instances = Vec::with_capacity(self.nodes.len());
        let mut malformed = Vec::new();
        let mut foreign = Vec::new();
        for (name, node) in &self.nodes {
            match &node.content {
                NodeContent::Instance(instance) => instances.push(Arc::clone(instance)),
                NodeContent::Malformed => {
                    malformed.push(Arc::clone(name));
                    // Who wrote it can read it.
                    foreign.push(Arc::clone(name));
                }
                NodeContent::Other => foreign.push(Arc::clone(name)),
            }
        }
        instances.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        malformed.sort_unstable();
        malformed.truncate(MAX_MALFORMED);
        foreign.sort_unstable();
        let mut content = Content {
            instances,
            malformed,
            foreign,
        };
        if let Children::Sofa(sofa) = &self.children {
            sofa.narrow(&mut content);
        }
        content
    }

    fn is_in(&self, scope: &Scope, path: &str) -> bool {
        match scope {
            Scope::All => true,
            Scope::Paths(paths) => paths.contains(path),
        }
    }

    fn node_path(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}

/// What a node of an application's list is.
pub(crate) fn application_node(place: &str, name: &str, data: &[u8]) -> NodeContent {
    if data.is_empty() {
        return NodeContent::Other;
    }
    match application::parse(name, data) {
        Ok(Some(instance)) => NodeContent::Instance(Arc::new(instance)),
        Ok(None) => NodeContent::Other,
        Err(error) => {
            warn!(registry = "zookeeper", place, node = name, reason = error.reason(), %error, "instance cannot be read, skipped");
            NodeContent::Malformed
        }
    }
}
