// SPDX-License-Identifier: Apache-2.0
//! What a SOFARPC provider says of itself: the words in its parameters, and their two layouts.
//!
//! | in ZooKeeper's URL | in SOFARegistry's line |
//! |---|---|
//! | `version=1.0` (always, whatever the service's version), `uniqueId`, `interface`, `protocol` | in the dataId; `p=1` (bolt) or `13` (tr), `v=4.0` |
//! | `serialization weight timeout appName` | the same, and once more as `_SERIALIZETYPE _WEIGHT _TIMEOUT app_name` |
//! | everything else | as it is |
//!
//! Source: `RegistryUtils.convertProviderToMap`, `SofaRegistryHelper.convertProviderToUrls` and `parseProviderInfo`.
//! Turning one layout into the other keeps every parameter that is not the layout's own, in order.

use remora_registry::{Instance, Params};

use super::Service;

/// Set to `true` by an adapter on a provider that an operator took out where its registry keeps that: the byte 0 as the
/// data of its node in ZooKeeper. Never written into a registry.
pub const OFFLINE: &str = "remora.offline";

/// The value of a word under its new key, else under an older one, as SOFARPC reads it.
pub fn word<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    params.get(name).or_else(|| {
        let twins = TWINS.iter().find(|(new, _)| *new == name)?.1;
        twins.iter().find_map(|twin| params.get(twin))
    })
}

/// Name of the serialization; older lines have its code.
pub fn serialization(params: &Params) -> Option<&str> {
    word(params, "serialization").map(named_serialization)
}

/// The service's version as the parameters have it. The first one counts: SOFARPC puts its own before the user's.
pub fn version(params: &Params) -> Option<&str> {
    first(params, "version").filter(|v| !v.is_empty())
}

/// The parameters as ZooKeeper's URL has them. What readers look at comes from the instance where it is missing: they
/// compare `uniqueId`, and fail on the whole list at a parameter without `=`.
pub fn to_url(instance: &Instance) -> Params {
    let params = &written(&instance.params);
    let Some(service) = Service::of_instance(instance, "") else {
        return params.clone();
    };
    let own = [
        ("version", service.version.as_str()),
        ("uniqueId", &service.unique_id),
        ("interface", &service.interface),
        ("protocol", &instance.protocol),
    ];
    let mut url = Params::default();
    if is_url(params) {
        url.0.clone_from(&params.0);
        for (key, value) in own {
            if first(params, key).is_none() {
                url.0.push((key.to_owned(), value.to_owned()));
            }
        }
        return url;
    }
    url.0.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let (mut p, mut v) = (false, false);
    for (key, value) in params.iter() {
        match (key, new_name(key)) {
            ("p", _) if !std::mem::replace(&mut p, true) => {}
            ("v", _) if !std::mem::replace(&mut v, true) => {}
            (_, Some(new)) if params.get(new).is_some() || url.get(new).is_some() => {}
            (_, Some(new)) => url.0.push((new.to_owned(), resolved(new, value).to_owned())),
            ("serialization", _) => url.set(key, named_serialization(value)),
            _ => url.0.push((key.to_owned(), value.to_owned())),
        }
    }
    url
}

/// The parameters as SOFARegistry's line has them, with the older twins that SOFA 4 clients read.
pub fn to_line(instance: &Instance) -> Params {
    let params = &written(&instance.params);
    let mut line = Params::default();
    for name in ["rpcVer", "serialization", "weight", "timeout", "appName"] {
        if let Some(value) = word(params, name).filter(|value| is_said(name, value)) {
            line.set(name, resolved(name, value));
        }
    }
    let code = match &*instance.protocol {
        "bolt" => Some("1"),
        "tr" => Some("13"),
        _ => None,
    };
    line.0.extend(code.map(|code| ("p".to_owned(), code.to_owned())));
    line.set("v", GENERATION);
    for (name, twins) in TWINS.iter().take(4) {
        if let (Some(value), Some(twin)) = (line.get(name).map(str::to_owned), twins.first()) {
            line.set(twin, value);
        }
    }
    let said = line.clone();
    let mut layout: Vec<&str> = match is_url(params) {
        true => vec!["version", "uniqueId", "interface", "protocol"],
        false => vec!["p", "v"],
    };
    for (key, value) in params.iter() {
        if let Some(at) = layout.iter().position(|own| *own == key) {
            layout.remove(at);
            continue;
        }
        let is_word = HEAD.contains(&key) || (new_name(key).is_some() && said.get(key).is_some());
        if !is_word {
            line.0.push((key.to_owned(), value.to_owned()));
        }
    }
    line
}

/// Without what is never written.
fn written(params: &Params) -> Params {
    let mut written = params.clone();
    written.remove(OFFLINE);
    written
}

/// Whether the parameters are laid out as in ZooKeeper's URL.
pub(super) fn is_url(params: &Params) -> bool {
    let is_line = params.get("v") == Some(GENERATION) || params.iter().any(|(key, _)| new_name(key).is_some());
    !is_line && (params.get("uniqueId").is_some() || params.get("interface").is_some())
}

/// Twin to new name.
fn new_name(key: &str) -> Option<&'static str> {
    let (new, _) = TWINS.iter().find(|(_, twins)| twins.contains(&key))?;
    Some(new)
}

fn first<'a>(params: &'a Params, key: &str) -> Option<&'a str> {
    params.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
}

/// `timeout=0` in a URL says that the provider sets none; a line leaves it out.
fn is_said(name: &str, value: &str) -> bool {
    name != "timeout" || value.trim().parse::<i64>().is_ok_and(|ms| ms > 0)
}

fn resolved<'a>(name: &str, value: &'a str) -> &'a str {
    match name {
        "serialization" => named_serialization(value),
        _ => value,
    }
}

/// `RemotingConstants.SERIALIZE_CODE_*`.
fn named_serialization(value: &str) -> &str {
    match value {
        "1" => "hessian",
        "2" => "java",
        "4" => "hessian2",
        "11" => "protobuf",
        name => name,
    }
}

/// New keys and what they were called before; SOFARPC writes the first four both ways.
const TWINS: [(&str, &[&str]); 8] = [
    ("serialization", &["_SERIALIZETYPE"]),
    ("weight", &["_WEIGHT"]),
    ("timeout", &["_TIMEOUT"]),
    ("appName", &["app_name", "self_app_name"]),
    ("connections", &["_CONNECTIONNUM"]),
    ("warmupTime", &["_WARMUPTIME"]),
    ("warmupWeight", &["_WARMUPWEIGHT"]),
    ("hostMachine", &["_HOSTMACHINE"]),
];
/// Words at the front of a line.
const HEAD: [&str; 5] = ["rpcVer", "serialization", "weight", "timeout", "appName"];
/// SOFA's generation, the `v` of every line; not the service's version.
const GENERATION: &str = "4.0";
