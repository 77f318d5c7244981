// SPDX-License-Identifier: Apache-2.0
//! What applications follow: lists of SOFARPC's services as the proxy's discovery shows them, anything else as the
//! SOFARegistry behind pushes it, and configurations without what names providers by an address that nobody is shown.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use remora_naming::sofa::line;
use remora_registry::{Client, LeaseId, Snapshot, Target};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::push::{Content, FeedId, Key, Kind};
use super::rules;
use super::session::{Follower, Session, Verdict};
use super::stats::{Raised, Stats};
use super::subject::{self, CONFIG_GROUP};
use crate::adapter::{Received, ReceivedConfig, Subject};
use crate::wire::{DEFAULT_ZONE, EventType, Registration, SubscriberRegister, Zones};

/// Where a feed's content comes from.
pub(super) enum Source {
    Service(watch::Receiver<Option<Arc<Snapshot>>>),
    Relayed(watch::Receiver<Option<Arc<Received>>>),
    Config(watch::Receiver<Option<Arc<ReceivedConfig>>>),
}

impl Source {
    /// Waits for another content; `false` when there will be none.
    async fn changed(&mut self) -> bool {
        match self {
            Self::Service(receiver) => receiver.changed().await.is_ok(),
            Self::Relayed(receiver) => receiver.changed().await.is_ok(),
            Self::Config(receiver) => receiver.changed().await.is_ok(),
        }
    }
}

/// The sources of a connection's feeds, each waited for by a task that ends with its feed or the connection.
#[derive(Default)]
pub(super) struct Watches {
    tasks: JoinSet<(FeedId, Option<Source>)>,
    by_feed: HashMap<FeedId, Watch>,
    /// Configurations that say something, as the registry has them.
    texts: HashMap<FeedId, String>,
}

struct Watch {
    zone: String,
    /// What is followed at discovery.
    target: Option<Target>,
    /// Lines that it was told last.
    told: Vec<String>,
    task: Option<AbortHandle>,
}

impl Watches {
    /// The next source that changed; pending for ever while there is none.
    pub(super) async fn changed(&mut self) -> (FeedId, Option<Source>) {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(changed)) => return changed,
                // Ended with its feed.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Waits for the source to change, no longer than `limit`.
    fn wait(&mut self, id: FeedId, mut source: Source, limit: Option<Duration>) {
        if let Some(watch) = self.by_feed.get_mut(&id) {
            let task = async move {
                let goes_on = match limit {
                    None => source.changed().await,
                    // What has not changed is looked at once more.
                    Some(limit) => timeout(limit, source.changed()).await.unwrap_or(true),
                };
                (id, goes_on.then_some(source))
            };
            watch.task = Some(self.tasks.spawn(task));
        }
    }

    fn follows(&self, target: &Target) -> bool {
        self.by_feed.values().any(|watch| watch.target.as_ref() == Some(target))
    }
}

impl Session {
    /// A subscriber, or its end.
    pub(super) fn subscriber(&mut self, register: &SubscriberRegister, now: Instant) -> Verdict {
        let base = &register.base;
        let key = Key {
            subject: Subject::of(base),
            kind: Kind::List(register.scope),
        };
        if base.event == EventType::Unregister {
            return self.end_follower(&base.regist_id, now);
        }
        let target = subject::service(base).map(|service| service.target());
        let refusal = match (&target, &self.shared.relay) {
            (Some(target), _) => self.discovery.cannot_hold(target),
            (None, None) => Some("it is none of SOFARPC's, and the registry behind is no SOFARegistry".to_owned()),
            (None, Some(_)) => None,
        };
        if let Some(why) = refusal {
            return Verdict::Refused(why);
        }
        let zone = zone(base);
        let nothing = Content::List {
            zones: Zones::new(),
            local_zone: zone.clone(),
        };
        let (id, is_new) = match self.follower(base, key.clone(), |stats| &stats.subscribers, Some(nothing), now) {
            Ok(added) => added,
            Err(verdict) => return verdict,
        };
        if is_new {
            let source = match (&target, self.shared.relay.clone()) {
                (Some(target), _) => {
                    let (_, lease) = self.lease(base);
                    Source::Service(self.discovery.follow(lease, target))
                }
                (None, Some(relay)) => {
                    Stats::count(&self.shared.stats.relayed);
                    let Kind::List(scope) = key.kind else {
                        return Verdict::Taken;
                    };
                    Source::Relayed(relay.relay_subscribe(&key.subject, scope))
                }
                (None, None) => return Verdict::Taken,
            };
            self.watch(
                id,
                Watch {
                    zone,
                    target,
                    told: Vec::new(),
                    task: None,
                },
                source,
                now,
            );
        }
        Verdict::Taken
    }

