// SPDX-License-Identifier: Apache-2.0
//! Who may do what: identities of a connection and access lists.
//!
//! Source: ZooKeeper 3.9 `ZooKeeperServer.checkACL`, `PrepRequestProcessor.fixupACL`, `DigestAuthenticationProvider`,
//! `IPAuthenticationProvider`. Schemes: world, auth, digest, ip. Not here: x509, sasl, super.

use std::net::IpAddr;

use sha1::{Digest, Sha1};

use crate::wire::{Acl, ClientInfo, ErrorCode, Seq, Text};

/// Who a connection is, in one scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    scheme: &'static str,
    id: String,
}

impl Identity {
    /// The peer's address.
    pub(super) fn ip(peer: IpAddr) -> Self {
        Self {
            scheme: "ip",
            id: peer.to_canonical().to_string(),
        }
    }

    /// `user:password`, kept as `user:base64(sha1(user:password))`.
    pub(super) fn digest(user_and_password: &[u8]) -> Self {
        let end = user_and_password
            .iter()
            .position(|b| *b == b':')
            .unwrap_or(user_and_password.len());
        let user = String::from_utf8_lossy(user_and_password.get(..end).unwrap_or_default());
        let hash = base64(&Sha1::digest(user_and_password));
        Self {
            scheme: "digest",
            id: format!("{user}:{hash}"),
        }
    }

    /// What `whoAmI` says.
    pub(super) fn info(&self) -> ClientInfo {
        let user = match self.scheme {
            "digest" => self.id.split(':').next().unwrap_or_default(),
            _ => &self.id,
        };
        ClientInfo {
            scheme: self.scheme.into(),
            user: user.into(),
        }
    }
}

/// Whether one of `who` has one of the bits `perm` by `acl`. An empty list allows everything.
pub(super) fn allows(acl: &Seq<Acl>, perm: i32, who: &[Identity]) -> bool {
    acl.is_empty() || acl.iter().any(|entry| entry.perms & perm != 0 && names(&entry, who))
}

fn names(entry: &Acl, who: &[Identity]) -> bool {
    if entry.scheme == "world" && entry.id == "anyone" {
        return true;
    }
    who.iter().any(|identity| {
        entry.scheme == identity.scheme
            && match identity.scheme {
                "ip" => ip_matches(&identity.id, &entry.id),
                _ => entry.id == *identity.id,
            }
    })
}

/// The list to store for one that a client gave: duplicates out, `auth` replaced by who the client is.
///
/// # Errors
/// `INVALID_ACL` for an empty list, an unknown scheme, a malformed id, or `auth` without an identity.
pub(super) fn resolve(given: &Seq<Acl>, who: &[Identity]) -> Result<Seq<Acl>, ErrorCode> {
    let mut seen = Vec::new();
    let mut out = Vec::new();
    for entry in given.iter() {
        if seen.contains(&entry) {
            continue;
        }
        match entry.scheme.as_str() {
            "world" if entry.id == "anyone" => out.push(entry.clone()),
            "auth" => {
                let before = out.len();
                out.extend(who.iter().filter(|i| i.scheme == "digest").map(|i| Acl {
                    perms: entry.perms,
                    scheme: i.scheme.into(),
                    id: Text::from(i.id.as_str()),
                }));
                if out.len() == before {
                    return Err(ErrorCode::INVALID_ACL);
                }
            }
            "digest" if is_digest(&entry.id) => out.push(entry.clone()),
            "ip" if is_ip(&entry.id) => out.push(entry.clone()),
            _ => return Err(ErrorCode::INVALID_ACL),
        }
        seen.push(entry);
    }
    if out.is_empty() {
        return Err(ErrorCode::INVALID_ACL);
    }
    Ok(out.into_iter().collect())
}

/// The list as someone without the admin bit sees it: hashes out.
pub(super) fn without_hashes(acl: &Seq<Acl>) -> Seq<Acl> {
    let hide = |mut entry: Acl| {
        if entry.scheme == "digest"
            && let Some((user, _)) = entry.id.split_once(':')
        {
            entry.id = Text::from(format!("{user}:x"));
        }
        entry
    };
    acl.iter().map(hide).collect()
}

