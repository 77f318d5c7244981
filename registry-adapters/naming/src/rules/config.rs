// SPDX-License-Identifier: Apache-2.0
//! Rules in the config centre's form: YAML documents (JSON is YAML) under `/dubbo/config/<group>/<key>`.

use remora_registry::{RuleKind, UnappliedRule};
use serde_json::{Value, json};

use super::url::is_any_host;
use super::{IS_SCRIPT, NAMES_ADDRESSES, NAMES_PROVIDERS, TELLS_APART, UNREADABLE, condition, unapplied, url};
use crate::dubbo_url;

/// Looks for parts that name provider hosts in the document at `path` (its last part says what kind it is).
///
/// - `None`: nothing of the kind; show the document as it is, byte for byte.
/// - Else what was kept, and the document to show instead: JSON, which Dubbo's YAML reader takes, without those parts,
///   everything else in its order. Where nothing remains it is a rule that is switched off, because Dubbo goes on with
///   the former rule when it is handed an empty one.
/// - A document over 256 KiB, nested deeper than 64, or broken is kept whole: Dubbo could hardly read it either.
pub fn in_config(path: &str, data: &[u8]) -> Option<(Vec<UnappliedRule>, Vec<u8>)> {
    let kind = kind_of(path)?;
    if data.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    let text = String::from_utf8_lossy(data);
    let Some(mut document) = read(&text) else {
        let kept = unapplied(kind, path, text.trim(), UNREADABLE);
        return Some((vec![kept], switched_off(kind, &Value::Null)));
    };
    let mut kept = Vec::new();
    let nothing_left = match kind {
        RuleKind::Condition => strip_conditions(&mut document, path, &mut kept),
        RuleKind::Tag => strip_tags(&mut document, path, &mut kept),
        RuleKind::Script => {
            let script = document.get("script").and_then(Value::as_str).unwrap_or(text.trim());
            kept.push(unapplied(kind, path, script, IS_SCRIPT));
            true
        }
        RuleKind::Configurator => strip_configurators(&mut document, path, &mut kept),
        RuleKind::Mesh => false,
    };
    if kept.is_empty() {
        return None;
    }
    let shown = match nothing_left {
        true => switched_off(kind, &document),
        false => document.to_string().into_bytes(),
    };
    Some((kept, shown))
}

/// A mesh rule that tells subsets of providers apart: it is shown as it is, and cannot work on one entry for all of them.
pub fn in_mesh(path: &str, data: &[u8]) -> Option<UnappliedRule> {
    let text = String::from_utf8_lossy(data);
    let has_subsets = path.ends_with(".MESHAPPRULE") && text.contains("subset");
    has_subsets.then(|| unapplied(RuleKind::Mesh, path, text.trim(), TELLS_APART))
}

fn kind_of(path: &str) -> Option<RuleKind> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ends = |suffix: &str| name.ends_with(suffix);
    if ends(".condition-router") {
        Some(RuleKind::Condition)
    } else if ends(".tag-router") {
        Some(RuleKind::Tag)
    } else if ends(".script-router") {
        Some(RuleKind::Script)
    } else if ends(".configurators") {
        Some(RuleKind::Configurator)
    } else {
        None
    }
}

fn read(text: &str) -> Option<Value> {
    if text.len() > MAX_YAML_BYTES {
        return None;
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_YAML_DEPTH,
            max_nodes: MAX_YAML_NODES,
            flow_nesting_limit: MAX_YAML_DEPTH,
        },
        // SnakeYAML lets the last one win.
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    let document: Value = serde_saphyr::from_str_with_options(text, options).ok()?;
    matches!(document, Value::Object(_) | Value::Array(_)).then_some(document)
}

/// Takes conditions out; says whether none is left.
fn strip_conditions(document: &mut Value, path: &str, kept: &mut Vec<UnappliedRule>) -> bool {
    let Some(conditions) = document.get_mut("conditions").and_then(Value::as_array_mut) else {
        return false;
    };
    conditions.retain_mut(|condition| match condition {
        Value::String(rule) => {
            let is_kept = condition::names_providers(rule);
            if is_kept {
                kept.push(unapplied(RuleKind::Condition, path, rule.trim(), NAMES_PROVIDERS));
            }
            !is_kept
        }
        // 3.1's form: {from: {match: ..}, to: [{match: .., weight: ..}]}
        many => {
            let names = |to: &Value| {
                let text = to.get("match").and_then(Value::as_str);
                text.is_some_and(condition::names_addresses)
            };
            let is_kept = many
                .get("to")
                .and_then(Value::as_array)
                .is_some_and(|to| to.iter().any(names));
            if is_kept {
                kept.push(unapplied(RuleKind::Condition, path, &many.to_string(), NAMES_PROVIDERS));
            }
            !is_kept
        }
    });
    conditions.is_empty()
}

