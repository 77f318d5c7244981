// SPDX-License-Identifier: Apache-2.0
//! Everything that a proxy does with what a bolt peer sent, with checks; shared by the bolt targets.

use remora_bolt::Bolt;
use remora_bolt::frame::{Parts, Version};
use remora_bolt::sofa::Call;
use remora_protocol::{BytesMut, Decoded, Frame, FrameKind, LocalReply, Outcome, Protocol, Sniff, StreamId};

/// What the plugin may allocate on top of the bytes it was given.
pub const EXTRA_BYTES: usize = 64 << 10;
const MAX_FRAME_BYTES: usize = 4096;

/// Cuts a stream until it is no bolt any more, and uses each frame.
pub fn stream(bytes: &[u8]) {
    let mut input = BytesMut::from(bytes);
    let mut at = 0;
    loop {
        let left = input.len();
        assert_eq!(left, bytes.len() - at);
        let is_bolt = Bolt.sniff(&input) != Sniff::No;
        match Bolt.decode(&mut input, MAX_FRAME_BYTES) {
            Err(_) => return,
            Ok(Decoded::Incomplete { missing }) => {
                assert!(is_bolt && missing >= 1 && missing <= MAX_FRAME_BYTES && input.len() == left);
                return;
            }
            Ok(Decoded::TooLong { head, body_len }) => {
                assert!(is_bolt && head.body().is_empty() && body_len > 0);
                assert!(head.wire.len() as u64 + body_len > MAX_FRAME_BYTES as u64);
                use_frame(&head);
                let dropped = usize::try_from(body_len).unwrap_or(usize::MAX).min(input.len());
                let _ = input.split_to(dropped);
                at += head.wire.len() + dropped;
            }
            Ok(Decoded::Frame(frame)) => {
                assert!(is_bolt && frame.wire.len() <= MAX_FRAME_BYTES);
                assert_eq!(Some(&frame.wire[..]), bytes.get(at..at + frame.wire.len()));
                restamp(&frame);
                use_frame(&frame);
                at += frame.wire.len();
            }
        }
    }
}

/// Keys, outcome, answers.
pub fn use_frame(frame: &Frame) {
    let parts = Parts::of(&frame.wire).expect("it was decoded");
    let pairs = parts.header.pairs().count();
    assert!(pairs <= parts.header.bytes().len());
    if let Ok(keys) = Bolt.route_keys(frame) {
        assert!(matches!(frame.kind, FrameKind::Request | FrameKind::Oneway));
        assert!(!keys.version.is_empty() && keys.timeout.is_none_or(|timeout| !timeout.is_zero()));
        assert!(!Call::of(frame).expect("it has keys").service.is_empty());
    }
    let _ = Bolt.outcome(frame);
    let dialect = Bolt.dialect(frame);
    assert_eq!(Version::of_dialect(dialect), parts.head.version);
    if let Some(answer) = Bolt.heartbeat_reply(frame) {
        let answer = whole(&answer);
        assert_eq!(
            (answer.kind, answer.stream_id),
            (FrameKind::HeartbeatReply, frame.stream_id)
        );
        assert_eq!(Bolt.dialect(&answer), dialect);
    }
    for reason in [
        LocalReply::NoRoute,
        LocalReply::Timeout,
        LocalReply::Overloaded,
        LocalReply::ReplyTooLong,
    ] {
        let Some(reply) = Bolt.local_reply(frame, reason, "demo.EchoService: no instance") else {
            assert_ne!(frame.kind, FrameKind::Request);
            continue;
        };
        let reply = whole(&reply);
        assert!(frame.kind == FrameKind::Request && reply.stream_id == frame.stream_id);
        assert_eq!(Bolt.dialect(&reply), dialect);
        assert_eq!(Bolt.outcome(&reply) == Outcome::NothingSent, reason.nothing_sent());
    }
}

/// As the call path writes it: the same frame under another id, which a peer takes for whole.
fn restamp(frame: &Frame) {
    let id = StreamId(0x0102_0304);
    let mut wire = frame.wire.to_vec();
    Bolt.restamp(&mut wire[..frame.head_len], id);
    if let Some(trailer) = Bolt.restamped_trailer(frame, id) {
        let at = wire.len() - trailer.len();
        wire[at..].copy_from_slice(&trailer);
    }
    let stamped = whole(&wire);
    assert_eq!((stamped.kind, stamped.stream_id), (frame.kind, id));
    let at = if frame.wire[0] == 1 { 5 } else { 6 };
    assert!(wire[..at] == frame.wire[..at] && stamped.head_len == frame.head_len);
    assert_eq!(wire[at + 4..frame.head_len], frame.wire[at + 4..frame.head_len]);
}

fn whole(wire: &[u8]) -> Frame {
    match Bolt.decode(&mut BytesMut::from(wire), MAX_FRAME_BYTES) {
        Ok(Decoded::Frame(frame)) => frame,
        other => panic!("a frame of ours is {other:?}"),
    }
}
