// SPDX-License-Identifier: Apache-2.0
//! Why a text could not be read or changed.

/// A name or document of a registry is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamingError {
    /// No `scheme://` at its front.
    #[error("not a URL: no scheme at its front")]
    Scheme,
    /// A `%` without two hexadecimal digits behind it.
    #[error("broken percent escape at byte {at}")]
    Escape {
        /// Where.
        at: usize,
    },
    /// No host.
    #[error("no host in the address")]
    Host,
    /// The port is no number from 0 to 65535.
    #[error("the port {port:?} is no number from 0 to 65535")]
    Port {
        /// What stands there, cut to 32 bytes.
        port: String,
    },
    /// The takeover marker is there already.
    #[error("{host}:{port} was published by a Remora already")]
    AlreadyTakenOver {
        /// The host in it.
        host: String,
        /// The port in it.
        port: u16,
    },
    /// Longer than what is read.
    #[error("{bytes} bytes, over the limit of {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a JSON document, or nested too deeply.
    #[error("not the JSON document that was expected: {cause}")]
    Json {
        /// The reader's message.
        cause: String,
    },
}

impl NamingError {
    /// Metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Scheme => "no_scheme",
            Self::Escape { .. } => "broken_escape",
            Self::Host => "no_host",
            Self::Port { .. } => "bad_port",
            Self::AlreadyTakenOver { .. } => "already_taken_over",
            Self::TooLong { .. } => "too_long",
            Self::Json { .. } => "bad_json",
        }
    }

    pub(crate) fn port(text: &str) -> Self {
        Self::Port {
            port: cut(text, 32).to_owned(),
        }
    }
}

/// The front of `text`, at most `bytes` long, cut between characters.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
