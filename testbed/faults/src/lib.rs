// SPDX-License-Identifier: Apache-2.0
//! Faults as tests.
//!
//! `relay` stands between two peers and breaks what runs through it when told to. `oracle` has callers and a provider that
//! between them know of each call whether it went well, and how often it was executed; and crowds of badly behaved clients.
//! Frames and connections are those of the benchmark (`remora_bench`), which know nothing of the proxy's own code.
#![forbid(unsafe_code)]

pub mod caller;
pub mod crowd;
pub mod journal;
pub mod payload;
pub mod provider;
pub mod registry;
pub mod relay;
pub mod words;
