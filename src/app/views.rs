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
    CallsView, CatalogView, ConnectionView, ConnectionsView, InstanceView, LeaseView, ListView, ListenerView, OddView,
    PublishedView, RegistryView, RouteView, RuleView, WithdrawalView,
};
use crate::discovery::{self, Catalog, ProtocolPorts};
use crate::metrics::CallMetrics;

/// A list longer than this is cut: `/connections` is for people.
const MAX_CONNECTIONS_SHOWN: usize = 1000;
/// A turn of a worker takes milliseconds, also under load.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);
/// Uses of a provider that are no oddity.
const USED: [&str; 2] = ["dialled", "shown as it is"];

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
            leases: known.leases.iter().map(lease).collect(),
            withdrawing: known.withdrawing.iter().map(withdrawal).collect(),
            lists: known.lists.iter().map(list).collect(),
            routes: routes(&catalog),
            rules_not_applied: catalog.rules_without_effect().into_iter().map(rule).collect(),
            malformed: known.lists.iter().flat_map(malformed).collect(),
            refused: known
                .lists
                .iter()
                .flat_map(refused)
                .chain(known.unresolved.iter().map(unresolved))
                .collect(),
            reload: reloader.state().last.clone(),
        }
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

fn lease(known: &discovery::LeaseView) -> LeaseView {
    LeaseView {
        application: known.application.clone(),
        facade: known.facade.to_owned(),
        registry: known.registry.clone(),
        peer: known.peer.clone(),
        follows: known.follows as u64,
        publishes: known
            .publishes
            .iter()
            .map(|p| PublishedView {
                service: p.service.clone(),
                protocol: p.protocol.clone(),
                own: format!("127.0.0.1:{}", p.app_port),
                published: p.published.clone(),
                state: p.state.to_owned(),
                error: p.error.clone().unwrap_or_default(),
            })
            .collect(),
    }
}

fn withdrawal(known: &discovery::WithdrawalView) -> WithdrawalView {
    WithdrawalView {
        registry: known.registry.clone(),
        list: known.service.clone(),
        published: known.published.clone(),
        for_s: known.for_seconds,
        error: known.error.clone().unwrap_or_default(),
    }
}

fn list(known: &discovery::ListView) -> ListView {
    ListView {
        level: known.level.to_owned(),
        registry: known.registry.clone(),
        name: known.name.clone(),
        followers: known.followers.clone(),
        source: known.source.to_owned(),
        providers: known.providers.len() as u64,
        taken_over: known.providers.iter().filter(|p| p.is_taken_over).count() as u64,
        held: known.held as u64,
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

fn rule(known: discovery::ServiceRule) -> RuleView {
    RuleView {
        kind: known.kind.to_owned(),
        place: known.place,
        why: known.why.to_owned(),
        text: known.text,
        about: known.about,
        consequence: known.consequence.to_owned(),
    }
}

fn malformed(list: &discovery::ListView) -> impl Iterator<Item = OddView> + use<'_> {
    list.malformed.iter().map(|entry| OddView {
        list: list.name.clone(),
        entry: entry.clone(),
        why: "cannot be read".to_owned(),
    })
}

fn refused(list: &discovery::ListView) -> impl Iterator<Item = OddView> + use<'_> {
    let odd = list.providers.iter().filter(|provider| !USED.contains(&provider.use_));
    odd.map(|provider| OddView {
        list: list.name.clone(),
        entry: format!("{}://{}", provider.protocol, provider.address),
        why: provider.use_.to_owned(),
    })
}

fn unresolved(known: &discovery::UnresolvedView) -> OddView {
    OddView {
        list: "any".to_owned(),
        entry: known.host.clone(),
        why: format!("cannot be looked up: {}", known.cause),
    }
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
