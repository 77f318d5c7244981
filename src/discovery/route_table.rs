// SPDX-License-Identifier: Apache-2.0
//! Immutable route tables: what the call path reads of the catalog.
//!
//! A table is replaced whole through [`SharedRoutes`]; routes that did not change are shared between tables.
//! Not here: how a table is made (`catalog.rs`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hashbrown::{Equivalent, HashMap};
use remora_naming::sofa::ANY_VERSION;
use remora_registry::ServiceKey;

/// The table in force. Readers take no lock.
pub type SharedRoutes = Arc<ArcSwap<RouteTable>>;

/// Every service that an application here follows.
#[derive(Debug, Default, Clone)]
pub struct RouteTable {
    routes: HashMap<ServiceKey, Arc<Route>>,
}

/// Where calls of one service key can go. A SOFARPC key whose version is `*` is for versions that have no route of their own.
#[derive(Debug, Clone)]
pub struct Route {
    /// Whose route.
    pub key: ServiceKey,
    /// Usable instances; may be empty ("known, but nobody provides it").
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The longest `timeout` (or `<method>.timeout`) that an instance announces: a call whose frame names no limit of its
    /// own is kept at least that long.
    pub timeout: Option<Duration>,
}

/// One instance as the call path sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Where to connect: a remote Remora's ingress, a bare provider, or, for a provider on this host, the application.
    pub addr: SocketAddr,
    /// Protocol plugin to use.
    pub protocol: Arc<str>,
    /// Dubbo's `weight`; 100 if absent. 0 means: never picked while another has more.
    pub weight: u32,
    /// When the provider started, in ms since 1970; 0 if unknown. Drives the warm-up.
    pub started_ms: u64,
    /// Warm-up time in ms, Dubbo's `warmup`; 600 000 if absent, 0 switches it off. SOFARPC's `warmupTime`; 0 if absent.
    pub warmup_ms: u64,
    /// The weight during the warm-up, SOFARPC's `warmupWeight`; `None`: it grows from 1, as in Dubbo.
    pub warmup_weight: Option<u32>,
    /// Serializations that the instance announces (`serialization`, `prefer.serialization`); empty if it does not say.
    pub serializations: Vec<Arc<str>>,
    /// The application that provides it, for logs and `status`.
    pub application: Arc<str>,
    /// Its framework and version, for `status`; empty if the registry does not tell.
    pub framework: Arc<str>,
    /// Another Remora published it: its ingress, not the provider's own port.
    pub is_taken_over: bool,
}

impl RouteTable {
    /// The route of a service; `version` must be in [`ServiceKey`]'s form (none is empty). For a version that has no
    /// endpoints of its own, the route that is for any.
    pub fn route(&self, name: &str, group: &str, version: &str) -> Option<&Arc<Route>> {
        let exact = self.routes.get(&KeyRef { name, group, version });
        if exact.is_some_and(|route| !route.endpoints.is_empty()) {
            return exact;
        }
        let version = ANY_VERSION;
        exact
            .into_iter()
            .chain(self.routes.get(&KeyRef { name, group, version }))
            .last()
    }

    /// Every route, in no order.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values()
    }

    /// Number of service keys.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether nothing is followed.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Adds or replaces a route; for builders of tables.
    pub fn insert(&mut self, route: Arc<Route>) {
        self.routes.insert(route.key.clone(), route);
    }

    /// Removes a route; for builders of tables.
    pub fn remove(&mut self, key: &ServiceKey) {
        self.routes.remove(key);
    }
}

/// Looks a `ServiceKey` up by its parts, without making one.
#[derive(Debug, Hash)]
pub struct KeyRef<'a> {
    /// Service.
    pub name: &'a str,
    /// Group, empty if none.
    pub group: &'a str,
    /// Version, empty if none.
    pub version: &'a str,
}

impl Equivalent<ServiceKey> for KeyRef<'_> {
    fn equivalent(&self, key: &ServiceKey) -> bool {
        same(self.name, &key.name) && same(self.group, &key.group) && same(self.version, &key.version)
    }
}

/// Equality that reads nothing of empty strings, which groups and versions mostly are. An empty string points nowhere, and
/// some processors take 100 ns over a masked load from there, although it loads no byte.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_found_by_its_parts() {
        let mut table = RouteTable::default();
        let key = ServiceKey::new("demo.EchoService", "g1", "1.0.0");
        table.insert(Arc::new(Route {
            key: key.clone(),
            endpoints: vec![],
            timeout: None,
        }));
        assert_eq!(
            table.route("demo.EchoService", "g1", "1.0.0").map(|r| r.key.clone()),
            Some(key)
        );
        assert!(table.route("demo.EchoService", "", "1.0.0").is_none());
    }

    #[test]
    fn a_version_without_endpoints_takes_the_route_for_any() {
        let mut table = RouteTable::default();
        let mut add = |version: &str, ports: &[u16]| {
            let endpoints = ports.iter().map(|port| {
                Arc::new(Endpoint {
                    addr: ([10, 0, 0, 1], *port).into(),
                    protocol: "bolt".into(),
                    weight: 100,
                    started_ms: 0,
                    warmup_ms: 0,
                    warmup_weight: None,
                    serializations: vec![],
                    application: "".into(),
                    framework: "".into(),
                    is_taken_over: false,
                })
            });
            let key = ServiceKey::new("demo.Echo", "", version);
            let (endpoints, timeout) = (endpoints.collect(), None);
            table.insert(Arc::new(Route {
                key,
                endpoints,
                timeout,
            }));
        };
        add("1.0", &[1]);
        add("2.0", &[2]);
        add("3.0", &[]);
        add(ANY_VERSION, &[1]);
        let version = |asked: &str| table.route("demo.Echo", "", asked).map(|r| r.key.version.to_string());
        assert_eq!(version("1.0").as_deref(), Some("1.0"));
        assert_eq!(version("2.0").as_deref(), Some("2.0"));
        assert_eq!(version("3.0").as_deref(), Some(ANY_VERSION));
        assert_eq!(version("4.0").as_deref(), Some(ANY_VERSION));
        assert!(table.route("demo.Echo", "blue", "1.0").is_none());
    }
}
