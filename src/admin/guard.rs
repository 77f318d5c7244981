// SPDX-License-Identifier: Apache-2.0
//! Who may change something over the admin port: a process of Remora's own user, or root's, on this machine; never a web
//! page. What forwards requests (a proxy, `X-Forwarded-For`) counts as itself.
//!
//! Where the system does not tell users (it does on Linux), any process at a loopback address may.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::header::{HeaderMap, ORIGIN, REFERER};
use remora_registry::peers::{Audit, PROC_NET, Reader, User, Users};
use tracing::{info, warn};

/// Both ends of a connection to the admin port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
}

/// Stands before everything that changes something.
#[derive(Debug)]
pub(super) struct Guard {
    users: Users,
    /// Our user; `None` where the system does not tell.
    own: Option<u32>,
    tells_users: bool,
    audit: Audit,
}

/// A request that may not change anything.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Forbidden {
    #[error("a request with Origin, Referer or Sec-Fetch headers comes from a web page, which may change nothing here")]
    WebPage,
    #[error("it comes from another machine; ask on the machine where Remora runs")]
    Machine,
    #[error("only user {own} (Remora's own) and root may, not {caller}")]
    User { own: u32, caller: String },
    #[error("the system does not tell whose request it is")]
    Unknown,
}

impl Forbidden {
    /// Short and fixed.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::WebPage => "web_page",
            Self::Machine => "foreign_machine",
            Self::User { .. } => "foreign_user",
            Self::Unknown => "unknown_user",
        }
    }
}

impl Guard {
    /// For an admin port with so many places; the reader is to be run beside it.
    pub(super) fn new(port: u16, places: usize) -> (Self, Reader) {
        let (users, reader) = Users::new("admin", PROC_NET.into(), HashSet::from([port]), NO_PORT, places);
        let guard = Self {
            users,
            own: own_user(),
            tells_users: cfg!(target_os = "linux"),
            audit: Audit::default(),
        };
        (guard, reader)
    }

    /// Whether a request may change something. Each answer is a line in the log.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) async fn check(&self, what: &str, ends: Ends, headers: &HeaderMap) -> Result<(), Forbidden> {
        let user = match is_of_web_page(headers) {
            true => Err(Forbidden::WebPage),
            false => self.judge(ends).await,
        };
        match user {
            Ok(user) => {
                info!(path = what, peer = %ends.peer, user = user.label(), "asked for over the admin port");
                Ok(())
            }
            Err(forbidden) => {
                if let Some(unwritten) = self.audit.line() {
                    warn!(path = what, peer = %ends.peer, reason = forbidden.reason(), cause = %forbidden, unwritten, "refused at the admin port");
                }
                Err(forbidden)
            }
        }
    }

    async fn judge(&self, ends: Ends) -> Result<User, Forbidden> {
        let ip = ends.peer.ip().to_canonical();
        if !ip.is_loopback() && ip != ends.local.ip().to_canonical() {
            return Err(Forbidden::Machine);
        }
        let user = self.users.of_within(PATIENCE, ends.peer, ends.local).await.0;
        match (user, self.own) {
            (User::Uid(0), _) => Ok(user),
            (User::Uid(uid), Some(own)) if uid == own => Ok(user),
            (User::Uid(_), Some(own)) => Err(Forbidden::User {
                own,
                caller: user.label(),
            }),
            (User::Unknown, None) if !self.tells_users && ip.is_loopback() => Ok(user),
            (User::Uid(_) | User::Unknown | User::Elsewhere(_), _) => Err(Forbidden::Unknown),
        }
    }
}

/// Browsers say by what page a request was caused; a page cannot make them leave that out.
fn is_of_web_page(headers: &HeaderMap) -> bool {
    let is_fetch = |name: &str| name.starts_with("sec-fetch-");
    headers.contains_key(ORIGIN) || headers.contains_key(REFERER) || headers.keys().any(|name| is_fetch(name.as_str()))
}

/// The user that this process acts as (`Uid:` real, effective, ...).
fn own_user() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A machine that is short of everything is when an operator must be heard. The command line asks once, and has its own limit.
const PATIENCE: Duration = Duration::from_secs(20);
/// No egress is looked for here.
const NO_PORT: u16 = 0;

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    /// What a guard of user 1000 says to `uid`, whose end is the IPv4 address and port `peer`.
    async fn judged(uid: u32, peer: &str, headers: &[(&'static str, &'static str)]) -> Result<(), Forbidden> {
        judged_after(Duration::ZERO, uid, peer, headers).await
    }

    /// The same on a machine that reads its table so late.
    async fn judged_after(
        late: Duration,
        uid: u32,
        peer: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<(), Forbidden> {
        let dir = tempfile::tempdir().unwrap();
        let peer: SocketAddr = peer.parse().unwrap();
        let local: SocketAddr = "127.0.0.1:15020".parse().unwrap();
        let word = u32::from_ne_bytes([127, 0, 0, 1]);
        let row = format!(
            "  1: {word:08X}:{:04X} {word:08X}:{:04X} 01 0:0 0:0 0 {uid} 0 78\n",
            4000, 15020
        );
        std::fs::write(dir.path().join("tcp"), format!("heading\n{row}")).unwrap();
        let (users, reader) = Users::new("test", dir.path().to_owned(), HashSet::from([15020]), 0, 4);
        let reading = tokio::spawn(async move {
            tokio::time::sleep(late).await;
            reader.run().await;
        });
        let guard = Guard {
            users,
            own: Some(1000),
            tells_users: true,
            audit: Audit::default(),
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let judged = guard.check("/drain", Ends { peer, local }, &map).await;
        drop(guard);
        reading.await.unwrap();
        judged
    }

    #[tokio::test]
    async fn only_our_user_and_root_on_this_machine_may_change_something() {
        let here = "127.0.0.1:4000";
        assert_eq!(judged(1000, here, &[]).await, Ok(()));
        assert_eq!(judged(0, here, &[]).await, Ok(()));
        let caller = "user 1001".to_owned();
        assert_eq!(
            judged(1001, here, &[]).await,
            Err(Forbidden::User { own: 1000, caller })
        );
        assert_eq!(
            judged(1000, "127.0.0.1:4001", &[]).await,
            Err(Forbidden::Unknown),
            "closed at once"
        );
        assert_eq!(judged(1000, "192.0.2.1:4000", &[]).await, Err(Forbidden::Machine));
        let forwarded = [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-real-ip", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1"),
        ];
        assert_eq!(
            judged(1000, "192.0.2.1:4000", &forwarded).await,
            Err(Forbidden::Machine)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_starved_machine_takes_its_time_and_never_permits_for_the_lack_of_it() {
        let here = "127.0.0.1:4000";
        let (late, too_late) = (PATIENCE / 2, PATIENCE * 2);
        assert_eq!(judged_after(late, 1000, here, &[]).await, Ok(()));
        assert_eq!(judged_after(too_late, 1000, here, &[]).await, Err(Forbidden::Unknown));
    }

    #[tokio::test]
    async fn a_web_page_may_change_nothing_whoever_looks_at_it() {
        for caused in [
            ("origin", "http://127.0.0.1:15020"),
            ("origin", "null"),
            ("referer", "http://127.0.0.1:15020/"),
            ("sec-fetch-site", "none"),
            ("sec-fetch-mode", "navigate"),
        ] {
            assert_eq!(
                judged(0, "127.0.0.1:4000", &[caused]).await,
                Err(Forbidden::WebPage),
                "{caused:?}"
            );
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn our_own_user_is_known() {
        assert!(own_user().is_some());
    }
}
