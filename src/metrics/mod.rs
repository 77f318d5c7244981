// SPDX-License-Identifier: Apache-2.0
//! Room `metrics`.

pub mod call;
mod call_page;
pub mod names;
