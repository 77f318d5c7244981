// SPDX-License-Identifier: Apache-2.0
//! Remora as a library: the rooms of the proxy, and what a custom binary needs to add plugins of its own.
#![deny(unsafe_code)]

// Health, metrics, catalog and configuration over HTTP, loopback by default.
pub mod admin;
// Builds the rooms and connects them.
mod app;
// The call path: listener, connection, dispatch, router, balancer, upstream, reply.
pub mod call;
// The command line.
pub mod cli;
// Configuration: model, loading, checking.
pub mod config;
// `remora demo`: a provider, a consumer and two Remoras on this machine.
pub mod demo;
// Who publishes and follows what; the swap of addresses; last known lists.
pub mod discovery;
// Logs, signals, readiness.
pub mod lifecycle;
// Every metric name once, and the struct that is passed around.
pub mod metrics;
mod plugins;
// What takeover would do with a registry, found out without writing to it.
pub mod preflight;
// What operators are shown of applications, lists and services, as plain data.
pub mod views;

pub use app::{App, AppError};
pub use config::Config;
pub use plugins::Plugins;
