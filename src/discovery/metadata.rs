// SPDX-License-Identifier: Apache-2.0
//! What the revisions of applications offer.
//!
//! A revision's document comes from the registry where it doubles as metadata centre, else from one of the revision's
//! instances by one call, and is kept as long as a followed list has the revision.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use remora_naming::NamingError;
use remora_naming::metadata::{self, ServiceInfo};
use remora_registry::BoxFuture;
use tokio::sync::watch;

/// Asks an instance for its document: address, application, revision; gives a JSON text.
pub type MetadataCall =
    Arc<dyn Fn(SocketAddr, String, String) -> BoxFuture<'static, Result<String, MetadataError>> + Send + Sync>;

/// A document could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MetadataError {
    /// The instance did not answer, or not in time.
    #[error("{addr} did not answer: {cause}")]
    NoAnswer {
        /// Who was asked.
        addr: SocketAddr,
        /// Why.
        cause: String,
    },
    /// The answer is no document.
    #[error("{addr} answered, but {cause}")]
    Unreadable {
        /// Who was asked.
        addr: SocketAddr,
        /// Why.
        cause: String,
    },
    /// This build cannot ask instances.
    #[error("instances cannot be asked")]
    Unsupported,
}

impl MetadataError {
    /// Metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoAnswer { .. } => "metadata_no_answer",
            Self::Unreadable { .. } => "metadata_unreadable",
            Self::Unsupported => "metadata_unsupported",
        }
    }
}

/// What a revision offers.
#[derive(Debug)]
pub(super) struct Document {
    /// The JSON text.
    pub(super) json: Arc<str>,
    /// Its services.
    pub(super) services: Vec<ServiceInfo>,
}

impl Document {
    pub(super) fn read(json: &str) -> Result<Self, NamingError> {
        Ok(Self {
            json: json.into(),
            services: metadata::services(json.as_bytes())?,
        })
    }
}

/// Documents by application and revision.
pub(super) struct Documents {
    known: HashMap<Arc<str>, HashMap<Arc<str>, Arc<Document>>>,
    asked: HashSet<(Arc<str>, Arc<str>)>,
    /// Asked for in vain so far; nobody is made to wait for these.
    failed: HashSet<(Arc<str>, Arc<str>)>,
    changes: watch::Sender<u64>,
}

impl Documents {
    pub(super) fn new() -> Self {
        Self {
            known: HashMap::new(),
            asked: HashSet::new(),
            failed: HashSet::new(),
            changes: watch::Sender::new(0),
        }
    }

    pub(super) fn known(&self, application: &str, revision: &str) -> Option<&Arc<Document>> {
        self.known.get(application)?.get(revision)
    }

    /// Notes that a document cannot be had for now; those who wait for it are told.
    pub(super) fn fail(&mut self, application: &Arc<str>, revision: &Arc<str>) {
        if self.failed.insert((Arc::clone(application), Arc::clone(revision))) {
            self.changes.send_modify(|n| *n = n.wrapping_add(1));
        }
    }

    /// Whether a document was asked for in vain so far.
    pub(super) fn is_failed(&self, application: &str, revision: &str) -> bool {
        self.failed.contains(&(Arc::from(application), Arc::from(revision)))
    }

    /// Ticks whenever a document was put in, or failed.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn insert(&mut self, application: &Arc<str>, revision: &Arc<str>, document: Document) {
        self.give_up(application, revision);
        let revisions = self.known.entry(Arc::clone(application)).or_default();
        revisions.insert(Arc::clone(revision), Arc::new(document));
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Notes that somebody sees to this document; false if it is known or already seen to.
    pub(super) fn ask(&mut self, application: &Arc<str>, revision: &Arc<str>) -> bool {
        self.known(application, revision).is_none()
            && self.asked.insert((Arc::clone(application), Arc::clone(revision)))
    }

    /// Nobody sees to it any more.
    pub(super) fn give_up(&mut self, application: &Arc<str>, revision: &Arc<str>) {
        let key = (Arc::clone(application), Arc::clone(revision));
        self.asked.remove(&key);
        self.failed.remove(&key);
    }

    /// Forgets what `is_used` does not want; says whether anything went.
    pub(super) fn retain(&mut self, is_used: impl Fn(&str, &str) -> bool) -> bool {
        let mut went = false;
        for (application, revisions) in &mut self.known {
            let before = revisions.len();
            revisions.retain(|revision, _| is_used(application, revision));
            went |= revisions.len() != before;
        }
        self.known.retain(|_, revisions| !revisions.is_empty());
        went
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &Arc<Document>)> {
        self.known
            .iter()
            .flat_map(|(app, revisions)| revisions.iter().map(move |(r, d)| (app, r, d)))
    }
}
