// SPDX-License-Identifier: Apache-2.0
//! What is followed, and what the server pushed for it.
//!
//! Each subject is subscribed to once, however many lists need it, while somebody holds a receiver of it. A list of a whole
//! interface is made of the subjects of that interface that are followed. Everything happens inside the push, under one
//! lock: no push waits for a task.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use remora_registry::{Snapshot, Source, Target};
use tokio::sync::watch;
use tracing::debug;

use super::received::{Lines, Received, ReceivedConfig, Segment, Segments};
use super::registration::{Keeping, Register, Registration};
use super::subject::{Subject, Wanted};
use crate::wire::{ConfiguratorRegister, Message, Scope, SubscriberRegister};

type Told<T> = watch::Sender<Option<Arc<T>>>;
type Heard<T> = watch::Receiver<Option<Arc<T>>>;

/// All of it.
#[derive(Default)]
pub(super) struct Lists {
    table: Mutex<Table>,
    /// Set once, right after the client was made: pushes come from there.
    keeping: OnceLock<Keeping>,
}

#[derive(Default)]
struct Table {
    subscriptions: HashMap<(Subject, Scope), Subscription>,
    configurations: HashMap<Subject, Configuration>,
    subscribed: HashMap<Arc<str>, (Subject, Scope)>,
    configured: HashMap<Arc<str>, Subject>,
    followed: HashMap<Target, Followed>,
    /// Segments that count; `None` for all.
    available: Option<HashSet<String>>,
}

/// A subject at the server.
struct Subscription {
    registration: Registration,
    segments: Segments,
    told: Told<Received>,
    /// Where the subject is a SOFARPC service that a list needs.
    lines: Option<Lines>,
}

struct Configuration {
    registration: Registration,
    /// Connection of the last push.
    connection: u64,
    told: Told<ReceivedConfig>,
}

/// A list.
struct Followed {
    wanted: Wanted,
    list: Told<Snapshot>,
    /// Keeps the subscription.
    _heard: Heard<Received>,
}

impl Lists {
    /// Must be called before anything is followed.
    pub(super) fn keep(&self, keeping: Keeping) {
        // It is called once.
        let _ = self.keeping.set(keeping);
    }

    /// Follows a list until every receiver is dropped.
    pub(super) fn follow(self: &Arc<Self>, target: Target, wanted: Wanted) -> Heard<Snapshot> {
        let mut table = self.lock();
        if let Some(followed) = table.followed.get(&target) {
            return followed.list.subscribe();
        }
        let subject = Subject::of_service(&wanted.service);
        let heard = self.subscribe(&mut table, &subject, Scope::Global);
        let (list, receiver) = watch::channel(None);
        let followed = Followed {
            wanted: wanted.clone(),
            list: list.clone(),
            _heard: heard,
        };
        table.followed.insert(target.clone(), followed);
        if let Some(subscription) = table.subscriptions.get_mut(&(subject.clone(), Scope::Global))
            && subscription.lines.is_none()
        {
            let mut lines = Lines::default();
            if let Some(received) = subscription.told.borrow().as_deref() {
                lines.read(&wanted.service, received);
            }
            subscription.lines = Some(lines);
        }
        table.tell(&wanted);
        let lists = Arc::clone(self);
        self.spawn(async move {
            loop {
                list.closed().await;
                // Receivers are given out under this lock only.
                let mut table = lists.lock();
                if list.receiver_count() == 0 {
                    table.followed.remove(&target);
                    table.tell(&wanted);
                    return;
                }
            }
        });
        receiver
    }

    /// Follows a subject as it is.
    pub(super) fn subscribe_to(self: &Arc<Self>, subject: &Subject, scope: Scope) -> Heard<Received> {
        self.subscribe(&mut self.lock(), subject, scope)
    }

