// SPDX-License-Identifier: Apache-2.0
//! Watches: who wants to know, and what is armed on the server.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::wire::EventKind;

/// Collects the paths whose watches fired, for one follower.
///
/// Armed by the reads of [`super::Client`] that take one. A watch fires once: when the node changed, or when the
/// connection was lost meanwhile, so that nobody knows. Either way: read again. Dropping the last clone ends its watches.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    fired: Arc<Fired>,
}

#[derive(Debug, Default)]
struct Fired {
    // At most one entry per armed watch.
    paths: Mutex<BTreeSet<Arc<str>>>,
    wake: Notify,
}

impl Watcher {
    /// A watcher without watches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until a watch fired; gives all paths since the last call. For one caller at a time. Cancel safe.
    pub async fn fired(&self) -> BTreeSet<Arc<str>> {
        loop {
            let paths = self.take();
            if !paths.is_empty() {
                return paths;
            }
            self.fired.wake.notified().await;
        }
    }

    /// The paths whose watches fired since the last call, without waiting.
    pub fn take(&self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut *self.fired.lock())
    }

    /// Fires by itself.
    pub(crate) fn look_again(&self, path: &str) {
        self.waiter(path).fire();
    }

    pub(super) fn waiter(&self, path: &str) -> Waiter {
        Waiter {
            fired: Arc::downgrade(&self.fired),
            path: path.into(),
        }
    }
}

impl Fired {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One watch of one watcher. `path` is as the follower knows it, without the chroot.
#[derive(Debug)]
pub(super) struct Waiter {
    fired: Weak<Fired>,
    path: Arc<str>,
}

impl Waiter {
    fn fire(self) {
        if let Some(fired) = self.fired.upgrade() {
            fired.lock().insert(self.path);
            fired.wake.notify_one();
        }
    }
}

/// What is armed on the server: data and child watches, by path with the chroot.
#[derive(Debug, Default)]
pub(super) struct Watches {
    data: HashMap<Box<str>, Vec<Waiter>>,
    child: HashMap<Box<str>, Vec<Waiter>>,
}

/// Which of the two tables of a server a watch stands in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Table {
    Data,
    Child,
}

impl Watches {
    /// A read armed a watch.
    pub fn add(&mut self, table: Table, path: &str, waiter: Waiter) {
        let table = match table {
            Table::Data => &mut self.data,
            Table::Child => &mut self.child,
        };
        let waiters = table.entry(path.into()).or_default();
        waiters.retain(|w| w.fired.strong_count() > 0 && !w.fired.ptr_eq(&waiter.fired));
        waiters.push(waiter);
    }

    /// The server sent an event.
    pub fn fire(&mut self, kind: EventKind, path: &str) {
        let is_data = matches!(
            kind,
            EventKind::NodeCreated | EventKind::NodeDeleted | EventKind::NodeDataChanged
        );
        let is_child = matches!(kind, EventKind::NodeDeleted | EventKind::NodeChildrenChanged);
        let data = is_data.then(|| self.data.remove(path)).flatten();
        let child = is_child.then(|| self.child.remove(path)).flatten();
        for waiter in data.into_iter().chain(child).flatten() {
            waiter.fire();
        }
    }

    /// The connection on which they were armed is gone: everything is to be read again.
    pub fn fire_all(&mut self) {
        for (_, waiters) in self.data.drain().chain(self.child.drain()) {
            for waiter in waiters {
                waiter.fire();
            }
        }
    }

    /// Forgets those whose follower is gone. Their watches on the server stay until they fire.
    pub fn prune(&mut self) {
        for table in [&mut self.data, &mut self.child] {
            table.retain(|_, waiters| {
                waiters.retain(|w| w.fired.strong_count() > 0);
                !waiters.is_empty()
            });
        }
    }
}
