// SPDX-License-Identifier: Apache-2.0
//! Why the proxy could not start.

use std::net::SocketAddr;
use std::path::PathBuf;

use remora_registry::FacadeError;

use crate::admin::AdminError;
use crate::call;
use crate::config::ConfigError;
use crate::discovery::DiscoveryError;

/// Why the proxy could not start. Nothing listens then.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration cannot be used; one line per problem.
    #[error("{}", lines(.0))]
    Config(Vec<ConfigError>),
    /// No directory for our state.
    #[error("data directory {path} cannot be written: {cause}; set data_dir or --data-dir")]
    DataDir {
        /// The last one tried.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// Two processes would overwrite each other's state.
    #[error("data directory {path} is in use by another Remora; give each its own by data_dir or --data-dir")]
    DataDirInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The admin port.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A facade's port.
    #[error(transparent)]
    Facade(#[from] FacadeError),
    /// An ingress port, or state on disk.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// An egress port.
    #[error("cannot listen on {addr} (protocols.{protocol}.egress): {cause}")]
    Egress {
        /// The address.
        addr: SocketAddr,
        /// Whose.
        protocol: String,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The call path's threads.
    #[error(transparent)]
    Call(#[from] call::StartError),
    /// A registry's address or files.
    #[error("registry {name}: {cause}")]
    Registry {
        /// Its name in the configuration.
        name: String,
        /// Why.
        cause: String,
    },
}

impl AppError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) => "config",
            Self::DataDir { .. } => "data_dir",
            Self::DataDirInUse { .. } => "data_dir_in_use",
            Self::Admin(error) => error.reason(),
            Self::Facade(error) => error.reason(),
            Self::Discovery(error) => error.reason(),
            Self::Egress { .. } => "egress_bind",
            Self::Call(_) => "call_start",
            Self::Registry { .. } => "registry",
        }
    }
}

fn lines(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
