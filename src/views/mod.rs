// SPDX-License-Identifier: Apache-2.0
//! What operators are shown of applications, lists and services, as plain data: discovery fills it in, the admin pages are these
//! types as JSON, and the command line reads them back.
//!
//! Words and addresses as they are shown; nothing here decides or asks.

mod catalog;
mod services;

pub use catalog::{LeaseView, ListView, OddView, PublishedView, RuleView, WithdrawalView};
pub use services::{FollowerView, RealView, ServiceListView, ServicePublishedView, ServiceView, ServicesView};

/// A number and what is counted, such as `1 call` and `2 calls`.
pub fn counted(number: impl TryInto<u64>, one: &str, many: &str) -> String {
    match number.try_into() {
        Ok(1) => format!("1 {one}"),
        Ok(number) => format!("{number} {many}"),
        Err(_) => many.to_owned(),
    }
}
