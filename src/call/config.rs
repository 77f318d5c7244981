// SPDX-License-Identifier: Apache-2.0
//! Settings of the call path, section `call` of the configuration. Each key has a default with its reason.

use std::fmt::Display;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{ByteSize, Span};

/// Settings of the call path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest frame taken, head and body. Dubbo's `payload` is 8 MiB unless an application raises it, SOFARPC has no
    /// limit: what an application takes must not fail here, so ours is well above; what it does not take it refuses itself.
    pub max_frame: ByteSize,
    /// Longest time a call is kept when its frame names no limit. A safety net: it must not be shorter than what
    /// the consumer would wait, which the frame of a Dubbo 2.7 consumer does not tell.
    pub default_timeout: Span,
    /// Added to the limit that a frame names: the caller's own timer goes first, so it sees its own exception.
    pub timeout_slack: Span,
    /// Wait for a TCP connection to an instance. Inside one data centre a healthy host answers in under 1 ms; a
    /// lost SYN is repeated by the kernel after 1 s.
    pub connect_timeout: Span,
    /// Instances tried for one call, 1 to 8, and only while nothing was sent to an application. Dubbo's own default is 3.
    pub max_attempts: u32,
    /// Calls in flight on one upstream connection before the next is opened. HTTP/2 peers use 100 to 250; fewer
    /// connections mean fewer system calls, because calls share reads and writes.
    pub max_streams: usize,
    /// Upstream connections to one instance, per worker.
    pub max_connections_per_instance: usize,
    /// Calls in flight on one upstream connection when no other may be opened; above it callers are told "overloaded".
    pub max_in_flight_per_connection: usize,
    /// Silence of a peer after which it is probed. Dubbo's own default is 60 s; 15 s is what MOSN uses.
    pub heartbeat_interval: Span,
    /// Wait for the answer to a probe. A long pause of a JVM's collector must fit in all probes together.
    pub heartbeat_timeout: Span,
    /// Unanswered probes after which a connection is closed.
    pub heartbeat_misses: u32,
    /// Silence of an instance that owes an answer after which it is asked for a sign of life (a heartbeat), and gets no new
    /// calls until it gives one; after three times as long without any, it is left alone. Slow methods do no harm: heartbeats
    /// are answered meanwhile. Calls that are sent to a frozen instance until then time out, so it is short; a question
    /// costs a heartbeat.
    pub doubt_after: Span,
    /// First time that an instance is left alone that cannot be reached, loses its connections or is silent, in ms; doubled at
    /// each further failure. linkerd's default is 1 s to 60 s, Finagle's 5 s to 300 s.
    pub eject_min: Span,
    /// Longest time that an instance is left alone.
    pub eject_max: Span,
    /// Share of a service's instances that may be left alone although they can be reached; with more of them calls go to all,
    /// because the few that are left would break down under the load. Envoy's panic threshold begins where half are out; two of
    /// three are allowed here.
    pub eject_max_percent: u32,
    /// Bytes waiting to be written to one peer above which those who send to it are not read. Reading goes on
    /// below half of it.
    pub write_pause: ByteSize,
    /// Bytes waiting to be written to one peer above which its connection is closed. Two replies of the
    /// longest kind fit.
    pub write_cap: ByteSize,
    /// Time without any progress in writing to a peer after which its connection is closed.
    pub write_stall: Span,
    /// Time in which a frame that has begun must be whole, or have grown by 1 KiB; its connection is closed otherwise.
    pub frame_stall: Span,
    /// Bytes of frames that have begun and are not whole, over all connections at the ingress ports, and as many over all others.
    /// Above it only the frame that began first is read on until it is whole. Four of the longest frames.
    pub half_read_cap: ByteSize,
    /// Upstream connections without a call for this long are closed.
    pub idle_close: Span,
    /// Downstream connections of all workers together; further ones are closed at accept.
    pub max_connections: usize,
    /// Share of `max_connections` that callers at the ingress ports may have; what is left is for the applications of this host,
    /// so that no other host locks them out.
    pub ingress_percent: u32,
    /// Connections of one address at the ingress ports (of IPv6 a network of 64 bits). A gateway or a NAT before a whole cluster
    /// has some thousands; a quarter of what all may have by default.
    pub max_connections_per_address: usize,
    /// Those of them from whom no whole frame has come yet; beyond it the oldest makes way. Consumers of Dubbo connect when they
    /// start and may first speak a minute later.
    pub max_silent_per_address: usize,
    /// A connection without a call in flight is closed after this silence when Remora stops: long enough for a
    /// request that was on its way when the peer was told.
    pub drain_quiet: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_frame: ByteSize(64 << 20),
            default_timeout: ms(60_000),
            timeout_slack: ms(250),
            connect_timeout: ms(1000),
            max_attempts: 3,
            max_streams: 256,
            max_connections_per_instance: 4,
            max_in_flight_per_connection: 16_384,
            heartbeat_interval: ms(15_000),
            heartbeat_timeout: ms(5000),
            heartbeat_misses: 3,
            doubt_after: ms(300),
            eject_min: ms(1000),
            eject_max: ms(30_000),
            eject_max_percent: 70,
            write_pause: ByteSize(1 << 20),
            write_cap: ByteSize(160 << 20),
            write_stall: ms(15_000),
            frame_stall: ms(30_000),
            half_read_cap: ByteSize(256 << 20),
            idle_close: ms(300_000),
            max_connections: 50_000,
            ingress_percent: 80,
            max_connections_per_address: 10_000,
            max_silent_per_address: 1000,
            drain_quiet: ms(300),
        }
    }
}

