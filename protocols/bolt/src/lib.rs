// SPDX-License-Identifier: Apache-2.0
//! The bolt protocol, v1 and v2.
//!
//! | file | holds |
//! |---|---|
//! | `frame.rs`, `header.rs`, `write.rs` | frames: taken apart, and written; also for SOFARegistry, which speaks bolt |
//! | `decode.rs` | cuts frames out of a stream |
//! | `codec.rs`, `status.rs` | serializations and statuses by number |
#![forbid(unsafe_code)]

pub mod codec;
mod decode;
pub mod frame;
pub mod header;
pub mod status;
mod write;

pub use decode::{decode, sniff};
pub use write::{Reply, Request, WriteError, heartbeat, heartbeat_ack};

pub(crate) const NAME: &str = "bolt";