    /// A configurator, or its end.
    pub(super) fn configurator(&mut self, base: &Registration, now: Instant) -> Verdict {
        let key = Key {
            subject: Subject::of(base),
            kind: Kind::Config,
        };
        if base.event == EventType::Unregister {
            return self.end_follower(&base.regist_id, now);
        }
        let nothing = (key.subject.group != CONFIG_GROUP).then_some(Content::Config(None));
        let added = self.follower(base, key.clone(), |stats| &stats.configurators, nothing.clone(), now);
        let (id, is_new) = match added {
            Ok(added) => added,
            Err(verdict) => return verdict,
        };
        if is_new {
            match (self.shared.relay.clone(), nothing) {
                (Some(relay), _) => {
                    Stats::count(&self.shared.stats.relayed);
                    let watch = Watch {
                        zone: zone(base),
                        target: None,
                        told: Vec::new(),
                        task: None,
                    };
                    self.watch(id, watch, Source::Config(relay.relay_configure(&key.subject)), now);
                }
                // As a real session server of 6.x, which has no configurations either.
                (None, Some(nothing)) => self.feeds.set(id, nothing, now),
                (None, None) => {}
            }
        }
        Verdict::Taken
    }

    /// Tells a configuration. That there is none is no news to SOFARPC, and told while it starts it does harm: it takes it
    /// for a second list, which overtakes the first and lets it find no provider connected (seen with 5.6.5).
    fn set_config(&mut self, id: FeedId, content: Content, now: Instant) {
        let is_of_services = self.feeds.key(id).is_some_and(|key| key.subject.group == CONFIG_GROUP);
        if content != Content::Config(None) || !is_of_services || self.feeds.is_known(id) {
            self.feeds.set(id, content, now);
        }
    }

    fn follower(
        &mut self,
        base: &Registration,
        key: Key,
        gauge: fn(&Stats) -> &std::sync::atomic::AtomicU64,
        fallback: Option<Content>,
        now: Instant,
    ) -> Result<(FeedId, bool), Verdict> {
        let (app, _) = self.lease(base);
        let max = self.shared.config.max_registrations;
        let (publishers, _) = self.shared.applications.size_without(app, "");
        let is_known = self.followers.contains_key(base.regist_id.as_str());
        if !is_known && self.followers.len() + publishers >= max {
            return Err(Verdict::Later(format!(
                "this client has {max} registrations, as many as allowed"
            )));
        }
        let regist_id: Arc<str> = base.regist_id.as_str().into();
        // The same id for something else: no client does, but nothing may be left behind.
        if self.followers.get(&regist_id).is_some_and(|known| known.key != key) {
            self.end_follower(&regist_id, now);
        }
        let added = self.feeds.add(&key, &regist_id, fallback, now);
        let follower = Follower {
            key,
            _counted: Raised::new(&self.shared.stats, gauge),
        };
        self.followers.insert(regist_id, follower);
        Ok(added)
    }

    fn end_follower(&mut self, regist_id: &str, now: Instant) -> Verdict {
        let Some(follower) = self.followers.remove(regist_id) else {
            return Verdict::Taken;
        };
        let Some(id) = self.feeds.remove(&follower.key, regist_id, now) else {
            return Verdict::Taken;
        };
        self.watches.texts.remove(&id);
        let Some(watch) = self.watches.by_feed.remove(&id) else {
            return Verdict::Taken;
        };
        if let Some(task) = watch.task {
            task.abort();
        }
        if let (Some(target), Some((_, lease))) = (&watch.target, self.known_lease())
            && !self.watches.follows(target)
        {
            self.discovery.unfollow(lease, target);
        }
        Verdict::Taken
    }

    fn watch(&mut self, id: FeedId, watch: Watch, source: Source, now: Instant) {
        self.watches.by_feed.insert(id, watch);
        self.changed(id, Some(source), now);
    }

    /// A feed's content is known or changed; `None` when it will not change any more.
    pub(super) fn changed(&mut self, id: FeedId, source: Option<Source>, now: Instant) {
        let Some(mut source) = source else { return };
        let Some(key) = self.feeds.key(id).cloned() else { return };
        let zone = match self.watches.by_feed.get(&id) {
            Some(watch) => watch.zone.clone(),
            None => return,
        };
        let content = match &mut source {
            Source::Service(receiver) => {
                let snapshot = receiver.borrow_and_update().clone();
                snapshot.map(|snapshot| self.shown(&snapshot, zone))
            }
            Source::Relayed(receiver) => {
                let received = receiver.borrow_and_update().clone();
                received.map(|received| relayed(&received, zone))
            }
            Source::Config(receiver) => {
                let received = receiver.borrow_and_update().clone();
                received.map(|received| {
                    match &received.data {
                        Some(text) => self.watches.texts.insert(id, text.clone()),
                        None => self.watches.texts.remove(&id),
                    };
                    self.config(&key, received.data.as_deref())
                })
            }
        };
        let of_service = matches!(source, Source::Service(_));
        let (content, limit) = match content {
            Some(content) if of_service => {
                let (content, limit) = self.over_both(id, content);
                (Some(content), limit)
            }
            content => (content, None),
        };
        self.watches.wait(id, source, limit);
        let Some(content) = content else { return };
        if let Content::Config(_) = content {
            return self.set_config(id, content, now);
        }
        self.feeds.set(id, content, now);
        self.lists_changed(&key.subject.data_id, now);
    }

