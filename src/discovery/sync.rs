// SPDX-License-Identifier: Apache-2.0
//! Lists between registry, catalog and disk, and the tasks of the room. All of them end with the catalog's drain token.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use remora_registry::{Instance, Registry, RegistryState, Snapshot, Target};
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::catalog::Catalog;
use super::guard::{Guard, Verdict};
use super::handover::Inherited;
use super::hosts::resolve;
use super::ingress::IngressChange;
use super::ingress_file;
use super::kept::Kept;
use super::metadata::{Document, Documents};
use super::metadata_fetch::Fetch;
use super::probe::Knock;
use super::routes::ListId;
use super::snapshot::{self, Lists};
use crate::metrics::discovery::{OutcomeLabel, RegistryLabel};

/// One configured registry.
pub(super) struct Link {
    pub(super) number: usize,
    pub(super) name: Arc<str>,
    pub(super) identity: String,
    pub(super) registry: Arc<dyn Registry>,
    /// What Remora publishes there itself.
    pub(super) kept: Arc<Kept>,
    /// What a former process kept there, until its applications are back.
    pub(super) inherited: Inherited,
    /// A list changed: the file on disk is old.
    pub(super) changed: Notify,
    file: Option<PathBuf>,
    /// When it was reached for the first time.
    first_up: OnceLock<Instant>,
}

impl Link {
    /// Whether the registry came back a short time ago, after it had been reached before.
    fn is_reconnected(&self, within: Duration) -> bool {
        match &*self.registry.state().borrow() {
            RegistryState::Up { since } => since != self.first_up.get_or_init(|| *since) && since.elapsed() < within,
            _ => false,
        }
    }
}

/// Starts the catalog's own tasks.
pub(super) fn start(catalog: &Arc<Catalog>, changes: mpsc::Sender<IngressChange>) {
    spawn(catalog, send_changes(Arc::clone(catalog), changes));
    spawn(catalog, keep_house(Arc::clone(catalog)));
    spawn(catalog, resolve_names(Arc::clone(catalog)));
    spawn(catalog, ingress_file::keep(Arc::clone(catalog)));
}

/// Makes a link, reads its last known lists and follows them.
pub(super) fn link(catalog: &Arc<Catalog>, name: &str, identity: &str, registry: Arc<dyn Registry>) -> Arc<Link> {
    let file = catalog.setup.data_dir.as_deref().map(|dir| snapshot::file(dir, name));
    let kept = file
        .as_deref()
        .map_or_else(|| Ok(Lists::default()), |file| snapshot::read(file, identity));
    let kept = kept.unwrap_or_else(|error| {
        warn!(registry = name, reason = error.reason(), %error, "starting without last known lists");
        Lists::default()
    });
    let kept_there = Kept::new(
        name,
        Arc::clone(&registry),
        catalog.metrics.clone(),
        catalog.runtime.clone(),
        catalog.tasks.clone(),
        catalog.drain.clone(),
    );
    let mut state = catalog.state();
    let link = Arc::new(Link {
        number: state.links.len(),
        name: name.into(),
        identity: identity.to_owned(),
        registry,
        kept: kept_there,
        inherited: Inherited::default(),
        changed: Notify::new(),
        file,
        first_up: OnceLock::new(),
    });
    state.links.push(Arc::clone(&link));
    for (application, revision, document) in kept.documents {
        if let Ok(document) = Document::read(&document.json) {
            state.documents.insert(&application, &revision, document);
        }
    }
    if !kept.lists.is_empty() {
        info!(
            registry = name,
            lists = kept.lists.len(),
            "last known lists are in use until the registry answers"
        );
    }
    for list in kept.lists {
        let target = list.target.clone();
        let (id, _) = catalog.list(&mut state, link.number, &target);
        catalog.show(&mut state, id, Snapshot::clone(&list), 0);
        if let Some(list) = state.lists.get_mut(&id) {
            list.is_restored = true;
            feed(catalog, &link, id, target, list.end.clone());
        }
    }
    drop(state);
    spawn(catalog, watch_registry(Arc::clone(catalog), Arc::clone(&link)));
    if link.file.is_some() {
        spawn(catalog, keep_on_disk(Arc::clone(catalog), Arc::clone(&link)));
    }
    link
}

