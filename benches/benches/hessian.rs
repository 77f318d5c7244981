// SPDX-License-Identifier: Apache-2.0
//! Stepping over bodies: the arguments of a call, up to its attachments.

mod support;

use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use remora_hessian2::{Dialect, Limits, Walk, decode};

use support::{frame, golden, plugin};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Objects with maps, dates, references, and one long string.
const BODIES: [&str; 4] = [
    "dubbo/3.1.11-request-simple",
    "dubbo/3.1.11-request-pojo",
    "dubbo/2.7.23-request-pojo",
    "sofa",
];

fn body(name: &str) -> (Vec<u8>, Dialect) {
    if name == "sofa" {
        return (
            golden("hessian2/sofa-hessian-3.5/call-request-order").to_vec(),
            Dialect::Sofa,
        );
    }
    (frame(plugin(name), &golden(name)).body().to_vec(), Dialect::Hessian2)
}

#[divan::bench(args = BODIES)]
fn walk(bencher: Bencher<'_, '_>, name: &str) {
    let (body, dialect) = body(name);
    bencher.counter(BytesCount::new(body.len())).bench(|| {
        let mut walk = Walk::with(black_box(&body), dialect, Limits::default());
        while !walk.is_at_end() && walk.skip().is_ok() {}
        assert!(walk.is_at_end(), "{name}");
    });
}

/// What walking saves.
#[divan::bench(args = BODIES)]
fn decode_whole(bencher: Bencher<'_, '_>, name: &str) {
    let (body, dialect) = body(name);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| decode(black_box(&body), dialect, Limits::default()).is_ok());
}
