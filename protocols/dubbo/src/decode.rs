// SPDX-License-Identifier: Apache-2.0
//! Cuts frames out of the stream and tells what they are for.
//!
//! Dubbo's own reader skips ahead to the next magic when a frame does not start with one (for its telnet commands).
//! Ours does not: bytes of a body could pass for a head.

use remora_protocol::{BytesMut, DecodeError, Decoded, Frame, FrameKind, Sniff};

use crate::event;
use crate::head::{HEAD_LEN, Head, MAGIC};

/// Longest body of an event, in bytes. Dubbo 2.7 and later refuse an event of more than 15 bytes that is no heartbeat;
/// the longest heartbeat seen is protostuff's, with 60.
pub(crate) const MAX_EVENT_BODY_BYTES: u64 = 256;

pub(crate) fn sniff(first: &[u8]) -> Sniff {
    match *first {
        [] => Sniff::NeedMore,
        [a] if a == MAGIC[0] => Sniff::NeedMore,
        [a, b, ..] if [a, b] == MAGIC => Sniff::Yes,
        _ => Sniff::No,
    }
}

pub(crate) fn decode(input: &mut BytesMut, max_frame_bytes: usize) -> Result<Decoded, DecodeError> {
    if sniff(input) == Sniff::No {
        let mut found = [0; 4];
        for (to, from) in found.iter_mut().zip(input.iter()) {
            *to = *from;
        }
        return Err(DecodeError::Magic {
            protocol: crate::NAME,
            found,
        });
    }
    let Some(head) = Head::read(input) else {
        return Ok(Decoded::Incomplete {
            missing: HEAD_LEN - input.len(),
        });
    };
    let Ok(body_len) = u64::try_from(head.body_len) else {
        let value = u64::from(head.body_len as u32);
        return Err(DecodeError::Head {
            protocol: crate::NAME,
            field: "body length",
            value,
        });
    };
    let limit = u64::try_from(max_frame_bytes).unwrap_or(u64::MAX);
    let is_huge_event = head.is_event() && body_len > MAX_EVENT_BODY_BYTES;
    if is_huge_event || HEAD_LEN as u64 + body_len > limit {
        let wire = input.split_to(HEAD_LEN).freeze();
        let kind = kind(head, None);
        let head = Frame {
            kind,
            stream_id: head.id,
            head_len: HEAD_LEN,
            wire,
        };
        return Ok(Decoded::TooLong { head, body_len });
    }
    // A signed 32-bit length fits in a usize on every target that tokio runs on.
    let total = HEAD_LEN.saturating_add(usize::try_from(body_len).unwrap_or(usize::MAX));
    if input.len() < total {
        return Ok(Decoded::Incomplete {
            missing: total - input.len(),
        });
    }
    let wire = input.split_to(total).freeze();
    let kind = kind(head, wire.get(HEAD_LEN..));
    Ok(Decoded::Frame(Frame {
        kind,
        stream_id: head.id,
        head_len: HEAD_LEN,
        wire,
    }))
}

/// What the frame is for. Without its body an event is nothing that could be acted on.
fn kind(head: Head, body: Option<&[u8]>) -> FrameKind {
    match (head.is_event(), head.is_request()) {
        (true, true) => body.map_or(FrameKind::Ignorable, |body| event::kind(head, body)),
        (true, false) => FrameKind::HeartbeatReply,
        (false, true) if head.is_two_way() => FrameKind::Request,
        (false, true) => FrameKind::Oneway,
        (false, false) => FrameKind::Reply,
    }
}
