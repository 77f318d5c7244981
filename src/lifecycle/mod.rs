// SPDX-License-Identifier: Apache-2.0
//! Logs, signals, readiness: what concerns the process as a whole.

mod log;
mod notify;
mod readiness;
mod signals;
mod stop;
pub mod upgrade;

use std::time::Duration;

pub use log::{LogConfig, LogError, LogFormat, LogLevels, Verbosity};
pub use notify::Notify;
pub use readiness::{Readiness, ReadinessReport};
use serde::{Deserialize, Serialize};
pub use signals::{Hangups, StopSignals};
pub use stop::{Stop, StopKind};

use crate::config::Span;

/// Keys under `lifecycle:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long calls in flight may take to finish after a stop was asked for. Default 10s: below the 30 s that Kubernetes
    /// and systemd wait before they kill.
    pub drain_timeout: Span,
    /// How long everything goes on being served after something was withdrawn at a stop: consumers hear of it from the
    /// registry, and must find nobody gone before. Default 3s: lists arrive within milliseconds from ZooKeeper, within 1 s
    /// from SOFARegistry, and applications take a moment to act on them.
    pub withdraw_pause: Span,
    /// Whether the configuration file is read again when it changes.
    pub watch_config: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            drain_timeout: Span(Duration::from_secs(10)),
            withdraw_pause: Span(Duration::from_secs(3)),
            watch_config: true,
        }
    }
}
