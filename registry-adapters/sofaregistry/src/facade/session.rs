// SPDX-License-Identifier: Apache-2.0
//! One client's connection: its requests go in, answers and pushes come out.
//!
//! ```text
//! frame --> decode --> publish.rs    publishers           --> answer, at once: whatever the registry behind does
//!                  +-> follow.rs     subscribers, configurators     push.rs --> push --> awaited, again until taken
//!                  `-> heartbeats, settings
//! ```
//! This file holds the connection's state and the ways in and out; `connection.rs` moves the bytes.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use remora_bolt::frame::{Kind as FrameType, Parts, Version};
use remora_bolt::{Reply, Request, codec, heartbeat_ack, status};
use remora_protocol::{Frame, FrameKind};
use remora_registry::peers::{Sockets, User, Users};
use remora_registry::{Discovery, Lease, LeaseId, LeaseInfo};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Shared;
use super::applications::AppId;
use super::follow::Watches;
use super::push::{Feeds, Key, Pace};
use super::stats::{Raised, Stats};
use crate::wire::{
    self, DEFAULT_DATA_CENTER, EventType, Message, RegisterResponse, Registration, SyncConfigResponse, WireError,
};

/// A connection's state.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) discovery: Arc<dyn Discovery>,
    pub(super) peer: SocketAddr,
    /// Whose process it is, and the sockets of this host, as far as the system told at the last look.
    pub(super) user: User,
    pub(super) sockets: Option<Arc<Sockets>>,
    looked: Option<Instant>,
    /// Its age among all connections.
    pub(super) rank: u64,
    /// Version of the client's frames; ours are of the same.
    version: Version,
    /// Bytes for the client.
    pub(super) out: BytesMut,
    /// What it publishes; made with the first registration.
    app: Option<(AppId, LeaseId)>,
    is_named: bool,
    pub(super) feeds: Feeds,
    pub(super) watches: Watches,
    /// Subscribers and configurators by registration id.
    pub(super) followers: HashMap<Arc<str>, Follower>,
    pace: Pace,
    /// How long what it publishes stays when it is gone.
    grace: Duration,
}

/// A subscriber or configurator.
pub(super) struct Follower {
    pub(super) key: Key,
    pub(super) _counted: Raised,
}

/// What becomes of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Taken. The registry behind gets it when it can.
    Taken,
    /// Not now: the client tries again within a second.
    Later(String),
    /// Never: the client gives this registration up, and says so in its log.
    Refused(String),
}

