// SPDX-License-Identifier: Apache-2.0
//! What was read, with what takeover would make of it beside each list: what the checks look at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remora_naming::{metadata, sofa};
use remora_registry::survey::{Survey, SurveyedConsumer, SurveyedList};
use remora_registry::{Client, Instance, PublishError, ServiceKey, Target};

use super::only::Only;
use crate::discovery::forecast::{Forecast, Merged, Published, Reader};

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
    /// Their keys.
    offers: Offers<'a>,
    /// Names of the lists.
    pub(super) names: BTreeSet<&'a str>,
    /// Names of the applications that publish.
    pub(super) publishers: BTreeSet<&'a str>,
    /// This host's clock, in milliseconds since the epoch.
    pub(super) now_ms: i64,
    /// Whether only some services are looked at.
    pub(super) is_part: bool,
}

type Offers<'a> = BTreeMap<(&'a str, &'a str), Vec<ServiceKey>>;

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
        let mut documents: BTreeMap<_, Vec<metadata::ServiceInfo>> = BTreeMap::new();
        for (application, revision, json) in looked.iter().flat_map(|registry| &registry.survey.documents) {
            if let Ok(services) = metadata::services(json.as_bytes()) {
                documents.insert((application.as_str(), revision.as_str()), services);
            }
        }
        let keys = |services: &Vec<metadata::ServiceInfo>| services.iter().map(|s| s.key.clone()).collect();
        let offers: Offers<'_> = documents.iter().map(|(of, services)| (*of, keys(services))).collect();
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
                    lists.push(Listed::new(registry, list, consumers, forecast, &offers));
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
            offers,
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

    /// What an entry of an application's list stands for, as far as its document is there.
    pub(super) fn offers<'s>(&'s self, target: &'s Target, instance: &'s Instance) -> &'s [ServiceKey] {
        offers_of(&self.offers, target, instance)
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
        offers: &Offers<'_>,
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
        let target = &snapshot.target;
        let why_left = |reader: Reader<'_>, i: &Instance| {
            let offers = offers_of(offers, target, i);
            forecast.left(target, i, reader, offers)
        };
        let readers = consumers.iter().map(|consumer| reader(consumer));
        let has_some = |reader: &Reader<'_>| snapshot.instances.iter().any(|i| why_left(*reader, i).is_none());
        let nobody = Reader {
            application: "",
            host: None,
        };
        let one = readers
            .clone()
            .find(has_some)
            .or(readers.clone().next())
            .unwrap_or(nobody);
        let is_taken = |i: &Arc<Instance>| why_left(one, i).is_none();
        let (shown, merged, stays) = match list.is_owned {
            true => (
                forecast.inward(snapshot, client, &is_taken),
                forecast.merged(snapshot, client, &is_taken),
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
            .map(|i| forecast.outward(target, i, application_of(i), offers_of(offers, target, i)))
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

    /// Why a consumer would be shown some of it, or all, as it is; empty if nothing.
    pub(super) fn whys_left(
        &self,
        scene: &Scene<'_>,
        forecast: &Forecast,
        consumer: &SurveyedConsumer,
    ) -> BTreeSet<String> {
        let target = self.target();
        let why = |i: &Arc<Instance>| forecast.left(target, i, reader(consumer), scene.offers(target, i));
        let whys = self.list.snapshot.instances.iter().filter_map(why);
        whys.map(|why| why.to_string()).collect()
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

fn offers_of<'o>(offers: &'o Offers<'_>, target: &'o Target, instance: &'o Instance) -> &'o [ServiceKey] {
    let (Target::Application { name, .. }, Some(revision)) = (target, instance.revision()) else {
        return &[];
    };
    offers.get(&(&**name, revision)).map(Vec::as_slice).unwrap_or_default()
}

/// A consumer as its Remora would see it: the machine's address is the one that it registered.
pub(super) fn reader(consumer: &SurveyedConsumer) -> Reader<'_> {
    Reader {
        application: application_of(&consumer.instance),
        host: Some(&consumer.instance.host),
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
