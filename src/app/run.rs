// SPDX-License-Identifier: Apache-2.0
//! A built proxy at work, and its end, step by step.
//!
//! The end: readiness off; what leads here is withdrawn; a pause in which everything is still served, because consumers hear
//! of it from the registry; doors let go of their connections and the call path drains; last known lists go to disk;
//! registries close; admin goes last.

use std::sync::Arc;
use std::time::Duration;

use remora_registry::{Discovery, Facade};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::App;
use crate::lifecycle::StopKind;

impl App {
    /// Serves until a stop is asked for, then drains; `lifecycle.drain_timeout` bounds the wait for calls; withdrawals get
    /// three seconds before, and `lifecycle.withdraw_pause` if there were any.
    pub async fn run(self) {
        let closing = self.closing.disarm();
        let doors = serve_doors(self.doors, &self.stop, &closing);
        let admin_closing = CancellationToken::new();
        let admin = tokio::spawn(self.admin.serve(Arc::clone(&self.views), admin_closing.clone()));
        self.readiness.doors_open();
        info!(admin = %self.admin_addr, "serving");

        let kind = self.stop.asked().await;
        info!(kind = kind.label(), "draining");
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
        closing.cancel();
        doors.wait().await;
        let call = self.call.lock().await.take();
        if let Some(call) = call {
            call.join().await;
        }
        self.catalog.closed().await;
        for registry in self.registries {
            registry.close().await;
        }
        admin_closing.cancel();
        // A panic of the admin task was logged by the panic hook; nothing is left to serve.
        let _ = admin.await;
        info!("stopped");
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
            let _stops_too = stop.token().clone().drop_guard();
            if let Err(error) = door.serve(discovery, closing).await {
                error!(registry = name, reason = error.reason(), %error, "facade stopped, so Remora stops");
                stop.ask(StopKind::Restart);
            }
        });
    }
    tasks.close();
    tasks
}

/// A registry that is there answers in milliseconds; calls in flight must not wait long for one that hangs.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(3);
