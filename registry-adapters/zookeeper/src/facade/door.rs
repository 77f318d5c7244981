// SPDX-License-Identifier: Apache-2.0
//! One connection of an application: its requests go in, frames for the registry and for the application come out.
//!
//! ```text
//! app frame --> requests.rs --relayed, or rewritten--> registry      the registry's replies --> replies.rs --> line --> app
//!                          \--answered here------------------------------------------------------------------> line --> app
//! ```
//! This file holds the connection's state and the ways in and out; `connection.rs` moves the bytes.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use remora_registry::{Discovery, LeaseId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Shared;
use super::dirs::ListRead;
use super::farewell::Farewell;
use super::guard::Guard;
use super::learn::{Learning, is_about_the_connection};
use super::line::{Line, Origin, Place};
use super::overlap::Overlaps;
use super::sent::{Done, Sent, Then};
use super::session::State;
use super::stand_in::Home;
use super::stats::Stats;
use super::steps::Steps;
use crate::wire::reply::{encode_error, encode_event};
use crate::wire::{
    ErrorCode, EventKind, NO_ZXID, OpCode, Reader, Record, Reply, ReplyHeader, Request, RequestHeader, Text, WireError,
    begin_frame, end_frame, xid,
};

/// A connection's state.
pub(super) struct Door {
    pub(super) shared: Arc<Shared>,
    pub(super) state: Box<State>,
    /// Bytes for the application, and for the registry.
    pub(super) app_out: BytesMut,
    pub(super) up_out: BytesMut,
    pub(super) line: Line,
    /// Requests at the registry, in its order.
    pub(super) sent: VecDeque<Sent>,
    /// Lists that may change, and questions to discovery.
    pub(super) jobs: JoinSet<Done>,
    /// Reads of lists that are not known yet.
    pub(super) waiting: Vec<ListRead>,
    /// Watches on paths that never change.
    pub(super) frozen_watches: HashSet<String>,
    /// The registry's zxids are lower than what the application was shown.
    pub(super) is_behind: bool,
    /// What a session that nothing is known of had published, while that is being found out.
    pub(super) learning: Learning,
    /// Whether Remora leaves, and what it published goes.
    pub(super) farewell: Farewell,
    /// The place of a request that is taken up again.
    pub(super) held_place: Option<Place>,
    /// Watches over what it publishes.
    pub(super) guard: Guard,
    /// Number of the takeover policy in force.
    pub(super) policy: watch::Receiver<u64>,
    /// What is brought to it.
    pub(super) steps: Steps,
    /// Lists that are shown with what they showed before.
    pub(super) overlaps: Overlaps,
    /// Where the session is kept.
    pub(super) home: Home,
    /// Paths that were put into the stand-in.
    pub(super) furnished: HashSet<String>,
    /// The session was closed by the application.
    pub(super) is_closed: bool,
    next_own: i32,
}

/// Numbers of our own requests; applications count upwards from 1, and the protocol's special ones end at -8.
const FIRST_OWN_XID: i32 = i32::MIN;
const LAST_OWN_XID: i32 = -1_000_000;

impl Door {
    pub(super) fn new(shared: Arc<Shared>, state: Box<State>, is_behind: bool) -> Self {
        let line = Line::after(state.high);
        let policy = state.lease.discovery().policy();
        Self {
            shared,
            state,
            app_out: BytesMut::new(),
            up_out: BytesMut::new(),
            line,
            sent: VecDeque::new(),
            jobs: JoinSet::new(),
            waiting: Vec::new(),
            frozen_watches: HashSet::new(),
            is_behind,
            learning: Learning::Done,
            farewell: Farewell::default(),
            held_place: None,
            guard: Guard::default(),
            policy,
            steps: Steps::default(),
            overlaps: Overlaps::default(),
            home: Home::Registry,
            furnished: HashSet::new(),
            is_closed: false,
            next_own: FIRST_OWN_XID,
        }
    }

    /// Whether another request may be taken: the rest waits in the application's socket.
    pub(super) fn takes_requests(&self) -> bool {
        let config = &self.shared.config;
        !matches!(self.learning, Learning::Asked { .. })
            && !self.is_closed
            && self.line.len() < config.max_outstanding
            && self.sent.len() < config.max_outstanding
            && self.up_out.len() < config.buffer_bytes
            && self.app_out.len() < config.buffer_bytes
            && self.line.bytes() < config.buffer_bytes
    }

    /// Takes one request.
    ///
    /// # Errors
    /// When not even its head can be read. A body that cannot be read is the registry's to refuse.
    pub(super) fn on_app_frame(&mut self, frame: Bytes) -> Result<(), WireError> {
        if self.policy.has_changed().unwrap_or(false) {
            self.policy_changed();
        }
        let mut input = Reader::new(frame.clone());
        let head = RequestHeader::read(&mut input)?;
        let op = OpCode::from_wire(head.op);
        if let (Learning::Due { .. }, false) = (&self.learning, is_about_the_connection(op)) {
            self.learn(Some(frame));
            return Ok(());
        }
        let request = op.and_then(|op| Request::decode(op, input.rest()).ok());
        match request {
            Some(request) => self.on_request(head, request, frame),
            None => {
                let place = self.place();
                self.send_raw(head, &frame, place, Then::Relay);
            }
        }
        self.flush();
        Ok(())
    }

