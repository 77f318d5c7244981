// SPDX-License-Identifier: Apache-2.0
//! Any bytes as a bolt stream, and as type, codec, switch, lengths and parts of a v2 frame, with a CRC that fits where one is
//! due: no panic, no memory beyond the input and a constant, frames that cover the stream, CRCs that fit another id.
#![no_main]

mod bolt;
mod peak;

use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: peak::Counting = peak::Counting;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if let Some((&[ver1, kind, codec, switch, class_len, high, low, status], parts)) = bytes.split_first_chunk() {
        let (ver1, kind, switch) = (1 + ver1 % 2, kind % 3, switch & 0x7f);
        let (class_len, header_len) = (usize::from(class_len), usize::from(u16::from_be_bytes([high, low])));
        let mut wire = vec![
            2,
            ver1,
            kind,
            0,
            if kind == 0 { 2 } else { 1 },
            1,
            0,
            0,
            0,
            1,
            codec,
            switch,
        ];
        if kind == 0 {
            wire.extend([0, status]);
        } else {
            wire.extend([0, 0, status, 0]);
        }
        let class_len = class_len.min(parts.len());
        let header_len = header_len.min(parts.len() - class_len).min(0x7fff);
        wire.extend((class_len as u16).to_be_bytes());
        wire.extend((header_len as u16).to_be_bytes());
        wire.extend(((parts.len() - class_len - header_len) as u32).to_be_bytes());
        wire.extend(parts);
        if ver1 == 2 && switch & 1 != 0 {
            wire.extend(crc32(&wire).to_be_bytes());
        }
        check(&wire);
    }
});

fn check(bytes: &[u8]) {
    let ((), peak) = peak::peak_of(|| bolt::stream(bytes));
    // The stream itself, and copies of one frame for comparing.
    assert!(
        peak <= 4 * bytes.len() + bolt::EXTRA_BYTES,
        "{peak} bytes for {}",
        bytes.len()
    );
}

/// Bit by bit, so that it shares nothing with what it checks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }
        })
    })
}
