// SPDX-License-Identifier: Apache-2.0
//! Topologies of several Remoras as one graph: a call that two Remoras saw is one edge.

use std::collections::{BTreeMap, BTreeSet};

use super::Topology;
use crate::admin::CallerView;

/// Applications, services, and who calls what.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Graph {
    /// Applications and their frameworks; a caller that nothing names is its host.
    pub(super) applications: BTreeMap<String, String>,
    pub(super) services: BTreeSet<String>,
    /// Application and service.
    pub(super) calls: BTreeMap<(String, String), Calls>,
    /// Service, application, and how calls get there.
    pub(super) goes_to: BTreeMap<(String, String, String), Calls>,
}

/// How many, and how lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) last_s: Option<u64>,
    /// Instances, on the way to a provider.
    pub(super) instances: u64,
}

impl Calls {
    fn add(&mut self, calls: u64, errors: u64, last_s: Option<u64>) {
        self.calls += calls;
        self.errors += errors;
        self.last_s = self.last_s.into_iter().chain(last_s).min();
    }
}

impl Graph {
    /// Of all that is known.
    pub(super) fn of(topology: &Topology) -> Self {
        let mut graph = Self::default();
        let views = || topology.remoras.iter().map(|remora| &remora.view);
        // Callers that a Remora of their own has counted; by application or, where nothing names them, by host.
        let mut counted: BTreeSet<(String, String)> = BTreeSet::new();
        for view in views() {
            for row in &view.out {
                let service = name_of_service(&row.service);
                for caller in &row.consumers {
                    let name = graph.caller(caller);
                    let edge = graph.calls.entry((name.clone(), service.clone())).or_default();
                    edge.add(caller.calls, 0, caller.last_s);
                    counted.insert((name, service.clone()));
                    counted.extend(view.hosts.iter().map(|host| (host.clone(), service.clone())));
                }
                for instance in &row.instances {
                    let name = match instance.application.as_str() {
                        "" => instance.address.clone(),
                        name => name.to_owned(),
                    };
                    graph.application(&name, &instance.framework);
                    let edge = (service.clone(), name, instance.through.clone());
                    let edge = graph.goes_to.entry(edge).or_default();
                    edge.add(instance.calls, instance.errors, instance.last_s);
                    edge.instances += 1;
                }
                graph.services.insert(service);
            }
        }
        for row in views().flat_map(|view| &view.into) {
            let service = name_of_service(&row.service);
            for caller in &row.consumers {
                let is_counted = |name: &str| counted.contains(&(name.to_owned(), service.clone()));
                if is_counted(&caller.application) || is_counted(&caller.host) {
                    continue;
                }
                let name = graph.caller(caller);
                graph.services.insert(service.clone());
                let edge = graph.calls.entry((name, service.clone())).or_default();
                edge.add(caller.calls, 0, caller.last_s);
                let provider = match row.application.as_str() {
                    "" => row.address.clone(),
                    name => name.to_owned(),
                };
                graph.application(&provider, &row.framework);
                let edge = (service.clone(), provider, "ingress".to_owned());
                let edge = graph.goes_to.entry(edge).or_default();
                edge.add(caller.calls, 0, caller.last_s);
                edge.instances = edge.instances.max(1);
            }
        }
        graph
    }

    fn caller(&mut self, caller: &CallerView) -> String {
        let name = match caller.application.as_str() {
            "" => &caller.host,
            name => name,
        };
        self.application(name, &caller.framework);
        name.to_owned()
    }

    fn application(&mut self, name: &str, framework: &str) {
        let known = self.applications.entry(name.to_owned()).or_default();
        if known.is_empty() {
            framework.clone_into(known);
        }
    }
}

fn name_of_service(service: &str) -> String {
    match service {
        "" => "(unreadable)".to_owned(),
        service => service.to_owned(),
    }
}
