// SPDX-License-Identifier: Apache-2.0
//! `remora run`: until a signal, a drain over the admin port, or until another process took over.

use std::sync::Arc;

use anyhow::Context;
use tracing::{info, warn};

use super::supervisor;
use crate::app::{Control, Ended, Former, HandedOver, StandIn, Then, parts};
use crate::config::{self, Loaded, Overrides};
use crate::lifecycle::upgrade::{Answer, Binary, Offer, Predecessor, Request, become_supervisor, end_child};
use crate::lifecycle::{Hangups, LogLevels, Notify, Stop, StopKind, StopSignals};
use crate::{App, Plugins};

/// Runs the proxy; returns after its drain. A second signal ends the process at once, with exit code 1.
pub(super) async fn run(overrides: Overrides, plugins: &Plugins, takes_over: bool) -> anyhow::Result<()> {
    let mut signals = StopSignals::catch()?;
    let mut hangups = Hangups::catch()?;
    let notify = Notify::from_environment(|name| std::env::var(name).ok());
    let stop = Stop::new();
    let (levels, mut app) = match takes_over {
        true => take_over(&overrides, plugins, &stop, &notify).await?,
        false => {
            let loaded = load(&overrides)?;
            let levels = loaded.config.log.start()?;
            let app = App::build(&loaded, plugins, &stop)?;
            super::print(app.banner())?;
            let stand_in = match notify.is_heard() {
                true => StandIn::Told,
                false => StandIn::Stays,
            };
            (levels, app.upgradable(binary()?, stand_in))
        }
    };
    let mut told: Option<(Request, Answer)> = None;
    loop {
        if let Some((request, answer)) = told.take() {
            request.answer(&answer).await;
        }
        app.attach(notify.clone(), levels.clone());
        // As it is when it is needed: reloads may come before.
        let latest = app.latest();
        match serve(app, &stop, &notify, &mut signals, &mut hangups).await {
            Ended::Stopped => return Ok(()),
            Ended::HandedOver(handed_over) => return retire(handed_over, &stop, &notify),
            Ended::TookBack(took_back) => {
                let again = App::build_from(&latest(), plugins, &stop, took_back.former);
                let mut again = again.context("could not serve again after an upgrade that failed")?;
                again.adopt(None).await.context("connections are lost")?;
                app = again.upgradable(binary()?, took_back.stand_in);
                told = Some(took_back.told);
            }
        }
    }
}

fn load(overrides: &Overrides) -> anyhow::Result<Loaded> {
    Ok(config::load(overrides, |name| std::env::var(name).ok())?)
}

fn binary() -> anyhow::Result<Binary> {
    Binary::own().context("this program's own path is not known")
}

/// Serves until it ends one way or another.
async fn serve(app: App, stop: &Stop, notify: &Notify, signals: &mut StopSignals, hangups: &mut Hangups) -> Ended {
    let reload = app.reload();
    let reloading = async {
        loop {
            hangups.next().await;
            reload().await;
        }
    };
    // Both end with this function.
    let telling = supervisor::tell(notify.clone(), Arc::clone(app.views()));
    let orphaned = app.orphaned();
    let running = app.run();
    tokio::pin!(running, telling, reloading);
    tokio::select! {
        ended = &mut running => return ended,
        () = &mut telling => {}
        () = &mut reloading => {}
        () = stop.token().cancelled() => {}
        () = orphaned => warn!("the process that stood in for this one is gone, stopping"),
        signal = signals.next() => info!(signal, "stopping; a second signal ends the process at once"),
    }
    notify.stopping();
    stop.ask(StopKind::Restart);
    tokio::select! {
        ended = &mut running => ended,
        () = &mut telling => Ended::Stopped,
        signal = signals.next() => {
            warn!(signal, "ended at once, calls in flight are lost");
            std::process::exit(1);
        }
    }
}

/// Another process serves: this one ends, or stands in for it.
fn retire(handed_over: HandedOver, stop: &Stop, notify: &Notify) -> anyhow::Result<()> {
    if stop.is_asked() {
        // Asked of us while we handed over.
        end_child(handed_over.pid)?;
    }
    match handed_over.then {
        Then::End => {
            notify.main_pid(handed_over.pid);
            Ok(())
        }
        Then::StandIn(socket) => Err(become_supervisor(socket, handed_over.pid))
            .context("the new process serves, but this one could not go on standing in for it"),
    }
}

/// Begins in the place of the process that started us. Everything is taken over when this returns, nothing is served yet.
async fn take_over(
    overrides: &Overrides,
    plugins: &Plugins,
    stop: &Stop,
    notify: &Notify,
) -> anyhow::Result<(LogLevels, App)> {
    let (mut predecessor, offer) =
        Predecessor::meet().context("--take-over is for `remora upgrade`; nobody hands over on standard input")?;
    let loaded = match checked(overrides, plugins) {
        Ok(loaded) => loaded,
        Err(error) => return Err(refuse(predecessor, error)),
    };
    let levels = loaded.config.log.start()?;
    info!(
        from = predecessor.version(),
        to = env!("CARGO_PKG_VERSION"),
        "taking over"
    );
    let control: Control = predecessor.prepared()?.read()?;
    let mut app = match build(&loaded, plugins, stop, offer, control) {
        Ok(app) => app,
        Err(error) => return Err(refuse(predecessor, error)),
    };
    let connections = parts(predecessor.ready()?);
    let adopted = match app.adopt(Some(connections)).await {
        Ok(adopted) => adopted,
        Err(error) => return Err(refuse(predecessor, error.into())),
    };
    let stand_in = match predecessor.taken(adopted)? {
        Some(supervisor) => StandIn::Supervised(supervisor),
        None if notify.is_heard() => StandIn::Told,
        None => StandIn::Stays,
    };
    let app = app.upgradable(binary()?, stand_in);
    app.begin().await;
    if let Err(error) = predecessor.serving() {
        warn!(%error, "the former process is gone");
    }
    Ok((levels, app))
}

/// What can be wrong with a configuration is found before anything changes.
fn checked(overrides: &Overrides, plugins: &Plugins) -> anyhow::Result<Loaded> {
    let loaded = load(overrides)?;
    match config::check(&loaded, &plugins.served()) {
        Ok(_) => Ok(loaded),
        Err(errors) => Err(crate::app::AppError::Config(errors).into()),
    }
}

fn build(loaded: &Loaded, plugins: &Plugins, stop: &Stop, offer: Offer, control: Control) -> anyhow::Result<App> {
    let former = Former {
        ports: offer.ports,
        lock: offer.lock,
        control: Some(control),
        ..Former::default()
    };
    Ok(App::build_from(loaded, plugins, stop, former)?)
}

fn refuse(predecessor: Predecessor, error: anyhow::Error) -> anyhow::Error {
    predecessor.refuse(format!("{error:#}"));
    error
}
