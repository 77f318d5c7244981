// SPDX-License-Identifier: Apache-2.0
//! The operator's rollback, kept in the data directory: it holds over restarts and hot upgrades until it is taken back.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::discovery::DiscoveryError;
use crate::discovery::disk::{self, Seal};

/// Whether it was asked for, and where that is kept.
#[derive(Debug)]
pub(in crate::discovery) struct Rollback {
    file: Option<PathBuf>,
    /// Seconds since 1970.
    since: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    since: u64,
}

impl Rollback {
    /// As it was left by a former run. A damaged file counts as asked for: somebody wanted to be out of the way.
    pub(in crate::discovery) fn read(data_dir: Option<&std::path::Path>) -> Self {
        let file = data_dir.map(|dir| dir.join(FILE));
        let read = file.as_deref().map(|path| disk::read(path, SEAL));
        let since = match read {
            None | Some(Ok(None)) => None,
            Some(Ok(Some(content))) => Some(serde_json::from_slice::<Content>(&content).map_or(0, |c| c.since)),
            Some(Err(error)) => {
                warn!(reason = error.reason(), %error, "a rollback stands; remora rollback --forward ends it");
                Some(0)
            }
        };
        Self { file, since }
    }

    /// Since when, in seconds since 1970; `None` if it was not asked for.
    pub(in crate::discovery) fn since(&self) -> Option<u64> {
        self.since
    }

    /// Asks for it, or takes it back; `false` if it was so already. Nothing changes when it cannot be written down.
    ///
    /// # Errors
    /// `File`.
    pub(in crate::discovery) fn set(&mut self, is_rolled_back: bool) -> Result<bool, DiscoveryError> {
        if self.since.is_some() == is_rolled_back {
            return Ok(false);
        }
        let since = is_rolled_back.then(now);
        if let Some(path) = &self.file {
            match since {
                Some(since) => {
                    let content = serde_json::json!(Content { since }).to_string();
                    disk::write(path, SEAL, |out| out.write_all(content.as_bytes()))?;
                }
                None => match std::fs::remove_file(path) {
                    Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                        return Err(DiscoveryError::File {
                            path: path.clone(),
                            cause,
                        });
                    }
                    _ => {}
                },
            }
        }
        self.since = since;
        Ok(true)
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

const FILE: &str = "rollback";
const SEAL: Seal = Seal {
    kind: "rollback",
    version: 1,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_over_a_restart_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let read = || Rollback::read(Some(dir.path()));
        assert!(read().since().is_none());
        assert!(read().set(true).unwrap());
        assert!(read().since().is_some());
        assert!(!read().set(true).unwrap(), "it stands already");
        assert!(read().set(false).unwrap());
        assert!(read().since().is_none());
    }

    #[test]
    fn a_damaged_file_counts_as_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "x").unwrap();
        assert!(Rollback::read(Some(dir.path())).since().is_some());
    }
}
