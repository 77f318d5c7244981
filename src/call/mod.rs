// SPDX-License-Identifier: Apache-2.0
//! The call path. Files in the order that data passes:
//!
//! `listener.rs` accepts (`guests.rs`: how many of whom) and hands to a worker; `connection.rs` cuts frames (`wire.rs`, `frame_reader.rs`; `half_read.rs`: what those may hold that are not whole); `dispatch.rs`
//! is the life of a call; `recent.rs`, `router.rs`, `balancer/` and `governance/` say where it goes and for how long; `upstream/` has
//! the connections to instances and the stream tables in which calls wait (`kept.rs`: with what); `reply.rs` answers; `write_buffer.rs` and
//! `flush.rs` write. `worker.rs` is the thread around all of it, `clock.rs` its deadlines, `missed.rs` when it did not run. `callback.rs` is the way back for
//! providers' requests, `tally.rs` counts who calls what, `listening.rs` notices an application that stops. `handover.rs` and those below
//! the files above give all of it to another process.
//!
//! Meets discovery in `route_table` and `ingress` only. Not here: addresses are swapped in `discovery`, bytes of a protocol
//! are known to its plugin.

mod balancer;
mod callback;
mod clock;
mod close_reason;
mod config;
mod connection;
mod dispatch;
mod error;
mod flush;
mod frame_reader;
mod governance;
mod guests;
mod half_read;
mod handover;
mod kept;
mod listener;
mod listening;
mod missed;
mod recent;
mod reply;
mod router;
mod start;
mod tally;
mod upstream;
mod view;
mod wire;
mod worker;
mod write_buffer;

#[cfg(test)]
mod tests;

pub use config::{Config, OutOfRange};
pub use error::{CallError, StartError, Tried};
pub use handover::{Frozen, HandoverError, Part, into_parts, of_parts};
pub use start::{CallHandle, CallPath, EgressListener, Setup};
pub use tally::{HopView, LineView, TalliesView};
#[doc(hidden)]
pub use upstream::mux::StreamTable; // for `benches/` only
pub use view::ConnectionView;

pub use crate::metrics::call::Side;
