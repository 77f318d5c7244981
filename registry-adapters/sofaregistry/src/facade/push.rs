// SPDX-License-Identifier: Apache-2.0
//! When what is pushed to one client. No sockets and no tasks in here: times come in, messages go out.
//!
//! A feed is what one client follows of one dataId in one scope, under however many registration ids. Each push of it names
//! those that lack the newest content, and is awaited before the next; what changes meanwhile waits, the newest wins.
//!
//! ```text
//! new id, content known ----------------> push at once          content changes --> push, `debounce` after the last one
//! new id, content unknown for too long -> push an empty list    no answer, or "no" --> push again, later each time
//! ```
//! Source: the rules of `ReceivedDataProcessor`, `DefaultSubscriber` and `DefaultConfigurator` of registry-client.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::clock::Clock;
use crate::adapter::Subject;
use crate::wire::{DEFAULT_DATA_CENTER, DEFAULT_INSTANCE_ID, Message, ReceivedConfigData, ReceivedData, Scope, Zones};

/// What a feed is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) subject: Subject,
    pub(super) kind: Kind,
}

/// Which of the two pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    List(Scope),
    Config,
}

/// Number of a feed on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FeedId(u64);

/// What is pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Data by zone, and the zone that the client is told to be in.
    List { zones: Zones, local_zone: String },
    /// A configuration, or that there is none.
    Config(Option<String>),
}

/// A push to send.
#[derive(Debug)]
pub(super) struct Push {
    /// Stream id of the request.
    pub(super) id: u32,
    pub(super) message: Message,
    /// How often it failed before.
    pub(super) failures: u32,
}

/// Times of pushes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) first_wait: Duration,
    pub(super) debounce: Duration,
    pub(super) timeout: Duration,
}

/// All feeds of one connection.
#[derive(Debug)]
pub(super) struct Feeds {
    pace: Pace,
    feeds: HashMap<FeedId, Feed>,
    by_key: HashMap<Key, FeedId>,
    /// When which feed has something to do.
    due: BTreeSet<(Instant, FeedId)>,
    /// Pushes that are not answered yet.
    flights: HashMap<u32, FeedId>,
    next_feed: u64,
    next_id: u32,
}

#[derive(Debug)]
struct Feed {
    key: Key,
    /// The registrations, and which content each has; 0 for none.
    names: Vec<(Arc<str>, u64)>,
    /// `None` until it is known.
    content: Option<Content>,
    /// Counts contents.
    generation: u64,
    since: Instant,
    /// What is shown if it is not known until then.
    fallback: Option<(Instant, Content)>,
    flight: Option<Flight>,
    failures: u32,
    /// Before this only those are pushed to that have nothing yet.
    not_before: Instant,
    queued: Option<Instant>,
}

#[derive(Debug)]
struct Flight {
    id: u32,
    generation: u64,
    names: Vec<Arc<str>>,
    until: Instant,
}

