// SPDX-License-Identifier: Apache-2.0
//! Any bytes as a bolt stream, and as type, codec, lengths and parts of a v1 frame: no panic, no memory beyond the input and
//! a constant, frames that cover the stream without gap or overlap, replies of ours that can be read back.
#![no_main]

mod bolt;
mod peak;

use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: peak::Counting = peak::Counting;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if let Some((&[kind, codec, class_len, high, low, status, timeout], parts)) = bytes.split_first_chunk() {
        let (class_len, header_len) = (usize::from(class_len), usize::from(u16::from_be_bytes([high, low])));
        let mut wire = vec![1, kind % 3, 0, if kind % 3 == 0 { 2 } else { 1 }, 1, 0, 0, 0, 1, codec];
        if kind % 3 == 0 {
            wire.extend([0, status]);
        } else {
            wire.extend([0, 0, timeout, 0]);
        }
        let class_len = class_len.min(parts.len());
        let header_len = header_len.min(parts.len() - class_len).min(0x7fff);
        wire.extend((class_len as u16).to_be_bytes());
        wire.extend((header_len as u16).to_be_bytes());
        wire.extend(((parts.len() - class_len - header_len) as u32).to_be_bytes());
        wire.extend(parts);
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
