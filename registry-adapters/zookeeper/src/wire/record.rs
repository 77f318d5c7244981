// SPDX-License-Identifier: Apache-2.0
//! Heads of frames and the records inside them.

use bytes::{BufMut, Bytes, BytesMut};

use super::jute::{put_buffer, put_text};
use super::{ErrorCode, Reader, Record, Text, WireError};

/// Transaction ids that requests and replies carry instead of a running number.
pub mod xid {
    /// A watch event.
    pub const EVENT: i32 = -1;
    /// A ping and its answer.
    pub const PING: i32 = -2;
    /// An `auth` and its answer.
    pub const AUTH: i32 = -4;
    /// `setWatches` of C clients; others use a running number.
    pub const SET_WATCHES: i32 = -8;
}

/// zxid of an event that belongs to no transaction.
pub const NO_ZXID: i64 = -1;

/// Head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The client's number for it.
    pub xid: i32,
    /// Operation, see [`super::OpCode`].
    pub op: i32,
}

impl Record for RequestHeader {
    const MIN_BYTES: usize = 8;

    fn read(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            xid: input.int("xid")?,
            op: input.int("type")?,
        })
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_i32(self.xid);
        out.put_i32(self.op);
    }
}

/// Head of a reply. A body follows only when `err` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The request's number, or one of [`xid`].
    pub xid: i32,
    /// The server's last transaction, or the one of this write.
    pub zxid: i64,
    /// What came of it.
    pub err: ErrorCode,
}

impl Record for ReplyHeader {
    const MIN_BYTES: usize = 16;

    fn read(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            xid: input.int("xid")?,
            zxid: input.long("zxid")?,
            err: ErrorCode(input.int("err")?),
        })
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_i32(self.xid);
        out.put_i64(self.zxid);
        out.put_i32(self.err.0);
    }
}

/// First frame of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// 0.
    pub protocol_version: i32,
    /// Highest zxid the client saw.
    pub last_zxid_seen: i64,
    /// Session timeout asked for, in ms.
    pub timeout_ms: i32,
    /// 0 for a new session.
    pub session_id: i64,
    /// 16 bytes.
    pub password: Bytes,
    /// Whether a read-only server would do; `None` when the client does not know the field (go-zk, clients up to 3.3).
    pub read_only: Option<bool>,
}

impl Record for ConnectRequest {
    const MIN_BYTES: usize = 28;

    fn read(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            protocol_version: input.int("protocolVersion")?,
            last_zxid_seen: input.long("lastZxidSeen")?,
            timeout_ms: input.int("timeOut")?,
            session_id: input.long("sessionId")?,
            password: input.buffer("passwd")?.unwrap_or_default(),
            read_only: optional_flag(input)?,
        })
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_i32(self.protocol_version);
        out.put_i64(self.last_zxid_seen);
        out.put_i32(self.timeout_ms);
        out.put_i64(self.session_id);
        put_buffer(out, Some(&self.password));
        if let Some(flag) = self.read_only {
            out.put_u8(u8::from(flag));
        }
    }
}

/// First frame of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// 0.
    pub protocol_version: i32,
    /// Session timeout granted, in ms; 0 says that the session is gone.
    pub timeout_ms: i32,
    /// 0 when the session is gone.
    pub session_id: i64,
    /// 16 bytes.
    pub password: Bytes,
    /// Present exactly when the request had it.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// The answer to a client whose session is gone.
    pub fn expired(read_only: Option<bool>) -> Self {
        Self {
            protocol_version: 0,
            timeout_ms: 0,
            session_id: 0,
            password: Bytes::from_static(&[0; 16]),
            read_only: read_only.map(|_| false),
        }
    }
}

impl Record for ConnectResponse {
    const MIN_BYTES: usize = 20;

    fn read(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            protocol_version: input.int("protocolVersion")?,
            timeout_ms: input.int("timeOut")?,
            session_id: input.long("sessionId")?,
            password: input.buffer("passwd")?.unwrap_or_default(),
            read_only: optional_flag(input)?,
        })
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_i32(self.protocol_version);
        out.put_i32(self.timeout_ms);
        out.put_i64(self.session_id);
        put_buffer(out, Some(&self.password));
        if let Some(flag) = self.read_only {
            out.put_u8(u8::from(flag));
        }
    }
}