impl Feeds {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            feeds: HashMap::new(),
            by_key: HashMap::new(),
            due: BTreeSet::new(),
            flights: HashMap::new(),
            next_feed: 0,
            next_id: FIRST_ID,
        }
    }

    /// Adds a registration. Says whether its feed is new; then its content must be told with [`set`](Self::set) when it is
    /// known. `fallback` is shown if it is not known when `first_wait` has passed.
    ///
    /// A registration that is there already (our answer came too late for the client) is not pushed what it has: SOFARPC
    /// takes two pushes at once for its start, and finds no provider connected when the second is faster.
    pub(super) fn add(
        &mut self,
        key: &Key,
        name: &Arc<str>,
        fallback: Option<Content>,
        now: Instant,
    ) -> (FeedId, bool) {
        if let Some(id) = self.by_key.get(key).copied() {
            if let Some(feed) = self.feeds.get_mut(&id)
                && !feed.names.iter().any(|(known, _)| known == name)
            {
                feed.names.push((Arc::clone(name), 0));
            }
            self.queue(id, now);
            return (id, false);
        }
        let id = FeedId(self.next_feed);
        self.next_feed += 1;
        self.by_key.insert(key.clone(), id);
        let feed = Feed {
            key: key.clone(),
            names: vec![(Arc::clone(name), 0)],
            content: None,
            generation: 0,
            since: now,
            fallback: fallback.map(|content| (now + self.pace.first_wait, content)),
            flight: None,
            failures: 0,
            not_before: now,
            queued: None,
        };
        self.feeds.insert(id, feed);
        self.queue(id, now);
        (id, true)
    }

    /// Removes a registration. Says which feed ended with it.
    pub(super) fn remove(&mut self, key: &Key, name: &str, now: Instant) -> Option<FeedId> {
        let id = self.by_key.get(key).copied()?;
        let feed = self.feeds.get_mut(&id)?;
        feed.names.retain(|(known, _)| &**known != name);
        if !feed.names.is_empty() {
            self.queue(id, now);
            return None;
        }
        self.by_key.remove(key);
        if let Some(feed) = self.feeds.remove(&id) {
            if let Some(at) = feed.queued {
                self.due.remove(&(at, id));
            }
            if let Some(flight) = feed.flight {
                self.flights.remove(&flight.id);
            }
        }
        Some(id)
    }

    /// Tells the content of a feed, now known or new.
    pub(super) fn set(&mut self, id: FeedId, content: Content, now: Instant) {
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.set(content);
            self.queue(id, now);
        }
    }

    /// Whether a feed's content was ever told.
    pub(super) fn is_known(&self, id: FeedId) -> bool {
        self.feeds.get(&id).is_some_and(|feed| feed.content.is_some())
    }

    /// What a feed is about.
    pub(super) fn key(&self, id: FeedId) -> Option<&Key> {
        self.feeds.get(&id).map(|feed| &feed.key)
    }

    /// The lists of a dataId, whatever their group and scope.
    pub(super) fn lists<'f>(&'f self, data_id: &'f str) -> impl Iterator<Item = &'f Zones> {
        let feeds = self.feeds.values().filter(move |f| f.key.subject.data_id == data_id);
        feeds.filter_map(|feed| match &feed.content {
            Some(Content::List { zones, .. }) => Some(zones),
            _ => None,
        })
    }

    /// The answer to a push: whether it was taken. Says what it answers; an unknown id is none of ours, or too late.
    pub(super) fn answered(&mut self, stream_id: u32, is_taken: bool, now: Instant) -> bool {
        let Some(id) = self.flights.remove(&stream_id) else {
            return false;
        };
        let debounce = self.pace.debounce;
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.land(is_taken, debounce, now);
            self.queue(id, now);
        }
        true
    }

    /// When [`next`](Self::next) has something to give or to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A push that is due. Call it again until it gives none.
    pub(super) fn next(&mut self, clock: &Clock, now: Instant) -> Option<Push> {
        loop {
            let (at, id) = self.due.first().copied()?;
            if at > now {
                return None;
            }
            self.due.pop_first();
            let Some(feed) = self.feeds.get_mut(&id) else {
                continue;
            };
            feed.queued = None;
            if let Some(flight) = &feed.flight
                && flight.until <= now
            {
                self.flights.remove(&flight.id);
                feed.land(false, self.pace.debounce, now);
            }
            if feed.content.is_none()
                && let Some((_, content)) = feed.fallback.take_if(|(at, _)| *at <= now)
            {
                feed.set(content);
            }
            let push = match feed.next_at() {
                Some(at) if at <= now && feed.flight.is_none() => {
                    let push = feed.take_off(self.next_id, clock, now + self.pace.timeout);
                    self.flights.insert(push.id, id);
                    self.next_id = self.next_id.wrapping_add(1).max(FIRST_ID);
                    Some(push)
                }
                _ => None,
            };
            self.queue(id, now);
            if push.is_some() {
                return push;
            }
        }
    }

    fn queue(&mut self, id: FeedId, now: Instant) {
        let Some(feed) = self.feeds.get_mut(&id) else {
            return;
        };
        let at = feed.next_at().map(|at| at.max(now));
        if at == feed.queued {
            return;
        }
        if let Some(before) = std::mem::replace(&mut feed.queued, at) {
            self.due.remove(&(before, id));
        }
        if let Some(at) = at {
            self.due.insert((at, id));
        }
    }
}

