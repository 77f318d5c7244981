// SPDX-License-Identifier: Apache-2.0
//! `remora upgrade`: has the running proxy hand over to a new process.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::admin::{Client, ClientError, UpgradeView};
use crate::lifecycle::upgrade::{Answer, ask};

/// Returns when the new process serves.
pub(super) async fn upgrade(client: Client, binary: Option<PathBuf>) -> anyhow::Result<()> {
    let binary = binary.as_deref().map(program).transpose()?;
    let view: UpgradeView = match client.json("/upgrade").await {
        Err(error @ (ClientError::Strange { .. } | ClientError::Refused { .. })) => {
            return Err(error).context("it may be too old for upgrades; stop and start it instead");
        }
        view => view.context("nothing to upgrade")?,
    };
    let Some(socket) = view.socket else {
        bail!("process {} takes no upgrades, its log says why", view.pid);
    };
    match ask(&socket, binary).await? {
        Answer::Done {
            pid,
            version,
            connections,
            pause_ms,
            took_ms,
        } => Ok(super::print(&format!(
            "process {pid} (remora {version}) serves in the place of {}; {connections} connections handed over in {pause_ms} ms, {took_ms} ms in all\n",
            view.pid
        ))?),
        Answer::Failed { why, .. } => bail!("{why}; process {} serves on", view.pid),
    }
}

/// The running proxy has another working directory.
fn program(path: &Path) -> anyhow::Result<PathBuf> {
    std::fs::canonicalize(path).with_context(|| format!("--binary {}", path.display()))
}
