// SPDX-License-Identifier: Apache-2.0
//! Every metric name once. Counters get their `_total` from the text format. A name, once released, stays.

/// Calls that ended. Labels: side, protocol, outcome.
pub const CALLS: &str = "remora_calls";
/// Time from request to reply, in seconds. Labels: side, protocol.
pub const CALL_DURATION: &str = "remora_call_duration_seconds";
/// Calls waiting for their reply. Labels: side, protocol.
pub const CALLS_IN_FLIGHT: &str = "remora_calls_in_flight";
/// Replies made by Remora in the provider's place. Labels: side, protocol, reason.
pub const LOCAL_REPLIES: &str = "remora_local_replies";
/// Frames not passed on. Labels: side, protocol, reason.
pub const FRAMES_DROPPED: &str = "remora_frames_dropped";
/// Calls tried on a further instance. Labels: side, protocol.
pub const RETRIES: &str = "remora_retries";
/// Instances left alone after a failure. Labels: side, protocol.
pub const EJECTIONS: &str = "remora_ejections";
/// Bytes from downstream peers. Labels: side, protocol.
pub const BYTES_IN: &str = "remora_bytes_in";
/// Bytes to downstream peers. Labels: side, protocol.
pub const BYTES_OUT: &str = "remora_bytes_out";
/// Open connections that came to us. Labels: side, protocol.
pub const DOWNSTREAM_CONNECTIONS: &str = "remora_downstream_connections";
/// Open connections that we opened. Labels: side, protocol.
pub const UPSTREAM_CONNECTIONS: &str = "remora_upstream_connections";
/// Connections closed. Labels: side, protocol, reason.
pub const CONNECTIONS_CLOSED: &str = "remora_connections_closed";
/// Connections closed at accept: foreign peers, or too many. Labels: side, protocol.
pub const CONNECTIONS_REFUSED: &str = "remora_connections_refused";
