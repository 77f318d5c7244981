// SPDX-License-Identifier: Apache-2.0
//! The swap of addresses, and only here: outward (an application's address becomes our ingress) and inward (a list of
//! providers becomes our egress).
//!
//! Inward, the providers of one service that a client cannot tell apart become one virtual provider (`merge.rs`), whose
//! name stays while providers come and go. Some are shown as they are, and are then no business of the call path:
//! - protocols that no plugin speaks, and providers that want TLS;
//! - providers that a client picks by tag or token, where a service has several of those: a frame does not say which
//!   list entry the client had picked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use remora_naming::{application, sofa};
use remora_registry::{Client, Instance, Outward, PublishError, ServiceKey, Snapshot, Target};
use tracing::warn;

use super::config::Setup;
use super::egress::Egress;
use super::endpoint::{is, is_enabled};
use super::merge;
use super::routes::address_of;

/// What an application's instance becomes outward, before it has an ingress port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Own {
    /// Host to publish.
    pub(super) host: String,
    /// The port that the application listens on.
    pub(super) app_port: u16,
}

/// The host to publish for an application's instance, and its own port. `own_addresses` is asked only when the application
/// registered a host that nobody else can dial.
///
/// # Errors
/// When it must be passed on unchanged.
pub(super) fn outward(
    setup: &Setup,
    own_addresses: impl FnOnce() -> Vec<IpAddr>,
    instance: &Instance,
) -> Result<Own, PublishError> {
    if instance.params.get(Instance::MARKER).is_some() {
        return Err(PublishError::AlreadyTakenOver {
            host: instance.host.to_string(),
            port: instance.port,
        });
    }
    if !setup.protocols.iter().any(|p| p.name == *instance.protocol) {
        return Err(PublishError::Protocol {
            protocol: instance.protocol.to_string(),
        });
    }
    if wants_tls(instance) {
        return Err(PublishError::Protocol {
            protocol: format!("{} over TLS", instance.protocol),
        });
    }
    let bound = instance
        .params
        .get("bind.port")
        .and_then(|p| p.parse().ok())
        .filter(|p| *p != 0);
    let port = bound.unwrap_or(instance.port);
    let app_port = setup
        .config
        .load()
        .app_ports
        .get(&instance.port)
        .copied()
        .unwrap_or(port);
    if app_port == 0 {
        return Err(PublishError::NoIngress {
            protocol: instance.protocol.to_string(),
            app_port,
            cause: "the application published no port".into(),
        });
    }
    Ok(Own {
        host: published_host(setup, own_addresses, instance),
        app_port,
    })
}

/// The host to publish for an application's instance.
pub(super) fn published_host(
    setup: &Setup,
    own_addresses: impl FnOnce() -> Vec<IpAddr>,
    instance: &Instance,
) -> String {
    match setup.advertise {
        Some(ip) => ip.to_string(),
        None if is_nowhere(&instance.host) => own_addresses()
            .first()
            .map_or_else(|| instance.host.to_string(), IpAddr::to_string),
        None => instance.host.to_string(),
    }
}

/// The host of an instance that is left as it is: its own, unless nobody else can dial that.
pub(super) fn own_host(setup: &Setup, own_addresses: impl FnOnce() -> Vec<IpAddr>, instance: &Instance) -> String {
    match is_nowhere(&instance.host) {
        true => published_host(setup, own_addresses, instance),
        false => instance.host.to_string(),
    }
}

/// An instance at our ingress, as an adapter publishes it on Remora's own session: marked, its name to be made anew.
///
/// # Errors
/// `NotKept` for an application-level entry that is not Dubbo's.
pub(super) fn shown_outward(instance: &Instance, outward: &Outward) -> Result<Instance, PublishError> {
    if instance.key.is_none() {
        let not_kept = |cause: String| PublishError::NotKept { cause };
        let (node, json) = application::with_outward(&instance.id, instance.raw.as_bytes(), outward)
            .map_err(|error| not_kept(error.to_string()))?;
        let shown = application::parse(&node, &json).map_err(|error| not_kept(error.to_string()))?;
        return shown.ok_or_else(|| not_kept("the entry is not Dubbo's".into()));
    }
    let mut shown = instance.clone();
    (shown.id, shown.raw) = ("".into(), "".into());
    (shown.host, shown.port) = (outward.host.as_str().into(), outward.port);
    for (echo, value) in [
        ("bind.ip", outward.host.clone()),
        ("bind.port", outward.port.to_string()),
    ] {
        if shown.params.get(echo).is_some() {
            shown.params.set(echo, value);
        }
    }
    shown.params.set(Instance::MARKER, outward.app_port.to_string());
    Ok(shown)
}

