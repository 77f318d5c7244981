// SPDX-License-Identifier: Apache-2.0
//! Replies made by the proxy in the provider's place, and what a reply says about the call.

/// Why the proxy answers itself. A plugin maps each to the status that the framework turns into the right exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalReply {
    /// No application here follows this service, or none is published on this ingress port.
    NoRoute,
    /// The service is known, but no instance of it is usable.
    NoInstance,
    /// No connection to any instance could be made. Nothing was sent to the application.
    ConnectFailed,
    /// The upstream connection closed while the call was in flight. The application may have run it.
    UpstreamClosed,
    /// The call's deadline passed.
    Timeout,
    /// A limit of ours was reached. Nothing was sent.
    Overloaded,
    /// The frame was longer than `max_frame_bytes`. Nothing was sent.
    TooLong,
    /// The reply was longer than `max_frame_bytes`. The application has run the call.
    ReplyTooLong,
    /// The body could not be read.
    Malformed,
    /// We are shutting down. Nothing was sent.
    Draining,
}

impl LocalReply {
    /// Metric label, also part of the message that the caller sees.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::NoInstance => "no_instance",
            Self::ConnectFailed => "connect_failed",
            Self::UpstreamClosed => "upstream_closed",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::TooLong => "too_long",
            Self::ReplyTooLong => "reply_too_long",
            Self::Malformed => "malformed",
            Self::Draining => "draining",
        }
    }

    /// Whether the application surely did not see the call, so that another instance may be tried.
    pub fn nothing_sent(self) -> bool {
        !matches!(self, Self::UpstreamClosed | Self::Timeout | Self::ReplyTooLong)
    }
}

/// What a reply says about the call, read from its head and first body bytes only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The call returned.
    Ok,
    /// The application threw: a normal reply as far as the network is concerned.
    AppException,
    /// The framework at the other end failed (its status, for the log).
    Failed(u8),
    /// A local reply of another Remora which says that nothing was sent to the application: another instance may be
    /// tried without doing anything twice.
    NothingSent,
    /// The framework at the other end has the call and surely did not begin it (no thread is free, or none any more): another
    /// instance may be tried, if the call is the framework's own, with route keys that could be read. One that is only busy goes
    /// on to get calls.
    Refused,
}

impl Outcome {
    /// Metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::AppException => "app_exception",
            Self::Failed(_) => "failed",
            Self::NothingSent => "nothing_sent",
            Self::Refused => "refused",
        }
    }
}
