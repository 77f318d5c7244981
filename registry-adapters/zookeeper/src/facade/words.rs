// SPDX-License-Identifier: Apache-2.0
//! Four-letter words at the front door: the facade's own figures, never the registry's. Each answer has a fixed cost.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::stats::Stats;
use crate::wire::FourLetterWord;

/// The answer, or `None` for four bytes that are no word.
pub(super) fn answer(stats: &Stats, word: FourLetterWord) -> Option<String> {
    let text = match &word {
        b"ruok" => "imok".to_owned(),
        b"isro" => "rw".to_owned(),
        b"srvr" => format!("{VERSION}{}", figures(stats)),
        b"stat" => format!("{VERSION}Clients:\n\n{}", figures(stats)),
        b"mntr" => monitor(stats),
        b"conf" | b"cons" | b"crst" | b"dirs" | b"dump" | b"envi" | b"gtmk" | b"hash" | b"srst" | b"stmk" | b"wchc"
        | b"wchp" | b"wchs" | b"telc" => {
            let word = String::from_utf8_lossy(&word).into_owned();
            format!("{word} is not executed because it is not in the whitelist.\n")
        }
        _ => return None,
    };
    Some(text)
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn requests(stats: &Stats) -> u64 {
    read(&stats.relayed) + read(&stats.owned) + read(&stats.local)
}

// Only what the door counts itself. Latency, outstanding requests, zxid and node count are the registry's: who wants them
// asks it, at its own port.
fn figures(stats: &Stats) -> String {
    format!(
        "Received: {}\nSent: {}\nConnections: {}\nMode: standalone\n",
        requests(stats),
        requests(stats) + read(&stats.events),
        read(&stats.connections),
    )
}

fn monitor(stats: &Stats) -> String {
    let mut out = format!("zk_version\t{NUMBER}\nzk_server_state\tstandalone\n");
    for (key, value) in [
        ("packets_received", requests(stats)),
        ("packets_sent", requests(stats) + read(&stats.events)),
        ("num_alive_connections", read(&stats.connections)),
        ("global_sessions", read(&stats.sessions)),
        ("remora_upstream_failures", read(&stats.upstream_failures)),
    ] {
        let _ = writeln!(out, "zk_{key}\t{value}");
    }
    out
}

const NUMBER: &str = concat!("3.9.5-remora-", env!("CARGO_PKG_VERSION"));
// go-zk refuses a line without a date.
const VERSION: &str = concat!(
    "Zookeeper version: 3.9.5-remora-",
    env!("CARGO_PKG_VERSION"),
    ", built on 01/01/2026 00:00 UTC\n"
);
