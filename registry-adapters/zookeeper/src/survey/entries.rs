// SPDX-License-Identifier: Apache-2.0
//! A list while it is read, entry for entry, told as the adapter tells it.

use std::sync::Arc;

use bytes::Bytes;
use remora_naming::application;
use remora_registry::survey::{NodeFacts, SurveyedList};
use remora_registry::{Instance, Snapshot, Source, Target};

use crate::adapter::{NodeContent, SofaChildren, application_node, service_child};
use crate::places;
use crate::wire::Stat;

/// A list while it is read.
pub(super) struct Entries {
    target: Target,
    is_owned: bool,
    /// How a SOFARPC child is read.
    pub(super) sofa: Option<SofaChildren>,
    instances: Vec<(Arc<Instance>, Option<NodeFacts>)>,
    malformed: Vec<(String, String)>,
    foreign: Vec<Arc<str>>,
    bytes: usize,
}

impl Entries {
    pub(super) fn new(target: Target, is_owned: bool) -> Self {
        Self {
            sofa: remora_naming::sofa::is_sofa(&target).then(|| SofaChildren::of(&target)),
            target,
            is_owned,
            instances: Vec::new(),
            malformed: Vec::new(),
            foreign: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) fn add_child(&mut self, name: &str, node: Option<(Bytes, Stat)>) {
        self.bytes += name.len() + 4;
        let (data, stat) = match &node {
            Some((data, stat)) => (&data[..], *stat),
            None => (&[][..], Stat::default()),
        };
        let content = match (&self.target, &self.sofa) {
            (Target::Application { .. }, _) => application_node("", name, data),
            (_, Some(sofa)) => sofa.content(name, data, &stat),
            (_, None) => service_child("", name),
        };
        let facts = node.as_ref().map(|(_, stat)| NodeFacts {
            created_ms: stat.ctime,
            owner: stat.ephemeral_owner,
        });
        match content {
            NodeContent::Instance(instance) => self.instances.push((instance, facts)),
            NodeContent::Malformed => self.malformed.push((name.to_owned(), self.why(name, data))),
            NodeContent::Other => self.foreign.push(name.into()),
        }
    }

    fn why(&self, name: &str, data: &[u8]) -> String {
        let read = match &self.target {
            Target::Application { .. } => application::parse(name, data).map(|_| ()),
            Target::Service { .. } => places::parse_child(&self.target, name).map(|_| ()),
        };
        read.err().map(|error| error.to_string()).unwrap_or_default()
    }

    pub(super) fn done(mut self) -> SurveyedList {
        // As the adapter: a list's order must not depend on a server's.
        self.instances.sort_by(|a, b| a.0.id.cmp(&b.0.id));
        let (instances, nodes) = self.instances.into_iter().unzip();
        let malformed = self.malformed.iter().map(|(name, _)| name.as_str().into());
        SurveyedList {
            snapshot: Snapshot {
                malformed: malformed.take(100).collect(),
                target: self.target,
                instances,
                foreign: self.foreign,
                source: Source::Registry,
            },
            nodes,
            malformed: self.malformed,
            is_owned: self.is_owned,
            bytes: self.bytes,
        }
    }
}

/// At most so many bytes of a text.
pub(super) fn cut(mut text: String, bytes: usize) -> String {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
