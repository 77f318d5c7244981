// SPDX-License-Identifier: Apache-2.0
//! The stream table: what each call pays to be found again when its reply comes.

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use remora::call::StreamTable;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// About as much as the call path keeps of a call.
type Entry = [u64; 6];
const ENTRY: Entry = [7; 6];
const MAX: usize = 100_000;
/// Calls in flight on the connection.
const IN_FLIGHT: [usize; 4] = [1, 32, 256, 4096];

fn filled(in_flight: usize) -> (StreamTable<Entry>, Vec<remora_protocol::StreamId>) {
    let mut table = StreamTable::new(MAX, 64);
    let ids = (0..in_flight)
        .map(|_| table.insert(ENTRY).expect("there is room"))
        .collect();
    (table, ids)
}

/// A call goes and its reply comes, first in first out, while others are in flight.
#[divan::bench(args = IN_FLIGHT)]
fn insert_and_take(bencher: Bencher<'_, '_>, in_flight: usize) {
    let (mut table, mut ids) = filled(in_flight);
    let mut at = 0;
    bencher.bench_local(|| {
        let taken = table.take(black_box(ids[at]));
        assert!(taken.is_some());
        ids[at] = table.insert(ENTRY).expect("one left");
        at = (at + 1) % in_flight;
    });
}

/// A reply that nobody waits for: late, or made up.
#[divan::bench(args = IN_FLIGHT)]
fn take_unknown(bencher: Bencher<'_, '_>, in_flight: usize) {
    let (mut table, ids) = filled(in_flight);
    let late = table.spare_id();
    assert!(!ids.contains(&late));
    bencher.bench_local(|| table.take(black_box(late)).is_none());
}

/// The search for calls whose time is over, when there is none.
#[divan::bench(args = IN_FLIGHT)]
fn search(bencher: Bencher<'_, '_>, in_flight: usize) {
    let (mut table, _) = filled(in_flight);
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(in_flight)).bench_local(|| {
        table.take_where(|entry| black_box(entry)[0] == 0, &mut out);
        out.len()
    });
}
