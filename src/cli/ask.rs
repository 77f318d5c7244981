// SPDX-License-Identifier: Apache-2.0
//! What the command line asks of a running proxy over its admin port, and waits for.

use std::time::Duration;

use anyhow::bail;
use hyper::Method;
use tokio::time::{Instant, sleep};

use crate::admin::{CatalogView, Client, ClientError, ConnectionsView, LeftView, ReloadOutcome, ReloadView};
use crate::config::Span;
use crate::lifecycle::ReadinessReport;

/// Between two looks at a process that is starting or stopping.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until it is ready.
pub(super) async fn wait(client: Client, timeout: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    let client = client.until(deadline);
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
    let client = client.until(deadline);
    let mut was_alone = false;
    loop {
        let here = match applications(client).await {
            // Nobody is behind a Remora that is not there.
            Err(ClientError::Unreachable { .. }) => return Ok(()),
            Err(error @ (ClientError::Silent { .. } | ClientError::Closed { .. })) => Some(error.to_string()),
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
    let client = client.until(deadline);
    match client.ask(Method::POST, "/drain").await {
        Ok(answer) if !answer.is_remoras() => return Err(client.unwanted("/drain", &answer).into()),
        // It was asked before, and is about to go.
        Ok(_) | Err(ClientError::Closed { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    loop {
        let why = match client.ask(Method::GET, "/readyz").await {
            Err(ClientError::Unreachable { .. }) => return Ok(()),
            Err(error @ ClientError::Silent { .. }) => error.to_string(),
            _ => "it takes its entries out of the registries, or calls in flight have not ended (remora status)"
                .to_owned(),
        };
        if Instant::now() + LOOK_EVERY > deadline {
            bail!("still there after {}, and ending by itself: {why}", Span(timeout));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Takes it out of the registries and waits for the calls in flight.
pub(super) async fn withdraw(client: Client, timeout: Duration) -> anyhow::Result<LeftView> {
    let client = client.until(Instant::now() + timeout);
    // Whoever says nothing at all is told apart from one that is at work.
    client.ask(Method::GET, "/readyz").await?;
    match client.post(timeout, "/withdraw").await {
        Err(ClientError::Silent { .. }) => bail!(
            "not over within {}; Remora goes on with it: remora status shows what still leads here, and asking again waits for \
             the rest",
            Span(timeout)
        ),
        left => Ok(left?),
    }
}

/// Has it read its configuration again; fails if that was refused.
pub(super) async fn reload(client: Client) -> anyhow::Result<()> {
    let done: ReloadView = client.post(RELOAD_TIMEOUT, "/reload").await?;
    if done.outcome == ReloadOutcome::Refused {
        bail!(
            "the configuration was refused, nothing changes:\n  {}",
            done.problems.join("\n  ")
        );
    }
    let mut text = String::new();
    if done.outcome == ReloadOutcome::Unchanged {
        text.push_str(match done.restart.is_empty() {
            true => "nothing to take over\n",
            false => "nothing that can be taken over while it runs has changed\n",
        });
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

/// Doors that have to close take up to 5 s each.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);
const GONE_EVERY: Duration = Duration::from_millis(250);
