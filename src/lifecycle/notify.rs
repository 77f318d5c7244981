// SPDX-License-Identifier: Apache-2.0
//! Tells systemd how things stand: `READY=1`, `RELOADING=1`, `STOPPING=1`, `STATUS`, `WATCHDOG=1`, `MAINPID`.
//!
//! Source: sd_notify(3) and sd_watchdog_enabled(3) of systemd 253. One datagram a message, to the socket that the
//! environment names; without one nothing is sent. A supervisor that does not listen is no reason to fail.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::{debug, warn};

/// The supervisor's ear; clones talk to the same one.
#[derive(Clone, Debug, Default)]
pub struct Notify {
    to: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// Talks to nobody.
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Whom `NOTIFY_SOCKET` names: a path, or an abstract name behind `@`. A watchdog is wanted where `WATCHDOG_USEC` says
    /// so, and `WATCHDOG_PID` does not name another process.
    pub fn from_environment(environment: impl Fn(&str) -> Option<String>) -> Self {
        let Some(name) = environment(SOCKET).filter(|name| !name.is_empty()) else {
            return Self::nobody();
        };
        let opened = address(&name).and_then(|address| Ok((UnixDatagram::unbound()?, address)));
        let to = match opened {
            Ok((socket, address)) => {
                // A supervisor that does not read must not hold the control thread up.
                let _ = socket.set_nonblocking(true);
                Some(Arc::new((socket, address)))
            }
            Err(error) => {
                warn!(%error, "NOTIFY_SOCKET cannot be used, nobody is told that Remora is ready");
                None
            }
        };
        let micros = environment(WATCHDOG)
            .and_then(|text| text.parse().ok())
            .filter(|n| *n > 0);
        let is_ours = environment(WATCHDOG_PID).is_none_or(|pid| pid == std::process::id().to_string());
        Self {
            to,
            watchdog: micros.filter(|_| is_ours).map(Duration::from_micros),
        }
    }

    /// Variables that belong to this process and not to those that it starts.
    pub const VARIABLES: [&'static str; 3] = [SOCKET, WATCHDOG, WATCHDOG_PID];

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.to.is_some()
    }

    /// How often [`alive`](Self::alive) must be said: half of what the supervisor allows. `None`: nobody waits for it.
    pub fn alive_every(&self) -> Option<Duration> {
        self.to.as_ref().and(self.watchdog).map(|limit| limit / 2)
    }

    /// Started, or done reloading.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// Still starting; the supervisor is to wait `longer` from now.
    pub fn starting(&self, longer: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", longer.as_micros()));
    }

    /// The configuration is being read again; [`ready`](Self::ready) ends it. The time ties the answer to the signal.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// On the way out.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', "; ")));
    }

    /// The control thread and the call path answer.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// Another process is the service now. To be said by the one that the supervisor knows.
    pub fn main_pid(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}"));
    }

    fn send(&self, message: &str) {
        let Some(to) = &self.to else { return };
        if let Err(error) = to.0.send_to_addr(message.as_bytes(), &to.1) {
            debug!(%error, "the supervisor was not told");
        }
    }
}

fn address(name: &str) -> std::io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str, watchdog_pid: u32) -> impl Fn(&str) -> Option<String> {
        let name = name.to_owned();
        move |variable| match variable {
            SOCKET => Some(name.clone()),
            WATCHDOG => Some("4000000".to_owned()),
            WATCHDOG_PID => Some(watchdog_pid.to_string()),
            _ => None,
        }
    }

    fn heard(ear: &UnixDatagram) -> String {
        let mut message = [0; 256];
        ear.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = ear.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_word_is_one_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let ear = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::from_environment(environment(path.to_str().unwrap(), std::process::id()));
        assert!(notify.is_heard());
        assert_eq!(notify.alive_every(), Some(Duration::from_secs(2)));
        notify.ready();
        assert_eq!(heard(&ear), "READY=1");
        notify.status("serving\nregistry away");
        assert_eq!(heard(&ear), "STATUS=serving; registry away");
        notify.main_pid(42);
        assert_eq!(heard(&ear), "MAINPID=42");
        notify.reloading();
        let said = heard(&ear);
        let micros = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0, "{said}");
    }

    #[test]
    fn an_abstract_name_is_reached() {
        let name = format!("remora-notify-{}", std::process::id());
        let ear = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notify = Notify::from_environment(environment(&format!("@{name}"), 1));
        assert_eq!(notify.alive_every(), None, "the watchdog is another process's");
        notify.stopping();
        assert_eq!(heard(&ear), "STOPPING=1");
    }

    #[test]
    fn nobody_and_an_ear_that_is_gone_are_no_failure() {
        Notify::from_environment(|_| None).ready();
        let notify = Notify::from_environment(environment("/nowhere/at/all", 1));
        notify.ready();
        assert!(!Notify::nobody().is_heard());
    }
}
