// SPDX-License-Identifier: Apache-2.0
//! Why a request was refused, in words for the application's log.

use std::net::SocketAddr;

use hyper::StatusCode;

use crate::stats::Refusal;

/// A request that was not accepted. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("Host `{host}` is refused: call an IP address or localhost, or list the name in {setting}")]
    Host { host: String, setting: &'static str },
    #[error("a request with Origin, Referer or Sec-Fetch-Site comes from a web page and is refused")]
    Origin,
    #[error("there is no {path} here; {pages}")]
    Path { path: String, pages: &'static str },
    #[error("{path} takes {allowed}")]
    Method { path: String, allowed: hyper::Method },
    #[error("content type `{found}` is refused: send JSON as application/json or text/plain")]
    ContentType { found: String },
    #[error("the body is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("the body did not come whole: {cause}")]
    Body { cause: String },
    #[error("the body is no JSON object: {cause}")]
    Json { cause: String },
    #[error("key `{key}` is missing")]
    Missing { key: String },
    #[error("key `{key}` must be {expected}, not {found}")]
    Type {
        key: String,
        expected: &'static str,
        found: &'static str,
    },
    #[error("key `{key}` is wrong: {why}")]
    Value { key: String, why: String },
    #[error(
        "the port of protocol {protocol} on which application {application} listens is not known: set {setting}, or send it as `{key}`"
    )]
    NoPort {
        protocol: String,
        application: String,
        setting: String,
        key: &'static str,
    },
    #[error(
        "port {port} is the one of application {other} already; set the port of application {application} in {setting}"
    )]
    PortTaken {
        port: u16,
        other: String,
        application: String,
        setting: String,
    },
    #[error("{protocol} cannot be called through Remora here: {why}")]
    Protocol { protocol: String, why: String },
    #[error("{what} was registered by user {owner}, and {caller} may not change it")]
    Owner { what: String, owner: u32, caller: String },
    #[error("port {port} is listened on by user {owner}, and {caller} may not publish it")]
    PortOwner { port: u16, owner: u32, caller: String },
    #[error("{peer} closed its connection before its user was known, and nobody may publish without one")]
    Nobody { peer: SocketAddr },
    #[error("the registry cannot hold it: {cause}")]
    Registry { cause: String },
    #[error("{limit} are kept at most, and there are as many")]
    Full { limit: usize },
}

impl Refused {
    /// Short and fixed.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::Host { .. } => Refusal::Host,
            Self::Origin => Refusal::Origin,
            Self::Path { .. } | Self::Method { .. } | Self::ContentType { .. } => Refusal::Request,
            Self::TooLong { .. } | Self::Body { .. } => Refusal::Body,
            Self::Json { .. } | Self::Missing { .. } | Self::Type { .. } | Self::Value { .. } => Refusal::Key,
            Self::NoPort { .. } | Self::PortTaken { .. } => Refusal::Port,
            Self::Protocol { .. } => Refusal::Protocol,
            Self::Owner { .. } | Self::PortOwner { .. } | Self::Nobody { .. } => Refusal::Owner,
            Self::Registry { .. } => Refusal::Registry,
            Self::Full { .. } => Refusal::Full,
        }
    }

    /// Metric label and log field.
    pub(crate) fn reason(&self) -> &'static str {
        self.refusal().reason()
    }

    /// 200 for what the body of a well-formed request says: the clients read no body otherwise.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Host { .. } | Self::Origin => StatusCode::FORBIDDEN,
            Self::Path { .. } => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body { .. } => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::OK,
        }
    }
}