/// Starts to feed a list from its registry, until `end`.
pub(super) fn feed(catalog: &Arc<Catalog>, link: &Arc<Link>, id: ListId, target: Target, end: CancellationToken) {
    let feeder = Feeder {
        catalog: Arc::clone(catalog),
        link: Arc::clone(link),
        id,
        target,
        end,
        guard: Guard::default(),
        fresh: None,
    };
    spawn(catalog, feeder.run());
}

fn spawn(catalog: &Arc<Catalog>, task: impl Future<Output = ()> + Send + 'static) {
    catalog.tasks.spawn_on(task, &catalog.runtime);
}

/// Feeds one list.
struct Feeder {
    catalog: Arc<Catalog>,
    link: Arc<Link>,
    id: ListId,
    target: Target,
    end: CancellationToken,
    guard: Guard,
    /// The registry's last word.
    fresh: Option<Arc<Snapshot>>,
}

impl Feeder {
    async fn run(mut self) {
        let mut lists = self.link.registry.follow(self.target.clone());
        let mut probe = every(self.catalog.setup.config.load().guard.probe_interval.0);
        loop {
            let wanted = self.catalog.setup.config.load().guard.probe_interval;
            let wanted = wanted.0.max(MIN_INTERVAL);
            if probe.period() != wanted {
                probe = every(wanted);
            }
            let fresh = lists.borrow_and_update().clone();
            if let Some(fresh) = fresh
                && self.fresh.as_ref().is_none_or(|f| !Arc::ptr_eq(f, &fresh))
                && self.take_in(fresh).await
            {
                probe.reset_after(wanted.min(SECOND_LOOK));
            }
            tokio::select! {
                () = self.end.cancelled() => return,
                changed = lists.changed() => if changed.is_err() {
                    // The adapter went away; the list stands until the follow ends.
                    self.end.cancelled().await;
                    return;
                },
                _ = probe.tick(), if !self.guard.held().is_empty() => self.probe().await,
            }
        }
    }

    /// Takes the registry's word in; `true` if some of its list are held.
    async fn take_in(&mut self, fresh: Arc<Snapshot>) -> bool {
        let config = &self.catalog.setup.config.load_full().guard;
        let last = self.shown();
        let is_from_disk = last.as_ref().is_some_and(|s| s.source != fresh.source);
        let is_reconnect = is_from_disk || self.link.is_reconnected(config.after_reconnect.0);
        let last = last.map(|s| s.instances.clone()).unwrap_or_default();
        let verdict = self.guard.judge(
            config,
            self.target.name(),
            &last,
            &fresh.instances,
            is_reconnect,
            tokio::time::Instant::now(),
        );
        self.fresh = Some(fresh);
        if let Verdict::Holding(held) = verdict {
            self.catalog.metrics.collapses.inc();
            warn!(registry = &*self.link.name, service = %self.target, held, "the list collapsed; its instances are held as long as they answer");
        }
        self.show();
        if verdict != Verdict::Believed {
            self.probe().await;
        }
        !self.guard.held().is_empty()
    }

    /// Asks after what is held.
    async fn probe(&mut self) {
        let addresses: Vec<Option<(SocketAddr, Knock)>> = {
            let mut state = self.catalog.state();
            let state = &mut *state;
            let policy = state.policy.towards(&*self.link.registry);
            let mut dial = |i: &Instance| policy.dial(&i.host, i.port, &mut state.hosts).ok();
            self.guard
                .held()
                .iter()
                .map(|i| Some((dial(i)?, Knock::at(i))))
                .collect()
        };
        let mut answers = Vec::with_capacity(addresses.len());
        for some in addresses.chunks(PROBES_AT_ONCE) {
            let probe = |(addr, knock)| tokio::spawn((self.catalog.tools.probe)(addr, knock));
            let probes: Vec<_> = some.iter().map(|address| address.map(probe)).collect();
            for probe in probes {
                answers.push(match probe {
                    Some(probe) => probe.await.unwrap_or(false),
                    None => false,
                });
            }
        }
        let are_new = self.guard.has_unproven();
        let gone = self.guard.probed(&answers, tokio::time::Instant::now());
        if gone > 0 {
            info!(service = %self.target, gone, held = self.guard.held().len(), "held instances are let go");
        }
        if gone > 0 || are_new {
            self.show();
        }
    }

