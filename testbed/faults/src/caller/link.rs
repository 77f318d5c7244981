// SPDX-License-Identifier: Apache-2.0
//! One connection of a caller: its calls in flight, and the check of every answer.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use remora_bench::link::{Input, Output, Scratch};
use remora_bench::poll::{Interest, Poll};
use remora_bench::wire::{Kind, Mold, Protocol};
use socket2::{Domain, Socket, Type};

use super::tally::{Fault, Tally};
use crate::journal::{FAILED, Journal, OK};
use crate::payload::{Payload, Wish};
use crate::words;

/// What all links of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) protocol: Protocol,
    request: Mold,
    reply: Mold,
    pub(super) payload_len: usize,
    pub(super) timeout: Duration,
    pub(super) tally: Tally,
    pub(super) journal: Journal,
    scratch: Scratch,
}

impl Shared {
    pub(super) fn new(protocol: Protocol, payload_len: usize, timeout: Duration, journal: Journal) -> Self {
        Self {
            protocol,
            request: Mold::request(protocol),
            reply: Mold::reply(protocol),
            payload_len,
            timeout,
            tally: Tally::default(),
            journal,
            scratch: Scratch::default(),
        }
    }

    /// Notes a call that failed.
    pub(super) fn fault(&mut self, payload: &Payload, fault: Fault, words: &str) {
        self.tally.fault(fault, words);
        self.journal.note(payload.client, payload.number, FAILED);
    }
}

#[derive(Debug)]
enum State {
    /// To be connected, not before.
    Down(Instant),
    /// Being connected since.
    Connecting(Instant),
    Up,
}

#[derive(Debug)]
struct Call {
    payload: Payload,
    since: Instant,
    until: Instant,
    /// No longer waited for; known so that a late answer is no wrong one.
    is_given_up: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    key: u64,
    state: State,
    stream: Option<TcpStream>,
    to: Option<SocketAddr>,
    interest: Interest,
    input: Input,
    output: Output,
    calls: HashMap<u64, Call>,
    next_id: u64,
    waiting: usize,
    /// No new calls: to be closed when those in flight are done.
    is_leaving: bool,
}

impl Link {
    pub(super) fn new(key: u64) -> Self {
        Self {
            key,
            state: State::Down(Instant::now()),
            stream: None,
            to: None,
            interest: Interest::Read,
            input: Input::default(),
            output: Output::default(),
            calls: HashMap::new(),
            next_id: 0,
            waiting: 0,
            is_leaving: false,
        }
    }

    /// Calls that wait for an answer.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether a call may be started now. `Down` is yes: the call finds out.
    pub(super) fn takes_calls(&self, now: Instant) -> bool {
        match self.state {
            State::Up => !self.is_leaving,
            State::Down(until) => now >= until,
            State::Connecting(_) => false,
        }
    }

    /// Leaves an address that is no longer in the list; closes when nothing waits; gives up a connection that is not made.
    pub(super) fn look(&mut self, list: &[SocketAddr], shared: &mut Shared, now: Instant) {
        if let State::Connecting(since) = self.state
            && now > since + CONNECT_LIMIT
        {
            self.failed_to_connect(shared, now, "not connected in time");
        }
        self.is_leaving |= matches!(self.state, State::Up) && self.to.is_some_and(|to| !list.contains(&to));
        if self.is_leaving && self.waiting == 0 {
            self.close(now);
        }
        let tally = shared.timeout;
        let mut given_up = Vec::new();
        self.calls.retain(|_, call| {
            if !call.is_given_up && now >= call.until {
                call.is_given_up = true;
                given_up.push(call.payload);
            }
            now < call.until + tally + FORGET
        });
        for payload in given_up {
            self.waiting -= 1;
            shared.fault(&payload, Fault::Timeout, "no answer");
        }
    }

