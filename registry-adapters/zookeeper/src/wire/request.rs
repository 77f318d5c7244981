// SPDX-License-Identifier: Apache-2.0
//! Bodies of requests.

use bytes::{BufMut, Bytes, BytesMut};

use super::jute::{put_buffer, put_text};
use super::{Acl, OpCode, Ops, Reader, Record, RequestHeader, Seq, Text, WireError, begin_frame, end_frame};

/// A request without its head.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are ZooKeeper's own")]
pub enum Request {
    Create(Create),
    Delete { path: Text, version: i32 },
    Exists { path: Text, watch: bool },
    GetData { path: Text, watch: bool },
    SetData(SetData),
    GetAcl { path: Text },
    SetAcl { path: Text, acl: Seq<Acl>, version: i32 },
    GetChildren { path: Text, watch: bool },
    GetChildren2 { path: Text, watch: bool },
    Sync { path: Text },
    Ping,
    Check { path: Text, version: i32 },
    Multi(Ops),
    MultiRead(Ops),
    Reconfig(Reconfig),
    CheckWatches { path: Text, kind: i32 },
    RemoveWatches { path: Text, kind: i32 },
    DeleteContainer { path: Text },
    Auth(Auth),
    SetWatches(SetWatches),
    SetWatches2(SetWatches),
    Sasl { token: Option<Bytes> },
    GetEphemerals { prefix: Text },
    GetAllChildrenNumber { path: Text },
    AddWatch { path: Text, mode: i32 },
    WhoAmI,
    CloseSession,
}

/// A create of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// Which of the four: `Create`, `Create2`, `CreateContainer`, `CreateTtl`. Decides the form of the reply.
    pub op: OpCode,
    /// Where; a sequential one gets a number appended.
    pub path: Text,
    /// Data; null is kept apart from empty.
    pub data: Option<Bytes>,
    /// Access list.
    pub acl: Seq<Acl>,
    /// See [`super::CreateMode`].
    pub flags: i32,
    /// Time to live in ms; on the wire for `CreateTtl` only.
    pub ttl_ms: i64,
}

/// A `setData`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are ZooKeeper's own")]
pub struct SetData {
    pub path: Text,
    pub data: Option<Bytes>,
    pub version: i32,
}

/// A `reconfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are ZooKeeper's own")]
pub struct Reconfig {
    pub joining: Text,
    pub leaving: Text,
    pub new_members: Text,
    pub config: i64,
}

/// An `auth`.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// 0, unused.
    pub kind: i32,
    /// `digest`, ...
    pub scheme: Text,
    /// For `digest`: `user:password`. Never logged.
    pub auth: Option<Bytes>,
}

