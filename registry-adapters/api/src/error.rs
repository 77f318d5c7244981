// SPDX-License-Identifier: Apache-2.0
//! Errors of registry plugins. Each has a `reason()`: short, fixed, a metric label and a log field.

use std::net::SocketAddr;

use crate::Why;

/// An operation on the real registry failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// Not connected now; the adapter goes on trying.
    #[error("registry {registry} is out of reach: {cause}")]
    Unreachable {
        /// Which registry.
        registry: String,
        /// The last failure.
        cause: String,
    },
    /// The registry answered with an error of its own.
    #[error("registry {registry} refused {operation}: {cause}")]
    Refused {
        /// Which registry.
        registry: String,
        /// What was asked.
        operation: String,
        /// What it said.
        cause: String,
    },
    /// The registry cannot express what was asked.
    #[error("registry {registry} cannot {operation}")]
    Unsupported {
        /// Which registry.
        registry: String,
        /// What was asked.
        operation: &'static str,
    },
}

impl RegistryError {
    /// Metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "registry_unreachable",
            Self::Refused { .. } => "registry_refused",
            Self::Unsupported { .. } => "registry_unsupported",
        }
    }
}

/// An application's publication was not taken over; the facade passes it on unchanged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// No protocol plugin speaks the instance's scheme.
    #[error("no plugin speaks {protocol}; the address is published unchanged")]
    Protocol {
        /// The scheme.
        protocol: String,
    },
    /// The address carries the takeover marker already.
    #[error("{host}:{port} was published by a Remora already")]
    AlreadyTakenOver {
        /// The host in it.
        host: String,
        /// The port in it.
        port: u16,
    },
    /// No ingress port could be had.
    #[error(
        "no free ingress port for {protocol} application port {app_port}: {cause}; widen protocols.{protocol}.ingress_range"
    )]
    NoIngress {
        /// The scheme.
        protocol: String,
        /// The application's own port.
        app_port: u16,
        /// Why.
        cause: String,
    },
    /// The operator's takeover policy leaves it as it is. Discovery knows of it all the same: it is counted, and its ingress
    /// serves who still calls there.
    #[error("left as it is: {why}")]
    NotTaken {
        /// Which part of the policy says so.
        why: Why,
    },
    /// The port is one of Remora's own: calls would end up here.
    #[error("port {port} is Remora's own; publish the port that the application listens on")]
    OwnPort {
        /// The port that was published.
        port: u16,
    },
    /// Remora cannot keep it in the registry itself.
    #[error("the publication cannot be kept in the registry: {cause}")]
    NotKept {
        /// Why.
        cause: String,
    },
}

impl PublishError {
    /// Metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Protocol { .. } => "protocol_unknown",
            Self::AlreadyTakenOver { .. } => "already_taken_over",
            Self::NoIngress { .. } => "no_ingress_port",
            Self::OwnPort { .. } => "own_port",
            Self::NotKept { .. } => "not_kept",
            Self::NotTaken { why } => why.label(),
        }
    }
}

/// A facade could not open or stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum FacadeError {
    /// The listening port could not be bound.
    #[error("cannot listen on {addr} ({key}): {cause}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The configuration key that changes it.
        key: &'static str,
        /// The system's error.
        cause: std::io::Error,
    },
    /// Accepting failed for good.
    #[error("facade {facade} stopped: {cause}")]
    Stopped {
        /// Which facade.
        facade: &'static str,
        /// Why.
        cause: String,
    },
}

impl FacadeError {
    /// Metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind",
            Self::Stopped { .. } => "stopped",
        }
    }
}
