// SPDX-License-Identifier: Apache-2.0
//! Builds the rooms and connects them; start and stop order.
//!
//! Start: data directory, admin port, discovery (ingress ports), egress ports, registries and facades, call path; then
//! everything is served at once. Stop: readiness off; what Remora itself published is withdrawn; facades let go of their
//! connections, the call path drains; last known lists go to disk; embedded registries close; admin goes last.

mod banner;
mod error;
mod figures;
mod listen;
mod published;
mod registries;
mod views;

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::registry::Registry as MetricsRegistry;
use remora_registry::{Discovery, Facade};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use self::banner::Banner;
pub use self::error::AppError;
use self::registries::OpenRegistry;
use crate::admin::{Admin, Views};
use crate::call::{self, CallHandle, CallPath};
use crate::config::{self, Config, Loaded};
use crate::discovery::{Catalog, Desk, Setup, Tools};
use crate::lifecycle::Readiness;
use crate::metrics::{CallMetrics, DiscoveryMetrics};
use crate::plugins::Plugins;

/// A proxy whose ports are bound. Nothing is served before [`run`](Self::run).
pub struct App {
    banner: String,
    admin: Admin,
    admin_addr: SocketAddr,
    views: Arc<Views>,
    readiness: Readiness,
    catalog: Arc<Catalog>,
    call: SharedCall,
    doors: Vec<(Box<dyn Facade>, Arc<dyn Discovery>)>,
    registries: Vec<OpenRegistry>,
    drain: CancellationToken,
    /// Ends everything but admin, once publications are withdrawn; also if the app is never run.
    stop: DropGuard,
    drain_timeout: Duration,
    /// Held until the process ends; the system lets go of it in a crash, too.
    _lock: File,
}

/// Gone once the call path has drained.
type SharedCall = Arc<Mutex<Option<CallHandle>>>;

impl App {
    /// Checks the configuration, binds every port and reads what a former run left. Must be called inside a tokio runtime,
    /// which then carries facades, adapters, discovery and admin. Cancelling `drain` ends [`run`](Self::run).
    ///
    /// # Errors
    /// The first thing that cannot be had, with the key that changes it. What was bound before is let go.
    pub fn build(loaded: &Loaded, plugins: &Plugins, drain: CancellationToken) -> Result<Self, AppError> {
        let stop = CancellationToken::new();
        let stop_guard = stop.clone().drop_guard();
        let config = &loaded.config;
        let notes = config::check(loaded, &plugins.served()).map_err(AppError::Config)?;
        let data_dir =
            config::data_dir(config.data_dir.as_deref()).map_err(|(path, cause)| AppError::DataDir { path, cause })?;
        let lock = lock(&data_dir.path)?;

        let admin = Admin::bind(config.admin.listen.0)?;
        let admin_addr = admin.local_addr().unwrap_or(config.admin.listen.0);

        let mut metrics = MetricsRegistry::default();
        let setup = Setup {
            advertise: config.advertise,
            data_dir: Some(data_dir.path.clone()),
            protocols: listen::protocols(config, plugins),
            own_listeners: listen::own_listeners(config, admin_addr),
            config: config.discovery.clone(),
        };
        let discovery_metrics = DiscoveryMetrics::new(&mut metrics);
        let (catalog, ingress) = Catalog::open(
            setup,
            discovery_metrics,
            Tools::default(),
            Handle::current(),
            stop.clone(),
        )?;
        let egress = listen::egress(config, plugins, catalog.egress())?;

        let readiness = Readiness::new(drain.clone());
        let mut registries = Vec::new();
        let mut doors: Vec<(Box<dyn Facade>, Arc<dyn Discovery>)> = Vec::new();
        for entry in config.all_registries() {
            let mut opened = registries::open(&entry, &data_dir.path, &stop)?;
            let desk = Desk::open(
                &catalog,
                &entry.name,
                &entry.registry.to_string(),
                Arc::clone(&opened.adapter),
            );
            let has_lists = catalog.view().lists.iter().any(|list| list.registry == entry.name);
            readiness.watch_registry(&entry.name, opened.adapter.state(), has_lists);
            if let Some(door) = opened.door.take() {
                doors.push((door, Arc::clone(&desk) as Arc<dyn Discovery>));
            }
            published::start(config, &entry, desk, &stop);
            registries.push(opened);
        }

        let call_metrics = CallMetrics::new(&mut metrics);
        let call = CallPath::start(call::Setup {
            protocols: plugins.protocols().to_vec(),
            routes: Arc::clone(catalog.routes()),
            egress,
            ingress,
            config: config.call.clone(),
            workers: config.workers,
            metrics: call_metrics.clone(),
            drain_deadline: config.lifecycle.drain_timeout.0,
            drain: stop,
        })?;
        let call: SharedCall = Arc::new(Mutex::new(Some(call)));

        figures::register(&mut metrics, &readiness, &registries);
        let banner = Banner {
            registries: registries.iter().map(|r| (r.name.clone(), r.url.clone())).collect(),
            facades: doors.iter().map(|(door, _)| door.banner()).collect(),
            protocols: listen::banner(config, plugins, &catalog),
            data_dir: Some(data_dir),
            admin: admin_addr.to_string(),
            notes,
        };
        let views = Arc::new(Views {
            readiness: readiness.clone(),
            metrics: figures::page(metrics),
            catalog: views::catalog(Arc::clone(&catalog), &registries, SystemTime::now()),
            connections: views::connections(
                Arc::clone(&call),
                call_metrics,
                Arc::clone(&catalog),
                listen::protocols(config, plugins),
            ),
            config: effective(config),
            drain: drain.clone(),
        });
        Ok(Self {
            banner: banner.text(),
            admin,
            admin_addr,
            views,
            readiness,
            catalog,
            call,
            doors,
            registries,
            drain,
            stop: stop_guard,
            drain_timeout: config.lifecycle.drain_timeout.0,
            _lock: lock,
        })
    }

