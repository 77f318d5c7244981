// SPDX-License-Identifier: Apache-2.0
//! Builds the rooms and connects them; start and stop order.
//!
//! Start: data directory, admin port, discovery (ingress ports), egress ports, registries and facades, call path; then
//! everything is served at once. Stop: see `run.rs`.

mod banner;
mod door_figures;
mod doors;
mod error;
mod figures;
mod handover;
mod house;
mod leave;
mod listen;
mod published;
mod registries;
mod reload;
mod run;
mod takeover;
mod topology;
mod upgrade;
mod views;
mod watch;

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry as MetricsRegistry;
use remora_registry::{BoxFuture, Ports};
use tokio::sync::Mutex;
use tokio_util::sync::DropGuard;
use tracing::warn;

use self::banner::Banner;
pub use self::error::AppError;
pub(crate) use self::handover::parts;
pub use self::handover::{Control, Former, FormerCalls};
use self::house::House;
use self::leave::Leave;
use self::listen::CallPorts;
pub(crate) use self::listen::protocols;
use self::published::Words;
use self::registries::OpenRegistry;
pub(crate) use self::registries::{adapter_config, ensemble, sofaregistry_config};
use self::reload::{Outside, Parts, Reloader, State};
use self::run::Closing;
use self::takeover::Takeover;
pub use self::upgrade::{Ended, HandedOver, StandIn, Then};
use self::watch::Stamp;
use crate::admin::{Admin, Views};
use crate::call::{self, CallHandle, CallPath, HandoverError, Part};
use crate::config::{self, Config, Loaded, Note};
use crate::discovery::{Catalog, Desk};
use crate::lifecycle::upgrade::{Binary, Requests};
use crate::lifecycle::{LogLevels, Notify, Readiness, Stop};
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
    registries: Vec<OpenRegistry>,
    leave: Arc<Leave>,
    reloader: Arc<Reloader>,
    /// The configuration file as it was before it was read.
    stamp: Stamp,
    stop: Stop,
    /// Ends everything but admin, once publications are withdrawn.
    closing: Closing,
    /// The same if the app is never run.
    closing_guard: DropGuard,
    /// Held until the process ends; the system lets go of it in a crash, too.
    lock: File,
    ports: Ports,
    /// Where an upgrade is asked for.
    requests: Option<Requests>,
    binary: Option<Binary>,
    stand_in: StandIn,
    former_calls: FormerCalls,
}

/// Gone once the call path has drained.
type SharedCall = Arc<Mutex<Option<CallHandle>>>;

impl App {
    /// Checks the configuration, binds every port and reads what a former run left. Must be called inside a tokio runtime,
    /// which then carries facades, adapters, discovery and admin. Asking `stop` ends [`run`](Self::run).
    ///
    /// # Errors
    /// The first thing that cannot be had, with the key that changes it. What was bound before is let go.
    pub fn build(loaded: &Loaded, plugins: &Plugins, stop: &Stop) -> Result<Self, AppError> {
        Self::build_from(loaded, plugins, stop, Former::default())
    }

