// SPDX-License-Identifier: Apache-2.0
//! Builds the route table, one list at a time: what a list contributes to each service key is kept, only keys whose
//! contribution changed are built again, and instances that did not change keep their endpoint.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use remora_naming::sofa;
use remora_registry::{Instance, ServiceKey, Snapshot, Target};

use super::endpoint::{self, Policy, Refusal};
use super::hosts::Hosts;
use super::metadata::Documents;
use super::route_table::{Endpoint, Route, RouteTable, SharedRoutes};
use super::takeover;

/// Number of a followed list.
pub(super) type ListId = u64;

/// Everything that decides how an instance becomes an endpoint.
pub(super) struct Sight<'a> {
    pub(super) policy: &'a Policy,
    pub(super) hosts: &'a mut Hosts,
    pub(super) documents: &'a Documents,
}

/// The builder of tables.
pub(super) struct Routes {
    shared: SharedRoutes,
    lists: HashMap<ListId, List>,
    /// Which lists contribute to a key.
    sources: HashMap<ServiceKey, BTreeSet<ListId>>,
}

#[derive(Default)]
struct List {
    parts: HashMap<ServiceKey, Part>,
    /// By the address of the instance, which is kept alive here.
    made: HashMap<usize, Made>,
    is_application: bool,
    /// Hosts that are names.
    names: BTreeSet<Arc<str>>,
    refused: Vec<(Arc<Instance>, Refusal)>,
}

#[derive(Default)]
struct Part {
    endpoints: Vec<Arc<Endpoint>>,
    timeout: Option<Duration>,
}

impl PartialEq for Part {
    /// Most endpoints are the very same ones, so look at that first.
    fn eq(&self, other: &Self) -> bool {
        let pairs = || self.endpoints.iter().zip(&other.endpoints);
        self.timeout == other.timeout
            && self.endpoints.len() == other.endpoints.len()
            && pairs().all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
    }
}

struct Made {
    instance: Arc<Instance>,
    is_named: bool,
    endpoint: Result<Arc<Endpoint>, Refusal>,
    timeout: Option<Duration>,
}

impl Routes {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::new(ArcSwap::from_pointee(RouteTable::default())),
            lists: HashMap::new(),
            sources: HashMap::new(),
        }
    }

    /// The table in force.
    pub(super) fn shared(&self) -> &SharedRoutes {
        &self.shared
    }

    /// Takes a list's new state in and replaces the routes that changed with it.
    pub(super) fn update(&mut self, id: ListId, snapshot: &Snapshot, sight: &mut Sight<'_>, keeps_endpoints: bool) {
        let mut former = self.lists.remove(&id).unwrap_or_default();
        if !keeps_endpoints {
            former.made.clear();
        }
        let mut list = List {
            is_application: matches!(snapshot.target, Target::Application { .. }),
            ..List::default()
        };
        let direct = takeover::direct(&snapshot.instances, &sight.policy.spoken);
        let lists_interface = sofa::is_sofa(&snapshot.target) && sofa::Service::of_target(&snapshot.target).is_none();
        for instance in &snapshot.instances {
            match &instance.key {
                _ if direct.contains(&address_of(instance)) => {}
                Some(key) => {
                    let made = list.add_service(key, instance, &mut former, sight);
                    if lists_interface && &*key.version == sofa::VERSION {
                        list.add_any_version(key, &made);
                    }
                    list.made.insert(address_of(instance), made);
                }
                None => list.add_application(instance, sight),
            }
        }
        for part in list.parts.values_mut() {
            part.endpoints.sort_by_key(|e| e.addr);
            part.endpoints.dedup_by_key(|e| e.addr);
        }
        // A key without instances stays known as long as the list is followed.
        for key in former.parts.keys() {
            list.parts.entry(key.clone()).or_default();
        }
        let changed: Vec<ServiceKey> = list
            .parts
            .iter()
            .filter(|(key, part)| former.parts.get(*key) != Some(*part))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &changed {
            self.sources.entry(key.clone()).or_default().insert(id);
        }
        self.lists.insert(id, list);
        self.rebuild(&changed);
    }

    /// Forgets a list.
    pub(super) fn remove(&mut self, id: ListId) {
        let Some(list) = self.lists.remove(&id) else { return };
        let keys: Vec<ServiceKey> = list.parts.into_keys().collect();
        for key in &keys {
            if let Some(sources) = self.sources.get_mut(key) {
                sources.remove(&id);
            }
        }
        self.rebuild(&keys);
    }

    /// The instances of a list that are not dialled, and why.
    pub(super) fn refused(&self, id: ListId) -> &[(Arc<Instance>, Refusal)] {
        self.lists.get(&id).map(|l| l.refused.as_slice()).unwrap_or_default()
    }

    /// Names that instances have for a host.
    pub(super) fn names(&self) -> BTreeSet<Arc<str>> {
        self.lists
            .values()
            .flat_map(|list| list.names.iter().cloned())
            .collect()
    }

    fn rebuild(&mut self, keys: &[ServiceKey]) {
        if keys.is_empty() {
            return;
        }
        let mut table = RouteTable::clone(&self.shared.load());
        for key in keys {
            match self.route(key) {
                Some(route) => table.insert(Arc::new(route)),
                None => {
                    self.sources.remove(key);
                    table.remove(key);
                }
            }
        }
        self.shared.store(Arc::new(table));
    }

    /// Unites what all lists say about a key; one address is one endpoint, a service's own list wins over an application's.
    fn route(&self, key: &ServiceKey) -> Option<Route> {
        let lists = self.sources.get(key)?.iter().filter_map(|id| self.lists.get(id));
        let mut lists: Vec<&List> = lists.collect();
        lists.sort_by_key(|list| list.is_application);
        let parts: Vec<&Part> = lists.iter().filter_map(|list| list.parts.get(key)).collect();
        let (first, rest) = parts.split_first()?;
        let mut endpoints = first.endpoints.clone();
        for part in rest {
            let known: BTreeSet<SocketAddr> = endpoints.iter().map(|e| e.addr).collect();
            endpoints.extend(part.endpoints.iter().filter(|e| !known.contains(&e.addr)).cloned());
        }
        endpoints.sort_by_key(|e| e.addr);
        Some(Route {
            key: key.clone(),
            endpoints,
            timeout: parts.iter().filter_map(|p| p.timeout).max(),
        })
    }
}

