// SPDX-License-Identifier: Apache-2.0
//! Any bytes as the header map of a request and of a reply: pairs that lie in the map, one behind the other, and the same keys
//! as a reader finds that builds a map; no panic, no memory beyond the input and a constant.
#![no_main]

mod bolt;
mod peak;

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use remora_bolt::frame::Parts;
use remora_bolt::header::Header;
use remora_bolt::sofa::Call;
use remora_bolt::{Bolt, decode};
use remora_protocol::{BytesMut, Decoded, Frame, Protocol};

#[global_allocator]
static ALLOCATOR: peak::Counting = peak::Counting;

const SOFA_REQUEST: &[u8] = b"com.alipay.sofa.rpc.core.request.SofaRequest";

fuzz_target!(|bytes: &[u8]| {
    check(bytes.get(..0x7fff).unwrap_or(bytes));
    // The corpus begins with whole frames.
    if let Some(parts) = Parts::of(bytes) {
        check(parts.header.bytes());
    }
});

fn check(map: &[u8]) {
    let (pairs, peak) = peak::peak_of(|| Header::new(map).pairs().count());
    assert!(peak == 0 && pairs <= map.len() / 8 + 1);
    let built = java(map);
    let header = Header::new(map);
    for class in [SOFA_REQUEST, b"demo.Ask"] {
        let (request, reply) = (frame(1, class, map), frame(0, class, map));
        let (keys, peak) = peak::peak_of(|| Bolt.route_keys(&request).is_ok());
        assert!(
            peak <= 4 * map.len() + bolt::EXTRA_BYTES,
            "{peak} bytes for {}",
            map.len()
        );
        let _ = Bolt.outcome(&reply);
        match &built {
            None => assert!(!keys && Call::of(&request).is_err()),
            Some(built) => {
                let call = Call::of(&request).expect("the map is whole");
                let of = |key: &[u8]| built.get(key).copied().unwrap_or_default();
                let service = match of(b"service") {
                    b"" => of(b"sofa_head_target_service"),
                    service => service,
                };
                assert_eq!(call.service, service);
                assert_eq!(call.method, of(b"sofa_head_method_name"));
                assert_eq!(call.trace_id, of(b"rpc_trace_context.sofaTraceId"));
                assert_eq!(keys, !service.is_empty() && std::str::from_utf8(service).is_ok());
                for (key, value) in built {
                    if let Ok(key) = std::str::from_utf8(key) {
                        assert_eq!(header.get(key), Some(*value));
                    }
                }
            }
        }
        bolt::use_frame(&request);
        bolt::use_frame(&reply);
    }
}

/// The map as `SimpleMapSerializer` builds it; `None` if it breaks off.
fn java(mut rest: &[u8]) -> Option<HashMap<&[u8], &[u8]>> {
    fn string<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
        let (len, behind) = rest.split_first_chunk::<4>()?;
        let len = i32::from_be_bytes(*len);
        if len < 0 {
            *rest = behind;
            return Some(None);
        }
        let (string, behind) = behind.split_at_checked(len as usize)?;
        *rest = behind;
        Some(Some(string))
    }
    let mut map = HashMap::new();
    while !rest.is_empty() {
        if let (Some(key), Some(value)) = (string(&mut rest)?, string(&mut rest)?) {
            map.insert(key, value);
        }
    }
    Some(map)
}

fn frame(kind: u8, class: &[u8], header: &[u8]) -> Frame {
    let mut wire = vec![1, kind, 0, if kind == 0 { 2 } else { 1 }, 1, 0, 0, 0, 1, 1];
    wire.extend(if kind == 0 { &[0, 0][..] } else { &[0, 0, 1, 0] });
    wire.extend((class.len() as u16).to_be_bytes());
    wire.extend((header.len() as u16).to_be_bytes());
    wire.extend([0; 4]);
    wire.extend(class);
    wire.extend(header);
    match decode(&mut BytesMut::from(&wire[..]), 1 << 20) {
        Ok(Decoded::Frame(frame)) => frame,
        other => panic!("a frame of ours is {other:?}"),
    }
}
