// SPDX-License-Identifier: Apache-2.0
//! Frames of our own: requests, replies, heartbeats and their acknowledgements.

use std::time::Duration;

use remora_protocol::Bytes;

use crate::frame::{CRC_LEN, HEARTBEAT, Kind, MAX_SHORT, REPLY, REQUEST, SWITCH_CRC, Version};
use crate::{codec, header, status};

/// A request or one-way to write.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Version of the connection.
    pub version: Version,
    /// Stream id.
    pub id: u32,
    /// Whether no reply is wanted.
    pub is_oneway: bool,
    /// Number of the content's serialization.
    pub codec: u8,
    /// How long the caller waits; `None` for no limit.
    pub timeout: Option<Duration>,
    /// Class name of the content.
    pub class: &'a str,
    /// Header map.
    pub header: &'a [(&'a str, &'a str)],
    /// Content.
    pub content: &'a [u8],
    /// Whether a CRC is wanted; [`Version::V2Crc`] only, the others have none.
    pub with_crc: bool,
}

/// A one-part request in hessian2 without a limit.
impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            version: Version::V1,
            id: 0,
            is_oneway: false,
            codec: codec::HESSIAN2,
            timeout: None,
            class: "",
            header: &[],
            content: &[],
            with_crc: false,
        }
    }
}

impl Request<'_> {
    /// The frame.
    ///
    /// # Errors
    /// When a part is longer than its length field can say.
    pub fn to_frame(&self) -> Result<Bytes, WriteError> {
        let kind = if self.is_oneway { Kind::Oneway } else { Kind::Request };
        let timeout_ms = match self.timeout {
            Some(timeout) => i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            None => -1,
        };
        let third = timeout_ms.to_be_bytes();
        Body {
            class: self.class,
            header: self.header,
            content: self.content,
            with_crc: self.with_crc,
        }
        .frame(self.version, kind, REQUEST, self.id, self.codec, &third)
    }
}

/// A reply to write.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Version of the connection.
    pub version: Version,
    /// Stream id of the request.
    pub id: u32,
    /// Number of the content's serialization.
    pub codec: u8,
    /// Status.
    pub status: u16,
    /// Class name of the content.
    pub class: &'a str,
    /// Header map.
    pub header: &'a [(&'a str, &'a str)],
    /// Content.
    pub content: &'a [u8],
    /// Whether a CRC is wanted; [`Version::V2Crc`] only, the others have none.
    pub with_crc: bool,
}

/// Success without content, in hessian2.
impl Default for Reply<'_> {
    fn default() -> Self {
        Self {
            version: Version::V1,
            id: 0,
            codec: codec::HESSIAN2,
            status: status::SUCCESS,
            class: "",
            header: &[],
            content: &[],
            with_crc: false,
        }
    }
}

impl Reply<'_> {
    /// The frame.
    ///
    /// # Errors
    /// When a part is longer than its length field can say.
    pub fn to_frame(&self) -> Result<Bytes, WriteError> {
        let third = self.status.to_be_bytes();
        Body {
            class: self.class,
            header: self.header,
            content: self.content,
            with_crc: self.with_crc,
        }
        .frame(self.version, Kind::Reply, REPLY, self.id, self.codec, &third)
    }
}

/// A probe.
pub fn heartbeat(version: Version, id: u32) -> Bytes {
    event(version, HEARTBEAT, id, &[])
}

/// A request of another command, without class and content; its header map is short.
pub(crate) fn event(version: Version, command: u16, id: u32, header: &[(&str, &str)]) -> Bytes {
    let body = Body {
        class: "",
        header,
        content: &[],
        with_crc: false,
    };
    let no_limit = (-1i32).to_be_bytes();
    body.frame(version, Kind::Request, command, id, codec::HESSIAN2, &no_limit)
        .expect("the header maps of this crate's events are short")
}

/// The answer to a probe.
pub fn heartbeat_ack(version: Version, id: u32) -> Bytes {
    let mut out = Vec::with_capacity(22);
    let success = status::SUCCESS.to_be_bytes();
    head(
        &mut out,
        version,
        Kind::Reply,
        HEARTBEAT,
        id,
        codec::HESSIAN2,
        false,
        &success,
    );
    out.extend_from_slice(&[0; 8]);
    out.into()
}

/// A frame cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} of {len} bytes does not fit into a bolt frame, which takes {max}")]
pub struct WriteError {
    /// Which part.
    pub part: &'static str,
    /// Its length in bytes.
    pub len: usize,
    /// The longest that fits.
    pub max: usize,
}

impl WriteError {
    /// Metric label and log field.
    pub fn reason(&self) -> &'static str {
        "frame_too_long"
    }
}

/// What requests and replies have in common.
struct Body<'a> {
    class: &'a str,
    header: &'a [(&'a str, &'a str)],
    content: &'a [u8],
    with_crc: bool,
}

impl Body<'_> {
    fn frame(
        &self,
        version: Version,
        kind: Kind,
        command: u16,
        id: u32,
        codec: u8,
        third: &[u8],
    ) -> Result<Bytes, WriteError> {
        let has_crc = self.with_crc && version == Version::V2Crc;
        let header_len = self.header.iter().map(|(key, value)| 8 + key.len() + value.len()).sum();
        let class_len = short("class name", self.class.len())?;
        let header_len_field = short("header map", header_len)?;
        let content_len = i32::try_from(self.content.len()).map_err(|_| WriteError {
            part: "content",
            len: self.content.len(),
            max: i32::MAX as usize,
        })?;
        let mut out = Vec::with_capacity(24 + self.class.len() + header_len + self.content.len() + CRC_LEN);
        head(&mut out, version, kind, command, id, codec, has_crc, third);
        out.extend_from_slice(&class_len);
        out.extend_from_slice(&header_len_field);
        out.extend_from_slice(&content_len.to_be_bytes());
        out.extend_from_slice(self.class.as_bytes());
        for (key, value) in self.header {
            header::push(&mut out, key, value);
        }
        out.extend_from_slice(self.content);
        if has_crc {
            let crc = crc32fast::hash(&out);
            out.extend_from_slice(&crc.to_be_bytes());
        }
        Ok(out.into())
    }
}

/// Everything up to the lengths; `third` is the timeout or the status.
#[allow(clippy::too_many_arguments, reason = "the fields of the head in their order")]
fn head(
    out: &mut Vec<u8>,
    version: Version,
    kind: Kind,
    command: u16,
    id: u32,
    codec: u8,
    has_crc: bool,
    third: &[u8],
) {
    match version {
        Version::V1 => out.push(1),
        Version::V2 => out.extend_from_slice(&[2, 1]),
        Version::V2Crc => out.extend_from_slice(&[2, 2]),
    }
    out.push(match kind {
        Kind::Reply => 0,
        Kind::Request => 1,
        Kind::Oneway => 2,
    });
    out.extend_from_slice(&command.to_be_bytes());
    out.push(VER2);
    out.extend_from_slice(&id.to_be_bytes());
    out.push(codec);
    if version != Version::V1 {
        out.push(if has_crc { SWITCH_CRC } else { 0 });
    }
    out.extend_from_slice(third);
}

fn short(part: &'static str, len: usize) -> Result<[u8; 2], WriteError> {
    match u16::try_from(len) {
        Ok(short) if len <= MAX_SHORT => Ok(short.to_be_bytes()),
        _ => Err(WriteError {
            part,
            len,
            max: MAX_SHORT,
        }),
    }
}

/// Version of the command: all peers write 1.
const VER2: u8 = 1;
