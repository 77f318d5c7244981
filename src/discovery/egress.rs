// SPDX-License-Identifier: Apache-2.0
//! The egress address that applications are handed.
//!
//! Java Dubbo replaces a provider host of `127.*` by the machine's own address before it connects, but not the same
//! address written as one decimal number; Go and SOFARPC dial the dotted form. Dubbo 3 stays away from an address for about 55 s
//! after its connection broke, but goes to another loopback alias at once: so each start of Remora shows the next alias.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use remora_naming::sofa;
use remora_registry::Client;
use tracing::warn;

use super::config::ProtocolPorts;
use super::disk::{self, Seal};

/// Egress addresses of all protocols, fixed for this run.
#[derive(Clone, Debug)]
pub struct Egress {
    generation: u64,
    protocols: Vec<(String, SocketAddr)>,
}

impl Egress {
    /// Reads the generation of the former run from `data_dir` and counts it up.
    pub fn open(protocols: &[ProtocolPorts], data_dir: Option<&Path>) -> Self {
        Self {
            generation: data_dir.map_or(0, next_generation),
            protocols: protocols.iter().map(|p| (p.name.clone(), p.egress)).collect(),
        }
    }

    /// How many times Remora was started here before.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The generation of the former run again: that run hands over, so its addresses go on working.
    pub fn resume(protocols: &[ProtocolPorts], data_dir: Option<&Path>) -> Self {
        Self {
            generation: data_dir.and_then(former_generation).unwrap_or_default(),
            protocols: protocols.iter().map(|p| (p.name.clone(), p.egress)).collect(),
        }
    }

    /// Every address to listen on for `protocol`: the one of this run, which must be had, then its aliases, since
    /// applications remember older ones in files; those may fail.
    pub fn listen(&self, protocol: &str) -> Vec<SocketAddr> {
        let Some(egress) = self.configured(protocol) else {
            return Vec::new();
        };
        if !has_aliases(egress) {
            return vec![egress];
        }
        let alias = |g| SocketAddr::new(alias(self.generation.wrapping_add(g)).into(), egress.port());
        (0..ALIASES).map(alias).collect()
    }

    /// The address that applications are handed for `protocol` in this run.
    pub fn address(&self, protocol: &str) -> Option<SocketAddr> {
        let egress = self.configured(protocol)?;
        Some(match (has_aliases(egress), egress.ip().is_unspecified()) {
            (true, _) => SocketAddr::new(alias(self.generation % ALIASES).into(), egress.port()),
            (false, true) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), egress.port()),
            (false, false) => egress,
        })
    }

    /// The host as `client` must see it, and the port.
    pub fn shown(&self, protocol: &str, client: Client) -> Option<(String, u16)> {
        let egress = self.address(protocol)?;
        let host = match (egress.ip(), client) {
            (IpAddr::V4(ip), Client::Java) if ip.is_loopback() && !sofa::is_protocol(protocol) => {
                u32::from(ip).to_string()
            }
            (ip, _) => ip.to_string(),
        };
        Some((host, egress.port()))
    }

    fn configured(&self, protocol: &str) -> Option<SocketAddr> {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, egress)| *egress)
    }
}

/// Linux answers on the whole of 127.0.0.0/8; elsewhere only 127.0.0.1 exists.
fn has_aliases(egress: SocketAddr) -> bool {
    cfg!(target_os = "linux") && egress.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST)
}

fn alias(generation: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + u32::try_from(generation % ALIASES).unwrap_or(0))
}

fn former_generation(data_dir: &Path) -> Option<u64> {
    match disk::read(&file(data_dir), SEAL) {
        Ok(content) => content.and_then(|c| serde_json::from_slice::<u64>(&c).ok()),
        Err(error) => {
            warn!(reason = error.reason(), %error, "the egress generation starts anew");
            None
        }
    }
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("egress.json")
}

fn next_generation(data_dir: &Path) -> u64 {
    let path = file(data_dir);
    let generation = former_generation(data_dir).map_or(0, |g| g.wrapping_add(1));
    if let Err(error) = disk::write(&path, SEAL, |out| out.write_all(generation.to_string().as_bytes())) {
        warn!(reason = error.reason(), %error, "the egress generation could not be kept; Dubbo 3 reconnects slowly after the next start");
    }
    generation
}

/// Few enough to listen on all of them, enough that no application remembers the same one twice in a row of crashes.
const ALIASES: u64 = 8;
const SEAL: Seal = Seal {
    kind: "egress",
    version: 1,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PortRange;

    fn ports(egress: &str) -> ProtocolPorts {
        ProtocolPorts {
            name: "dubbo".into(),
            egress: egress.parse().unwrap(),
            ingress: "127.0.0.1:0".parse().unwrap(),
            ingress_range: PortRange { first: 1, last: 1 },
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn each_start_shows_the_next_alias_and_all_are_listened_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut shown = Vec::new();
        for _ in 0..9 {
            let egress = Egress::open(&[ports("127.0.0.1:20882")], Some(dir.path()));
            shown.push(egress.shown("dubbo", Client::Java).unwrap().0);
            assert_eq!(egress.listen("dubbo").first().copied(), egress.address("dubbo"));
            let all: std::collections::BTreeSet<_> = egress.listen("dubbo").into_iter().collect();
            assert_eq!(all.len(), 8);
        }
        assert_eq!(shown[..3], ["2130706433", "2130706434", "2130706435"]);
        assert_eq!(shown[8], "2130706433");
    }

    #[test]
    fn a_run_that_takes_over_shows_the_same_alias() {
        let dir = tempfile::tempdir().unwrap();
        let ports = [ports("127.0.0.1:20882")];
        let former = Egress::open(&ports, Some(dir.path()));
        let former = Egress::open(&ports, Some(dir.path()))
            .address("dubbo")
            .max(former.address("dubbo"));
        assert_eq!(Egress::resume(&ports, Some(dir.path())).address("dubbo"), former);
    }

    #[test]
    fn plain_clients_get_the_dotted_form() {
        let egress = Egress::open(&[ports("127.0.0.1:20882")], None);
        assert_eq!(egress.shown("dubbo", Client::Plain), Some(("127.0.0.1".into(), 20882)));
        assert_eq!(egress.shown("tri", Client::Plain), None);
    }

    #[test]
    fn sofarpc_gets_the_dotted_form() {
        let bolt = ProtocolPorts {
            name: "bolt".into(),
            ..ports("127.0.0.1:12220")
        };
        let egress = Egress::open(&[bolt], None);
        assert_eq!(egress.shown("bolt", Client::Java), Some(("127.0.0.1".into(), 12220)));
    }

    #[test]
    fn an_own_address_has_no_aliases_and_no_decimal_form() {
        let egress = Egress::open(&[ports("10.0.0.7:20882")], None);
        assert_eq!(egress.shown("dubbo", Client::Java), Some(("10.0.0.7".into(), 20882)));
        assert_eq!(egress.listen("dubbo").len(), 1);
    }

    #[test]
    fn a_damaged_file_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("egress.json"), b"7").unwrap();
        let egress = Egress::open(&[ports("127.0.0.1:20882")], Some(dir.path()));
        assert_eq!(egress.generation(), 0);
    }
}