    fn subscribe(self: &Arc<Self>, table: &mut Table, subject: &Subject, scope: Scope) -> Heard<Received> {
        let key = (subject.clone(), scope);
        if let Some(subscription) = table.subscriptions.get(&key) {
            return subscription.told.subscribe();
        }
        let Some(keeping) = self.keeping.get() else {
            return watch::channel(None).1;
        };
        let options = keeping.client.options();
        let registration = Registration::start(
            keeping,
            Register::Subscriber(SubscriberRegister {
                base: subject.registration(&options.zone, &options.app_name),
                scope,
                ..SubscriberRegister::default()
            }),
        );
        let (told, heard) = watch::channel(None);
        table
            .subscribed
            .insert(Arc::clone(registration.regist_id()), key.clone());
        let subscription = Subscription {
            registration,
            segments: Segments::default(),
            told: told.clone(),
            lines: None,
        };
        table.subscriptions.insert(key.clone(), subscription);
        let lists = Arc::clone(self);
        self.spawn(async move {
            loop {
                told.closed().await;
                let mut table = lists.lock();
                if told.receiver_count() == 0 {
                    if let Some(gone) = table.subscriptions.remove(&key) {
                        table.subscribed.remove(gone.registration.regist_id());
                    }
                    return;
                }
            }
        });
        heard
    }

    /// Follows the configuration of a subject.
    pub(super) fn configure(self: &Arc<Self>, subject: &Subject) -> Heard<ReceivedConfig> {
        let mut table = self.lock();
        if let Some(configuration) = table.configurations.get(subject) {
            return configuration.told.subscribe();
        }
        let Some(keeping) = self.keeping.get() else {
            return watch::channel(None).1;
        };
        let options = keeping.client.options();
        let base = subject.registration(&options.zone, &options.app_name);
        let registration = Registration::start(keeping, Register::Configurator(ConfiguratorRegister { base }));
        let (told, heard) = watch::channel(None);
        table
            .configured
            .insert(Arc::clone(registration.regist_id()), subject.clone());
        let configuration = Configuration {
            registration,
            connection: 0,
            told: told.clone(),
        };
        table.configurations.insert(subject.clone(), configuration);
        let (lists, subject) = (Arc::clone(self), subject.clone());
        self.spawn(async move {
            loop {
                told.closed().await;
                let mut table = lists.lock();
                if told.receiver_count() == 0 {
                    if let Some(gone) = table.configurations.remove(&subject) {
                        table.configured.remove(gone.registration.regist_id());
                    }
                    return;
                }
            }
        });
        heard
    }

    /// Takes a push in.
    pub(super) fn pushed(&self, connection: u64, message: Message) -> Result<(), String> {
        match message {
            Message::ReceivedData(push) => {
                // As Java clients: such a push says nothing.
                let Some(zones) = push.data else { return Ok(()) };
                let segment = Arc::new(Segment {
                    name: push.segment.unwrap_or_default(),
                    version: push.version,
                    local_zone: push.local_zone,
                    zones,
                });
                let mut table = self.lock();
                for id in &push.subscriber_regist_ids {
                    table.take(connection, id, &segment);
                }
                Ok(())
            }
            Message::MultiReceivedData(push) => {
                let mut table = self.lock();
                for (name, segment) in push.segments {
                    if segment.zipped.is_some() {
                        let encoding = segment.encoding.unwrap_or_default();
                        return Err(format!("{encoding} was not asked for"));
                    }
                    let segment = Arc::new(Segment {
                        name,
                        version: segment.version,
                        local_zone: push.local_zone.clone(),
                        zones: segment.data,
                    });
                    for id in &push.subscriber_regist_ids {
                        table.take(connection, id, &segment);
                    }
                }
                Ok(())
            }
            Message::ReceivedConfigData(push) => {
                let mut table = self.lock();
                let config = ReceivedConfig {
                    version: push.version,
                    data: push.data,
                };
                for id in &push.configurator_regist_ids {
                    table.take_config(connection, id, &config);
                }
                Ok(())
            }
            other => Err(format!("a client is not pushed a {}", other.class())),
        }
    }

