// SPDX-License-Identifier: Apache-2.0
//! Where a call can go: for the egress the route table, for the ingress the one application behind the port.
//!
//! A route is joined with this worker's pools once and kept while the table has that very route.

use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Cache;
use hashbrown::HashMap;
use memchr::memmem;
use remora_protocol::{Frame, Protocol, RouteKeys, RouteKeysError};
use remora_registry::ServiceKey;
use tokio::time::Instant;

use super::balancer::weighted_random::{WeightedRandom, wall_clock_ms};
use super::config::Config;
use super::error::CallError;
use super::tally::{Tallies, Tally};
use super::upstream::pool::{Pool, Pools};
use crate::discovery::route_table::{Endpoint, KeyRef, Route, RouteTable, SharedRoutes};
use crate::metrics::call::Side;

/// A route with this worker's pools.
#[derive(Debug)]
pub(super) struct LocalRoute {
    /// Keeps the route alive, so that its address names it.
    source: Option<Arc<Route>>,
    /// The service, for messages.
    pub(super) label: Box<str>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) timeout: Option<Duration>,
    balancer: WeightedRandom,
}

/// An instance and the connections to it.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) pool: Rc<Pool>,
    /// What is sent to it for this service.
    pub(super) tally: Rc<Tally>,
}

impl Candidate {
    /// An instance of which nothing but its address is known.
    fn alone(pools: &Pools, side: Side, protocol: &Arc<dyn Protocol>, addr: SocketAddr) -> Self {
        Self {
            endpoint: Arc::new(Endpoint {
                addr,
                protocol: protocol.name().into(),
                weight: 1,
                started_ms: 0,
                warmup_ms: 0,
                warmup_weight: None,
                serializations: vec![],
                application: "".into(),
                framework: "".into(),
                is_taken_over: false,
            }),
            pool: pools.shared(addr, side, protocol),
            tally: Rc::default(),
        }
    }
}

impl LocalRoute {
    fn new(source: Option<Arc<Route>>, label: Box<str>, timeout: Option<Duration>, candidates: Vec<Candidate>) -> Self {
        let balancer = WeightedRandom::new(candidates.iter().map(|c| &*c.endpoint), Instant::now(), wall_clock_ms());
        Self {
            source,
            label,
            candidates,
            timeout,
            balancer,
        }
    }

    /// Of a call whose service cannot be looked up again: to the instance that it was sent to.
    pub(super) fn to_instance(
        label: &str,
        pools: &Pools,
        side: Side,
        protocol: &Arc<dyn Protocol>,
        addr: SocketAddr,
    ) -> Self {
        Self::new(
            None,
            label.into(),
            None,
            vec![Candidate::alone(pools, side, protocol, addr)],
        )
    }

    /// The service as the registry names it; `None` for the application behind an ingress port.
    pub(super) fn key(&self) -> Option<&ServiceKey> {
        self.source.as_ref().map(|route| &route.key)
    }

    /// A call sent to `addr` ended without the application's own answer.
    pub(super) fn failed_at(&self, addr: SocketAddr) {
        if let Some(candidate) = self.candidates.iter().find(|c| c.endpoint.addr == addr) {
            candidate.tally.fail();
        }
    }

    fn is_of(&self, source: &Arc<Route>) -> bool {
        self.source.as_ref().is_some_and(|own| Arc::ptr_eq(own, source))
    }

    /// Picks an instance for a call: one that announces the serialization if any does, and that is not left alone. If too many
    /// are, or all, one of those is tried all the same: better a try than a refusal.
    pub(super) fn pick(
        &self,
        config: &Config,
        serialization: Option<&str>,
        dialect: u8,
        is_excluded: impl Fn(SocketAddr) -> bool,
        now: Instant,
    ) -> Option<&Candidate> {
        self.balancer.refresh(self.candidates.iter().map(|c| &*c.endpoint), now);
        let is_allowed = |c: &Candidate| !is_excluded(c.endpoint.addr);
        let reads = |c: &Candidate| serialization.is_none_or(|s| reads(&c.endpoint, s));
        let is_usable = |c: &Candidate| c.pool.is_usable(dialect, now);
        let first = self.balancer.pick().map(|i| &self.candidates[i]);
        let is_fine = |c: &&Candidate| is_allowed(c) && reads(c) && is_usable(c);
        let picked = first.filter(is_fine).or_else(|| {
            let somebody_reads = self.candidates.iter().any(reads);
            let suits = |c: &Candidate| reads(c) || !somebody_reads;
            let among = |fits: &dyn Fn(&Candidate) -> bool| {
                self.balancer.pick_among(|i| {
                    let candidate = &self.candidates[i];
                    is_allowed(candidate) && suits(candidate) && fits(candidate)
                })
            };
            let usable = match self.too_many_out(config, &suits, now) {
                true => among(&|c| c.pool.is_worth_a_try(dialect)),
                false => among(&is_usable),
            };
            usable.or_else(|| among(&|_| true)).map(|i| &self.candidates[i])
        });
        if let Some(candidate) = picked {
            candidate.pool.health.picked(config, now);
        }
        picked
    }

