// SPDX-License-Identifier: Apache-2.0
//! Every metric name once (`names.rs`), and the structs that count. A registry is passed in; nothing is global.

pub mod call;
mod call_page;
pub mod discovery;
pub mod names;
pub mod process;
pub mod scraped;

pub use call::CallMetrics;
pub use discovery::DiscoveryMetrics;
