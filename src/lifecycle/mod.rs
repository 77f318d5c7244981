// SPDX-License-Identifier: Apache-2.0
//! Logs, signals, readiness: what concerns the process as a whole.

mod log;
mod readiness;
mod signals;

use std::time::Duration;

pub use log::{LogConfig, LogError, LogFormat, Verbosity};
pub use readiness::{Readiness, ReadinessReport};
use serde::{Deserialize, Serialize};
pub use signals::StopSignals;

use crate::config::Span;

/// Keys under `lifecycle:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long calls in flight may take to finish after a stop was asked for. Default 10s: below the 30 s that Kubernetes
    /// and systemd wait before they kill.
    pub drain_timeout: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            drain_timeout: Span(Duration::from_secs(10)),
        }
    }
}
