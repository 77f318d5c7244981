// SPDX-License-Identifier: Apache-2.0
//! Services, instances, who publishes, who follows: shared by all registries and facades of this process.
//!
//! One mutex guards the lists; it is never held over an `.await`. A changed list goes into the routes first and to its
//! followers second, so that an application that sees an entry can call it. Not here: what a facade asks (`desk.rs`),
//! how lists come in (`sync.rs`).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use remora_registry::{Farewell, LeaseId, Snapshot, Target, UnappliedRule};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::config::Setup;
use super::egress::Egress;
use super::endpoint::{Policy, Refusal};
use super::error::DiscoveryError;
use super::hosts::{Hosts, own_addresses};
use super::ingress::IngressChange;
use super::ingress_ports::IngressPorts;
use super::lease::Leases;
use super::metadata::{Documents, MetadataCall};
use super::policy::{self, Steps};
use super::probe::{Probe, probe};
use super::route_table::SharedRoutes;
use super::routes::{ListId, Routes, Sight};
use super::sync::Link;
use crate::metrics::DiscoveryMetrics;
use crate::metrics::discovery::{DecisionLabel, ReasonLabel, RegistryStateLabel};

/// Who publishes and follows what. Made once; each configured registry gets a [`Desk`](super::Desk) at it.
pub struct Catalog {
    pub(super) setup: Setup,
    pub(super) spoken: Vec<Arc<str>>,
    pub(super) egress: Egress,
    pub(super) tools: Tools,
    pub(super) metrics: DiscoveryMetrics,
    pub(super) runtime: Handle,
    pub(super) drain: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) wake: Wake,
    routes: SharedRoutes,
    state: Mutex<State>,
    pub(super) ingress: Mutex<IngressPorts>,
    /// Changes on their way to the call path; at most one per ingress port and change of it.
    pub(super) outbox: Mutex<VecDeque<IngressChange>>,
    next_lease: AtomicU64,
    /// Asks the facades' connections to withdraw.
    pub(super) farewell: Farewell,
    /// What is taken over.
    pub(super) steps: Steps,
}

/// What reaches out to other hosts; tests bring their own.
#[derive(Clone)]
pub struct Tools {
    /// Tells whether a provider that the registry lost is still there.
    pub probe: Probe,
    /// Asks an instance for the metadata of its revision.
    pub metadata_call: MetadataCall,
}

impl Default for Tools {
    fn default() -> Self {
        Self {
            probe: probe(),
            metadata_call: super::metadata_rpc::metadata_call(),
        }
    }
}

/// Wakes the catalog's own tasks.
#[derive(Default)]
pub(super) struct Wake {
    /// There is something in the outbox.
    pub(super) outbox: Notify,
    /// There is a host name that was never looked up.
    pub(super) names: Notify,
    /// The ingress table is not on disk as it is.
    pub(super) ingress: Notify,
}

/// Everything behind the one lock.
pub(super) struct State {
    pub(super) leases: Leases,
    pub(super) lists: HashMap<ListId, List>,
    pub(super) by_target: HashMap<(usize, Target), ListId>,
    pub(super) routes: Routes,
    pub(super) documents: Documents,
    pub(super) hosts: Hosts,
    pub(super) policy: Policy,
    pub(super) links: Vec<Arc<Link>>,
    pub(super) rules: BTreeMap<(usize, String), Vec<UnappliedRule>>,
    next_list: ListId,
}

/// A followed list.
pub(super) struct List {
    /// Number of its registry.
    pub(super) link: usize,
    pub(super) target: Target,
    pub(super) shown: watch::Sender<Option<Arc<Snapshot>>>,
    pub(super) followers: std::collections::BTreeSet<LeaseId>,
    /// Since when nobody follows it.
    pub(super) idle_since: Option<Instant>,
    /// Read back from disk at start and not followed by anyone since.
    pub(super) is_restored: bool,
    /// Instances that the guard holds.
    pub(super) held: usize,
    /// Ends its task.
    pub(super) end: CancellationToken,
}

impl List {
    /// Whether it is the list of this application.
    pub(super) fn is_application(&self, application: &str) -> bool {
        matches!(&self.target, Target::Application { name, .. } if &**name == application)
    }