impl List {
    fn add_service(
        &mut self,
        key: &ServiceKey,
        instance: &Arc<Instance>,
        former: &mut List,
        sight: &mut Sight<'_>,
    ) -> Made {
        let made = match former.made.remove(&address_of(instance)) {
            Some(made) if Arc::ptr_eq(&made.instance, instance) => made,
            _ => make(instance, sight),
        };
        if made.is_named {
            self.names.insert(Arc::clone(&instance.host));
        }
        let part = self.parts.entry(key.clone()).or_default();
        match &made.endpoint {
            Ok(endpoint) => {
                part.endpoints.push(Arc::clone(endpoint));
                part.timeout = part.timeout.max(made.timeout);
            }
            Err(refusal) => self.refused.push((Arc::clone(instance), *refusal)),
        }
        made
    }

    /// ZooKeeper does not tell SOFARPC's versions: the same provider may be one of every other version, too.
    fn add_any_version(&mut self, key: &ServiceKey, made: &Made) {
        let any = ServiceKey::new(&key.name, &key.group, sofa::ANY_VERSION);
        let part = self.parts.entry(any).or_default();
        part.endpoints.extend(made.endpoint.iter().cloned());
        part.timeout = part.timeout.max(made.timeout);
    }

    fn add_application(&mut self, instance: &Arc<Instance>, sight: &mut Sight<'_>) {
        let application = instance.params.get("application").unwrap_or_default();
        let Some(document) = instance.revision().and_then(|r| sight.documents.known(application, r)) else {
            return;
        };
        if is_name(&instance.host) {
            self.names.insert(Arc::clone(&instance.host));
        }
        let is_marked = instance.app_port().is_some();
        for service in document.services.iter().filter(|s| sight.policy.speaks(&s.protocol)) {
            let ingress = if is_marked {
                takeover::announced_port(instance, &service.protocol)
            } else {
                None
            };
            let port = ingress
                .or(service.port)
                .unwrap_or_else(|| takeover::application_port(instance, &service.protocol));
            let dialled = match endpoint::is_enabled(&service.params) {
                true => sight.policy.dial(&instance.host, port, sight.hosts),
                false => Err(Refusal::Disabled),
            };
            let part = self.parts.entry(service.key.clone()).or_default();
            match dialled {
                Ok(addr) => {
                    let protocol: Arc<str> = service.protocol.as_str().into();
                    part.endpoints
                        .push(Arc::new(endpoint::endpoint(addr, &protocol, &service.params, instance)));
                    part.timeout = part.timeout.max(endpoint::timeout(&service.params));
                }
                Err(refusal) => {
                    if self.refused.last().is_none_or(|(i, _)| !Arc::ptr_eq(i, instance)) {
                        self.refused.push((Arc::clone(instance), refusal));
                    }
                }
            }
        }
    }
}

fn make(instance: &Arc<Instance>, sight: &mut Sight<'_>) -> Made {
    let dialled = match endpoint::is_enabled(&instance.params) {
        true => sight.policy.dial(&instance.host, instance.port, sight.hosts),
        false => Err(Refusal::Disabled),
    };
    Made {
        instance: Arc::clone(instance),
        is_named: is_name(&instance.host),
        endpoint: dialled
            .map(|addr| Arc::new(endpoint::endpoint(addr, &instance.protocol, &instance.params, instance))),
        timeout: endpoint::timeout(&instance.params),
    }
}

fn is_name(host: &str) -> bool {
    host.parse::<IpAddr>().is_err()
}

/// What tells one instance of a list from another while the list lives.
pub(super) fn address_of(instance: &Arc<Instance>) -> usize {
    Arc::as_ptr(instance) as usize
}
