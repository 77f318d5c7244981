// SPDX-License-Identifier: Apache-2.0
//! What applications publish through this door, and what stays for a while when a connection is lost.
//!
//! An application is one connection: its lease and its publishers. A client that lost its connection makes another and
//! sends everything again, each publisher under the id that it always had: so publishers move to the new connection one by
//! one, and the old one's lease ends a grace after the last of them moved, with those that did not come back.
//! Not here: subscribers, which end with their connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remora_registry::{Instance, Lease, LeaseId, Target};
use tokio::time::Instant;

use super::stats::{Raised, Stats};
use crate::adapter::RelayedPublisher;
use crate::wire::{PublisherRegister, Registration};

/// Number of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct AppId(u64);

/// One publisher.
pub(super) struct Publication {
    /// The application's name, the dataId and its group.
    pub(super) application: Option<String>,
    pub(super) data_id: String,
    pub(super) group: String,
    /// Of the last registration taken.
    pub(super) version: i64,
    /// Its data as the application sent it.
    pub(super) data: Vec<String>,
    /// Where it is.
    pub(super) held: Held,
    pub(super) _counted: Raised,
}

/// Where a publication is kept.
pub(super) enum Held {
    /// With the proxy's discovery.
    Service {
        target: Target,
        instances: Vec<Instance>,
        /// Something of it could not be published, and the client was told to try again.
        is_partial: bool,
    },
    /// At the SOFARegistry behind, as it is.
    Relayed(RelayedPublisher),
}

impl Publication {
    fn bytes(&self) -> usize {
        self.data.iter().map(|line| line.len() + LINE_OVERHEAD).sum()
    }
}

/// All applications of one door.
#[derive(Default)]
pub(super) struct Applications {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    open: HashMap<AppId, Application>,
    /// Who has a publisher.
    holders: HashMap<Arc<str>, AppId>,
    next: u64,
    ranks: u64,
    /// Counts changes of what is published.
    revision: u64,
}

struct Application {
    /// Connections by age, see [`Applications::rank`].
    rank: u64,
    lease: Lease,
    /// The user whose process it is; `None` if the system did not tell.
    owner: Option<u32>,
    publications: HashMap<Arc<str>, Publication>,
    bytes: usize,
    /// When the lease ends; `None` while connected.
    until: Option<Instant>,
}

impl Applications {
    /// The place of a new connection among all: the younger the higher. What stands for a client that is not back yet has
    /// the lowest, 0.
    pub(super) fn rank(&self) -> u64 {
        let mut table = self.lock();
        table.ranks += 1;
        table.ranks
    }

    /// A connection that registers something.
    pub(super) fn open(&self, lease: Lease, rank: u64, owner: Option<u32>) -> AppId {
        let mut table = self.lock();
        let id = AppId(table.next);
        table.next += 1;
        let application = Application {
            rank,
            lease,
            owner,
            publications: HashMap::new(),
            bytes: 0,
            until: None,
        };
        table.open.insert(id, application);
        id
    }

    /// How many publishers it has, and how many bytes of data, not counting one of them.
    pub(super) fn size_without(&self, id: AppId, regist_id: &str) -> (usize, usize) {
        let table = self.lock();
        let Some(application) = table.open.get(&id) else {
            return (0, 0);
        };
        let (count, bytes) = (application.publications.len(), application.bytes);
        match application.publications.get(regist_id) {
            Some(publication) => (count - 1, bytes.saturating_sub(publication.bytes())),
            None => (count, bytes),
        }
    }

    /// Version of one of its publishers.
    pub(super) fn version(&self, id: AppId, regist_id: &str) -> Option<i64> {
        let table = self.lock();
        Some(table.open.get(&id)?.publications.get(regist_id)?.version)
    }

    /// Whether a younger connection, still open, has this publisher: then its client has left the older one, where a copy
    /// of the registration may come late.
    pub(super) fn is_with_younger(&self, rank: u64, regist_id: &str) -> bool {
        let table = self.lock();
        let holder = table.holders.get(regist_id).and_then(|id| table.open.get(id));
        holder.is_some_and(|holder| holder.rank > rank && holder.until.is_none())
    }

