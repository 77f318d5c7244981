// SPDX-License-Identifier: Apache-2.0
//! Frames of the two protocols, as far as the benchmark needs them: heads, and one call `String -> String`.
//!
//! ```text
//! dubbo  offset  bytes  field                     bolt v1  request  reply  bytes  field
//!             0      2  magic 0xdabb                             0      0      1  1
//!             2      1  0x80 request, 0x40 wants                 1      1      1  0 reply, 1 request, 2 one-way
//!                       a reply, 0x20 event,                     2      2      2  0 heartbeat, 1 request, 2 reply
//!                       low 5 bits serialization                 5      5      4  id
//!             3      1  status, 20 is good                       -     10      2  status, 0 is good
//!             4      8  id                                      14     12      2  length of the class name
//!            12      4  length of the body                      16     14      2  length of the header map
//!                                                               18     16      4  length of the content
//! ```
//! Big endian. Bodies come from captures of real peers in `testbed/golden/`, see `mold.rs`. Independent of the proxy's own
//! plugins on purpose.

mod mold;
mod text;

pub use mold::{Answerer, Mold};

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The dubbo protocol, bodies in hessian2.
    Dubbo,
    /// Bolt v1, as SOFARPC writes it.
    Bolt,
}

impl std::str::FromStr for Protocol {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text {
            "dubbo" => Ok(Self::Dubbo),
            "bolt" => Ok(Self::Bolt),
            other => anyhow::bail!("unknown protocol {other}; known are dubbo, bolt"),
        }
    }
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wants a reply.
    Request,
    /// Answers a request.
    Reply,
    /// A probe that wants an answer.
    Probe,
    /// Anything else.
    Other,
}

/// The bytes are of something else, or longer than [`MAX_FRAME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAFrame;

impl Protocol {
    /// Length of the frame that `input` begins with; `None` while too little of it is there.
    ///
    /// # Errors
    /// When the bytes can be no frame.
    pub fn frame_len(self, input: &[u8]) -> Result<Option<usize>, NotAFrame> {
        let len = match self {
            Self::Dubbo => {
                let Some(head) = input.get(..DUBBO_HEAD) else {
                    return Ok(None);
                };
                if head[..2] != DUBBO_MAGIC {
                    return Err(NotAFrame);
                }
                DUBBO_HEAD + u32_at(head, 12) as usize
            }
            Self::Bolt => {
                let Some(head) = input.get(..BOLT_REPLY) else {
                    return Ok(None);
                };
                if head[0] != 1 || head[1] > 2 {
                    return Err(NotAFrame);
                }
                let fixed = bolt_head(head);
                let Some(head) = input.get(..fixed) else {
                    return Ok(None);
                };
                let shorts = usize::from(u16_at(head, fixed - 8)) + usize::from(u16_at(head, fixed - 6));
                fixed + shorts + u32_at(head, fixed - 4) as usize
            }
        };
        if len > MAX_FRAME { Err(NotAFrame) } else { Ok(Some(len)) }
    }

    /// What a whole frame is for.
    pub fn kind(self, frame: &[u8]) -> Kind {
        match self {
            Self::Dubbo => match frame[2] & 0xe0 {
                0xc0 => Kind::Request,
                0x00 => Kind::Reply,
                0xe0 => Kind::Probe,
                _ => Kind::Other,
            },
            Self::Bolt => match (frame[1], u16_at(frame, 2)) {
                (1, 1) => Kind::Request,
                (0, 2) => Kind::Reply,
                (1, 0) => Kind::Probe,
                _ => Kind::Other,
            },
        }
    }

    /// The id of a whole frame; bolt's has 32 bits.
    pub fn id(self, frame: &[u8]) -> u64 {
        match self {
            Self::Dubbo => u64::from(u32_at(frame, 4)) << 32 | u64::from(u32_at(frame, 8)),
            Self::Bolt => u32_at(frame, 5).into(),
        }
    }

