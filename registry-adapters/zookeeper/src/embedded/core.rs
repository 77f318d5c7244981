// SPDX-License-Identifier: Apache-2.0
//! The registry's state behind one lock, and the life of a request in it.
//!
//! Everything here is immediate: a change is made in memory, its events and its reply go into outboxes, and leave them
//! once the change is on disk. Reads are held back likewise, so nobody sees what a crash could still undo.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tracing::{debug, info};

use super::Options;
use super::access::{self, Identity};
use super::node::Moment;
use super::outbox::Outbox;
use super::session::{self, Sessions};
use super::tree::{self, Tree};
use super::watch::{ConnId, Event, Watches};
use crate::wire::reply::{encode_error, encode_event};
use crate::wire::{
    Acl, ConnectRequest, ConnectResponse, ErrorCode, EventKind, OpCode, Reader, Record, Reply, ReplyHeader, Request,
    RequestHeader, Seq, WireError, begin_frame, end_frame, perms, xid,
};

/// All of it.
pub(super) struct Core {
    pub(super) tree: Tree,
    pub(super) watches: Watches,
    pub(super) sessions: Sessions,
    pub(super) options: Options,
    conns: HashMap<ConnId, Conn>,
    next_conn: ConnId,
    zxid: i64,
    // Number of the last change that has to reach the disk before what is sent after it.
    seq: u64,
    pub(super) is_closing: bool,
    next_containers: Instant,
    next_upkeep: Instant,
}

/// One connection.
pub(super) struct Conn {
    outbox: Arc<Outbox>,
    session: Option<i64>,
    identities: Arc<Vec<Identity>>,
    peer: IpAddr,
}

/// Who asks, while a request is answered.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) conn: ConnId,
    pub(super) session: i64,
    pub(super) identities: Arc<Vec<Identity>>,
}

impl Asker {
    pub(super) fn may(&self, acl: &Seq<Acl>, perm: i32) -> Result<(), ErrorCode> {
        if access::allows(acl, perm, &self.identities) {
            Ok(())
        } else {
            Err(ErrorCode::NO_AUTH)
        }
    }
}

/// What goes to disk in one transaction.
pub(super) struct Batch {
    pub(super) seq: u64,
    pub(super) zxid: i64,
    pub(super) nodes: Vec<tree::Change>,
    pub(super) sessions: Vec<session::Change>,
}

/// Why a connection is closed without a word.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Refusal {
    #[error("a frame cannot be read: {0}")]
    Wire(#[from] WireError),
    #[error("it saw zxid 0x{seen:x}, ours is 0x{ours:x}; is it a client of another registry?")]
    ZxidAhead { seen: i64, ours: i64 },
    #[error("there are {0} sessions, as many as allowed")]
    Sessions(usize),
    #[error("it is no longer connected")]
    Gone,
}

impl Core {
    pub(super) fn new(tree: Tree, sessions: Sessions, zxid: i64, options: Options) -> Self {
        let now = Instant::now();
        Self {
            tree,
            watches: Watches::default(),
            sessions,
            conns: HashMap::new(),
            next_conn: 1,
            zxid,
            seq: 0,
            is_closing: false,
            next_containers: now + options.container_check,
            next_upkeep: now,
            options,
        }
    }

    /// A new connection; `None` if there are too many.
    pub(super) fn open_conn(&mut self, outbox: Arc<Outbox>, peer: IpAddr) -> Option<ConnId> {
        if self.conns.len() >= self.options.max_connections {
            return None;
        }
        let id = self.next_conn;
        self.next_conn += 1;
        let identities = Arc::new(vec![Identity::ip(peer)]);
        let conn = Conn {
            outbox,
            session: None,
            identities,
            peer,
        };
        self.conns.insert(id, conn);
        Some(id)
    }

    /// A connection is gone. Its session stays until it expires.
    pub(super) fn close_conn(&mut self, id: ConnId) {
        self.watches.drop_conn(id);
        if let Some(conn) = self.conns.remove(&id)
            && let Some(session) = conn.session
        {
            self.sessions.disconnect(session, id);
        }
    }