    /// Takes one reply or event of the registry.
    ///
    /// # Errors
    /// When it cannot be read or answers nothing that was asked; the two ends no longer agree then.
    pub(super) fn on_upstream_frame(&mut self, frame: Bytes) -> Result<(), DoorError> {
        let mut input = Reader::new(frame);
        let mut head = ReplyHeader::read(&mut input)?;
        let body = input.rest();
        match head.xid {
            xid::EVENT => self.on_event(head, body)?,
            // A ping stands in no line: a slow list must not look like a dead server.
            xid::PING => {
                let zxid = self.shown_zxid(head.zxid);
                // It does not tell of what still waits.
                head.zxid = if self.line.len() > 0 { self.line.shown() } else { zxid };
                put_raw_reply(head, &body, &mut self.app_out);
            }
            _ => {
                let sent = self.take_sent(head.xid)?;
                head.zxid = self.shown_zxid(head.zxid);
                self.on_reply(sent, head, body);
            }
        }
        self.flush();
        Ok(())
    }

    /// Takes a finished job.
    pub(super) fn on_done(&mut self, done: Done) {
        match done {
            Done::Changed(followed) => self.list_changed(followed),
            Done::Metadata {
                place,
                head,
                request,
                answer,
            } => self.metadata_answered(place, head, *request, answer),
            Done::Held {
                place,
                head,
                request,
                frame,
                dirs,
            } => {
                for dir in dirs {
                    self.refresh(&dir);
                }
                self.held_place = Some(place);
                self.on_request(head, *request, frame);
                self.held_place = None;
            }
        }
        self.flush();
    }

