// SPDX-License-Identifier: Apache-2.0
//! Errors of this room.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Discovery could not start, or its state on disk could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The configured ingress port could not be bound.
    #[error("cannot listen on {addr} (protocols.{protocol}.ingress): {cause}")]
    IngressBind {
        /// The address.
        addr: SocketAddr,
        /// Whose.
        protocol: String,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A file of ours could not be read or written.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A file of ours is damaged or of another version; it is not used.
    #[error("{path} is not used: {cause}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The last known lists on disk are another registry's.
    #[error("{path} is not used: it holds lists of {found}, the registry is {configured}")]
    OtherRegistry {
        /// Which.
        path: PathBuf,
        /// Whose lists.
        found: String,
        /// Whose were expected.
        configured: String,
    },
}

impl DiscoveryError {
    /// Metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::IngressBind { .. } => "ingress_bind",
            Self::File { .. } => "file",
            Self::Damaged { .. } => "damaged",
            Self::OtherRegistry { .. } => "other_registry",
        }
    }
}