    /// Starts a call. One that finds no connection waits for it: its time runs.
    pub(super) fn start(
        &mut self,
        payload: Payload,
        list: &[SocketAddr],
        shared: &mut Shared,
        poll: &Poll,
        now: Instant,
    ) {
        if let State::Down(_) = self.state {
            let place = usize::try_from(self.key).unwrap_or(0) % list.len().max(1);
            let connected = match list.get(place) {
                Some(to) => self.connect(*to, poll),
                None => Err(io::ErrorKind::AddrNotAvailable.into()),
            };
            match connected {
                Ok(()) => self.state = State::Connecting(now),
                Err(error) => {
                    self.state = State::Down(now + RETRY);
                    return shared.fault(&payload, Fault::NoConnection, &error.to_string());
                }
            }
        }
        self.next_id += 1;
        let wait = Duration::from_millis(payload.wait_ms.into());
        let limit = shared.timeout + wait;
        let text = payload.text(shared.payload_len);
        let limit_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let frame = words::request(&shared.request, shared.protocol, &text, limit_ms, self.next_id);
        self.output.append(|out| out.extend_from_slice(&frame));
        let call = Call {
            payload,
            since: now,
            until: now + limit,
            is_given_up: false,
        };
        self.calls.insert(self.next_id, call);
        self.waiting += 1;
        if matches!(self.state, State::Up) {
            self.flush(shared, poll, now);
        }
    }

    fn connect(&mut self, to: SocketAddr, poll: &Poll) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&to.into()) {
            Ok(()) => {}
            // EINPROGRESS
            Err(error) if error.raw_os_error() == Some(115) => {}
            Err(error) => return Err(error),
        }
        let stream = TcpStream::from(socket);
        poll.add(&stream, self.key, Interest::Both)?;
        self.interest = Interest::Both;
        self.stream = Some(stream);
        self.to = Some(to);
        Ok(())
    }

    /// Something can be read or written.
    pub(super) fn turn(&mut self, is_readable: bool, shared: &mut Shared, poll: &Poll, now: Instant) {
        let Some(stream) = &self.stream else { return };
        if let State::Connecting(_) = self.state {
            match stream.take_error() {
                Ok(None) if stream.peer_addr().is_ok() => {
                    self.state = State::Up;
                    shared.tally.reconnects += 1;
                }
                Ok(None) => return,
                Ok(Some(error)) | Err(error) => return self.failed_to_connect(shared, now, &error.to_string()),
            }
        }
        if is_readable {
            match self.read(shared, now) {
                Ok(true) => {}
                Ok(false) => return self.lost(shared, now, "closed by the peer"),
                Err(error) => return self.lost(shared, now, &error.to_string()),
            }
        }
        self.flush(shared, poll, now);
    }

    fn read(&mut self, shared: &mut Shared, now: Instant) -> io::Result<bool> {
        let Self {
            stream,
            input,
            output,
            calls,
            waiting,
            is_leaving,
            ..
        } = self;
        let Some(stream) = stream else { return Ok(true) };
        let Shared {
            protocol,
            reply,
            payload_len,
            tally,
            journal,
            scratch,
            ..
        } = shared;
        let protocol = *protocol;
        input.read(stream, protocol, scratch, |frame| {
            let frame = frame.bytes();
            match protocol.kind(frame) {
                Kind::Reply => {}
                Kind::Probe => return output.append(|out| protocol.answer_probe(frame, out)),
                Kind::Request => return tally.unknown += 1,
                Kind::Other => return *is_leaving |= words::is_goodbye(protocol, frame),
            }
            let id = protocol.id(frame);
            let Some(call) = calls.remove(&id) else {
                return tally.unknown += 1;
            };
            let expected = match call.payload.wish {
                Wish::Echo => reply.frame(&call.payload.text(*payload_len)).0,
                Wish::Error => {
                    let mut expected = Vec::new();
                    words::error_reply(protocol, id, &mut expected);
                    expected
                }
            };
            let fault = verdict(protocol, frame, expected, id);
            if call.is_given_up {
                match fault {
                    Some(Fault::WrongAnswer) => tally.unknown += 1,
                    _ => tally.late += 1,
                }
                return;
            }
            *waiting -= 1;
            match fault {
                None => {
                    let nanos = now
                        .saturating_duration_since(call.since)
                        .saturating_sub(Duration::from_millis(call.payload.wait_ms.into()));
                    tally.ok(
                        u64::try_from(nanos.as_nanos()).unwrap_or(u64::MAX),
                        call.payload.wish == Wish::Error,
                    );
                    journal.note(call.payload.client, call.payload.number, OK);
                }
                Some(fault) => {
                    let status = protocol.failure(frame).unwrap_or_default();
                    tally.fault(fault, &format!("{status} {}", protocol.words(frame)));
                    journal.note(call.payload.client, call.payload.number, FAILED);
                }
            }
        })
    }

    fn flush(&mut self, shared: &mut Shared, poll: &Poll, now: Instant) {
        let Some(stream) = &self.stream else { return };
        let flushed = self.output.flush(stream).and_then(|is_empty| {
            let wanted = if is_empty { Interest::Read } else { Interest::Both };
            if wanted != self.interest {
                poll.modify(stream, self.key, wanted)?;
                self.interest = wanted;
            }
            Ok(())
        });
        if let Err(error) = flushed {
            self.lost(shared, now, &error.to_string());
        }
    }

    fn failed_to_connect(&mut self, shared: &mut Shared, now: Instant, why: &str) {
        self.end(shared, now, Fault::NoConnection, why);
    }

    fn lost(&mut self, shared: &mut Shared, now: Instant, why: &str) {
        self.end(shared, now, Fault::Lost, why);
    }

    fn end(&mut self, shared: &mut Shared, now: Instant, fault: Fault, why: &str) {
        for call in self.calls.values().filter(|call| !call.is_given_up) {
            shared.fault(&call.payload, fault, why);
        }
        self.close(now);
        self.state = State::Down(now + RETRY);
    }

    fn close(&mut self, now: Instant) {
        self.stream = None;
        self.to = None;
        self.calls.clear();
        self.waiting = 0;
        self.input = Input::default();
        self.output.clear();
        self.is_leaving = false;
        self.state = State::Down(now);
    }

    /// What still waits at the end of a run.
    pub(super) fn give_up(&mut self, shared: &mut Shared) {
        for call in self.calls.values().filter(|call| !call.is_given_up) {
            shared.fault(&call.payload, Fault::Timeout, "no answer until the end");
        }
        self.calls.clear();
        self.waiting = 0;
    }
}

