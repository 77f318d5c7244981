// SPDX-License-Identifier: Apache-2.0
//! Brings the ingress table to disk, beside the control thread: a publication does not wait for it.
//!
//! What a crash finds unwritten are the changes of some milliseconds; an application whose session is resumed then is asked
//! by the ZooKeeper door what it had published.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use super::catalog::{Catalog, lock};
use super::ingress_ports;

/// Writes the table after it changed, again after a failure, and once more at the end.
pub(super) async fn keep(catalog: Arc<Catalog>) {
    let mut written = lock(&catalog.ingress).rows();
    let mut pause = None;
    loop {
        let is_draining = tokio::select! {
            () = catalog.drain.cancelled() => true,
            () = catalog.wake.ingress.notified() => false,
            () = sleep(pause.unwrap_or_default()), if pause.is_some() => false,
        };
        let to_keep = lock(&catalog.ingress).to_keep();
        if let Some((file, rows)) = to_keep
            && rows != written
        {
            let now = rows.clone();
            match tokio::task::spawn_blocking(move || ingress_ports::write(&file, &rows)).await {
                Ok(Ok(())) => (written, pause) = (now, None),
                Ok(Err(error)) => {
                    warn!(reason = error.reason(), %error, "the ingress table could not be kept, trying again; after a restart applications must register again");
                    pause = Some(pause.map_or(AGAIN, |pause: Duration| (pause * 2).min(AGAIN_MAX)));
                }
                // The runtime is going down.
                Err(_) => return,
            }
        }
        if is_draining {
            return;
        }
    }
}

/// Between attempts to write to a disk that refused, doubled up to the longest.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);
