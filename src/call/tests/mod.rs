// SPDX-License-Identifier: Apache-2.0
//! The call path against scripted peers, over real sockets. The peers speak a tiny protocol (`wire.rs`), so that what is
//! tested here is the path and not a plugin; `bolt.rs` has what only a protocol with dialects and checksums can show.

mod backpressure;
mod bolt;
mod callbacks;
mod carry;
mod crowds;
mod doubt;
mod drain;
mod failures;
mod half_read;
mod handover;
mod leaving;
mod liveness;
mod peers;
mod routing;
mod settings;
pub(super) mod wire;
