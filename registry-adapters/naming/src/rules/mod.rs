// SPDX-License-Identifier: Apache-2.0
//! Governance rules that name provider hosts. Behind a takeover an application sees loopback addresses only: such a rule
//! would empty its list or silently miss, so it is recognised here and kept from the application.
//!
//! | form | kept | passes |
//! |---|---|---|
//! | condition | a right (provider) side with `host`, `ip`, `address`, `port` | a left side alone that names the consumer's own host: that one is real |
//! | tag | `addresses` | tags matched by parameters |
//! | script | always: it may look at hosts, and it runs foreign code | |
//! | configurator | a host other than `0.0.0.0`, a port, `providerAddresses`, `addresses`, `match` on addresses | the rest |
//!
//! Source: `ConditionStateRouter`, `TagRouterRule`, `ScriptRule`, `ConfigParser`, `AbstractConfigurator` of Dubbo 3.3 and
//! their 2.7 ancestors.

mod condition;
mod config;
mod url;

pub use config::{in_config, in_mesh};
pub use url::in_child;

use remora_registry::{RuleKind, UnappliedRule};

use crate::error::cut;

fn unapplied(kind: RuleKind, place: &str, text: &str, why: &'static str) -> UnappliedRule {
    UnappliedRule {
        kind,
        place: place.to_owned(),
        text: cut(text, MAX_TEXT_BYTES).to_owned(),
        why,
    }
}

/// What the rule at a place is about, for people: `service blue/demo.Echo:1.0.0`, `application shop`, or `everything`.
///
/// ```text
/// /dubbo/demo.Echo/configurators/override%3A..        service demo.Echo
/// /dubbo/config/dubbo/demo.Echo:1.0.0:blue.condition-router    service blue/demo.Echo:1.0.0
/// /dubbo/config/dubbo/shop.tag-router                 application shop
/// demo.Echo:1.0@DEFAULT#@#DEFAULT_INSTANCE_ID#@#SOFA.CONFIG    service demo.Echo:1.0
/// ```
/// The config centre's key of a service without group and version has no colon in early 2.7; a name with a dot and no colon is
/// taken for a service then.
pub fn subject(place: &str) -> String {
    // SOFARegistry's dataId.
    if let Some((service, _)) = place.split_once('@') {
        return format!("service {service}");
    }
    let last = place.rsplit('/').next().unwrap_or(place);
    let parts: Vec<&str> = place.split('/').collect();
    if let Some(at) = parts
        .iter()
        .rposition(|p| matches!(*p, "routers" | "configurators" | "overrides"))
        && let Some(service) = at.checked_sub(1).and_then(|at| parts.get(at))
    {
        return subject_of_service(service, "", "");
    }
    let Some((key, kind)) = last.rsplit_once('.') else {
        return format!("application {last}");
    };
    let mut words = key.split(':');
    let (name, version, group) = (
        words.next().unwrap_or(key),
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let is_application = matches!(kind, "tag-router" | "MESHAPPRULE") || (!key.contains(':') && !name.contains('.'));
    match is_application {
        true => format!("application {key}"),
        false => subject_of_service(name, version, group),
    }
}

fn subject_of_service(name: &str, version: &str, group: &str) -> String {
    match name {
        // Dubbo's word for every service.
        "*" => "everything".to_owned(),
        name => format!("service {}", remora_registry::ServiceKey::new(name, group, version)),
    }
}

const MAX_TEXT_BYTES: usize = 200;
const NAMES_PROVIDERS: &str = "its right side names provider hosts, and the application sees loopback addresses only";
const NAMES_ADDRESSES: &str = "it names addresses, and the application sees loopback addresses only";
const IS_SCRIPT: &str = "a script may look at provider hosts, and it would run foreign code";
const TELLS_APART: &str =
    "it tells providers apart by their labels, and the application sees one entry for all of them";
const UNREADABLE: &str = "it cannot be read, so it cannot be told whether it names hosts";
