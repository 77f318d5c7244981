// SPDX-License-Identifier: Apache-2.0
//! Lists and their entries: what is left as it is, what becomes of differences, what is broken today.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remora_naming::sofa;
use remora_registry::{Instance, PublishError};

use super::super::codes::Code;
use super::super::report::Findings;
use super::super::scene::{Listed, Scene, address_of, application_of};
use super::{few, line};
use crate::discovery::forecast::{Forecast, is_enabled, serializations};

pub(in super::super) fn check(scene: &Scene<'_>, forecast: &Forecast, findings: &mut Findings) {
    for listed in &scene.lists {
        whole(listed, findings);
        for (at, instance) in listed.list.snapshot.instances.iter().enumerate() {
            entry(scene, listed, at, instance, forecast, findings);
        }
        for merged in &listed.merged {
            let subject = listed.subject(&merged.shown);
            for difference in merged.differences() {
                let said: BTreeSet<&str> = difference
                    .said
                    .iter()
                    .map(|s| if s.is_empty() { "nothing" } else { s })
                    .collect();
                let (name, said) = (&difference.name, few(&said));
                let shown = difference.shown.as_deref().unwrap_or("nothing");
                if name.ends_with(CALLBACK) && difference.shown.is_none() {
                    findings.add(Code::CallbackNotEverywhere, &subject, name.clone());
                } else if difference.sets_default && name != "application" {
                    findings.add(Code::ProvidersDisagree, &subject, format!("{name}: {said} -> {shown}"));
                }
            }
        }
    }
    shared_addresses(scene, findings);
}

fn whole(listed: &Listed<'_>, findings: &mut Findings) {
    let (list, name) = (listed.list, listed.name());
    let instances = &list.snapshot.instances;
    if !list.is_owned && !instances.is_empty() {
        let namespace = listed.target().namespace().to_string();
        findings.add(
            Code::OutsideRoots,
            namespace,
            format!("{name}: {} entries", instances.len()),
        );
    }
    for (entry, cause) in &list.malformed {
        let place = format!("{}/{}", listed.target().namespace(), listed.target().name());
        findings.add(Code::Unreadable, place, format!("{}: {cause}", line(entry, 120)));
    }
    let foreign = list.snapshot.foreign.len();
    if foreign > 0 {
        let example = list
            .snapshot
            .foreign
            .first()
            .map(|name| line(name, 60))
            .unwrap_or_default();
        findings.add(Code::Foreign, &name, format!("{foreign}, such as {example}"));
    }
    if list.bytes > JUTE_MAX_BUFFER {
        findings.add(
            Code::ListTooLong,
            &name,
            format!("{} entries, {} KiB", instances.len(), list.bytes >> 10),
        );
    }
    if instances.is_empty() && list.malformed.is_empty() && !listed.is_application() {
        findings.add(Code::NoProvider, &name, format!("{} consumers", listed.consumers.len()));
    }
}

fn entry(
    scene: &Scene<'_>,
    listed: &Listed<'_>,
    at: usize,
    instance: &Arc<Instance>,
    forecast: &Forecast,
    findings: &mut Findings,
) {
    let subject = listed.subject(instance);
    let address = address_of(instance);
    let application = application_of(instance);
    let of = match application.is_empty() {
        true => address.clone(),
        false => format!("{address} of {application}"),
    };
    let is_spoken = forecast.speaks(&instance.protocol);
    match listed.outward.get(at) {
        Some(Err(PublishError::AlreadyTakenOver { .. })) => findings.add(Code::AlreadyTaken, &subject, &of),
        Some(Err(PublishError::Protocol { .. })) if is_spoken => findings.add(Code::Tls, &subject, &of),
        Some(Err(PublishError::Protocol { protocol })) => {
            findings.add(Code::OtherProtocol, &subject, format!("{protocol} at {of}"));
        }
        Some(Err(PublishError::NotTaken { why })) => {
            findings.add(
                Code::LeftByPolicy,
                &subject,
                format!("published as it is at {of}: {why}"),
            );
        }
        Some(Err(PublishError::NoIngress { cause, .. })) => {
            findings.add(Code::AddressRefused, &subject, format!("{of}: {cause}"));
        }
        // Picked by tag or token: TLS and other protocols were told above.
        Some(Ok(_)) if listed.list.is_owned && listed.stays.get(at) == Some(&true) => {
            let words = ["dubbo.tag", "tag", "token"]
                .into_iter()
                .filter(|w| instance.params.get(w).is_some());
            let words: BTreeSet<&str> = words.collect();
            findings.add(Code::TagOrToken, &subject, format!("{of}, by {}", few(&words)));
        }
        _ => {}
    }
    if !is_enabled(&instance.params) {
        findings.add(Code::SwitchedOff, &subject, &of);
    }
    if let Some(Some(node)) = listed.list.nodes.get(at)
        && node.owner == 0
    {
        let asked = match instance.params.get("dynamic") {
            Some("false") => ", as dynamic=false asks",
            _ => "",
        };
        findings.add(Code::NoSession, &subject, format!("{of}{asked}"));
    }
    if &*instance.protocol == DUBBO && is_spoken {
        serialization(listed, instance, &subject, &of, findings);
    }
    let callbacks = instance
        .params
        .iter()
        .filter(|(key, value)| key.ends_with(CALLBACK) && *value == "true");
    for (key, _) in callbacks {
        findings.add(Code::Callback, &subject, key);
    }
    document(scene, listed, instance, &subject, &of, findings);
}

