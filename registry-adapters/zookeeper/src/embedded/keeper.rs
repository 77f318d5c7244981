// SPDX-License-Identifier: Apache-2.0
//! The thread that brings changes to disk and ends what has outlived its time. A thread, since a commit blocks.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{error, info};

use super::Shared;
use super::core::Batch;
use super::store::Store;

/// Runs until the registry is closed and all is on disk. Without a store, changes are only forgotten.
pub(super) fn keep(shared: &Shared, mut store: Option<Store>) {
    while let Some(batch) = next_batch(shared) {
        if let Some(store) = &mut store
            && !commit(shared, store, &batch)
        {
            return;
        }
        shared.release(batch.seq);
    }
}

// Waits for changes; does what upkeep is due meanwhile.
fn next_batch(shared: &Shared) -> Option<Batch> {
    let mut core = shared.lock();
    loop {
        let now = Instant::now();
        if now >= core.upkeep_due() {
            core.upkeep(now);
        }
        if core.is_dirty() {
            return Some(core.take_batch());
        }
        if core.is_closing {
            return None;
        }
        let wait = core.upkeep_due().saturating_duration_since(now);
        core = shared
            .work
            .wait_timeout(core, wait)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

// A full disk must lose nothing: nothing is answered until the batch is written, however often that takes. Only closing
// gives up; nobody was told that it is done.
fn commit(shared: &Shared, store: &mut Store, batch: &Batch) -> bool {
    let started = Instant::now();
    let mut attempts = 0_u32;
    loop {
        let failure = match store.commit(batch) {
            Ok(()) => break,
            Err(e) => e.to_string(),
        };
        if attempts.is_multiple_of(LOG_EVERY) {
            error!(path = %store.path().display(), cause = failure, "registry cannot be written, clients wait");
        }
        attempts += 1;
        shared.is_stuck.store(true, Ordering::Relaxed);
        if !pause(shared) {
            return false;
        }
        if let Err(e) = store.reopen() {
            error!(path = %store.path().display(), cause = %e, "registry cannot be opened again");
        }
    }
    if attempts > 0 {
        shared.is_stuck.store(false, Ordering::Relaxed);
        info!(attempts, "registry can be written again");
        // Who waited for us was not silent.
        shared.lock().sessions.forgive(started.elapsed());
    }
    true
}

// `false` when the registry is being closed.
fn pause(shared: &Shared) -> bool {
    let until = Instant::now() + RETRY;
    let mut core = shared.lock();
    loop {
        if core.is_closing {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        core = shared
            .work
            .wait_timeout(core, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

const RETRY: Duration = Duration::from_millis(500);
// Every 30 s at the pace above.
const LOG_EVERY: u32 = 60;
