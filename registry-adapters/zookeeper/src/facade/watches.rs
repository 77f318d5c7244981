// SPDX-License-Identifier: Apache-2.0
//! Watches around lists of providers: on the list, on its directory, and on its entries.
//!
//! The registry keeps those on the directory itself; those on the list and its entries are kept here, since their events are
//! made here.

use std::collections::HashSet;

use bytes::Bytes;

use super::dirs::View;
use super::door::Door;
use super::list::Entry;
use super::sent::Then;
use crate::wire::{ErrorCode, EventKind, Reply, Request, RequestHeader, Text, watcher_kind};

/// The application's watches around a list. They belong to a connection.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// One-shot, on the list.
    pub(super) child: bool,
    /// One-shot, on the directory's own data. The registry has it too.
    pub(super) data: bool,
    /// Persistent: 0 on the directory, 1 on everything below it instead. The registry has the same one.
    pub(super) persistent: Option<i32>,
    /// One-shot, on entries.
    pub(super) entries: HashSet<String>,
    /// Persistent, on entries.
    pub(super) entries_for_good: HashSet<String>,
}

impl View {
    pub(super) fn watch_entry(&mut self, name: &str, watch: bool) {
        if watch && self.watches.entries.len() < MAX_ENTRY_WATCHES {
            self.watches.entries.insert(name.to_owned());
        }
    }

    pub(super) fn watch_entry_for_good(&mut self, name: &str) {
        if self.watches.entries_for_good.len() < MAX_ENTRY_WATCHES {
            self.watches.entries_for_good.insert(name.to_owned());
        }
    }

    pub(super) fn is_entry_watched(&self, name: &str) -> bool {
        self.watches.entries.contains(name) || self.watches.entries_for_good.contains(name)
    }

    pub(super) fn forget_entry(&mut self, name: &str) -> bool {
        let once = self.watches.entries.remove(name);
        self.watches.entries_for_good.remove(name) || once
    }
}

impl Door {
    /// `addWatch` on a list: the registry keeps one for the directory and what is not discovery's below it, the events of
    /// entries are made here.
    pub(super) fn watch_list(&mut self, head: RequestHeader, dir: &str, mode: i32) {
        self.follow(dir);
        let place = self.place();
        let request = Request::AddWatch {
            path: Text::from(dir),
            mode,
        };
        let then = Then::DirWatch {
            dir: dir.to_owned(),
            mode,
        };
        self.send(head, request, place, then);
    }

    /// `checkWatches` and `removeWatches` on a list. The registry has watches of ours too, so the answer is known here
    /// only; persistent ones are removed there as well.
    pub(super) fn check_list_watch(
        &mut self,
        head: RequestHeader,
        request: Request,
        frame: &Bytes,
        dir: &str,
        kind: i32,
        removes: bool,
    ) {
        let Some(view) = self.state.views.get_mut(dir).filter(|view| !view.is_relayed()) else {
            return self.relay(head, request, frame, Then::Relay);
        };
        let watches = &mut view.watches;
        let is_any = kind == watcher_kind::ANY;
        let child = watches.child && (is_any || kind == watcher_kind::CHILDREN);
        let data = watches.data && (is_any || kind == watcher_kind::DATA);
        let persistent = match watches.persistent {
            Some(0) => is_any || kind == watcher_kind::PERSISTENT,
            Some(_) => is_any || kind == watcher_kind::PERSISTENT_RECURSIVE,
            None => false,
        };
        if removes {
            watches.child &= !child;
            watches.data &= !data;
            if persistent {
                let kind = match watches.persistent.take() {
                    Some(0) => watcher_kind::PERSISTENT,
                    _ => watcher_kind::PERSISTENT_RECURSIVE,
                };
                let path = Text::from(dir);
                self.send_own(Request::RemoveWatches { path, kind }, 0, None, Then::Ignore);
            }
        }
        self.answer_watcher(head, child || data || persistent);
    }

    /// An event of the registry on the directory of a list. `true` if the application is to see it.
    pub(super) fn dir_event(&mut self, dir: &str, kind: i32) -> bool {
        let Some(view) = self.state.views.get_mut(dir).filter(|view| !view.is_relayed()) else {
            return true;
        };
        let watches = &mut view.watches;
        match EventKind::from_wire(kind) {
            Some(EventKind::NodeChildrenChanged) => false,
            Some(EventKind::NodeDeleted) => {
                let once = std::mem::take(&mut watches.data) | std::mem::take(&mut watches.child);
                once || watches.persistent.is_some()
            }
            Some(EventKind::NodeCreated) => std::mem::take(&mut watches.data) || watches.persistent.is_some(),
            Some(EventKind::NodeDataChanged) => {
                let passes = std::mem::take(&mut watches.data) || watches.persistent.is_some();
                if watches.child {
                    // Our own watch on the directory went with it.
                    self.watch_dir(dir);
                }
                passes
            }
            _ => true,
        }
    }

    /// An event of the registry on a child of a list. `true` if the application is to see it: a watch on everything below a
    /// list would tell it of providers that it is not shown.
    pub(super) fn child_event(&self, dir: &str, name: &str, kind: i32, path: &str) -> bool {
        let Some(view) = self.state.views.get(dir).filter(|view| !view.is_relayed()) else {
            return true;
        };
        let is_data = EventKind::from_wire(kind) == Some(EventKind::NodeDataChanged);
        view.watches.persistent != Some(1)
            || self.state.names.app_path(path).is_some()
            || self.state.absent_watches.contains(path)
            || (is_data && matches!(view.shown.entry(name), Some(Entry::Foreign)))
    }

    /// The reply to a read of the directory itself.
    pub(super) fn dir_stat(&mut self, dir: &str, watch: bool, err: ErrorCode, reply: Option<Reply>) -> Option<Reply> {
        let arms = err.is_ok() || err == ErrorCode::NO_NODE;
        if watch
            && arms
            && self.follow(dir)
            && let Some(view) = self.state.views.get_mut(dir)
        {
            view.watches.data = true;
        }
        let mut reply = reply?;
        if let Some(view) = self.state.views.get_mut(dir)
            && view.is_known
            && !view.shown.is_foreign
        {
            match &mut reply {
                Reply::Stat(stat) | Reply::Data { stat, .. } => view.shown.adjust(stat),
                Reply::Number(number) => *number = i32::try_from(view.shown.names().len()).unwrap_or(i32::MAX),
                _ => {}
            }
        }
        Some(reply)
    }
}

/// Watches on entries of one list; more are not kept (a client has one per entry it saw).
const MAX_ENTRY_WATCHES: usize = 20_000;
