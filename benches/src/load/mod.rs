// SPDX-License-Identifier: Apache-2.0
//! The load generator: calls in a closed or an open loop, idle connections, a caller that reads slowly.
//!
//! What is wrong with a reply is counted by kind, in warm-up and measurement alike, and never a reason to stop.

mod generator;
mod idle;
mod link;
mod report;
mod slow;

pub use generator::{Plan, calls};
pub use idle::{IdlePlan, idle};
pub use report::{Errors, Latency, Report, unix_ms};
pub use slow::{SlowPlan, slow};