fn optional_flag(input: &mut Reader) -> Result<Option<bool>, WireError> {
    if input.left() == 0 {
        return Ok(None);
    }
    input.boolean("readOnly").map(Some)
}

/// A node's figures.
// offset  bytes  field
//      0      8  czxid, zxid of the create
//      8      8  mzxid, zxid of the last setData
//     16      8  ctime, ms
//     24      8  mtime, ms
//     32      4  version, setData count
//     36      4  cversion, changes of the child list
//     40      4  aversion, setACL count
//     44      8  ephemeralOwner, session id or 0
//     52      4  dataLength
//     56      4  numChildren
//     60      8  pzxid, zxid of the last change of the child list
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table above")]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

impl Record for Stat {
    const MIN_BYTES: usize = 68;

    fn read(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            czxid: input.long("czxid")?,
            mzxid: input.long("mzxid")?,
            ctime: input.long("ctime")?,
            mtime: input.long("mtime")?,
            version: input.int("version")?,
            cversion: input.int("cversion")?,
            aversion: input.int("aversion")?,
            ephemeral_owner: input.long("ephemeralOwner")?,
            data_length: input.int("dataLength")?,
            num_children: input.int("numChildren")?,
            pzxid: input.long("pzxid")?,
        })
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_i64(self.czxid);
        out.put_i64(self.mzxid);
        out.put_i64(self.ctime);
        out.put_i64(self.mtime);
        out.put_i32(self.version);
        out.put_i32(self.cversion);
        out.put_i32(self.aversion);
        out.put_i64(self.ephemeral_owner);
        out.put_i32(self.data_length);
        out.put_i32(self.num_children);
        out.put_i64(self.pzxid);
    }
}

/// One entry of an access list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acl {
    /// Bits of [`super::perms`].
    pub perms: i32,
    /// `world`, `auth`, `digest`, `ip`, ...
    pub scheme: Text,
    /// Who, in the scheme's own form.
    pub id: Text,
}

impl Acl {
    /// Everything for everyone.
    pub fn open() -> Self {
        Self {
            perms: super::perms::ALL,
            scheme: Text::from("world"),
            id: Text::from("anyone"),
        }
    }
}

impl Record for Acl {
    const MIN_BYTES: usize = 12;

    fn read(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            perms: input.int("perms")?,
            scheme: input.text("scheme")?,
            id: input.text("id")?,
        })
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_i32(self.perms);
        put_text(out, &self.scheme);
        put_text(out, &self.id);
    }
}

/// One identity of a session, in the answer to `whoAmI`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientInfo {
    /// `ip`, `digest`, ...
    pub scheme: Text,
    /// Who, without secrets.
    pub user: Text,
}

impl Record for ClientInfo {
    const MIN_BYTES: usize = 8;

    fn read(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            scheme: input.text("authScheme")?,
            user: input.text("user")?,
        })
    }

    fn write(&self, out: &mut BytesMut) {
        put_text(out, &self.scheme);
        put_text(out, &self.user);
    }
}

/// Body of a watch event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherEvent {
    /// See [`super::EventKind`].
    pub kind: i32,
    /// 3, connected, in every event that crosses the wire.
    pub state: i32,
    /// Where.
    pub path: Text,
}

impl WatcherEvent {
    /// `state` of a connected session.
    pub const SYNC_CONNECTED: i32 = 3;
}

impl Record for WatcherEvent {
    const MIN_BYTES: usize = 12;

    fn read(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            kind: input.int("type")?,
            state: input.int("state")?,
            path: input.text("path")?,
        })
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_i32(self.kind);
        out.put_i32(self.state);
        put_text(out, &self.path);
    }
}

impl Record for i32 {
    const MIN_BYTES: usize = 4;

    fn read(input: &mut Reader) -> Result<Self, WireError> {
        input.int("int")
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_i32(*self);
    }
}
