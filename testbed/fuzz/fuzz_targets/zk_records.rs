// SPDX-License-Identifier: Apache-2.0
//! Any bytes as a stream of ZooKeeper frames, read as requests and as replies: no panic, no memory beyond the input's, and
//! what was read is written and read the same again.
#![no_main]

mod peak;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use remora_zookeeper::wire::{
    ConnectRequest, ConnectResponse, DEFAULT_MAX_FRAME, OpCode, Reader, Record, Reply, ReplyHeader, Request, RequestHeader,
    WatcherEvent, check_path, four_letter_word, split_frame,
};

#[global_allocator]
static ALLOCATOR: peak::Counting = peak::Counting;

/// What reading may allocate on top of the bytes it was given.
const READ_BYTES: usize = 64 << 10;

fuzz_target!(|input: &[u8]| {
    let _ = four_letter_word(input);
    let mut stream = BytesMut::from(input);
    while let Ok(Some(frame)) = split_frame(&mut stream, DEFAULT_MAX_FRAME) {
        let (_, peak) = peak::peak_of(|| read(&frame));
        assert!(peak <= frame.len() + READ_BYTES, "{peak} bytes for a frame of {}", frame.len());
        again(&frame);
    }
});

fn heads(frame: &Bytes) -> Option<(OpCode, Bytes, OpCode, Bytes)> {
    let mut input = Reader::new(frame.clone());
    let head = RequestHeader::read(&mut input).ok()?;
    let op = OpCode::from_wire(head.op)?;
    let body = input.rest();
    let mut input = Reader::new(frame.clone());
    let head = ReplyHeader::read(&mut input).ok()?;
    let index = head.xid.unsigned_abs() as usize % OpCode::ALL.len();
    Some((op, body, OpCode::ALL[index], input.rest()))
}

// Everything that a server or a relay does with a frame before it knows whether to trust it.
fn read(frame: &Bytes) {
    let _ = ConnectRequest::read(&mut Reader::new(frame.clone()));
    let _ = ConnectResponse::read(&mut Reader::new(frame.clone()));
    let _ = WatcherEvent::read(&mut Reader::new(frame.clone()));
    let Some((op, body, reply_op, reply_body)) = heads(frame) else { return };
    if let Ok(request) = Request::decode(op, body) {
        let _ = request.path().map(|path| check_path(path).is_ok());
        match &request {
            Request::Multi(ops) | Request::MultiRead(ops) => assert!(ops.iter().count() * 9 <= frame.len()),
            Request::SetWatches2(set) => assert_eq!(set.data.iter().count(), set.data.len()),
            Request::Create(create) => assert_eq!(create.acl.iter().count(), create.acl.len()),
            _ => {}
        }
    }
    match Reply::decode(reply_op, reply_body) {
        Ok(Reply::Children(children)) => assert_eq!(children.iter().count(), children.len()),
        Ok(Reply::Results(results)) => assert!(results.iter().count() * 9 <= frame.len()),
        _ => {}
    }
}

fn again(frame: &Bytes) {
    let Some((op, body, reply_op, reply_body)) = heads(frame) else { return };
    if let Ok(request) = Request::decode(op, body) {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        assert_eq!(Request::decode(op, out.freeze()), Ok(request));
    }
    if let Ok(reply) = Reply::decode(reply_op, reply_body) {
        let mut out = BytesMut::new();
        reply.encode(&mut out);
        assert_eq!(Reply::decode(reply_op, out.freeze()), Ok(reply));
    }
}
