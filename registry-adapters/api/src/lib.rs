// SPDX-License-Identifier: Apache-2.0
//! What a registry plugin implements, and the words it uses.
//!
//! A registry has two ends here. A [`Facade`] speaks its protocol to applications; a [`Registry`] (the adapter) speaks
//! it to the real registry. They meet in the proxy's [`Discovery`]: the facade tells it what applications publish and
//! follow, the adapter feeds it the lists. Only `Discovery` swaps addresses.
//!
//! ```text
//!  application -> Facade --publish/follow--> Discovery <--follow/publish-- Registry -> real registry
//!                        <--inward lists---            ----snapshots----->
//! ```
#![forbid(unsafe_code)]

mod discovery;
mod error;
mod farewell;
mod instance;
pub mod peers;
pub mod places;
mod ports;
mod registry;
mod rule;
pub mod sealed;
mod snapshot;
pub mod survey;
mod why;

use std::future::Future;
use std::pin::Pin;

pub use discovery::{Client, Discovery, Facade, InRegistry, Lease, LeaseId, LeaseInfo, Outward};
pub use error::{FacadeError, PublishError, RegistryError};
pub use farewell::{Farewell, Seat};
pub use instance::{Instance, Params, ServiceKey};
pub use ports::{Port, Ports};
pub use registry::{Registry, RegistryState};
pub use rule::{RuleKind, UnappliedRule};
pub use snapshot::{Snapshot, Source, Target};
pub use why::Why;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
