// SPDX-License-Identifier: Apache-2.0
//! Bodies of replies.

use bytes::{BufMut, Bytes, BytesMut};

use super::jute::{put_buffer, put_text};
use super::{
    Acl, ClientInfo, ErrorCode, EventKind, OpCode, Reader, Record, ReplyHeader, Results, Seq, Stat, Text, WatcherEvent,
    WireError, begin_frame, end_frame, xid,
};

/// A reply without its head. There is one only where the head's `err` is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are ZooKeeper's own")]
pub enum Reply {
    /// `delete`, `ping`, `auth`, `setWatches`, `checkWatches`, `removeWatches`, `closeSession`, `deleteContainer`.
    Empty,
    /// `create`.
    Created { path: Text },
    /// `create2`, `createContainer`, `createTTL`.
    Created2 { path: Text, stat: Stat },
    /// `exists`, `setData`, `setACL`, a bare `check`.
    Stat(Stat),
    /// `getData`, `reconfig`.
    Data { data: Option<Bytes>, stat: Stat },
    /// `getACL`.
    Acl { acl: Seq<Acl>, stat: Stat },
    /// `getChildren`, `getEphemerals`.
    Children(Seq<Text>),
    /// `getChildren2`.
    Children2 { children: Seq<Text>, stat: Stat },
    /// `sync`.
    Path { path: Text },
    /// `multi`, `multiRead`.
    Results(Results),
    /// `sasl`.
    Token(Option<Bytes>),
    /// `getAllChildrenNumber`; `addWatch` (an error number, 0).
    Number(i32),
    /// `whoAmI`.
    Identities(Seq<ClientInfo>),
}

impl Reply {
    /// Reads the body of the reply to an `op`.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn decode(op: OpCode, body: Bytes) -> Result<Self, WireError> {
        let mut input = Reader::new(body);
        let input = &mut input;
        Ok(match op {
            OpCode::Delete
            | OpCode::Ping
            | OpCode::Auth
            | OpCode::SetWatches
            | OpCode::SetWatches2
            | OpCode::CheckWatches
            | OpCode::RemoveWatches
            | OpCode::DeleteContainer
            | OpCode::CloseSession => Self::Empty,
            OpCode::Create => Self::Created {
                path: input.text("path")?,
            },
            OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => Self::Created2 {
                path: input.text("path")?,
                stat: Stat::read(input)?,
            },
            OpCode::Exists | OpCode::SetData | OpCode::SetAcl | OpCode::Check => Self::Stat(Stat::read(input)?),
            OpCode::GetData | OpCode::Reconfig => Self::Data {
                data: input.buffer("data")?,
                stat: Stat::read(input)?,
            },
            OpCode::GetAcl => Self::Acl {
                acl: input.seq("acl")?,
                stat: Stat::read(input)?,
            },
            OpCode::GetChildren => Self::Children(input.seq("children")?),
            OpCode::GetEphemerals => Self::Children(input.seq("ephemerals")?),
            OpCode::GetChildren2 => Self::Children2 {
                children: input.seq("children")?,
                stat: Stat::read(input)?,
            },
            OpCode::Sync => Self::Path {
                path: input.text("path")?,
            },
            OpCode::Multi | OpCode::MultiRead => Self::Results(Results::read(input)?),
            OpCode::Sasl => Self::Token(input.buffer("token")?),
            OpCode::GetAllChildrenNumber => Self::Number(input.int("totalNumber")?),
            OpCode::AddWatch => Self::Number(input.int("err")?),
            OpCode::WhoAmI => Self::Identities(input.seq("clientInfo")?),
            OpCode::Notification | OpCode::CreateSession => return Err(WireError::UnknownOp { op: op.number() }),
        })
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Empty => {}
            Self::Created { path } | Self::Path { path } => put_text(out, path),
            Self::Created2 { path, stat } => {
                put_text(out, path);
                stat.write(out);
            }
            Self::Stat(stat) => stat.write(out),
            Self::Data { data, stat } => {
                put_buffer(out, data.as_deref());
                stat.write(out);
            }
            Self::Acl { acl, stat } => {
                acl.write(out);
                stat.write(out);
            }
            Self::Children(children) => children.write(out),
            Self::Children2 { children, stat } => {
                children.write(out);
                stat.write(out);
            }
            Self::Results(results) => results.write(out),
            Self::Token(token) => put_buffer(out, token.as_deref()),
            Self::Number(number) => out.put_i32(*number),
            Self::Identities(identities) => identities.write(out),
        }
    }

    /// Appends a whole frame: length, head with `err` 0, body.
    pub fn encode_frame(&self, xid: i32, zxid: i64, out: &mut BytesMut) {
        let start = begin_frame(out);
        let err = ErrorCode::OK;
        ReplyHeader { xid, zxid, err }.write(out);
        self.encode(out);
        end_frame(out, start);
    }
}

/// Appends a whole frame that says only what went wrong (or, with `OK`, that all went well).
pub fn encode_error(head: ReplyHeader, out: &mut BytesMut) {
    let start = begin_frame(out);
    head.write(out);
    end_frame(out, start);
}

/// Appends a whole frame with a watch event.
pub fn encode_event(zxid: i64, kind: EventKind, path: &str, out: &mut BytesMut) {
    let start = begin_frame(out);
    ReplyHeader {
        xid: xid::EVENT,
        zxid,
        err: ErrorCode::OK,
    }
    .write(out);
    out.put_i32(kind.number());
    out.put_i32(WatcherEvent::SYNC_CONNECTED);
    put_text(out, path);
    end_frame(out, start);
}
