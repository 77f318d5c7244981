// SPDX-License-Identifier: Apache-2.0
//! The registries themselves: what could not be read, servers, limits, clocks, settings, applications in several of them.

use std::collections::{BTreeMap, BTreeSet};

use remora_registry::Instance;

use super::super::codes::Code;
use super::super::report::Findings;
use super::super::scene::{Looked, Scene, address_of, application_of, framework_of};
use super::{few, line};

pub(in super::super) fn check(scene: &Scene<'_>, findings: &mut Findings) {
    for looked in scene.looked {
        unread(looked, findings);
        settings(looked, findings);
        limits(looked, findings);
        clocks(looked, scene.now_ms, findings);
    }
    several(scene, findings);
}

fn unread(looked: &Looked, findings: &mut Findings) {
    let survey = &looked.survey;
    let namespaces = survey.lists.iter().map(|list| &**list.snapshot.target.namespace());
    let roots: BTreeSet<&str> = namespaces.chain(USUAL_ROOTS).collect();
    let is_ours = |place: &str| {
        let mut roots = roots.iter();
        roots.any(|root| {
            place
                .strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    for unread in &survey.unread {
        let code = match (unread.is_forbidden, is_ours(&unread.place)) {
            (true, true) => Code::Forbidden,
            (true, false) => Code::ForbiddenElsewhere,
            (false, _) => Code::Unreadable,
        };
        findings.add(code, line(&unread.place, 160), &unread.cause);
    }
    for what in &survey.left_out {
        findings.add(Code::LeftOut, &looked.url, what);
    }
    for server in survey.servers.iter().filter(|server| !server.trouble.is_empty()) {
        findings.add(Code::ServerSilent, &server.address, &server.trouble);
    }
    if survey.lists.is_empty() && survey.unread.is_empty() {
        findings.add(Code::NothingFound, &looked.url, format!("{} reads", survey.cost.reads));
    }
}

/// Properties of the config centre win over what an application is told (`dubbo.config-center.highest-priority`).
fn settings(looked: &Looked, findings: &mut Findings) {
    for (place, text) in &looked.survey.settings {
        for property in text.lines().map(str::trim) {
            let Some((key, value)) = property.split_once('=') else {
                continue;
            };
            let key = key.trim();
            let is_address = key.starts_with("dubbo.registr") && key.ends_with(".address");
            if is_address && !value.trim().is_empty() {
                let shown = value.rsplit('@').next().unwrap_or(value);
                findings.add(
                    Code::RegistryFromConfigCentre,
                    place,
                    line(&format!("{key}={}", shown.trim()), 160),
                );
            }
        }
    }
}

/// Sessions by host, against the least that a server takes.
fn limits(looked: &Looked, findings: &mut Findings) {
    let servers = &looked.survey.servers;
    // A SOFARegistry has no such limit.
    if !looked.url.starts_with("zookeeper://") {
        return;
    }
    let mut processes: BTreeMap<&str, BTreeMap<(&str, &str), u32>> = BTreeMap::new();
    let providers = looked.survey.lists.iter().flat_map(|list| &list.snapshot.instances);
    let consumers = looked.survey.consumers.iter().map(|consumer| &consumer.instance);
    for instance in providers.chain(consumers) {
        let pid = instance.params.get("pid").unwrap_or_default();
        let of_host = processes.entry(&instance.host).or_default();
        let sessions = of_host.entry((application_of(instance), pid)).or_default();
        *sessions = (*sessions).max(sessions_of(instance));
    }
    let sessions = |of_host: &BTreeMap<_, u32>| of_host.values().sum::<u32>();
    let limit = servers
        .iter()
        .filter_map(|s| s.max_connections_per_host)
        .filter(|limit| *limit > 0)
        .min();
    if let Some(limit) = limit {
        for (host, of_host) in &processes {
            let needed = sessions(of_host) + OWN_SESSIONS;
            if needed > limit {
                let seen = format!(
                    "{} applications take {needed} with Remora's own, {limit} are let in",
                    of_host.len()
                );
                findings.add(Code::ConnectionLimit, *host, seen);
            }
        }
    } else if servers
        .iter()
        .any(|s| s.trouble.is_empty() && s.max_connections_per_host.is_none() && !s.what.contains(EMBEDDED))
    {
        let most = processes
            .iter()
            .map(|(host, of_host)| (sessions(of_host) + OWN_SESSIONS, *host))
            .max();
        if let Some((needed, host)) = most {
            let seen = format!("{needed} connections from {host}, the most of all hosts");
            findings.add(Code::LimitUnknown, &looked.url, seen);
        }
    }
}

/// In what an embedded registry calls itself, which takes what comes.
const EMBEDDED: &str = "-remora-";

/// Dubbo 3 has a session for lists and one for its instance (seen with 3.1 and 3.3), the others one.
fn sessions_of(instance: &Instance) -> u32 {
    match framework_of(instance).starts_with("dubbo 3") {
        true => 2,
        false => 1,
    }
}

/// Only what is ahead can be told for sure: a node may be made again long after its application started.
fn clocks(looked: &Looked, now_ms: i64, findings: &mut Findings) {
    let mut newest = 0;
    let mut ahead: BTreeMap<&str, i64> = BTreeMap::new();
    for list in &looked.survey.lists {
        for (instance, node) in list.snapshot.instances.iter().zip(&list.nodes) {
            let Some(node) = node.filter(|node| node.created_ms > 0) else {
                continue;
            };
            newest = newest.max(node.created_ms);
            let words = ["timestamp", "startTime"]
                .into_iter()
                .filter_map(|word| instance.params.get(word));
            let started = words.filter_map(|text| text.trim().parse::<i64>().ok()).max();
            let by = started.unwrap_or(0).saturating_sub(node.created_ms);
            if by > CLOCK_MS {
                let most = ahead.entry(&instance.host).or_default();
                *most = by.max(*most);
            }
        }
    }
    let by = newest.saturating_sub(now_ms);
    if by > CLOCK_MS {
        findings.add(
            Code::Clock,
            &looked.url,
            format!("the registry's is {} s ahead of this host's", by / 1000),
        );
    }
    for (host, by) in ahead {
        findings.add(Code::Clock, host, format!("{} s ahead of the registry's", by / 1000));
    }
}

/// Applications that publish one address in several of the registries that were looked at.
fn several(scene: &Scene<'_>, findings: &mut Findings) {
    let mut registries: BTreeMap<(&str, String), BTreeSet<&str>> = BTreeMap::new();
    for (listed, _, instance) in scene.providers() {
        let key = (application_of(instance), address_of(instance));
        registries.entry(key).or_default().insert(&listed.registry.name);
    }
    for ((application, address), registries) in registries {
        if registries.len() > 1 {
            findings.add(
                Code::SeveralRegistries,
                application,
                format!("{address} in {}", few(&registries)),
            );
        }
    }
}

/// Where Dubbo, SOFARPC and application-level lists stand unless somebody says otherwise.
const USUAL_ROOTS: [&str; 3] = ["/dubbo", "/sofa-rpc", "/services"];
/// Remora's own session at each registry.
const OWN_SESSIONS: u32 = 1;
/// Time between an application's own stamp and its node is measured in milliseconds; NTP keeps clocks within tens of them.
const CLOCK_MS: i64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;
    use remora_naming::dubbo_url;
    use remora_registry::survey::{ServerFacts, Survey, SurveyedList, Unread};
    use remora_registry::{Snapshot, Source, Target};

    fn looked(children: &[&str], limit: Option<u32>) -> Looked {
        let instances = children.iter().map(|child| {
            let child = dubbo_url::encode_component(child);
            dubbo_url::parse_child(&child).unwrap().into()
        });
        let snapshot = Snapshot {
            target: Target::Service {
                namespace: "/shop".into(),
                name: "demo.Echo".into(),
            },
            instances: instances.collect(),
            malformed: Vec::new(),
            foreign: Vec::new(),
            source: Source::Registry,
        };
        let server = ServerFacts {
            address: "zk1:2181".into(),
            max_connections_per_host: limit,
            ..ServerFacts::default()
        };
        Looked {
            name: "default".into(),
            url: "zookeeper://zk1:2181".into(),
            survey: Survey {
                servers: vec![server],
                lists: vec![SurveyedList {
                    nodes: vec![None; snapshot.instances.len()],
                    snapshot,
                    malformed: Vec::new(),
                    is_owned: true,
                    bytes: 0,
                }],
                ..Survey::default()
            },
            elapsed_ms: 0,
        }
    }

    fn found(check: impl FnOnce(&mut Findings)) -> Vec<String> {
        let mut findings = Findings::default();
        check(&mut findings);
        let rows = findings.into_rows();
        let at = rows
            .iter()
            .flat_map(|row| row.at.iter().map(|at| (row.code.number(), at)));
        at.map(|(number, at)| format!("{number} {}: {}", at.subject, at.seen))
            .collect()
    }

    #[test]
    fn sessions_of_a_host_are_held_against_the_least_limit() {
        let one = "dubbo://10.0.0.5:20880/demo.Echo?application=a&pid=1&release=3.3.6";
        // The same process once more, and another.
        let same = "dubbo://10.0.0.5:20890/demo.Echo?application=a&pid=1&release=3.3.6";
        let other = "dubbo://10.0.0.5:20900/demo.Echo?application=b&pid=2&release=2.7.23";
        let all = [one, same, other];
        assert_eq!(found(|f| limits(&looked(&all, Some(4)), f)), [""; 0]);
        let told = ["P103 10.0.0.5: 2 applications take 4 with Remora's own, 3 are let in"];
        assert_eq!(found(|f| limits(&looked(&all, Some(3)), f)), told);
        assert_eq!(found(|f| limits(&looked(&all, Some(0)), f)), [""; 0], "any number");
        let told = ["P308 zookeeper://zk1:2181: 4 connections from 10.0.0.5, the most of all hosts"];
        assert_eq!(found(|f| limits(&looked(&all, None), f)), told);
    }

    #[test]
    fn what_may_not_be_read_counts_where_lists_stand() {
        let mut looked = looked(&[], Some(0));
        let forbidden = |place: &str| Unread {
            place: place.into(),
            is_forbidden: true,
            cause: "no".into(),
        };
        looked.survey.unread = vec![
            forbidden("/shop/demo.B/providers"),
            forbidden("/shopping"),
            forbidden("/dubbo"),
        ];
        looked.survey.left_out = vec!["much".into()];
        let told = found(|f| unread(&looked, f));
        let expected = [
            "P104 /dubbo: no",
            "P104 /shop/demo.B/providers: no",
            "P223 zookeeper://zk1:2181: much",
            "P312 /shopping: no",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_password_in_the_config_centre_is_not_told() {
        let mut looked = looked(&[], Some(0));
        let text = "# x\ndubbo.registries.east.address = zookeeper://u:secret@h:2181\ndubbo.registry.address=\n";
        looked.survey.settings = vec![("/dubbo/config/dubbo/dubbo.properties".into(), text.into())];
        let told = found(|f| settings(&looked, f));
        assert_eq!(
            told,
            ["P105 /dubbo/config/dubbo/dubbo.properties: dubbo.registries.east.address=h:2181"]
        );
    }
}