    /// What listens, what to set in the application, where state is kept; several lines.
    pub fn banner(&self) -> &str {
        &self.banner
    }

    /// Where admin listens.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// What the admin pages show.
    pub fn views(&self) -> &Arc<Views> {
        &self.views
    }

    /// Serves until the drain token given to [`build`](Self::build) is cancelled, then drains; `lifecycle.drain_timeout`
    /// bounds the wait for calls, [`WITHDRAW_TIMEOUT`] the one for withdrawals.
    pub async fn run(self) {
        let stop = self.stop.disarm();
        let doors = TaskTracker::new();
        for (door, discovery) in self.doors {
            let (drain, stop) = (self.drain.clone(), stop.clone());
            doors.spawn(async move {
                let name = door.name();
                if let Err(error) = door.serve(discovery, stop).await {
                    error!(registry = name, reason = error.reason(), %error, "facade stopped, so Remora stops");
                    drain.cancel();
                }
            });
        }
        doors.close();
        let closing = CancellationToken::new();
        let admin = tokio::spawn(self.admin.serve(Arc::clone(&self.views), closing.clone()));
        self.readiness.doors_open();
        info!(admin = %self.admin_addr, "serving");

        self.drain.cancelled().await;
        info!("draining");
        // Consumers must not find our addresses any more when the ports behind them close.
        self.catalog
            .withdraw_kept(WITHDRAW_TIMEOUT.min(self.drain_timeout))
            .await;
        stop.cancel();
        doors.wait().await;
        let call = self.call.lock().await.take();
        if let Some(call) = call {
            call.join().await;
        }
        self.catalog.closed().await;
        for registry in self.registries {
            registry.close().await;
        }
        closing.cancel();
        // A panic of the admin task was logged by the panic hook; nothing is left to serve.
        let _ = admin.await;
        info!("stopped");
    }
}

/// A registry that is there answers in milliseconds; calls in flight must not wait long for one that hangs.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(3);

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("admin", &self.admin_addr)
            .finish_non_exhaustive()
    }
}

/// The configuration as it takes effect, secrets hidden.
fn effective(config: &Config) -> String {
    serde_saphyr::to_string(config).unwrap_or_else(|error| format!("# {error}\n"))
}

/// Keeps a second Remora out of the directory.
fn lock(dir: &Path) -> Result<File, AppError> {
    let path = dir.join("lock");
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|cause| AppError::DataDir {
        path: path.clone(),
        cause,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AppError::DataDirInUse { path: dir.to_owned() }),
        Err(TryLockError::Error(cause)) => Err(AppError::DataDir { path, cause }),
    }
}
