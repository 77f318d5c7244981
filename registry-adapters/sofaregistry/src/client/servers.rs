// SPDX-License-Identifier: Apache-2.0
//! Which session servers there are: asked over HTTP at the configured addresses.
//!
//! ```text
//! GET /api/servers/queryWithWeight?env=null&zone=DEFAULT_ZONE&dataCenter=DefaultDataCenter&appName=remora&instanceId=null
//! 10.0.0.8:9600?weight=12;10.0.0.9:9600?weight=3
//! ```
//! Older servers know `/api/servers/query` only, whose list has no weights. A weight is the number of connections.
//! Source: `DefaultServerManager`, `ServerNodeParser` and `ClientConnection.connect` of registry-client 6.x,
//! `SessionOpenResource` of the server.
//! Not here: the HTTP request itself (`http.rs`).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::Options;
use super::http;

/// An address that answers HTTP: `registryEndpoint` of a Java client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Port, 9603 unless configured.
    pub port: u16,
}

impl Endpoint {
    /// Reads `h1:9603,h2`. `None` if a host is empty or a port is none.
    pub fn parse_list(hosts: &str) -> Option<Vec<Self>> {
        let endpoints = hosts.split(',').map(|host| {
            let (host, port) = host_port(host.trim(), DEFAULT_HTTP_PORT)?;
            Some(Self { host, port })
        });
        endpoints.collect()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host_port(f, &self.host, self.port)
    }
}

/// A session server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    /// How busy it is; servers that say nothing are as idle as can be.
    pub(super) weight: u64,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host_port(f, &self.host, self.port)
    }
}

/// Asks every endpoint at once; gives what they say together. One answer is enough: after it, the others have a moment more.
pub(super) async fn ask(endpoints: &[Endpoint], options: &Arc<Options>) -> Result<Vec<Server>, Arc<str>> {
    let mut asked = JoinSet::new();
    for endpoint in endpoints {
        let (endpoint, options) = (endpoint.clone(), Arc::clone(options));
        asked.spawn(async move { ask_one(&endpoint, &options).await });
    }
    let mut servers: Vec<Server> = Vec::new();
    let mut cause: Option<String> = None;
    let mut until = Instant::now() + options.connect_timeout * 4;
    while let Ok(Some(answer)) = timeout_at(until, asked.join_next()).await {
        match answer {
            Ok(Ok(list)) => {
                until = until.min(Instant::now() + MOMENT);
                for server in list {
                    let is_known = |known: &Server| (&known.host, known.port) == (&server.host, server.port);
                    if servers.len() < MAX_SERVERS && !servers.iter().any(is_known) {
                        servers.push(server);
                    }
                }
            }
            Ok(Err(error)) => {
                debug!(registry = "sofaregistry", cause = error, "no list of session servers");
                cause = Some(error);
            }
            Err(_) => {}
        }
    }
    match servers.is_empty() {
        false => Ok(servers),
        true => Err(cause.unwrap_or_else(|| "nobody to ask".to_owned()).into()),
    }
}

async fn ask_one(endpoint: &Endpoint, options: &Options) -> Result<Vec<Server>, String> {
    let query = query(options);
    let mut last = 0;
    for path in ["/api/servers/queryWithWeight", "/api/servers/query"] {
        let answer = http::get(endpoint, &format!("{path}?{query}"), options.connect_timeout).await;
        match answer.map_err(|error| format!("{endpoint} gives no list of session servers: {error}"))? {
            (200, text) => {
                let mut servers = parse(&text);
                let zone = &options.zone;
                if servers.is_empty() {
                    return Err(format!("{endpoint} names no session server for zone {zone}"));
                }
                if !is_loopback(&endpoint.host) {
                    // Theirs is not ours: it would be our own door.
                    servers.retain(|server| !is_loopback(&server.host));
                }
                return match servers.is_empty() {
                    false => Ok(servers),
                    true => Err(format!("{endpoint} names loopback addresses of its own only")),
                };
            }
            (status, _) => last = status,
        }
    }
    Err(format!(
        "{endpoint} gives no list of session servers: HTTP status {last}"
    ))
}

