// SPDX-License-Identifier: Apache-2.0
//! One node: its owner, its figures, and its form on disk.
//!
//! Source: ZooKeeper 3.9 `DataNode`, `EphemeralType`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::wire::{Acl, Reader, Seq, Stat, WireError, put_buffer};

/// Whose a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    Session(i64),
    Container,
    Ttl { ms: i64 },
}

impl Owner {
    /// Longest time to live: 40 bits of ms.
    pub(super) const MAX_TTL_MS: i64 = 0xff_ffff_ffff;

    // As ZooKeeper writes it into `ephemeralOwner`.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Nobody => 0,
            Self::Session(id) => id,
            Self::Container => i64::MIN,
            Self::Ttl { ms } => TTL_MASK | ms,
        }
    }

    pub(super) fn from_number(number: i64) -> Self {
        match number {
            0 => Self::Nobody,
            i64::MIN => Self::Container,
            n if n & TTL_MASK == TTL_MASK => Self::Ttl {
                ms: n & Self::MAX_TTL_MS,
            },
            id => Self::Session(id),
        }
    }
}

const TTL_MASK: i64 = 0xff << 56;

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) data: Option<Bytes>,
    pub(super) acl: Seq<Acl>,
    pub(super) owner: Owner,
    pub(super) children: BTreeSet<Arc<str>>,
    pub(super) czxid: i64,
    pub(super) mzxid: i64,
    pub(super) ctime: i64,
    pub(super) mtime: i64,
    pub(super) version: i32,
    // Creates of children so far: the number of the next sequential one.
    pub(super) creates: i32,
    pub(super) aversion: i32,
    pub(super) pzxid: i64,
}

impl Node {
    pub(super) fn new(data: Option<Bytes>, acl: Seq<Acl>, owner: Owner, at: Moment) -> Self {
        Self {
            data,
            acl,
            owner,
            children: BTreeSet::new(),
            czxid: at.zxid,
            mzxid: at.zxid,
            ctime: at.ms,
            mtime: at.ms,
            version: 0,
            creates: 0,
            aversion: 0,
            pzxid: at.zxid,
        }
    }

    /// Its figures as a client sees them: the owner of containers and TTL nodes is hidden, `cversion` counts deletes too.
    pub(super) fn stat(&self) -> Stat {
        let children = i32::try_from(self.children.len()).unwrap_or(i32::MAX);
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.creates.wrapping_mul(2).wrapping_sub(children),
            aversion: self.aversion,
            ephemeral_owner: match self.owner {
                Owner::Session(id) => id,
                _ => 0,
            },
            data_length: self
                .data
                .as_ref()
                .map_or(0, |d| i32::try_from(d.len()).unwrap_or(i32::MAX)),
            num_children: children,
            pzxid: self.pzxid,
        }
    }

    // byte 0: form, 1. Then the figures, the access list, the data.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = BytesMut::with_capacity(128 + self.data.as_ref().map_or(0, Bytes::len));
        out.put_u8(NODE_FORM);
        out.put_i64(self.czxid);
        out.put_i64(self.mzxid);
        out.put_i64(self.ctime);
        out.put_i64(self.mtime);
        out.put_i32(self.version);
        out.put_i32(self.creates);
        out.put_i32(self.aversion);
        out.put_i64(self.owner.number());
        out.put_i64(self.pzxid);
        self.acl.write(&mut out);
        put_buffer(&mut out, self.data.as_deref());
        out.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = Reader::new(Bytes::copy_from_slice(bytes));
        let form = input.byte("form")?;
        if form != NODE_FORM {
            return Err(WireError::UnknownOp { op: i32::from(form) });
        }
        let (czxid, mzxid) = (input.long("czxid")?, input.long("mzxid")?);
        let (ctime, mtime) = (input.long("ctime")?, input.long("mtime")?);
        let (version, creates) = (input.int("version")?, input.int("cversion")?);
        let aversion = input.int("aversion")?;
        let owner = Owner::from_number(input.long("owner")?);
        let pzxid = input.long("pzxid")?;
        let acl = shared_acl(input.seq("acl")?);
        let data = input.buffer("data")?;
        Ok(Self {
            data: data.map(|d| Bytes::copy_from_slice(&d)),
            acl,
            owner,
            children: BTreeSet::new(),
            czxid,
            mzxid,
            ctime,
            mtime,
            version,
            creates,
            aversion,
            pzxid,
        })
    }
}

const NODE_FORM: u8 = 1;

/// When a change happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) zxid: i64,
    pub(super) ms: i64,
}

// Nodes outlive the frame that brought their list.
pub(super) fn shared_acl(acl: Seq<Acl>) -> Seq<Acl> {
    acl.iter().collect()
}
