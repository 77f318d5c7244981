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

pub use config::in_config;
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

const MAX_TEXT_BYTES: usize = 200;
const NAMES_PROVIDERS: &str = "its right side names provider hosts, and the application sees loopback addresses only";
const NAMES_ADDRESSES: &str = "it names addresses, and the application sees loopback addresses only";
const IS_SCRIPT: &str = "a script may look at provider hosts, and it would run foreign code";
const UNREADABLE: &str = "it cannot be read, so it cannot be told whether it names hosts";
