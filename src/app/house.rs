// SPDX-License-Identifier: Apache-2.0
//! The doors of one registry while Remora runs: served, closed, opened again with other settings.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use remora_registry::{Discovery, Facade, Ports};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::doors::{KINDS, Kind, OpenDoor, Opened, Site};
use super::{AppError, left_out};
use crate::config::{Facades, Note};
use crate::discovery::{Catalog, Desk};
use crate::lifecycle::{Stop, StopKind};

/// The open doors of one registry, for those who look at them.
#[derive(Clone, Default)]
pub(super) struct OpenDoors(Arc<Mutex<Vec<OpenDoor>>>);

impl OpenDoors {
    /// As they are now.
    pub(super) fn list(&self) -> Vec<OpenDoor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, door: OpenDoor) {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        doors.retain(|open| open.name != door.name);
        doors.push(door);
        // In the order of the configuration, so that the lists of status stay as they are.
        doors.sort_by_key(|open| KINDS.iter().position(|kind| kind.name() == open.name));
    }

    fn take(&self, kind: Kind) -> Option<OpenDoor> {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = doors.iter().position(|open| open.name == kind.name())?;
        Some(doors.remove(at))
    }
}

/// The doors of one registry.
pub(super) struct House {
    site: Site,
    catalog: Arc<Catalog>,
    desk: Arc<Desk>,
    stop: Stop,
    closing: CancellationToken,
    pub(super) open: OpenDoors,
    /// Bound, and not served yet.
    waiting: Vec<(Kind, Box<dyn Facade>)>,
    served: Vec<Served>,
    is_serving: bool,
}

struct Served {
    kind: Kind,
    closing: CancellationToken,
    task: JoinHandle<()>,
}

/// Doors that were bound for a change that has not been made yet; dropping them gives the ports back.
pub(super) struct Plan {
    new: Vec<(Kind, OpenDoor, Box<dyn Facade>)>,
    /// Those whose ports are held by the door that is there.
    again: Vec<Kind>,
    close: Vec<Kind>,
    notes: Vec<Note>,
    /// What was bound for it, to be given back if nothing comes of it.
    bound: Vec<SocketAddr>,
    ports: Ports,
}

impl Plan {
    fn new(ports: Ports) -> Self {
        Self {
            new: Vec::new(),
            again: Vec::new(),
            close: Vec::new(),
            notes: Vec::new(),
            bound: Vec::new(),
            ports,
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        self.ports.forget_at(&self.bound);
    }
}

impl House {
    /// Binds the doors of a registry.
    ///
    /// # Errors
    /// A port, or a directory.
    pub(super) fn open(
        site: Site,
        facades: &Facades,
        (catalog, desk): (&Arc<Catalog>, &Arc<Desk>),
        stop: &Stop,
        closing: &CancellationToken,
        notes: &mut Vec<Note>,
    ) -> Result<Self, AppError> {
        let mut house = Self {
            site,
            catalog: Arc::clone(catalog),
            desk: Arc::clone(desk),
            stop: stop.clone(),
            closing: closing.clone(),
            open: OpenDoors::default(),
            waiting: Vec::new(),
            served: Vec::new(),
            is_serving: false,
        };
        for kind in KINDS {
            match house.site.open(kind, facades)? {
                Opened::Off => {}
                Opened::Door(open, facade) => house.take_in(kind, open, facade),
                Opened::LeftOut(why) => {
                    house.catalog.is_not_ours(&kind.addresses(facades));
                    notes.push(left_out(kind.key(), &why));
                }
            }
        }
        Ok(house)
    }

    /// What each door tells applications, for the banner.
    pub(super) fn banner(&self) -> Vec<String> {
        self.waiting.iter().map(|(_, facade)| facade.banner()).collect()
    }

    /// Serves all doors from now on.
    pub(super) fn serve(&mut self) {
        self.is_serving = true;
        for (kind, facade) in std::mem::take(&mut self.waiting) {
            let closing = self.closing.child_token();
            let discovery = Arc::clone(&self.desk) as Arc<dyn Discovery>;
            let task = tokio::spawn(serve(facade, discovery, closing.clone(), self.stop.clone()));
            self.served.push(Served { kind, closing, task });
        }
    }

    /// Waits until every door has closed.
    pub(super) async fn closed(&mut self) {
        for served in self.served.drain(..) {
            // A panic was logged by the panic hook.
            let _ = served.task.await;
        }
    }

