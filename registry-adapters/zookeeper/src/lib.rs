// SPDX-License-Identifier: Apache-2.0
//! ZooKeeper: wire records, the backends of the relay, the embedded registry.
//!
//! Source: ZooKeeper 3.9 and captures of its clients, 3.4 to 3.9.
#![forbid(unsafe_code)]

pub mod backend;
pub mod embedded;
pub mod wire;
