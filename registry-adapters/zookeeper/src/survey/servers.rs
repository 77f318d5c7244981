// SPDX-License-Identifier: Apache-2.0
//! What servers say of themselves when they are asked by four-letter words, which a server may not allow; and what
//! listens where no ZooKeeper does. Each question has a connection of its own, as a server closes it with its answer.

use std::io;
use std::time::Duration;

use remora_registry::survey::ServerFacts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Asks every server, all at once.
pub(super) async fn facts(servers: &[String]) -> Vec<ServerFacts> {
    let mut asked = tokio::task::JoinSet::new();
    for (at, server) in servers.iter().take(MAX_SERVERS).cloned().enumerate() {
        asked.spawn(async move { (at, facts_of(server).await) });
    }
    let mut facts = asked.join_all().await;
    facts.sort_by_key(|(at, _)| *at);
    facts.into_iter().map(|(_, facts)| facts).collect()
}

async fn facts_of(address: String) -> ServerFacts {
    let mut facts = ServerFacts {
        address,
        ..ServerFacts::default()
    };
    match word(&facts.address, b"srvr").await {
        Ok(answer) => facts.what = what(&answer),
        Err(error) => {
            facts.trouble = error.to_string();
            return facts;
        }
    }
    let settings = word(&facts.address, b"conf").await.unwrap_or_default();
    facts.max_connections_per_host = setting(&settings, "maxClientCnxns").and_then(|v| v.parse().ok());
    facts
}

/// `Zookeeper version: 3.9.5-..., built on ..` and `Mode: standalone`.
fn what(answer: &str) -> String {
    let line = |front: &str| answer.lines().find_map(|line| line.strip_prefix(front));
    let Some(version) = line("Zookeeper version: ") else {
        return String::new();
    };
    let version = version.split([',', ' ']).next().unwrap_or_default();
    // The build's number behind the version says nothing.
    let version = match version.split_once('-') {
        Some((version, rest)) if !rest.starts_with("remora") => version,
        _ => version,
    };
    let mode = line("Mode: ")
        .map(|mode| format!(", {}", mode.trim()))
        .unwrap_or_default();
    format!("ZooKeeper {version}{mode}")
}

fn setting<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let lines = answer.lines().filter_map(|line| line.split_once('='));
    lines
        .into_iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim())
}

/// What seems to listen at an address that gave no session, in words; empty if it cannot be told.
pub(super) async fn what_listens(server: &str) -> String {
    // An HTTP server waits for the end of a line.
    for bytes in [&b"srvr"[..], b"GET / HTTP/1.0\r\n\r\n"] {
        let Ok(answer) = exchange(server, bytes).await else {
            continue;
        };
        let front = answer.get(..answer.len().min(64)).unwrap_or_default();
        if front.starts_with(b"HTTP/") {
            return "an HTTP server listens there".to_owned();
        }
        // A TLS alert.
        if let [0x15, 0x03, ..] = front {
            return "it speaks TLS; Remora reaches ZooKeeper at its plain port (clientPort)".to_owned();
        }
        let text = String::from_utf8_lossy(front);
        if text.starts_with("Zookeeper version") || text.contains("not in the whitelist") {
            return "it is a ZooKeeper, but gave no session".to_owned();
        }
        if text.contains("not currently serving requests") {
            return "it is a ZooKeeper without a quorum: it serves nobody at the moment".to_owned();
        }
    }
    String::new()
}

async fn word(server: &str, word: &[u8; 4]) -> io::Result<String> {
    let answer = exchange(server, word).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Sends some bytes and reads until the peer closes, for a while at most.
async fn exchange(server: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    let mut stream = timeout(WAIT, TcpStream::connect(server)).await.map_err(late)??;
    let mut answer = Vec::new();
    let read = async {
        stream.write_all(bytes).await?;
        (&mut stream).take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await
    };
    match timeout(WAIT, read).await {
        Ok(Ok(_)) => Ok(answer),
        // What came before the peer hung up or fell silent counts.
        _ if !answer.is_empty() => Ok(answer),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(late(error)),
    }
}

const WAIT: Duration = Duration::from_millis(1_500);
const MAX_ANSWER_BYTES: u64 = 64 << 10;
/// Of an ensemble.
const MAX_SERVERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_are_read() {
        let answer = "Zookeeper version: 3.9.5-e454e8c7283100c7caec6dcae2bc82aaecb63023, built on 2025-08-05 08:16 UTC\nLatency min/avg/max: 0/0.0/0\nMode: follower\n";
        assert_eq!(what(answer), "ZooKeeper 3.9.5, follower");
        assert_eq!(what("srvr is not executed because it is not in the whitelist.\n"), "");
        assert_eq!(
            setting("clientPort=2181\nmaxClientCnxns=60\n", "maxClientCnxns"),
            Some("60")
        );
    }
}
