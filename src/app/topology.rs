// SPDX-License-Identifier: Apache-2.0
//! `/topology`: what the call path counted, joined with what discovery knows of services, instances and applications.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use remora_registry::BoxFuture;

use super::SharedCall;
use crate::admin::{ApplicationView, CalleeView, CallerView, Filter, InView, OutView, TopologyView};
use crate::call::{HopView, LineView, Side, TalliesView};
use crate::discovery::route_table::{Endpoint, Route, RouteTable};
use crate::discovery::{ApplicationFacts, Catalog, IngressRow};

/// Services that are shown unless more are asked for.
const SHOWN: usize = 1000;
/// Instances and callers of one service that are shown.
const SHOWN_OF_ONE: usize = 200;

pub(super) fn topology(
    call: SharedCall,
    catalog: Arc<Catalog>,
    started: SystemTime,
) -> Box<dyn Fn(Filter) -> BoxFuture<'static, TopologyView> + Send + Sync> {
    Box::new(move |filter| {
        let (call, catalog) = (Arc::clone(&call), Arc::clone(&catalog));
        Box::pin(async move {
            let counted = match &*call.lock().await {
                Some(call) => call.tallies().await,
                None => Vec::new(),
            };
            let known = Known::new(&catalog);
            let mut view = view(&known, &counted, &filter);
            view.counted_for_s = started.elapsed().unwrap_or_default().as_secs();
            view
        })
    })
}

/// What discovery knows.
struct Known {
    hosts: Vec<String>,
    applications: Vec<ApplicationFacts>,
    ingress: Vec<IngressRow>,
    table: Arc<RouteTable>,
}

impl Known {
    fn new(catalog: &Catalog) -> Self {
        Self {
            hosts: catalog.own_hosts(),
            applications: catalog.application_facts(),
            ingress: catalog.ingress(),
            table: catalog.routes().load_full(),
        }
    }

    fn route(&self, line: &LineView) -> Option<&Arc<Route>> {
        let key = &line.service;
        self.table.route(&key.name, &key.group, &key.version)
    }

    fn framework(&self, application: &str) -> String {
        let here = self.applications.iter().find(|here| here.application == application);
        here.map(|here| here.framework.clone()).unwrap_or_default()
    }

    /// The caller of a line, as far as its frames or what applications here follow tell.
    fn caller(&self, line: &LineView, route: Option<&Arc<Route>>) -> CallerView {
        let (application, known_by) = match (line.caller.as_str(), line.side) {
            ("", Side::Ingress) => (String::new(), "unknown"),
            ("", Side::Egress) => {
                let is_follower = |here: &&ApplicationFacts| route.is_some_and(|route| follows(here, route));
                let followers = self.applications.iter().filter(is_follower);
                let mut names: Vec<&str> = followers.map(|here| &*here.application).collect();
                names.sort_unstable();
                names.dedup();
                match names[..] {
                    [] => (String::new(), "unknown"),
                    [only] => (only.to_owned(), "follows"),
                    _ => (names.join(" or "), "several"),
                }
            }
            (caller, _) => (caller.to_owned(), "frame"),
        };
        CallerView {
            framework: self.framework(&application),
            application,
            known_by: known_by.to_owned(),
            host: line.peer.to_string(),
            calls: line.calls,
            last_s: line.idle_ms.map(|ms| ms / 1000),
        }
    }
}

fn view(known: &Known, counted: &[TalliesView], filter: &Filter) -> TopologyView {
    let lines = || counted.iter().flat_map(|view| &view.lines);
    let mut out = calls_out(known, lines(), counted.iter().flat_map(|view| &view.hops));
    if filter.all {
        add_uncalled(known, &mut out);
    }
    let mut out: Vec<(u64, OutView)> = out
        .into_values()
        .filter(|row| filter.has_service(&row.service))
        .filter(|row| {
            let consumers = row.consumers.iter().map(|c| &*c.application);
            filter.has_application(consumers.chain(row.instances.iter().map(|i| &*i.application)))
        })
        .map(|row| (row.consumers.iter().map(|c| c.calls).sum(), row))
        .collect();
    let mut into = calls_in(known, lines());
    if filter.all {
        add_unasked(known, &mut into);
    }
    let mut into: Vec<(u64, InView)> = into
        .into_values()
        .filter(|row| filter.has_service(&row.service))
        .filter(|row| {
            let consumers = row.consumers.iter().map(|c| &*c.application);
            filter.has_application(consumers.chain([&*row.application]))
        })
        .map(|row| (row.consumers.iter().map(|c| c.calls).sum(), row))
        .collect();
    let limit = filter.limit.unwrap_or(SHOWN);
    let left_out = cut(&mut out, filter.offset, limit) + cut(&mut into, filter.offset, limit);
    let application = |facts: &ApplicationFacts| ApplicationView {
        application: facts.application.clone(),
        framework: facts.framework.clone(),
        facade: facts.facade.to_owned(),
        peer: facts.peer.clone(),
        publishes: facts.ports.len() as u64,
        follows: (facts.follows.len() + facts.follows_applications.len()) as u64,
    };
    let here = known.applications.iter();
    TopologyView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hosts: known.hosts.clone(),
        counted_for_s: 0,
        applications: here
            .filter(|facts| !is_silent(facts) && filter.has_application(std::iter::once(&*facts.application)))
            .take(SHOWN)
            .map(application)
            .collect(),
        out: sorted(out, |row| (row.service.clone(), row.protocol.clone())),
        into: sorted(into, |row| (row.service.clone(), row.address.clone())),
        others: counted.iter().map(|view| view.others).sum(),
        left_out,
    }
}

