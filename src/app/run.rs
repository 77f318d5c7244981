// SPDX-License-Identifier: Apache-2.0
//! A built proxy at work, and its end, step by step.
//!
//! The end: readiness off; what leads here is withdrawn; a pause in which everything is still served, because consumers hear
//! of it from the registry; doors let go of their connections and the call path drains; last known lists go to disk;
//! registries close; admin goes last.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use remora_registry::Ports;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::handover::{Control, FormerCalls};
use super::house::House;
use super::leave::Leave;
use super::registries::OpenRegistry;
use super::reload::Reloader;
use super::upgrade::{self, Ended, Failed, LetGo, StandIn};
use super::{App, SharedCall, watch};
use crate::discovery::{Catalog, Publication};
use crate::lifecycle::upgrade::{Binary, Request, Requests};
use crate::lifecycle::{Stop, StopKind};

/// A proxy that serves.
pub(super) struct Running {
    pub(super) catalog: Arc<Catalog>,
    pub(super) ports: Ports,
    pub(super) lock: File,
    pub(super) stand_in: StandIn,
    /// What a new process runs.
    pub(super) binary: Option<Binary>,
    pub(super) stop: Stop,
    pub(super) leave: Arc<Leave>,
    reloader: Arc<Reloader>,
    call: SharedCall,
    registries: Vec<OpenRegistry>,
    closing: Closing,
    admin: JoinHandle<()>,
    admin_closing: CancellationToken,
    requests: Option<Arc<Requests>>,
}

/// Each ends a part; all of them end with `all`.
#[derive(Clone)]
pub(super) struct Closing {
    pub(super) all: CancellationToken,
    pub(super) doors: CancellationToken,
    /// Catalog, and what the configuration publishes.
    pub(super) control: CancellationToken,
    /// Connections to registries.
    pub(super) adapters: CancellationToken,
    pub(super) calls: CancellationToken,
}

impl Closing {
    pub(super) fn new() -> Self {
        let all = CancellationToken::new();
        Self {
            doors: all.child_token(),
            control: all.child_token(),
            adapters: all.child_token(),
            calls: all.child_token(),
            all,
        }
    }
}

impl App {
    /// Serves until a stop is asked for, then drains; `lifecycle.drain_timeout` bounds the wait for calls; withdrawals get
    /// three seconds before, and `lifecycle.withdraw_pause` if there were any. Or until another process took over.
    pub async fn run(self) -> Ended {
        let mut running = self.serve().await;
        loop {
            let request = tokio::select! {
                kind = running.stop.asked() => {
                    running.end(kind).await;
                    return Ended::Stopped;
                }
                request = next_request(running.requests.clone()) => request,
            };
            running = match upgrade::attempt(running, request).await {
                Ok(handed_over) => return Ended::HandedOver(handed_over),
                Err(Failed::Late(took_back)) => return Ended::TookBack(took_back),
                Err(Failed::Early(running, request, error)) => {
                    warn!(reason = error.reason(), %error, "no upgrade, nothing has changed");
                    request.answer(&upgrade::failed(&error)).await;
                    *running
                }
            };
        }
    }

    async fn serve(self) -> Running {
        let call = Arc::clone(&self.call);
        if let Some(call) = &*call.lock().await {
            call.begin();
        }
        self.closing_guard.disarm();
        self.reloader
            .parts
            .lock()
            .await
            .houses
            .iter_mut()
            .for_each(House::serve);
        if let Some(path) = self.reloader.loaded.path() {
            let (reloader, path) = (Arc::clone(&self.reloader), path.to_owned());
            let closing = self.closing.doors.clone();
            tokio::spawn(watch::watch(reloader, path, self.stamp, closing));
        }
        let admin_closing = CancellationToken::new();
        let admin = tokio::spawn(self.admin.serve(Arc::clone(&self.views), admin_closing.clone()));
        self.readiness.doors_open();
        info!(admin = %self.admin_addr, "serving");
        Running {
            catalog: self.catalog,
            ports: self.ports,
            lock: self.lock,
            stand_in: self.stand_in,
            binary: self.binary,
            stop: self.stop,
            leave: self.leave,
            reloader: self.reloader,
            call: self.call,
            registries: self.registries,
            closing: self.closing,
            admin,
            admin_closing,
            requests: self.requests.map(Arc::new),
        }
    }
}

async fn next_request(requests: Option<Arc<Requests>>) -> Request {
    match requests {
        Some(requests) => requests.next().await,
        None => std::future::pending().await,
    }
}

impl Running {
    async fn end(self, kind: StopKind) {
        info!(kind = kind.label(), "draining");
        // A port closes when its door does.
        self.ports.close();
        // Consumers must not find our addresses any more when the ports behind them close.
        self.leave.end(kind).await;
        self.closing.all.cancel();
        self.close_doors().await;
        let call = self.call.lock().await.take();
        if let Some(call) = call {
            call.join().await;
        }
        self.catalog.closed().await;
        for registry in self.registries {
            registry.close().await;
        }
        self.admin_closing.cancel();
        // A panic of the admin task was logged by the panic hook; nothing is left to serve.
        let _ = self.admin.await;
        info!("stopped");
    }

    /// A reload that has begun ends first; none begins after it.
    async fn close_doors(&self) {
        let mut parts = self.reloader.parts.lock().await;
        parts.is_over = true;
        for house in &mut parts.houses {
            house.closed().await;
        }
        parts.houses.clear();
        parts.words.clear();
    }

    /// Lets go of everything but the call path, for somebody else: nothing is withdrawn, no session ends.
    pub(super) async fn let_go(self) -> LetGo {
        // First, so that no end of a lease withdraws anything.
        let mut published: HashMap<String, Vec<Publication>> = self.catalog.freeze_kept().into_iter().collect();
        let standing: Vec<_> = self.registries.iter().map(OpenRegistry::freeze).collect();
        self.closing.doors.cancel();
        self.close_doors().await;
        let mut control = Control::default();
        let (mut connected, mut embedded) = (Vec::new(), Vec::new());
        for (registry, standing) in self.registries.into_iter().zip(standing) {
            let published = published.remove(&registry.name).unwrap_or_default();
            let left = registry.let_go(standing, published).await;
            control.put(&left.name, left.former);
            connected.extend(left.connected);
            embedded.extend(left.embedded);
        }
        self.closing.control.cancel();
        self.catalog.closed().await;
        for server in embedded {
            server.close().await;
        }
        self.admin_closing.cancel();
        let calls = self.call.lock().await.take();
        LetGo {
            control,
            calls: calls.map_or(FormerCalls::Elsewhere, FormerCalls::Serving),
            adapters: self.closing.adapters,
            connected,
        }
    }
}
