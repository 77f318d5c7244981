// SPDX-License-Identifier: Apache-2.0
//! One caller: its connection, its calls in flight, and the check of every reply.

use std::io;
use std::net::{SocketAddr, TcpStream};

use super::report::Errors;
use crate::link::{Input, Output, Scratch};
use crate::poll::Interest;
use crate::wire::{Kind, Mold, Protocol};

/// The frames that callers send and expect, and where the mark stands that tells calls apart.
#[derive(Debug)]
pub(super) struct Frames {
    protocol: Protocol,
    request: Vec<u8>,
    request_mark: usize,
    reply: Vec<u8>,
    reply_mark: usize,
}

impl Frames {
    /// For payloads of `len` characters, at least [`MARK`].
    pub(super) fn new(protocol: Protocol, len: usize) -> Self {
        let payload: Vec<u8> = (b'a'..=b'z').cycle().take(len.max(MARK)).collect();
        let (request, request_mark) = Mold::request(protocol).frame(&payload);
        let (reply, reply_mark) = Mold::reply(protocol).frame(&payload);
        Self {
            protocol,
            request,
            request_mark,
            reply,
            reply_mark,
        }
    }

    fn write(&self, id: u64, mark: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.request);
        let frame = &mut out[start..];
        self.protocol.set_id(frame, id);
        frame[self.request_mark..self.request_mark + MARK].copy_from_slice(&mark_text(mark));
    }

    /// Whether a reply is byte for byte what it must be; its id is checked already.
    fn is_reply(&self, frame: &[u8], mark: u64) -> bool {
        let (id, at) = (self.protocol.id_range(), self.reply_mark);
        frame.len() == self.reply.len()
            && frame[..id.start] == self.reply[..id.start]
            && frame[id.end..at] == self.reply[id.end..at]
            && frame[at..at + MARK] == mark_text(mark)
            && frame[at + MARK..] == self.reply[at + MARK..]
    }
}

/// A mark as text: six bits a character.
fn mark_text(mark: u64) -> [u8; MARK] {
    let mut text = [0; MARK];
    let mut rest = mark;
    for byte in &mut text {
        *byte = b'0' + (rest & 0x3f) as u8;
        rest >>= 6;
    }
    text
}

#[derive(Debug)]
struct Slot {
    /// Of the call that waits here; none otherwise.
    call: Option<Waiting>,
    generation: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: u64,
    mark: u64,
    since: u64,
}

/// One caller. Times are in nanoseconds since the start of the run.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stream: TcpStream,
    pub(super) is_up: bool,
    pub(super) interest: Interest,
    input: Input,
    output: Output,
    number: u64,
    calls: u64,
    slots: Vec<Slot>,
    free: Vec<u16>,
}