/// The client said something that cannot be.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("a frame of {body_len} bytes is over the limit and no request")]
    TooLong { body_len: u64 },
    #[error("a frame without a head")]
    NoHead,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, discovery: Arc<dyn Discovery>, peer: SocketAddr) -> Self {
        let pace = Pace {
            first_wait: shared.config.first_list_wait,
            debounce: shared.config.debounce,
            timeout: shared.config.push_timeout,
        };
        Self {
            discovery,
            peer,
            user: User::Unknown,
            sockets: None,
            looked: None,
            rank: shared.applications.rank(),
            version: Version::V1,
            out: BytesMut::new(),
            app: None,
            is_named: false,
            feeds: Feeds::new(pace),
            watches: Watches::default(),
            followers: HashMap::new(),
            pace,
            grace: shared.config.grace,
            shared,
        }
    }

    /// What an application published before this process: as if its connection was lost now, and will be back in time.
    pub(super) fn of_former_run(
        shared: Arc<Shared>,
        discovery: Arc<dyn Discovery>,
        grace: Duration,
        owner: Option<u32>,
    ) -> Self {
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut session = Self::new(shared, discovery, nobody);
        session.grace = grace;
        session.user = owner.map_or(User::Unknown, User::Uid);
        session.rank = 0;
        session
    }

    /// Asks the system whose process this is and who listens on which port, if it was not asked a moment ago.
    pub(super) async fn look(&mut self, users: &Users, local: SocketAddr) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return;
        }
        let (user, sockets) = users.of(self.peer, local).await;
        // It is the same process as before, though its end may be closed by now.
        if !matches!((self.user, user), (User::Uid(_), User::Elsewhere(_))) {
            self.user = user;
        }
        (self.sockets, self.looked) = (sockets, Some(Instant::now()));
    }

    /// Whether the client registered anything yet.
    pub(super) fn is_in_use(&self) -> bool {
        self.app.is_some() || !self.followers.is_empty()
    }

    /// Takes one frame.
    ///
    /// # Errors
    /// When not even its head can be read.
    pub(super) fn on_frame(&mut self, frame: &Frame, now: Instant) -> Result<(), SessionError> {
        let parts = Parts::of(&frame.wire).ok_or(SessionError::NoHead)?;
        self.version = parts.head.version;
        match frame.kind {
            FrameKind::Heartbeat => self.out.extend_from_slice(&heartbeat_ack(self.version, parts.head.id)),
            FrameKind::Request => self.on_request(&parts, now),
            FrameKind::Reply => self.on_reply(&parts, now),
            // Clients send none of these.
            _ => debug!(registry = "sofaregistry", peer = %self.peer, kind = ?frame.kind, "frame ignored"),
        }
        Ok(())
    }

    /// Takes the head of a frame over the limit, whose content is dropped.
    ///
    /// # Errors
    /// When it is no request: it answers a push, so nothing sensible.
    pub(super) fn on_too_long(&mut self, head: &Frame, body_len: u64) -> Result<(), SessionError> {
        let parts = Parts::of(&head.wire).ok_or(SessionError::NoHead)?;
        if parts.head.kind != FrameType::Request {
            return Err(SessionError::TooLong { body_len });
        }
        Stats::count(&self.shared.stats.oversized);
        let max = self.shared.config.max_frame_bytes;
        let message =
            format!("Remora refuses it: its {body_len} bytes are over the limit of {max} for one registration");
        warn!(registry = "sofaregistry", peer = %self.peer, body_len, "registration over the limit refused");
        // The client looks at nothing else of an answer that refuses. It would send the same again and again otherwise.
        let answer = RegisterResponse {
            success: true,
            refused: true,
            message: Some(message),
            ..RegisterResponse::default()
        };
        self.reply(parts.head.id, &Message::RegisterResponse(answer));
        Ok(())
    }

    fn on_request(&mut self, parts: &Parts<'_>, now: Instant) {
        let id = parts.head.id;
        let class = std::str::from_utf8(parts.class).unwrap_or_default();
        if parts.head.codec != codec::HESSIAN2 {
            let codec = parts.head.codec;
            warn!(registry = "sofaregistry", peer = %self.peer, codec, "only hessian is spoken here");
            return self.fail(id, status::CODEC_EXCEPTION);
        }
        match Message::decode(class, parts.content, &self.limits()) {
            Ok(message) => match self.answer(message, now) {
                Some(answer) => self.reply(id, &answer),
                None => self.fail(id, status::NO_PROCESSOR),
            },
            Err(e) => {
                warn!(registry = "sofaregistry", peer = %self.peer, reason = e.reason(), %e, "request cannot be read");
                let status = match e {
                    WireError::UnknownClass { .. } => status::NO_PROCESSOR,
                    _ => status::CODEC_EXCEPTION,
                };
                self.fail(id, status);
            }
        }
    }

    fn on_reply(&mut self, parts: &Parts<'_>, now: Instant) {
        let class = std::str::from_utf8(parts.class).unwrap_or_default();
        let is_taken = parts.head.status == status::SUCCESS
            && match Message::decode(class, parts.content, &self.limits()) {
                Ok(Message::PushResult(result)) => result.success,
                _ => false,
            };
        if self.feeds.answered(parts.head.id, is_taken, now) && !is_taken {
            Stats::count(&self.shared.stats.push_failures);
            debug!(registry = "sofaregistry", peer = %self.peer, status = parts.head.status, "push was not taken");
        }
    }

    fn answer(&mut self, message: Message, now: Instant) -> Option<Message> {
        let (base, word, verdict) = match message {
            Message::PublisherRegister(register) => {
                let verdict = self.checked(&register.base, |session| session.publisher(&register));
                (register.base, "Publisher", verdict)
            }
            Message::SubscriberRegister(register) => {
                let verdict = self.checked(&register.base, |session| session.subscriber(&register, now));
                (register.base, "Subscriber", verdict)
            }
            Message::ConfiguratorRegister(register) => {
                let verdict = self.checked(&register.base, |session| session.configurator(&register.base, now));
                (register.base, "ConfiguratorRegister", verdict)
            }
            Message::SyncConfigRequest(_) => {
                return Some(Message::SyncConfigResponse(SyncConfigResponse {
                    success: true,
                    message: None,
                    available_segments: vec![DEFAULT_DATA_CENTER.to_owned()],
                    retry_interval: 0,
                }));
            }
            _ => return None,
        };
        Stats::count(&self.shared.stats.registrations);
        self.log(&base, word, &verdict);
        let (success, refused, message) = match verdict {
            // The words of a real session server.
            Verdict::Taken => (true, false, format!("{word} register success!")),
            Verdict::Later(why) => (false, false, format!("Remora cannot take it now: {why}")),
            Verdict::Refused(why) => (true, true, format!("Remora refuses it: {why}")),
        };
        Some(Message::RegisterResponse(RegisterResponse {
            success,
            regist_id: base.regist_id,
            version: base.version,
            refused,
            message: Some(message),
        }))
    }

    fn checked(&mut self, base: &Registration, take: impl FnOnce(&mut Self) -> Verdict) -> Verdict {
        for (name, text) in [
            ("registId", &base.regist_id),
            ("dataId", &base.data_id),
            ("group", &base.group),
        ] {
            if text.is_empty() {
                return Verdict::Later(format!("{name} is missing"));
            }
            if text.len() > MAX_NAME {
                return Verdict::Refused(format!("{name} is longer than {MAX_NAME} bytes"));
            }
        }
        match &base.event {
            EventType::Register | EventType::Unregister => take(self),
            // As a real session server.
            EventType::Other(_) => Verdict::Taken,
        }
    }

    fn log(&self, base: &Registration, what: &str, verdict: &Verdict) {
        let stats = &self.shared.stats;
        let (data_id, group, application) = (&base.data_id, &base.group, base.app_name.as_deref().unwrap_or_default());
        match verdict {
            Verdict::Taken => {
                debug!(registry = "sofaregistry", data_id, group, application, what, event = ?base.event, "registration taken");
            }
            Verdict::Later(why) => {
                Stats::count(&stats.postponed_registrations);
                info!(registry = "sofaregistry", data_id, group, application, what, %why, "registration postponed");
            }
            Verdict::Refused(why) => {
                Stats::count(&stats.refused_registrations);
                warn!(registry = "sofaregistry", data_id, group, application, what, %why, "registration refused");
            }
        }
    }

    /// The application and its lease, opened with the first registration.
    pub(super) fn lease(&mut self, base: &Registration) -> (AppId, LeaseId) {
        let name = base.app_name.as_deref().unwrap_or_default();
        let (app, lease) = match self.app {
            Some(known) => known,
            None => {
                let lease = Lease::open(
                    Arc::clone(&self.discovery),
                    LeaseInfo {
                        facade: super::NAME,
                        registry: Arc::clone(&self.shared.registry),
                        application: name.to_owned(),
                        peer: self.peer.to_string(),
                    },
                );
                self.is_named = !name.is_empty();
                let lease_id = lease.id();
                let owner = self.user.uid();
                (self.shared.applications.open(lease, self.rank, owner), lease_id)
            }
        };
        self.app = Some((app, lease));
        if !self.is_named && !name.is_empty() {
            self.is_named = true;
            self.discovery.name_lease(lease, name);
        }
        (app, lease)
    }

    /// The application, if it registered something.
    pub(super) fn known_lease(&self) -> Option<(AppId, LeaseId)> {
        self.app
    }

    /// Writes pushes that are due, as long as the client reads.
    pub(super) fn push_due(&mut self, now: Instant) {
        while self.out.len() < self.shared.config.buffer_bytes
            && let Some(push) = self.feeds.next(&self.shared.clock, now)
        {
            Stats::count(&self.shared.stats.pushes);
            if push.failures == NOTABLE_FAILURES {
                warn!(registry = "sofaregistry", peer = %self.peer, "the application does not take a push, trying on");
            }
            let request = Request {
                version: self.version,
                id: push.id,
                timeout: Some(self.pace.timeout),
                class: push.message.class(),
                content: &push.message.encode(),
                ..Request::default()
            };
            match request.to_frame() {
                Ok(frame) => self.out.extend_from_slice(&frame),
                Err(e) => warn!(registry = "sofaregistry", peer = %self.peer, reason = e.reason(), %e, "push left out"),
            }
        }
    }

    fn reply(&mut self, id: u32, message: &Message) {
        let reply = Reply {
            version: self.version,
            id,
            class: message.class(),
            content: &message.encode(),
            ..Reply::default()
        };
        if let Ok(frame) = reply.to_frame() {
            self.out.extend_from_slice(&frame);
        }
    }

    /// A bare status: legal for every request.
    fn fail(&mut self, id: u32, status: u16) {
        Stats::count(&self.shared.stats.unreadable);
        let reply = Reply {
            version: self.version,
            id,
            status,
            ..Reply::default()
        };
        if let Ok(frame) = reply.to_frame() {
            self.out.extend_from_slice(&frame);
        }
    }

    fn limits(&self) -> wire::Limits {
        wire::Limits {
            max_content_bytes: self.shared.config.max_frame_bytes,
            max_items: MAX_ITEMS,
            max_decoded_bytes: self.shared.config.max_frame_bytes.saturating_mul(16),
        }
    }
}

/// The connection is lost or closed; its publishers stay for the grace.
impl Drop for Session {
    fn drop(&mut self) {
        if let Some((app, _)) = self.app {
            let until = Instant::now() + self.grace;
            self.shared.applications.leave(app, until);
        }
    }
}

/// Between looks at whose sockets are whose, while a client registers one thing after the other.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Longest dataId, group or registration id, in bytes.
const MAX_NAME: usize = 4096;
/// Values of one registration: a line takes two or three.
const MAX_ITEMS: usize = 200_000;
/// The application may be paused; after three times it is worth a line.
const NOTABLE_FAILURES: u32 = 3;
