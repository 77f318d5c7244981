// SPDX-License-Identifier: Apache-2.0
//! SOFARPC's providers: what they announce, and several of them as one virtual provider.
//!
//! A SOFARPC consumer tells the entries of a list apart by protocol and unique id, and takes two for the same provider when
//! protocol, address, path, serialization and `rpcVer` agree (`RegistryUtils.matchProviderInfos`, `ProviderInfo.equals`).
//! It sends with its own serialization whatever a provider announces, and a provider reads any that it knows, so none is
//! preferred here. It warms a provider up only when `warmupTime`,
//! `warmupWeight` and `startTime` are there (`RegistryUtils.processWarmUpWeight`), so without them it does not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use remora_naming::sofa::{child, params};
use remora_registry::{Instance, Params};

pub(super) use remora_naming::sofa::params::OFFLINE;

use super::endpoint::{framework, weight};
use super::merge;
use super::route_table::Endpoint;

/// Makes an endpoint of an address and SOFARPC's parameters, in either layout; numbers that cannot be read count as absent.
pub(super) fn endpoint(addr: SocketAddr, protocol: &Arc<str>, params: &Params) -> Endpoint {
    let number = |name: &str| params::word(params, name).and_then(|v| v.trim().parse::<i64>().ok());
    let positive = |name: &str| number(name).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    let warmup_weight = number("warmupWeight").map(|w| weight(Some(w)));
    let (started_ms, warmup_ms) = match (positive("startTime"), positive("warmupTime"), warmup_weight) {
        (Some(started), Some(time), Some(_)) => (started, time),
        (started, ..) => (started.unwrap_or(0), 0),
    };
    Endpoint {
        addr,
        protocol: Arc::clone(protocol),
        weight: weight(number("weight")),
        started_ms,
        warmup_ms,
        warmup_weight: warmup_weight.filter(|_| warmup_ms > 0),
        serializations: Vec::new(),
        application: params::word(params, "appName").unwrap_or_default().into(),
        framework: framework(params),
        is_taken_over: params.get(Instance::MARKER).is_some(),
    }
}

/// Splits providers into groups that become one entry each, in a stable order.
pub(super) fn groups<'a>(instances: &[&'a Arc<Instance>]) -> Vec<Vec<&'a Arc<Instance>>> {
    let mut tuples: BTreeMap<(&str, &str, &str, &str), Vec<&'a Arc<Instance>>> = BTreeMap::new();
    for &instance in instances {
        let Some(key) = &instance.key else { continue };
        let path = instance.path.trim_matches('/');
        tuples
            .entry((&key.name, &key.group, &instance.protocol, path))
            .or_default()
            .push(instance);
    }
    tuples.into_values().collect()
}

/// The entry that stands for a group, at `host`:`port`; `None` for an empty group. Its `id` is its name in ZooKeeper.
pub(super) fn virtual_provider(group: &[&Arc<Instance>], host: &str, port: u16) -> Option<Instance> {
    let newest = group.iter().max_by_key(|i| (started(i), &i.id))?;
    let eldest = group.iter().min_by_key(|i| &i.key)?;
    let params = merge::merged(group, newest, &|key, common| match key {
        _ if OF_ONE_HOST.contains(&key) || key == Instance::MARKER => Some(None),
        "version" => Some(eldest.key.as_ref().map(|key| key.version.to_string())),
        "rpcVer" => Some(lowest(group)),
        "serialization" | "_SERIALIZETYPE" => Some(common.or_else(|| common_serialization(group))),
        "appName" | "app_name" | "connections" => Some(common.or_else(|| newest.params.get(key).map(str::to_owned))),
        // Of methods: `[echo]=[clientTimeout#5000]`.
        _ if key.starts_with('[') => Some(common.or_else(|| newest.params.get(key).map(str::to_owned))),
        _ => None,
    });
    let mut instance = Instance {
        id: "".into(),
        key: eldest.key.clone(),
        protocol: Arc::clone(&newest.protocol),
        host: host.into(),
        port,
        path: newest.path.trim_matches('/').into(),
        params,
        raw: "".into(),
    };
    instance.raw = child::url(&instance).into();
    instance.id = child::print(&instance).into();
    Some(instance)
}

/// Whether a parameter is a matter of one provider, or of all together.
pub(super) fn is_of_one_host(key: &str) -> bool {
    OF_ONE_HOST.contains(&key) || matches!(key, Instance::MARKER | "version" | "rpcVer")
}

/// What is shown where providers announce different ones: the same as long as one of them is there.
fn common_serialization(group: &[&Arc<Instance>]) -> Option<String> {
    let names = || group.iter().filter_map(|i| params::serialization(&i.params));
    let usual = names().find(|name| *name == "hessian2");
    usual.or(names().min()).map(str::to_owned)
}

fn lowest(group: &[&Arc<Instance>]) -> Option<String> {
    let versions = group
        .iter()
        .filter_map(|i| i.params.get("rpcVer")?.trim().parse::<u64>().ok());
    versions.min().map(|version| version.to_string())
}

fn started(instance: &Instance) -> u64 {
    let started = instance.params.get("startTime").and_then(|v| v.trim().parse().ok());
    started.unwrap_or(0)
}

/// Parameters of one provider, or of its warm-up and weight, which the proxy sees to.
const OF_ONE_HOST: [&str; 18] = [
    "weight",
    "_WEIGHT",
    "warmupTime",
    "_WARMUPTIME",
    "warmupWeight",
    "_WARMUPWEIGHT",
    "startTime",
    "hostMachine",
    "_HOSTMACHINE",
    "self_app_name",
    "pid",
    "id",
    "accepts",
    "delay",
    "dynamic",
    "disabled",
    "enabled",
    OFFLINE,
];

#[cfg(test)]
mod tests;
