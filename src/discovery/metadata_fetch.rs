// SPDX-License-Identifier: Apache-2.0
//! Gets the metadata of one revision: from the registry where it doubles as metadata centre, else from an instance.
//!
//! Not here: what a document says (`metadata.rs`), the call itself (`metadata_rpc.rs`).

use std::sync::Arc;
use std::time::Duration;

use remora_registry::{Instance, Target};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::catalog::Catalog;
use super::metadata::{Document, MetadataError};
use super::sync::Link;
use crate::metrics::discovery::OutcomeLabel;

/// Gets the document of one revision.
pub(super) struct Fetch {
    pub(super) catalog: Arc<Catalog>,
    pub(super) link: Arc<Link>,
    pub(super) application: Arc<str>,
    pub(super) revision: Arc<str>,
}

impl Fetch {
    /// Tries until it is there, no list has the revision any more, or `end`.
    pub(super) async fn run(self, end: CancellationToken) {
        tokio::select! {
            () = end.cancelled() => {}
            () = self.attempts() => {}
        }
        // Known now, or somebody else may begin anew.
        self.catalog
            .state()
            .documents
            .give_up(&self.application, &self.revision);
    }

    async fn attempts(&self) {
        let last = FETCH_PAUSES.last().copied().unwrap_or(FETCH_TIMEOUT);
        for (attempt, pause) in FETCH_PAUSES.into_iter().chain(std::iter::repeat(last)).enumerate() {
            sleep(pause).await;
            let instances = self.instances();
            if instances.is_empty() {
                return;
            }
            let outcome = match self.once(&instances).await {
                Ok(document) => {
                    self.put_in(document);
                    "fetched"
                }
                Err(reason) => reason,
            };
            self.catalog
                .metrics
                .metadata
                .get_or_create(&OutcomeLabel { outcome })
                .inc();
            if outcome == "fetched" {
                return;
            }
            if attempt >= PATIENT_ATTEMPTS {
                self.catalog.state().documents.fail(&self.application, &self.revision);
            }
            if attempt == LOUD_ATTEMPT {
                warn!(
                    registry = &*self.link.name,
                    application = &*self.application,
                    revision = &*self.revision,
                    reason = outcome,
                    "the metadata of this revision cannot be had, its services have no route"
                );
            }
        }
    }

    /// The instances that have the revision now.
    fn instances(&self) -> Vec<Arc<Instance>> {
        let state = self.catalog.state();
        let lists = state.lists.values().filter(|l| l.is_application(&self.application));
        let shown: Vec<_> = lists.filter_map(|l| l.shown.borrow().clone()).collect();
        let all = shown.iter().flat_map(|s| &s.instances);
        all.filter(|i| i.revision() == Some(&self.revision)).cloned().collect()
    }

    async fn once(&self, instances: &[Arc<Instance>]) -> Result<Document, &'static str> {
        let from_registry = self.link.registry.metadata(&self.application, &self.revision);
        if let Ok(Ok(Some(json))) = timeout(FETCH_TIMEOUT, from_registry).await
            && let Ok(document) = Document::read(&json)
        {
            return Ok(document);
        }
        let mut reason = "metadata_no_instance";
        let first = fastrand::usize(..instances.len().max(1));
        for instance in instances
            .iter()
            .cycle()
            .skip(first)
            .take(FETCH_INSTANCES.min(instances.len()))
        {
            match self.ask(instance).await {
                Ok(document) => return Ok(document),
                Err(error) => reason = error.reason(),
            }
        }
        Err(reason)
    }

    async fn ask(&self, instance: &Arc<Instance>) -> Result<Document, MetadataError> {
        let port = service_port(instance);
        let addr = {
            let mut state = self.catalog.state();
            let state = &mut *state;
            state.policy.dial(&instance.host, port, &mut state.hosts)
        };
        let addr = addr.map_err(|_| MetadataError::Unsupported)?;
        let call = (self.catalog.tools.metadata_call)(addr, self.application.to_string(), self.revision.to_string());
        let json = timeout(FETCH_TIMEOUT, call)
            .await
            .map_err(|_| MetadataError::NoAnswer {
                addr,
                cause: format!("nothing within {FETCH_TIMEOUT:?}"),
            })??;
        Document::read(&json).map_err(|e| MetadataError::Unreadable {
            addr,
            cause: e.to_string(),
        })
    }

    fn put_in(&self, document: Document) {
        let mut state = self.catalog.state();
        state.documents.insert(&self.application, &self.revision, document);
        let is_ours = |target: &Target| matches!(target, Target::Application { name, .. } if *name == self.application);
        self.catalog.rebuild(&mut state, is_ours);
        self.catalog.offers_known(&state, &self.application);
        self.link.changed.notify_one();
    }
}

/// Where an instance's metadata service listens: its own port in `url-params`, else the instance's.
fn service_port(instance: &Instance) -> u16 {
    let text = instance
        .params
        .get("dubbo.metadata-service.url-params")
        .unwrap_or_default();
    let params: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let flat = params.get("port").or_else(|| params.get("dubbo")?.get("port"));
    let port = flat.and_then(|p| p.as_str().map_or_else(|| p.as_u64(), |s| s.parse().ok()));
    port.and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p > 0)
        .unwrap_or(instance.port)
}

/// Before each attempt; the last one is repeated as long as a list has the revision.
const FETCH_PAUSES: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(60),
];
/// Dubbo's own limit for this call is 5 s.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
const FETCH_INSTANCES: usize = 3;
/// After these, applications are no longer made to wait for the document: they ask several times and start late.
const PATIENT_ATTEMPTS: usize = 2;
/// By then a provider that is starting would have answered.
const LOUD_ATTEMPT: usize = 4;