/// A host that other machines cannot dial.
pub(super) fn is_nowhere(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip.is_unspecified(),
        Err(_) => host.is_empty() || host.eq_ignore_ascii_case("localhost"),
    }
}

fn wants_tls(instance: &Instance) -> bool {
    is(&instance.params, "ssl-enabled", "true")
}

/// The entries of a list that are shown as they are, by [`address_of`].
pub(super) fn direct(instances: &[Arc<Instance>], spoken: &[Arc<str>]) -> HashSet<usize> {
    let speaks = |protocol: &str| spoken.iter().any(|p| &**p == protocol);
    let mut direct = HashSet::new();
    let mut picks: HashMap<&ServiceKey, BTreeSet<Pick<'_>>> = HashMap::new();
    for instance in instances {
        match &instance.key {
            None if spoken_endpoint(instance, &speaks).is_none() => {}
            Some(_) if !speaks(&instance.protocol) || wants_tls(instance) => {}
            None => continue,
            // SOFARPC picks by none of these; it may be the user's own word.
            Some(_) if sofa::is_protocol(&instance.protocol) => continue,
            Some(key) => {
                picks.entry(key).or_default().insert(pick(instance));
                continue;
            }
        }
        direct.insert(address_of(instance));
    }
    if picks.values().all(|p| p.len() < 2) {
        return direct;
    }
    for instance in instances {
        let is_one_of_many = instance
            .key
            .as_ref()
            .and_then(|k| picks.get(k))
            .is_some_and(|p| p.len() > 1);
        if is_one_of_many && pick(instance) != Pick::default() {
            direct.insert(address_of(instance));
        }
    }
    direct
}

/// What a client picks a provider by, call for call: `dubbo.tag` (2.6: `tag`) and `token`.
type Pick<'a> = [&'a str; 3];

fn pick(instance: &Instance) -> Pick<'_> {
    ["dubbo.tag", "tag", "token"].map(|key| instance.params.get(key).unwrap_or_default())
}

/// The list that an application is shown. What is not `is_taken` is shown as it is.
pub(super) fn inward(
    snapshot: &Snapshot,
    client: Client,
    egress: &Egress,
    spoken: &[Arc<str>],
    is_taken: &dyn Fn(&Arc<Instance>) -> bool,
) -> Vec<Instance> {
    let direct = direct(&snapshot.instances, spoken);
    let is_left = |i: &&Arc<Instance>| direct.contains(&address_of(i)) || !is_taken(i);
    let (kept, taken): (Vec<_>, Vec<_>) = snapshot.instances.iter().partition(is_left);
    let mut shown: Vec<Instance> = kept.into_iter().map(|i| Instance::clone(i)).collect();
    match &snapshot.target {
        Target::Service { .. } => {
            for group in groups_of(taken) {
                let shown_egress = group.first().and_then(|i| egress.shown(&i.protocol, client));
                match shown_egress {
                    Some((host, port)) => shown.extend(merge::virtual_provider(&group, &host, port)),
                    None => shown.extend(group.iter().map(|i| Instance::clone(i))),
                }
            }
        }
        Target::Application { .. } => shown.extend(application_inward(&taken, client, egress, spoken)),
    }
    shown
}

/// The providers of a service that are shown as one, group for group.
pub(super) fn groups<'a>(
    snapshot: &'a Snapshot,
    spoken: &[Arc<str>],
    is_taken: &dyn Fn(&Arc<Instance>) -> bool,
) -> Vec<Vec<&'a Arc<Instance>>> {
    let direct = direct(&snapshot.instances, spoken);
    let is_left = |i: &&Arc<Instance>| direct.contains(&address_of(i)) || !is_taken(i);
    groups_of(snapshot.instances.iter().filter(|i| !is_left(i)).collect())
}

fn groups_of(taken: Vec<&Arc<Instance>>) -> Vec<Vec<&Arc<Instance>>> {
    let enabled: Vec<&Arc<Instance>> = taken.into_iter().filter(|i| is_enabled(&i.params)).collect();
    merge::groups(&enabled)
}

