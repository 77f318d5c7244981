// SPDX-License-Identifier: Apache-2.0
//! `remora run`: until a signal or a drain over the admin port.

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{self, Overrides};
use crate::lifecycle::StopSignals;
use crate::{App, Plugins};

/// Runs the proxy; returns after its drain. A second signal ends the process at once, with exit code 1.
pub(super) async fn run(overrides: Overrides, plugins: &Plugins) -> anyhow::Result<()> {
    let loaded = config::load(&overrides, |name| std::env::var(name).ok())?;
    loaded.config.log.start()?;
    let mut signals = StopSignals::catch()?;
    let drain = CancellationToken::new();
    let app = App::build(&loaded, plugins, drain.clone())?;
    super::print(app.banner())?;
    let running = app.run();
    tokio::pin!(running);
    tokio::select! {
        () = &mut running => return Ok(()),
        signal = signals.next() => info!(signal, "stopping; a second signal ends the process at once"),
    }
    drain.cancel();
    tokio::select! {
        () = &mut running => Ok(()),
        signal = signals.next() => {
            warn!(signal, "ended at once, calls in flight are lost");
            std::process::exit(1);
        }
    }
}
