// SPDX-License-Identifier: Apache-2.0
//! Cutting frames out of the stream and reading where requests want to go: what every call pays besides system calls.
//!
//! divan, not criterion: a fifth of the crates, builds in seconds, and it counts allocations. Time on a shared machine is
//! noisy; what to compare between versions is the fastest column. The figures that count come from `benches/run`.

mod support;

use bytes::BytesMut;
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use remora_protocol::{Decoded, Protocol};

use support::{MAX_FRAME, frame, golden, plugin};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Frames of one read, as many callers on one connection send them.
const BATCH: usize = 32;
const SIMPLE: [&str; 4] = [
    "dubbo/3.1.11-request-simple",
    "dubbo/3.1.11-response-simple",
    "bolt/5.13.2-request-simple",
    "bolt/5.13.2-response-simple",
];
const REQUESTS: [&str; 8] = [
    "dubbo/2.7.23-request-simple",
    "dubbo/3.1.11-request-simple",
    "dubbo/3.1.11-request-group-version",
    "dubbo/3.1.11-request-pojo",
    "dubbo/3.1.11-request-generic",
    "dubbo/3.1.11-request-simple-fastjson2",
    "bolt/5.13.2-request-simple",
    "bolt/5.13.2-request-pojo",
];

/// One read that holds one frame.
#[divan::bench(args = SIMPLE)]
fn decode_one(bencher: Bencher<'_, '_>, name: &str) {
    let (protocol, wire) = (plugin(name), golden(name));
    bencher
        .with_inputs(|| BytesMut::from(&wire[..]))
        .bench_refs(|input| protocol.decode(black_box(input), MAX_FRAME));
}

/// One read that holds many.
#[divan::bench(args = SIMPLE)]
fn decode_batch(bencher: Bencher<'_, '_>, name: &str) {
    let (protocol, wire) = (plugin(name), golden(name));
    let read = wire.repeat(BATCH);
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| BytesMut::from(&read[..]))
        .bench_refs(|input| {
            let mut frames = 0;
            while let Ok(Decoded::Frame(frame)) = protocol.decode(input, MAX_FRAME) {
                frames += black_box(frame).head_len.min(1);
            }
            assert_eq!(frames, BATCH);
        });
}

/// Where a request wants to go.
#[divan::bench(args = REQUESTS)]
fn route_keys(bencher: Bencher<'_, '_>, name: &str) {
    let protocol = plugin(name);
    let request = frame(protocol, &golden(name));
    assert!(protocol.route_keys(&request).is_ok(), "{name}");
    bencher.bench(|| protocol.route_keys(black_box(&request)).is_ok());
}

/// What a reply says about its call.
#[divan::bench(args = ["dubbo/3.1.11-response-simple", "bolt/5.13.2-response-simple"])]
fn outcome(bencher: Bencher<'_, '_>, name: &str) {
    let protocol = plugin(name);
    let reply = frame(protocol, &golden(name));
    bencher.bench(|| protocol.outcome(black_box(&reply)));
}

/// Copying a frame and writing another id into the copy, as is done for each frame that is written.
#[divan::bench(args = ["dubbo/3.1.11-request-simple", "bolt/5.13.2-request-simple"])]
fn copy_and_restamp(bencher: Bencher<'_, '_>, name: &str) {
    let protocol: &dyn Protocol = plugin(name);
    let request = frame(protocol, &golden(name));
    let mut out = Vec::with_capacity(64 << 10);
    bencher.bench_local(|| {
        out.clear();
        out.extend_from_slice(black_box(&request.wire));
        protocol.restamp(&mut out[..request.head_len], remora_protocol::StreamId(7));
        black_box(out.len())
    });
}
