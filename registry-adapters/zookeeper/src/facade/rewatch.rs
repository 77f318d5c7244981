// SPDX-License-Identifier: Apache-2.0
//! `setWatches` and `setWatches2`: what a client had watched before it lost its connection.
//!
//! Watches on lists are compared with what the session was shown last, or fired when that is not known: a client that is
//! told too much reads again, one that is told too little misses a change for ever.

use std::sync::Arc;

use super::door::Door;
use super::list::Entry;
use super::paths::Shape;
use super::sent::Then;
use crate::wire::request::SetWatches;
use crate::wire::{EventKind, Request, RequestHeader, Seq, Text};

impl Door {
    pub(super) fn set_watches(&mut self, head: RequestHeader, set: SetWatches, is_second: bool) {
        let data = self.rewatched(&set.data, |door, path| door.rewatch_data(path, set.relative_zxid));
        let exist = self.rewatched(&set.exist, Self::rewatch_exist);
        let child = self.rewatched(&set.child, Self::rewatch_child);
        let persistent = self.rewatched(&set.persistent, |door, path| door.rewatch_for_good(path, 0));
        let recursive = self.rewatched(&set.persistent_recursive, |door, path| door.rewatch_for_good(path, 1));
        let texts = |paths: Vec<String>| paths.into_iter().map(Text::from).collect::<Seq<Text>>();
        let set = SetWatches {
            // Compared with zxids of another count, a watch would be armed that should have fired; 0 fires them all.
            relative_zxid: if self.is_behind || self.state.is_detached {
                0
            } else {
                set.relative_zxid
            },
            data: texts(data),
            exist: texts(exist),
            child: texts(child),
            persistent: texts(persistent),
            persistent_recursive: texts(recursive),
        };
        let request = match is_second {
            true => Request::SetWatches2(set),
            false => Request::SetWatches(set),
        };
        let place = self.place();
        self.send(head, request, place, Then::Relay);
    }

    /// The paths that the registry is to watch.
    fn rewatched(&mut self, paths: &Seq<Text>, mut rewatch: impl FnMut(&mut Self, &str) -> Rewatch) -> Vec<String> {
        let mut there = Vec::new();
        for path in paths.iter() {
            match rewatch(self, &path) {
                Rewatch::Here => {}
                Rewatch::There(path) => there.push(path),
            }
        }
        there
    }

    fn rewatch_data(&mut self, path: &str, seen: i64) -> Rewatch {
        let shared = Arc::clone(&self.shared);
        match shared.roots.shape(path) {
            Shape::Frozen => self.rewatch_frozen(path),
            Shape::Dir if !self.state.is_raw => self.rewatch_dir_data(path),
            Shape::Child { dir, name } => {
                if let Some(there) = self.own_path(path, dir, name) {
                    return Rewatch::There(there);
                }
                if self.state.is_raw || self.is_relayed_list(dir) {
                    return Rewatch::There(path.to_owned());
                }
                match self.state.views.get_mut(dir) {
                    Some(view) if view.is_known => match view.shown.entry(name) {
                        Some(Entry::Made(made)) if made.modified() < seen => {
                            view.watch_entry(name, true);
                            Rewatch::Here
                        }
                        Some(Entry::Made(_)) => self.fired(EventKind::NodeDataChanged, path),
                        // A real node, or one that was shown and is no more: the registry knows which.
                        _ => Rewatch::There(path.to_owned()),
                    },
                    // After a restart nothing is known of what was shown: the client has to look.
                    _ => self.fired(EventKind::NodeDataChanged, path),
                }
            }
            _ => Rewatch::There(path.to_owned()),
        }
    }

    fn rewatch_exist(&mut self, path: &str) -> Rewatch {
        let shared = Arc::clone(&self.shared);
        match shared.roots.shape(path) {
            Shape::Frozen => self.rewatch_frozen(path),
            Shape::Dir if !self.state.is_raw => self.rewatch_dir_data(path),
            Shape::Child { dir, name } => {
                if let Some(there) = self.own_path(path, dir, name) {
                    return Rewatch::There(there);
                }
                if let Some(view) = self.state.views.get_mut(dir).filter(|_| !self.state.is_raw) {
                    if view.shown.entry(name).is_some_and(|entry| *entry != Entry::Foreign) {
                        return self.fired(EventKind::NodeCreated, path);
                    }
                    view.watch_entry(name, true);
                }
                self.state.watch_absent(path);
                Rewatch::There(path.to_owned())
            }
            _ => Rewatch::There(path.to_owned()),
        }
    }

    fn rewatch_child(&mut self, path: &str) -> Rewatch {
        let shared = Arc::clone(&self.shared);
        match shared.roots.shape(path) {
            Shape::Frozen => self.rewatch_frozen(path),
            Shape::Dir if !self.state.is_raw => {
                if self.is_relayed_list(path) {
                    return Rewatch::There(path.to_owned());
                }
                match self.state.views.get_mut(path) {
                    Some(view) if view.is_known && view.read_version == Some(view.shown.version()) => {
                        view.watches.child = true;
                        self.watch_dir(path);
                        Rewatch::Here
                    }
                    _ => self.fired(EventKind::NodeChildrenChanged, path),
                }
            }
            _ => Rewatch::There(path.to_owned()),
        }
    }

    /// Persistent watches get no events for what happened meanwhile, from real servers neither.
    fn rewatch_for_good(&mut self, path: &str, mode: i32) -> Rewatch {
        let shared = Arc::clone(&self.shared);
        match shared.roots.shape(path) {
            Shape::Frozen => self.rewatch_frozen(path),
            Shape::Dir if !self.state.is_raw && self.follow(path) => {
                if let Some(view) = self.state.views.get_mut(path) {
                    view.watches.persistent = Some(mode);
                }
                Rewatch::There(path.to_owned())
            }
            Shape::Child { dir, name } => {
                if let Some(view) = self.state.views.get_mut(dir) {
                    view.watch_entry_for_good(name);
                }
                match self.own_path(path, dir, name) {
                    Some(there) => Rewatch::There(there),
                    None => Rewatch::There(path.to_owned()),
                }
            }
            _ => Rewatch::There(path.to_owned()),
        }
    }

    fn rewatch_frozen(&mut self, path: &str) -> Rewatch {
        self.frozen_watches.insert(path.to_owned());
        Rewatch::Here
    }

    fn rewatch_dir_data(&mut self, dir: &str) -> Rewatch {
        if self.follow(dir)
            && let Some(view) = self.state.views.get_mut(dir)
        {
            view.watches.data = true;
        }
        Rewatch::There(dir.to_owned())
    }

    fn fired(&mut self, kind: EventKind, path: &str) -> Rewatch {
        self.fire(kind, path);
        Rewatch::Here
    }

    fn own_path(&mut self, path: &str, dir: &str, name: &str) -> Option<String> {
        self.find_learned(path, dir, name);
        self.state.names.own(path).map(|own| own.registry_path.clone())
    }

    fn is_relayed_list(&self, dir: &str) -> bool {
        self.state.views.get(dir).is_some_and(|view| view.is_relayed())
    }

    /// Hears of the end of a directory whose list is watched.
    pub(super) fn watch_dir(&mut self, dir: &str) {
        let request = Request::Exists {
            path: Text::from(dir),
            watch: true,
        };
        self.send_own(request, 0, None, Then::Ignore);
    }
}

/// Where a watch is kept from now on.
enum Rewatch {
    /// Here, or it has fired.
    Here,
    /// In the registry, on this path.
    There(String),
}