/// Java clients write unset values as `null`.
fn query(options: &Options) -> String {
    let value = |text: &str| -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        text.chars().filter(|c| plain(*c)).collect()
    };
    format!(
        "env=null&zone={}&dataCenter={}&appName={}&instanceId=null",
        value(&options.zone),
        value(&options.data_center),
        value(&options.app_name),
    )
}

/// Entries that make no sense are left out.
fn parse(text: &str) -> Vec<Server> {
    let entries = text.trim().split(';').map(str::trim).filter(|e| !e.is_empty());
    let servers = entries.filter_map(|entry| {
        let (address, query) = entry.split_once('?').unwrap_or((entry, ""));
        let (host, port) = host_port(address, 0).filter(|(_, port)| *port > 0)?;
        let weight = query.split('&').find_map(|pair| pair.strip_prefix("weight="));
        let weight = weight.and_then(|weight| weight.parse().ok()).unwrap_or_default();
        Some(Server { host, port, weight })
    });
    servers.take(MAX_SERVERS).collect()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// The order in which to try them: the less busy one of two taken at random, and so on.
pub(super) fn order(mut servers: Vec<Server>) -> Vec<Server> {
    let mut order = Vec::with_capacity(servers.len());
    while !servers.is_empty() {
        let one = fastrand::usize(..servers.len());
        let other = fastrand::usize(..servers.len());
        let weight = |at: usize| servers.get(at).map_or(u64::MAX, |s| s.weight);
        order.push(servers.swap_remove(if weight(other) < weight(one) { other } else { one }));
    }
    order
}

/// `host`, `host:port`, `[v6]:port`.
fn host_port(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port),
        None => match text.rfind(':') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        },
    };
    let port = match port.strip_prefix(':').unwrap_or(port) {
        "" => default,
        port => port.parse().ok().filter(|port| *port > 0)?,
    };
    let is_wrong = |c: char| c.is_whitespace() || c.is_control() || "/?#@,;[]".contains(c);
    (!host.is_empty() && !host.contains(is_wrong)).then(|| (host.to_owned(), port))
}

fn write_host_port(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    match host.contains(':') {
        true => write!(f, "[{host}]:{port}"),
        false => write!(f, "{host}:{port}"),
    }
}

/// A client's list is asked for this often, so that it is not old when it is needed. Java: `syncConfigRetryInterval`.
pub(super) const REFRESH_EVERY: Duration = Duration::from_secs(30);
const DEFAULT_HTTP_PORT: u16 = 9603;
/// How long answers are waited for once there is one: a host that is gone must not hold up the others.
const MOMENT: Duration = Duration::from_millis(300);
/// Large shops have some hundred.
const MAX_SERVERS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_list_are_read() {
        let servers = parse("10.0.0.8:9600?weight=12;10.0.0.9:9601?a=b&weight=3;;nonsense:x;no-port");
        let read: Vec<_> = servers.iter().map(|s| (s.to_string(), s.weight)).collect();
        let expected = [("10.0.0.8:9600", 12), ("10.0.0.9:9601", 3)];
        assert_eq!(read, expected.map(|(s, w)| (s.to_owned(), w)));
        assert!(parse("").is_empty() && parse("<html>").is_empty());
    }

    #[test]
    fn loopback_is_known_in_every_spelling() {
        for host in ["localhost", "127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"] {
            assert!(is_loopback(host), "{host}");
        }
        assert!(!is_loopback("10.0.0.1") && !is_loopback("127.example.com"));
    }

    #[test]
    fn endpoints_have_a_port_of_their_own() {
        let read = Endpoint::parse_list("h1:9604, h2,[fd00::1]:9605").unwrap();
        let read: Vec<_> = read.iter().map(Endpoint::to_string).collect();
        assert_eq!(read, ["h1:9604", "h2:9603", "[fd00::1]:9605"]);
        for wrong in ["", "h1,,h2", "h:0", "h:x", "a/b", "h:70000"] {
            assert_eq!(Endpoint::parse_list(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_less_busy_server_is_tried_first_most_of_the_time() {
        let servers = parse("busy:1?weight=1000;idle:1?weight=1");
        let first = |_| order(servers.clone()).first().is_some_and(|s| s.host == "idle");
        let often = (0..1000).filter(|_| first(())).count();
        assert!((650..850).contains(&often), "{often} of 1000, three of four expected");
        assert_eq!(order(servers).len(), 2);
    }
}
