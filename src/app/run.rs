// SPDX-License-Identifier: Apache-2.0
//! A built proxy at work, and its end, step by step.
//!
//! The end: readiness off; what leads here is withdrawn; a pause in which everything is still served, because consumers hear
//! of it from the registry; doors let go of their connections and the call path drains; last known lists go to disk;
//! registries close; admin goes last.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use remora_registry::{Discovery, Facade, Ports};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::handover::{Control, FormerCalls};
use super::registries::OpenRegistry;
use super::upgrade::{self, Ended, Failed, LetGo, StandIn};
use super::{App, SharedCall};
use crate::discovery::{Catalog, Publication};
use crate::lifecycle::upgrade::{Binary, Request, Requests};
use crate::lifecycle::{self, Stop, StopKind};

/// A proxy that serves.
pub(super) struct Running {
    pub(super) catalog: Arc<Catalog>,
    pub(super) ports: Ports,
    pub(super) lock: File,
    pub(super) stand_in: StandIn,
    /// What a new process runs.
    pub(super) binary: Option<Binary>,
    stop: Stop,
    lifecycle: lifecycle::Config,
    call: SharedCall,
    registries: Vec<OpenRegistry>,
    closing: Closing,
    doors: TaskTracker,
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
        let doors = serve_doors(self.doors, &self.stop, &self.closing.doors);
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
            lifecycle: self.lifecycle,
            call: self.call,
            registries: self.registries,
            closing: self.closing,
            doors,
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
        let withdrawn = self
            .catalog
            .withdraw_kept(WITHDRAW_TIMEOUT.min(self.lifecycle.drain_timeout.0))
            .await;
        if withdrawn > 0 {
            let pause = self.lifecycle.withdraw_pause.0;
            info!(
                withdrawn,
                pause_ms = pause.as_millis(),
                "withdrawn, still serving until consumers have heard of it"
            );
            tokio::time::sleep(pause).await;
        }
        self.closing.all.cancel();
        self.doors.wait().await;
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

    /// Lets go of everything but the call path, for somebody else: nothing is withdrawn, no session ends.
    pub(super) async fn let_go(self) -> LetGo {
        // First, so that no end of a lease withdraws anything.
        let mut published: HashMap<String, Vec<Publication>> = self.catalog.freeze_kept().into_iter().collect();
        let standing: Vec<_> = self.registries.iter().map(OpenRegistry::freeze).collect();
        self.closing.doors.cancel();
        self.doors.wait().await;
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

/// Serves every door until `closing`.
fn serve_doors(
    doors: Vec<(Box<dyn Facade>, Arc<dyn Discovery>)>,
    stop: &crate::lifecycle::Stop,
    closing: &CancellationToken,
) -> TaskTracker {
    let tasks = TaskTracker::new();
    for (door, discovery) in doors {
        let (stop, closing) = (stop.clone(), closing.clone());
        tasks.spawn(async move {
            let name = door.name();
            // One that panicked is as gone as one that failed, and nobody would see it.
            let stops_too = stop.token().clone().drop_guard();
            if let Err(error) = door.serve(discovery, closing.clone()).await {
                error!(registry = name, reason = error.reason(), %error, "facade stopped, so Remora stops");
                stop.ask(StopKind::Restart);
            } else if closing.is_cancelled() {
                // Another process may take over, or this one again.
                stops_too.disarm();
            }
        });
    }
    tasks.close();
    tasks
}

/// A registry that is there answers in milliseconds; calls in flight must not wait long for one that hangs.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(3);
