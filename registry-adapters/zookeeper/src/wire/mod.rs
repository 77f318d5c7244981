// SPDX-License-Identifier: Apache-2.0
//! ZooKeeper records, both directions: what an application sends a server and what a server answers.
//!
//! Source: `zookeeper.jute` and `ZooDefs` of ZooKeeper 3.9, and captures of 3.4 to 3.9 clients.
//! Nothing is copied out of a frame: [`Text`], data and [`Seq`] share its buffer. Who keeps a part of a frame for long
//! copies it, or the whole read buffer stays with it.
//! Not here: sockets, sessions, meaning.

mod code;
mod frame;
mod jute;
mod multi;
mod path;
mod record;
pub mod reply;
pub mod request;

pub use code::{CreateMode, ErrorCode, EventKind, OpCode, perms, watcher_kind};
pub use frame::{DEFAULT_MAX_FRAME, FourLetterWord, begin_frame, end_frame, four_letter_word, split_frame};
pub use jute::{Reader, Record, Seq, Text, put_buffer, put_text};
pub use multi::{Op, OpResult, Ops, Results};
pub use path::{PathError, check_path, parent_and_name};
pub use record::{
    Acl, ClientInfo, ConnectRequest, ConnectResponse, NO_ZXID, ReplyHeader, RequestHeader, Stat, WatcherEvent, xid,
};
pub use reply::Reply;
pub use request::Request;

/// A record could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The frame ended inside a field.
    #[error("{field} needs {needed} bytes, {left} are left in the frame")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// Bytes asked for.
        needed: usize,
        /// Bytes there.
        left: usize,
    },
    /// A length or count below -1.
    #[error("{field} announces a length of {length}")]
    Length {
        /// What was being read.
        field: &'static str,
        /// The number on the wire.
        length: i32,
    },
    /// A string that is not UTF-8.
    #[error("{field} is not UTF-8")]
    Utf8 {
        /// What was being read.
        field: &'static str,
    },
    /// A frame announces more than the limit.
    #[error("a frame announces {announced} bytes, the limit is {limit}; jute.maxbuffer of both ends must agree")]
    FrameTooLong {
        /// Bytes announced.
        announced: i64,
        /// Bytes allowed.
        limit: usize,
    },
    /// An operation inside `multi` that may not stand there.
    #[error("operation {op} may not stand inside multi")]
    NotInMulti {
        /// Its number.
        op: i32,
    },
    /// No record is known for this operation number.
    #[error("operation {op} is unknown")]
    UnknownOp {
        /// Its number.
        op: i32,
    },
}

impl WireError {
    /// Metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "zookeeper_truncated",
            Self::Length { .. } => "zookeeper_bad_length",
            Self::Utf8 { .. } => "zookeeper_bad_utf8",
            Self::FrameTooLong { .. } => "zookeeper_frame_too_long",
            Self::NotInMulti { .. } => "zookeeper_not_in_multi",
            Self::UnknownOp { .. } => "zookeeper_unknown_op",
        }
    }
}

#[cfg(test)]
mod tests;
