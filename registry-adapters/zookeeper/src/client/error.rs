// SPDX-License-Identifier: Apache-2.0
//! Why an operation on the session failed.

use std::sync::Arc;
use std::time::Duration;

use crate::wire::{ErrorCode, OpCode};

/// An operation failed. After `Lost` and `Timeout` nobody knows whether a write was done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// No connection, or it broke before the answer came.
    #[error("{server} is not connected: {cause}")]
    Lost {
        /// What the client is connected to.
        server: Arc<str>,
        /// The last failure.
        cause: Arc<str>,
    },
    /// No answer in time.
    #[error("{server} did not answer {op:?} {path} within {waited:?}")]
    Timeout {
        /// What the client is connected to.
        server: Arc<str>,
        /// What was asked.
        op: OpCode,
        /// Where.
        path: String,
        /// How long.
        waited: Duration,
    },
    /// The server refused.
    #[error("{server} answered {op:?} {path} with error {}", code.0)]
    Code {
        /// What the client is connected to.
        server: Arc<str>,
        /// What was asked.
        op: OpCode,
        /// Where.
        path: String,
        /// The error.
        code: ErrorCode,
    },
    /// The client was stopped.
    #[error("the session with {server} was closed by us")]
    Closed {
        /// What the client was connected to.
        server: Arc<str>,
    },
}

impl ClientError {
    /// Metric label and log field.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Lost { .. } => "zookeeper_lost",
            Self::Timeout { .. } => "zookeeper_timeout",
            Self::Code { .. } => "zookeeper_refused",
            Self::Closed { .. } => "zookeeper_closed",
        }
    }

    /// The server's error, if it was the server that failed the operation.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Code { code, .. } => Some(*code),
            Self::Lost { .. } | Self::Timeout { .. } | Self::Closed { .. } => None,
        }
    }

    /// Whether the node is absent.
    pub fn is_no_node(&self) -> bool {
        self.code() == Some(ErrorCode::NO_NODE)
    }
}