/// What is wrong with an answer, byte for byte; nothing if it is as it must be.
fn verdict(protocol: Protocol, frame: &[u8], mut expected: Vec<u8>, id: u64) -> Option<Fault> {
    protocol.set_id(&mut expected, id);
    if frame == expected {
        return None;
    }
    Some(match protocol.failure(frame) {
        None => Fault::WrongAnswer,
        // SOFARPC has statuses that carry no words; the provider answers with another one.
        Some(status) if protocol == Protocol::Bolt && status != words::BOLT_FAILURE => Fault::ProxyError,
        Some(_) if protocol.words(frame).to_ascii_lowercase().contains("remora") => Fault::ProxyError,
        Some(_) => Fault::OtherError,
    })
}

/// Pause after a connection was lost or could not be made.
const RETRY: Duration = Duration::from_millis(50);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long a call that was given up is remembered.
const FORGET: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use remora_bench::wire::Answerer;

    #[test]
    fn an_answer_with_any_byte_changed_is_wrong() {
        for protocol in [Protocol::Dubbo, Protocol::Bolt] {
            let payload = Payload {
                wish: Wish::Echo,
                wait_ms: 0,
                client: 3,
                number: 4,
                random: 5,
            };
            let request = words::request(&Mold::request(protocol), protocol, &payload.text(0), 1000, 9);
            let expected = Mold::reply(protocol).frame(&payload.text(0)).0;
            let mut answer = Vec::new();
            assert!(Answerer::new(protocol).answer(&request, &mut answer));
            assert_eq!(verdict(protocol, &answer, expected.clone(), 9), None);
            assert_eq!(
                verdict(protocol, &answer[..answer.len() - 1], expected.clone(), 9),
                Some(Fault::WrongAnswer)
            );
            for at in 0..answer.len() {
                answer[at] ^= 1;
                assert!(
                    verdict(protocol, &answer, expected.clone(), 9).is_some(),
                    "{protocol:?}, byte {at}"
                );
                answer[at] ^= 1;
            }
        }
    }
}
