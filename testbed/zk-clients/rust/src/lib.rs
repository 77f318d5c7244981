// SPDX-License-Identifier: Apache-2.0
//! A plain client on the wire records, for the tools here.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use remora_zookeeper::wire::{
    ConnectRequest, ConnectResponse, OpCode, Reader, Record, ReplyHeader, RequestHeader, WatcherEvent, begin_frame,
    end_frame, split_frame, xid,
};

/// One session, asked and answered in turn.
pub struct Connection {
    stream: TcpStream,
    input: BytesMut,
    next: i32,
    /// As the server gave it.
    pub session: i64,
    password: Bytes,
    /// As the server gave it.
    pub zxid: i64,
    /// As the server gave it.
    pub events: Vec<(i64, WatcherEvent)>,
}

impl Connection {
    /// Opens a session, or resumes the one of `before`.
    pub fn open(addr: &str, before: Option<&Connection>) -> Self {
        let stream = TcpStream::connect(addr).expect("a server");
        stream.set_nodelay(true).expect("a socket option");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a socket option");
        let mut connection = Self {
            stream,
            input: BytesMut::new(),
            next: 1,
            session: before.map_or(0, |c| c.session),
            password: before.map_or(Bytes::from_static(&[0; 16]), |c| c.password.clone()),
            zxid: before.map_or(0, |c| c.zxid),
            events: Vec::new(),
        };
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: connection.zxid,
            timeout_ms: 30_000,
            session_id: connection.session,
            password: connection.password.clone(),
            read_only: Some(false),
        };
        let mut out = BytesMut::new();
        let start = begin_frame(&mut out);
        request.write(&mut out);
        end_frame(&mut out, start);
        connection.stream.write_all(&out).expect("sent");
        let frame = connection
            .frame()
            .unwrap_or_else(|| panic!("{addr} closed instead of a connect response to {request:?}"));
        let response = ConnectResponse::read(&mut Reader::new(frame)).expect("a connect response");
        assert!(response.timeout_ms > 0, "{addr}: session refused");
        connection.session = response.session_id;
        connection.password = response.password;
        connection
    }

    fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = split_frame(&mut self.input, 16 << 20).expect("a frame") {
                return Some(frame);
            }
            let mut chunk = [0; 16_384];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("no answer: {e}"),
            }
        }
    }

    /// Sends without waiting; the number of the request.
    pub fn send(&mut self, op: i32, body: &[u8]) -> Option<i32> {
        let number = match OpCode::from_wire(op) {
            Some(OpCode::Ping) => xid::PING,
            Some(OpCode::Auth) => xid::AUTH,
            _ => self.next,
        };
        self.next += i32::from(number > 0);
        let mut out = BytesMut::new();
        let start = begin_frame(&mut out);
        RequestHeader { xid: number, op }.write(&mut out);
        out.extend_from_slice(body);
        end_frame(&mut out, start);
        self.stream.write_all(&out).ok()?;
        Some(number)
    }

    /// Asks and waits for the answer; `None` when the server closed.
    pub fn ask(&mut self, op: i32, body: &[u8]) -> Option<(ReplyHeader, Bytes)> {
        let number = self.send(op, body)?;
        self.answer(number)
    }

    /// Waits for the answer to request `number`, the oldest one without an answer.
    pub fn answer(&mut self, number: i32) -> Option<(ReplyHeader, Bytes)> {
        loop {
            let mut input = Reader::new(self.frame()?);
            let head = ReplyHeader::read(&mut input).expect("a head");
            if head.xid == xid::EVENT {
                let event = WatcherEvent::read(&mut input).expect("an event");
                self.events.push((head.zxid, event));
                continue;
            }
            assert_eq!(head.xid, number, "an answer out of order");
            self.zxid = self.zxid.max(head.zxid);
            return Some((head, input.rest()));
        }
    }

    /// Events so far, those of requests answered to others included.
    pub fn told(&mut self) -> Vec<(i64, WatcherEvent)> {
        self.ask(OpCode::Ping.number(), &[]).expect("a pong");
        std::mem::take(&mut self.events)
    }
}
