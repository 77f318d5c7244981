// SPDX-License-Identifier: Apache-2.0
//! Registrations: kept at whichever session server we are connected to, until they are taken back.
//!
//! One task per registration, so that what is done to it is done one after the other. The server drops what was registered
//! with the connection, so it is sent again on each new one, with the same id and version, as Java clients do.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::client::{Client, ClientError, ClientState};
use crate::wire::{
    ConfiguratorRegister, EventType, Message, PublisherRegister, Registration as Base, SubscriberRegister,
};

/// What is registered. Its id, version, event and time are filled in when it is sent.
#[derive(Clone, Debug)]
pub(super) enum Register {
    Publisher(PublisherRegister),
    Subscriber(SubscriberRegister),
    Configurator(ConfiguratorRegister),
}

/// A registration; dropping it takes it back.
#[derive(Debug)]
pub(super) struct Registration {
    regist_id: Arc<str>,
    wish: watch::Sender<Wish>,
    outcome: watch::Receiver<Outcome>,
}

/// What is to stand at the server.
#[derive(Clone, Debug)]
struct Wish {
    /// Grows with each change; the one on the wire.
    version: i64,
    /// Grows each time that somebody wants another attempt at once.
    nudges: u64,
    is_wanted: bool,
    register: Arc<Register>,
}

/// What came of a wish, for those who wait.
#[derive(Clone, Debug)]
struct Outcome {
    /// Version and nudges of the wish; `None` before the first.
    of: Option<(i64, u64)>,
    result: Result<(), ClientError>,
}

/// What every keeper needs.
#[derive(Clone, Debug)]
pub(super) struct Keeping {
    pub(super) registry: Arc<str>,
    pub(super) client: Client,
    /// Callers may be on other threads.
    pub(super) runtime: Handle,
    /// Those that follow wait at random up to this long on a new connection: publications go first.
    pub(super) spread: Duration,
    /// Cancelled when somebody else takes over: nothing is taken back from then on.
    pub(super) frozen: CancellationToken,
}

impl Registration {
    /// Returns at once.
    pub(super) fn start(keeping: &Keeping, register: Register) -> Self {
        // Java starts the versions of configurators at 0, all others at 1.
        let version = i64::from(!matches!(register, Register::Configurator(_)));
        Self::start_as(keeping, register, uuid().into(), version)
    }

    /// Under the id of a registration that may stand already; `version` is above that one's.
    pub(super) fn start_as(keeping: &Keeping, register: Register, regist_id: Arc<str>, version: i64) -> Self {
        let (wish, wishes) = watch::channel(Wish {
            version,
            nudges: 0,
            is_wanted: true,
            register: Arc::new(register),
        });
        let (done, outcome) = watch::channel(Outcome {
            of: None,
            result: Ok(()),
        });
        let keeper = Keeper {
            keeping: keeping.clone(),
            regist_id: Arc::clone(&regist_id),
            wishes,
            done,
            was_sent: false,
        };
        keeping.runtime.spawn(keeper.run());
        Self {
            regist_id,
            wish,
            outcome,
        }
    }

    pub(super) fn regist_id(&self) -> &Arc<str> {
        &self.regist_id
    }

    /// The version that is wanted now.
    pub(super) fn version(&self) -> i64 {
        self.wish.borrow().version
    }

    /// Puts something else in its place.
    pub(super) fn replace(&self, register: Register) {
        self.change(|wish| {
            wish.is_wanted = true;
            wish.register = Arc::new(register);
        });
    }

    /// Tries at once what failed; what the server refused for good, under a new version.
    pub(super) fn insist(&self) {
        let is_refused = match self.last() {
            Ok(()) => return,
            Err(error) => error.is_final(),
        };
        self.wish.send_modify(|wish| {
            wish.nudges += 1;
            wish.version += i64::from(is_refused);
        });
    }

    pub(super) fn take_back(&self) {
        self.wish.send_if_modified(|wish| {
            let was_wanted = std::mem::replace(&mut wish.is_wanted, false);
            wish.version += i64::from(was_wanted);
            was_wanted
        });
    }

    /// What came of it last.
    pub(super) fn last(&self) -> Result<(), ClientError> {
        self.outcome.borrow().result.clone()
    }

