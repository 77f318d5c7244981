// SPDX-License-Identifier: Apache-2.0
//! Letters with descriptors between two processes, over a UNIX socket. Blocking, each with a deadline.
//!
//! ```text
//! offset  bytes  field (big endian)
//!      0      4  "RMRA"
//!      4      2  hand-over protocol
//!      6      2  kind
//!      8      4  length of the text
//!     12      4  length of the bytes behind it
//!     16      2  descriptors, sent along with the head
//!     18      2  0
//!     20      4  CRC-32 of text and bytes
//! ```
//! The text is JSON. Lengths are compared with the limits before anything is read.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv,
    recvmsg, sendmsg,
};

use super::PROTOCOL;

/// One message.
#[derive(Debug, Default)]
pub struct Letter {
    /// What it is.
    pub kind: u16,
    /// JSON.
    pub text: Vec<u8>,
    /// Bytes that the text speaks of.
    pub bytes: Vec<u8>,
    /// Descriptors that the text speaks of.
    pub fds: Vec<OwnedFd>,
}

/// No letter came or went. The channel is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other end is closed.
    #[error("the other process closed the channel")]
    Closed,
    /// The deadline passed.
    #[error("nothing came or went in time")]
    Late,
    /// What came is no letter, or a damaged one.
    #[error("not a letter: {0}")]
    Malformed(&'static str),
    /// What was to be sent is over the limit.
    #[error("{what} of {size} is over the limit of {max}")]
    TooLong {
        /// Text, bytes or descriptors.
        what: &'static str,
        /// How much.
        size: usize,
        /// How much is allowed.
        max: usize,
    },
    /// The system's.
    #[error("{0}")]
    Io(io::Error),
}

impl ChannelError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Late => "late",
            Self::Malformed(_) => "malformed",
            Self::TooLong { .. } => "too_long",
            Self::Io(_) => "io",
        }
    }
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Late,
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// One end.
#[derive(Debug)]
pub struct Channel {
    socket: UnixStream,
}

impl Channel {
    /// Over a connected socket.
    pub fn new(socket: UnixStream) -> Self {
        Self { socket }
    }

    /// Sends a letter; its descriptors stay open here.
    ///
    /// # Errors
    /// `TooLong` before anything is sent.
    pub fn send(&mut self, letter: &Letter, deadline: Instant) -> Result<(), ChannelError> {
        self.send_parts(letter.kind, &letter.text, &letter.bytes, &letter.fds, deadline)
    }