    /// As [`build`](Self::build), and takes over from a former proxy. Its connections come with [`adopt`](Self::adopt).
    ///
    /// # Errors
    /// Likewise.
    pub fn build_from(loaded: &Loaded, plugins: &Plugins, stop: &Stop, mut former: Former) -> Result<Self, AppError> {
        let closing = Closing::new();
        let closing_guard = closing.all.clone().drop_guard();
        // A change while we start is seen as one, once we run: the file is then another than now.
        let stamp = loaded.path().and_then(watch::stamp);
        let served = plugins.served();
        let checked = config::check(loaded, &served).map_err(AppError::Config)?;
        let config = &checked.config;
        let mut notes = checked.notes;
        let is_optional = |key: &str| checked.optional.contains(key);
        let data_dir =
            config::data_dir(config.data_dir.as_deref()).map_err(|(path, cause)| AppError::DataDir { path, cause })?;
        let lock = match former.lock_of(&data_dir.path) {
            Some(lock) => lock,
            None => lock(&data_dir.path)?,
        };
        let ports = former.ports;
        let takes_over = former.control.is_some();
        let mut control = former.control.unwrap_or_default();

        let admin = Admin::bind_from(&ports, config.admin.listen.0)?;
        let admin_addr = admin.local_addr().unwrap_or(config.admin.listen.0);

        let mut metrics = MetricsRegistry::default();
        let calls = CallPorts::open(
            &listen::Site {
                config,
                plugins,
                admin: admin_addr,
                data_dir: &data_dir.path,
                is_optional: &is_optional,
                ports: &ports,
                takes_over,
            },
            &DiscoveryMetrics::new(&mut metrics),
            &closing.control,
        )?;
        notes.extend(calls.notes);
        let (config, catalog) = (&calls.config, calls.catalog);

        let readiness = Readiness::new(stop.token().clone());
        let mut registries = Vec::new();
        let (mut houses, mut all_words) = (Vec::new(), Vec::new());
        for entry in config.all_registries() {
            let mut former = control.take(&entry.name, &entry.registry.to_string());
            let mut opened = registries::open(&entry, &data_dir.path, &closing.adapters, &mut former)?;
            let desk = Desk::open(
                &catalog,
                &entry.name,
                &entry.registry.to_string(),
                Arc::clone(&opened.adapter),
            );
            desk.inherit(former.published);
            let has_lists = catalog.view().lists.iter().any(|list| list.registry == entry.name);
            readiness.watch_registry(&entry.name, opened.adapter.state(), has_lists);
            let site = doors::Site {
                registry: entry.name.clone(),
                scheme: entry.registry.scheme().to_owned(),
                data_dir: data_dir.path.clone(),
                ports: ports.scoped(&entry.name),
                egress_ports: doors::egress_ports(config),
                access: config.access.clone(),
                optional: checked.optional.clone(),
                backend: opened.backend.take(),
                sofaregistry: opened.sofaregistry.clone(),
            };
            let house = House::open(
                site,
                &entry.facades,
                (&catalog, &desk),
                stop,
                &closing.doors,
                &mut notes,
            )?;
            opened.doors = house.open.clone();
            houses.push(house);
            let mut words = Words::new(&entry.name, desk);
            words.say(&config.publish, &config.follow);
            all_words.push(words);
            registries.push(opened);
        }

        let call_metrics = CallMetrics::new(&mut metrics);
        let call = CallPath::start(call::Setup {
            protocols: plugins.protocols().to_vec(),
            routes: Arc::clone(catalog.routes()),
            egress: calls.egress,
            ingress: calls.ingress,
            config: config.call.clone(),
            workers: config.workers,
            metrics: call_metrics.clone(),
            drain_deadline: config.lifecycle.drain_timeout.0,
            drain: closing.calls.clone(),
            is_held: true,
        })?;
        let call: SharedCall = Arc::new(Mutex::new(Some(call)));

        ports.close_unused();
        let requests = match Requests::listen(&data_dir.path) {
            Ok(requests) => Some(requests),
            Err(error) => {
                warn!(%error, "no upgrade can be asked for");
                None
            }
        };
        let lifecycle = Arc::new(ArcSwap::from_pointee(config.lifecycle.clone()));
        let facade_banners = houses.iter().flat_map(House::banner).collect();
        let reloader = Arc::new(Reloader {
            loaded: loaded.clone(),
            served,
            catalog: Arc::clone(&catalog),
            call: Arc::clone(&call),
            lifecycle: Arc::clone(&lifecycle),
            readiness: readiness.clone(),
            stop: stop.clone(),
            outside: Default::default(),
            parts: Mutex::new(Parts {
                is_over: false,
                houses,
                words: all_words,
            }),
            state: StdMutex::new(State::new(checked.config.clone(), config.clone())),
        });
        let leave = Arc::new(Leave {
            catalog: Arc::clone(&catalog),
            call: Arc::clone(&call),
            readiness: readiness.clone(),
            config: lifecycle,
            told: Mutex::default(),
            outcome: Default::default(),
        });
        figures::register(&mut metrics, &readiness, &registries, Arc::clone(&reloader));
        let banner = Banner {
            registries: registries.iter().map(|r| (r.name.clone(), r.url.clone())).collect(),
            facades: facade_banners,
            protocols: listen::banner(&calls.protocols, &catalog),
            data_dir: Some(data_dir),
            admin: admin_addr.to_string(),
            notes,
        };
        let open_doors = registries.iter().map(|registry| registry.doors.clone()).collect();
        let (of_config, of_reload, of_leave) = (Arc::clone(&reloader), Arc::clone(&reloader), Arc::clone(&leave));
        takeover::note(&readiness, &catalog);
        let takeover = Arc::new(Takeover {
            catalog: Arc::clone(&catalog),
            call: Arc::clone(&call),
            readiness: readiness.clone(),
        });
        let (of_view, of_drain) = (Arc::clone(&takeover), Arc::clone(&leave));
        let views = Arc::new(Views {
            readiness: readiness.clone(),
            metrics: figures::page(metrics),
            catalog: views::catalog(
                Arc::clone(&catalog),
                &registries,
                SystemTime::now(),
                Arc::clone(&reloader),
            ),
            services: views::services(Arc::clone(&catalog)),
            topology: topology::topology(Arc::clone(&call), Arc::clone(&catalog), SystemTime::now()),
            connections: views::connections(
                Arc::clone(&call),
                call_metrics,
                Arc::clone(&catalog),
                calls.protocols,
                open_doors,
            ),
            alive: views::alive(Arc::clone(&call)),
            config: Box::new(move || effective(&of_config.state().effective)),
            reload: Box::new(move || {
                let reloader = Arc::clone(&of_reload);
                Box::pin(async move { reloader.reload("admin").await })
            }),
            withdraw: Box::new(move || {
                let leave = Arc::clone(&of_leave);
                Box::pin(async move { leave.go().await })
            }),
            withdrawn: Box::new(move || {
                let leave = Arc::clone(&of_drain);
                Box::pin(async move { leave.outcome().await })
            }),
            takeover: Box::new(move || {
                let takeover = Arc::clone(&of_view);
                Box::pin(async move { takeover.view().await })
            }),
            roll_back: Box::new(move |is_rolled_back| takeover.roll_back(is_rolled_back)),
            stop: stop.clone(),
            upgrade: requests.as_ref().map(|requests| requests.path().to_owned()),
        });
        Ok(Self {
            banner: banner.text(),
            admin,
            admin_addr,
            views,
            readiness,
            catalog,
            call,
            registries,
            leave,
            reloader,
            stamp,
            stop: stop.clone(),
            closing,
            closing_guard,
            lock,
            ports,
            requests,
            binary: None,
            stand_in: StandIn::default(),
            former_calls: former.calls,
        })
    }