// Java's `split(":").length == 2`: trailing empty parts do not count.
fn is_digest(id: &str) -> bool {
    id.trim_end_matches(':').split(':').count() == 2
}

fn is_ip(expression: &str) -> bool {
    network(expression).is_some()
}

fn network(expression: &str) -> Option<(IpAddr, u32)> {
    let (addr, bits) = match expression.split_once('/') {
        None => (expression, None),
        Some((addr, bits)) => (addr, Some(bits.parse::<u32>().ok()?)),
    };
    let addr: IpAddr = addr.parse().ok()?;
    let width = if addr.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(width);
    (bits <= width).then_some((addr, bits))
}

fn ip_matches(peer: &str, expression: &str) -> bool {
    let (Ok(peer), Some((addr, bits))) = (peer.parse::<IpAddr>(), network(expression)) else {
        return false;
    };
    match (peer, addr) {
        (IpAddr::V4(peer), IpAddr::V4(addr)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            peer.to_bits() & mask == addr.to_bits() & mask
        }
        (IpAddr::V6(peer), IpAddr::V6(addr)) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            peer.to_bits() & mask == addr.to_bits() & mask
        }
        _ => false,
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |word: u32, shift: u32| char::from(LETTERS[(word >> shift) as usize & 63]);
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        out.push(letter(word, 18));
        out.push(letter(word, 12));
        out.push(if chunk.len() > 1 { letter(word, 6) } else { '=' });
        out.push(if chunk.len() > 2 { letter(word, 0) } else { '=' });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(scheme: &str, id: &str) -> Seq<Acl> {
        let entry = Acl {
            perms: 31,
            scheme: scheme.into(),
            id: id.into(),
        };
        [entry].into_iter().collect()
    }

    #[test]
    fn digest_is_what_zookeeper_computes() {
        // DigestAuthenticationProvider.generateDigest("super:admin"), as its documentation quotes it.
        assert_eq!(
            Identity::digest(b"super:admin").id,
            "super:xQJmxLMiHGwaqBvst5y6rkB6HQs="
        );
    }

    #[test]
    fn auth_stands_for_the_client_and_needs_one() {
        let who = [Identity::ip(IpAddr::from([127, 0, 0, 1])), Identity::digest(b"u:p")];
        let resolved = resolve(&acl("auth", ""), &who).unwrap();
        assert!(allows(&resolved, 1, &who));
        assert!(!allows(&resolved, 1, &who[..1]));
        assert_eq!(resolve(&acl("auth", ""), &who[..1]), Err(ErrorCode::INVALID_ACL));
    }

    #[test]
    fn odd_lists_are_refused() {
        for (scheme, id) in [
            ("world", "x"),
            ("digest", "u"),
            ("ip", "10.0.0.300"),
            ("ip", "10.0.0.1/33"),
            ("sasl", "a"),
        ] {
            assert_eq!(
                resolve(&acl(scheme, id), &[]),
                Err(ErrorCode::INVALID_ACL),
                "{scheme}:{id}"
            );
        }
        assert_eq!(resolve(&Seq::empty(), &[]), Err(ErrorCode::INVALID_ACL));
    }

    #[test]
    fn addresses_match_by_network() {
        let who = [Identity::ip(IpAddr::from([10, 1, 2, 3]))];
        for (expression, expected) in [
            ("10.1.2.3", true),
            ("10.1.0.0/16", true),
            ("10.2.0.0/16", false),
            ("0.0.0.0/0", true),
            ("::/0", false),
        ] {
            assert_eq!(allows(&acl("ip", expression), 1, &who), expected, "{expression}");
        }
    }

    #[test]
    fn hashes_are_hidden_from_those_who_may_only_read() {
        let hidden = without_hashes(&acl("digest", "u:hash"));
        assert_eq!(hidden.iter().next().unwrap().id, "u:x");
    }
}
