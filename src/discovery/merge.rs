// SPDX-License-Identifier: Apache-2.0
//! Several providers as one virtual provider.
//!
//! Grouped by what a client tells entries apart by: service key, protocol, path, codec, and serializations that have
//! nothing in common. Parameters that all share stay; those by which a provider sets its consumers' defaults come from
//! the newest provider where they differ; what belongs to one host goes. The time stamp is fixed and old, so the name
//! stays while providers come and go, and consumers see no warm-up. SOFARPC's providers: `sofa.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remora_naming::dubbo_url;
use remora_naming::sofa::is_protocol;
use remora_registry::{Instance, Params, ServiceKey};

use super::endpoint::serializations;
use super::sofa;

/// Splits providers into groups that become one entry each, in a stable order.
pub(super) fn groups<'a>(instances: &[&'a Arc<Instance>]) -> Vec<Vec<&'a Arc<Instance>>> {
    type Tuple<'t> = (&'t ServiceKey, &'t str, &'t str, &'t str);
    type Split<'t> = (Vec<&'t Arc<Instance>>, Vec<&'t Arc<Instance>>);
    let (of_sofa, instances): Split<'a> = instances.iter().partition(|i| is_protocol(&i.protocol));
    let mut tuples: BTreeMap<Tuple<'a>, Vec<&'a Arc<Instance>>> = BTreeMap::new();
    for instance in instances {
        let Some(key) = &instance.key else { continue };
        let codec = instance.params.get("codec").unwrap_or_default();
        tuples
            .entry((key, &instance.protocol, &instance.path, codec))
            .or_default()
            .push(instance);
    }
    let groups = tuples.into_values().flat_map(by_serialization);
    groups.chain(sofa::groups(&of_sofa)).collect()
}

/// Splits where providers have no serialization in common.
fn by_serialization(instances: Vec<&Arc<Instance>>) -> Vec<Vec<&Arc<Instance>>> {
    let mut sets: BTreeMap<BTreeSet<&str>, Vec<&Arc<Instance>>> = BTreeMap::new();
    for instance in instances {
        sets.entry(understood(instance)).or_default().push(instance);
    }
    let mut groups: Vec<(BTreeSet<&str>, Vec<&Arc<Instance>>)> = Vec::new();
    for (set, members) in sets {
        match groups.iter_mut().find(|(common, _)| !common.is_disjoint(&set)) {
            Some((common, group)) => {
                common.retain(|s| set.contains(s));
                group.extend(members);
            }
            None => groups.push((set, members)),
        }
    }
    groups.into_iter().map(|(_, members)| members).collect()
}

/// What a provider understands for sure; Dubbo's default is hessian2.
fn understood(instance: &Instance) -> BTreeSet<&str> {
    let named: BTreeSet<&str> = serializations(&instance.params).into_iter().collect();
    match named.is_empty() {
        true => BTreeSet::from(["hessian2"]),
        false => named,
    }
}

/// The entry that stands for a group, at `host`:`port`; `None` for an empty group.
pub(super) fn virtual_provider(group: &[&Arc<Instance>], host: &str, port: u16) -> Option<Instance> {
    let newest = group.iter().max_by_key(|i| (started(i), &i.id))?;
    if is_protocol(&newest.protocol) {
        return sofa::virtual_provider(group, host, port);
    }
    let mut instance = Instance {
        id: "".into(),
        key: newest.key.clone(),
        protocol: Arc::clone(&newest.protocol),
        host: host.into(),
        port,
        path: Arc::clone(&newest.path),
        params: merged(group, newest, &|key, common| dubbo_word(group, newest, key, common)),
        raw: "".into(),
    };
    instance.id = dubbo_url::print_child(&instance).into();
    instance.raw = dubbo_url::decode_component(&instance.id).unwrap_or_default().into();
    Some(instance)
}

/// What becomes of a parameter that a framework has its own rule for: `Some` with its value, or with nothing to leave it
/// out. It is given the parameter's name and the value that all share, if they do.
type Word<'a> = dyn Fn(&str, Option<String>) -> Option<Option<String>> + 'a;

fn dubbo_word(
    group: &[&Arc<Instance>],
    newest: &Instance,
    key: &str,
    common: Option<String>,
) -> Option<Option<String>> {
    let all = || group.iter().filter_map(|i| i.params.get(key));
    match key {
        _ if OF_ONE_HOST.contains(&key) => Some(None),
        "timestamp" => Some(Some(OLD.to_owned())),
        "methods" => Some(Some(union(all()))),
        "dubbo" => Some(all().min_by_key(|v| version(v)).map(str::to_owned)),
        "prefer.serialization" => Some(preferred(group, newest)),
        "serialization" => Some(common.or_else(|| fixed_serialization(group))),
        _ => None,
    }
}

