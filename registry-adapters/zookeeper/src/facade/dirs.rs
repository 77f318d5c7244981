// SPDX-License-Identifier: Apache-2.0
//! Lists of providers: reads answered from what discovery shows, with the watches kept here.
//!
//! A read of a list asks the registry for the directory itself, on the application's own session: whether it is there,
//! whether the session may read it, its Stat. The names come from discovery.

use std::sync::Arc;

use bytes::Bytes;
use remora_registry::{Snapshot, Target};
use tokio::sync::watch;
use tokio::time::Instant;

use super::door::Door;
use super::line::Place;
use super::list::{Change, Shown, wants_watch};
use super::sent::{Done, Then};
use super::watches::Watches;
use crate::wire::{ErrorCode, EventKind, Reply, ReplyHeader, Request, RequestHeader, Seq, Text};

/// A list that a session reads.
#[derive(Debug)]
pub(super) struct View {
    pub(super) list: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(super) shown: Shown,
    pub(super) is_known: bool,
    /// It was read before the list was known: the real one was shown then.
    pub(super) is_shown_late: bool,
    /// Version of the list that the application read last.
    pub(super) read_version: Option<i32>,
    pub(super) watches: Watches,
}

/// A read that is on its way.
#[derive(Debug)]
pub(super) struct ListRead {
    dir: String,
    place: Place,
    xid: i32,
    request: Request,
    /// What the registry said about the directory.
    zxid: i64,
    stat: crate::wire::Stat,
    /// Until when the list is waited for.
    pub(super) deadline: Instant,
}

/// A list on its way through the job that waits for its change.
pub(super) struct Followed {
    dir: String,
    list: watch::Receiver<Option<Arc<Snapshot>>>,
}

impl View {
    /// Whether the list shown is the real one.
    pub(super) fn is_relayed(&self) -> bool {
        self.is_known && self.shown.is_foreign
    }
}

impl Door {
    pub(super) fn dir_request(&mut self, head: RequestHeader, request: Request, frame: &Bytes, dir: &str) {
        if self.state.is_raw {
            return self.relay(head, request, frame, Then::Relay);
        }
        match request {
            Request::GetChildren { .. } | Request::GetChildren2 { .. } => self.read_list(head, request, frame, dir),
            Request::Exists { watch, .. } | Request::GetData { watch, .. } => {
                let then = match watch || self.state.views.contains_key(dir) {
                    true => Then::DirStat {
                        dir: dir.to_owned(),
                        watch,
                    },
                    false => Then::Relay,
                };
                self.relay(head, request, frame, then);
            }
            Request::GetAllChildrenNumber { .. } if self.state.views.contains_key(dir) => {
                let dir = dir.to_owned();
                self.relay(head, request, frame, Then::DirStat { dir, watch: false });
            }
            Request::AddWatch { mode, .. } => self.watch_list(head, dir, mode),
            Request::CheckWatches { kind, .. } => self.check_list_watch(head, request, frame, dir, kind, false),
            Request::RemoveWatches { kind, .. } => self.check_list_watch(head, request, frame, dir, kind, true),
            other => self.relay(head, other, frame, Then::Relay),
        }
    }

    fn read_list(&mut self, head: RequestHeader, request: Request, frame: &Bytes, dir: &str) {
        let services = self.unknown_services(dir);
        if self.hold_until(head, &request, frame, &[], services) {
            return;
        }
        if !self.follow(dir) {
            return self.relay(head, request, frame, Then::Relay);
        }
        if self.state.views.get(dir).is_some_and(View::is_relayed) {
            let (dir, watch) = (dir.to_owned(), wants_watch(&request));
            return self.relay(head, request, frame, Then::RelayedList { dir, watch });
        }
        super::stats::Stats::count(&self.shared.stats.owned);
        let place = self.place();
        let read = ListRead {
            dir: dir.to_owned(),
            place,
            xid: head.xid,
            zxid: 0,
            stat: crate::wire::Stat::default(),
            deadline: Instant::now() + self.list_wait(),
            request,
        };
        let own = Request::GetData {
            path: Text::from(dir),
            // The directory's end must be heard of while its list is watched.
            watch: read.wants_watch(),
        };
        self.send_own(own, head.xid, Some(place), Then::List(Box::new(read)));
    }