    /// One follower less.
    pub(super) fn lose(&mut self, lease: LeaseId) {
        if self.followers.remove(&lease) && self.followers.is_empty() {
            self.idle_since = Some(Instant::now());
        }
    }

    /// Whether one of its entries has this revision.
    pub(super) fn has_revision(&self, revision: &str) -> bool {
        let shown = self.shown.borrow();
        shown
            .iter()
            .flat_map(|s| &s.instances)
            .any(|i| i.revision() == Some(revision))
    }
}

impl Catalog {
    /// Binds the ingress ports, starts the catalog's tasks on `runtime`; they end with `drain`.
    ///
    /// Gives the changes of the ingress table too, in order, for the call path.
    ///
    /// # Errors
    /// `IngressBind` when a configured ingress port cannot be had.
    pub fn open(
        setup: Setup,
        egress: Egress,
        metrics: DiscoveryMetrics,
        tools: Tools,
        runtime: Handle,
        drain: CancellationToken,
    ) -> Result<(Arc<Self>, mpsc::Receiver<IngressChange>), DiscoveryError> {
        let data_dir = setup.data_dir.as_deref();
        let mut ingress = IngressPorts::open(&setup.protocols, data_dir, &setup.ports)?;
        let spoken: Vec<Arc<str>> = setup.protocols.iter().map(|p| p.name.as_str().into()).collect();
        let routes = Routes::new();
        let mut own_listeners: std::collections::HashSet<SocketAddr> = setup.own_listeners.iter().copied().collect();
        own_listeners.extend(setup.protocols.iter().flat_map(|p| egress.listen(&p.name)));
        let mut policy = Policy {
            spoken: spoken.clone(),
            allows_loopback: setup.advertise.is_some_and(|ip| ip.is_loopback()),
            own_hosts: own_addresses().into_iter().chain(setup.advertise).collect(),
            own_names: Default::default(),
            own_listeners,
            ingress: ingress.by_ingress(),
        };
        for row in ingress.rows().iter().filter(|row| !row.host.is_empty()) {
            policy.add_own_host(&row.host);
        }
        let (changes, receiver) = mpsc::channel(INGRESS_CHANGES);
        let outbox = ingress.take_changes().into();
        let catalog = Arc::new(Self {
            spoken,
            egress,
            tools,
            metrics,
            runtime,
            drain,
            tasks: TaskTracker::new(),
            wake: Wake::default(),
            routes: Arc::clone(routes.shared()),
            state: Mutex::new(State {
                leases: Leases::default(),
                lists: HashMap::new(),
                by_target: HashMap::new(),
                routes,
                documents: Documents::new(),
                hosts: Hosts::default(),
                policy,
                links: Vec::new(),
                rules: BTreeMap::new(),
                next_list: 0,
            }),
            ingress: Mutex::new(ingress),
            outbox: Mutex::new(outbox),
            next_lease: AtomicU64::new(1),
            farewell: Farewell::default(),
            steps: Steps::open(&setup),
            setup,
        });
        super::sync::start(&catalog, changes);
        Ok((catalog, receiver))
    }

    /// The route table that the call path reads.
    pub fn routes(&self) -> &SharedRoutes {
        &self.routes
    }

    /// The egress addresses: where to listen, what applications are handed.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    /// The ingress table.
    pub fn ingress(&self) -> Vec<super::IngressRow> {
        lock(&self.ingress).rows()
    }

