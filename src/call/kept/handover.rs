// SPDX-License-Identifier: Apache-2.0
//! What is kept of a request changes hands.

use remora_protocol::{FrameKind, StreamId};
use serde::{Deserialize, Serialize};

use super::{COPY_MAX, INLINE_MAX, Kept, KeptBytes, KeptStore};

/// Its figures; the bytes go along.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::call) struct KeptText {
    is_oneway: bool,
    stream_id: u64,
    head_len: u32,
    len: usize,
    is_whole: bool,
}

impl Kept {
    /// Figures and bytes.
    pub(in crate::call) fn freeze(&self) -> (KeptText, Vec<u8>) {
        let text = KeptText {
            is_oneway: self.kind == FrameKind::Oneway,
            stream_id: self.stream_id.0,
            head_len: self.head_len,
            len: self.len,
            is_whole: self.is_whole,
        };
        (text, self.head().wire.to_vec())
    }
}

impl KeptStore {
    /// Keeps what another worker kept.
    pub(in crate::call) fn adopt(&self, text: &KeptText, bytes: Vec<u8>) -> Kept {
        let (head_len, len) = (text.head_len, text.len);
        let is_short = bytes.len() <= COPY_MAX;
        let bytes = match inline(&bytes).filter(|_| !text.is_whole) {
            Some(inline) => KeptBytes::Inline(inline),
            None if is_short => KeptBytes::Buffer(bytes),
            None => {
                self.long.set(self.long.get() + bytes.len());
                KeptBytes::Long(Box::new(bytes.into()))
            }
        };
        Kept {
            kind: match text.is_oneway {
                true => FrameKind::Oneway,
                false => FrameKind::Request,
            },
            stream_id: StreamId(text.stream_id),
            is_whole: text.is_whole,
            head_len,
            len,
            bytes,
        }
    }
}

fn inline(head: &[u8]) -> Option<[u8; INLINE_MAX]> {
    let mut inline = [0; INLINE_MAX];
    inline.get_mut(..head.len())?.copy_from_slice(head);
    Some(inline)
}
