// SPDX-License-Identifier: Apache-2.0
//! SOFARegistry: its wire in both directions, a session-server facade, an adapter.
#![forbid(unsafe_code)]

pub mod adapter;
pub mod client;
pub mod facade;
pub mod survey;
pub mod wire;
