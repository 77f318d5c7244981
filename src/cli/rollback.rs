// SPDX-License-Identifier: Apache-2.0
//! `remora rollback`: everything is given back to the applications, and taken over again with `--forward`.
//!
//! Exit codes: 0 done, and with `--wait` nobody calls through here any more (`--forward`: everything stands as decided);
//! 1 failed; 3 not within the time that `--wait` has.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep};

use super::page::Page;
use crate::admin::{Client, TakeoverView};
use crate::config::Span;

/// What is wanted.
pub(super) struct Wanted {
    pub(super) forward: bool,
    /// How long to wait; `None`: not at all.
    pub(super) wait: Option<Duration>,
    pub(super) json: bool,
}

pub(super) async fn rollback(client: Client, wanted: Wanted) -> anyhow::Result<ExitCode> {
    let path = if wanted.forward { "/forward" } else { "/rollback" };
    let deadline = Instant::now() + wanted.wait.unwrap_or(TIMEOUT);
    let client = client.until(deadline);
    let mut view: TakeoverView = client.post(TIMEOUT, path).await?;
    let mut is_done = true;
    if wanted.wait.is_some() {
        // A connection may come between two looks: twice in a row is done.
        let mut looks = 0;
        loop {
            looks = match is_over(&view, wanted.forward) {
                true => looks + 1,
                false => 0,
            };
            is_done = looks >= LOOKS;
            if is_done || Instant::now() + LOOK_EVERY > deadline {
                // No time for a second look.
                is_done |= looks > 0;
                break;
            }
            sleep(LOOK_EVERY).await;
            view = client.json("/takeover").await.with_context(|| told(wanted.forward))?;
        }
    }
    let text = match wanted.json {
        true => serde_json::to_string_pretty(&view)? + "\n",
        false => words(&view, &wanted, is_done),
    };
    super::print(&text)?;
    Ok(match is_done {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(NOT_IN_TIME),
    })
}

fn is_over(view: &TakeoverView, forward: bool) -> bool {
    match forward {
        true => view.rolled_back_since.is_none() && view.unsettled == 0,
        false => view.out_of_the_way,
    }
}

/// What was asked for, and holds from the moment that it was answered.
fn told(forward: bool) -> &'static str {
    match forward {
        true => "taken over again, as mode and takeover say",
        false => "rolled back: applications get their own addresses back",
    }
}

fn words(view: &TakeoverView, wanted: &Wanted, is_done: bool) -> String {
    let mut page = Page::default();
    let mut line = |words: String| page.line(words);
    line(told(wanted.forward).to_owned());
    for known in &view.decisions {
        line(format!("  {} {}: {}", known.side, known.decision, known.count));
    }
    for warning in view.warnings() {
        line(format!("  warning: {warning}"));
    }
    match (wanted.wait, wanted.forward) {
        (Some(limit), _) if !is_done => {
            line(format!("not over within {}:", Span(limit)));
            for what in &view.waits_for {
                line(format!("  {what}"));
            }
        }
        (Some(_), false) if view.may_be_removed => {
            line(
                "nobody calls through here, no application has its registry here: Remora may be taken away".to_owned(),
            );
        }
        (Some(_), false) => {
            line("nobody calls through here any more; before Remora may be taken away:".to_owned());
            for what in view.before_removal() {
                line(format!("  {what}"));
            }
        }
        (Some(_), true) => line(format!("{} publications lead here", view.leads_here)),
        (None, false) if view.may_be_removed => line("Remora may be taken away".to_owned()),
        (None, false) => {
            line("before Remora may be taken away:".to_owned());
            for what in view.before_removal() {
                line(format!("  {what}"));
            }
        }
        (None, true) => {}
    }
    page.text
}

/// The answer comes from memory.
const TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOKS: u32 = 3;
const NOT_IN_TIME: u8 = 3;
