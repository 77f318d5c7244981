// SPDX-License-Identifier: Apache-2.0
//! Remora leaves for good: what applications published in sessions of their own is taken out of the registry, each on its own
//! session, while the applications run on.
//!
//! An application does not know that its entries are gone, so its session must not be resumed later as if they stood: the
//! sessions are written down, and a Remora that starts again tells such an application that its session has expired. Its
//! client then does what it does after any expiry, and publishes everything anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::{info, warn};

use super::door::Door;
use super::learn::Learning;
use super::sent::Then;
use crate::wire::request::Create;
use crate::wire::{ErrorCode, OpCode, Reply, Request, RequestHeader, Stat, Text};

/// How far a connection's farewell is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Farewell {
    #[default]
    NotAsked,
    Asked,
    /// Deletes that are under way, and entries that are gone.
    Under {
        way: usize,
        gone: usize,
    },
    Over,
}

impl Door {
    /// Withdraws everything that stands, as soon as it is known what that is.
    pub(super) fn say_farewell(&mut self) {
        self.farewell = Farewell::Asked;
        self.all_former_go();
        self.farewell_on();
    }

    /// The number of entries withdrawn, once, when none is left.
    pub(super) fn farewell_over(&mut self) -> Option<usize> {
        self.farewell_on();
        match self.farewell {
            Farewell::Under { way: 0, gone } => {
                self.farewell = Farewell::Over;
                Some(gone)
            }
            _ => None,
        }
    }

    fn farewell_on(&mut self) {
        if self.farewell != Farewell::Asked || !matches!(self.learning, Learning::Done) {
            return;
        }
        // Behind a door of another registry what counts is kept, and withdrawn, by Remora itself.
        let standing = match self.shared.config.keeps_publications {
            true => Vec::new(),
            false => self.state.names.standing(),
        };
        self.farewell = Farewell::Under {
            way: standing.len(),
            gone: 0,
        };
        if !standing.is_empty() {
            self.shared.withdrawn.remember(self.state.session);
        }
        for registry_path in standing {
            let request = Request::Delete {
                path: Text::from(registry_path.as_str()),
                version: -1,
            };
            self.send_own(request, 0, None, Then::Farewell { registry_path });
        }
    }

    /// One entry is gone, or could not be withdrawn.
    pub(super) fn farewell_answered(&mut self, registry_path: &str, err: ErrorCode) {
        let is_gone = matches!(err, ErrorCode::OK | ErrorCode::NO_NODE);
        if let Farewell::Under { way, gone } = &mut self.farewell {
            *way = way.saturating_sub(1);
            *gone += usize::from(err.is_ok());
        }
        if !is_gone {
            return warn!(
                registry = "zookeeper",
                path = registry_path,
                code = err.0,
                "not withdrawn; it ends with its session"
            );
        }
        if let Some(own) = self.state.names.fell(registry_path) {
            info!(registry = "zookeeper", path = registry_path, "withdrawn, Remora leaves");
            self.take_back(&own);
        }
    }

    /// Whether nothing may lead here any more.
    pub(super) fn is_leaving(&self) -> bool {
        self.farewell != Farewell::NotAsked && !self.shared.config.keeps_publications
    }

    /// What an application publishes now would be the last thing to call when Remora is gone. It is told that all is well,
    /// and publishes anew with the next Remora.
    pub(super) fn keep_out(&mut self, head: RequestHeader, create: &Create) {
        self.shared.withdrawn.remember(self.state.session);
        let path = create.path.clone();
        let reply = match create.op {
            OpCode::Create2 => Reply::Created2 {
                path,
                stat: Stat {
                    ephemeral_owner: self.state.session,
                    ..Stat::default()
                },
            },
            _ => Reply::Created { path },
        };
        self.answer(head, &reply);
    }

    /// Whether an application takes back what the farewell took away before: for it, that works.
    pub(super) fn was_withdrawn(&self, app_path: &str, err: ErrorCode) -> bool {
        let was_said = matches!(self.farewell, Farewell::Under { .. } | Farewell::Over);
        err == ErrorCode::NO_NODE && was_said && self.state.names.own(app_path).is_some()
    }
}

/// Sessions whose entries were withdrawn without the application's knowledge.
#[derive(Debug, Default)]
pub(super) struct Withdrawn {
    file: Option<PathBuf>,
    now: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    /// Of this run; they go on until Remora ends. With the time, in seconds since 1970.
    here: BTreeMap<i64, u64>,
    /// Of former runs.
    before: BTreeMap<i64, u64>,
}

impl Withdrawn {
    /// Those that former runs wrote down in `dir`.
    pub(super) fn read(dir: &Path) -> Self {
        let file = dir.join(FILE);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let oldest = now().saturating_sub(REMEMBERED.as_secs());
        let before = text.lines().filter_map(line).filter(|(_, at)| *at >= oldest).collect();
        Self {
            file: Some(file),
            now: Mutex::new(Sessions {
                here: BTreeMap::new(),
                before,
            }),
        }
    }

    /// To be called before the first of its entries goes.
    fn remember(&self, session: i64) {
        let mut sessions = self.lock();
        if sessions.here.insert(session, now()).is_none() {
            self.write(&sessions);
        }
    }

    /// Whether a former run withdrew the entries of a session; asked once for each.
    pub(super) fn take(&self, session: i64) -> bool {
        let mut sessions = self.lock();
        let was = sessions.before.remove(&session).is_some();
        if was {
            self.write(&sessions);
        }
        was
    }

    fn write(&self, sessions: &Sessions) {
        let Some(file) = &self.file else { return };
        let all = sessions.before.iter().chain(&sessions.here);
        let text: String = all
            .map(|(session, at)| format!("{:x} {at}\n", session.cast_unsigned()))
            .collect();
        let draft = file.with_extension("new");
        let written = std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, file));
        if let Err(error) = written {
            warn!(registry = "zookeeper", %error, "withdrawn sessions could not be written down; restart their applications to publish again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(line: &str) -> Option<(i64, u64)> {
    let (session, at) = line.split_once(' ')?;
    Some((u64::from_str_radix(session, 16).ok()?.cast_signed(), at.parse().ok()?))
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

const FILE: &str = "zookeeper-withdrawn";
/// Longer than any session lives without its application.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_told_of_once_and_only_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = Withdrawn::read(dir.path());
        first.remember(-7);
        first.remember(8);
        assert!(!first.take(-7), "it is still served by the Remora that withdrew it");
        let second = Withdrawn::read(dir.path());
        assert!(second.take(-7));
        assert!(!second.take(-7));
        let third = Withdrawn::read(dir.path());
        assert!(!third.take(-7) && third.take(8));
    }

    #[test]
    fn nonsense_and_old_lines_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "5 12\nx y\n\n6\n").unwrap();
        let withdrawn = Withdrawn::read(dir.path());
        assert!(!withdrawn.take(5) && !withdrawn.take(6));
    }
}
