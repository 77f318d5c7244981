// SPDX-License-Identifier: Apache-2.0
//! Cuts frames out of the stream and tells what they are for.

use remora_protocol::{BytesMut, DecodeError, Decoded, Frame, FrameKind, Sniff, StreamId};

use crate::NAME;
use crate::frame::{CRC_LEN, GOAWAY, HEARTBEAT, Head, Kind};

/// Tells from a connection's first bytes whether they are bolt: `Protocol::sniff`.
pub fn sniff(first: &[u8]) -> Sniff {
    // Version, type and command: nothing later in a head could rule a frame out better.
    let enough = match first.first() {
        Some(1) => 4,
        _ => 5,
    };
    match Head::read(first.get(..enough).unwrap_or(first)) {
        Err(_) => Sniff::No,
        Ok(_) if first.len() >= enough => Sniff::Yes,
        Ok(_) => Sniff::NeedMore,
    }
}

/// Splits one frame off the front of `input`: `Protocol::decode` of bolt, also for others who speak it.
///
/// - The head of the frame it gives is [`Head::long_len`] bytes: class name and header map belong to it.
/// - `max_frame_bytes` counts all of a frame, CRC included. The head of a frame over it has class name and header map
///   too, unless these alone are over it.
/// - A CRC is checked.
///
/// # Errors
/// When the stream cannot be bolt or the frame was damaged. Close the connection.
pub fn decode(input: &mut BytesMut, max_frame_bytes: usize) -> Result<Decoded, DecodeError> {
    let missing = |len: usize, input: &BytesMut| Decoded::Incomplete {
        missing: len.saturating_sub(input.len()).max(1),
    };
    let Some(head) = Head::read(input)? else {
        return Ok(missing(Head::least_len(input), input));
    };
    let total = usize::try_from(head.frame_len()).unwrap_or(usize::MAX);
    if total > max_frame_bytes {
        let head_len = match head.long_len() {
            long if long <= max_frame_bytes => long,
            _ => head.short_len(),
        };
        if input.len() < head_len {
            return Ok(missing(head_len, input));
        }
        return Ok(Decoded::TooLong {
            body_len: head.frame_len() - head_len as u64,
            head: cut(&head, head_len, input, head_len),
        });
    }
    if input.len() < total {
        return Ok(missing(total, input));
    }
    if head.has_crc {
        check_crc(input.get(..total).unwrap_or_default())?;
    }
    Ok(Decoded::Frame(cut(&head, head.long_len(), input, total)))
}

fn cut(head: &Head, head_len: usize, input: &mut BytesMut, len: usize) -> Frame {
    Frame {
        kind: match (head.command, head.kind) {
            (HEARTBEAT, Kind::Reply) => FrameKind::HeartbeatReply,
            (HEARTBEAT, _) => FrameKind::Heartbeat,
            (GOAWAY, _) => FrameKind::GoAway,
            (_, Kind::Request) => FrameKind::Request,
            (_, Kind::Oneway) => FrameKind::Oneway,
            (_, Kind::Reply) => FrameKind::Reply,
        },
        stream_id: StreamId(u64::from(head.id)),
        head_len,
        wire: input.split_to(len).freeze(),
    }
}

fn check_crc(wire: &[u8]) -> Result<(), DecodeError> {
    let (covered, crc) = wire.split_last_chunk::<CRC_LEN>().unwrap_or((&[], &[0; CRC_LEN]));
    let (found, computed) = (u32::from_be_bytes(*crc), crc32fast::hash(covered));
    if found == computed {
        return Ok(());
    }
    Err(DecodeError::Checksum {
        protocol: NAME,
        found,
        computed,
    })
}
