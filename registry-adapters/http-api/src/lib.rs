// SPDX-License-Identifier: Apache-2.0
//! HTTP takeover APIs: the SOFARPC mesh API and the MOSN dubbod API.
//!
//! ```text
//!  application --HTTP--> server.rs --> mesh/api.rs, dubbod/api.rs --> accept.rs, book.rs --publish_kept, follow--> Discovery
//!                                                                      |  ^
//!                                                      store.rs: disk <-  `- watch.rs: open and closed ports, leases
//! ```
//! Neither API says twice what it wants, and neither has a session. So what an application wants is accepted at once,
//! kept on disk, taken up again after any restart, and tied to the application's port being open.
#![forbid(unsafe_code)]

mod accept;
mod application;
mod body;
mod book;
mod config;
mod door;
pub mod dubbod;
mod error;
mod facade;
mod heartbeat;
mod listen;
mod liveness;
pub mod mesh;
mod registration;
mod server;
mod stats;
mod store;
mod watch;

pub use config::{Application, Settings};
pub use facade::HttpFacade;
pub use stats::{Refusal, State, Stats};

#[cfg(test)]
mod tests;