/// A value out of range: which key, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {found}, allowed is {allowed}")]
pub struct OutOfRange {
    /// The key inside section `call`.
    pub key: &'static str,
    /// The value found.
    pub found: String,
    /// What is allowed, in words.
    pub allowed: String,
}

impl Config {
    /// Checks ranges.
    ///
    /// # Errors
    /// The first key whose value is out of range.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let day = ms(86_400_000);
        within("max_frame", self.max_frame, ByteSize(1024), ByteSize(1 << 30))?;
        within("default_timeout", self.default_timeout, ms(1), day)?;
        within("timeout_slack", self.timeout_slack, ms(0), day)?;
        within("connect_timeout", self.connect_timeout, ms(1), ms(60_000))?;
        within("max_attempts", self.max_attempts, 1, 8)?;
        within("max_streams", self.max_streams, 1, 65_536)?;
        within(
            "max_connections_per_instance",
            self.max_connections_per_instance,
            1,
            1024,
        )?;
        within(
            "max_in_flight_per_connection",
            self.max_in_flight_per_connection,
            1,
            1 << 20,
        )?;
        within("heartbeat_interval", self.heartbeat_interval, ms(100), day)?;
        within("heartbeat_timeout", self.heartbeat_timeout, ms(100), day)?;
        within("heartbeat_misses", self.heartbeat_misses, 1, 100)?;
        within("doubt_after", self.doubt_after, ms(10), day)?;
        within("eject_max_percent", self.eject_max_percent, 0, 100)?;
        within("eject_max", self.eject_max, ms(1), day)?;
        within("eject_min", self.eject_min, ms(1), self.eject_max)?;
        within("write_cap", self.write_cap, ByteSize(4096), ByteSize(1 << 32))?;
        within("write_pause", self.write_pause, ByteSize(4096), self.write_cap)?;
        within("write_stall", self.write_stall, ms(100), day)?;
        within("frame_stall", self.frame_stall, ms(100), day)?;
        within(
            "half_read_cap",
            self.half_read_cap,
            ByteSize(64 << 10),
            ByteSize(1 << 40),
        )?;
        within("idle_close", self.idle_close, ms(1000), day)?;
        within("max_connections", self.max_connections, 1, 10_000_000)?;
        within("ingress_percent", self.ingress_percent, 1, 100)?;
        within(
            "max_connections_per_address",
            self.max_connections_per_address,
            1,
            10_000_000,
        )?;
        within("max_silent_per_address", self.max_silent_per_address, 1, 10_000_000)
    }

    /// Connections that callers at the ingress ports may have, at least one.
    pub(super) fn max_ingress_connections(&self) -> usize {
        let percent = usize::try_from(self.ingress_percent).unwrap_or(100);
        (self.max_connections.saturating_mul(percent) / 100).max(1)
    }
}

fn within<T: PartialOrd + Display>(key: &'static str, found: T, least: T, most: T) -> Result<(), OutOfRange> {
    if (&least..=&most).contains(&&found) {
        return Ok(());
    }
    Err(OutOfRange {
        key,
        found: found.to_string(),
        allowed: format!("{least} to {most}"),
    })
}

const fn ms(value: u64) -> Span {
    Span(Duration::from_millis(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let error = serde_json::from_str::<Config>(r#"{"max_frames": 1}"#).unwrap_err();
        assert!(error.to_string().contains("max_frames"), "{error}");
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let config = Config {
            max_attempts: 0,
            ..Config::default()
        };
        let text = config.check().unwrap_err().to_string();
        assert_eq!(text, "max_attempts is 0, allowed is 1 to 8");
    }
}
