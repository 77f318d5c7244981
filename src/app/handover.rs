// SPDX-License-Identifier: Apache-2.0
//! A running proxy changes hands: to a new process, or back to itself when that fails.
//!
//! What is handed over, in this order: listening sockets and the data directory's lock (both are held by two processes for a
//! while, and never by none); then everything the control thread has, which lets go of it first (applications reconnect
//! to their doors and resume; Remora's own sessions, publications and files go on elsewhere); the call path last, which
//! serves until then. Whoever takes it begins with [`Former`], whether it is another process or this one again.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use remora_registry::Ports;
use remora_sofaregistry::adapter::Standing;
use remora_zookeeper::client::Ticket;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::call::{CallHandle, Frozen, HandoverError, Part, of_parts};
use crate::discovery::Publication;
use crate::lifecycle::upgrade::Parcel;

/// What a proxy begins with that takes over.
#[derive(Debug, Default)]
pub struct Former {
    /// Its listening sockets.
    pub ports: Ports,
    /// The lock of its data directory.
    pub lock: Option<File>,
    /// What doors and registries had; `None`: nobody hands over.
    pub control: Option<Control>,
    /// Its connections, if they are here already.
    pub calls: FormerCalls,
}

/// Where the connections of a former call path are.
#[derive(Debug, Default)]
pub enum FormerCalls {
    /// There are none, or another process has them still.
    #[default]
    Elsewhere,
    /// It serves, in this process.
    Serving(CallHandle),
    /// It has stopped, in this process.
    Stopped(Vec<Part>),
}

/// What doors and registries had, beside what stands in the data directory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Control {
    /// By configured name.
    #[serde(default)]
    registries: BTreeMap<String, FormerRegistry>,
}

/// What one registry had.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct FormerRegistry {
    /// Its address: what was at another one is of no use.
    url: String,
    session: Option<FormerSession>,
    pub(super) standing: Vec<Standing>,
    pub(super) published: Vec<Publication>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FormerSession {
    id: i64,
    password: Vec<u8>,
}

impl FormerRegistry {
    pub(super) fn new(
        url: String,
        ticket: Option<Ticket>,
        standing: Vec<Standing>,
        published: Vec<Publication>,
    ) -> Self {
        let session = ticket.map(|ticket| FormerSession {
            id: ticket.session,
            password: ticket.password,
        });
        Self {
            url,
            session,
            standing,
            published,
        }
    }

    /// Takes out what it takes to go on with Remora's own session there.
    pub(super) fn ticket(&mut self) -> Option<Ticket> {
        let session = self.session.take()?;
        Some(Ticket {
            session: session.id,
            password: session.password,
        })
    }
}

impl Control {
    pub(super) fn put(&mut self, name: &str, registry: FormerRegistry) {
        self.registries.insert(name.to_owned(), registry);
    }

    /// What the registry of that name at that address had.
    pub(super) fn take(&mut self, name: &str, url: &str) -> FormerRegistry {
        match self.registries.remove(name) {
            Some(former) if former.url == url => former,
            Some(former) => {
                warn!(
                    registry = name,
                    former = former.url,
                    url,
                    "another address than before, nothing is taken over"
                );
                FormerRegistry::default()
            }
            None => FormerRegistry::default(),
        }
    }
}

impl Former {
    /// The lock of `dir`, if that is the one handed over.
    pub(super) fn lock_of(&mut self, dir: &Path) -> Option<File> {
        let held = self.lock.take()?;
        let there = std::fs::metadata(dir.join("lock")).ok()?;
        let held_is = held.metadata().ok()?;
        ((held_is.dev(), held_is.ino()) == (there.dev(), there.ino())).then_some(held)
    }
}

impl FormerCalls {
    /// Stops it and gives the connections, one share for each worker.
    ///
    /// # Errors
    /// What was stopped before cannot be read back.
    pub(super) async fn stop(self) -> Result<Vec<Frozen>, HandoverError> {
        match self {
            Self::Elsewhere => Ok(Vec::new()),
            Self::Serving(handle) => Ok(handle.freeze().await),
            Self::Stopped(parts) => of_parts(parts),
        }
    }
}

pub(super) fn parcels(parts: Vec<Part>) -> Vec<Parcel> {
    let parcel = |part: Part| Parcel {
        text: part.text,
        bytes: part.bytes,
        fds: part.fds,
    };
    parts.into_iter().map(parcel).collect()
}

/// The call path's parts in what another process gave.
pub(crate) fn parts(parcels: Vec<Parcel>) -> Vec<Part> {
    let part = |parcel: Parcel| Part {
        text: parcel.text,
        bytes: parcel.bytes,
        fds: parcel.fds,
    };
    parcels.into_iter().map(part).collect()
}
