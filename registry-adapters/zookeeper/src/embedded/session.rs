// SPDX-License-Identifier: Apache-2.0
//! Sessions: ids, passwords, timeouts. A session outlives its connections and restarts of the registry.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

use super::watch::ConnId;

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) timeout: Duration,
    pub(super) heard: Instant,
    pub(super) conn: Option<ConnId>,
}

/// All live sessions.
pub(super) struct Sessions {
    live: HashMap<i64, Session>,
    changed: HashSet<i64>,
    next: i64,
    key: Key,
    mark: Option<Mark>,
}

/// What every password of a registry begins with, if it has to be told from passwords of others.
pub(super) type Mark = [u8; 8];

/// Secret from which passwords are made. Stored with the tree, so that passwords stay good over a restart.
pub(super) type Key = [u8; 20];

/// A session as it goes to disk: its timeout in ms, or `None` when it is gone.
pub(super) type Change = (i64, Option<i32>);

impl Sessions {
    /// `stored` sessions start with their full timeout from `now`. `now_ms` makes new ids differ from those given before.
    pub(super) fn new(key: Key, stored: &[(i64, i32)], now: Instant, now_ms: i64) -> Self {
        let alive = |&(id, ms): &(i64, i32)| {
            let session = Session {
                timeout: Duration::from_millis(u64::try_from(ms).unwrap_or(0)),
                heard: now,
                conn: None,
            };
            (id, session)
        };
        // As ZooKeeper: a server's byte, 40 bits of ms, a counter. The byte keeps two registries apart; below 0x80,
        // since the values above mark containers and TTL nodes.
        let server = i64::from(key.first().copied().unwrap_or(0) % 0x7e) + 1;
        let next = server << 56 | (now_ms << 16 & 0x00ff_ffff_ffff_0000);
        let highest = stored.iter().map(|(id, _)| *id).max().unwrap_or(0);
        Self {
            live: stored.iter().map(alive).collect(),
            changed: HashSet::new(),
            next: next.max(highest),
            key,
            mark: None,
        }
    }

    /// Lets every password begin with `mark`.
    pub(super) fn marked(self, mark: Option<Mark>) -> Self {
        Self { mark, ..self }
    }

    /// A key that nobody can guess: the system's randomness as it seeds hash maps.
    pub(super) fn new_key() -> Key {
        let mut hash = Sha1::new();
        for salt in 0..4_u64 {
            hash.update(RandomState::new().hash_one(salt).to_be_bytes());
        }
        hash.finalize().into()
    }

    /// Opens one.
    pub(super) fn open(&mut self, timeout: Duration, conn: ConnId, now: Instant) -> i64 {
        self.next += 1;
        let id = self.next;
        let conn = Some(conn);
        self.live.insert(
            id,
            Session {
                timeout,
                heard: now,
                conn,
            },
        );
        self.changed.insert(id);
        id
    }

    /// Gives a live session another connection and timeout; the connection it had before.
    pub(super) fn resume(&mut self, id: i64, timeout: Duration, conn: ConnId, now: Instant) -> Option<ConnId> {
        let session = self.live.get_mut(&id)?;
        if session.timeout != timeout {
            session.timeout = timeout;
            self.changed.insert(id);
        }
        session.heard = now;
        session.conn.replace(conn)
    }

    /// Whether it is alive and this is its password.
    pub(super) fn knows(&self, id: i64, password: &[u8]) -> bool {
        let expected = self.password(id);
        let differing = expected.iter().zip(password).fold(0, |acc, (a, b)| acc | (a ^ b));
        password.len() == expected.len() && differing == 0 && self.live.contains_key(&id)
    }

    /// 16 bytes that only this registry can make of the id.
    pub(super) fn password(&self, id: i64) -> [u8; 16] {
        let inner = Sha1::new()
            .chain_update(self.key)
            .chain_update(id.to_be_bytes())
            .finalize();
        let outer = Sha1::new().chain_update(inner).chain_update(self.key).finalize();
        let mut password = [0; 16];
        password.iter_mut().zip(outer).for_each(|(to, from)| *to = from);
        let mark = self.mark.iter().flatten();
        password.iter_mut().zip(mark).for_each(|(to, from)| *to = *from);
        password
    }

    /// Its owner was heard.
    pub(super) fn touch(&mut self, id: i64, now: Instant) {
        if let Some(session) = self.live.get_mut(&id) {
            session.heard = now;
        }
    }

    /// A connection of it is gone.
    pub(super) fn disconnect(&mut self, id: i64, conn: ConnId) {
        if let Some(session) = self.live.get_mut(&id)
            && session.conn == Some(conn)
        {
            session.conn = None;
        }
    }

    /// Ends it.
    pub(super) fn close(&mut self, id: i64) -> Option<Session> {
        let session = self.live.remove(&id)?;
        self.changed.insert(id);
        Some(session)
    }

    /// Sessions not heard of for their timeout.
    pub(super) fn expired(&self, now: Instant) -> Vec<i64> {
        let expired = |session: &Session| now.saturating_duration_since(session.heard) >= session.timeout;
        self.live
            .iter()
            .filter(|(_, session)| expired(session))
            .map(|(id, _)| *id)
            .collect()
    }

    /// When the next one would expire.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.live.values().map(|session| session.heard + session.timeout).min()
    }

    /// This process slept for `pause`: that was nobody's silence.
    pub(super) fn forgive(&mut self, pause: Duration) {
        for session in self.live.values_mut() {
            session.heard += pause;
        }
    }

    /// How many are alive.
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether it is alive.
    pub(super) fn is_live(&self, id: i64) -> bool {
        self.live.contains_key(&id)
    }

    /// What has to go to disk.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let changed = std::mem::take(&mut self.changed);
        let timeout = |id: i64| {
            let session = self.live.get(&id);
            session.map(|s| i32::try_from(s.timeout.as_millis()).unwrap_or(i32::MAX))
        };
        changed.into_iter().map(|id| (id, timeout(id))).collect()
    }

    /// Whether something has to go to disk.
    pub(super) fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }
}
