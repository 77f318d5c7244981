// SPDX-License-Identifier: Apache-2.0
//! What consumers ask for that one provider in the place of many cannot give, and consumers that the registry does not have.

use std::collections::{BTreeMap, BTreeSet};

use remora_registry::Params;

use super::super::codes::Code;
use super::super::report::Findings;
use super::super::scene::{Listed, Scene, application_of};
use super::few;
use crate::discovery::forecast::Forecast;

pub(in super::super) fn check(scene: &Scene<'_>, forecast: &Forecast, findings: &mut Findings) {
    for listed in &scene.lists {
        let name = listed.name();
        for consumer in &listed.consumers {
            let who = format!(
                "consumer {} at {}",
                application_of(&consumer.instance),
                consumer.instance.host
            );
            wishes(&name, &who, &consumer.instance.params, findings);
        }
        // A provider's words are its consumers' defaults.
        for merged in &listed.merged {
            wishes(
                &listed.subject(&merged.shown),
                "set by its providers",
                &merged.shown.params,
                findings,
            );
        }
        within_one_process(listed, findings);
        left_by_policy(scene, listed, forecast, findings);
    }
    names_nothing(scene, forecast, findings);
    past_the_registry(scene, findings);
}

fn wishes(subject: &str, who: &str, params: &Params, findings: &mut Findings) {
    for (key, value) in params.iter() {
        let word = key.rsplit('.').next().unwrap_or(key);
        let code = match (word, value) {
            ("cluster", "broadcast" | "forking" | "mergeable") => Code::EveryProvider,
            ("loadbalance", "consistenthash" | "leastactive" | "shortestresponse" | "adaptive") => {
                Code::ConsumerChooses
            }
            ("sticky", "true") => Code::ConsumerChooses,
            ("actives", value) if value.parse::<i64>().is_ok_and(|n| n > 0) => Code::LimitPerProvider,
            _ => continue,
        };
        findings.add(code, subject, format!("{key}={value}, {who}"));
    }
}

fn within_one_process(listed: &Listed<'_>, findings: &mut Findings) {
    let instances = listed.list.snapshot.instances.iter();
    let providers: BTreeSet<&str> = instances.map(|i| application_of(i)).filter(|a| !a.is_empty()).collect();
    for consumer in &listed.consumers {
        let application = application_of(&consumer.instance);
        if providers.contains(application) {
            findings.add(Code::WithinOneProcess, listed.name(), application);
        }
    }
}

/// Consumers to whom a list is shown as it is, by `takeover`.
fn left_by_policy(scene: &Scene<'_>, listed: &Listed<'_>, forecast: &Forecast, findings: &mut Findings) {
    for consumer in &listed.consumers {
        let whys = listed.whys_left(scene, forecast, consumer);
        if !whys.is_empty() {
            let (who, host) = (application_of(&consumer.instance), &consumer.instance.host);
            let seen = format!("handed out as it is to {who} at {host}: {}", few(&whys));
            findings.add(Code::LeftByPolicy, listed.name(), seen);
        }
    }
}

fn names_nothing(scene: &Scene<'_>, forecast: &Forecast, findings: &mut Findings) {
    // With a part of the services nothing can be said of what is not there.
    if scene.is_part {
        return;
    }
    let published = scene
        .providers()
        .map(|(listed, _, i)| (listed.target(), &**i, application_of(i)));
    let followed = scene.lists.iter().flat_map(|listed| {
        listed.consumers.iter().flat_map(move |consumer| {
            let instances = listed.list.snapshot.instances.iter();
            instances.map(move |i| (listed.target(), &**i, application_of(&consumer.instance)))
        })
    });
    for (key, rule) in forecast.naming_nothing(published.chain(followed), &|target, i| scene.offers(target, i)) {
        findings.add(Code::NamesNothing, key, rule.to_string());
    }
}

/// Applications that told the metadata centre that they consume a service, run, but do not stand among its consumers.
fn past_the_registry(scene: &Scene<'_>, findings: &mut Findings) {
    for looked in scene.looked {
        let mut consumers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for consumer in &looked.survey.consumers {
            let names = consumers.entry(consumer.target.name()).or_default();
            names.insert(application_of(&consumer.instance));
        }
        let instances = looked.survey.lists.iter().flat_map(|list| &list.snapshot.instances);
        let mut running: BTreeSet<&str> = instances.map(|i| application_of(i)).collect();
        running.extend(consumers.values().flatten());
        let mut past: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for definition in looked.survey.definitions.iter().filter(|d| d.is_consumer) {
            let (service, application) = (definition.service.as_str(), definition.application.as_str());
            let is_looked_at = scene.names.contains(service);
            let is_listed = consumers.get(service).is_some_and(|names| names.contains(application));
            if running.contains(application) && !is_listed && is_looked_at {
                past.entry(service).or_default().insert(application);
            }
        }
        for (service, applications) in past {
            findings.add(Code::PastTheRegistry, service, few(&applications));
        }
    }
}
