// SPDX-License-Identifier: Apache-2.0
//! `remora exec -- CMD`: the proxy and an application as two children, in the right order.
//!
//! Start: the proxy; the application once the proxy is ready. Stop: all that leads here is withdrawn and the calls in flight
//! come to their end while both still run; then the application gets the signal, and withdraws and calls through the proxy
//! until it has gone; then the proxy. A proxy that dies is started again, as a supervisor would. Works as process 1: orphans
//! are reaped, signals forwarded, and the application's exit status is passed on.

use std::ffi::OsString;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, set_child_subreaper, wait};
use tokio::signal::unix::{Signal as Caught, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{error, info, warn};

use super::ask;
use crate::admin::Client;
use crate::config::{self, Overrides};
use crate::lifecycle::{Notify, ReadinessReport};

/// What is run.
pub(super) struct Task {
    /// Arguments of `remora run`.
    pub(super) run: Vec<OsString>,
    pub(super) overrides: Overrides,
    /// The application and its arguments.
    pub(super) command: Vec<OsString>,
    /// How long the proxy may take to be ready.
    pub(super) ready_timeout: Duration,
}

/// Runs both; gives the application's exit status.
pub(super) async fn exec(task: Task) -> anyhow::Result<ExitCode> {
    let loaded = config::load(&task.overrides, |name| std::env::var(name).ok())?;
    // The levels stay as they are: the proxy has a log of its own.
    let _levels = loaded.config.log.start()?;
    let mut signals = Signals::catch()?;
    // Orphans come to us also where we are not process 1. A kernel that refuses leaves them to process 1.
    let _ = set_child_subreaper(Some(rustix::process::getpid()));
    let lifecycle = &loaded.config.lifecycle;
    let mut house = House {
        notify: Notify::from_environment(|name| std::env::var(name).ok()),
        client: Client::new(loaded.config.admin.listen.0),
        leave_timeout: lifecycle.drain_timeout.0 + lifecycle.withdraw_pause.0 + MARGIN,
        proxy: Proxy {
            arguments: task.run,
            pid: None,
            pause: Duration::ZERO,
            since: Instant::now(),
            again: None,
        },
        app: None,
        ended: None,
    };
    house.proxy.start()?;
    house.wait_ready(&mut signals, task.ready_timeout).await?;
    let (program, arguments) = task.command.split_first().context("no command behind --")?;
    let mut application = Command::new(program);
    application.args(arguments);
    // The supervisor's variables are ours.
    for name in Notify::VARIABLES {
        application.env_remove(name);
    }
    let app = application
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()));
    let app = match app {
        Ok(app) => app,
        Err(error) => {
            house.end_proxy(&mut signals).await;
            return Err(error);
        }
    };
    house.app = pid_of(&app);
    info!(pid = app.id(), "application started");
    house.notify.ready();
    let status = house.keep(&mut signals).await;
    house.end_proxy(&mut signals).await;
    Ok(status)
}

struct House {
    notify: Notify,
    client: Client,
    leave_timeout: Duration,
    proxy: Proxy,
    app: Option<Pid>,
    /// How the application ended.
    ended: Option<u8>,
}

struct Proxy {
    arguments: Vec<OsString>,
    pid: Option<Pid>,
    /// Before the next start.
    pause: Duration,
    since: Instant,
    again: Option<Instant>,
}

impl Proxy {
    fn start(&mut self) -> anyhow::Result<()> {
        let own = std::env::current_exe().context("the program's own file")?;
        let mut command = Command::new(own);
        command.arg("run").args(&self.arguments);
        for name in Notify::VARIABLES {
            command.env_remove(name);
        }
        let child = command.spawn().context("cannot start the proxy")?;
        self.pid = pid_of(&child);
        self.since = Instant::now();
        self.again = None;
        Ok(())
    }

    /// It died although nobody asked it to.
    fn died(&mut self, code: u8) {
        self.pid = None;
        if self.since.elapsed() > LIVED {
            self.pause = Duration::ZERO;
        }
        self.again = Some(Instant::now() + self.pause);
        error!(code, pause = ?self.pause, "the proxy ended, it is started again");
        // The first time at once: applications resume their sessions.
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
    }
}

impl House {
    async fn wait_ready(&mut self, signals: &mut Signals, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        let mut why = String::new();
        loop {
            match self.client.json::<ReadinessReport>("/readyz").await {
                Ok(report) if report.ready => return Ok(()),
                Ok(report) => why = report.reasons.join("; "),
                Err(error) if why.is_empty() => why = error.to_string(),
                Err(_) => {}
            }
            let asked = tokio::select! {
                caught = signals.next() => Some(caught),
                () = sleep(ask::LOOK_EVERY) => None,
            };
            self.reap();
            let Some(_) = self.proxy.pid else {
                anyhow::bail!("the proxy ended before it was ready; its reason stands above");
            };
            let is_end = asked.is_some_and(|caught| caught == Signal::TERM || caught == Signal::INT);
            if is_end || Instant::now() > deadline {
                self.end_proxy(signals).await;
                anyhow::bail!("the application is not started, the proxy is not ready: {why}");
            }
        }
    }

