// SPDX-License-Identifier: Apache-2.0
//! Captured frames, for the benches beside this folder.
#![allow(dead_code, reason = "each bench uses a part")]

use bytes::BytesMut;
use remora_protocol::{Bytes, Decoded, Frame, Protocol};

/// The bytes of `testbed/golden/<name>.hex`.
pub fn golden(name: &str) -> Bytes {
    let path = format!("{}/../testbed/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let rows = text.lines().filter(|row| !row.starts_with('#'));
    let digits: Vec<u32> = rows.flat_map(str::chars).filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks_exact(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

/// The one frame in `wire`.
pub fn frame(protocol: &dyn Protocol, wire: &[u8]) -> Frame {
    match protocol.decode(&mut BytesMut::from(wire), MAX_FRAME) {
        Ok(Decoded::Frame(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

/// The plugin for a name that begins with its own.
pub fn plugin(name: &str) -> &'static dyn Protocol {
    if name.starts_with("bolt/") {
        &remora_bolt::Bolt
    } else {
        &remora_dubbo::Dubbo
    }
}

/// The default limit of the proxy.
pub const MAX_FRAME: usize = 8196 << 10;
