// SPDX-License-Identifier: Apache-2.0
//! Configuration: model, loading, checking.
//!
//! The file comes first, then `REMORA_<KEY>` of the environment, then the command line. Each part of the proxy owns its
//! keys; this room puts them together and says file, line and key when something is wrong.

mod access;
mod admin_address;
mod check;
mod data_dir;
mod diff;
mod doors;
mod error;
mod keys;
mod limits;
mod load;
mod model;
mod registry_url;
mod serves;
mod value;

pub use access::Access;
pub use admin_address::{AdminAddress, admin_address};
pub use check::{Checked, Note, Served, check, leave_out};
pub use data_dir::{DataDir, data_dir};
pub use diff::Changes;
pub use doors::{DoorApplication, DubbodDoor, Facades, MeshDoor, SofaRegistryDoor, ZooKeeperDoor};
pub use error::{ConfigError, Place};
pub use load::{Loaded, Overrides, load};
pub use model::{Config, Followed, ProtocolPorts, Protocols, RegistryEntry};
pub use registry_url::RegistryUrl;
pub use serves::serves;
pub use value::{Address, ByteSize, Door, PortRange, Span, ValueError};

pub(crate) use value::text_value;

#[cfg(test)]
mod tests;
