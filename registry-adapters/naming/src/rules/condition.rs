// SPDX-License-Identifier: Apache-2.0
//! The text of a condition: `left => right`, each `key = value & key != value,value`.

use std::net::IpAddr;

/// Whether the right side, the one held against providers, names addresses.
pub(super) fn names_providers(rule: &str) -> bool {
    // Without an arrow the whole text is the right side (`ConditionStateRouter.init`).
    let right = rule.split_once("=>").map_or(rule, |(_, right)| right);
    names_addresses(right)
}

/// Whether one side of a condition has a key that stands for an address.
pub(super) fn names_addresses(side: &str) -> bool {
    keys(side).any(|key| {
        let key = key.trim_start_matches('$');
        let key = key
            .strip_prefix("provider.")
            .or(key.strip_prefix("consumer."))
            .unwrap_or(key);
        matches!(key, "host" | "ip" | "address" | "port") || key.parse::<IpAddr>().is_ok()
    })
}

/// The keys of one side: what starts a pair, at the front or behind `&`.
fn keys(side: &str) -> impl Iterator<Item = &str> {
    side.split('&').filter_map(|pair| {
        let end = pair.find(['=', '!', ',']).unwrap_or(pair.len());
        pair.get(..end).map(str::trim).filter(|key| !key.is_empty())
    })
}