    /// Who is told of reloads, and what changes the log's levels then. To be called once, before [`run`](Self::run).
    pub fn attach(&self, notify: Notify, levels: LogLevels) {
        let levels = Some(levels);
        // A second call says the same.
        let _ = self.reloader.outside.set(Outside { notify, levels });
    }

    /// Gives the configuration as it is then: what was read, with what was taken over since.
    pub fn latest(&self) -> impl Fn() -> Loaded + use<> {
        let reloader = Arc::clone(&self.reloader);
        move || reloader.loaded.with(reloader.state().running.clone())
    }

    /// What reads the configuration again, for whoever catches SIGHUP.
    pub fn reload(&self) -> impl Fn() -> BoxFuture<'static, ()> + use<> {
        let reloader = Arc::clone(&self.reloader);
        move || {
            let reloader = Arc::clone(&reloader);
            Box::pin(async move { drop(reloader.reload("signal").await) })
        }
    }

    /// What an upgrade starts, and how whoever started this process learns of it. Without it, there are no upgrades.
    #[must_use]
    pub fn upgradable(mut self, binary: Binary, stand_in: StandIn) -> Self {
        self.binary = Some(binary);
        self.stand_in = stand_in;
        self
    }

    /// Goes on with the connections of a former call path: those of this process, or `parts` of another one. Gives how many.
    /// Nothing is read or written before [`run`](Self::run).
    ///
    /// # Errors
    /// What was handed over cannot be read; nothing is taken then.
    pub async fn adopt(&mut self, parts: Option<Vec<Part>>) -> Result<usize, HandoverError> {
        let former = std::mem::take(&mut self.former_calls);
        let frozen = parts.map_or(former, FormerCalls::Stopped).stop().await?;
        match &*self.call.lock().await {
            Some(call) => Ok(call.adopt(frozen).await),
            None => Ok(0),
        }
    }

    /// Accepts, reads and writes on the call path from now on; [`run`](Self::run) does so anyway.
    pub async fn begin(&self) {
        if let Some(call) = &*self.call.lock().await {
            call.begin();
        }
    }

    /// Returns when the process is gone that stands in for this one, if there is such.
    pub fn orphaned(&self) -> impl Future<Output = ()> + use<> {
        let gone = match &self.stand_in {
            StandIn::Supervised(supervisor) => Some(supervisor.gone()),
            StandIn::Told | StandIn::Stays => None,
        };
        async move {
            match gone {
                Some(gone) => gone.await,
                None => std::future::pending().await,
            }
        }
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
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("admin", &self.admin_addr)
            .finish_non_exhaustive()
    }
}

/// Tells of a door or protocol that nobody named and that cannot be had.
fn left_out(key: &str, error: &dyn std::fmt::Display) -> Note {
    warn!(key, %error, "left out: its port cannot be had, and the configuration does not name it");
    Note {
        key: key.to_owned(),
        text: format!("left out: {error}; name it in the configuration to insist, or to say another port"),
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
