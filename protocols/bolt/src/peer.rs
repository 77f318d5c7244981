// SPDX-License-Identifier: Apache-2.0
//! What only another Remora is told.
//!
//! Bolt has no goaway. MOSN's is a request of command 100, on which a Java peer closes its connection and with it all calls
//! in flight. So it is said only to who greeted: by a heartbeat with a header map, which Java's servers answer like any other
//! (seen with SOFARPC 5.6.5 and 5.13.2).

use remora_protocol::{Bytes, Frame, FrameKind};

use crate::frame::{GOAWAY, HEARTBEAT, Parts, Version};
use crate::write::event;

/// Key in the header map of a greeting. A contract between Remoras of any two versions: it may never change.
const UNDERSTANDS_GOAWAY: &str = "remora.goaway";

pub(crate) fn greeting(version: Version) -> Bytes {
    event(version, HEARTBEAT, 0, &[(UNDERSTANDS_GOAWAY, "1")])
}

pub(crate) fn is_greeting(heartbeat: &Frame) -> bool {
    let parts = Parts::of(&heartbeat.wire).filter(|parts| parts.head.header_len > 0);
    heartbeat.kind == FrameKind::Heartbeat && parts.is_some_and(|parts| parts.header.get(UNDERSTANDS_GOAWAY).is_some())
}

pub(crate) fn goaway(version: Version) -> Bytes {
    event(version, GOAWAY, 0, &[])
}
