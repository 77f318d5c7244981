// SPDX-License-Identifier: Apache-2.0
//! A relay between two peers that breaks what runs through it when told to.
//!
//! Routes are named; each listens at an address and connects to another one. `up` is from who connected to whom it connects,
//! `down` the way back. What can be told is listed in `control.rs`.

mod control;
mod pipe;
mod route;

pub use control::{serve, serve_at};
pub use route::{Route, RouteSpec};
