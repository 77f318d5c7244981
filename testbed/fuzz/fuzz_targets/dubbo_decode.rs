// SPDX-License-Identifier: Apache-2.0
//! Any bytes as a dubbo stream, and as the body of a frame in each serialization: no panic, no memory beyond the input
//! and a constant, frames that cover the stream without gap or overlap, local replies that can be read back.
#![no_main]

mod peak;

use libfuzzer_sys::fuzz_target;
use remora_dubbo::{Dubbo, answer, metadata_reply, string_arguments, string_reply};
use remora_protocol::{BytesMut, Decoded, Frame, FrameKind, LocalReply, Outcome, Protocol, StreamId};

#[global_allocator]
static ALLOCATOR: peak::Counting = peak::Counting;

/// What the plugin may allocate on top of the bytes it was given.
const EXTRA_BYTES: usize = 64 << 10;
const MAX_FRAME_BYTES: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    stream(bytes);
    if let Some((&flag, body)) = bytes.split_first() {
        let mut wire = vec![0xda, 0xbb, flag, 20, 0, 0, 0, 0, 0, 0, 0, 1];
        wire.extend((body.len() as u32).to_be_bytes());
        wire.extend(body);
        stream(&wire);
    }
});

/// Everything that a proxy does with what a peer sent.
fn stream(bytes: &[u8]) {
    let mut input = BytesMut::from(bytes);
    let ((), peak) = peak::peak_of(|| frames(&mut input, bytes));
    assert!(
        peak <= bytes.len() + EXTRA_BYTES,
        "{peak} bytes for an input of {}",
        bytes.len()
    );
}

fn frames(input: &mut BytesMut, bytes: &[u8]) {
    let mut at = 0;
    loop {
        let left = input.len();
        assert_eq!(left, bytes.len() - at);
        match Dubbo.decode(input, MAX_FRAME_BYTES) {
            Err(_) => return,
            Ok(Decoded::Incomplete { missing }) => {
                assert!(missing >= 1 && missing <= MAX_FRAME_BYTES && input.len() == left);
                return;
            }
            Ok(Decoded::TooLong { head, body_len }) => {
                assert!(head.body().is_empty() && body_len > 256);
                use_frame(&head);
                let dropped = usize::try_from(body_len).unwrap_or(usize::MAX).min(input.len());
                let _ = input.split_to(dropped);
                at += head.wire.len() + dropped;
            }
            Ok(Decoded::Frame(frame)) => {
                assert_eq!(Some(&frame.wire[..]), bytes.get(at..at + frame.wire.len()));
                assert!(frame.wire.len() <= MAX_FRAME_BYTES);
                use_frame(&frame);
                at += frame.wire.len();
            }
        }
    }
}

fn use_frame(frame: &Frame) {
    if let Ok(keys) = Dubbo.route_keys(frame) {
        assert!(matches!(frame.kind, FrameKind::Request | FrameKind::Oneway));
        assert!(keys.version != "0.0.0" && keys.timeout.is_none_or(|timeout| !timeout.is_zero()));
    }
    let _ = Dubbo.outcome(frame);
    if let Some(reply) = Dubbo.heartbeat_reply(frame) {
        assert_eq!(whole(&reply).kind, FrameKind::HeartbeatReply);
    }
    for reason in [LocalReply::NoRoute, LocalReply::Timeout, LocalReply::TooLong] {
        let Some(reply) = Dubbo.local_reply(frame, reason, "demo.EchoService: no instance") else {
            assert_ne!(frame.kind, FrameKind::Request);
            continue;
        };
        let reply = whole(&reply);
        assert!(frame.kind == FrameKind::Request && reply.stream_id == frame.stream_id);
        assert_eq!(Dubbo.outcome(&reply) == Outcome::NothingSent, reason.nothing_sent());
    }
    let mut head = frame.head().to_vec();
    Dubbo.restamp(&mut head, StreamId(0x0102_0304_0506_0708));
    assert!(head[..4] == frame.wire[..4] && head[12..] == frame.wire[12..16]);
    // Calls of our own build values, within a limit of their own that is far above this input.
    if frame.wire.len() <= 256 {
        let _ = (answer(frame), metadata_reply(frame), string_arguments(frame));
        if let Some(reply) = string_reply(frame, "x") {
            assert!(answer(&whole(&reply)).is_ok());
        }
    }
}

fn whole(wire: &[u8]) -> Frame {
    match Dubbo.decode(&mut BytesMut::from(wire), MAX_FRAME_BYTES) {
        Ok(Decoded::Frame(frame)) => frame,
        other => panic!("a frame of ours is {other:?}"),
    }
}