impl Auth {
    /// `user:password` by the scheme that every ZooKeeper has.
    pub fn digest(credentials: &str) -> Self {
        Self {
            kind: 0,
            scheme: "digest".into(),
            auth: Some(Bytes::copy_from_slice(credentials.as_bytes())),
        }
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

/// The watches that a client had before it lost its connection. The last two vectors stand in `setWatches2` only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are ZooKeeper's own")]
pub struct SetWatches {
    /// The last zxid the client saw.
    pub relative_zxid: i64,
    pub data: Seq<Text>,
    pub exist: Seq<Text>,
    pub child: Seq<Text>,
    pub persistent: Seq<Text>,
    pub persistent_recursive: Seq<Text>,
}

impl Request {
    /// Reads the body of an `op`. What follows the record is ignored, as real servers do.
    ///
    /// # Errors
    /// See [`WireError`]; a server answers `MARSHALLING_ERROR`. `UnknownOp` for operations no client sends.
    pub fn decode(op: OpCode, body: Bytes) -> Result<Self, WireError> {
        let mut input = Reader::new(body);
        let input = &mut input;
        Ok(match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                Self::Create(Create::read(op, input)?)
            }
            OpCode::Delete => Self::Delete {
                path: input.text("path")?,
                version: input.int("version")?,
            },
            OpCode::Exists => Self::Exists {
                path: input.text("path")?,
                watch: input.boolean("watch")?,
            },
            OpCode::GetData => Self::GetData {
                path: input.text("path")?,
                watch: input.boolean("watch")?,
            },
            OpCode::SetData => Self::SetData(SetData::read(input)?),
            OpCode::GetAcl => Self::GetAcl {
                path: input.text("path")?,
            },
            OpCode::SetAcl => Self::SetAcl {
                path: input.text("path")?,
                acl: input.seq("acl")?,
                version: input.int("version")?,
            },
            OpCode::GetChildren => Self::GetChildren {
                path: input.text("path")?,
                watch: input.boolean("watch")?,
            },
            OpCode::GetChildren2 => Self::GetChildren2 {
                path: input.text("path")?,
                watch: input.boolean("watch")?,
            },
            OpCode::Sync => Self::Sync {
                path: input.text("path")?,
            },
            OpCode::Ping => Self::Ping,
            OpCode::Check => Self::Check {
                path: input.text("path")?,
                version: input.int("version")?,
            },
            OpCode::Multi => Self::Multi(Ops::read(input)?),
            OpCode::MultiRead => Self::MultiRead(Ops::read(input)?),
            OpCode::Reconfig => Self::Reconfig(Reconfig {
                joining: input.text("joiningServers")?,
                leaving: input.text("leavingServers")?,
                new_members: input.text("newMembers")?,
                config: input.long("curConfigId")?,
            }),
            OpCode::CheckWatches => Self::CheckWatches {
                path: input.text("path")?,
                kind: input.int("type")?,
            },
            OpCode::RemoveWatches => Self::RemoveWatches {
                path: input.text("path")?,
                kind: input.int("type")?,
            },
            OpCode::DeleteContainer => Self::DeleteContainer {
                path: input.text("path")?,
            },
            OpCode::Auth => Self::Auth(Auth {
                kind: input.int("type")?,
                scheme: input.text("scheme")?,
                auth: input.buffer("auth")?,
            }),
            OpCode::SetWatches => Self::SetWatches(SetWatches {
                relative_zxid: input.long("relativeZxid")?,
                data: input.seq("dataWatches")?,
                exist: input.seq("existWatches")?,
                child: input.seq("childWatches")?,
                ..SetWatches::default()
            }),
            OpCode::SetWatches2 => Self::SetWatches2(SetWatches {
                relative_zxid: input.long("relativeZxid")?,
                data: input.seq("dataWatches")?,
                exist: input.seq("existWatches")?,
                child: input.seq("childWatches")?,
                persistent: input.seq("persistentWatches")?,
                persistent_recursive: input.seq("persistentRecursiveWatches")?,
            }),
            OpCode::Sasl => Self::Sasl {
                token: input.buffer("token")?,
            },
            OpCode::GetEphemerals => Self::GetEphemerals {
                prefix: input.text("prefixPath")?,
            },
            OpCode::GetAllChildrenNumber => Self::GetAllChildrenNumber {
                path: input.text("path")?,
            },
            OpCode::AddWatch => Self::AddWatch {
                path: input.text("path")?,
                mode: input.int("mode")?,
            },
            OpCode::WhoAmI => Self::WhoAmI,
            OpCode::CloseSession => Self::CloseSession,
            OpCode::Notification | OpCode::CreateSession => return Err(WireError::UnknownOp { op: op.number() }),
        })
    }

