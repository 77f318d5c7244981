// SPDX-License-Identifier: Apache-2.0
//! One connection's bytes: frames cut out of what is read, and what waits to be written.
//!
//! One read and a bounded number of written bytes each time, so that a connection with long frames leaves room for others.
//! Not here: what the frames say.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::ops::Range;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use crate::wire::Protocol;

/// A whole frame.
#[derive(Debug)]
pub enum Whole<'a> {
    /// In the read buffer.
    Lent(&'a [u8]),
    /// A long one, in a buffer of its own.
    Given(Vec<u8>),
}

impl Whole<'_> {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Given(bytes) => bytes,
        }
    }
}

/// A buffer that connections without the beginning of a frame share for reading.
#[derive(Debug)]
pub struct Scratch(Vec<u8>);

impl Default for Scratch {
    fn default() -> Self {
        Self(Vec::with_capacity(READ_MAX))
    }
}

/// What was read of a frame that is not whole.
#[derive(Debug, Default)]
pub struct Input(Vec<u8>);

impl Input {
    /// Reads once, and gives every whole frame to `each`. False when the peer closed.
    ///
    /// # Errors
    /// As read(2); `InvalidData` when the bytes are no frames.
    pub fn read(
        &mut self,
        stream: &TcpStream,
        protocol: Protocol,
        scratch: &mut Scratch,
        mut each: impl FnMut(Whole<'_>),
    ) -> io::Result<bool> {
        if self.long_frame(protocol)?.is_some() {
            return self.read_long(stream, protocol, each);
        }
        // What is here of a short frame moves to the shared buffer, so that a read takes as much as it can: one that took only what the
        // frame lacks would leave a piece of the next one each time, and go on so call by call.
        scratch.0.clear();
        scratch.0.append(&mut self.0);
        match rustix::io::read(stream, spare_capacity(&mut scratch.0)) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => {
                self.0.extend_from_slice(&scratch.0);
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        }
        let lent = lend(protocol, &scratch.0, &mut each)?;
        self.0.extend_from_slice(&scratch.0[lent..]);
        Ok(true)
    }

    /// Length of the frame that the bytes here begin, if it is a long one.
    fn long_frame(&self, protocol: Protocol) -> io::Result<Option<usize>> {
        Ok(frame_len(protocol, &self.0)?.filter(|len| *len >= LONG))
    }

    /// Reads nothing but what a long frame lacks, into the buffer that is given away with it.
    fn read_long(
        &mut self,
        stream: &TcpStream,
        protocol: Protocol,
        mut each: impl FnMut(Whole<'_>),
    ) -> io::Result<bool> {
        let len = self.long_frame(protocol)?.unwrap_or_default();
        self.0.reserve_exact(len.saturating_sub(self.0.len()).min(READ_MAX));
        match rustix::io::read(stream, spare_capacity(&mut self.0)) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        // A vector may have room for more than was asked for.
        let rest = self.0.split_off(self.0.len().min(len));
        if self.0.len() == len {
            each(Whole::Given(std::mem::replace(&mut self.0, rest)));
            let lent = lend(protocol, &self.0, &mut each)?;
            self.0.drain(..lent);
        }
        Ok(true)
    }
}

/// Gives the whole frames at the beginning to `each`, and tells how many bytes they are.
fn lend(protocol: Protocol, bytes: &[u8], each: &mut impl FnMut(Whole<'_>)) -> io::Result<usize> {
    let mut at = 0;
    while let Some(len) = frame_len(protocol, &bytes[at..])? {
        let Some(frame) = bytes.get(at..at + len) else { break };
        each(Whole::Lent(frame));
        at += len;
    }
    Ok(at)
}

fn frame_len(protocol: Protocol, input: &[u8]) -> io::Result<Option<usize>> {
    protocol
        .frame_len(input)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no frame of the protocol"))
}

/// What waits to be written, oldest first.
#[derive(Debug, Default)]
pub struct Output {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are written.
    front_written: usize,
    queued: usize,
}

#[derive(Debug)]
enum Chunk {
    Open(Vec<u8>),
    Given(Vec<u8>, Range<usize>),
}

impl Output {
    /// Bytes waiting.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Appends what `write` appends to the buffer that it is given.
    pub fn append<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if !matches!(self.chunks.back(), Some(Chunk::Open(_))) {
            self.chunks.push_back(Chunk::Open(Vec::new()));
        }
        let Some(Chunk::Open(buffer)) = self.chunks.back_mut() else {
            unreachable!("put there above")
        };
        let before = buffer.len();
        let done = write(buffer);
        self.queued += buffer.len() - before;
        done
    }

    /// Appends a part of a buffer without copying it.
    pub fn give(&mut self, bytes: Vec<u8>, range: Range<usize>) {
        self.queued += range.len();
        self.chunks.push_back(Chunk::Given(bytes, range));
    }

    /// Writes until nothing waits, the socket is full, or the turn is over; true when nothing waits.
    ///
    /// # Errors
    /// As write(2).
    pub fn flush(&mut self, stream: &TcpStream) -> io::Result<bool> {
        let mut turn = TURN_MAX;
        while self.queued > 0 && turn > 0 {
            let bytes = match self.chunks.front() {
                Some(Chunk::Open(bytes)) => &bytes[self.front_written..],
                Some(Chunk::Given(bytes, range)) => &bytes[range.start + self.front_written..range.end],
                None => break,
            };
            let len = bytes.len();
            let written = match rustix::io::write(stream, &bytes[..len.min(turn)]) {
                Ok(written) => written,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            turn -= written;
            self.queued -= written;
            self.front_written += written;
            if written == len {
                self.front_written = 0;
                match self.chunks.front_mut() {
                    // Kept for what comes next.
                    Some(Chunk::Open(buffer)) if self.queued == 0 => buffer.clear(),
                    _ => drop(self.chunks.pop_front()),
                }
            }
        }
        Ok(self.queued == 0)
    }

    /// Drops what waits.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Longest read, in bytes.
const READ_MAX: usize = 256 << 10;
/// Bytes written in one turn.
const TURN_MAX: usize = 256 << 10;
/// A frame from this length on is given away instead of copied.
const LONG: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Mold;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        (near, far)
    }

    #[test]
    fn a_read_takes_what_is_there_though_a_frame_is_begun() {
        let (near, far) = pair();
        let frame = Mold::request(Protocol::Bolt).frame(&[b'x'; 1024]).0;
        let (mut input, mut scratch) = (Input::default(), Scratch::default());
        let mut read = |bytes: &[u8]| {
            rustix::io::write(&near, bytes).unwrap();
            let mut frames = 0;
            input.read(&far, Protocol::Bolt, &mut scratch, |_| frames += 1).unwrap();
            frames
        };
        let (begin, end) = frame.split_at(700);
        assert_eq!(read(begin), 0);
        assert_eq!(read(&[end, &frame, &frame, begin].concat()), 3);
        assert_eq!(read(&[end, &frame].concat()), 2);
    }

    #[test]
    fn frames_of_every_length_come_out_as_they_went_in() {
        let (near, far) = pair();
        let sizes = [32, 1024, 300_000, 40, 2_000_000, 128];
        let frames: Vec<Vec<u8>> = sizes
            .iter()
            .map(|size| Mold::request(Protocol::Dubbo).frame(&vec![b'x'; *size]).0)
            .collect();
        let sent = frames.clone();
        let writer = std::thread::spawn(move || {
            let mut output = Output::default();
            for frame in sent {
                match frame.len() {
                    len if len >= LONG => output.give(frame, 0..len),
                    _ => output.append(|out| out.extend_from_slice(&frame)),
                }
            }
            while !output.flush(&near).unwrap() {}
            near
        });
        let (mut input, mut scratch, mut got) = (Input::default(), Scratch::default(), Vec::new());
        while got.len() < frames.len() {
            let is_open = input.read(&far, Protocol::Dubbo, &mut scratch, |frame| {
                got.push(frame.bytes().to_vec())
            });
            assert!(is_open.unwrap());
        }
        assert!(got == frames);
        drop(writer.join().unwrap());
        assert!(
            !input.read(&far, Protocol::Dubbo, &mut scratch, |_| ()).unwrap(),
            "closed"
        );
    }
}
