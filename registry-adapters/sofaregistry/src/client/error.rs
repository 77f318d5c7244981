// SPDX-License-Identifier: Apache-2.0
//! Why a question to a session server has no answer.

use std::sync::Arc;
use std::time::Duration;

use remora_bolt::WriteError;

/// A request was not answered, or not as it should be.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// There is no connection, or it was lost before the answer came. The server may have done what was asked.
    #[error("no session server: {cause}")]
    Lost {
        /// The last failure.
        cause: Arc<str>,
    },
    /// No answer in time. The server may have done what was asked.
    #[error("the session server gave no answer to {asked} within {waited:?}")]
    Timeout {
        /// Class of the request.
        asked: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// The bolt server answered with a status of its own.
    #[error("the session server answered {asked} with bolt status {status:#04x}")]
    Status {
        /// Class of the request.
        asked: &'static str,
        /// The status.
        status: u16,
    },
    /// The answer cannot be read, or is another message than the request calls for.
    #[error("the session server's answer to {asked} is none: {cause}")]
    Odd {
        /// Class of the request.
        asked: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The server answered that it did not take it.
    #[error("the session server did not take it: {message}")]
    NotTaken {
        /// What it said.
        message: String,
    },
    /// The server answered that it never will.
    #[error("the session server refuses it for good: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// The request does not fit into a frame.
    #[error(transparent)]
    TooLong(#[from] WriteError),
    /// We stopped.
    #[error("we closed the connection")]
    Closed,
}

impl ClientError {
    /// Metric label and log field.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Lost { .. } => "lost",
            Self::Timeout { .. } => "timeout",
            Self::Status { .. } => "bolt_status",
            Self::Odd { .. } => "odd_answer",
            Self::NotTaken { .. } => "not_taken",
            Self::Refused { .. } => "refused",
            Self::TooLong(error) => error.reason(),
            Self::Closed => "closed",
        }
    }

    /// Whether asking again for the same thing on the same connection makes no sense.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::TooLong(_))
    }
}