    pub(super) fn send_parts(
        &mut self,
        kind: u16,
        text: &[u8],
        bytes: &[u8],
        fds: &[OwnedFd],
        deadline: Instant,
    ) -> Result<(), ChannelError> {
        let text_len = length("text", text.len(), TEXT_MAX)?;
        let bytes_len = length("bytes", bytes.len(), BYTES_MAX)?;
        length("descriptors", fds.len(), FDS_MAX)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(text);
        crc.update(bytes);
        let mut head = [0; HEAD_LEN];
        head[..4].copy_from_slice(MAGIC);
        head[4..6].copy_from_slice(&PROTOCOL.to_be_bytes());
        head[6..8].copy_from_slice(&kind.to_be_bytes());
        head[8..12].copy_from_slice(&text_len.to_be_bytes());
        head[12..16].copy_from_slice(&bytes_len.to_be_bytes());
        // At most FDS_MAX, checked above.
        head[16..18].copy_from_slice(&u16::try_from(fds.len()).unwrap_or(u16::MAX).to_be_bytes());
        head[20..24].copy_from_slice(&crc.finalize().to_be_bytes());

        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(ChannelError::Malformed("too many descriptors"));
        }
        self.wait_until(deadline)?;
        let sent = loop {
            match sendmsg(&self.socket, &[IoSlice::new(&head)], &mut control, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => self.wait_until(deadline)?,
                other => break other.map_err(io::Error::from)?,
            }
        };
        for part in [head.get(sent..).unwrap_or_default(), text, bytes] {
            self.send_all(part, deadline)?;
        }
        Ok(())
    }

    /// Receives the next letter.
    ///
    /// # Errors
    /// `Malformed` for anything that is not exactly a letter of ours.
    pub fn receive(&mut self, deadline: Instant) -> Result<Letter, ChannelError> {
        let mut head = [0; HEAD_LEN];
        let mut fds = Vec::new();
        let mut read = 0;
        while read < HEAD_LEN {
            self.wait_until(deadline)?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let rest = head.get_mut(read..).unwrap_or_default();
            match recvmsg(&self.socket, &mut [IoSliceMut::new(rest)], &mut control, recv_flags()) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(io::Error::from(error).into()),
                Ok(message) if message.bytes == 0 => return Err(ChannelError::Closed),
                Ok(message) => read += message.bytes,
            }
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    fds.extend(received);
                }
            }
        }
        if head[..4] != *MAGIC {
            return Err(ChannelError::Malformed("its first bytes are of something else"));
        }
        let short = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (text_len, bytes_len) = (long(8), long(12));
        if text_len > TEXT_MAX || bytes_len > BYTES_MAX {
            return Err(ChannelError::Malformed("it announces more than is allowed"));
        }
        if fds.len() != usize::from(short(16)) {
            return Err(ChannelError::Malformed("not as many descriptors as it announces"));
        }
        let text = self.read_exact(text_len, deadline)?;
        let bytes = self.read_exact(bytes_len, deadline)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&text);
        crc.update(&bytes);
        if crc.finalize() as usize != long(20) {
            return Err(ChannelError::Malformed("its checksum is wrong"));
        }
        Ok(Letter {
            kind: short(6),
            text,
            bytes,
            fds,
        })
    }

    /// Whether a letter has begun to arrive, or the other end is closed: [`receive`](Self::receive) has something to say.
    pub(super) fn has_arrived(&self) -> bool {
        let mut byte = [0];
        match recv(&self.socket, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok(_) => true,
            Err(error) => error != rustix::io::Errno::AGAIN && error != rustix::io::Errno::INTR,
        }
    }

    /// The socket, to be handed on.
    pub fn into_socket(self) -> UnixStream {
        self.socket
    }

    fn send_all(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), ChannelError> {
        while !bytes.is_empty() {
            self.wait_until(deadline)?;
            match self.socket.write(bytes) {
                Ok(0) => return Err(ChannelError::Closed),
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_exact(&mut self, len: usize, deadline: Instant) -> Result<Vec<u8>, ChannelError> {
        let mut all = Vec::new();
        while all.len() < len {
            self.wait_until(deadline)?;
            let read = (&self.socket)
                .take((len - all.len()).min(STEP) as u64)
                .read_to_end(&mut all);
            match read {
                Ok(0) => return Err(ChannelError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(all)
    }

    /// Bounds the next operation.
    fn wait_until(&self, deadline: Instant) -> Result<(), ChannelError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left < Duration::from_millis(1) {
            return Err(ChannelError::Late);
        }
        self.socket.set_read_timeout(Some(left))?;
        Ok(self.socket.set_write_timeout(Some(left))?)
    }
}

fn length(what: &'static str, size: usize, max: usize) -> Result<u32, ChannelError> {
    match u32::try_from(size) {
        Ok(len) if size <= max => Ok(len),
        _ => Err(ChannelError::TooLong { what, size, max }),
    }
}

fn recv_flags() -> RecvFlags {
    #[cfg(target_os = "linux")]
    return RecvFlags::CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    RecvFlags::empty()
}

const MAGIC: &[u8; 4] = b"RMRA";
const HEAD_LEN: usize = 24;
/// Ten thousand publications and their figures are about 10 MB.
pub(super) const TEXT_MAX: usize = 64 << 20;
/// What waits on the connections of one letter; a connection alone may have `call.write_cap` waiting.
pub(super) const BYTES_MAX: usize = 256 << 20;
/// Linux takes 253.
pub(super) const FDS_MAX: usize = 128;
/// What is read at once: a length alone makes no buffer grow.
const STEP: usize = 1 << 20;
