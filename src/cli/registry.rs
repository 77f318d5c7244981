// SPDX-License-Identifier: Apache-2.0
//! `remora registry`: the embedded registry alone, for several Remoras, or for anything that speaks ZooKeeper.

use std::path::PathBuf;

use anyhow::{Context, bail};
use remora_zookeeper::embedded::{Options, Server};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Address, Overrides};
use crate::lifecycle::StopSignals;

/// Serves until a signal comes.
pub(super) async fn serve(listen: Address, data_dir: Option<PathBuf>) -> anyhow::Result<()> {
    let overrides = Overrides {
        data_dir,
        ..Overrides::default()
    };
    let loaded = config::load(&overrides, |name| std::env::var(name).ok())?;
    loaded.config.log.start()?;
    let dir = match config::data_dir(loaded.config.data_dir.as_deref()) {
        Ok(dir) => dir,
        Err((path, cause)) => bail!(
            "data directory {} cannot be written: {cause}; set --data-dir",
            path.display()
        ),
    };
    let mut signals = StopSignals::catch()?;
    let listener = TcpListener::bind(listen.0)
        .await
        .with_context(|| format!("cannot listen on {listen} (--listen)"))?;
    let folder = dir.path.join("registry");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let server = Server::open(&folder, Options::default())?;
    let addr = listener.local_addr()?;
    super::print(&format!(
        "remora {} registry\n  listens on   {addr}: registry zookeeper://{addr}\n  data         {} ({})\n",
        env!("CARGO_PKG_VERSION"),
        folder.display(),
        dir.why
    ))?;
    let stop = CancellationToken::new();
    {
        let serving = std::pin::pin!(server.serve(listener, stop.clone()));
        let stopping = async {
            let signal = signals.next().await;
            tracing::info!(signal, "stopping");
            stop.cancel();
            signals.next().await
        };
        tokio::select! {
            () = serving => {}
            _ = stopping => bail!("ended at once by a second signal"),
        }
    }
    server.close().await;
    Ok(())
}
