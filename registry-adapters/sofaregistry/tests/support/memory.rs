// SPDX-License-Identifier: Apache-2.0
//! A discovery in memory: what is published in a target is shown to who follows it, as it is. It remembers what it was asked.

#![allow(dead_code, reason = "tests and the example need a part of it each")]

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use remora_registry::{
    BoxFuture, Client, Discovery, Instance, LeaseId, LeaseInfo, Outward, PublishError, Snapshot, Source, Target,
    UnappliedRule,
};
use tokio::sync::watch;

/// What the facade asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Opened {
        lease: u64,
        application: String,
    },
    Named {
        lease: u64,
        application: String,
    },
    Closed {
        lease: u64,
    },
    Published {
        lease: u64,
        target: String,
        id: String,
        address: String,
    },
    Withdrawn {
        lease: u64,
        target: String,
        id: String,
    },
    Followed {
        lease: u64,
        target: String,
    },
    Unfollowed {
        lease: u64,
        target: String,
    },
    Rules {
        place: String,
        texts: Vec<String>,
    },
}

type List = watch::Sender<Option<Arc<Snapshot>>>;

#[derive(Default)]
struct State {
    leases: u64,
    lists: HashMap<Target, List>,
    published: Vec<(u64, Target, Instance)>,
    /// Lists of these are not known until they are told.
    unknown: HashSet<String>,
    refusal: Option<String>,
    failure: Option<PublishError>,
}

/// The discovery.
pub struct Memory {
    state: Mutex<State>,
    asked: watch::Sender<Vec<Asked>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            asked: watch::Sender::new(Vec::new()),
        }
    }
}

impl Memory {
    /// Everything that was asked, and its growth.
    pub fn asked(&self) -> watch::Receiver<Vec<Asked>> {
        self.asked.subscribe()
    }

    /// The list of `target` (as it displays) is not known from now on, until it is told.
    pub fn forget(&self, target: &str) {
        self.lock().unknown.insert(target.to_owned());
    }

    /// Tells a list.
    pub fn tell(&self, target: &Target, instances: Vec<Instance>) {
        let mut state = self.lock();
        state.unknown.remove(&target.to_string());
        state.published.retain(|(_, at, _)| at != target);
        state
            .published
            .extend(instances.into_iter().map(|instance| (0, target.clone(), instance)));
        state.show(target);
    }

    /// What `cannot_hold` answers.
    pub fn refuse(&self, why: Option<&str>) {
        self.lock().refusal = why.map(str::to_owned);
    }

    /// What `publish_kept` fails with.
    pub fn fail(&self, with: Option<PublishError>) {
        self.lock().failure = with;
    }

    /// Addresses published in `target`, sorted.
    pub fn published(&self, target: &str) -> Vec<String> {
        let state = self.lock();
        let of_target = state.published.iter().filter(|(_, at, _)| at.to_string() == target);
        let mut addresses: Vec<String> = of_target.map(|(_, _, i)| format!("{}:{}", i.host, i.port)).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    fn note(&self, asked: Asked) {
        self.asked.send_modify(|all| all.push(asked));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn show(&mut self, target: &Target) {
        if self.unknown.contains(&target.to_string()) {
            return;
        }
        let mut instances: Vec<Arc<Instance>> = Vec::new();
        for (_, at, instance) in &self.published {
            // One that is published under two leases stands once.
            if at == target && !instances.iter().any(|known| known.id == instance.id) {
                instances.push(Arc::new(instance.clone()));
            }
        }
        let snapshot = Snapshot {
            target: target.clone(),
            instances,
            malformed: Vec::new(),
            foreign: Vec::new(),
            source: Source::Registry,
        };
        let list = self
            .lists
            .entry(target.clone())
            .or_insert_with(|| watch::Sender::new(None));
        list.send_replace(Some(Arc::new(snapshot)));
    }
}

impl Discovery for Memory {
    fn open_lease(&self, info: LeaseInfo) -> LeaseId {
        let mut state = self.lock();
        state.leases += 1;
        let lease = state.leases;
        drop(state);
        self.note(Asked::Opened {
            lease,
            application: info.application,
        });
        LeaseId(lease)
    }

    fn name_lease(&self, lease: LeaseId, application: &str) {
        self.note(Asked::Named {
            lease: lease.0,
            application: application.to_owned(),
        });
    }

    fn close_lease(&self, lease: LeaseId) {
        let mut state = self.lock();
        let gone: Vec<Target> = state
            .published
            .iter()
            .filter(|(l, ..)| *l == lease.0)
            .map(|(_, t, _)| t.clone())
            .collect();
        state.published.retain(|(l, ..)| *l != lease.0);
        for target in gone {
            state.show(&target);
        }
        drop(state);
        self.note(Asked::Closed { lease: lease.0 });
    }

    fn publish(&self, _: LeaseId, _: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        Err(PublishError::Protocol {
            protocol: instance.protocol.to_string(),
        })
    }

    fn publish_kept(&self, lease: LeaseId, target: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        let mut state = self.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        state
            .published
            .retain(|(l, t, i)| !(*l == lease.0 && t == target && i.id == instance.id));
        state.published.push((lease.0, target.clone(), instance.clone()));
        state.show(target);
        drop(state);
        self.note(Asked::Published {
            lease: lease.0,
            target: target.to_string(),
            id: instance.id.to_string(),
            address: format!("{}:{}", instance.host, instance.port),
        });
        Ok(Outward {
            host: instance.host.to_string(),
            port: instance.port,
            app_port: instance.port,
        })
    }

    fn cannot_hold(&self, _: &Target) -> Option<String> {
        self.lock().refusal.clone()
    }

    fn withdraw(&self, lease: LeaseId, target: &Target, instance: &Instance) {
        let mut state = self.lock();
        state
            .published
            .retain(|(l, t, i)| !(*l == lease.0 && t == target && i.id == instance.id));
        state.show(target);
        drop(state);
        self.note(Asked::Withdrawn {
            lease: lease.0,
            target: target.to_string(),
            id: instance.id.to_string(),
        });
    }

    fn follow(&self, lease: LeaseId, target: &Target) -> watch::Receiver<Option<Arc<Snapshot>>> {
        let mut state = self.lock();
        if !state.lists.contains_key(target) {
            state.lists.insert(target.clone(), watch::Sender::new(None));
            state.show(target);
        }
        let list = state.lists[target].subscribe();
        drop(state);
        self.note(Asked::Followed {
            lease: lease.0,
            target: target.to_string(),
        });
        list
    }

    fn unfollow(&self, lease: LeaseId, target: &Target) {
        self.note(Asked::Unfollowed {
            lease: lease.0,
            target: target.to_string(),
        });
    }

    fn inward(&self, _: LeaseId, snapshot: &Snapshot, _: Client) -> Vec<Instance> {
        snapshot.instances.iter().map(|one| Instance::clone(one)).collect()
    }

    fn inward_metadata<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }

    fn rules_not_applied(&self, place: &str, rules: Vec<UnappliedRule>) {
        self.note(Asked::Rules {
            place: place.to_owned(),
            texts: rules.into_iter().map(|rule| rule.text).collect(),
        });
    }
}