    /// The server said which segments count; none means all.
    pub(super) fn segments_available(&self, names: Vec<String>) {
        let available = (!names.is_empty()).then(|| names.into_iter().collect::<HashSet<_>>());
        let mut table = self.lock();
        if table.available == available {
            return;
        }
        table.available = available;
        let subjects: Vec<_> = table.subscriptions.keys().cloned().collect();
        for key in &subjects {
            table.received(key);
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(keeping) = self.keeping.get() {
            let mut state = keeping.client.state();
            keeping.runtime.spawn(async move {
                tokio::select! {
                    () = task => {}
                    _ = state.wait_for(|state| matches!(state, crate::client::ClientState::Closed)) => {}
                }
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take(&mut self, connection: u64, regist_id: &str, segment: &Arc<Segment>) {
        // One that was taken back meanwhile.
        let Some(key) = self.subscribed.get(regist_id).cloned() else {
            return;
        };
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return;
        };
        let is_relayed = subscription.lines.is_none();
        if subscription.segments.take(connection, Arc::clone(segment), is_relayed) {
            debug!(
                registry = "sofaregistry",
                service = key.0.data_id,
                group = key.0.group,
                segment = segment.name,
                version = segment.version,
                lines = segment.zones.iter().map(|(_, lines)| lines.len()).sum::<usize>(),
                "list pushed"
            );
            self.received(&key);
        }
    }

    fn take_config(&mut self, connection: u64, regist_id: &str, config: &ReceivedConfig) {
        let subject = self.configured.get(regist_id);
        let Some(known) = subject.and_then(|subject| self.configurations.get_mut(subject)) else {
            return;
        };
        let is_old = |told: &ReceivedConfig| known.connection == connection && config.version <= told.version;
        if known.told.borrow().as_deref().is_some_and(is_old) {
            return;
        }
        known.connection = connection;
        known.told.send_replace(Some(Arc::new(config.clone())));
    }

    /// Tells everybody what a subscription has now.
    fn received(&mut self, key: &(Subject, Scope)) {
        let Some(subscription) = self.subscriptions.get_mut(key) else {
            return;
        };
        if subscription.segments.is_empty() {
            return;
        }
        let received = Arc::new(subscription.segments.received(self.available.as_ref()));
        subscription.told.send_replace(Some(Arc::clone(&received)));
        let Some(lines) = &mut subscription.lines else {
            return;
        };
        let is_of = |wanted: &Wanted| Subject::of_service(&wanted.service) == key.0;
        let mut wanted = self.followed.values().map(|followed| &followed.wanted);
        if let Some(wanted) = wanted.find(|wanted| is_of(wanted)).cloned() {
            lines.read(&wanted.service, &received);
            self.tell(&wanted);
        }
    }

    /// Tells every list that what is wanted here belongs to.
    fn tell(&self, changed: &Wanted) {
        for (target, followed) in &self.followed {
            let wanted = &followed.wanted;
            if wanted.service == changed.service || wanted.includes(changed) {
                self.tell_one(target, followed);
            }
        }
    }

    fn tell_one(&self, target: &Target, followed: &Followed) {
        let Some(own) = self.lines_of(&followed.wanted) else {
            return;
        };
        let others = self.followed.values().map(|other| &other.wanted);
        let mut others: Vec<&Wanted> = others
            .filter(|other| followed.wanted.includes(other) && other.service != followed.wanted.service)
            .collect();
        // Two roots may follow the same service.
        others.sort_unstable_by(|a, b| a.service.cmp(&b.service));
        others.dedup_by(|a, b| a.service == b.service);
        let parts = || {
            let others = others.iter().filter_map(|other| self.lines_of(other));
            std::iter::once(own).chain(others)
        };
        let mut instances: Vec<_> = parts().flat_map(Lines::instances).cloned().collect();
        instances.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let mut malformed: Vec<_> = parts().flat_map(Lines::malformed).cloned().collect();
        malformed.sort_unstable();
        malformed.truncate(MAX_MALFORMED);
        let is_same = |told: &Snapshot| {
            let same = |(a, b): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(a, b);
            told.malformed == malformed
                && told.instances.len() == instances.len()
                && told.instances.iter().zip(&instances).all(same)
        };
        if followed.list.borrow().as_deref().is_some_and(is_same) {
            return;
        }
        followed.list.send_replace(Some(Arc::new(Snapshot {
            target: target.clone(),
            instances,
            malformed,
            foreign: Vec::new(),
            source: Source::Registry,
        })));
    }

    /// `None` until something was pushed.
    fn lines_of(&self, wanted: &Wanted) -> Option<&Lines> {
        let subject = Subject::of_service(&wanted.service);
        let subscription = self.subscriptions.get(&(subject, Scope::Global))?;
        let is_known = subscription.told.borrow().is_some();
        subscription.lines.as_ref().filter(|_| is_known)
    }
}

/// Lines shown in `status` at most; see [`Snapshot::malformed`].
const MAX_MALFORMED: usize = 100;