/// One entry per revision at our egress, under a revision of its own: a client keeps what it read of a revision for good, and
/// it may have read the real one before, or may need it after the takeover. What a revision offers in protocols that nobody here speaks stays where it is,
/// under a revision of its own.
fn application_inward(taken: &[&Arc<Instance>], client: Client, egress: &Egress, spoken: &[Arc<str>]) -> Vec<Instance> {
    let speaks = |protocol: &str| spoken.iter().any(|p| &**p == protocol);
    let mut shown = Vec::new();
    let mut revisions: BTreeMap<&str, Vec<&Arc<Instance>>> = BTreeMap::new();
    for instance in taken {
        match instance.revision() {
            Some(revision) if revision != EMPTY => revisions.entry(revision).or_default().push(instance),
            _ => shown.push(Instance::clone(instance)),
        }
    }
    for (revision, instances) in revisions {
        let Some(first) = instances.iter().min_by(|a, b| a.id.cmp(&b.id)) else {
            continue;
        };
        let protocol = spoken_endpoint(first, &speaks);
        if let Some((host, port)) = protocol.and_then(|p| egress.shown(&p, client)) {
            match application::shown_at(first, &host, port, &at_egress(revision)) {
                Ok(entry) => shown.push(entry),
                Err(error) => {
                    warn!(reason = error.reason(), %error, "an application's entry could not be shown at the egress")
                }
            }
        }
        for instance in instances {
            let has_more = application::endpoints(instance).iter().any(|e| !speaks(&e.protocol));
            let beside = || application::shown_direct(instance, &speaks, &mirrored(revision));
            if let Some(Ok(entry)) = has_more.then(beside) {
                shown.push(entry);
            }
        }
    }
    shown
}

/// The revision under which the services that stay where they are can be read, and back again. Of the same shape as a
/// real one, since a registry's paths are told apart by it; never the revision itself.
pub(super) fn mirrored(revision: &str) -> String {
    other_revision(revision, DIRECT, |digit, radix| radix - 1 - digit)
}

/// The revision under which an application is shown what goes to our egress, and back again. As [`mirrored`], and neither
/// that of any revision nor the revision itself.
pub(super) fn at_egress(revision: &str) -> String {
    other_revision(revision, EGRESS, |digit, radix| (digit + radix / 2) % radix)
}

/// `digit` gives a digit for a digit, and the first one for that again.
fn other_revision(revision: &str, suffix: &str, digit: impl Fn(u32, u32) -> u32) -> String {
    let other = |radix: u32| -> Option<String> {
        revision
            .chars()
            .map(|c| char::from_digit(digit(c.to_digit(radix)?, radix), radix))
            .collect()
    };
    let is_plain = !revision.is_empty() && !revision.bytes().any(|b| b.is_ascii_uppercase());
    let radix = if revision.len() == 32 { 16 } else { 10 };
    let other = is_plain.then(|| other(radix)).flatten();
    other.unwrap_or_else(|| match revision.strip_suffix(suffix) {
        Some(revision) => revision.to_owned(),
        None => format!("{revision}{suffix}"),
    })
}

/// The port that an application-level entry has for a protocol.
pub(super) fn application_port(instance: &Instance, protocol: &str) -> u16 {
    announced_port(instance, protocol).unwrap_or(instance.port)
}

/// The port that an entry announces for a protocol. Of a taken-over one it is the ingress, whatever stands in a document
/// that all hosts of the revision share.
pub(super) fn announced_port(instance: &Instance, protocol: &str) -> Option<u16> {
    let endpoint = application::endpoints(instance)
        .into_iter()
        .find(|e| e.protocol == protocol);
    endpoint.map(|e| e.port)
}

fn spoken_endpoint(instance: &Instance, speaks: &dyn Fn(&str) -> bool) -> Option<String> {
    if speaks(&instance.protocol) {
        return Some(instance.protocol.to_string());
    }
    application::endpoints(instance)
        .into_iter()
        .map(|e| e.protocol)
        .find(|p| speaks(p))
}

/// What Dubbo calls the revision of an application that offers nothing; it is asked of nobody.
const EMPTY: &str = "0";
const DIRECT: &str = "-direct";
const EGRESS: &str = "-egress";

#[cfg(test)]
mod tests;