/// A consumer sends in the provider's preferred serialization, else in its own, hessian2 unless said otherwise.
fn serialization(listed: &Listed<'_>, instance: &Instance, subject: &str, of: &str, findings: &mut Findings) {
    let said = serializations(&instance.params);
    let Some(first) = said.first().filter(|name| !remora_dubbo::reads_bodies_in(name)) else {
        return;
    };
    let keys: BTreeSet<_> = listed
        .list
        .snapshot
        .instances
        .iter()
        .filter_map(|i| i.key.as_ref())
        .collect();
    match keys.len() > 1 {
        true => findings.add(
            Code::SerializationAmbiguous,
            subject,
            format!("{first} at {of}; the service has {} groups and versions", keys.len()),
        ),
        false => findings.add(Code::SerializationUnread, subject, format!("{first} at {of}")),
    }
}

fn document(
    scene: &Scene<'_>,
    listed: &Listed<'_>,
    instance: &Instance,
    subject: &str,
    of: &str,
    findings: &mut Findings,
) {
    let is_remote = instance.params.get("dubbo.metadata.storage-type") == Some("remote");
    let Some(revision) = instance.revision().filter(|revision| is_remote && *revision != "0") else {
        return;
    };
    let application = instance.params.get("application").unwrap_or_default();
    if listed.is_application() && !scene.documents.contains_key(&(application, revision)) {
        findings.add(Code::DocumentMissing, subject, format!("revision {revision} at {of}"));
    }
}

/// One address twice in a list, or of two applications.
fn shared_addresses(scene: &Scene<'_>, findings: &mut Findings) {
    let mut applications: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for listed in &scene.lists {
        let mut seen: BTreeMap<_, Vec<&Instance>> = BTreeMap::new();
        for instance in &listed.list.snapshot.instances {
            let place = (
                &instance.key,
                &instance.protocol,
                &instance.host,
                instance.port,
                &instance.path,
            );
            // SOFARPC has an entry for each version and uniqueId of a service there, all of version 1.0.
            if !sofa::is_protocol(&instance.protocol) {
                seen.entry(place).or_default().push(instance);
            }
            let application = application_of(instance);
            if !application.is_empty() && instance.port != 0 {
                applications
                    .entry(address_of(instance))
                    .or_default()
                    .insert(application);
            }
        }
        for twice in seen.into_values().filter(|entries| entries.len() > 1) {
            let Some(first) = twice.first() else { continue };
            let of: BTreeSet<&str> = twice.iter().map(|i| application_of(i)).collect();
            let seen = format!("{}: {} entries of {}", address_of(first), twice.len(), few(&of));
            findings.add(Code::AddressTwice, listed.subject(first), seen);
        }
    }
    for (address, of) in applications.into_iter().filter(|(_, of)| of.len() > 1) {
        findings.add(Code::AddressOfTwo, address, few(&of));
    }
}

const CALLBACK: &str = ".callback";
const DUBBO: &str = "dubbo";
/// Longest answer that a client of ZooKeeper 3.6 and newer takes (`jute.maxbuffer`).
const JUTE_MAX_BUFFER: usize = (1 << 20) - 1;
