// SPDX-License-Identifier: Apache-2.0
//! What discovery and the call path know, in the words of the admin pages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use remora_registry::BoxFuture;
use tracing::warn;

use super::SharedCall;
use super::doors::OpenDoor;
use super::house::OpenDoors;
use super::registries::OpenRegistry;
use super::reload::Reloader;
use crate::admin::{
    CallsView, CatalogView, ConnectionView, ConnectionsView, Filter, InstanceView, ListenerView, RegistryView,
    RouteView,
};
use crate::discovery::{self, Catalog, ProtocolPorts, ServiceQuery};
use crate::metrics::CallMetrics;
use crate::views::ServicesView;

/// A list longer than this is cut: `/connections` is for people.
const MAX_CONNECTIONS_SHOWN: usize = 1000;
/// A turn of a worker takes milliseconds, also under load.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn catalog(
    catalog: Arc<Catalog>,
    registries: &[OpenRegistry],
    started: SystemTime,
    reloader: Arc<Reloader>,
) -> Box<dyn Fn() -> CatalogView + Send + Sync> {
    let doors: Vec<(String, OpenDoors)> = registries.iter().map(|r| (r.name.clone(), r.doors.clone())).collect();
    Box::new(move || {
        let known = catalog.view();
        let doors: Vec<(String, Vec<String>)> = doors.iter().map(|(name, open)| (name.clone(), shown(open))).collect();
        CatalogView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: started.elapsed().unwrap_or_default().as_secs(),
            registries: known.registries.iter().map(|r| registry(r, &doors)).collect(),
            leases: known.leases,
            withdrawing: known.withdrawing,
            lists: known.lists,
            routes: routes(&catalog),
            rules_not_applied: catalog.rules_without_effect(),
            malformed: known.malformed,
            refused: [known.refused, known.unresolved].concat(),
            reload: reloader.state().last.clone(),
        }
    })
}

/// Services of a page unless more are asked for.
const SERVICES_SHOWN: usize = 1000;

pub(super) fn services(catalog: Arc<Catalog>) -> Box<dyn Fn(Filter) -> ServicesView + Send + Sync> {
    Box::new(move |filter| {
        catalog.services(&ServiceQuery {
            service: filter.service,
            application: filter.application,
            offset: filter.offset,
            limit: filter.limit.unwrap_or(SERVICES_SHOWN),
        })
    })
}

/// Facade names and addresses.
fn shown(doors: &OpenDoors) -> Vec<String> {
    let shown = |door: OpenDoor| door.addrs.into_iter().map(move |addr| format!("{} {addr}", door.name));
    doors.list().into_iter().flat_map(shown).collect()
}

fn registry(known: &discovery::RegistryView, doors: &[(String, Vec<String>)]) -> RegistryView {
    RegistryView {
        name: known.name.clone(),
        url: known.identity.clone(),
        state: known.state.to_owned(),
        for_s: known.for_seconds,
        cause: known.cause.clone().unwrap_or_default(),
        facades: doors
            .iter()
            .filter(|(name, _)| *name == known.name)
            .flat_map(|(_, doors)| doors.clone())
            .collect(),
    }
}

fn routes(catalog: &Catalog) -> Vec<RouteView> {
    let table = catalog.routes().load();
    let mut routes: Vec<RouteView> = table
        .routes()
        .map(|route| RouteView {
            service: route.key.to_string(),
            instances: route
                .endpoints
                .iter()
                .map(|e| InstanceView {
                    address: e.addr.to_string(),
                    protocol: e.protocol.to_string(),
                    weight: e.weight,
                    application: e.application.to_string(),
                })
                .collect(),
        })
        .collect();
    routes.sort_by(|a, b| a.service.cmp(&b.service));
    routes
}

pub(super) fn connections(
    call: SharedCall,
    metrics: CallMetrics,
    catalog: Arc<Catalog>,
    ports: Vec<ProtocolPorts>,
    doors: Vec<OpenDoors>,
) -> Box<dyn Fn() -> BoxFuture<'static, ConnectionsView> + Send + Sync> {
    Box::new(move || {
        let (call, metrics) = (Arc::clone(&call), metrics.clone());
        let listeners = listeners(&catalog, &ports);
        let facade_connections = doors
            .iter()
            .flat_map(OpenDoors::list)
            .map(|door| door.stats.connections())
            .sum();
        Box::pin(async move {
            let open = match &*call.lock().await {
                Some(call) => call.connections().await,
                None => Vec::new(),
            };
            ConnectionsView {
                listeners,
                left_out: open.len().saturating_sub(MAX_CONNECTIONS_SHOWN) as u64,
                connections: open.iter().take(MAX_CONNECTIONS_SHOWN).map(connection).collect(),
                calls: calls(&metrics),
                facade_connections,
            }
        })
    })
}

/// Whether every worker of the call path still turns.
pub(super) fn alive(call: SharedCall) -> Box<dyn Fn() -> BoxFuture<'static, Option<String>> + Send + Sync> {
    Box::new(move || {
        let call = Arc::clone(&call);
        Box::pin(async move {
            let silent = match &*call.lock().await {
                Some(call) => call.silent(ALIVE_WITHIN).await,
                // It has drained, or another process has it.
                None => return None,
            };
            let first = silent.first()?;
            warn!(worker = first, "a worker of the call path does not answer");
            Some(format!("worker {first} of the call path does not answer"))
        })
    })
}

fn connection(known: &crate::call::ConnectionView) -> ConnectionView {
    ConnectionView {
        side: known.side.label().to_owned(),
        direction: known.direction.to_owned(),
        protocol: known.protocol.to_owned(),
        peer: known.peer.to_string(),
        age_ms: known.age_ms,
        silent_ms: known.silent_ms,
        idle_ms: known.idle_ms,
        in_flight: known.in_flight as u64,
        bytes_in: known.bytes_in,
        bytes_out: known.bytes_out,
        queued_bytes: known.queued_bytes as u64,
        is_pinned: known.pinned,
        is_going_away: known.going_away,
        worker: known.worker as u64,
    }
}

fn listeners(catalog: &Catalog, ports: &[ProtocolPorts]) -> Vec<ListenerView> {
    let ip_of = |protocol: &str| ports.iter().find(|p| p.name == protocol).map(|p| p.ingress.ip());
    let known = catalog.view();
    let egress = known.egress.iter().map(|e| ListenerView {
        side: "egress".to_owned(),
        protocol: e.protocol.clone(),
        address: e.address.clone(),
        app: String::new(),
    });
    let ingress = known.ingress.iter().map(|row| ListenerView {
        side: "ingress".to_owned(),
        protocol: row.protocol.clone(),
        address: match ip_of(&row.protocol) {
            Some(ip) => SocketAddr::new(ip, row.ingress_port).to_string(),
            None => row.ingress_port.to_string(),
        },
        app: format!("127.0.0.1:{}", row.app_port),
    });
    egress.chain(ingress).collect()
}

fn calls(metrics: &CallMetrics) -> Vec<CallsView> {
    metrics
        .totals()
        .into_iter()
        .map(|((side, protocol), outcomes)| CallsView {
            side: side.label().to_owned(),
            protocol: protocol.to_owned(),
            outcomes: outcomes
                .into_iter()
                .map(|(outcome, n)| (outcome.to_owned(), n))
                .collect(),
        })
        .collect()
}
