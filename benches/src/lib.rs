// SPDX-License-Identifier: Apache-2.0
//! What the programs of the benchmark have in common: frames, connections, readiness, figures of processes.
//!
//! `load` calls, `echo` answers; each is one thread around epoll that costs as little as possible, so that what stands between
//! them is what is measured. They know nothing of the proxy's own code, and check each other strictly.
#![forbid(unsafe_code)]

pub mod callers;
pub mod link;
pub mod load;
pub mod poll;
pub mod proc;
pub mod wire;