    /// Until the application has ended.
    async fn keep(&mut self, signals: &mut Signals) -> ExitCode {
        loop {
            if let Some(code) = self.ended {
                return ExitCode::from(code);
            }
            let again = self.proxy.again;
            tokio::select! {
                caught = signals.next() => match caught {
                    Signal::CHILD => self.reap(),
                    Signal::TERM | Signal::INT => {
                        self.notify.stopping();
                        self.leave(signals).await;
                        self.tell_app(caught);
                    }
                    other => self.tell_app(other),
                },
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    if let Err(error) = self.proxy.start() {
                        error!("{error:#}");
                        self.proxy.died(1);
                    }
                }
            }
        }
    }

    /// Out of the registries, while everything runs. A second signal cuts it short.
    async fn leave(&mut self, signals: &mut Signals) {
        info!("stopping: first out of the registries");
        let client = self.client;
        let limit = self.leave_timeout;
        let leaving = ask::withdraw(client, limit);
        tokio::pin!(leaving);
        loop {
            tokio::select! {
                left = &mut leaving => return match left {
                    Ok(left) => info!(withdrawn = left.withdrawn, in_flight = left.in_flight, "nothing leads here any more"),
                    Err(error) => warn!("not withdrawn before the application's end: {error:#}"),
                },
                caught = signals.next() => match caught {
                    Signal::CHILD => {
                        self.reap();
                        if self.ended.is_some() {
                            return;
                        }
                    }
                    Signal::TERM | Signal::INT => return warn!("asked again, the application is ended at once"),
                    other => self.tell_app(other),
                },
            }
        }
    }

    /// Ends the proxy, which has nothing to serve any more.
    async fn end_proxy(&mut self, signals: &mut Signals) {
        self.proxy.again = None;
        if self.proxy.pid.is_none() {
            return;
        }
        // An application that crashed has left entries behind.
        if let Err(error) = self.client.ask(hyper::Method::POST, "/drain").await {
            warn!(%error, "the proxy does not answer");
            self.tell_proxy(Signal::TERM);
        }
        let limit = self.leave_timeout;
        let ended = async {
            while self.proxy.pid.is_some() {
                match signals.next().await {
                    Signal::TERM | Signal::INT => self.tell_proxy(Signal::TERM),
                    _ => {}
                }
                self.reap_all(false);
            }
        };
        if timeout(limit, ended).await.is_err() {
            warn!("the proxy does not end, it is killed");
            self.tell_proxy(Signal::KILL);
        }
    }

    fn reap(&mut self) {
        self.reap_all(true);
    }

    /// Takes every child that has ended, ours and orphans.
    fn reap_all(&mut self, is_proxy_needed: bool) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let code = code_of(status);
            if Some(pid) == self.app {
                info!(code, "application ended");
                self.app = None;
                self.ended = Some(code);
            } else if Some(pid) == self.proxy.pid {
                match is_proxy_needed && self.app.is_some() {
                    true => self.proxy.died(code),
                    false => self.proxy.pid = None,
                }
            }
        }
    }

    fn tell_app(&self, what: Signal) {
        tell(self.app, what);
    }

    fn tell_proxy(&self, what: Signal) {
        tell(self.proxy.pid, what);
    }
}

fn tell(whom: Option<Pid>, what: Signal) {
    if let Some(pid) = whom
        && let Err(error) = kill_process(pid, what)
    {
        warn!(%error, "a signal was not passed on");
    }
}

/// A child that we wait for ourselves, among all others.
fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// As a shell says it: 128 and the signal for a process that was killed.
fn code_of(status: WaitStatus) -> u8 {
    let signalled = status.terminating_signal().map(|signal| signal.saturating_add(128));
    let code = status.exit_status().or(signalled).unwrap_or(1);
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Every signal that is for the application, and those of children.
struct Signals {
    caught: Vec<(Signal, Caught)>,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        let caught = [
            Signal::TERM,
            Signal::INT,
            Signal::HUP,
            Signal::QUIT,
            Signal::USR1,
            Signal::USR2,
            Signal::WINCH,
            Signal::CHILD,
        ]
        .into_iter()
        .map(|which| Ok((which, signal(SignalKind::from_raw(which.as_raw()))?)));
        Ok(Self {
            caught: caught.collect::<std::io::Result<_>>()?,
        })
    }

    /// The next one. Cancel safe: what was not taken is there the next time.
    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (which, caught) in &mut self.caught {
                if caught.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*which);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// For what the withdrawal itself takes.
const MARGIN: Duration = Duration::from_secs(5);
/// One that dies after this long does not die of its start.
const LIVED: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