    /// Whether more instances are left alone, although they can be reached, than calls could do without.
    fn too_many_out(&self, config: &Config, suits: &dyn Fn(&Candidate) -> bool, now: Instant) -> bool {
        let suiting = || self.candidates.iter().filter(|c| suits(c));
        let is_out = |c: &&Candidate| c.pool.health.is_out(now) && !c.pool.health.is_unreachable();
        let (all, out) = (suiting().count(), suiting().filter(is_out).count());
        out * 100 > all * usize::try_from(config.eject_max_percent).unwrap_or(100)
    }
}

/// Whether an instance can read a body; one that announces nothing reads the default.
fn reads(endpoint: &Endpoint, serialization: &str) -> bool {
    if endpoint.serializations.is_empty() {
        return serialization == DEFAULT_SERIALIZATION;
    }
    endpoint.serializations.iter().any(|s| &**s == serialization)
}

/// What Dubbo (all versions) and SOFARPC write when their URL names nothing.
const DEFAULT_SERIALIZATION: &str = "hessian2";

/// One worker's view of all routes.
#[derive(Debug)]
pub(super) struct Router {
    table: Cache<SharedRoutes, Arc<RouteTable>>,
    /// By the protocol's name.
    local: HashMap<&'static str, HashMap<ServiceKey, Known>>,
    /// The table seen last, and how many were seen before it.
    seen: Arc<RouteTable>,
    generation: u64,
    /// The generation that `local` was last cleaned for.
    cleaned_for: u64,
    applications: HashMap<(SocketAddr, &'static str), Weak<LocalRoute>>,
    /// Service names for the search in unreadable bodies, and the table they were taken from.
    names: Option<(Arc<RouteTable>, Vec<Named>)>,
    tallies: Rc<Tallies>,
}

/// A route that is joined, and the last table that had it.
#[derive(Debug)]
struct Known {
    route: Rc<LocalRoute>,
    generation: u64,
}

#[derive(Debug)]
struct Named {
    name: Arc<str>,
    routes: Vec<Arc<Route>>,
}

impl Router {
    pub(super) fn new(routes: &SharedRoutes, tallies: &Rc<Tallies>) -> Self {
        Self {
            table: Cache::new(routes.clone()),
            local: HashMap::new(),
            seen: routes.load_full(),
            generation: 0,
            cleaned_for: 0,
            applications: HashMap::new(),
            names: None,
            tallies: Rc::clone(tallies),
        }
    }

    /// The route of an egress call.
    ///
    /// # Errors
    /// `NoRoute`, or `Unreadable` if the keys could not be read and the bytes do not tell either.
    pub(super) fn service(
        &mut self,
        pools: &Pools,
        protocol: &Arc<dyn Protocol>,
        keys: &Result<RouteKeys<'_>, RouteKeysError>,
        frame: &Frame,
    ) -> Result<Rc<LocalRoute>, CallError> {
        let generation = self.generation();
        let name = protocol.name();
        if let Ok(keys) = keys
            && let Some(local) = self.local.get(name)
        {
            let key = KeyRef {
                name: &keys.service,
                group: &keys.group,
                version: &keys.version,
            };
            if let Some(known) = local.get(&key).filter(|known| known.generation == generation) {
                return Ok(known.route.clone());
            }
        }
        let source = match keys {
            Ok(keys) => self.by_keys(keys)?,
            Err(error) => self.by_bytes(error, frame)?,
        };
        let local = self.local.entry(name).or_default();
        if let Some(known) = local.get_mut(&source.key).filter(|known| known.route.is_of(&source)) {
            known.generation = generation;
            return Ok(known.route.clone());
        }
        let label = source.key.to_string().into_boxed_str();
        let candidates = source
            .endpoints
            .iter()
            .filter(|endpoint| &*endpoint.protocol == name)
            .map(|endpoint| Candidate {
                endpoint: endpoint.clone(),
                pool: pools.shared(endpoint.addr, Side::Egress, protocol),
                tally: self.tallies.hop(Side::Egress, name, &label, Some(endpoint)),
            })
            .collect();
        let route = Rc::new(LocalRoute::new(Some(source.clone()), label, source.timeout, candidates));
        let known = Known {
            route: route.clone(),
            generation,
        };
        local.insert(source.key.clone(), known);
        Ok(route)
    }

