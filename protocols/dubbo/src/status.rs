// SPDX-License-Identifier: Apache-2.0
//! The status byte of a reply. Source: `Response` of Dubbo 2.6 to 3.3, and `DefaultFuture.doReceived`, which turns
//! 30 and 31 into a `TimeoutException`, 25 into a `SerializationException` (3.x) and everything else but 20 into a
//! `RemotingException`; the application sees an `RpcException` either way.

use remora_protocol::LocalReply;

pub(crate) const OK: u8 = 20;
pub(crate) const SERVER_TIMEOUT: u8 = 31;
pub(crate) const BAD_REQUEST: u8 = 40;
pub(crate) const SERVICE_NOT_FOUND: u8 = 60;
pub(crate) const SERVER_ERROR: u8 = 80;
pub(crate) const OVERLOADED: u8 = 100;

/// The status that says `reason` to Dubbo.
pub(crate) fn of(reason: LocalReply) -> u8 {
    match reason {
        LocalReply::NoRoute => SERVICE_NOT_FOUND,
        LocalReply::Timeout => SERVER_TIMEOUT,
        LocalReply::Overloaded => OVERLOADED,
        // As a provider answers a request that it cannot decode, or that is over its payload limit.
        LocalReply::TooLong | LocalReply::Malformed => BAD_REQUEST,
        LocalReply::NoInstance
        | LocalReply::ConnectFailed
        | LocalReply::UpstreamClosed
        | LocalReply::ReplyTooLong
        | LocalReply::Draining => SERVER_ERROR,
    }
}
