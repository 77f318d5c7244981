// SPDX-License-Identifier: Apache-2.0
//! Bolt frames, v1 and v2: the head, and the parts behind it.
//!
//! ```text
//! v1    v2    bytes  field                     A reply has no timeout but a status:
//!  0     0        1  1 in v1, 2 in v2          v1    v2    bytes  field
//!  -     1        1  ver1: 1 or 2
//!  1     2        1  type: 0 reply, 1 request, 2 one-way
//!  2     3        2  command: 0 heartbeat, 1 request, 2 reply, 100 goaway (MOSN's)
//!  4     5        1  ver2, always 1
//!  5     6        4  stream id
//!  9    10        1  codec
//!  -    11        1  switch: 0x01 CRC (counts with ver1 = 2 only), 0x80 never
//! 10    12        4  timeout in ms             10    12        2  status
//! 14    16        2  length of the class name  12    14        2  length of the class name
//! 16    18        2  length of the header map  14    16        2  length of the header map
//! 18    20        4  length of the content     16    18        4  length of the content
//! 22    24           class name, header map, content, CRC-32 of all before it if switched on
//! ```
//! Big endian, lengths signed. Source: `RpcProtocol`, `RpcProtocolV2`, `RpcCommandDecoder(V2)` and `RpcCommandEncoder(V2)`
//! of sofa-bolt 1.6, and the captures in `testbed/golden/bolt/`.
//! Not here: writing frames (`write.rs`), the pairs of a header map (`header.rs`); contents are never decoded.

use std::time::Duration;

use remora_protocol::DecodeError;

use crate::NAME;
use crate::header::Header;

/// What the first byte, and in v2 the second one, say. A bolt server answers everything on a connection in the version of
/// the first frame that it read there, so versions never share a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// v1: what SOFARPC and SOFARegistry write.
    #[default]
    V1,
    /// v2 with ver1 = 1: never a CRC, whatever the switch says.
    V2,
    /// v2 with ver1 = 2: a CRC where the switch says so.
    V2Crc,
}

impl Version {
    /// The number by which the call path tells connections apart.
    pub fn dialect(self) -> u8 {
        match self {
            Self::V1 => 0,
            Self::V2 => 1,
            Self::V2Crc => 2,
        }
    }

    /// The other way round; unknown numbers are v1.
    pub fn of_dialect(dialect: u8) -> Self {
        match dialect {
            1 => Self::V2,
            2 => Self::V2Crc,
            _ => Self::V1,
        }
    }

    /// Offset of the type: in v2 everything from there on stands one byte later, from the timeout or status on two.
    pub(crate) fn lead(self) -> usize {
        match self {
            Self::V1 => 1,
            Self::V2 | Self::V2Crc => 2,
        }
    }

    /// Offset of the stream id.
    pub(crate) fn id_at(self) -> usize {
        self.lead() + 4
    }
}

/// The type byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Wants a reply.
    #[default]
    Request,
    /// Wants none.
    Oneway,
    /// Answers a request.
    Reply,
}

/// The head of a frame, checked: its lengths are those of a frame that a peer could have sent, but may be over any limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Version.
    pub version: Version,
    /// Type.
    pub kind: Kind,
    /// Command: [`HEARTBEAT`], [`REQUEST`], [`REPLY`] or [`GOAWAY`].
    pub command: u16,
    /// Stream id.
    pub id: u32,
    /// Number of the content's serialization, see `codec`.
    pub codec: u8,
    /// Four bytes of CRC-32 follow the content.
    pub has_crc: bool,
    /// Request: the caller's limit in ms, 0 or less for none. Reply: 0.
    pub timeout_ms: i32,
    /// Reply: see `status`. Request: 0.
    pub status: u16,
    /// Length of the class name in bytes, at most [`MAX_SHORT`].
    pub class_len: usize,
    /// Length of the header map in bytes, at most [`MAX_SHORT`].
    pub header_len: usize,
    /// Length of the content in bytes, at most `i32::MAX`.
    pub content_len: u32,
}

impl Head {
    /// Reads the head of the frame that `input` begins with. `None` while bytes of it are missing, see
    /// [`Head::least_len`]. What is behind the head need not be there: compare [`Head::frame_len`] with a limit first.
    ///
    /// # Errors
    /// As soon as the bytes can be no bolt frame, also when they are few.
    pub fn read(input: &[u8]) -> Result<Option<Self>, DecodeError> {
        let Some(version) = version(input)? else {
            return Ok(None);
        };
        let Some(kind) = kind(input, version)? else {
            return Ok(None);
        };
        let Some(head) = input.get(..fixed_len(version, kind)) else {
            // Look at what there is: bytes of something else may never be more.
            command(input, version, kind)?;
            return Ok(None);
        };
        let mut rest = Fields(head.get(version.lead() + 1..).unwrap_or_default());
        let command = command(input, version, kind)?.unwrap_or_default();
        rest.u16();
        rest.u8(); // ver2: Java reads over it too
        let (id, codec) = (rest.u32(), rest.u8());
        let switch = if version == Version::V1 { 0 } else { rest.u8() };
        if switch & 0x80 != 0 {
            return Err(wrong("switch", switch));
        }
        let (timeout_ms, status) = match kind {
            Kind::Reply => (0, rest.u16()),
            Kind::Request | Kind::Oneway => (rest.u32().cast_signed(), 0),
        };
        Ok(Some(Self {
            version,
            kind,
            command,
            id,
            codec,
            has_crc: version == Version::V2Crc && switch & SWITCH_CRC != 0,
            timeout_ms,
            status,
            class_len: short("class length", rest.u16())?,
            header_len: short("header length", rest.u16())?,
            content_len: match rest.u32() {
                len if len.cast_signed() >= 0 => len,
                len => return Err(wrong("content length", len)),
            },
        }))
    }

