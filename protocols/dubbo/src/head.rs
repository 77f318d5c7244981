// SPDX-License-Identifier: Apache-2.0
//! The head of a frame.
//!
//! ```text
//! offset  bytes  field
//!      0      2  magic 0xdabb
//!      2      1  flag: 0x80 request, 0x40 wants a reply, 0x20 event, low 5 bits serialization
//!      3      1  status of a reply; 0 in requests
//!      4      8  stream id
//!     12      4  length of the body, signed
//! ```
//! Big endian. Source: `ExchangeCodec` of Dubbo 2.6, 2.7 and 3.3, and the captures in `testbed/golden/dubbo/`.

use remora_protocol::{Bytes, StreamId};

pub(crate) const MAGIC: [u8; 2] = [0xda, 0xbb];
pub(crate) const HEAD_LEN: usize = 16;

pub(crate) const FLAG_REQUEST: u8 = 0x80;
pub(crate) const FLAG_TWO_WAY: u8 = 0x40;
pub(crate) const FLAG_EVENT: u8 = 0x20;
const SERIALIZATION_BITS: u8 = 0x1f;

/// A head, apart from its magic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) flag: u8,
    pub(crate) status: u8,
    pub(crate) id: StreamId,
    /// Negative is legal here and nowhere else.
    pub(crate) body_len: i32,
}

impl Head {
    /// Reads the first 16 bytes of a frame; `None` if there are fewer. The magic is not looked at.
    pub(crate) fn read(wire: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD_LEN] = wire.first_chunk()?;
        let [_, _, flag, status, i0, i1, i2, i3, i4, i5, i6, i7, l0, l1, l2, l3] = *head;
        Some(Self {
            flag,
            status,
            id: StreamId(u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7])),
            body_len: i32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    pub(crate) fn is_request(self) -> bool {
        self.flag & FLAG_REQUEST != 0
    }

    pub(crate) fn is_two_way(self) -> bool {
        self.flag & FLAG_TWO_WAY != 0
    }

    pub(crate) fn is_event(self) -> bool {
        self.flag & FLAG_EVENT != 0
    }

    pub(crate) fn serialization(self) -> u8 {
        self.flag & SERIALIZATION_BITS
    }
}

/// Writes another stream id into a head; a shorter slice is left alone.
pub(crate) fn restamp(head: &mut [u8], id: StreamId) {
    if let (true, Some(bytes)) = (head.len() >= HEAD_LEN, head.get_mut(4..12)) {
        bytes.copy_from_slice(&id.0.to_be_bytes());
    }
}

/// A whole frame of ours. `body` is far below 2 GiB: callers bound it.
pub(crate) fn frame(flag: u8, status: u8, id: StreamId, body: &[u8]) -> Bytes {
    let body_len = u32::try_from(body.len()).expect("bodies of ours are bounded by their makers");
    let mut wire = Vec::with_capacity(HEAD_LEN + body.len());
    wire.extend_from_slice(&MAGIC);
    wire.extend_from_slice(&[flag, status]);
    wire.extend_from_slice(&id.0.to_be_bytes());
    wire.extend_from_slice(&body_len.to_be_bytes());
    wire.extend_from_slice(body);
    wire.into()
}
