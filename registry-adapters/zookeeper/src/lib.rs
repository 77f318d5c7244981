// SPDX-License-Identifier: Apache-2.0
//! ZooKeeper: wire records, the front door for applications, the adapter for Remora itself, the embedded registry, the
//! backends of all three.
//!
//! Source: ZooKeeper 3.9 and captures of its clients, 3.4 to 3.9.
#![forbid(unsafe_code)]

pub mod adapter;
pub mod backend;
mod chroot;
pub mod client;
pub mod embedded;
pub mod facade;
mod places;
pub mod survey;
pub mod wire;