    fn shown(&self) -> Option<Arc<Snapshot>> {
        self.catalog.state().lists.get(&self.id)?.shown.borrow().clone()
    }

    fn show(&self) {
        let Some(fresh) = &self.fresh else { return };
        let shown = self.guard.shown(fresh);
        let mut state = self.catalog.state();
        let wanted = self.wanted(&mut state.documents, &shown);
        self.catalog.show(&mut state, self.id, shown, self.guard.held().len());
        drop(state);
        for revision in wanted {
            let fetch = Fetch {
                catalog: Arc::clone(&self.catalog),
                link: Arc::clone(&self.link),
                application: Arc::clone(self.target.name()),
                revision,
            };
            spawn(&self.catalog, fetch.run(self.end.clone()));
        }
    }

    /// Revisions that nobody fetches yet.
    fn wanted(&self, documents: &mut Documents, list: &Snapshot) -> Vec<Arc<str>> {
        if !matches!(self.target, Target::Application { .. }) {
            return Vec::new();
        }
        let revisions = list
            .instances
            .iter()
            .filter_map(|i| i.revision())
            .filter(|r| *r != NO_SERVICES);
        let revisions: BTreeSet<&str> = revisions.collect();
        let revisions = revisions.into_iter().map(Arc::<str>::from);
        revisions
            .filter(|revision| documents.ask(self.target.name(), revision))
            .collect()
    }
}

/// Hands the ingress table's changes to the call path, in order; none is lost to a full channel.
async fn send_changes(catalog: Arc<Catalog>, changes: mpsc::Sender<IngressChange>) {
    loop {
        while let Some(change) = catalog.next_change() {
            tokio::select! {
                () = catalog.drain.cancelled() => return,
                sent = changes.send(change) => if sent.is_err() {
                    return;
                },
            }
        }
        tokio::select! {
            () = catalog.drain.cancelled() => return,
            () = catalog.wake.outbox.notified() => {}
        }
    }
}

/// What has to be done now and then.
async fn keep_house(catalog: Arc<Catalog>) {
    let mut tick = interval(HOUSE_INTERVAL);
    let mut is_missing = true;
    loop {
        tokio::select! {
            () = catalog.drain.cancelled() => return,
            _ = tick.tick() => {}
        }
        is_missing = is_missing && catalog.open_missing_ingress();
        catalog.sweep();
    }
}

