// SPDX-License-Identifier: Apache-2.0
//! Connections that we open: which call waits on which (`mux.rs`), the connection itself, the pool per instance, and
//! whether an instance is worth trying.

pub(super) mod connection;
pub(super) mod health;
pub(super) mod mux;
pub(super) mod pool;