    /// SOFARPC takes the connections of its last list away before it looks at the next one: when no address is in both, calls
    /// find none for some milliseconds (seen with 5.13.2). So it is told both for a while.
    fn over_both(&mut self, id: FeedId, content: Content) -> (Content, Option<Duration>) {
        let Some(watch) = self.watches.by_feed.get_mut(&id) else {
            return (content, None);
        };
        let Content::List { mut zones, local_zone } = content else {
            return (content, None);
        };
        let new: Vec<String> = zones.iter().flat_map(|(_, lines)| lines).cloned().collect();
        let old = std::mem::replace(&mut watch.told, new);
        let is_known = |line: &String| old.iter().any(|known| address(known) == address(line));
        let mut limit = None;
        if let Some((_, lines)) = zones.first_mut()
            && !old.is_empty()
            && !watch.told.iter().any(is_known)
        {
            lines.extend(old);
            lines.sort_unstable();
            watch.told.clone_from(lines);
            limit = Some(BOTH_FOR);
        }
        (Content::List { zones, local_zone }, limit)
    }

    /// What an application is shown of a service.
    fn shown(&self, snapshot: &Snapshot, zone: String) -> Content {
        // SOFARPC dials a dotted address as it is.
        let lease = self.known_lease().map_or(LeaseId::NOBODY, |(_, lease)| lease);
        let shown = self.discovery.inward(lease, snapshot, Client::Plain);
        let mut lines: Vec<String> = shown.iter().map(line::print).collect();
        lines.sort_unstable();
        lines.dedup();
        let zones = match lines.is_empty() {
            true => Zones::new(),
            // All in the client's own zone: which provider is near is the proxy's business.
            false => vec![(zone.clone(), lines)],
        };
        Content::List {
            zones,
            local_zone: zone,
        }
    }

    fn config(&self, key: &Key, text: Option<&str>) -> Content {
        let is_of_services = key.subject.group == CONFIG_GROUP;
        let Some(text) = text.filter(|_| is_of_services) else {
            if is_of_services {
                self.shared
                    .report(&self.discovery, &rules::place(&key.subject), Vec::new());
            }
            return Content::Config(text.map(str::to_owned));
        };
        let shown: Vec<&str> = self
            .feeds
            .lists(&key.subject.data_id)
            .flat_map(|zones| zones.iter().flat_map(|(_, lines)| lines.iter().map(String::as_str)))
            .collect();
        let (passing, kept) = rules::split(text, &shown, &key.subject);
        self.shared.report(&self.discovery, &rules::place(&key.subject), kept);
        Content::Config(passing)
    }

    /// What a configuration may say depends on the addresses that the application is shown.
    fn lists_changed(&mut self, data_id: &str, now: Instant) {
        let of_data = |id: &FeedId| self.feeds.key(*id).is_some_and(|key| key.subject.data_id == data_id);
        let ids: Vec<FeedId> = self.watches.texts.keys().copied().filter(of_data).collect();
        for id in ids {
            let (Some(key), Some(text)) = (self.feeds.key(id).cloned(), self.watches.texts.get(&id).cloned()) else {
                continue;
            };
            let content = self.config(&key, Some(&text));
            self.set_config(id, content, now);
        }
    }
}

/// Everything that is published under a subject, segments joined: a client joins them anyway, those that it knows.
fn relayed(received: &Received, zone: String) -> Content {
    let mut zones = Zones::new();
    for segment in &received.segments {
        for (zone, data) in &segment.zones {
            match zones.iter_mut().find(|(known, _)| known == zone) {
                Some((_, known)) => known.extend(data.iter().cloned()),
                None => zones.push((zone.clone(), data.clone())),
            }
        }
    }
    let mut local_zones = received
        .segments
        .iter()
        .filter_map(|segment| segment.local_zone.clone());
    Content::List {
        zones,
        local_zone: local_zones.next().unwrap_or(zone),
    }
}

/// What stands before the parameters of a line.
fn address(line: &str) -> &str {
    line.split('?').next().unwrap_or(line)
}

/// Longer than a client takes to hear of it and to connect.
const BOTH_FOR: Duration = Duration::from_secs(1);

fn zone(base: &Registration) -> String {
    let zone = base.zone.as_deref().filter(|zone| !zone.is_empty());
    zone.unwrap_or(DEFAULT_ZONE).to_owned()
}