    /// Answers a connection's first frame.
    pub(super) fn connect(&mut self, id: ConnId, frame: Bytes) -> Result<(), Refusal> {
        let request = ConnectRequest::read(&mut Reader::new(frame))?;
        if request.last_zxid_seen > self.zxid {
            return Err(Refusal::ZxidAhead {
                seen: request.last_zxid_seen,
                ours: self.zxid,
            });
        }
        let now = Instant::now();
        let asked = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        let timeout = asked.clamp(self.options.min_session_timeout, self.options.max_session_timeout);
        let session = if request.session_id == 0 {
            if self.sessions.len() >= self.options.max_sessions {
                return Err(Refusal::Sessions(self.sessions.len()));
            }
            self.zxid += 1;
            let session = self.sessions.open(timeout, id, now);
            self.changed();
            debug!(session = format_args!("0x{session:x}"), ?timeout, "session opened");
            session
        } else if self.sessions.knows(request.session_id, &request.password) {
            if let Some(before) = self.sessions.resume(request.session_id, timeout, id, now) {
                self.drop_moved(before);
            }
            self.changed();
            debug!(session = format_args!("0x{:x}", request.session_id), "session resumed");
            request.session_id
        } else {
            self.answer_expired(id, &request)?;
            return Ok(());
        };
        let response = ConnectResponse {
            protocol_version: 0,
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            session_id: session,
            password: Bytes::copy_from_slice(&self.sessions.password(session)),
            read_only: request.read_only.map(|_| false),
        };
        let conn = self.conns.get_mut(&id).ok_or(Refusal::Gone)?;
        conn.session = Some(session);
        conn.outbox.push(self.seq, |out| framed(&response, out));
        Ok(())
    }

    fn answer_expired(&self, id: ConnId, request: &ConnectRequest) -> Result<(), Refusal> {
        let conn = self.conns.get(&id).ok_or(Refusal::Gone)?;
        let response = ConnectResponse::expired(request.read_only);
        conn.outbox.push(self.seq, |out| framed(&response, out));
        conn.outbox.finish();
        Ok(())
    }

