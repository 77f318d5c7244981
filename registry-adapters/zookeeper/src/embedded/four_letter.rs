// SPDX-License-Identifier: Apache-2.0
//! Four-letter words: what an operator's tool asks with four plain bytes. Each answer has a fixed cost.
//!
//! Source: ZooKeeper 3.9 `FourLetterCommands`, `StatCommand`, `MonitorCommand`.

use std::fmt::Write;

use super::Shared;
use crate::wire::FourLetterWord;

/// The answer, or `None` for a word that no ZooKeeper knows.
pub(super) fn answer(shared: &Shared, word: FourLetterWord) -> Option<String> {
    Some(match &word {
        b"ruok" => "imok".to_owned(),
        b"isro" => "rw".to_owned(),
        b"srvr" => format!("{}{}", version_line(), figures(shared)),
        b"stat" => format!("{}{}{}", version_line(), clients(shared), figures(shared)),
        b"mntr" => monitor(shared),
        b"conf" | b"cons" | b"crst" | b"dirs" | b"dump" | b"envi" | b"gtmk" | b"hash" | b"srst" | b"stmk" | b"wchc"
        | b"wchp" | b"wchs" | b"telc" => {
            let word = String::from_utf8_lossy(&word).into_owned();
            format!("{word} is not executed because it is not in the whitelist.\n")
        }
        _ => return None,
    })
}

// Clients parse up to the comma; go-zk refuses a line without a date, and a build has none of its own to tell.
fn version_line() -> String {
    format!("Zookeeper version: {VERSION}, built on 01/01/2026 00:00 UTC\n")
}

fn figures(shared: &Shared) -> String {
    let f = shared.figures();
    let t = shared.traffic.read();
    format!(
        "Latency min/avg/max: {}/{:.4}/{}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: 0x{:x}\n\
         Mode: standalone\nNode count: {}\n",
        t.min_ms, t.average_ms, t.max_ms, t.received, t.sent, f.connections, f.outstanding, f.zxid, f.nodes
    )
}

fn clients(shared: &Shared) -> String {
    let mut out = "Clients:\n".to_owned();
    for (peer, session) in shared.lock().some_connections(SHOWN_CLIENTS) {
        let _ = writeln!(out, " /{peer}(sid=0x{:x})", session.unwrap_or(0));
    }
    out.push('\n');
    out
}

fn monitor(shared: &Shared) -> String {
    let f = shared.figures();
    let t = shared.traffic.read();
    let mut out = String::new();
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "zk_{key}\t{value}");
    };
    line("version", &VERSION);
    line("server_state", &"standalone");
    line("min_latency", &t.min_ms);
    line("avg_latency", &format_args!("{:.4}", t.average_ms));
    line("max_latency", &t.max_ms);
    line("packets_received", &t.received);
    line("packets_sent", &t.sent);
    line("num_alive_connections", &f.connections);
    line("outstanding_requests", &f.outstanding);
    line("znode_count", &f.nodes);
    line("watch_count", &f.watches);
    line("ephemerals_count", &f.ephemerals);
    line("global_sessions", &f.sessions);
    line("approximate_data_size", &f.data_bytes);
    out
}

/// The ZooKeeper release whose behaviour this is, and whose behaviour it is.
const VERSION: &str = concat!("3.9.5-remora-", env!("CARGO_PKG_VERSION"));
const SHOWN_CLIENTS: usize = 10;