    /// The directory was asked for; the list may be known or not.
    pub(super) fn list_read(&mut self, mut read: Box<ListRead>, head: ReplyHeader, reply: Option<Reply>) {
        let Some(Reply::Data { stat, .. }) = reply else {
            let err = if head.err.is_ok() {
                ErrorCode::SYSTEM_ERROR
            } else {
                head.err
            };
            return self.fill_error(read.place, read.xid, head.zxid, err, super::line::Origin::Upstream);
        };
        read.zxid = head.zxid;
        read.stat = stat;
        match self.state.views.get(&read.dir) {
            Some(view) if !view.is_known => self.waiting.push(*read),
            _ => self.answer_read(*read),
        }
    }

    /// Answers a read with the list as it is now.
    fn answer_read(&mut self, mut read: ListRead) {
        let Some(view) = self.state.views.get_mut(&read.dir).filter(|view| !view.is_relayed()) else {
            // Nothing of discovery's in it, or an operator's tool by now.
            let (xid, place) = (read.xid, Some(read.place));
            return self.send_own(read.request, xid, place, Then::Relay);
        };
        if read.wants_watch() {
            view.watches.child = true;
        }
        view.read_version = Some(view.shown.version());
        view.shown.read();
        let both_until = view.shown.both_until();
        view.shown.adjust(&mut read.stat);
        let children: Seq<Text> = view.shown.names().map(Text::from).collect();
        let reply = match read.request {
            Request::GetChildren { .. } => Reply::Children(children),
            _ => Reply::Children2 {
                children,
                stat: read.stat,
            },
        };
        let head = ReplyHeader {
            xid: read.xid,
            zxid: read.zxid,
            err: ErrorCode::OK,
        };
        self.fill(Some(read.place), head, &reply);
        if let Some(until) = both_until {
            self.overlaps_until(until, &read.dir);
        }
    }