/// What all share, and the defaults that the newest one sets. Sorted by key, as Java prints them.
pub(super) fn merged(group: &[&Arc<Instance>], newest: &Instance, word: &Word<'_>) -> Params {
    let mut values: BTreeMap<&str, Values<'_>> = BTreeMap::new();
    for instance in group {
        // The last of repeated keys wins, as in Java's maps.
        let mut own: BTreeMap<&str, &str> = BTreeMap::new();
        own.extend(instance.params.iter());
        for (key, value) in own {
            let seen = values.entry(key).or_insert(Values {
                first: value,
                count: 0,
                is_same: true,
            });
            seen.count += 1;
            seen.is_same &= seen.first == value;
        }
    }
    let mut params = Params::default();
    for (key, seen) in &values {
        let all = || group.iter().filter_map(|i| i.params.get(key));
        let common = (seen.is_same && seen.count == group.len()).then(|| seen.first.to_owned());
        let value = match word(key, common.clone()) {
            Some(value) => value,
            None if common.is_some() => common,
            None if sets_defaults(key) => newest.params.get(key).or(all().max()).map(str::to_owned),
            None => None,
        };
        if let Some(value) = value {
            params.0.push(((*key).to_owned(), value));
        }
    }
    params
}

struct Values<'a> {
    first: &'a str,
    count: usize,
    is_same: bool,
}

fn union<'a>(lists: impl Iterator<Item = &'a str>) -> String {
    let names: BTreeSet<&str> = lists.flat_map(|l| l.split(',')).filter(|n| !n.is_empty()).collect();
    names.into_iter().collect::<Vec<_>>().join(",")
}

/// The newest provider's preferences, as far as all understand them; none if one provider has none.
fn preferred(group: &[&Arc<Instance>], newest: &Instance) -> Option<String> {
    if group.iter().any(|i| i.params.get("prefer.serialization").is_none()) {
        return None;
    }
    let listed = newest.params.get("prefer.serialization")?.split(',').map(str::trim);
    let common: Vec<&str> = listed
        .filter(|s| group.iter().all(|i| understood(i).contains(s)))
        .collect();
    (!common.is_empty()).then(|| common.join(","))
}

fn fixed_serialization(group: &[&Arc<Instance>]) -> Option<String> {
    let mut common = group.first().map(|i| understood(i)).unwrap_or_default();
    for instance in group {
        let set = understood(instance);
        common.retain(|s| set.contains(s));
    }
    // Dubbo's default first: every version has it.
    common.get("hessian2").or(common.first()).map(|s| (*s).to_owned())
}

/// Whether a parameter is a matter of one provider, or of all together, so that consumers are shown none of its values.
pub(super) fn is_of_one_host(protocol: &str, key: &str) -> bool {
    match is_protocol(protocol) {
        true => sofa::is_of_one_host(key),
        false => OF_ONE_HOST.contains(&key) || matches!(key, "timestamp" | "methods" | "dubbo"),
    }
}

/// `2.0.2` as numbers; what is none counts as 0.
fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

fn started(instance: &Instance) -> u64 {
    instance
        .params
        .get("timestamp")
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

/// Parameters (also `<method>.<parameter>`) by which a provider sets its consumers' defaults, or that cannot be left out.
pub(super) fn sets_defaults(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or(key);
    matches!(
        last,
        "timeout"
            | "retries"
            | "loadbalance"
            | "cluster"
            | "actives"
            | "executes"
            | "payload"
            | "heartbeat"
            | "connections"
            | "callbacks"
            | "mock"
            | "async"
            | "sent"
            | "sticky"
            | "lazy"
            | "validation"
            | "cache"
            | "application"
    )
}

/// Parameters of one provider, or of its warm-up and weight, which the proxy sees to.
const OF_ONE_HOST: [&str; 13] = [
    "weight",
    "warmup",
    "pid",
    "bind.ip",
    "bind.port",
    "anyhost",
    "ssl-enabled",
    "disabled",
    "enabled",
    "remote.timestamp",
    "register.ip",
    "startTime",
    Instance::MARKER,
];
/// Long ago: no consumer warms up against it.
const OLD: &str = "1000000000000";
