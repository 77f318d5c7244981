// SPDX-License-Identifier: Apache-2.0
//! What operators are shown of applications, lists and services, as plain data: discovery fills it in, the admin pages are these
//! types as JSON, and the command line reads them back.
//!
//! Words and addresses as they are shown; nothing here decides or asks.

mod catalog;
mod services;

pub use catalog::{LeaseView, ListView, OddView, PublishedView, RuleView, WithdrawalView};
pub use services::{FollowerView, RealView, ServiceListView, ServicePublishedView, ServiceView, ServicesView};