    /// Writes an id into a whole frame; bolt takes the low half.
    pub fn set_id(self, frame: &mut [u8], id: u64) {
        match self {
            Self::Dubbo => frame[4..12].copy_from_slice(&id.to_be_bytes()),
            Self::Bolt => frame[5..9].copy_from_slice(&id.to_be_bytes()[4..]),
        }
    }

    /// Where the id stands: it is not the same in each frame of a kind.
    pub fn id_range(self) -> std::ops::Range<usize> {
        match self {
            Self::Dubbo => 4..12,
            Self::Bolt => 5..9,
        }
    }

    /// The status of a reply, if it is not the good one.
    pub fn failure(self, reply: &[u8]) -> Option<u16> {
        let (status, good) = match self {
            Self::Dubbo => (reply[3].into(), 20),
            Self::Bolt => (u16_at(reply, 10), 0),
        };
        (status != good).then_some(status)
    }

    /// Readable bytes of a reply's body, for a message.
    pub fn words(self, reply: &[u8]) -> String {
        let head = if self == Self::Dubbo { DUBBO_HEAD } else { BOLT_REPLY };
        let body = reply.get(head..).unwrap_or_default();
        let words = body.iter().take(400).filter(|byte| (0x20..0x7f).contains(*byte));
        words.map(|byte| char::from(*byte)).collect()
    }

    /// Appends the answer to a probe.
    pub fn answer_probe(self, probe: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            // 2: hessian2, whose null is N.
            Self::Dubbo => out.extend_from_slice(b"\xda\xbb\x22\x14........\0\0\0\x01N"),
            Self::Bolt => out.extend_from_slice(b"\x01\0\0\0\x01....\x01\0\0\0\0\0\0\0\0\0\0"),
        }
        self.set_id(&mut out[start..], self.id(probe));
    }
}

/// Length of a bolt head: requests have a timeout of four bytes, replies a status of two.
fn bolt_head(head: &[u8]) -> usize {
    if head[1] == 0 { BOLT_REPLY } else { BOLT_REQUEST }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Longest frame that is taken: more than any proxy here lets through.
pub const MAX_FRAME: usize = 64 << 20;
const DUBBO_MAGIC: [u8; 2] = [0xda, 0xbb];
const DUBBO_HEAD: usize = 16;
const BOLT_REQUEST: usize = 22;
const BOLT_REPLY: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_answered_with_their_id() {
        let probe = b"\xda\xbb\xe2\x00\0\0\0\0\0\0\x01\x02\0\0\0\x01N";
        assert_eq!(Protocol::Dubbo.kind(probe), Kind::Probe);
        let mut out = Vec::new();
        Protocol::Dubbo.answer_probe(probe, &mut out);
        assert_eq!(out, b"\xda\xbb\x22\x14\0\0\0\0\0\0\x01\x02\0\0\0\x01N");

        let probe = b"\x01\x01\0\0\x01\0\0\0\x09\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0";
        assert_eq!(Protocol::Bolt.kind(probe), Kind::Probe);
        assert_eq!(Protocol::Bolt.frame_len(probe), Ok(Some(22)));
        let mut out = Vec::new();
        Protocol::Bolt.answer_probe(probe, &mut out);
        assert_eq!(out, b"\x01\0\0\0\x01\0\0\0\x09\x01\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(Protocol::Bolt.frame_len(&out), Ok(Some(20)));
    }

    #[test]
    fn other_bytes_are_no_frame() {
        assert_eq!(Protocol::Dubbo.frame_len(b"GET / HTTP/1.1\r\n"), Err(NotAFrame));
        assert_eq!(Protocol::Bolt.frame_len(b"GET / HTTP/1.1\r\nHost"), Err(NotAFrame));
        assert_eq!(Protocol::Dubbo.frame_len(b"\xda\xbb"), Ok(None));
    }
}