/// Dubbo has sessions of its own for configuration and metadata, which say nothing of it.
fn is_silent(facts: &ApplicationFacts) -> bool {
    let follows = facts.follows.len() + facts.follows_applications.len();
    facts.application.is_empty() && facts.ports.is_empty() && follows == 0
}

/// Keeps a page of those with the most calls; gives how many are left out.
fn cut<T>(rows: &mut Vec<(u64, T)>, offset: usize, limit: usize) -> u64 {
    let all = rows.len();
    rows.sort_by_key(|(calls, _)| std::cmp::Reverse(*calls));
    rows.drain(..offset.min(all));
    rows.truncate(limit);
    (all - rows.len()) as u64
}

fn sorted<T, K: Ord>(rows: Vec<(u64, T)>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut rows: Vec<T> = rows.into_iter().map(|(_, row)| row).collect();
    rows.sort_by_cached_key(key);
    rows
}

/// By service and protocol.
type Outs = BTreeMap<(String, String), OutView>;

fn calls_out<'a>(
    known: &Known,
    lines: impl Iterator<Item = &'a LineView>,
    hops: impl Iterator<Item = &'a HopView>,
) -> Outs {
    let routes: HashMap<String, &Arc<Route>> = known.table.routes().map(|r| (r.key.to_string(), r)).collect();
    let mut out = Outs::new();
    for line in lines.filter(|line| line.side == Side::Egress) {
        let route = known.route(line);
        let service = route.map_or_else(|| line.service.to_string(), |route| route.key.to_string());
        let caller = known.caller(line, route);
        add_caller(&mut entry(&mut out, service, line.protocol).consumers, caller);
    }
    for hop in hops.filter(|hop| hop.side == Side::Egress) {
        let row = entry(&mut out, hop.service.clone(), hop.protocol);
        let Some(addr) = hop.addr else {
            row.unplaced += hop.failed;
            continue;
        };
        let endpoints = routes.get(&hop.service).map(|route| route.endpoints.as_slice());
        let endpoint = endpoints.unwrap_or_default().iter().find(|e| e.addr == addr);
        let mut callee = CalleeView {
            calls: hop.calls,
            errors: hop.failed,
            last_s: hop.idle_ms.map(|ms| ms / 1000),
            ..callee(endpoint.map(|e| &**e), addr)
        };
        // Not in the registry any more: who it was is remembered.
        if let (None, Some(last)) = (endpoint, &hop.endpoint) {
            callee.application = last.application.to_string();
            callee.framework = last.framework.to_string();
        }
        add_callee(&mut row.instances, callee);
    }
    out
}

/// By service, protocol and ingress port.
type Ins = BTreeMap<(String, String, u16), InView>;

fn calls_in<'a>(known: &Known, lines: impl Iterator<Item = &'a LineView>) -> Ins {
    let mut into = Ins::new();
    for line in lines.filter(|line| line.side == Side::Ingress) {
        let port = line.door.port();
        let service = line.service.to_string();
        let key = (service.clone(), line.protocol.to_owned(), port);
        let row = into.entry(key).or_insert_with(|| {
            let ingress = known.ingress.iter();
            let app_port = ingress
                .filter(|row| row.protocol == line.protocol && row.ingress_port == port)
                .map(|row| row.app_port)
                .next();
            let is_its = |here: &&ApplicationFacts| {
                let mut ports = here.ports.iter();
                ports.any(|(protocol, of)| &**protocol == line.protocol && Some(*of) == app_port)
            };
            let provider = known.applications.iter().find(is_its);
            InView {
                service,
                protocol: line.protocol.to_owned(),
                application: provider.map(|p| p.application.clone()).unwrap_or_default(),
                framework: provider.map(|p| p.framework.clone()).unwrap_or_default(),
                address: app_port.map(|port| format!("127.0.0.1:{port}")).unwrap_or_default(),
                ingress: port,
                consumers: Vec::new(),
            }
        });
        add_caller(&mut row.consumers, known.caller(line, None));
    }
    into
}