fn strip_tags(document: &mut Value, path: &str, kept: &mut Vec<UnappliedRule>) -> bool {
    let Some(tags) = document.get_mut("tags").and_then(Value::as_array_mut) else {
        return false;
    };
    tags.retain_mut(|tag| {
        let names = tag
            .get("addresses")
            .and_then(Value::as_array)
            .is_some_and(|a| !a.is_empty());
        if !names {
            return true;
        }
        kept.push(unapplied(RuleKind::Tag, path, &tag.to_string(), NAMES_ADDRESSES));
        if let Some(tag) = tag.as_object_mut() {
            tag.shift_remove("addresses");
        }
        // A tag with neither addresses nor a match breaks the reading of the whole rule (`TagRouterRule.init`).
        tag.get("match")
            .and_then(Value::as_array)
            .is_some_and(|m| !m.is_empty())
    });
    tags.is_empty()
}

fn strip_configurators(document: &mut Value, path: &str, kept: &mut Vec<UnappliedRule>) -> bool {
    // `[ "override://..", .. ]` is read too (`ConfigParser.parseJsonArray`).
    if let Some(urls) = document.as_array_mut() {
        urls.retain(|entry| {
            let child = entry.as_str().map(dubbo_url::encode_component).unwrap_or_default();
            match url::in_child(path, &child) {
                Some(rule) => {
                    kept.push(rule);
                    false
                }
                None => true,
            }
        });
        return urls.is_empty();
    }
    let Some(configs) = document.get_mut("configs").and_then(Value::as_array_mut) else {
        return false;
    };
    configs.retain(|config| {
        let is_kept = config_names_addresses(config);
        if is_kept {
            kept.push(unapplied(
                RuleKind::Configurator,
                path,
                &config.to_string(),
                NAMES_ADDRESSES,
            ));
        }
        !is_kept
    });
    configs.is_empty()
}

fn config_names_addresses(config: &Value) -> bool {
    let specific = |key: &str| {
        let list = config.get(key).and_then(Value::as_array);
        list.is_some_and(|a| a.iter().any(|a| a.as_str().is_none_or(|a| !is_any_address(a))))
    };
    let matched = |key: &str| {
        config
            .get("match")
            .and_then(|m| m.get(key))
            .is_some_and(|m| !m.is_null())
    };
    specific("addresses") || specific("providerAddresses") || matched("address") || matched("providerAddress")
}

fn is_any_address(address: &str) -> bool {
    match address.rsplit_once(':') {
        Some((host, port)) => is_any_host(host) && matches!(port, "0" | "*"),
        None => is_any_host(address),
    }
}

/// A rule of this kind that does nothing, under the same key and scope.
fn switched_off(kind: RuleKind, document: &Value) -> Vec<u8> {
    let mut off = json!({});
    for key in ["configVersion", "scope", "key"] {
        if let Some(value) = document.get(key).filter(|v| v.is_string()) {
            off[key] = value.clone();
        }
    }
    off["enabled"] = Value::from(false);
    off["force"] = Value::from(false);
    match kind {
        // Read although it is off (2.7), so it must be well-formed; matches no call.
        RuleKind::Condition => {
            off["configVersion"] = Value::from("v3.0");
            off["conditions"] = json!(["method=remora-none => application=remora-none"]);
        }
        RuleKind::Tag => off["tags"] = json!([]),
        RuleKind::Script => {
            off["type"] = Value::from("javascript");
            off["script"] = Value::from("(function route(invokers) { return invokers; }(invokers));");
        }
        RuleKind::Configurator => off["configs"] = json!([]),
        // Never kept.
        RuleKind::Mesh => {}
    }
    off.to_string().into_bytes()
}

const MAX_YAML_BYTES: usize = 256 << 10;
const MAX_YAML_DEPTH: usize = 64;
const MAX_YAML_NODES: usize = 20_000;
