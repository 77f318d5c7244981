// SPDX-License-Identifier: Apache-2.0
//! Rules in the old form: URLs as children of `routers` and `configurators`.

use remora_registry::{Instance, RuleKind, UnappliedRule};

use super::{IS_SCRIPT, NAMES_ADDRESSES, NAMES_PROVIDERS, condition, unapplied};
use crate::dubbo_url;

/// Tells whether a child of `routers` or `configurators` names provider hosts; `place` is its path, for `status`. `None`:
/// show it to the application as it is.
pub fn in_child(place: &str, child: &str) -> Option<UnappliedRule> {
    let url = dubbo_url::parse_child(child).ok()?;
    // `route://` names the router's kind in a parameter (`RouterFactory`, dubbo-admin of 2.x).
    let kind = match &*url.protocol {
        "route" => url.params.get("router").unwrap_or("condition"),
        other => other,
    };
    // A rule's text is encoded once more inside its URL.
    let rule = url
        .params
        .get("rule")
        .map(|r| dubbo_url::decode_component(r).unwrap_or_else(|_| r.to_owned()));
    match kind {
        "condition" => {
            let rule = rule?;
            condition::names_providers(&rule).then(|| unapplied(RuleKind::Condition, place, &rule, NAMES_PROVIDERS))
        }
        "script" | "file" | "javascript" | "js" | "groovy" => {
            let text = rule.as_deref().unwrap_or(&url.raw);
            Some(unapplied(RuleKind::Script, place, text, IS_SCRIPT))
        }
        "tag" => {
            let rule = rule?;
            rule.contains("address")
                .then(|| unapplied(RuleKind::Tag, place, &rule, NAMES_ADDRESSES))
        }
        "override" | "absent" => {
            matches_addresses(&url).then(|| unapplied(RuleKind::Configurator, place, &url.raw, NAMES_ADDRESSES))
        }
        _ => None,
    }
}

fn matches_addresses(url: &Instance) -> bool {
    !is_any_host(&url.host) || url.port != 0 || url.params.get("providerAddresses").is_some_and(|a| !a.is_empty())
}

/// Dubbo's word for every host.
pub(super) fn is_any_host(host: &str) -> bool {
    matches!(host, "0.0.0.0" | "*" | "anyhost" | "")
}
