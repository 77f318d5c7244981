// SPDX-License-Identifier: Apache-2.0
//! Who publishes and follows what; the only place where an address is swapped; last known lists.
//!
//! The call path meets this room in [`route_table`] only: immutable tables that it reads without a lock.

pub mod ingress;
pub mod route_table;
