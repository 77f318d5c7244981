// SPDX-License-Identifier: Apache-2.0
//! Why a call could not be carried, and what the caller is told.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use remora_protocol::{LocalReply, RouteKeysError};

/// Why a call could not be carried. The text goes to the application's log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody here follows the service.
    #[error("no application here follows {service}{known}; see `remora status` for the services that are followed")]
    NoRoute {
        /// The service as the call named it.
        service: String,
        /// Other groups and versions of the same name that are followed; empty if none.
        known: String,
    },
    /// An ingress port without an application.
    #[error("no application is published on ingress {ingress} yet; is the provider up and registered through Remora?")]
    NoApplication {
        /// The ingress port's address.
        ingress: SocketAddr,
    },
    /// The application behind an ingress port stops.
    #[error("the application behind ingress {ingress} stops: it has withdrawn what it published, or closed its port")]
    Leaving {
        /// The ingress port's address.
        ingress: SocketAddr,
    },
    /// The list of the service is empty, or nobody in it speaks the protocol.
    #[error("no instance of {service} is registered; see the provider's registration in `remora status`")]
    NoInstance {
        /// The service.
        service: String,
    },
    /// Every instance that was tried failed before anything was sent.
    #[error("no instance of {service} is reachable ({tried})")]
    Unreachable {
        /// The service.
        service: String,
        /// What was tried and why it failed.
        tried: Tried,
    },
    /// Too many calls in flight.
    #[error(
        "{service} has {in_flight} calls in flight on every connection; raise call.max_in_flight_per_connection or add instances"
    )]
    Overloaded {
        /// The service.
        service: String,
        /// Calls in flight on the connection chosen.
        in_flight: usize,
    },
    /// The connection closed with the call on it.
    #[error("{addr} closed the connection ({reason}) while the call to {service} was in flight; it may have run")]
    UpstreamClosed {
        /// The service.
        service: String,
        /// The instance.
        addr: SocketAddr,
        /// Why the connection was closed.
        reason: &'static str,
    },
    /// No reply in time.
    #[error("{addr} did not answer the call to {service} within {} ms", waited.as_millis())]
    Timeout {
        /// The service.
        service: String,
        /// The instance.
        addr: SocketAddr,
        /// How long it waited.
        waited: Duration,
    },
    /// A request over the limit.
    #[error("the request is {bytes} bytes longer than its head, over call.max_frame = {max}")]
    TooLong {
        /// Length of the body that was announced, in bytes.
        bytes: u64,
        /// The limit in bytes.
        max: usize,
    },
    /// A reply over the limit.
    #[error(
        "the reply of {addr} to {service} has {bytes} bytes of body, over call.max_frame = {max}; the call has run"
    )]
    ReplyTooLong {
        /// The service.
        service: String,
        /// The instance.
        addr: SocketAddr,
        /// Length of the body that was announced, in bytes.
        bytes: u64,
        /// The limit in bytes.
        max: usize,
    },
    /// Nothing in the request tells its service.
    #[error(
        "{error}, and {found} of the {followed} services followed here could be meant; use a serialization that Remora can read (hessian2, fastjson2)"
    )]
    Unreadable {
        /// Why the keys could not be read.
        error: RouteKeysError,
        /// Services whose name occurs in the request.
        found: usize,
        /// Services followed.
        followed: usize,
    },
    /// Remora stopped while the call was in flight.
    #[error("Remora stopped before {addr} answered the call to {service}; it may have run")]
    CutByDrain {
        /// The service.
        service: String,
        /// The instance.
        addr: SocketAddr,
    },
    /// A provider called back on a connection that many callers share.
    #[error(
        "this connection is shared by many callers, so a request of the provider cannot be delivered; callbacks work on connections that registered one"
    )]
    UnownedRequest,
    /// The caller for whom a provider's request was meant is gone.
    #[error("the caller for whom this request was meant has closed its connection")]
    CallerGone,
}

impl CallError {
    /// The instance that the call was sent to last, if any.
    pub(super) fn instance(&self) -> Option<SocketAddr> {
        match self {
            Self::UpstreamClosed { addr, .. }
            | Self::Timeout { addr, .. }
            | Self::ReplyTooLong { addr, .. }
            | Self::CutByDrain { addr, .. } => Some(*addr),
            Self::Unreachable { tried, .. } => tried.0.last().map(|(addr, _)| *addr),
            _ => None,
        }
    }

    /// Metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoRoute { .. } => "no_route",
            Self::NoApplication { .. } => "no_application",
            Self::Leaving { .. } => "leaving",
            Self::NoInstance { .. } => "no_instance",
            Self::Unreachable { .. } => "unreachable",
            Self::Overloaded { .. } => "overloaded",
            Self::UpstreamClosed { .. } => "upstream_closed",
            Self::Timeout { .. } => "timeout",
            Self::TooLong { .. } => "too_long",
            Self::ReplyTooLong { .. } => "reply_too_long",
            Self::Unreadable { error, .. } => error.reason(),
            Self::CutByDrain { .. } => "cut_by_drain",
            Self::UnownedRequest => "unowned_request",
            Self::CallerGone => "caller_gone",
        }
    }

    /// Whether the application surely did not see the call.
    pub fn nothing_sent(&self) -> bool {
        self.local_reply().nothing_sent()
    }

    /// What a protocol plugin is asked to say.
    pub fn local_reply(&self) -> LocalReply {
        match self {
            Self::NoRoute { .. } | Self::NoApplication { .. } | Self::UnownedRequest => LocalReply::NoRoute,
            Self::Leaving { .. } => LocalReply::Draining,
            Self::NoInstance { .. } => LocalReply::NoInstance,
            Self::Unreachable { .. } => LocalReply::ConnectFailed,
            Self::Overloaded { .. } => LocalReply::Overloaded,
            // The application has run the call: nothing that says "nothing sent" may be answered.
            Self::UpstreamClosed { .. } | Self::CutByDrain { .. } | Self::CallerGone => LocalReply::UpstreamClosed,
            Self::ReplyTooLong { .. } => LocalReply::ReplyTooLong,
            Self::Timeout { .. } => LocalReply::Timeout,
            Self::TooLong { .. } => LocalReply::TooLong,
            Self::Unreadable { .. } => LocalReply::Malformed,
        }
    }
}

/// Instances that were tried for one call, with the reason each failed for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried(pub Vec<(SocketAddr, String)>);

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tried: ", self.0.len())?;
        for (n, (addr, why)) in self.0.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(f, "{comma}{addr} {why}")?;
        }
        Ok(())
    }
}

/// The call path could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener names a protocol that is not compiled in.
    #[error("no plugin for protocol {protocol}")]
    UnknownProtocol {
        /// The name.
        protocol: String,
    },
    /// A plugin that pairs replies by order.
    #[error(
        "protocol {protocol} allows one call at a time on a connection; only protocols with stream ids are carried"
    )]
    NoStreamIds {
        /// Its name.
        protocol: &'static str,
    },
    /// A thread or its runtime could not be made.
    #[error("worker {worker} could not be started: {error}")]
    Worker {
        /// Which worker.
        worker: usize,
        /// Why.
        error: std::io::Error,
    },
    /// A listening socket could not be used.
    #[error("listener {addr} could not be used: {error}")]
    Listener {
        /// Its address.
        addr: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
}
