// SPDX-License-Identifier: Apache-2.0
//! Where a request wants to go: all of it stands in the head and the header map.
//!
//! Not here: contents. Bolt used without SOFARPC has header maps and class names of its users' own.

use std::borrow::Cow;

use remora_protocol::{Frame, FrameKind, RouteKeys, RouteKeysError};

use crate::codec;
use crate::frame::Parts;
use crate::sofa::{Call, REQUEST_CLASS};

pub(crate) fn route_keys(request: &Frame) -> Result<RouteKeys<'_>, RouteKeysError> {
    let malformed = |at, what| RouteKeysError::Malformed { at, what };
    if !matches!(request.kind, FrameKind::Request | FrameKind::Oneway) {
        return Err(malformed(0, "frame is no request"));
    }
    let parts = Parts::of(&request.wire).ok_or(malformed(0, "frame has no head"))?;
    let serialization = codec::name(parts.head.codec);
    let call = match Call::read(parts.header) {
        Ok(call) if !call.service.is_empty() => call,
        Err(error) if parts.class == REQUEST_CLASS.as_bytes() => {
            return Err(malformed(
                error.at,
                "its header map breaks off, counted from the map's first byte",
            ));
        }
        Ok(_) | Err(_) => {
            return Err(RouteKeysError::Opaque {
                serialization: serialization.unwrap_or("of a class of the caller's own"),
                pins_connection: false,
            });
        }
    };
    let service = std::str::from_utf8(call.service).map_err(|_| malformed(0, "service name is not UTF-8"))?;
    let mut words = service.splitn(3, ':');
    let interface = words.next().unwrap_or_default();
    let version = words.next().filter(|version| !version.is_empty());
    Ok(RouteKeys {
        service: Cow::Borrowed(interface),
        group: Cow::Borrowed(words.next().unwrap_or_default()),
        version: Cow::Borrowed(version.unwrap_or(NO_VERSION)),
        method: String::from_utf8_lossy(call.method),
        is_generic: call.is_generic(),
        timeout: parts.head.timeout(),
        caller: (!call.caller.is_empty()).then(|| String::from_utf8_lossy(call.caller)),
        pins_connection: false,
        serialization,
    })
}

/// Version of a service that names none, `remora_naming::sofa::VERSION`.
const NO_VERSION: &str = "1.0";