/// Ticks, the first at once, and none more to make up for one that came late.
fn every(period: Duration) -> tokio::time::Interval {
    let mut tick = interval(period.max(MIN_INTERVAL));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

async fn resolve_names(catalog: Arc<Catalog>) {
    let mut tick = every(catalog.setup.config.load().resolve_interval.0);
    loop {
        let wanted = catalog.setup.config.load().resolve_interval.0.max(MIN_INTERVAL);
        if tick.period() != wanted {
            tick = every(wanted);
        }
        tokio::select! {
            () = catalog.drain.cancelled() => return,
            _ = tick.tick() => {}
            () = catalog.wake.names.notified() => {}
        }
        let names = {
            let mut state = catalog.state();
            let in_use = state.routes.names();
            state.hosts.round(&in_use)
        };
        let mut is_changed = false;
        for some in names.chunks(LOOKUPS_AT_ONCE) {
            let lookups: Vec<_> = some
                .iter()
                .map(|name| {
                    let name = Arc::clone(name);
                    tokio::spawn(async move { timeout(LOOKUP_TIMEOUT, resolve(&name)).await })
                })
                .collect();
            for (name, lookup) in some.iter().zip(lookups) {
                let answer = match lookup.await {
                    Ok(Ok(answer)) => answer,
                    _ => Err(format!("no answer within {LOOKUP_TIMEOUT:?}")),
                };
                is_changed |= catalog.state().hosts.answer(name, answer);
            }
        }
        if is_changed {
            catalog.rebuild(&mut catalog.state(), |_| true);
        }
    }
}

/// Tells when a registry comes and goes.
async fn watch_registry(catalog: Arc<Catalog>, link: Arc<Link>) {
    let mut states = link.registry.state();
    let label = RegistryLabel {
        registry: link.name.to_string(),
    };
    let registry = &*link.name;
    let mut is_told = false;
    loop {
        let state = states.borrow_and_update().clone();
        catalog
            .metrics
            .registry_up
            .get_or_create(&label)
            .set(i64::from(state.is_up()));
        match &state {
            RegistryState::Connecting => {}
            RegistryState::Up { since } => {
                link.first_up.get_or_init(|| *since);
                info!(registry, identity = link.identity, "registry reached");
                is_told = false;
            }
            // Each further attempt gives a state of its own.
            RegistryState::Down { cause, .. } if is_told => {
                debug!(registry, cause = &**cause, "registry still away");
            }
            RegistryState::Down { cause, .. } => {
                is_told = true;
                warn!(registry, cause = &**cause, "registry lost, serving last known lists");
            }
        }
        tokio::select! {
            () = catalog.drain.cancelled() => return,
            changed = states.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Writes the last known lists after they changed, not too often, and once more at the end.
async fn keep_on_disk(catalog: Arc<Catalog>, link: Arc<Link>) {
    loop {
        let shortest = catalog.setup.config.load().snapshot_interval.0;
        let is_draining = tokio::select! {
            () = catalog.drain.cancelled() => true,
            () = link.changed.notified() => false,
        };
        if !is_draining {
            // Changes come in flocks.
            tokio::select! {
                () = catalog.drain.cancelled() => {}
                () = sleep(shortest) => {}
            }
        }
        let (took, is_kept) = write_lists(&catalog, &link).await;
        if is_draining || catalog.drain.is_cancelled() {
            return;
        }
        let mut pause = took * WRITE_SHARE;
        if !is_kept {
            // Room may be made on the disk without any change in a list.
            link.changed.notify_one();
            pause = pause.max(WRITE_AGAIN);
        }
        tokio::select! {
            () = catalog.drain.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
}

/// How long a write took, and whether it worked.
async fn write_lists(catalog: &Arc<Catalog>, link: &Arc<Link>) -> (Duration, bool) {
    let Some(file) = link.file.clone() else {
        return (Duration::ZERO, true);
    };
    let lists = {
        let state = catalog.state();
        let lists = state
            .lists
            .values()
            .filter(|l| l.link == link.number)
            .filter_map(|l| l.shown.borrow().clone());
        let documents = state.documents.all();
        Lists {
            lists: lists.collect(),
            documents: documents
                .map(|(a, r, d)| (Arc::clone(a), Arc::clone(r), Arc::clone(d)))
                .collect(),
        }
    };
    let identity = link.identity.clone();
    let start = Instant::now();
    let written = tokio::task::spawn_blocking(move || snapshot::write(&file, &identity, &lists)).await;
    let outcome = match written {
        Ok(Ok(())) => "written",
        Ok(Err(error)) => {
            warn!(registry = &*link.name, reason = error.reason(), %error, "the last known lists could not be kept");
            error.reason()
        }
        Err(_) => "interrupted",
    };
    catalog
        .metrics
        .snapshot_writes
        .get_or_create(&OutcomeLabel { outcome })
        .inc();
    let is_kept = outcome == "written";
    let label = RegistryLabel {
        registry: link.name.to_string(),
    };
    catalog
        .metrics
        .snapshot_kept
        .get_or_create(&label)
        .set(i64::from(is_kept));
    (start.elapsed(), is_kept)
}

/// Dubbo's revision of an application that offers nothing (`EMPTY_REVISION`): there is no document.
const NO_SERVICES: &str = "0";
const PROBES_AT_ONCE: usize = 64;
const LOOKUPS_AT_ONCE: usize = 16;
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
const HOUSE_INTERVAL: Duration = Duration::from_secs(1);
/// Configured intervals are at least this long: a timer of zero is an error.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// A provider withdraws one of its services after the other: once it is through, it can be told from one that was lost.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// Writing lists may take this part of the time.
const WRITE_SHARE: u32 = 20;
/// When lists that could not be written are written again.
const WRITE_AGAIN: Duration = Duration::from_secs(5);