    /// When something must happen even if no byte arrives.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let reads = self.waiting.iter().map(|read| read.deadline);
        let soon = self.learning.deadline().into_iter().chain(self.guard.deadline());
        let steps = self.steps.deadline().into_iter().chain(self.overlap_deadline());
        reads.chain(soon).chain(steps).min()
    }

    /// The time of `deadline` has come.
    pub(super) fn on_deadline(&mut self) {
        self.answer_late_reads();
        self.learn_in_time();
        self.guard_in_time();
        self.step_in_time();
        self.overlap_in_time();
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        self.line.leave(&mut self.app_out);
    }

    /// The next place in the line, or the one that a request taken up again has.
    pub(super) fn place(&mut self) -> Place {
        self.held_place.take().unwrap_or_else(|| self.line.reserve())
    }

    pub(super) fn discovery(&self) -> Arc<dyn Discovery> {
        Arc::clone(self.state.lease.discovery())
    }

    pub(super) fn lease(&self) -> LeaseId {
        self.state.lease.id()
    }

    // ---- to the registry ----

    /// Sends a request on as the application sent it, or with the chroot before its path.
    pub(super) fn relay(&mut self, head: RequestHeader, request: Request, frame: &Bytes, then: Then) {
        Stats::count(&self.shared.stats.relayed);
        let place = self.place();
        let then = self.noting(&request, then);
        if self.shared.chroot.is_empty() {
            self.send_raw(head, frame, place, then);
        } else {
            self.send_as(head.xid, head.xid, request, Some(place), then);
        }
    }

    /// Sends a changed request. Its paths are the application's, or ours where it is published.
    pub(super) fn send(&mut self, head: RequestHeader, request: Request, place: Place, then: Then) {
        Stats::count(&self.shared.stats.owned);
        self.send_as(head.xid, head.xid, request, Some(place), then);
    }

    /// Sends a request of our own, to answer `app_xid` at `place`, or nothing.
    pub(super) fn send_own(&mut self, request: Request, app_xid: i32, place: Option<Place>, then: Then) {
        let xid = self.next_own;
        self.next_own = if xid >= LAST_OWN_XID { FIRST_OWN_XID } else { xid + 1 };
        self.send_as(xid, app_xid, request, place, then);
    }

    /// Sends a request of our own whose path is the registry's, and whose answer nobody needs.
    pub(super) fn send_plain(&mut self, request: &Request) {
        let xid = self.next_own;
        self.next_own = if xid >= LAST_OWN_XID { FIRST_OWN_XID } else { xid + 1 };
        request.encode_frame(xid, &mut self.up_out);
        self.sent.push_back(Sent {
            xid,
            app_xid: 0,
            op: Some(request.op()),
            place: None,
            then: Then::Ignore,
        });
    }

    fn send_as(&mut self, xid: i32, app_xid: i32, mut request: Request, place: Option<Place>, then: Then) {
        if !self.shared.chroot.is_empty() {
            self.shared.chroot.enter(&mut request);
        }
        request.encode_frame(xid, &mut self.up_out);
        self.sent.push_back(Sent {
            xid,
            app_xid,
            op: Some(request.op()),
            place,
            then,
        });
    }

    pub(super) fn send_raw(&mut self, head: RequestHeader, frame: &Bytes, place: Place, then: Then) {
        let start = begin_frame(&mut self.up_out);
        self.up_out.put_slice(frame);
        end_frame(&mut self.up_out, start);
        self.sent.push_back(Sent {
            xid: head.xid,
            app_xid: head.xid,
            op: OpCode::from_wire(head.op),
            place: Some(place),
            then,
        });
    }

    /// A ping goes on as it is; its answer takes no place in the line.
    pub(super) fn ping(&mut self, head: RequestHeader) {
        let start = begin_frame(&mut self.up_out);
        head.write(&mut self.up_out);
        end_frame(&mut self.up_out, start);
    }

    fn take_sent(&mut self, xid: i32) -> Result<Sent, DoorError> {
        let at = self.sent.iter().position(|sent| sent.xid == xid);
        // `auth` and `sasl` are answered by the server's network thread, before what waits for its pipeline.
        let may_overtake = |sent: &Sent| matches!(sent.op, Some(OpCode::Auth | OpCode::Sasl));
        match at {
            Some(0) => self.sent.pop_front().ok_or(DoorError::Unasked { xid }),
            Some(at) if self.sent.get(at).is_some_and(may_overtake) => {
                self.sent.remove(at).ok_or(DoorError::Unasked { xid })
            }
            _ => Err(DoorError::Unasked { xid }),
        }
    }

    // ---- to the application ----

    /// The zxid to show for one of the registry: never lower than before.
    pub(super) fn shown_zxid(&mut self, zxid: i64) -> i64 {
        if zxid <= 0 {
            return zxid;
        }
        self.state.high = self.state.high.max(zxid);
        self.state.high
    }

    /// Sends a request on whose place was taken before.
    pub(super) fn relay_at(&mut self, head: RequestHeader, request: Request, place: Place) {
        Stats::count(&self.shared.stats.relayed);
        let then = self.noting(&request, Then::Relay);
        self.send_as(head.xid, head.xid, request, Some(place), then);
    }

    /// Answers from here.
    pub(super) fn answer(&mut self, head: RequestHeader, reply: &Reply) {
        let place = self.place();
        self.answer_at(place, head, reply);
    }

    /// Answers from here, at a place that was taken before.
    pub(super) fn answer_at(&mut self, place: Place, head: RequestHeader, reply: &Reply) {
        Stats::count(&self.shared.stats.local);
        let mut out = BytesMut::new();
        reply.encode_frame(head.xid, self.state.high, &mut out);
        self.line.fill(place, out.freeze(), Origin::Local);
    }

    /// Refuses from here.
    pub(super) fn refuse(&mut self, head: RequestHeader, err: ErrorCode) {
        Stats::count(&self.shared.stats.local);
        let place = self.place();
        self.fill_error(place, head.xid, self.state.high, err, Origin::Local);
    }

    pub(super) fn fill(&mut self, place: Option<Place>, head: ReplyHeader, reply: &Reply) {
        let Some(place) = place else { return };
        let mut out = BytesMut::new();
        reply.encode_frame(head.xid, head.zxid, &mut out);
        self.line.fill(place, out.freeze(), Origin::Upstream);
    }

    pub(super) fn fill_raw(&mut self, place: Option<Place>, head: ReplyHeader, body: &Bytes) {
        let Some(place) = place else { return };
        let mut out = BytesMut::with_capacity(body.len() + 20);
        put_raw_reply(head, body, &mut out);
        self.line.fill(place, out.freeze(), Origin::Upstream);
    }

    pub(super) fn fill_error(&mut self, place: Place, xid: i32, zxid: i64, err: ErrorCode, origin: Origin) {
        let mut out = BytesMut::new();
        encode_error(ReplyHeader { xid, zxid, err }, &mut out);
        self.line.fill(place, out.freeze(), origin);
    }

    /// Sends an event that was made here.
    pub(super) fn fire(&mut self, kind: EventKind, path: &str) {
        Stats::count(&self.shared.stats.events);
        let mut out = BytesMut::new();
        encode_event(NO_ZXID, kind, path, &mut out);
        self.line.local_event(out.freeze(), &mut self.app_out);
    }

    /// Hands an event of the registry on, under the application's path.
    pub(super) fn pass_event(&mut self, head: ReplyHeader, kind: i32, state: i32, path: &str) {
        let mut out = BytesMut::new();
        let start = begin_frame(&mut out);
        let zxid = self.shown_zxid(head.zxid);
        ReplyHeader { zxid, ..head }.write(&mut out);
        out.put_i32(kind);
        out.put_i32(state);
        Text::from(path).write(&mut out);
        end_frame(&mut out, start);
        self.line.upstream_event(out.freeze(), &mut self.app_out);
    }
}

fn put_raw_reply(head: ReplyHeader, body: &Bytes, out: &mut BytesMut) {
    let start = begin_frame(out);
    head.write(out);
    out.put_slice(body);
    end_frame(out, start);
}

/// The registry said something that cannot be.
#[derive(Debug, thiserror::Error)]
pub(super) enum DoorError {
    #[error("the registry sent a frame that cannot be read: {0}")]
    Wire(#[from] WireError),
    #[error("the registry answered request {xid}, which is not the one in turn")]
    Unasked { xid: i32 },
}
