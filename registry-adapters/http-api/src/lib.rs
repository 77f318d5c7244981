// SPDX-License-Identifier: Apache-2.0
//! HTTP takeover APIs: the SOFARPC mesh API and the MOSN dubbod API.
#![forbid(unsafe_code)]

mod config;
pub mod dubbod;
mod listen;
pub mod mesh;
mod stats;

pub use config::{Application, Settings};
pub use stats::{Refusal, State, Stats};
