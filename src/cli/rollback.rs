// SPDX-License-Identifier: Apache-2.0
//! `remora rollback`: everything is given back to the applications, and taken over again with `--forward`.
//!
//! Exit codes: 0 done, and with `--wait` nobody calls through here any more (`--forward`: everything stands as decided);
//! 1 failed; 3 not within the time that `--wait` has.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::ask::within;
use super::page::Page;
use crate::admin::{Client, TakeoverView};
use crate::views::counted;

/// What is wanted.
pub(super) struct Wanted {
    pub(super) forward: bool,
    pub(super) wait: bool,
    /// How long it may take.
    pub(super) timeout: Option<Duration>,
    pub(super) json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    /// `rollback` or `forward`.
    asked_for: &'static str,
    /// With `--wait`: whether it was over in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<bool>,
    /// As `/takeover`; `waits_for` is what that which was asked for waits for.
    #[serde(flatten)]
    view: &'a TakeoverView,
}

pub(super) async fn rollback(client: Client, wanted: Wanted) -> anyhow::Result<ExitCode> {
    let path = if wanted.forward { "/forward" } else { "/rollback" };
    let unsaid = if wanted.wait { WAIT } else { ANSWER };
    let limit = wanted.timeout.unwrap_or(unsaid);
    let deadline = Instant::now() + limit;
    let mut view: TakeoverView = client.post(limit.max(HEARD), path).await?;
    let client = client.until(deadline);
    let mut is_done = true;
    if wanted.wait {
        // A connection may come between two looks: several in a row is done.
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
    if wanted.forward {
        view.waits_for = std::mem::take(&mut view.forward_waits_for);
    }
    let text = match wanted.json {
        true => {
            let report = Report {
                asked_for: if wanted.forward { "forward" } else { "rollback" },
                done: wanted.wait.then_some(is_done),
                view: &view,
            };
            serde_json::to_string_pretty(&report)? + "\n"
        }
        false => words(&view, &wanted, limit, is_done),
    };
    super::print(&text)?;
    Ok(match is_done {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(NOT_IN_TIME),
    })
}

fn is_over(view: &TakeoverView, forward: bool) -> bool {
    match forward {
        // Of an older Remora, which gives no reasons.
        true => view.rolled_back_since.is_none() && view.unsettled == 0 && view.forward_waits_for.is_empty(),
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

fn words(view: &TakeoverView, wanted: &Wanted, limit: Duration, is_done: bool) -> String {
    let mut page = Page::default();
    let mut line = |words: String| page.line(words);
    line(told(wanted.forward).to_owned());
    for known in &view.decisions {
        line(format!("  {} {}: {}", known.side, known.decision, known.count));
    }
    if view.withdrawn {
        line(
            "  what is published here was withdrawn before (remora withdraw): only lists change; its applications are published \
             again when they start with the registry's own address"
                .to_owned(),
        );
    }
    for warning in view.warnings() {
        line(format!("  warning: {warning}"));
    }
    match (wanted.wait, wanted.forward) {
        (true, _) if !is_done => {
            line(format!("not over {}:", within(limit)));
            for what in &view.waits_for {
                line(format!("  {what}"));
            }
        }
        (true, false) if view.may_be_removed => {
            line(
                "nobody calls through here, no application has its registry here: Remora may be taken away".to_owned(),
            );
        }
        (true, false) => {
            line("nobody calls through here any more; before Remora may be taken away:".to_owned());
            for what in view.before_removal() {
                line(format!("  {what}"));
            }
        }
        (true, true) => line(format!(
            "{} here",
            counted(view.leads_here, "publication leads", "publications lead")
        )),
        (false, false) if view.may_be_removed => line("Remora may be taken away".to_owned()),
        (false, false) => {
            line("before Remora may be taken away:".to_owned());
            for what in view.before_removal() {
                line(format!("  {what}"));
            }
        }
        (false, true) if view.waits_for.is_empty() => {}
        (false, true) => {
            line("on its way:".to_owned());
            for what in &view.waits_for {
                line(format!("  {what}"));
            }
        }
    }
    page.text
}

/// The answer comes from memory.
const ANSWER: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(60);
/// What is asked for is heard, however little time there is for what follows.
const HEARD: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOKS: u32 = 3;
const NOT_IN_TIME: u8 = 3;
