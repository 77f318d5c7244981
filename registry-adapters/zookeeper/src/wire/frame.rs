// SPDX-License-Identifier: Apache-2.0
//! Frames: a 4-byte length, then that many bytes. Before the first one, four letters may stand instead (`ruok`).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::WireError;

/// Longest frame taken unless configured otherwise. ZooKeeper's `jute.maxbuffer` default is the same number.
pub const DEFAULT_MAX_FRAME: usize = 0xfffff;

/// Splits one frame off the front of `input`.
///
/// - Takes what the socket gave: part of a frame, one, or several.
/// - Gives the frame's body (without its length) sharing `input`'s buffer, or `None` when bytes are missing.
/// - `max_len` counts the body, in bytes.
///
/// # Errors
/// `FrameTooLong` as soon as the length announces more than `max_len` or is negative. Close the connection: the next
/// frame cannot be found.
pub fn split_frame(input: &mut BytesMut, max_len: usize) -> Result<Option<Bytes>, WireError> {
    let Some(head) = input.first_chunk::<4>() else {
        return Ok(None);
    };
    let announced = i32::from_be_bytes(*head);
    let length = usize::try_from(announced).ok().filter(|l| *l <= max_len);
    let Some(length) = length else {
        return Err(WireError::FrameTooLong {
            announced: i64::from(announced),
            limit: max_len,
        });
    };
    if input.len() - 4 < length {
        return Ok(None);
    }
    input.advance(4);
    Ok(Some(input.split_to(length).freeze()))
}

/// Starts a frame at the end of `out`; the answer goes to [`end_frame`] once the body is written.
pub fn begin_frame(out: &mut BytesMut) -> usize {
    let start = out.len();
    out.put_i32(0);
    start
}

/// Writes the length of the frame that began at `start`.
pub fn end_frame(out: &mut BytesMut, start: usize) {
    let length = out.len().saturating_sub(start + 4);
    let length = i32::try_from(length).unwrap_or(i32::MAX);
    if let Some(head) = out.get_mut(start..start + 4) {
        head.copy_from_slice(&length.to_be_bytes());
    }
}

/// Four letters that an operator's tool sends instead of a first frame.
pub type FourLetterWord = [u8; 4];

/// The four-letter word at the front of a fresh connection's bytes, if these cannot be a frame: lower-case letters read as
/// a length are over 1.6 GB.
pub fn four_letter_word(input: &[u8]) -> Option<FourLetterWord> {
    let head = *input.first_chunk::<4>()?;
    head.iter().all(u8::is_ascii_lowercase).then_some(head)
}