    /// Bytes that the head of the frame at the front of `input` has at least: a hint for reading.
    pub fn least_len(input: &[u8]) -> usize {
        let version = version(input).ok().flatten().unwrap_or_default();
        let kind = kind(input, version).ok().flatten().unwrap_or(Kind::Reply);
        fixed_len(version, kind)
    }

    /// Length of the head alone in bytes: 20 to 24.
    pub fn short_len(&self) -> usize {
        fixed_len(self.version, self.kind)
    }

    /// Length of the head with class name and header map, in bytes: at most 24 + 2 * [`MAX_SHORT`].
    pub fn long_len(&self) -> usize {
        self.short_len() + self.class_len + self.header_len
    }

    /// Length of the whole frame in bytes, CRC included.
    pub fn frame_len(&self) -> u64 {
        let crc = if self.has_crc { CRC_LEN } else { 0 };
        (self.long_len() + crc) as u64 + u64::from(self.content_len)
    }

    /// The caller's limit, if the frame says one.
    pub fn timeout(&self) -> Option<Duration> {
        let ms = u64::try_from(self.timeout_ms).ok().filter(|ms| *ms > 0)?;
        Some(Duration::from_millis(ms))
    }

    /// Whether it is a probe or the answer to one.
    pub fn is_heartbeat(&self) -> bool {
        self.command == HEARTBEAT
    }
}

/// A frame, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'f> {
    /// The head.
    pub head: Head,
    /// Class name of the content, usually ASCII.
    pub class: &'f [u8],
    /// Header map. Its own serialization is the class's business; SOFARPC's is what [`Header`] reads.
    pub header: Header<'f>,
    /// Content.
    pub content: &'f [u8],
}

impl<'f> Parts<'f> {
    /// Takes a frame apart that begins `wire`. Parts that are not all there are empty; `None` without a valid head.
    pub fn of(wire: &'f [u8]) -> Option<Self> {
        let head = Head::read(wire).ok().flatten()?;
        let rest = wire.get(head.short_len()..).unwrap_or_default();
        let (class, rest) = rest.split_at_checked(head.class_len).unwrap_or_default();
        let (header, rest) = rest.split_at_checked(head.header_len).unwrap_or_default();
        let content = usize::try_from(head.content_len).ok().and_then(|len| rest.get(..len));
        Some(Self {
            head,
            class,
            header: Header::new(header),
            content: content.unwrap_or_default(),
        })
    }
}

fn version(input: &[u8]) -> Result<Option<Version>, DecodeError> {
    match *input {
        [] | [2] => Ok(None),
        [1, ..] => Ok(Some(Version::V1)),
        [2, 1, ..] => Ok(Some(Version::V2)),
        [2, 2, ..] => Ok(Some(Version::V2Crc)),
        // Java's decoder would wait for ever.
        [2, other, ..] => Err(wrong("ver1", other)),
        _ => {
            let mut found = [0; 4];
            found.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
            Err(DecodeError::Magic { protocol: NAME, found })
        }
    }
}

fn kind(input: &[u8], version: Version) -> Result<Option<Kind>, DecodeError> {
    match input.get(version.lead()) {
        None => Ok(None),
        Some(0) => Ok(Some(Kind::Reply)),
        Some(1) => Ok(Some(Kind::Request)),
        Some(2) => Ok(Some(Kind::Oneway)),
        Some(other) => Err(wrong("type", *other)),
    }
}

/// The command. Java closes the connection on others, and on ours if it is [`GOAWAY`].
fn command(input: &[u8], version: Version, kind: Kind) -> Result<Option<u16>, DecodeError> {
    let at = version.lead() + 1;
    let command = match *input.get(at..).unwrap_or_default() {
        [high, low, ..] => u16::from_be_bytes([high, low]),
        [high] if high != 0 => return Err(wrong("command", u16::from(high) << 8)),
        _ => return Ok(None),
    };
    match (kind, command) {
        (_, HEARTBEAT) | (Kind::Request | Kind::Oneway, REQUEST | GOAWAY) | (Kind::Reply, REPLY) => Ok(Some(command)),
        _ => Err(wrong("command", command)),
    }
}

fn fixed_len(version: Version, kind: Kind) -> usize {
    let of_request = match version {
        Version::V1 => 22,
        Version::V2 | Version::V2Crc => 24,
    };
    match kind {
        Kind::Request | Kind::Oneway => of_request,
        Kind::Reply => of_request - 2,
    }
}

fn short(field: &'static str, len: u16) -> Result<usize, DecodeError> {
    let len = usize::from(len);
    if len > MAX_SHORT {
        return Err(wrong(field, len as u64));
    }
    Ok(len)
}

fn wrong(field: &'static str, value: impl Into<u64>) -> DecodeError {
    DecodeError::Head {
        protocol: NAME,
        field,
        value: value.into(),
    }
}

/// Reads one number after the other; zeros behind the end, which `Head::read` has checked.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (first, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *first
    }
}

/// Command of a probe and its answer.
pub const HEARTBEAT: u16 = 0;
/// Command of requests and one-ways.
pub const REQUEST: u16 = 1;
/// Command of replies.
pub const REPLY: u16 = 2;
/// Command by which MOSN asks for no new calls. Java closes the connection when it meets one.
pub const GOAWAY: u16 = 100;
/// Longest class name and longest header map, in bytes: Java reads their lengths with a sign.
pub const MAX_SHORT: usize = 0x7fff;
/// Length of a CRC, in bytes.
pub(crate) const CRC_LEN: usize = 4;
/// Bit of the switch byte.
pub(crate) const SWITCH_CRC: u8 = 0x01;
