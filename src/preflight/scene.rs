// SPDX-License-Identifier: Apache-2.0
//! What was read, with what takeover would make of it beside each list: what the checks look at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remora_naming::{metadata, sofa};
use remora_registry::survey::{Survey, SurveyedConsumer, SurveyedList};
use remora_registry::{Client, Instance, PublishError, Target};

use super::only::Only;
use crate::discovery::forecast::{Forecast, Merged, Published};

/// A registry that was read.
pub(super) struct Looked {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) survey: Survey,
    pub(super) elapsed_ms: u64,
}

/// Everything.
pub(super) struct Scene<'a> {
    pub(super) looked: &'a [Looked],
    pub(super) lists: Vec<Listed<'a>>,
    /// What revisions offer, by application and revision.
    pub(super) documents: BTreeMap<(&'a str, &'a str), Vec<metadata::ServiceInfo>>,
    /// Names of the lists.
    pub(super) names: BTreeSet<&'a str>,
    /// Names of the applications that publish.
    pub(super) publishers: BTreeSet<&'a str>,
    /// This host's clock, in milliseconds since the epoch.
    pub(super) now_ms: i64,
    /// Whether only some services are looked at.
    pub(super) is_part: bool,
}

/// A list.
pub(super) struct Listed<'a> {
    pub(super) registry: &'a Looked,
    pub(super) list: &'a SurveyedList,
    pub(super) consumers: Vec<&'a SurveyedConsumer>,
    /// For each instance: consumers are shown it as it is.
    pub(super) stays: Vec<bool>,
    /// Those that consumers are shown as one.
    pub(super) merged: Vec<Merged>,
    /// What consumers are shown.
    pub(super) shown: Vec<Instance>,
    /// For each instance: what a Remora beside it would publish, or why it would not.
    pub(super) outward: Vec<Result<Published, PublishError>>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(looked: &'a [Looked], forecast: &Forecast, only: &Only, now_ms: i64) -> Self {
        let mut lists = Vec::new();
        let mut documents = BTreeMap::new();
        for registry in looked {
            let survey = &registry.survey;
            let mut consumers: BTreeMap<&Target, Vec<&SurveyedConsumer>> = BTreeMap::new();
            for consumer in &survey.consumers {
                consumers.entry(&consumer.target).or_default().push(consumer);
            }
            for list in &survey.lists {
                let target = &list.snapshot.target;
                if only.has(target.name()) {
                    let consumers = consumers.remove(target).unwrap_or_default();
                    lists.push(Listed::new(registry, list, consumers, forecast));
                }
            }
            for (application, revision, json) in &survey.documents {
                if let Ok(services) = metadata::services(json.as_bytes()) {
                    documents.insert((application.as_str(), revision.as_str()), services);
                }
            }
        }
        let names = lists.iter().map(|listed| &**listed.target().name()).collect();
        let instances = lists.iter().flat_map(|listed| &listed.list.snapshot.instances);
        Self {
            looked,
            names,
            publishers: instances.map(|instance| application_of(instance)).collect(),
            lists,
            documents,
            now_ms,
            is_part: !only.is_all(),
        }
    }

    /// Every provider with its list, the entries of applications among them.
    pub(super) fn providers(&self) -> impl Iterator<Item = (&Listed<'a>, usize, &Arc<Instance>)> + Clone {
        self.lists.iter().flat_map(|listed| {
            let instances = listed.list.snapshot.instances.iter().enumerate();
            instances.map(move |(at, instance)| (listed, at, instance))
        })
    }

    /// Application ports of each host and protocol that Remoras there would take over.
    pub(super) fn app_ports(&self) -> BTreeMap<(&str, &str), BTreeSet<u16>> {
        let mut ports: BTreeMap<(&str, &str), BTreeSet<u16>> = BTreeMap::new();
        for (listed, at, instance) in self.providers() {
            if let Some(Ok(published)) = listed.outward.get(at) {
                let key = (&*instance.host, &*instance.protocol);
                ports.entry(key).or_default().insert(published.app_port);
            }
        }
        ports
    }
}

