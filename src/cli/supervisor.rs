// SPDX-License-Identifier: Apache-2.0
//! Tells the supervisor how a running proxy stands, until it is dropped.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::admin::Views;
use crate::lifecycle::Notify;

/// Says when it is ready, how it stands, and that it lives. Does not return; cancel safe.
pub(super) async fn tell(notify: Notify, views: Arc<Views>) {
    if !notify.is_heard() {
        return std::future::pending().await;
    }
    // On the control thread, and after each worker has answered: if one of them hangs, nobody is told that we live.
    let mut tick = interval(notify.alive_every().map_or(LOOK_EVERY, |every| every.min(LOOK_EVERY)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_ready = false;
    let mut said = String::new();
    let mut extended: Option<Instant> = None;
    loop {
        tick.tick().await;
        let report = views.readiness.report();
        if !is_ready && report.ready {
            is_ready = true;
            notify.ready();
        }
        let is_due = extended.is_none_or(|at| at.elapsed() >= EXTEND_EVERY);
        if !is_ready && is_due {
            // A registry that cannot be reached must not make systemd start us over and over.
            notify.starting(EXTEND_EVERY * 3);
            extended = Some(Instant::now());
        }
        let status = match (report.reasons.is_empty(), report.notes.is_empty()) {
            (false, _) => format!("not ready: {}", report.reasons.join("; ")),
            (true, false) => format!("serving; {}", report.notes.join("; ")),
            (true, true) => "serving".to_owned(),
        };
        // Seconds that a registry has been away count up; the first word is enough.
        let gist: String = status.chars().filter(|c| !c.is_ascii_digit()).collect();
        if gist != said {
            notify.status(&status);
            said = gist;
        }
        if notify.alive_every().is_some() && (views.alive)().await.is_none() {
            notify.alive();
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Below every start timeout in use (systemd's own is 90 s).
const EXTEND_EVERY: Duration = Duration::from_secs(10);
