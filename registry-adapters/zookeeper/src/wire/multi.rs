// SPDX-License-Identifier: Apache-2.0
//! `multi` and `multiRead`: several operations in one request, several results in one reply.
//!
//! Wire: repeat { head: int type, byte done = 0, int err = -1; body } then the end head -1, 1, -1.
//! Kept in wire form like a [`super::Seq`], checked when read.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::jute::{put_buffer, put_text};
use super::request::{Create, SetData};
use super::{ErrorCode, OpCode, Reader, Record, Seq, Stat, Text, WireError};

/// One operation of a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are ZooKeeper's own")]
pub enum Op {
    Create(Create),
    Delete { path: Text, version: i32 },
    SetData(SetData),
    Check { path: Text, version: i32 },
    GetData { path: Text, watch: bool },
    GetChildren { path: Text, watch: bool },
}

/// One result of a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are ZooKeeper's own")]
pub enum OpResult {
    Create {
        path: Text,
    },
    /// Of every create but the plain one; servers write `Create2` as `op` for containers and TTL nodes too.
    Create2 {
        op: OpCode,
        path: Text,
        stat: Stat,
    },
    Delete,
    SetData {
        stat: Stat,
    },
    Check,
    GetData {
        data: Option<Bytes>,
        stat: Stat,
    },
    GetChildren {
        children: Seq<Text>,
    },
    Error(ErrorCode),
}

/// The operations of a multi.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Ops {
    wire: Bytes,
}

/// The results of a multi.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Results {
    wire: Bytes,
}

impl Ops {
    /// Walks the operations.
    pub fn iter(&self) -> impl Iterator<Item = Op> + use<> {
        let mut input = Reader::new(self.wire.clone());
        std::iter::from_fn(move || Op::next(&mut input).ok().flatten())
    }

    pub(super) fn read(input: &mut Reader) -> Result<Self, WireError> {
        let wire = span(input, |input| Op::next(input).map(|op| op.is_some()))?;
        Ok(Self { wire })
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        out.put_slice(&self.wire);
        put_head(out, END, true, -1);
    }
}

impl FromIterator<Op> for Ops {
    fn from_iter<I: IntoIterator<Item = Op>>(ops: I) -> Self {
        let mut out = BytesMut::new();
        for op in ops {
            op.write(&mut out);
        }
        Self { wire: out.freeze() }
    }
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Results {
    /// Walks the results.
    pub fn iter(&self) -> impl Iterator<Item = OpResult> + use<> {
        let mut input = Reader::new(self.wire.clone());
        std::iter::from_fn(move || OpResult::next(&mut input).ok().flatten())
    }

    pub(super) fn read(input: &mut Reader) -> Result<Self, WireError> {
        let wire = span(input, |input| OpResult::next(input).map(|result| result.is_some()))?;
        Ok(Self { wire })
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        out.put_slice(&self.wire);
        put_head(out, END, true, -1);
    }
}

impl FromIterator<OpResult> for Results {
    fn from_iter<I: IntoIterator<Item = OpResult>>(results: I) -> Self {
        let mut out = BytesMut::new();
        for result in results {
            result.write(&mut out);
        }
        Self { wire: out.freeze() }
    }
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Op {
    /// Its number.
    pub fn op(&self) -> OpCode {
        match self {
            Self::Create(create) => create.op,
            Self::Delete { .. } => OpCode::Delete,
            Self::SetData(_) => OpCode::SetData,
            Self::Check { .. } => OpCode::Check,
            Self::GetData { .. } => OpCode::GetData,
            Self::GetChildren { .. } => OpCode::GetChildren,
        }
    }

    /// The path it is about.
    pub fn path(&self) -> &Text {
        match self {
            Self::Create(create) => &create.path,
            Self::SetData(set) => &set.path,
            Self::Delete { path, .. }
            | Self::Check { path, .. }
            | Self::GetData { path, .. }
            | Self::GetChildren { path, .. } => path,
        }
    }

    // `None` at the end head, and where the bytes end: an `Ops` does not keep its end head.
    fn next(input: &mut Reader) -> Result<Option<Self>, WireError> {
        let Some((number, _)) = read_head(input)? else {
            return Ok(None);
        };
        let op = OpCode::from_wire(number).ok_or(WireError::NotInMulti { op: number })?;
        Ok(Some(match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                Self::Create(Create::read(op, input)?)
            }
            OpCode::Delete => Self::Delete {
                path: input.text("path")?,
                version: input.int("version")?,
            },
            OpCode::SetData => Self::SetData(SetData::read(input)?),
            OpCode::Check => Self::Check {
                path: input.text("path")?,
                version: input.int("version")?,
            },
            OpCode::GetData => Self::GetData {
                path: input.text("path")?,
                watch: input.boolean("watch")?,
            },
            OpCode::GetChildren => Self::GetChildren {
                path: input.text("path")?,
                watch: input.boolean("watch")?,
            },
            _ => return Err(WireError::NotInMulti { op: number }),
        }))
    }

