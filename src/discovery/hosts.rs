// SPDX-License-Identifier: Apache-2.0
//! Host names of instances, and this machine's own addresses.
//!
//! A name is looked up in the background and again while it is in use; the last answer stands when a later look-up fails.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;

/// What names resolved to.
#[derive(Default)]
pub(super) struct Hosts {
    known: HashMap<Arc<str>, Host>,
    /// A name was asked for that was never looked up.
    has_new: bool,
}

#[derive(Default)]
struct Host {
    ip: Option<IpAddr>,
    failure: Option<String>,
}

impl Hosts {
    /// The address of a name as far as it is known.
    pub(super) fn lookup(&mut self, name: &Arc<str>) -> Option<IpAddr> {
        if let Some(host) = self.known.get(name) {
            return host.ip;
        }
        if self.known.len() < MAX_NAMES {
            self.known.insert(Arc::clone(name), Host::default());
            self.has_new = true;
        }
        None
    }

    /// Whether a name waits for its first look-up; asks once.
    pub(super) fn take_has_new(&mut self) -> bool {
        std::mem::take(&mut self.has_new)
    }

    /// The names to look up in this round; those that no list uses are forgotten.
    pub(super) fn round(&mut self, in_use: &BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
        self.known.retain(|name, _| in_use.contains(name));
        self.known.keys().cloned().collect()
    }

    /// Puts an answer in; says whether the address changed.
    pub(super) fn answer(&mut self, name: &Arc<str>, answer: Result<IpAddr, String>) -> bool {
        let Some(host) = self.known.get_mut(name) else {
            return false;
        };
        match answer {
            Ok(ip) => {
                host.failure = None;
                host.ip.replace(ip) != Some(ip)
            }
            Err(failure) => {
                host.failure = Some(failure);
                false
            }
        }
    }

    /// Names that could not be looked up last time, with the reason.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&Arc<str>, &str)> {
        self.known
            .iter()
            .filter_map(|(name, host)| Some((name, host.failure.as_deref()?)))
    }
}

/// The first address of a name, IPv4 before IPv6.
pub(super) async fn resolve(name: &str) -> Result<IpAddr, String> {
    let found: Vec<IpAddr> = match tokio::net::lookup_host((name, 0)).await {
        Ok(found) => found.map(|a| a.ip()).collect(),
        Err(error) => return Err(error.to_string()),
    };
    let first = found.iter().find(|ip| ip.is_ipv4()).or(found.first()).copied();
    first.ok_or_else(|| "no address".to_owned())
}

/// This machine's addresses, as far as they can be told; the one that it reaches others with comes first.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let mut all = Vec::new();
    all.extend(outgoing_address());
    let local = std::fs::read_to_string("/proc/net/fib_trie")
        .map(|t| local_addresses(&t))
        .unwrap_or_default();
    let rest: BTreeSet<IpAddr> = local.into_iter().filter(|ip| !all.contains(ip)).collect();
    all.extend(rest);
    all
}

/// The address to publish for applications that registered a host that is none. Asked for each publication, so the tables
/// of routes, which may be very long, are not read where the system's choice will do.
pub(super) fn published_addresses() -> Vec<IpAddr> {
    match outgoing_address() {
        Some(ip) => vec![ip],
        None => own_addresses(),
    }
}

/// The source address of packets to other hosts. Connecting a datagram socket sends nothing.
fn outgoing_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // TEST-NET-3 (RFC 5737): surely not on this machine.
    socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// `|-- 10.0.0.7` followed by `/32 host LOCAL`.
fn local_addresses(fib_trie: &str) -> Vec<IpAddr> {
    let mut all = Vec::new();
    let mut last = None;
    for line in fib_trie.lines() {
        let line = line.trim();
        if let Some(ip) = line.strip_prefix("|-- ") {
            last = ip.parse::<IpAddr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            all.extend(last.take().filter(|ip| !ip.is_loopback()));
        }
    }
    all
}

/// A registry full of names must not make the proxy look up more than this.
const MAX_NAMES: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_read_from_the_routing_trie() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     +-- 127.0.0.0/8 2 0 2\n           |-- 127.0.0.1\n              /32 host LOCAL\n     |-- 10.77.0.0\n        /24 link UNICAST\n     |-- 10.77.0.2\n        /32 host LOCAL\n     |-- 10.77.0.255\n        /32 link BROADCAST\n";
        assert_eq!(local_addresses(trie), ["10.77.0.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn the_last_answer_stands_and_unused_names_are_forgotten() {
        let mut hosts = Hosts::default();
        let name: Arc<str> = "provider.example".into();
        assert_eq!(hosts.lookup(&name), None);
        assert!(hosts.take_has_new() && !hosts.take_has_new());
        let in_use = BTreeSet::from([Arc::clone(&name)]);
        assert_eq!(hosts.round(&in_use).len(), 1);
        let ip = "10.0.0.9".parse().unwrap();
        assert!(hosts.answer(&name, Ok(ip)));
        assert!(!hosts.answer(&name, Err("gone".into())));
        assert_eq!(hosts.lookup(&name), Some(ip));
        assert_eq!(hosts.failures().count(), 1);
        assert_eq!(hosts.round(&BTreeSet::new()).len(), 0);
    }
}