    /// Waits until every task of the catalog has ended after `drain`; the last known lists are on disk then.
    pub async fn closed(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Takes back addresses of `Setup::own_listeners` where somebody else listens.
    pub fn is_not_ours(&self, addrs: &[SocketAddr]) {
        self.state().policy.own_listeners.retain(|own| !addrs.contains(own));
    }

    /// Withdraws all that Remora keeps in registries itself; returns when that is done, or `limit` has passed, with how
    /// many were withdrawn. To be called before `drain`: what the adapters' sessions hold goes with them.
    pub async fn withdraw_kept(&self, limit: std::time::Duration) -> usize {
        let links = self.state().links.clone();
        let mut all = tokio::task::JoinSet::new();
        for link in links {
            all.spawn_on(async move { link.kept.withdraw_all(limit).await }, &self.runtime);
        }
        all.join_all().await.into_iter().sum()
    }

    /// Has applications' connections withdraw what stands in the registries in sessions of their own; returns when that is
    /// done, or `limit` has passed, with how many were withdrawn since the last time. An application that comes to a later
    /// Remora publishes anew.
    pub async fn withdraw_own(&self, limit: std::time::Duration) -> usize {
        let before = self.farewell.withdrawn();
        let all = tokio::time::timeout(limit, self.farewell.say()).await;
        let withdrawn = all.unwrap_or_else(|_| self.farewell.withdrawn());
        withdrawn.saturating_sub(before)
    }

    /// Takes new settings over.
    pub fn configure(&self, config: super::Config) {
        self.setup.config.store(Arc::new(config));
    }

    /// Takes another range for further ingress ports over; ports in use stay.
    pub fn set_ingress_range(&self, protocol: &str, range: crate::config::PortRange) {
        lock(&self.ingress).set_range(protocol, range);
    }

    /// Addresses where this Remora listens from now on: never dialled because a registry said so.
    pub fn is_ours(&self, addrs: &[SocketAddr]) {
        self.state().policy.own_listeners.extend(addrs);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn next_lease(&self) -> LeaseId {
        LeaseId(self.next_lease.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes a list's new state in: routes first, followers second.
    pub(super) fn show(&self, state: &mut State, id: ListId, snapshot: Snapshot, held: usize) {
        let Some(list) = state.lists.get_mut(&id) else { return };
        list.held = held;
        let snapshot = Arc::new(snapshot);
        self.update_routes(state, id, &snapshot, true);
        if let Some(list) = state.lists.get(&id) {
            list.shown.send_replace(Some(snapshot));
            if let Some(link) = state.links.get(list.link) {
                link.changed.notify_one();
            }
        }
    }

    /// Makes the endpoints of some lists again, after something changed that decides how they are dialled.
    pub(super) fn rebuild(&self, state: &mut State, concerns: impl Fn(&Target) -> bool) {
        let lists: Vec<(ListId, Option<Arc<Snapshot>>)> = state
            .lists
            .iter()
            .filter(|(_, l)| concerns(&l.target))
            .map(|(id, l)| (*id, l.shown.borrow().clone()))
            .collect();
        for (id, snapshot) in lists {
            if let Some(snapshot) = snapshot {
                self.update_routes(state, id, &snapshot, false);
            }
        }
    }

    fn update_routes(&self, state: &mut State, id: ListId, snapshot: &Snapshot, keeps_endpoints: bool) {
        let start = std::time::Instant::now();
        let link = state.lists.get(&id).and_then(|list| state.links.get(list.link));
        let policy = match link {
            Some(link) => state.policy.towards(&*link.registry),
            None => Cow::Borrowed(&state.policy),
        };
        let mut sight = Sight {
            policy: &policy,
            hosts: &mut state.hosts,
            documents: &state.documents,
        };
        state.routes.update(id, snapshot, &mut sight, keeps_endpoints);
        if state.hosts.take_has_new() {
            self.wake.names.notify_one();
        }
        self.metrics.rebuild.observe(start.elapsed().as_secs_f64());
    }

    /// The list of a target, made if it is not followed yet; true if it is new and somebody must feed it.
    pub(super) fn list(&self, state: &mut State, link: usize, target: &Target) -> (ListId, bool) {
        if let Some(id) = state.by_target.get(&(link, target.clone())) {
            return (*id, false);
        }
        let id = state.next_list;
        state.next_list += 1;
        state.by_target.insert((link, target.clone()), id);
        let list = List {
            link,
            target: target.clone(),
            shown: watch::Sender::new(None),
            followers: Default::default(),
            idle_since: Some(Instant::now()),
            is_restored: false,
            held: 0,
            end: self.drain.child_token(),
        };
        state.lists.insert(id, list);
        (id, true)
    }

    /// Ends what a lease held.
    pub(super) fn close_lease(&self, lease: LeaseId) {
        let mut state = self.state();
        let Some(held) = state.leases.close(lease) else { return };
        for id in &held.follows {
            if let Some(list) = state.lists.get_mut(id) {
                list.lose(lease);
            }
        }
        let withdrawn = held.publications.len();
        if withdrawn > 0 {
            let application = &held.info.application;
            info!(application, publications = withdrawn, "lease ended");
        }
        self.metrics
            .publications
            .dec_by(i64::try_from(withdrawn).unwrap_or(i64::MAX));
        self.metrics.leases.set(as_i64(state.leases.len()));
    }

    /// Ends lists that nobody followed for the grace time, forgets documents that no list uses.
    pub(super) fn sweep(&self) {
        let mut state = self.state();
        let config = self.setup.config.load();
        let (grace, restored) = (config.follow_grace.0, config.restored_grace.0);
        let is_over = |list: &List| {
            let grace = if list.is_restored { restored.max(grace) } else { grace };
            list.idle_since.is_some_and(|since| since.elapsed() >= grace)
        };
        let over: Vec<ListId> = state
            .lists
            .iter()
            .filter(|(_, l)| is_over(l))
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            let Some(list) = state.lists.remove(&id) else { continue };
            list.end.cancel();
            state.by_target.remove(&(list.link, list.target));
            state.routes.remove(id);
            if let Some(link) = state.links.get(list.link) {
                link.changed.notify_one();
            }
        }
        let State { lists, documents, .. } = &mut *state;
        let mut used: std::collections::HashSet<(Arc<str>, String)> = Default::default();
        for list in lists
            .values()
            .filter(|l| matches!(l.target, Target::Application { .. }))
        {
            for instance in list.shown.borrow().iter().flat_map(|s| &s.instances) {
                used.extend(
                    instance
                        .revision()
                        .map(|r| (Arc::clone(list.target.name()), r.to_owned())),
                );
            }
        }
        documents.retain(|application, revision| used.contains(&(application.into(), revision.to_owned())));
        self.count(&state);
    }

    /// Sets the gauges.
    fn count(&self, state: &State) {
        let (mut instances, mut malformed, mut held) = (0, 0, 0);
        let mut refused: BTreeMap<Refusal, usize> = Refusal::ALL.into_iter().map(|r| (r, 0)).collect();
        for (id, list) in &state.lists {
            if let Some(snapshot) = list.shown.borrow().as_ref() {
                instances += snapshot.instances.len();
                malformed += snapshot.malformed.len();
            }
            held += list.held;
            for (_, refusal) in state.routes.refused(*id) {
                *refused.entry(*refusal).or_default() += 1;
            }
        }
        let metrics = &self.metrics;
        metrics.lists.set(as_i64(state.lists.len()));
        metrics.instances.set(as_i64(instances));
        metrics.malformed.set(as_i64(malformed));
        metrics.held.set(as_i64(held));
        metrics.routes.set(as_i64(self.routes.load().len()));
        metrics
            .rules_not_applied
            .set(as_i64(state.rules.values().map(Vec::len).sum()));
        for link in &state.links {
            for (kept, count) in link.kept.states() {
                let label = RegistryStateLabel {
                    registry: link.name.to_string(),
                    state: kept.label(),
                };
                metrics.kept.get_or_create(&label).set(as_i64(count));
            }
        }
        for ((side, why), count) in self.decisions(state) {
            let label = DecisionLabel {
                side: side.label(),
                decision: why.label(),
            };
            metrics.takeover.get_or_create(&label).set(as_i64(count));
        }
        metrics.leads_here.set(as_i64(policy::leading(state)));
        for (refusal, count) in refused {
            let label = ReasonLabel {
                reason: refusal.label(),
            };
            metrics.refused.get_or_create(&label).set(as_i64(count));
        }
    }

    /// Keeps the rules that a facade kept from applications; warns of new ones.
    pub(super) fn rules_not_applied(&self, link: usize, place: &str, rules: Vec<UnappliedRule>) {
        let mut state = self.state();
        let key = (link, place.to_owned());
        if rules.is_empty() {
            state.rules.remove(&key);
            return;
        }
        if state.rules.get(&key) == Some(&rules) || state.rules.len() >= MAX_RULE_PLACES {
            return;
        }
        for rule in &rules {
            warn!(
                kind = rule.kind.label(),
                place,
                rule = rule.text,
                why = rule.why,
                "a rule that names hosts is not applied"
            );
        }
        state.rules.insert(key, rules);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held left maps whole: each change is one insert or remove.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn as_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Changes on their way to the call path beyond these wait in the outbox.
const INGRESS_CHANGES: usize = 64;
/// A registry full of rules must not fill the memory; the first ones are enough to look into it.
const MAX_RULE_PLACES: usize = 10_000;