    /// The user who registered a publisher; `None` if there is no such publisher, or nobody knows whose it is.
    pub(super) fn owner(&self, regist_id: &str) -> Option<u32> {
        let table = self.lock();
        table.open.get(table.holders.get(regist_id)?)?.owner
    }

    /// Takes a publisher out, whoever has it: gives the lease that it is published under. A lost connection that a publisher
    /// is taken from stays for `grace` from now: the client is sending the others.
    pub(super) fn take(&self, regist_id: &str, grace: Duration) -> Option<(AppId, LeaseId, Publication)> {
        let mut table = self.lock();
        let id = table.holders.remove(regist_id)?;
        table.revision += 1;
        let application = table.open.get_mut(&id)?;
        let publication = application.publications.remove(regist_id)?;
        application.bytes = application.bytes.saturating_sub(publication.bytes());
        if let Some(until) = &mut application.until {
            *until = (*until).max(Instant::now() + grace);
        }
        Some((id, application.lease.id(), publication))
    }

    /// Puts a publisher in. An application that is open is there until its connection left.
    pub(super) fn put(&self, id: AppId, regist_id: &Arc<str>, publication: Publication) {
        let mut table = self.lock();
        table.revision += 1;
        if let Some(application) = table.open.get_mut(&id) {
            application.bytes += publication.bytes();
            application.publications.insert(Arc::clone(regist_id), publication);
            table.holders.insert(Arc::clone(regist_id), id);
        }
    }

    /// The connection is lost: the lease ends at `until`, or at once if it published nothing.
    pub(super) fn leave(&self, id: AppId, until: Instant) {
        let gone = {
            let mut table = self.lock();
            match table.open.get_mut(&id) {
                Some(application) if !application.publications.is_empty() => {
                    application.until = Some(until);
                    None
                }
                _ => table.open.remove(&id),
            }
        };
        // The end of a lease is discovery's business; not under our lock.
        drop(gone);
    }

    /// Ends the leases whose time has come, and those that have nothing left.
    pub(super) fn sweep(&self, now: Instant, stats: &Stats) {
        let mut gone = Vec::new();
        let mut table = self.lock();
        let is_over = |a: &Application| a.until.is_some_and(|until| until <= now || a.publications.is_empty());
        let ids: Vec<AppId> = table
            .open
            .iter()
            .filter(|(_, a)| is_over(a))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(application) = table.open.remove(&id) else {
                continue;
            };
            table.revision += 1;
            for regist_id in application.publications.keys() {
                table.holders.remove(regist_id);
                Stats::count(&stats.expired);
            }
            gone.push(application);
        }
        drop(table);
        drop(gone);
    }

    /// Whether somebody has this publisher.
    pub(super) fn knows(&self, regist_id: &str) -> bool {
        self.lock().holders.contains_key(regist_id)
    }

    /// Grows with each change of what is published.
    pub(super) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// Every publisher of a service, as its client registered it, with its user.
    pub(super) fn publishers(&self) -> Vec<(Option<u32>, PublisherRegister)> {
        let table = self.lock();
        let all = table.open.values().flat_map(|application| {
            let owner = application.owner;
            application
                .publications
                .iter()
                .map(move |(id, publication)| (owner, id, publication))
        });
        let of_services = all.filter(|(_, _, publication)| matches!(publication.held, Held::Service { .. }));
        let registers = of_services.map(|(owner, regist_id, publication)| {
            let register = PublisherRegister {
                base: Registration {
                    app_name: publication.application.clone(),
                    data_id: publication.data_id.clone(),
                    group: publication.group.clone(),
                    regist_id: regist_id.to_string(),
                    version: publication.version,
                    ..Registration::default()
                },
                data: publication.data.clone(),
            };
            (owner, register)
        });
        registers.collect()
    }

    /// How many there are, lost connections included.
    pub(super) fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Whether there is none, and nothing was published yet: nothing is to be ended or remembered.
    pub(super) fn is_unused(&self) -> bool {
        let table = self.lock();
        table.open.is_empty() && table.revision == 0
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a line costs besides its bytes.
const LINE_OVERHEAD: usize = 64;