impl Feed {
    fn set(&mut self, content: Content) {
        self.fallback = None;
        if self.content.as_ref() != Some(&content) {
            self.content = Some(content);
            self.generation += 1;
        }
    }

    /// When something is to be done, which may be past.
    fn next_at(&self) -> Option<Instant> {
        if let Some(flight) = &self.flight {
            return Some(flight.until);
        }
        if self.content.is_none() {
            return self.fallback.as_ref().map(|(at, _)| *at);
        }
        let mut lacking = self.names.iter().filter(|(_, has)| *has < self.generation).peekable();
        lacking.peek()?;
        let is_first = lacking.any(|(_, has)| *has == 0);
        Some(match is_first && self.failures == 0 {
            true => self.since,
            false => self.not_before,
        })
    }

    fn take_off(&mut self, id: u32, clock: &Clock, until: Instant) -> Push {
        let lacking = self.names.iter().filter(|(_, has)| *has < self.generation);
        let names: Vec<Arc<str>> = lacking.map(|(name, _)| Arc::clone(name)).collect();
        let message = message(&self.key, self.content.as_ref(), &names, clock.next());
        self.flight = Some(Flight {
            id,
            generation: self.generation,
            names,
            until,
        });
        Push {
            id,
            message,
            failures: self.failures,
        }
    }

    fn land(&mut self, is_taken: bool, debounce: Duration, now: Instant) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        if is_taken {
            self.failures = 0;
            self.not_before = now + debounce;
            for (name, has) in &mut self.names {
                if flight.names.contains(name) {
                    *has = flight.generation;
                }
            }
        } else {
            self.failures = self.failures.saturating_add(1);
            self.not_before = now + RETRY_STEP * self.failures.min(MAX_RETRY_STEPS);
        }
    }
}

fn message(key: &Key, content: Option<&Content>, names: &[Arc<str>], version: i64) -> Message {
    let names = names.iter().map(|name| name.to_string()).collect();
    let subject = &key.subject;
    let instance_id = Some(
        subject
            .instance_id
            .clone()
            .unwrap_or_else(|| DEFAULT_INSTANCE_ID.to_owned()),
    );
    match (key.kind, content) {
        (Kind::List(scope), content) => {
            let (zones, local_zone) = match content {
                Some(Content::List { zones, local_zone }) => (zones.clone(), Some(local_zone.clone())),
                _ => (Zones::new(), None),
            };
            Message::ReceivedData(ReceivedData {
                data_id: subject.data_id.clone(),
                group: subject.group.clone(),
                instance_id,
                segment: Some(DEFAULT_DATA_CENTER.to_owned()),
                scope,
                subscriber_regist_ids: names,
                data: Some(zones),
                version,
                local_zone,
            })
        }
        (Kind::Config, content) => Message::ReceivedConfigData(ReceivedConfigData {
            data_id: subject.data_id.clone(),
            group: subject.group.clone(),
            instance_id,
            configurator_regist_ids: names,
            data: match content {
                Some(Content::Config(data)) => data.clone(),
                _ => None,
            },
            version,
        }),
    }
}

/// Stream ids of ours; a client's own are numbered apart.
const FIRST_ID: u32 = 1;
/// As real session servers: 500 ms, then 500 ms more each time.
const RETRY_STEP: Duration = Duration::from_millis(500);
/// A client that does not take a push after this is tried every 5 s for as long as it is there.
const MAX_RETRY_STEPS: u32 = 10;

#[cfg(test)]
mod tests;
