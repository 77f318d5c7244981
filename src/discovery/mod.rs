// SPDX-License-Identifier: Apache-2.0
//! Who publishes and follows what; the only place where an address is swapped; last known lists.
//!
//! ```text
//!  facade --publish, follow--> Desk (one per registry) --> Catalog <-- sync.rs <-- adapter <-- real registry
//!         <--inward lists-----                                |  \--> snapshot.rs: last known lists on disk
//!                                      routes.rs -> RouteTable -> call path
//!                                  ingress_ports.rs -> IngressChange -> call path
//! ```
//! `takeover.rs` swaps addresses, `merge.rs` makes one provider of many, `endpoint.rs` says what may be dialled,
//! `guard.rs` doubts lists that collapse, `metadata.rs` knows what an application's revision offers, `policy/` says what is taken
//! over at all.
//!
//! The call path meets this room in [`route_table`] and [`ingress`] only: immutable tables that it reads without a lock,
//! and ports that it serves.

mod catalog;
mod config;
mod desk;
mod disk;
mod egress;
mod endpoint;
mod error;
pub mod forecast;
mod guard;
mod handover;
mod hosts;
pub mod ingress;
mod ingress_file;
mod ingress_ports;
mod kept;
mod lease;
mod merge;
mod metadata;
mod metadata_fetch;
mod metadata_rpc;
pub mod policy;
mod probe;
mod publish;
pub mod route_table;
mod routes;
mod services;
mod snapshot;
mod sofa;
mod status;
mod sync;
mod takeover;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

pub use catalog::{Catalog, Tools};
pub use config::{Config, GuardConfig, ProtocolPorts, Setup};
pub use desk::Desk;
pub use egress::Egress;
pub use error::DiscoveryError;
pub use handover::Publication;
pub use ingress_ports::IngressRow;
pub use metadata::{MetadataCall, MetadataError};
pub use policy::{Config as TakeoverConfig, Mode, RuleUse};
pub use probe::{Knock, Probe};
pub use services::ServiceQuery;
pub use status::{ApplicationFacts, CatalogView, EgressView, RegistryView};