    /// Waits for the first answer to what is wanted now.
    pub(super) fn answered(&self) -> impl Future<Output = Result<(), ClientError>> + Send + use<> {
        let (version, nudges) = {
            let wish = self.wish.borrow();
            (wish.version, wish.nudges)
        };
        let mut outcome = self.outcome.clone();
        async move {
            let is_for_this = |o: &Outcome| o.of.is_some_and(|(v, n)| v >= version && n >= nudges);
            match outcome.wait_for(is_for_this).await {
                Ok(outcome) => outcome.result.clone(),
                Err(_) => Err(ClientError::Closed),
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Wish)) {
        self.wish.send_modify(|wish| {
            change(wish);
            wish.version += 1;
        });
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.take_back();
    }
}

struct Keeper {
    keeping: Keeping,
    regist_id: Arc<str>,
    wishes: watch::Receiver<Wish>,
    done: watch::Sender<Outcome>,
    /// On any connection: a server may not have noticed yet that an older one is gone.
    was_sent: bool,
}

impl Keeper {
    async fn run(mut self) {
        let mut state = self.keeping.client.state();
        // Which version stands on which connection.
        let mut stands: Option<(i64, u64)> = None;
        let mut failures = 0;
        let mut is_dropped = false;
        let mut give_up_at: Option<Instant> = None;
        loop {
            let wish = self.wishes.borrow_and_update().clone();
            let connection = match &*state.borrow_and_update() {
                ClientState::Closed => return,
                state => state.connection(),
            };
            if !wish.is_wanted && self.keeping.frozen.is_cancelled() {
                return;
            }
            if !wish.is_wanted {
                let now = Instant::now();
                let is_too_late = *give_up_at.get_or_insert(now + GIVE_UP_AFTER) <= now;
                if !self.was_sent || is_too_late {
                    self.tell(&wish, Ok(()));
                    return;
                }
            } else {
                give_up_at = None;
            }
            let mut pause = None;
            let is_done = connection.is_some_and(|c| stands == Some((wish.version, c)));
            if is_done && self.done.borrow().result.is_ok() {
                // Somebody insisted while the answer was on its way.
                self.tell(&wish, Ok(()));
            }
            if let Some(connection) = connection.filter(|_| !is_done) {
                if wish.register.is_follower() && stands.is_some_and(|(_, on)| on != connection) {
                    sleep(self.keeping.spread.mul_f64(fastrand::f64())).await;
                }
                self.was_sent = true;
                let result = self.send(&wish).await;
                match &result {
                    Ok(()) => {
                        failures = 0;
                        stands = Some((wish.version, connection));
                        self.log(&wish);
                    }
                    Err(error) => {
                        self.report(&wish, error, failures);
                        if error.is_final() {
                            stands = Some((wish.version, connection));
                        } else {
                            pause = Some(pause_after(failures));
                            failures += 1;
                        }
                    }
                }
                let is_over = !wish.is_wanted && (result.is_ok() || stands.is_some_and(|(v, _)| v == wish.version));
                self.tell(&wish, result);
                if is_over {
                    return;
                }
            }
            tokio::select! {
                changed = self.wishes.changed(), if !is_dropped => is_dropped = changed.is_err(),
                changed = state.changed() => if changed.is_err() {
                    return;
                },
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                () = sleep_until(give_up_at.unwrap_or_else(Instant::now)), if give_up_at.is_some() => {}
            }
        }
    }

    async fn send(&self, wish: &Wish) -> Result<(), ClientError> {
        let event = match wish.is_wanted {
            true => EventType::Register,
            false => EventType::Unregister,
        };
        let message = wish.register.message(&self.regist_id, wish.version, event);
        let client = &self.keeping.client;
        client.register(message, &self.regist_id, wish.version).await
    }

    fn tell(&self, wish: &Wish, result: Result<(), ClientError>) {
        let of = Some((wish.version, wish.nudges));
        self.done.send_replace(Outcome { of, result });
    }

    fn log(&self, wish: &Wish) {
        if let Register::Publisher(publisher) = &*wish.register {
            let registry = &*self.keeping.registry;
            let Base { data_id, group, .. } = &publisher.base;
            match wish.is_wanted {
                true => info!(registry, service = data_id, group, "published"),
                false => info!(registry, service = data_id, group, "withdrawn"),
            }
        }
    }

    fn report(&self, wish: &Wish, error: &ClientError, failures: u32) {
        // A lost connection is told once, by the registry's state.
        if failures == 0 && !matches!(error, ClientError::Lost { .. } | ClientError::Closed) {
            let registry = &*self.keeping.registry;
            let service = &*wish.register.base().data_id;
            match error.is_final() {
                true => warn!(registry, service, reason = error.reason(), %error, "registration is not possible"),
                false => warn!(registry, service, reason = error.reason(), %error, "registration failed, trying again"),
            }
        }
    }
}

impl Register {
    pub(super) fn base(&self) -> &Base {
        match self {
            Self::Publisher(register) => &register.base,
            Self::Subscriber(register) => &register.base,
            Self::Configurator(register) => &register.base,
        }
    }

    fn is_follower(&self) -> bool {
        !matches!(self, Self::Publisher(_))
    }

    fn message(&self, regist_id: &str, version: i64, event: EventType) -> Message {
        let is_wanted = event == EventType::Register;
        let base = Base {
            regist_id: regist_id.to_owned(),
            version,
            event,
            timestamp: now_ms(),
            ..self.base().clone()
        };
        match self {
            Self::Publisher(register) => Message::PublisherRegister(PublisherRegister {
                base,
                data: if is_wanted { register.data.clone() } else { Vec::new() },
            }),
            Self::Subscriber(register) => Message::SubscriberRegister(SubscriberRegister {
                base,
                accept_encoding: register.accept_encoding.clone(),
                ..*register
            }),
            Self::Configurator(_) => Message::ConfiguratorRegister(ConfiguratorRegister { base }),
        }
    }
}

/// In the form of a version 4 UUID, as Java clients name their registrations.
fn uuid() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | 4 << 76 | 2 << 62;
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn pause_after(failures: u32) -> Duration {
    let whole = MIN_PAUSE.saturating_mul(1 << failures.min(16)).min(MAX_PAUSE);
    whole / 2 + (whole / 2).mul_f64(fastrand::f64())
}

/// Java pauses 200 ms after the first failure, 1 s after the fifth and all later ones.
const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// What is to be taken back while there is no connection is forgotten after this: the server has dropped it by then, also
/// if it must find out by silence (45 s, bolt's own default 90 s).
const GIVE_UP_AFTER: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_registrations_look_like_those_of_java() {
        let (one, other) = (uuid(), uuid());
        let groups: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{one}");
        assert_eq!(one.as_bytes()[14], b'4', "{one}");
        assert!(b"89ab".contains(&one.as_bytes()[19]), "{one}");
        assert_ne!(one, other);
    }
}
