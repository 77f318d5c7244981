// SPDX-License-Identifier: Apache-2.0
//! Another stream id in a head, and the CRC of the frame under it.

use remora_protocol::{Frame, StreamId};

use crate::frame::{CRC_LEN, Head, SWITCH_CRC, Version};

/// Writes another stream id into a head; a slice shorter than any head is left alone.
pub(crate) fn restamp(head: &mut [u8], id: StreamId) {
    if head.len() < SHORTEST_HEAD {
        return;
    }
    let at = id_at(head);
    if let Some(bytes) = head.get_mut(at..at + ID_LEN) {
        bytes.copy_from_slice(&wire_id(id));
    }
}

/// The CRC of `frame` under another stream id; `None` if it has none.
pub(crate) fn restamped_crc(frame: &Frame, id: StreamId) -> Option<[u8; CRC_LEN]> {
    let wire = &frame.wire[..];
    // Nearly all frames end here.
    if !matches!(*wire, [2, 2, ..]) || wire.get(SWITCH_AT).is_none_or(|switch| switch & SWITCH_CRC == 0) {
        return None;
    }
    let head = Head::read(wire).ok().flatten()?;
    if !head.has_crc || wire.len() as u64 != head.frame_len() {
        return None;
    }
    let (covered, crc) = wire.split_last_chunk::<CRC_LEN>()?;
    let at = id_at(wire);
    let behind = at + ID_LEN;
    let (before, after) = (covered.get(..at)?, covered.get(behind..)?);
    if covered.len() <= SUMMED_MAX {
        let mut sum = crc32fast::Hasher::new();
        sum.update(before);
        sum.update(&wire_id(id));
        sum.update(after);
        return Some(sum.finalize().to_be_bytes());
    }
    // CRCs of two frames differ by that of their difference, so what is behind the id counts with its length only.
    let mut old_head = crc32fast::Hasher::new();
    old_head.update(before);
    let mut new_head = old_head.clone();
    old_head.update(covered.get(at..behind)?);
    new_head.update(&wire_id(id));
    let difference = old_head.finalize() ^ new_head.finalize();
    let mut moved = crc32fast::Hasher::new_with_initial_len(difference, behind as u64);
    moved.combine(&crc32fast::Hasher::new_with_initial_len(0, after.len() as u64));
    Some((u32::from_be_bytes(*crc) ^ moved.finalize()).to_be_bytes())
}

fn id_at(head: &[u8]) -> usize {
    match head {
        [1, ..] => Version::V1.id_at(),
        _ => Version::V2.id_at(),
    }
}

fn wire_id(id: StreamId) -> [u8; ID_LEN] {
    crate::wire_id(id).to_be_bytes()
}

const ID_LEN: usize = 4;
/// Offset of the switch byte in v2.
const SWITCH_AT: usize = 11;
/// That of a reply in v1.
const SHORTEST_HEAD: usize = 20;
/// Longest frame that is summed again; above it the other way is faster.
const SUMMED_MAX: usize = 8192;