impl<'a> Listed<'a> {
    fn new(
        registry: &'a Looked,
        list: &'a SurveyedList,
        consumers: Vec<&'a SurveyedConsumer>,
        forecast: &Forecast,
    ) -> Self {
        let snapshot = &list.snapshot;
        let is_go = |c: &&SurveyedConsumer| {
            let release = c.instance.params.get("release");
            release.is_some_and(|release| release.starts_with("dubbo-golang"))
        };
        // A list is shown to each consumer in its own form; one of the usual kind, and one to whom it is shown as taken over
        // if there is one, stands for all.
        let client = match consumers.is_empty() || !consumers.iter().all(is_go) {
            true => Client::Java,
            false => Client::Plain,
        };
        let is_taken = |application: &&str| {
            let mut all = snapshot.instances.iter();
            all.any(|i| forecast.left(&snapshot.target, i, application).is_none())
        };
        let applications = consumers.iter().map(|consumer| application_of(&consumer.instance));
        let reader = applications
            .clone()
            .find(is_taken)
            .or(applications.clone().next())
            .unwrap_or_default();
        let (shown, merged, stays) = match list.is_owned {
            true => (
                forecast.inward(snapshot, client, reader),
                forecast.merged(snapshot, client, reader),
                forecast.stay(snapshot),
            ),
            false => {
                let as_it_is = snapshot.instances.iter().map(|i| Instance::clone(i));
                (as_it_is.collect(), Vec::new(), vec![true; snapshot.instances.len()])
            }
        };
        let outward = snapshot
            .instances
            .iter()
            .map(|i| forecast.outward(&snapshot.target, i, application_of(i)))
            .collect();
        Self {
            registry,
            list,
            consumers,
            stays,
            merged,
            shown,
            outward,
        }
    }

    pub(super) fn target(&self) -> &'a Target {
        &self.list.snapshot.target
    }

    pub(super) fn is_sofa(&self) -> bool {
        sofa::is_sofa(self.target())
    }

    pub(super) fn is_application(&self) -> bool {
        matches!(self.target(), Target::Application { .. })
    }

    /// For findings: `demo.EchoService`, with its namespace where that is not the usual one.
    pub(super) fn name(&self) -> String {
        let target = self.target();
        match &**target.namespace() {
            "/dubbo" | sofa::NAMESPACE | "/services" => target.name().to_string(),
            namespace => format!("{namespace}/{}", target.name()),
        }
    }

    /// For findings: what one of its instances offers, and where.
    pub(super) fn subject(&self, instance: &Instance) -> String {
        let offer = match &instance.key {
            Some(key) => key.to_string(),
            None => format!("application {}", self.target().name()),
        };
        match &**self.target().namespace() {
            "/dubbo" | sofa::NAMESPACE | "/services" => offer,
            namespace => format!("{namespace} {offer}"),
        }
    }
}

/// Name of the application behind an entry, empty if it does not say.
pub(super) fn application_of(instance: &Instance) -> &str {
    let dubbo = || instance.params.get("application");
    sofa::params::word(&instance.params, "appName")
        .or_else(dubbo)
        .unwrap_or_default()
}

/// `dubbo 2.7.23`, empty if it is not said.
pub(super) fn framework_of(instance: &Instance) -> String {
    if let Some(framework) = remora_naming::framework(&instance.params) {
        return framework;
    }
    // Of an application's entry: how its metadata service is called.
    let inner = instance
        .params
        .get("dubbo.metadata-service.url-params")
        .unwrap_or_default();
    let inner: serde_json::Value = serde_json::from_str(inner).unwrap_or_default();
    let release = inner.get("release").or_else(|| inner.get("dubbo")?.get("release"));
    let release = release.and_then(serde_json::Value::as_str);
    release.map(|release| format!("dubbo {release}")).unwrap_or_default()
}

/// `10.0.0.5:20880`.
pub(super) fn address_of(instance: &Instance) -> String {
    crate::discovery::forecast::address(&instance.host, instance.port)
}
