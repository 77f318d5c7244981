// SPDX-License-Identifier: Apache-2.0
//! Callers that know of each of their calls how it ended. Nothing is tried again: a call that failed has failed.

mod link;
mod run;
mod tally;

pub use run::{CallPlan, call};
