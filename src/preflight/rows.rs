// SPDX-License-Identifier: Apache-2.0
//! Applications and services, before -> after.

use std::collections::{BTreeMap, BTreeSet};

use remora_registry::{Instance, PublishError};

use super::report::{Application, Consumer, Handed, Provider, RegistryRow, ServerRow, Service};
use super::scene::{Listed, Looked, Scene, address_of, application_of, framework_of};
use crate::discovery::forecast::{Forecast, address, offer, shown_revision};

pub(super) fn registry(looked: &Looked) -> RegistryRow {
    let servers = looked.survey.servers.iter().map(|server| ServerRow {
        address: server.address.clone(),
        what: server.what.clone(),
        max_connections_per_host: server.max_connections_per_host,
    });
    RegistryRow {
        name: looked.name.clone(),
        url: looked.url.clone(),
        servers: servers.collect(),
        reads: looked.survey.cost.reads,
        bytes: looked.survey.cost.bytes,
        elapsed_ms: looked.elapsed_ms,
    }
}

pub(super) fn rows(scene: &Scene<'_>, forecast: &Forecast) -> (Vec<Application>, Vec<Service>) {
    let mut applications: BTreeMap<String, Application> = BTreeMap::new();
    let app_ports = scene.app_ports();
    let mut services = Vec::new();
    for listed in &scene.lists {
        // Nothing was ever there, or nothing is left.
        if listed.list.snapshot.instances.is_empty() && listed.consumers.is_empty() {
            continue;
        }
        let service = service(scene, listed, forecast, &app_ports);
        let name = listed.name();
        for instance in &listed.list.snapshot.instances {
            let application = row(&mut applications, instance);
            // An entry of an application may leave it to its document.
            if let (true, Some(revision)) = (listed.is_application(), instance.revision()) {
                let services = scene.documents.get(&(listed.target().name(), revision));
                let said = services
                    .into_iter()
                    .flatten()
                    .filter_map(|s| remora_naming::framework(&s.params));
                application.frameworks.extend(said);
            }
            let offered = match listed.is_application() {
                true => Vec::new(),
                false => vec![offer(instance.key.as_ref(), listed.target())],
            };
            application.provides.extend(offered);
            if let (true, Some(revision)) = (listed.is_application(), instance.revision()) {
                let documents = scene.documents.get(&(listed.target().name(), revision));
                let offered = documents.into_iter().flatten().map(|service| service.key.to_string());
                application.provides.extend(offered);
            }
        }
        for consumer in &listed.consumers {
            row(&mut applications, &consumer.instance).consumes.insert(name.clone());
        }
        services.push(service);
    }
    (applications.into_values().collect(), services)
}

fn row<'a>(applications: &'a mut BTreeMap<String, Application>, instance: &Instance) -> &'a mut Application {
    let name = application_of(instance).to_owned();
    let application = applications.entry(name.clone()).or_default();
    application.name = name;
    application.hosts.insert(instance.host.to_string());
    let framework = framework_of(instance);
    if !framework.is_empty() {
        application.frameworks.insert(framework);
    }
    application
}

fn service(scene: &Scene<'_>, listed: &Listed<'_>, forecast: &Forecast, app_ports: &AppPorts<'_>) -> Service {
    let target = listed.target();
    let instances = &listed.list.snapshot.instances;
    let mut providers: Vec<Provider> = instances
        .iter()
        .enumerate()
        .map(|(at, instance)| provider(listed, at, instance, forecast, app_ports))
        .collect();
    providers.sort();
    let consumers: BTreeSet<Consumer> = listed
        .consumers
        .iter()
        .map(|consumer| Consumer {
            application: application_of(&consumer.instance).to_owned(),
            framework: framework_of(&consumer.instance),
            host: consumer.instance.host.to_string(),
            left: left_for(listed.whys_left(scene, forecast, consumer)),
        })
        .collect();
    let mut handed: Vec<Handed> = listed.shown.iter().map(|shown| handed(listed, shown)).collect();
    handed.sort();
    Service {
        registry: listed.registry.name.clone(),
        name: target.name().to_string(),
        namespace: target.namespace().to_string(),
        is_application: listed.is_application(),
        framework: if listed.is_sofa() { "SOFARPC" } else { "Dubbo" },
        providers,
        consumers: consumers.into_iter().collect(),
        handed,
    }
}

fn left_for(whys: BTreeSet<String>) -> Option<String> {
    (!whys.is_empty()).then(|| Vec::from_iter(whys).join("; "))
}

type AppPorts<'a> = BTreeMap<(&'a str, &'a str), BTreeSet<u16>>;

fn provider(
    listed: &Listed<'_>,
    at: usize,
    instance: &Instance,
    forecast: &Forecast,
    app_ports: &AppPorts<'_>,
) -> Provider {
    let before = address_of(instance);
    let (after, left) = match listed.outward.get(at) {
        _ if !listed.list.is_owned => (before.clone(), Some("outside the configured roots".to_owned())),
        Some(Ok(published)) => {
            let ports = app_ports.get(&(&*instance.host, &*instance.protocol));
            let is_alone = ports.is_none_or(|ports| ports.len() < 2);
            let settings = forecast.setup().protocols.iter().find(|p| p.name == *instance.protocol);
            let after = settings.map(|settings| {
                let first = address(&published.host, settings.ingress.port());
                match is_alone {
                    true => first,
                    // Whoever publishes first gets the first port.
                    false => format!("{first} or {}", settings.ingress_range),
                }
            });
            (after.unwrap_or_else(|| before.clone()), None)
        }
        Some(Err(error)) => (before.clone(), Some(why(error))),
        None => (before.clone(), None),
    };
    Provider {
        service: offer(instance.key.as_ref(), listed.target()),
        protocol: instance.protocol.to_string(),
        application: application_of(instance).to_owned(),
        framework: framework_of(instance),
        before,
        after,
        left,
    }
}

fn why(error: &PublishError) -> String {
    match error {
        PublishError::Protocol { protocol } => format!("Remora does not speak {protocol}"),
        PublishError::AlreadyTakenOver { .. } => "published by a Remora already".to_owned(),
        other => other.to_string(),
    }
}

fn handed(listed: &Listed<'_>, shown: &Instance) -> Handed {
    let merged = listed.merged.iter().find(|merged| merged.shown.id == shown.id);
    let stands_for = match listed.is_application() {
        false => merged.map(|merged| merged.members.len()),
        true => {
            let is_behind =
                |i: &&std::sync::Arc<Instance>| i.revision().map(shown_revision).as_deref() == shown.revision();
            let number = listed.list.snapshot.instances.iter().filter(is_behind).count();
            (number > 0).then_some(number)
        }
    };
    Handed {
        service: offer(shown.key.as_ref(), listed.target()),
        protocol: shown.protocol.to_string(),
        address: address_of(shown),
        stands_for,
        entry: shown.raw.to_string(),
    }
}
