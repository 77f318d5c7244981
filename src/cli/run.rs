// SPDX-License-Identifier: Apache-2.0
//! `remora run`: until a signal or a drain over the admin port.

use std::sync::Arc;

use tracing::{info, warn};

use super::supervisor;
use crate::config::{self, Overrides};
use crate::lifecycle::{Notify, Stop, StopKind, StopSignals};
use crate::{App, Plugins};

/// Runs the proxy; returns after its drain. A second signal ends the process at once, with exit code 1.
pub(super) async fn run(overrides: Overrides, plugins: &Plugins) -> anyhow::Result<()> {
    let loaded = config::load(&overrides, |name| std::env::var(name).ok())?;
    loaded.config.log.start()?;
    let mut signals = StopSignals::catch()?;
    let notify = Notify::from_environment(|name| std::env::var(name).ok());
    let stop = Stop::new();
    let app = App::build(&loaded, plugins, &stop)?;
    super::print(app.banner())?;
    // Ends with this function.
    let telling = supervisor::tell(notify.clone(), Arc::clone(app.views()));
    let running = app.run();
    tokio::pin!(running, telling);
    tokio::select! {
        () = &mut running => return Ok(()),
        () = &mut telling => {}
        () = stop.token().cancelled() => {}
        signal = signals.next() => info!(signal, "stopping; a second signal ends the process at once"),
    }
    notify.stopping();
    stop.ask(StopKind::Restart);
    tokio::select! {
        () = &mut running => Ok(()),
        () = &mut telling => Ok(()),
        signal = signals.next() => {
            warn!(signal, "ended at once, calls in flight are lost");
            std::process::exit(1);
        }
    }
}