    // The session's client has another connection now; this one must hear nothing more.
    fn drop_moved(&mut self, id: ConnId) {
        self.watches.drop_conn(id);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.session = None;
            conn.outbox.cut();
        }
    }

    /// Answers one frame of a connection that has a session.
    pub(super) fn request(&mut self, id: ConnId, frame: Bytes) -> Result<(), Refusal> {
        let conn = self.conns.get(&id).ok_or(Refusal::Gone)?;
        let asker = Asker {
            conn: id,
            session: conn.session.ok_or(Refusal::Gone)?,
            identities: conn.identities.clone(),
        };
        let outbox = conn.outbox.clone();
        self.sessions.touch(asker.session, Instant::now());
        let mut input = Reader::new(frame);
        let head = RequestHeader::read(&mut input)?;
        let Some(op) = OpCode::from_wire(head.op).filter(|op| is_for_clients(*op)) else {
            // A real server closes behind it (`UnimplementedRequestProcessor`).
            self.reply(&outbox, head.xid, Err(ErrorCode::UNIMPLEMENTED));
            outbox.finish();
            return Ok(());
        };
        let request = match Request::decode(op, input.rest()) {
            Ok(request) => request,
            Err(e) => {
                debug!(reason = e.reason(), "request cannot be read");
                // As `PrepRequestProcessor.pRequestHelper`.
                if op == OpCode::Multi {
                    self.zxid += 1;
                }
                self.reply(&outbox, head.xid, Err(ErrorCode::MARSHALLING_ERROR));
                return Ok(());
            }
        };
        match request {
            Request::Ping => self.reply(&outbox, xid::PING, Ok(Reply::Empty)),
            Request::Auth(auth) => self.authenticate(&asker, &outbox, head.xid, &auth.scheme, auth.auth.as_deref()),
            Request::CloseSession => {
                self.end_session(asker.session, "closed");
                self.reply(&outbox, head.xid, Ok(Reply::Empty));
                outbox.finish();
            }
            request => {
                let answer = self.answer(&asker, request);
                self.reply(&outbox, head.xid, answer);
            }
        }
        Ok(())
    }

    fn answer(&mut self, asker: &Asker, request: Request) -> Result<Reply, ErrorCode> {
        if request.op().is_write() {
            let at = self.next_moment();
            let mut events = Vec::new();
            let answer = self.write(asker, at, request, &mut events);
            self.changed();
            for event in events {
                self.fire(at.zxid, &event);
            }
            return answer;
        }
        self.read(asker, request)
    }

    fn authenticate(&mut self, asker: &Asker, outbox: &Outbox, number: i32, scheme: &str, auth: Option<&[u8]>) {
        let identity = match scheme {
            "digest" => Some(Identity::digest(auth.unwrap_or_default())),
            "ip" => self.conns.get(&asker.conn).map(|conn| Identity::ip(conn.peer)),
            _ => None,
        };
        let err = match identity {
            Some(identity) => {
                if let Some(conn) = self.conns.get_mut(&asker.conn)
                    && !conn.identities.contains(&identity)
                    && conn.identities.len() < MAX_IDENTITIES
                {
                    Arc::make_mut(&mut conn.identities).push(identity);
                }
                ErrorCode::OK
            }
            None => ErrorCode::AUTH_FAILED,
        };
        let head = ReplyHeader {
            xid: number,
            zxid: 0,
            err,
        };
        outbox.push(self.seq, |out| encode_error(head, out));
        if !err.is_ok() {
            outbox.finish();
        }
    }

    fn reply(&self, outbox: &Outbox, number: i32, answer: Result<Reply, ErrorCode>) {
        let zxid = self.zxid;
        outbox.push(self.seq, |out| match answer {
            Ok(reply) => reply.encode_frame(number, zxid, out),
            Err(err) => encode_error(ReplyHeader { xid: number, zxid, err }, out),
        });
    }

    /// Ends a session: its nodes go, its connection is told nothing.
    pub(super) fn end_session(&mut self, session: i64, why: &'static str) -> Option<ConnId> {
        let ended = self.sessions.close(session)?;
        let at = self.next_moment();
        let owned: Vec<Arc<str>> = self.tree.ephemerals(session).cloned().collect();
        info!(
            session = format_args!("0x{session:x}"),
            nodes = owned.len(),
            why,
            "session ended"
        );
        let mut removed = Vec::new();
        for path in owned {
            if let Some(node) = self.tree.delete(&path, at.zxid) {
                removed.push((path, node.acl));
            }
        }
        self.changed();
        for (path, acl) in removed {
            self.fire_deleted(at.zxid, &path, Some(&acl));
        }
        ended.conn
    }

    /// Removes nodes whose session is not known: the file of a registry that was edited by hand, or a lost session.
    pub(super) fn end_orphans(&mut self) {
        let orphaned: Vec<i64> = self.tree.owners().filter(|id| !self.sessions.is_live(*id)).collect();
        for session in orphaned {
            let at = self.next_moment();
            let owned: Vec<Arc<str>> = self.tree.ephemerals(session).cloned().collect();
            for path in owned {
                self.tree.delete(&path, at.zxid);
            }
        }
    }

    /// Time and number of the next change.
    pub(super) fn next_moment(&mut self) -> Moment {
        self.zxid += 1;
        Moment {
            zxid: self.zxid,
            ms: now_ms(),
        }
    }

    /// Tells those who watch.
    pub(super) fn fire(&mut self, zxid: i64, event: &Event) {
        match event.kind {
            EventKind::NodeDeleted => self.fire_deleted(zxid, &event.path, event.acl.as_ref()),
            EventKind::NodeCreated => {
                let told = self.watches.data_event(&event.path);
                self.tell(told, zxid, event.kind, &event.path, event.acl.as_ref());
                self.fire_children(zxid, &event.path);
            }
            kind => {
                let told = self.watches.data_event(&event.path);
                self.tell(told, zxid, kind, &event.path, event.acl.as_ref());
            }
        }
    }

    fn fire_deleted(&mut self, zxid: i64, path: &str, acl: Option<&Seq<Acl>>) {
        let told = self.watches.deleted_event(path);
        self.tell(told, zxid, EventKind::NodeDeleted, path, acl);
        self.fire_children(zxid, path);
    }

    fn fire_children(&mut self, zxid: i64, path: &str) {
        let Some((parent, _)) = tree::split(path) else { return };
        let told = self.watches.child_event(parent);
        let acl = self.tree.node(parent).map(|node| node.acl.clone());
        self.tell(told, zxid, EventKind::NodeChildrenChanged, parent, acl.as_ref());
    }

    // Who may not read a node is not told of it (ZooKeeper from 3.9.2 and 3.8.4 on).
    fn tell(&self, conns: BTreeSet<ConnId>, zxid: i64, kind: EventKind, path: &str, acl: Option<&Seq<Acl>>) {
        for id in conns {
            let Some(conn) = self.conns.get(&id) else { continue };
            if acl.is_none_or(|acl| access::allows(acl, perms::READ, &conn.identities)) {
                self.tell_one(conn, zxid, kind, path);
            }
        }
    }

    fn tell_one(&self, conn: &Conn, zxid: i64, kind: EventKind, path: &str) {
        conn.outbox.push(self.seq, |out| encode_event(zxid, kind, path, out));
        if conn.outbox.is_over(self.options.max_out_bytes) {
            conn.outbox.cut();
        }
    }

    /// Tells one connection, of something that happened while it was away.
    pub(super) fn tell_late(&self, conn: ConnId, kind: EventKind, path: &str) {
        if let Some(conn) = self.conns.get(&conn) {
            self.tell_one(conn, crate::wire::NO_ZXID, kind, path);
        }
    }

    // What is sent from now on waits for what is changed up to now.
    fn changed(&mut self) {
        if self.is_dirty() {
            self.seq += 1;
        }
    }

    /// Whether something has to go to disk.
    pub(super) fn is_dirty(&self) -> bool {
        self.tree.is_changed() || self.sessions.is_changed()
    }

    /// Takes what has to go to disk.
    pub(super) fn take_batch(&mut self) -> Batch {
        Batch {
            seq: self.seq,
            zxid: self.zxid,
            nodes: self.tree.take_changes(),
            sessions: self.sessions.take_changes(),
        }
    }

    /// Ends what has outlived its time; when to look again.
    pub(super) fn upkeep(&mut self, now: Instant) -> Instant {
        // Woken much too late, this process was stopped, and nobody could be heard meanwhile.
        let late = now.saturating_duration_since(self.next_upkeep);
        if late >= PAUSE {
            self.sessions.forgive(late);
        }
        for session in self.sessions.expired(now) {
            if let Some(conn) = self.end_session(session, "expired") {
                self.drop_moved(conn);
            }
        }
        if now >= self.next_containers {
            self.next_containers = now + self.options.container_check;
            self.remove_outlived();
        }
        // A session opened after this look lives at least as long as the shortest.
        let newest = now + self.options.min_session_timeout;
        let expiry = self.sessions.next_expiry().unwrap_or(newest).min(newest);
        self.next_upkeep = expiry.min(self.next_containers);
        self.next_upkeep
    }

    fn remove_outlived(&mut self) {
        for path in self.tree.outlived(now_ms()) {
            let at = self.next_moment();
            if let Some(node) = self.tree.delete(&path, at.zxid) {
                debug!(path = &*path, "container or TTL node outlived");
                self.changed();
                self.fire_deleted(at.zxid, &path, Some(&node.acl));
            }
        }
    }

    /// When [`Core::upkeep`] is due.
    pub(super) fn upkeep_due(&self) -> Instant {
        self.next_upkeep
    }

    /// The last change's zxid.
    pub(super) fn zxid(&self) -> i64 {
        self.zxid
    }

    /// How many connections there are.
    pub(super) fn connection_count(&self) -> usize {
        self.conns.len()
    }

    /// Frames that wait to be sent.
    pub(super) fn waiting_frames(&self) -> usize {
        self.conns.values().map(|conn| conn.outbox.len().0).sum()
    }

    /// Some connections: peer, session.
    pub(super) fn some_connections(&self, limit: usize) -> Vec<(IpAddr, Option<i64>)> {
        self.conns
            .values()
            .take(limit)
            .map(|conn| (conn.peer, conn.session))
            .collect()
    }
}

/// Time now, as nodes are stamped with it.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn framed(record: &impl Record, out: &mut BytesMut) {
    let start = begin_frame(out);
    record.write(out);
    end_frame(out, start);
}

// `Request.isValid`; `check` stands in multi only.
fn is_for_clients(op: OpCode) -> bool {
    !matches!(op, OpCode::Notification | OpCode::CreateSession | OpCode::Check)
}

// Each `auth` adds one; a client has one or two.
const MAX_IDENTITIES: usize = 64;
// Longer than any scheduling delay, shorter than any session.
const PAUSE: Duration = Duration::from_secs(1);