impl Link {
    pub(super) fn connect(number: u64, to: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            stream: stream(to)?,
            is_up: true,
            interest: Interest::Read,
            input: Input::default(),
            output: Output::default(),
            number,
            calls: 0,
            slots: Vec::new(),
            free: Vec::new(),
        })
    }

    /// After the connection was lost.
    pub(super) fn reconnect(&mut self, to: SocketAddr) -> io::Result<()> {
        self.stream = stream(to)?;
        self.is_up = true;
        self.interest = Interest::Read;
        self.input = Input::default();
        self.output.clear();
        Ok(())
    }

    /// Calls in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts a call into the output, which waits since `since`. False when there are too many.
    pub(super) fn start(&mut self, frames: &Frames, since: u64) -> bool {
        let at = match self.free.pop() {
            Some(at) => at,
            None if self.slots.len() < SLOTS_MAX => {
                self.slots.push(Slot {
                    call: None,
                    generation: 0,
                });
                (self.slots.len() - 1) as u16
            }
            None => return false,
        };
        let slot = &mut self.slots[usize::from(at)];
        slot.generation += 1;
        self.calls += 1;
        let waiting = Waiting {
            // Callers use the same ids: a proxy that mixes them up cannot go unnoticed.
            id: (slot.generation << SLOT_BITS | u64::from(at)) & 0x7fff_ffff,
            mark: self.number << NUMBER_SHIFT | self.calls,
            since,
        };
        slot.call = Some(waiting);
        self.output.append(|out| frames.write(waiting.id, waiting.mark, out));
        true
    }

    /// Reads once; `done` is told of each call that was answered well, with the time since when it waited.
    ///
    /// # Errors
    /// When the connection is lost: read(2), or bytes that are no frames.
    pub(super) fn read(
        &mut self,
        frames: &Frames,
        scratch: &mut Scratch,
        errors: &mut Errors,
        mut done: impl FnMut(u64),
    ) -> io::Result<bool> {
        let Self {
            stream,
            input,
            output,
            slots,
            free,
            ..
        } = self;
        let protocol = frames.protocol;
        input.read(stream, protocol, scratch, |frame| {
            let frame = frame.bytes();
            match protocol.kind(frame) {
                Kind::Reply => {}
                Kind::Probe => return output.append(|out| protocol.answer_probe(frame, out)),
                Kind::Request => return errors.count("unexpected_request", String::new()),
                Kind::Other => return,
            }
            let id = protocol.id(frame);
            let at = (id & (SLOTS_MAX as u64 - 1)) as usize;
            let Some(slot) = slots
                .get_mut(at)
                .filter(|slot| slot.call.is_some_and(|call| call.id == id))
            else {
                return errors.count("unknown_id", String::new());
            };
            let Some(call) = slot.call.take() else { return };
            free.push(at as u16);
            if let Some(status) = protocol.failure(frame) {
                errors.count(&format!("status_{status}"), protocol.words(frame));
            } else if !frames.is_reply(frame, call.mark) {
                errors.count("wrong_reply", String::new());
            } else {
                done(call.since);
            }
        })
    }

    /// Writes what waits; true when nothing waits any more.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        self.output.flush(&self.stream)
    }

    /// The connection is lost, and the calls in flight with it; gives their number.
    pub(super) fn lost(&mut self) -> usize {
        let lost = self.in_flight();
        self.is_up = false;
        self.free.clear();
        for (at, slot) in self.slots.iter_mut().enumerate() {
            slot.call = None;
            self.free.push(at as u16);
        }
        lost
    }
}

fn stream(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, std::time::Duration::from_secs(2))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Characters of a mark.
pub(super) const MARK: usize = 11;
/// Where the caller's number stands in a mark.
const NUMBER_SHIFT: u32 = 44;
const SLOT_BITS: u32 = 12;
/// Calls in flight of one caller.
const SLOTS_MAX: usize = 1 << SLOT_BITS;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Answerer;

    #[test]
    fn a_reply_with_any_byte_changed_is_noticed() {
        for protocol in [Protocol::Dubbo, Protocol::Bolt] {
            let frames = Frames::new(protocol, 64);
            let mut request = Vec::new();
            frames.write(7, 0x1234_5678_9abc, &mut request);
            let mut reply = Vec::new();
            assert!(Answerer::new(protocol).answer(&request, &mut reply));
            assert!(frames.is_reply(&reply, 0x1234_5678_9abc));
            assert!(!frames.is_reply(&reply, 0x1234_5678_9abd));
            assert!(!frames.is_reply(&reply[..reply.len() - 1], 0x1234_5678_9abc));
            for at in (0..reply.len()).filter(|at| !protocol.id_range().contains(at)) {
                reply[at] ^= 1;
                assert!(!frames.is_reply(&reply, 0x1234_5678_9abc), "{protocol:?}, byte {at}");
                reply[at] ^= 1;
            }
        }
    }

    #[test]
    fn marks_are_ascii_and_differ() {
        let marks = [0, 1, 63, 64, 1 << 44, u64::MAX].map(mark_text);
        assert!(marks.iter().flatten().all(u8::is_ascii_graphic));
        for (at, mark) in marks.iter().enumerate() {
            assert!(!marks[..at].contains(mark));
        }
    }
}
