// SPDX-License-Identifier: Apache-2.0
//! Requests that need a list before it is known: taken up again when it is, or when it is late.
//!
//! Not here: plain reads of a list (`dirs.rs`), which ask the registry meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use remora_registry::Snapshot;
use tokio::sync::watch;
use tokio::time::Instant;

use super::door::Door;
use super::sent::Done;
use crate::wire::{Request, RequestHeader};

impl Door {
    /// Takes a request up again once the lists that it needs are known. `false` when it has waited already.
    pub(super) fn hold(&mut self, head: RequestHeader, request: &Request, frame: &Bytes, dirs: &[String]) -> bool {
        if self.held_place.is_some() {
            return false;
        }
        let mut lists = Vec::new();
        for dir in dirs {
            if self.follow(dir) {
                lists.extend(self.unknown_list(dir));
            }
        }
        self.hold_until(head, request, frame, dirs, lists)
    }

    /// Takes a request up again once these lists are known. `false` when they are, or when it has waited already.
    pub(super) fn hold_until(
        &mut self,
        head: RequestHeader,
        request: &Request,
        frame: &Bytes,
        dirs: &[String],
        lists: Vec<watch::Receiver<Option<Arc<Snapshot>>>>,
    ) -> bool {
        if lists.is_empty() || self.held_place.is_some() {
            return false;
        }
        let place = self.line.reserve();
        let deadline = Instant::now() + self.list_wait();
        let (request, frame, dirs) = (Box::new(request.clone()), frame.clone(), dirs.to_vec());
        self.jobs.spawn(async move {
            for mut list in lists {
                // Late, or discovery is going down: it is answered with what there is.
                let _ = tokio::time::timeout_at(deadline, list.wait_for(Option::is_some)).await;
            }
            Done::Held {
                place,
                head,
                request,
                frame,
                dirs,
            }
        });
        true
    }

    /// The list of a directory, if it is not known yet.
    fn unknown_list(&self, dir: &str) -> Option<watch::Receiver<Option<Arc<Snapshot>>>> {
        let view = self.state.views.get(dir).filter(|view| !view.is_known)?;
        Some(view.list.clone())
    }
}
