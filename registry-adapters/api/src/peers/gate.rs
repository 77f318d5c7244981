// SPDX-License-Identifier: Apache-2.0
//! Who may use a door at all.
//!
//! Machines first: an ingress calls applications of this machine only, and an egress answers them only, so nobody else has
//! business at a door unless the operator says so. Users second, where the operator names them. Each refusal is a line in
//! the log.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use tracing::warn;

use super::audit::Audit;
use super::users::{User, Users};

/// What the operator allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Users of this machine whose processes may use the doors; empty: all. Root always may.
    pub users: BTreeSet<u32>,
    /// Networks whose hosts may, too.
    pub networks: Vec<Network>,
}

/// A network as `10.0.0.0/8`; an address alone is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a connection may not use a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Its host is none of `access.networks`.
    #[error("{0} is another machine; access.networks says which of them may use the doors")]
    Machine(IpAddr),
    /// Its user is none of `access.users`.
    #[error("user {0} is none of access.users")]
    User(u32),
    /// Whose it is cannot be told, and `access.users` asks for it.
    #[error("the system does not tell whose connection it is, and access.users asks for it")]
    Unknown,
}

impl Denied {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Machine(_) => "foreign_machine",
            Self::User(_) => "foreign_user",
            Self::Unknown => "unknown_user",
        }
    }
}

/// Stands at a door.
#[derive(Debug)]
pub struct Gate {
    door: &'static str,
    access: Access,
    users: Users,
    audit: Audit,
}

impl Gate {
    /// For one door.
    pub fn new(door: &'static str, access: Access, users: Users) -> Self {
        Self {
            door,
            access,
            users,
            audit: Audit::default(),
        }
    }

    /// Whether the connection between `peer` and `local` may use the door.
    ///
    /// # Errors
    /// Why it may not; the log says it, too.
    pub async fn admit(&self, peer: SocketAddr, local: SocketAddr) -> Result<(), Denied> {
        let admitted = self.judge(peer, local).await;
        if let Err(denied) = &admitted
            && let Some(unwritten) = self.audit.line()
        {
            warn!(registry = self.door, %peer, reason = denied.reason(), cause = %denied, unwritten, "refused at the door");
        }
        admitted
    }

    async fn judge(&self, peer: SocketAddr, local: SocketAddr) -> Result<(), Denied> {
        let ip = peer.ip().to_canonical();
        let is_here = ip.is_loopback() || ip == local.ip().to_canonical() || super::is_this_machine(ip);
        if !is_here {
            let is_allowed = self.access.networks.iter().any(|network| network.contains(ip));
            return is_allowed.then_some(()).ok_or(Denied::Machine(ip));
        }
        if self.access.users.is_empty() {
            return Ok(());
        }
        match self.users.of(peer, local).await.0 {
            User::Uid(uid) if uid == 0 || self.access.users.contains(&uid) => Ok(()),
            User::Uid(uid) => Err(Denied::User(uid)),
            User::Unknown | User::Elsewhere(_) => Err(Denied::Unknown),
        }
    }
}

impl Network {
    /// Whether an address is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => same(network.to_bits().into(), ip.to_bits().into(), 32, self.bits),
            (IpAddr::V6(network), IpAddr::V6(ip)) => same(network.to_bits(), ip.to_bits(), 128, self.bits),
            _ => false,
        }
    }
}

fn same(network: u128, ip: u128, width: u8, bits: u8) -> bool {
    let rest = u32::from(width.saturating_sub(bits));
    network.checked_shr(rest).unwrap_or(0) == ip.checked_shr(rest).unwrap_or(0)
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no network: write 10.0.0.0/8 or an address");
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= width).ok_or_else(wrong)?,
        };
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn networks_are_read_and_hold_what_they_say() {
        let network = |text: &str| text.parse::<Network>().unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(network("10.1.0.0/16").contains(ip("10.1.255.3")));
        assert!(network("10.1.0.0/16").contains(ip("::ffff:10.1.0.1")));
        assert!(!network("10.1.0.0/16").contains(ip("10.2.0.1")));
        assert!(network("10.1.2.3").contains(ip("10.1.2.3")) && !network("10.1.2.3").contains(ip("10.1.2.4")));
        assert!(network("0.0.0.0/0").contains(ip("203.0.113.9")) && !network("0.0.0.0/0").contains(ip("2001:db8::1")));
        assert!(network("2001:db8::/32").contains(ip("2001:db8:9::1")));
        assert!(network("::/0").contains(ip("2001:db8::1")));
        assert_eq!(network("10.1.2.3").to_string(), "10.1.2.3/32");
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "host",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "::/129",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    /// A door at 127.0.0.1:80 whose system has one connection, of `uid` from port 4000.
    async fn judged(access: Access, uid: u32, peer: &str) -> Result<(), Denied> {
        let dir = tempfile::tempdir().unwrap();
        let word = u32::from_ne_bytes([127, 0, 0, 1]);
        let row = format!("  1: {word:08X}:0FA0 {word:08X}:0050 01 0:0 0:0 0 {uid} 0 78\n");
        std::fs::write(dir.path().join("tcp"), format!("heading\n{row}")).unwrap();
        let (users, reader) = Users::new("test", dir.path().to_owned(), HashSet::from([80]), 0, 4);
        let reading = tokio::spawn(reader.run());
        let gate = Gate::new("test", access, users);
        let judged = gate.admit(peer.parse().unwrap(), "127.0.0.1:80".parse().unwrap()).await;
        drop(gate);
        reading.await.unwrap();
        judged
    }

    fn only(uid: u32) -> Access {
        Access {
            users: BTreeSet::from([uid]),
            networks: vec!["192.0.2.0/24".parse().unwrap()],
        }
    }

    #[tokio::test]
    async fn every_user_of_this_machine_and_nobody_else_unless_told_otherwise() {
        let all = Access::default;
        assert_eq!(judged(all(), 1001, "127.0.0.1:4000").await, Ok(()));
        assert_eq!(judged(all(), 1001, "[::ffff:127.0.0.1]:4000").await, Ok(()));
        let foreign: IpAddr = "192.0.2.7".parse().unwrap();
        assert_eq!(
            judged(all(), 1001, "192.0.2.7:4000").await,
            Err(Denied::Machine(foreign))
        );
        assert_eq!(
            judged(only(1000), 1001, "192.0.2.7:4000").await,
            Ok(()),
            "a network that may"
        );
        assert_eq!(judged(only(1000), 1000, "127.0.0.1:4000").await, Ok(()));
        assert_eq!(judged(only(1000), 0, "127.0.0.1:4000").await, Ok(()), "root");
        assert_eq!(
            judged(only(1000), 1001, "127.0.0.1:4000").await,
            Err(Denied::User(1001))
        );
        assert_eq!(
            judged(only(1000), 1000, "127.0.0.1:4001").await,
            Err(Denied::Unknown),
            "gone"
        );
    }

    #[test]
    fn addresses_of_nobody_here_are_not_this_machines() {
        assert!(super::super::is_this_machine("127.0.0.1".parse().unwrap()));
        for foreign in ["192.0.2.1", "0.0.0.0", "::", "2001:db8::1"] {
            assert!(!super::super::is_this_machine(foreign.parse().unwrap()), "{foreign}");
        }
    }
}