    /// Reads whose list did not come in time are shown the real one: an application that finds providers, even past their
    /// takeover, works, and one that finds none may not start. It hears of its list by its watch.
    pub(super) fn answer_late_reads(&mut self) {
        let now = Instant::now();
        let (late, still): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|read| read.deadline <= now);
        self.waiting = still;
        for read in late {
            tracing::warn!(
                registry = "zookeeper",
                list = read.dir,
                "list not known in time, shown as it stands in the registry"
            );
            if let Some(view) = self.state.views.get_mut(&read.dir) {
                view.is_shown_late = true;
                view.watches.child |= read.wants_watch();
            }
            let (xid, place) = (read.xid, Some(read.place));
            self.send_own(read.request, xid, place, Then::Relay);
        }
    }

    /// Starts to follow a list. `false` if there are too many.
    pub(super) fn follow(&mut self, dir: &str) -> bool {
        if self.state.views.contains_key(dir) {
            return true;
        }
        let Some(target) = self.shared.roots.target(dir) else {
            return false;
        };
        if self.state.views.len() >= self.shared.config.max_lists {
            return false;
        }
        if let Target::Service { namespace, .. } = &target {
            self.shared.saw_namespace(namespace);
        }
        let list = self.discovery().follow(self.lease(), &target);
        let view = View {
            list: list.clone(),
            shown: Shown::default(),
            is_known: false,
            is_shown_late: false,
            read_version: None,
            watches: Watches::default(),
        };
        self.state.views.insert(dir.to_owned(), view);
        self.wait_for_change(Followed {
            dir: dir.to_owned(),
            list,
        });
        self.refresh(dir);
        true
    }

    /// Takes up the lists that the session had read on an earlier connection.
    pub(super) fn resume_lists(&mut self) {
        let dirs: Vec<String> = self.state.views.keys().cloned().collect();
        for dir in dirs {
            if let Some(view) = self.state.views.get_mut(&dir) {
                view.watches = Watches::default();
                let list = view.list.clone();
                self.wait_for_change(Followed { dir: dir.clone(), list });
                self.refresh(&dir);
            }
        }
    }

    fn wait_for_change(&mut self, mut followed: Followed) {
        self.jobs.spawn(async move {
            if followed.list.changed().await.is_err() {
                // Discovery is going down; the list stays as it is.
                std::future::pending::<()>().await;
            }
            Done::Changed(followed)
        });
    }

    pub(super) fn list_changed(&mut self, followed: Followed) {
        let dir = followed.dir.clone();
        if !self.state.views.contains_key(&dir) {
            return;
        }
        self.wait_for_change(followed);
        self.refresh(&dir);
        let (ready, still): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|read| read.dir == dir && self.state.views.get(&dir).is_none_or(|view| view.is_known));
        self.waiting = still;
        for read in ready {
            self.answer_read(read);
        }
    }

    pub(super) fn refresh_all(&mut self) {
        let dirs: Vec<String> = self.state.views.keys().cloned().collect();
        for dir in dirs {
            self.refresh(&dir);
        }
    }

    /// Brings the shown list up to date and fires what is watched.
    pub(super) fn refresh(&mut self, dir: &str) {
        let discovery = self.discovery();
        let viewer = self.viewer(discovery.as_ref());
        let stamp = self.state.next_stamp();
        let Some(view) = self.state.views.get_mut(dir) else {
            return;
        };
        let Some(snapshot) = view.list.borrow_and_update().clone() else {
            return;
        };
        let was_known = view.is_known;
        let was_relayed = view.is_relayed();
        let changes = view.shown.refresh(&snapshot, &viewer, stamp);
        view.is_known = true;
        let both_until = view.shown.both_until();
        // What stood in the registry was shown, or is from now on.
        let is_elsewhere = std::mem::take(&mut view.is_shown_late) || (was_known && was_relayed != view.is_relayed());
        // Whether that was watched is known to the registry only. An event too many is looked at and forgotten.
        view.watches.child |= was_relayed && is_elsewhere;
        self.fire_changes(dir, &changes, was_known, is_elsewhere);
        if let Some(until) = both_until {
            self.overlaps_until(until, dir);
        }
    }

    fn fire_changes(&mut self, dir: &str, changes: &[Change], was_known: bool, is_elsewhere: bool) {
        let Some(view) = self.state.views.get_mut(dir) else {
            return;
        };
        let is_relayed = view.is_relayed();
        // What a client would have found there when it set its watch is not news to it.
        let below = was_known && view.watches.persistent == Some(1);
        let mut events = Vec::new();
        let mut moved = is_elsewhere;
        for Change { kind, name, is_foreign } in changes {
            // The registry tells of those, as long as it is its list that is shown.
            if *is_foreign && is_relayed {
                continue;
            }
            moved |= was_known && *kind != EventKind::NodeDataChanged;
            let once = view.watches.entries.remove(name);
            if once || below || view.watches.entries_for_good.contains(name) {
                events.push((*kind, format!("{dir}/{name}")));
            }
        }
        let is_listed = moved && std::mem::take(&mut view.watches.child);
        if is_listed || (moved && view.watches.persistent == Some(0)) {
            events.push((EventKind::NodeChildrenChanged, dir.to_owned()));
        }
        for (kind, path) in events {
            self.fire(kind, &path);
        }
    }

    /// What the application watched is shown in another way from now on.
    pub(super) fn fire_everything(&mut self) {
        let dirs: Vec<String> = self.state.views.keys().cloned().collect();
        for dir in dirs {
            if let Some(view) = self.state.views.get_mut(&dir)
                && std::mem::take(&mut view.watches.child)
            {
                self.fire(EventKind::NodeChildrenChanged, &dir);
            }
        }
        for read in std::mem::take(&mut self.waiting) {
            let (xid, place) = (read.xid, Some(read.place));
            self.send_own(read.request, xid, place, Then::Relay);
        }
    }
}

impl ListRead {
    fn wants_watch(&self) -> bool {
        wants_watch(&self.request)
    }
}