    /// The route to the application behind an ingress port.
    pub(super) fn application(
        &mut self,
        pools: &Pools,
        protocol: &Arc<dyn Protocol>,
        addr: SocketAddr,
    ) -> Rc<LocalRoute> {
        let key = (addr, protocol.name());
        if let Some(route) = self.applications.get(&key).and_then(Weak::upgrade) {
            return route;
        }
        let label = format!("the application at {addr}").into_boxed_str();
        let mut candidate = Candidate::alone(pools, Side::Ingress, protocol, addr);
        candidate.tally = self
            .tallies
            .hop(Side::Ingress, protocol.name(), &label, Some(&candidate.endpoint));
        let route = Rc::new(LocalRoute::new(None, label, None, vec![candidate]));
        self.applications.insert(key, Rc::downgrade(&route));
        route
    }

    /// Forgets routes that the table no longer has, and with them their hold on pools. Call about once a second.
    pub(super) fn clean(&mut self) {
        self.applications.retain(|_, route| route.strong_count() > 0);
        let generation = self.generation();
        if generation == self.cleaned_for {
            return;
        }
        for local in self.local.values_mut() {
            local.retain(|key, known| {
                let current = self.seen.route(&key.name, &key.group, &key.version);
                let is_current = current.is_some_and(|route| known.route.is_of(route));
                known.generation = if is_current { generation } else { known.generation };
                is_current
            });
        }
        self.names = None;
        self.cleaned_for = generation;
    }

    /// A number that changes with the table.
    pub(super) fn generation(&mut self) -> u64 {
        let table = self.table.load();
        if !Arc::ptr_eq(table, &self.seen) {
            self.seen = table.clone();
            self.generation += 1;
        }
        self.generation
    }

    fn by_keys(&mut self, keys: &RouteKeys<'_>) -> Result<Arc<Route>, CallError> {
        let table = self.table.load();
        if let Some(route) = table.route(&keys.service, &keys.group, &keys.version) {
            return Ok(route.clone());
        }
        let same_name = table.routes().filter(|route| *route.key.name == *keys.service);
        let mut known: Vec<String> = same_name.map(|route| route.key.to_string()).take(KNOWN_MAX).collect();
        known.sort_unstable();
        let known = match known.as_slice() {
            [] => String::new(),
            some => format!(" (followed of that name: {})", some.join(", ")),
        };
        Err(CallError::NoRoute {
            service: ServiceKey::new(&keys.service, &keys.group, &keys.version).to_string(),
            known,
        })
    }

    /// A body that cannot be read still has one possible destination if only one service is followed, or if only one
    /// followed service is named in its bytes.
    fn by_bytes(&mut self, error: &RouteKeysError, frame: &Frame) -> Result<Arc<Route>, CallError> {
        let table = self.table.load();
        if self.names.as_ref().is_none_or(|(of, _)| !Arc::ptr_eq(of, table)) {
            self.names = Some((table.clone(), by_name(table)));
        }
        let names = self.names.as_ref().map_or(&[][..], |(_, names)| names);
        let named_only = names.iter().map(|named| &named.routes[..]);
        if let [only] = &named_only.flatten().collect::<Vec<_>>()[..] {
            return Ok((*only).clone());
        }
        let body = &frame.body()[..frame.body().len().min(SEARCHED_BYTES)];
        let mut found: Vec<&Named> = names.iter().filter(|named| occurs(&named.name, body)).collect();
        // `demo.Echo` also occurs in a body that names `demo.EchoService`.
        let all = found.clone();
        found.retain(|named| {
            !all.iter()
                .any(|other| other.name != named.name && other.name.contains(&*named.name))
        });
        match found[..] {
            [one] if one.routes.len() == 1 => Ok(one.routes[0].clone()),
            _ => Err(CallError::Unreadable {
                error: error.clone(),
                found: found.iter().map(|named| named.routes.len()).sum(),
                followed: table.len(),
            }),
        }
    }
}

fn by_name(table: &RouteTable) -> Vec<Named> {
    let mut names: HashMap<Arc<str>, Vec<Arc<Route>>> = HashMap::new();
    for route in table.routes() {
        names.entry(route.key.name.clone()).or_default().push(route.clone());
    }
    names.into_iter().map(|(name, routes)| Named { name, routes }).collect()
}

/// Whether `name` occurs in `body`, in plain bytes or as Kryo writes ASCII: the last byte with its high bit set.
fn occurs(name: &str, body: &[u8]) -> bool {
    let Some((last, most)) = name.as_bytes().split_last() else {
        return false;
    };
    memmem::find_iter(body, most).any(|at| body.get(at + most.len()).is_some_and(|byte| byte & 0x7f == *last))
}

/// Groups and versions listed in a message.
const KNOWN_MAX: usize = 5;
/// How far into an unreadable body a service name is looked for: every serialization writes it before the arguments.
const SEARCHED_BYTES: usize = 2048;