fn entry<'a>(out: &'a mut Outs, service: String, protocol: &str) -> &'a mut OutView {
    out.entry((service, protocol.to_owned()))
        .or_insert_with_key(|(service, protocol)| OutView {
            service: service.clone(),
            protocol: protocol.clone(),
            ..OutView::default()
        })
}

fn callee(endpoint: Option<&Endpoint>, addr: SocketAddr) -> CalleeView {
    let through = match endpoint {
        _ if addr.ip().is_loopback() => "local",
        None => "gone",
        Some(endpoint) if endpoint.is_taken_over => "remora",
        Some(_) => "direct",
    };
    CalleeView {
        address: addr.to_string(),
        application: endpoint.map(|e| e.application.to_string()).unwrap_or_default(),
        framework: endpoint.map(|e| e.framework.to_string()).unwrap_or_default(),
        through: through.to_owned(),
        ..CalleeView::default()
    }
}

fn add_caller(callers: &mut Vec<CallerView>, caller: CallerView) {
    let same = |c: &&mut CallerView| c.application == caller.application && c.host == caller.host;
    if let Some(known) = callers.iter_mut().find(same) {
        known.calls += caller.calls;
        known.last_s = sooner(known.last_s, caller.last_s);
    } else if callers.len() < SHOWN_OF_ONE {
        callers.push(caller);
    }
}

fn add_callee(callees: &mut Vec<CalleeView>, callee: CalleeView) {
    if let Some(known) = callees.iter_mut().find(|c| c.address == callee.address) {
        known.calls += callee.calls;
        known.errors += callee.errors;
        known.last_s = sooner(known.last_s, callee.last_s);
    } else if callees.len() < SHOWN_OF_ONE {
        callees.push(callee);
    }
}

fn sooner(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

/// What applications here follow and never called, and instances that were never called.
fn add_uncalled(known: &Known, out: &mut Outs) {
    for route in known.table.routes() {
        for endpoint in &route.endpoints {
            let row = entry(out, route.key.to_string(), &endpoint.protocol);
            add_callee(&mut row.instances, callee(Some(endpoint), endpoint.addr));
        }
        let followers: Vec<&ApplicationFacts> = known.applications.iter().filter(|here| follows(here, route)).collect();
        let service = route.key.to_string();
        let rows = out.range_mut((service.clone(), String::new())..);
        for (_, row) in rows.take_while(|((of, _), _)| *of == service) {
            for follower in &followers {
                if row.consumers.iter().any(|c| c.application == follower.application) {
                    continue;
                }
                let caller = CallerView {
                    application: follower.application.clone(),
                    framework: follower.framework.clone(),
                    known_by: "follows".to_owned(),
                    ..CallerView::default()
                };
                add_caller(&mut row.consumers, caller);
            }
        }
    }
}

/// What applications here provide and nobody called.
fn add_unasked(known: &Known, into: &mut Ins) {
    for here in &known.applications {
        for (service, protocol, app_port) in &here.provides {
            let is_its = |row: &&IngressRow| *row.protocol == **protocol && row.app_port == *app_port;
            let Some(ingress) = known.ingress.iter().find(is_its).map(|row| row.ingress_port) else {
                continue;
            };
            let key = (service.clone(), protocol.to_string(), ingress);
            into.entry(key).or_insert_with(|| InView {
                service: service.clone(),
                protocol: protocol.to_string(),
                application: here.application.clone(),
                framework: here.framework.clone(),
                address: format!("127.0.0.1:{app_port}"),
                ingress,
                consumers: Vec::new(),
            });
        }
    }
}

/// Whether an application follows the service, by its own list or by that of an application that provides it.
fn follows(here: &ApplicationFacts, route: &Route) -> bool {
    let provides = |e: &Arc<Endpoint>| here.follows_applications.contains(&*e.application);
    here.follows.contains(&*route.key.name) || route.endpoints.iter().any(provides)
}

#[cfg(test)]
mod tests;
