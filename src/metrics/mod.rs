// SPDX-License-Identifier: Apache-2.0
//! Room `metrics`.

pub mod call;
mod call_page;
pub mod discovery;
pub mod names;

pub use discovery::DiscoveryMetrics;
