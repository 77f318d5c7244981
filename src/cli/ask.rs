// SPDX-License-Identifier: Apache-2.0
//! What the command line asks of a running proxy over its admin port, and waits for.

use std::time::Duration;

use anyhow::bail;
use hyper::Method;
use tokio::time::{Instant, sleep};

use crate::admin::{CatalogView, Client, ClientError, ConnectionsView, LeftView, ReloadOutcome, ReloadView};
use crate::config::Span;
use crate::lifecycle::ReadinessReport;
use crate::views::counted;

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
            bail!("not ready {}: {why}", within(timeout));
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
            bail!("not gone {}: {}", within(timeout), here.unwrap_or_default());
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

/// Drains it and waits for its end. What takes its time is told on standard error.
pub(super) async fn stop(client: Client, timeout: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    let client = client.until(deadline);
    let mut drain = std::pin::pin!(client.ask(Method::POST, "/drain?wait"));
    let drained = tokio::select! {
        drained = &mut drain => drained,
        () = sleep(SILENCE) => {
            super::complain("waiting for the registries to take out what leads here");
            drain.await
        }
    };
    let left: Option<LeftView> = match drained {
        Ok(answer) if !answer.is_remoras() => return Err(client.unwanted("/drain", &answer).into()),
        Ok(answer) => client.read("/drain", &answer).ok(),
        // It was asked before, and is about to go.
        Err(ClientError::Closed { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let number = left.as_ref().map_or(0, |left| left.left);
    if number > 0 {
        super::complain(&format!(
            "warning: {} here, their registry is away or did not answer; they end with its session",
            counted(number, "entry still leads", "entries still lead")
        ));
    }
    let quiet_until = Instant::now() + SILENCE;
    let mut was_told = false;
    loop {
        let why = match client.ask(Method::GET, "/readyz").await {
            Err(ClientError::Unreachable { .. }) => break,
            Err(error @ ClientError::Silent { .. }) => error.to_string(),
            _ => "it serves on until consumers have heard that it goes, or calls in flight have not ended (remora status)"
                .to_owned(),
        };
        if Instant::now() + LOOK_EVERY > deadline {
            bail!("still there{}, and ending by itself: {why}", after(timeout));
        }
        if Instant::now() >= quiet_until && !std::mem::replace(&mut was_told, true) {
            super::complain("waiting until consumers have heard that it goes and calls in flight have ended");
        }
        sleep(LOOK_EVERY).await;
    }
    let withdrawn = left.filter(|left| left.withdrawn > 0).map(|left| left.withdrawn);
    let withdrawn = withdrawn.map(|number| format!(", {} withdrawn", counted(number, "entry", "entries")));
    super::print(&format!("stopped{}\n", withdrawn.unwrap_or_default()))?;
    Ok(())
}

/// Takes it out of the registries and waits for the calls in flight.
pub(super) async fn withdraw(client: Client, timeout: Duration) -> anyhow::Result<LeftView> {
    let client = client.until(Instant::now() + timeout);
    // Whoever says nothing at all is told apart from one that is at work.
    client.ask(Method::GET, "/readyz").await?;
    match client.post(timeout, "/withdraw").await {
        Err(ClientError::Silent { .. }) => bail!(
            "not over {}; Remora goes on with it: remora status shows what still leads here, and asking again waits for the rest",
            within(timeout)
        ),
        left => Ok(left?),
    }
}

/// Has it read its configuration again; fails if that was refused.
pub(super) async fn reload(client: Client, timeout: Duration) -> anyhow::Result<()> {
    let client = client.until(Instant::now() + timeout);
    // Whoever says nothing at all is told apart from one that is at work.
    client.ask(Method::GET, "/readyz").await?;
    let done: ReloadView = match client.post(timeout, "/reload").await {
        Err(ClientError::Silent { .. }) => bail!(
            "not over {}; Remora goes on with it: remora status shows how it went",
            within(timeout)
        ),
        done => done?,
    };
    if done.outcome == ReloadOutcome::Refused {
        bail!(
            "the configuration was refused, nothing changes:\n  {}",
            done.problems.join("\n  ")
        );
    }
    let mut text = String::new();
    if done.outcome == ReloadOutcome::Unchanged {
        text.push_str(match done.restart.is_empty() {
            true => "the configuration has not changed\n",
            false => "nothing has changed that is taken over while Remora runs\n",
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

/// A limit in words.
pub(super) fn within(limit: Duration) -> String {
    match limit.is_zero() {
        true => "yet".to_owned(),
        false => format!("within {}", Span(limit)),
    }
}

fn after(limit: Duration) -> String {
    match limit.is_zero() {
        true => String::new(),
        false => format!(" after {}", Span(limit)),
    }
}

/// What takes longer is told of.
const SILENCE: Duration = Duration::from_secs(1);
const GONE_EVERY: Duration = Duration::from_millis(250);
