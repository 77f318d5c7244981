// SPDX-License-Identifier: Apache-2.0
//! Sessions of real clients with a real ZooKeeper 3.9.5, captured: every frame is read and written again byte for byte.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use remora_zookeeper::wire::{
    ConnectRequest, ConnectResponse, ErrorCode, OpCode, Reader, Record, Reply, ReplyHeader, Request, RequestHeader,
    WatcherEvent, begin_frame, end_frame, reply, split_frame, xid,
};

fn hex(text: &str) -> Bytes {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn body(frame: &Bytes) -> Bytes {
    let body = split_frame(&mut BytesMut::from(&frame[..]), 1 << 20).unwrap().unwrap();
    assert_eq!(body.len() + 4, frame.len());
    body
}

fn framed(record: &impl Record) -> Bytes {
    let mut out = BytesMut::new();
    let start = begin_frame(&mut out);
    record.write(&mut out);
    end_frame(&mut out, start);
    out.freeze()
}

fn request_again(frame: &Bytes) -> (RequestHeader, Bytes) {
    let mut input = Reader::new(body(frame));
    let head = RequestHeader::read(&mut input).unwrap();
    let request = Request::decode(OpCode::from_wire(head.op).unwrap(), input.rest()).unwrap();
    let mut out = BytesMut::new();
    request.encode_frame(head.xid, &mut out);
    (head, out.freeze())
}

fn reply_again(frame: &Bytes, ops: &HashMap<i32, OpCode>) -> Bytes {
    let mut input = Reader::new(body(frame));
    let head = ReplyHeader::read(&mut input).unwrap();
    let mut out = BytesMut::new();
    if head.xid == xid::EVENT {
        let event = WatcherEvent::read(&mut input).unwrap();
        let kind = remora_zookeeper::wire::EventKind::from_wire(event.kind).unwrap();
        reply::encode_event(head.zxid, kind, &event.path, &mut out);
    } else if head.err == ErrorCode::OK {
        let reply = Reply::decode(ops[&head.xid], input.rest()).unwrap();
        reply.encode_frame(head.xid, head.zxid, &mut out);
    } else {
        reply::encode_error(head, &mut out);
    }
    out.freeze()
}

#[test]
fn captured_sessions_are_read_and_written_byte_for_byte() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testbed/golden/zookeeper");
    let (mut frames, mut seen) = (0, BTreeSet::new());
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut ops = HashMap::new();
        let (mut is_first_request, mut is_first_reply) = (true, true);
        for (number, line) in text.lines().enumerate() {
            let Some((side, digits)) = line.split_once(' ').filter(|(side, _)| *side != "#") else {
                continue;
            };
            let frame = hex(digits);
            let again = if side == ">" && std::mem::take(&mut is_first_request) {
                framed(&ConnectRequest::read(&mut Reader::new(body(&frame))).unwrap())
            } else if side == "<" && std::mem::take(&mut is_first_reply) {
                framed(&ConnectResponse::read(&mut Reader::new(body(&frame))).unwrap())
            } else if side == ">" {
                let (head, again) = request_again(&frame);
                let op = OpCode::from_wire(head.op).unwrap();
                ops.insert(head.xid, op);
                seen.insert(op);
                again
            } else {
                reply_again(&frame, &ops)
            };
            assert_eq!(again, frame, "{}, line {}", path.display(), number + 1);
            frames += 1;
        }
    }
    assert!(
        frames > 500 && seen.len() >= 24,
        "{frames} frames of {} kinds: {seen:?}",
        seen.len()
    );
}