    /// Which operation it is.
    pub fn op(&self) -> OpCode {
        match self {
            Self::Create(create) => create.op,
            Self::Delete { .. } => OpCode::Delete,
            Self::Exists { .. } => OpCode::Exists,
            Self::GetData { .. } => OpCode::GetData,
            Self::SetData(_) => OpCode::SetData,
            Self::GetAcl { .. } => OpCode::GetAcl,
            Self::SetAcl { .. } => OpCode::SetAcl,
            Self::GetChildren { .. } => OpCode::GetChildren,
            Self::GetChildren2 { .. } => OpCode::GetChildren2,
            Self::Sync { .. } => OpCode::Sync,
            Self::Ping => OpCode::Ping,
            Self::Check { .. } => OpCode::Check,
            Self::Multi(_) => OpCode::Multi,
            Self::MultiRead(_) => OpCode::MultiRead,
            Self::Reconfig(_) => OpCode::Reconfig,
            Self::CheckWatches { .. } => OpCode::CheckWatches,
            Self::RemoveWatches { .. } => OpCode::RemoveWatches,
            Self::DeleteContainer { .. } => OpCode::DeleteContainer,
            Self::Auth(_) => OpCode::Auth,
            Self::SetWatches(_) => OpCode::SetWatches,
            Self::SetWatches2(_) => OpCode::SetWatches2,
            Self::Sasl { .. } => OpCode::Sasl,
            Self::GetEphemerals { .. } => OpCode::GetEphemerals,
            Self::GetAllChildrenNumber { .. } => OpCode::GetAllChildrenNumber,
            Self::AddWatch { .. } => OpCode::AddWatch,
            Self::WhoAmI => OpCode::WhoAmI,
            Self::CloseSession => OpCode::CloseSession,
        }
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Create(create) => create.write(out),
            Self::Delete { path, version } | Self::Check { path, version } => {
                put_text(out, path);
                out.put_i32(*version);
            }
            Self::Exists { path, watch }
            | Self::GetData { path, watch }
            | Self::GetChildren { path, watch }
            | Self::GetChildren2 { path, watch } => {
                put_text(out, path);
                out.put_u8(u8::from(*watch));
            }
            Self::SetData(set) => set.write(out),
            Self::SetAcl { path, acl, version } => {
                put_text(out, path);
                acl.write(out);
                out.put_i32(*version);
            }
            Self::GetAcl { path }
            | Self::Sync { path }
            | Self::DeleteContainer { path }
            | Self::GetAllChildrenNumber { path }
            | Self::GetEphemerals { prefix: path } => put_text(out, path),
            Self::Multi(ops) | Self::MultiRead(ops) => ops.write(out),
            Self::Reconfig(reconfig) => {
                put_text(out, &reconfig.joining);
                put_text(out, &reconfig.leaving);
                put_text(out, &reconfig.new_members);
                out.put_i64(reconfig.config);
            }
            Self::CheckWatches { path, kind: number }
            | Self::RemoveWatches { path, kind: number }
            | Self::AddWatch { path, mode: number } => {
                put_text(out, path);
                out.put_i32(*number);
            }
            Self::Auth(auth) => {
                out.put_i32(auth.kind);
                put_text(out, &auth.scheme);
                put_buffer(out, auth.auth.as_deref());
            }
            Self::SetWatches(set) => set.write_first(out),
            Self::SetWatches2(set) => {
                set.write_first(out);
                set.persistent.write(out);
                set.persistent_recursive.write(out);
            }
            Self::Sasl { token } => put_buffer(out, token.as_deref()),
            Self::Ping | Self::WhoAmI | Self::CloseSession => {}
        }
    }

    /// Appends a whole frame: length, head, body.
    pub fn encode_frame(&self, xid: i32, out: &mut BytesMut) {
        let start = begin_frame(out);
        let op = self.op().number();
        RequestHeader { xid, op }.write(out);
        self.encode(out);
        end_frame(out, start);
    }

    /// The one path it is about, if there is one.
    pub fn path(&self) -> Option<&Text> {
        match self {
            Self::Create(create) => Some(&create.path),
            Self::SetData(set) => Some(&set.path),
            Self::Delete { path, .. }
            | Self::Exists { path, .. }
            | Self::GetData { path, .. }
            | Self::GetAcl { path }
            | Self::SetAcl { path, .. }
            | Self::GetChildren { path, .. }
            | Self::GetChildren2 { path, .. }
            | Self::Sync { path }
            | Self::Check { path, .. }
            | Self::CheckWatches { path, .. }
            | Self::RemoveWatches { path, .. }
            | Self::DeleteContainer { path }
            | Self::GetEphemerals { prefix: path }
            | Self::GetAllChildrenNumber { path }
            | Self::AddWatch { path, .. } => Some(path),
            Self::Ping
            | Self::Multi(_)
            | Self::MultiRead(_)
            | Self::Reconfig(_)
            | Self::Auth(_)
            | Self::SetWatches(_)
            | Self::SetWatches2(_)
            | Self::Sasl { .. }
            | Self::WhoAmI
            | Self::CloseSession => None,
        }
    }
}

impl Create {
    pub(super) fn read(op: OpCode, input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            op,
            path: input.text("path")?,
            data: input.buffer("data")?,
            acl: input.seq("acl")?,
            flags: input.int("flags")?,
            ttl_ms: if op == OpCode::CreateTtl { input.long("ttl")? } else { 0 },
        })
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        put_text(out, &self.path);
        put_buffer(out, self.data.as_deref());
        self.acl.write(out);
        out.put_i32(self.flags);
        if self.op == OpCode::CreateTtl {
            out.put_i64(self.ttl_ms);
        }
    }
}

impl SetData {
    pub(super) fn read(input: &mut Reader) -> Result<Self, WireError> {
        Ok(Self {
            path: input.text("path")?,
            data: input.buffer("data")?,
            version: input.int("version")?,
        })
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        put_text(out, &self.path);
        put_buffer(out, self.data.as_deref());
        out.put_i32(self.version);
    }
}

impl SetWatches {
    fn write_first(&self, out: &mut BytesMut) {
        out.put_i64(self.relative_zxid);
        self.data.write(out);
        self.exist.write(out);
        self.child.write(out);
    }
}