    fn write(&self, out: &mut BytesMut) {
        put_head(out, self.op().number(), false, -1);
        match self {
            Self::Create(create) => create.write(out),
            Self::SetData(set) => set.write(out),
            Self::Delete { path, version } | Self::Check { path, version } => {
                put_text(out, path);
                out.put_i32(*version);
            }
            Self::GetData { path, watch } | Self::GetChildren { path, watch } => {
                put_text(out, path);
                out.put_u8(u8::from(*watch));
            }
        }
    }
}

impl OpResult {
    fn next(input: &mut Reader) -> Result<Option<Self>, WireError> {
        let Some((number, _)) = read_head(input)? else {
            return Ok(None);
        };
        if number == END {
            return Ok(Some(Self::Error(ErrorCode(input.int("err")?))));
        }
        let op = OpCode::from_wire(number).ok_or(WireError::NotInMulti { op: number })?;
        Ok(Some(match op {
            OpCode::Create => Self::Create {
                path: input.text("path")?,
            },
            OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => Self::Create2 {
                op,
                path: input.text("path")?,
                stat: Stat::read(input)?,
            },
            OpCode::Delete => Self::Delete,
            OpCode::SetData => Self::SetData {
                stat: Stat::read(input)?,
            },
            OpCode::Check => Self::Check,
            OpCode::GetData => Self::GetData {
                data: input.buffer("data")?,
                stat: Stat::read(input)?,
            },
            OpCode::GetChildren => Self::GetChildren {
                children: input.seq("children")?,
            },
            _ => return Err(WireError::NotInMulti { op: number }),
        }))
    }

    fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Create { path } => {
                put_head(out, OpCode::Create.number(), false, 0);
                put_text(out, path);
            }
            Self::Create2 { op, path, stat } => {
                put_head(out, op.number(), false, 0);
                put_text(out, path);
                stat.write(out);
            }
            Self::Delete => put_head(out, OpCode::Delete.number(), false, 0),
            Self::SetData { stat } => {
                put_head(out, OpCode::SetData.number(), false, 0);
                stat.write(out);
            }
            Self::Check => put_head(out, OpCode::Check.number(), false, 0),
            Self::GetData { data, stat } => {
                put_head(out, OpCode::GetData.number(), false, 0);
                put_buffer(out, data.as_deref());
                stat.write(out);
            }
            Self::GetChildren { children } => {
                put_head(out, OpCode::GetChildren.number(), false, 0);
                children.write(out);
            }
            Self::Error(err) => {
                put_head(out, END, false, err.0);
                out.put_i32(err.0);
            }
        }
    }
}

const END: i32 = -1;

// The bytes of all items, without the end head; `next` says whether there was an item.
fn span(input: &mut Reader, mut next: impl FnMut(&mut Reader) -> Result<bool, WireError>) -> Result<Bytes, WireError> {
    let start = input.peek();
    loop {
        if input.left() == 0 {
            return Err(WireError::Truncated {
                field: "multi head",
                needed: HEAD_BYTES,
                left: 0,
            });
        }
        let before = input.left();
        if !next(input)? {
            return Ok(start.slice(..start.len() - before));
        }
    }
}

fn read_head(input: &mut Reader) -> Result<Option<(i32, i32)>, WireError> {
    if input.left() == 0 {
        return Ok(None);
    }
    let number = input.int("multi type")?;
    let done = input.boolean("multi done")?;
    let err = input.int("multi err")?;
    Ok((!done).then_some((number, err)))
}

fn put_head(out: &mut BytesMut, number: i32, done: bool, err: i32) {
    out.put_i32(number);
    out.put_u8(u8::from(done));
    out.put_i32(err);
}

const HEAD_BYTES: usize = 9;