    /// Binds what a change needs, and changes nothing yet.
    ///
    /// # Errors
    /// A port that cannot be had.
    pub(super) fn plan(&self, now: &Facades, wanted: &Facades) -> Result<Plan, AppError> {
        let mut plan = Plan::new(self.site.ports.clone());
        for kind in KINDS.into_iter().filter(|kind| !kind.is_same(now, wanted)) {
            let (before, after) = (kind.addresses(now), kind.addresses(wanted));
            let is_open = self.served.iter().any(|served| served.kind == kind);
            if after.is_empty() {
                plan.close.push(kind);
            } else if is_open && before.iter().any(|addr| after.contains(addr)) {
                plan.again.push(kind);
            } else {
                plan.bound.extend(&after);
                match self.site.open(kind, wanted)? {
                    Opened::Off => {}
                    Opened::Door(open, facade) => {
                        plan.new.push((kind, open, facade));
                        plan.close.push(kind);
                    }
                    Opened::LeftOut(why) => plan.notes.push(left_out(kind.key(), &why)),
                }
            }
        }
        Ok(plan)
    }

    /// Makes a planned change; gives what did not work.
    pub(super) async fn change(&mut self, mut plan: Plan, now: &Facades, wanted: &Facades) -> Vec<String> {
        plan.bound.clear();
        // Also where a door stayed that could not be opened as it was wanted.
        let mut gone: Vec<SocketAddr> = self.open.list().into_iter().flat_map(|door| door.addrs).collect();
        gone.extend(KINDS.into_iter().flat_map(|kind| kind.addresses(now)));
        let mut problems: Vec<String> = plan.notes.iter().map(ToString::to_string).collect();
        for kind in std::mem::take(&mut plan.close) {
            self.close(kind).await;
        }
        for (kind, open, facade) in std::mem::take(&mut plan.new) {
            self.take_in(kind, open, facade);
            info!(door = kind.name(), registry = self.site.registry, "door opened");
        }
        for kind in std::mem::take(&mut plan.again) {
            self.close(kind).await;
            // Its ports were ours a moment ago. If they are lost all the same, the door as it was is no worse.
            for facades in [wanted, now] {
                match self.site.open(kind, facades) {
                    Ok(Opened::Door(open, facade)) => {
                        self.take_in(kind, open, facade);
                        info!(door = kind.name(), registry = self.site.registry, "door opened again");
                        break;
                    }
                    Ok(Opened::LeftOut(error)) => problems.push(error.to_string()),
                    Ok(Opened::Off) => {}
                    Err(error) => problems.push(error.to_string()),
                }
            }
        }
        let still: Vec<SocketAddr> = KINDS.into_iter().flat_map(|kind| kind.addresses(wanted)).collect();
        gone.retain(|addr| !still.contains(addr) && !self.listens_on(*addr));
        self.site.ports.forget_at(&gone);
        if self.is_serving {
            self.serve();
        }
        problems
    }

    fn listens_on(&self, addr: SocketAddr) -> bool {
        self.open.list().iter().any(|door| door.addrs.contains(&addr))
    }

    fn take_in(&mut self, kind: Kind, open: OpenDoor, facade: Box<dyn Facade>) {
        self.catalog.is_ours(&open.addrs);
        self.open.put(open);
        self.waiting.push((kind, facade));
    }

    async fn close(&mut self, kind: Kind) {
        let Some(at) = self.served.iter().position(|served| served.kind == kind) else {
            return;
        };
        let served = self.served.swap_remove(at);
        served.closing.cancel();
        if timeout(CLOSE_TIMEOUT, served.task).await.is_err() {
            warn!(
                door = kind.name(),
                "a door has not let go of all its connections in time"
            );
        }
        if let Some(open) = self.open.take(kind) {
            self.catalog.is_not_ours(&open.addrs);
        }
        info!(door = kind.name(), registry = self.site.registry, "door closed");
    }
}

async fn serve(facade: Box<dyn Facade>, discovery: Arc<dyn Discovery>, closing: CancellationToken, stop: Stop) {
    let name = facade.name();
    // One that panicked is as gone as one that failed, and nobody would see it.
    let stops_too = stop.token().clone().drop_guard();
    match facade.serve(discovery, closing.clone()).await {
        Ok(()) if closing.is_cancelled() => drop(stops_too.disarm()),
        Ok(()) => {}
        Err(error) => {
            error!(registry = name, reason = error.reason(), %error, "facade stopped, so Remora stops");
            stop.ask(StopKind::Restart);
        }
    }
}

/// A door closes its connections at once; those that write to disk take a moment.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
