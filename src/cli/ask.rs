// SPDX-License-Identifier: Apache-2.0
//! What the command line asks of a running proxy over its admin port, and waits for.

use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use crate::admin::{CatalogView, Client, ClientError, ConnectionsView, LeftView, ReloadOutcome, ReloadView};
use crate::config::Span;
use crate::lifecycle::ReadinessReport;

/// Between two looks at a process that is starting or stopping.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until it is ready.
pub(super) async fn wait(client: Client, timeout: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        let why = match client.json::<ReadinessReport>("/readyz").await {
            Ok(report) if report.ready => return Ok(()),
            Ok(report) => report.reasons.join("; "),
            Err(error) => error.to_string(),
        };
        if Instant::now() + LOOK_EVERY > deadline {
            bail!("not ready within {}: {why}", Span(timeout));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until no application is here any more. One look may fall into the moment in which a client reconnects; two in a row
/// do not.
pub(super) async fn wait_gone(client: Client, timeout: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    let mut was_alone = false;
    loop {
        let here = match applications(client).await {
            // Nobody is behind a Remora that is not there.
            Err(ClientError::Unreachable { .. }) => return Ok(()),
            here => here?,
        };
        if here.is_none() && was_alone {
            return Ok(());
        }
        was_alone = here.is_none();
        if Instant::now() + GONE_EVERY > deadline {
            bail!("not gone within {}: {}", Span(timeout), here.unwrap_or_default());
        }
        sleep(GONE_EVERY).await;
    }
}

/// Who is still here, in words.
async fn applications(client: Client) -> Result<Option<String>, ClientError> {
    let connections: ConnectionsView = client.json("/connections").await?;
    let catalog: CatalogView = client.json("/catalog").await?;
    let is_ours = |side: &str, direction: &str| side == "egress" && direction == "downstream";
    let calling = connections
        .connections
        .iter()
        .filter(|c| is_ours(&c.side, &c.direction))
        .count();
    // Applications of the HTTP doors hold no connection; the doors look at their ports.
    let probed = catalog
        .leases
        .iter()
        .filter(|lease| lease.facade == "mesh" || lease.facade == "dubbod");
    let provided: usize = probed.map(|lease| lease.publishes.len()).sum();
    let doors = connections.facade_connections;
    let is_alone = calling == 0 && provided == 0 && doors == 0;
    let here = || format!("{doors} connections at doors, {calling} at the egress, {provided} providers of HTTP doors");
    Ok((!is_alone).then(here))
}

/// Drains it and waits for its end.
pub(super) async fn stop(client: Client, timeout: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    let (status, body) = client.ask(Method::POST, "/drain").await?;
    if !status.is_success() {
        bail!("drain refused: {status} {}", String::from_utf8_lossy(&body).trim());
    }
    while !matches!(
        client.ask(Method::GET, "/livez").await,
        Err(ClientError::Unreachable { .. })
    ) {
        if Instant::now() + LOOK_EVERY > deadline {
            bail!(
                "still there after {}; its calls in flight have not ended",
                Span(timeout)
            );
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Takes it out of the registries and waits for the calls in flight.
pub(super) async fn withdraw(client: Client, timeout: Duration) -> anyhow::Result<LeftView> {
    let (status, body) = client.ask_within(timeout, Method::POST, "/withdraw").await?;
    read(status, &body)
}

/// Has it read its configuration again; fails if that was refused.
pub(super) async fn reload(client: Client) -> anyhow::Result<()> {
    let (status, body) = client.ask_within(RELOAD_TIMEOUT, Method::POST, "/reload").await?;
    if status != StatusCode::UNPROCESSABLE_ENTITY && !status.is_success() {
        bail!("reload refused: {status} {}", String::from_utf8_lossy(&body).trim());
    }
    let done: ReloadView = serde_json::from_slice(&body).context("the answer cannot be read")?;
    if done.outcome == ReloadOutcome::Refused {
        bail!(
            "the configuration was refused, nothing changes:\n  {}",
            done.problems.join("\n  ")
        );
    }
    let mut text = String::new();
    if done.outcome == ReloadOutcome::Unchanged {
        text.push_str("nothing to take over\n");
    }
    for (what, keys) in [
        ("in use", &done.applied),
        ("needs a restart", &done.restart),
        ("problem", &done.problems),
    ] {
        text.extend(keys.iter().map(|key| format!("{what}: {key}\n")));
    }
    super::print(&text)?;
    Ok(())
}

fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> anyhow::Result<T> {
    if !status.is_success() {
        bail!("refused: {status} {}", String::from_utf8_lossy(body).trim());
    }
    serde_json::from_slice(body).context("the answer cannot be read")
}

/// Doors that have to close take up to 5 s each.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);
const GONE_EVERY: Duration = Duration::from_millis(250);
