// SPDX-License-Identifier: Apache-2.0
//! Any bytes as a stream of bolt frames with SOFARegistry's messages in them, and as the content of one: no panic, no memory
//! beyond the limits, and what was read is written and read the same again.
#![no_main]

mod peak;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use remora_bolt::frame::Parts;
use remora_protocol::Decoded;
use remora_sofaregistry::wire::{Kind, Limits, Message};

#[global_allocator]
static ALLOCATOR: peak::Counting = peak::Counting;

const LIMITS: Limits = Limits { max_content_bytes: 64 << 10, max_items: 1 << 14, max_decoded_bytes: 8 << 20 };
/// What a message may take by itself: its strings, and a place in a list for each.
const MESSAGE_BYTES: usize = 3 * LIMITS.max_items * size_of::<(String, Vec<String>)>();

fuzz_target!(|input: &[u8]| {
    let mut stream = BytesMut::from(input);
    while let Ok(Decoded::Frame(frame)) = remora_bolt::decode(&mut stream, 1 << 20) {
        if let Some(parts) = Parts::of(&frame.wire) {
            check(&String::from_utf8_lossy(parts.class), parts.content);
        }
    }
    if let Some((kind, content)) = input.split_first() {
        check(Kind::ALL[usize::from(*kind) % Kind::ALL.len()].class(), content);
    }
});

fn check(class: &str, content: &[u8]) {
    let (message, peak) = peak::peak_of(|| Message::decode(class, content, &LIMITS));
    let max = LIMITS.max_decoded_bytes + 3 * content.len() + MESSAGE_BYTES + 4096;
    assert!(peak <= max, "{peak} bytes for a content of {}", content.len());
    if let Ok(message) = message {
        assert!(message.class() == class && content.len() <= LIMITS.max_content_bytes);
        let again = Message::decode(class, &message.encode(), &Limits::default());
        assert_eq!(again.as_ref(), Ok(&message));
    }
}
