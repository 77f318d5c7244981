// SPDX-License-Identifier: Apache-2.0
//! What SOFARPC needs when an address takes another one's place: both stand for a while, in the registry and in the lists that
//! applications here are shown.
//!
//! Its consumers keep a list in Curator's cache of a directory's children, which tells of what went before it tells of what
//! came, and SOFARPC then calls nobody until it has connected anew (seen with 5.13.2). Dubbo takes a list in as a whole.

use std::collections::VecDeque;
use std::time::Duration;

use remora_naming::sofa;
use tokio::time::Instant;
use tracing::{info, warn};

use super::door::Door;
use super::names::{Node, Own};
use super::sent::Then;
use crate::wire::{ErrorCode, Request, Text};

/// A node whose successor stands, until it goes.
#[derive(Debug)]
pub(super) struct Former {
    at: Instant,
    registry_path: String,
    /// The node's name for the application.
    app_path: String,
}

/// Lists that are shown with what they showed before, and until when.
#[derive(Debug, Default)]
pub(super) struct Overlaps(Vec<(Instant, String)>);

impl Overlaps {
    fn add(&mut self, at: Instant, dir: &str) {
        match self.0.iter_mut().find(|(_, known)| known == dir) {
            Some((until, _)) => *until = at,
            None => self.0.push((at, dir.to_owned())),
        }
    }

    fn due(&mut self, now: Instant) -> Option<String> {
        let at = self.0.iter().position(|(at, _)| *at <= now)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// What a list showed before another took its place as a whole.
#[derive(Debug)]
pub(super) struct Before<T> {
    pub(super) entries: T,
    until: Instant,
    is_read: bool,
}

impl<T> Before<T> {
    pub(super) fn new(entries: T) -> Self {
        Self {
            entries,
            until: Instant::now() + READS_IN,
            is_read: false,
        }
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    pub(super) fn is_over(&self) -> bool {
        self.until <= Instant::now()
    }

    /// The application has read it with what came: from now on it connects.
    pub(super) fn read(&mut self) {
        if !std::mem::replace(&mut self.is_read, true) {
            self.until = self.until.min(Instant::now() + CONNECTS_IN);
        }
    }
}

/// Whether a node and its successor stand side by side for a while. One that outlives its session may not: nobody might be
/// there to take it out.
pub(super) fn is_side_by_side(was: &Own, node: Option<&Node>) -> bool {
    sofa::is_sofa(&was.target) && node.is_none_or(|node| node.is_ephemeral)
}

impl Door {
    /// When something of this is due.
    pub(super) fn overlap_deadline(&self) -> Option<Instant> {
        let former = self.state.former.front().map(|former| former.at);
        let list = self.overlaps.0.iter().map(|(at, _)| *at).min();
        former.into_iter().chain(list).min()
    }

    /// Takes out nodes whose time is over, and shows lists without what they showed before.
    pub(super) fn overlap_in_time(&mut self) {
        let now = Instant::now();
        while self.state.former.front().is_some_and(|former| former.at <= now)
            && let Some(former) = self.state.former.pop_front()
        {
            self.take_out(former);
        }
        while let Some(dir) = self.overlaps.due(now) {
            self.refresh(&dir);
        }
    }

    /// A list is shown with what it showed before until then.
    pub(super) fn overlaps_until(&mut self, at: Instant, dir: &str) {
        self.overlaps.add(at, dir);
    }

    /// The successor of a node stands.
    pub(super) fn goes_later(&mut self, registry_path: String, app_path: String) {
        let at = Instant::now() + NODES_FOR;
        self.state.former.push_back(Former {
            at,
            registry_path,
            app_path,
        });
    }

    /// A node that was made for an application that has taken it back meanwhile.
    pub(super) fn goes_at_once(&mut self, registry_path: String, app_path: String) {
        let at = Instant::now();
        self.take_out(Former {
            at,
            registry_path,
            app_path,
        });
    }

    /// A node that was to go stays; `false` if there is none.
    pub(super) fn stays(&mut self, registry_path: &str) -> bool {
        let before = self.state.former.len();
        self.state.former.retain(|former| former.registry_path != registry_path);
        self.state.former.len() < before
    }

    /// What stood before the node that the application calls `app_path` goes at once.
    pub(super) fn former_goes(&mut self, app_path: &str) {
        let (now, later) = std::mem::take(&mut self.state.former)
            .into_iter()
            .partition(|former| former.app_path == app_path);
        self.state.former = later;
        self.take_all_out(now);
    }

    /// All that stood before something else goes at once.
    pub(super) fn all_former_go(&mut self) {
        let all = std::mem::take(&mut self.state.former);
        self.take_all_out(all);
    }

    fn take_all_out(&mut self, all: VecDeque<Former>) {
        for former in all {
            self.take_out(former);
        }
    }

    fn take_out(&mut self, former: Former) {
        let path = Text::from(former.registry_path.as_str());
        self.steps.leaves(&former.registry_path);
        let request = Request::Delete { path, version: -1 };
        self.send_own(request, 0, None, Then::Former(Box::new(former)));
    }

    /// A node whose successor stands is gone, or could not be taken out.
    pub(super) fn former_gone(&mut self, mut former: Former, err: ErrorCode) {
        self.steps.has_left(&former.registry_path);
        if !matches!(err, ErrorCode::OK | ErrorCode::NO_NODE) {
            warn!(
                registry = "zookeeper",
                path = former.registry_path,
                code = err.0,
                "a node that has a successor is still there, it is tried again"
            );
            former.at = Instant::now() + NODES_FOR;
            return self.state.former.push_back(former);
        }
        let own = self.state.names.own(&former.app_path);
        if let Some(own) = own.filter(|own| own.is_live).cloned() {
            info!(
                registry = "zookeeper",
                path = former.registry_path,
                "its successor stands alone"
            );
            self.leads_here(&own, own.is_taken);
        }
    }
}

/// Longer than any consumer takes to hear of an address and to connect.
const NODES_FOR: Duration = Duration::from_millis(1500);
/// Longer than an application takes to connect to the addresses of a list that it has read, on a busy machine.
const CONNECTS_IN: Duration = Duration::from_secs(2);
/// For one that does not read its list.
const READS_IN: Duration = Duration::from_secs(5);
