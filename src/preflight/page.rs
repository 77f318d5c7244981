// SPDX-License-Identifier: Apache-2.0
//! The report for people: registries, applications, services before -> after, findings with the gravest first, the verdict.

use std::collections::BTreeSet;

use super::codes::Severity;
use super::report::{Application, Finding, Report, Service};

/// How much is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The first few of long lists.
    Short,
    /// Everything.
    All,
}

impl Detail {
    /// The front of a list, and how many are left.
    fn cut<T>(self, all: &[T], shown: usize) -> (&[T], usize) {
        match self {
            Self::All => (all, 0),
            Self::Short => {
                let front = all.get(..shown.min(all.len())).unwrap_or_default();
                (front, all.len() - front.len())
            }
        }
    }
}

/// Prints it.
pub fn page(report: &Report, detail: Detail) -> String {
    let mut out = String::new();
    registries(&mut out, report);
    applications(&mut out, &report.applications, detail);
    services(&mut out, &report.services, detail);
    for severity in [Severity::NotReady, Severity::Warning, Severity::Note] {
        findings(&mut out, severity, &report.findings, detail);
    }
    verdict(&mut out, report);
    out
}

fn registries(out: &mut String, report: &Report) {
    for registry in &report.registries {
        line(out, &format!("registry {}: {}", registry.name, registry.url));
        for server in &registry.servers {
            let what = if server.what.is_empty() {
                "does not say what it is"
            } else {
                &server.what
            };
            let limit = match server.max_connections_per_host {
                Some(0) => ", any number of connections from one host".to_owned(),
                Some(limit) => format!(", {limit} connections from one host"),
                None => String::new(),
            };
            line(out, &format!("  {}  {what}{limit}", server.address));
        }
        let kib = registry.bytes >> 10;
        line(
            out,
            &format!(
                "  {} reads, {kib} KiB, {} ms; nothing was written",
                registry.reads, registry.elapsed_ms
            ),
        );
    }
}

fn applications(out: &mut String, applications: &[Application], detail: Detail) {
    out.push('\n');
    line(out, &format!("applications: {}", applications.len()));
    let (shown, left) = detail.cut(applications, APPLICATIONS);
    for application in shown {
        let name = if application.name.is_empty() {
            "(no name)"
        } else {
            &application.name
        };
        line(
            out,
            &format!(
                "  {name}  {}; provides {}, consumes {}; on {}",
                joined(&application.frameworks, "framework unknown"),
                application.provides.len(),
                application.consumes.len(),
                joined(&application.hosts, "no host")
            ),
        );
    }
    more(out, left);
}

fn services(out: &mut String, services: &[Service], detail: Detail) {
    let providers: usize = services.iter().map(|s| s.providers.len()).sum();
    let taken = services
        .iter()
        .flat_map(|s| &s.providers)
        .filter(|p| p.left.is_none())
        .count();
    out.push('\n');
    line(
        out,
        &format!(
            "lists: {}, with {providers} providers, of which {taken} would be taken over",
            services.len()
        ),
    );
    let (shown, left) = detail.cut(services, SERVICES);
    for service in shown {
        let kind = match (service.is_application, service.framework) {
            (true, _) => "application",
            (false, framework) => framework,
        };
        let consumers: BTreeSet<String> = service.consumers.iter().map(|c| c.application.clone()).collect();
        line(
            out,
            &format!(
                "  {kind} {}/{}  consumers: {}",
                service.namespace.trim_end_matches('/'),
                service.name,
                joined(&consumers, "none")
            ),
        );
        let as_it_is: BTreeSet<String> = service
            .consumers
            .iter()
            .filter(|c| c.left.is_some())
            .map(|c| format!("{} at {}", c.application, c.host))
            .collect();
        if !as_it_is.is_empty() {
            let who = joined(&as_it_is, "");
            line(out, &format!("    shown as it is to {who} (P311)"));
        }
        let (providers, left) = detail.cut(&service.providers, ENTRIES);
        for provider in providers {
            let who = [provider.application.as_str(), &provider.framework]
                .into_iter()
                .filter(|w| !w.is_empty());
            let who: Vec<&str> = who.collect();
            let change = match &provider.left {
                None => format!("-> {}", provider.after),
                Some(why) => format!("stays: {why}"),
            };
            line(
                out,
                &format!(
                    "    published  {} {} {change}  ({})",
                    provider.protocol,
                    provider.before,
                    [&[provider.service.as_str()], &who[..]].concat().join(", ")
                ),
            );
        }
        more(out, left);
        let (handed, left) = detail.cut(&service.handed, ENTRIES);
        for entry in handed {
            let stands = match entry.stands_for {
                Some(1) => "for 1 provider".to_owned(),
                Some(number) => format!("for {number} providers"),
                None => "as it is".to_owned(),
            };
            line(
                out,
                &format!(
                    "    handed out {} {} {stands}  ({})",
                    entry.protocol, entry.address, entry.service
                ),
            );
        }
        more(out, left);
    }
    more(out, left);
}

fn findings(out: &mut String, severity: Severity, findings: &[Finding], detail: Detail) {
    let of: Vec<&Finding> = findings.iter().filter(|finding| finding.severity == severity).collect();
    if of.is_empty() {
        return;
    }
    let heading = match severity {
        Severity::NotReady => "not ready",
        Severity::Warning => "warnings",
        Severity::Note => "notes",
    };
    out.push('\n');
    line(out, heading);
    for finding in of {
        let number = finding.at.len();
        line(
            out,
            &format!(
                "  {} {} ({number}): {}",
                finding.code.number(),
                finding.name,
                finding.title
            ),
        );
        let (shown, left) = detail.cut(&finding.at, PLACES);
        for at in shown {
            line(out, &format!("      {}: {}", at.subject, at.seen));
        }
        more(out, left);
        line(out, &format!("    do: {}", finding.advice));
    }
}

fn verdict(out: &mut String, report: &Report) {
    let count = |severity: Severity| {
        let of = report.findings.iter().filter(move |f| f.severity == severity);
        of.map(|f| f.at.len()).sum::<usize>()
    };
    out.push('\n');
    line(
        out,
        &format!(
            "{}: {} in the way, {} warnings, {} notes; docs/preflight.md explains each",
            report.verdict.words(),
            count(Severity::NotReady),
            count(Severity::Warning),
            count(Severity::Note)
        ),
    );
}

/// One line, whatever stands in it: names in a shared registry are anybody's.
fn line(out: &mut String, text: &str) {
    out.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
    out.push('\n');
}

fn more(out: &mut String, left: usize) {
    if left > 0 {
        line(out, &format!("      and {left} more (--all shows them)"));
    }
}

fn joined(all: &BTreeSet<String>, none: &str) -> String {
    const SHOWN: usize = 4;
    match all.len() {
        0 => none.to_owned(),
        1..=SHOWN => all.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
        number => {
            let front: Vec<&str> = all.iter().take(SHOWN).map(String::as_str).collect();
            format!("{} and {} more", front.join(", "), number - SHOWN)
        }
    }
}

const APPLICATIONS: usize = 20;
const SERVICES: usize = 10;
const ENTRIES: usize = 3;
const PLACES: usize = 5;

#[cfg(test)]
mod tests {
    use super::super::report::{Findings, RegistryRow, ServerRow};
    use super::*;
    use crate::preflight::codes::Code;

    #[test]
    fn names_of_the_registry_command_no_terminal_and_begin_no_line() {
        let hostile = || "a\x1b]0;x\x07\u{9b}2J\nready: 0 in the way".to_owned();
        let mut findings = Findings::default();
        findings.add(Code::Unreadable, hostile(), hostile());
        let report = Report {
            verdict: findings.verdict(),
            registries: vec![RegistryRow {
                name: "default".to_owned(),
                url: hostile(),
                servers: vec![ServerRow {
                    address: hostile(),
                    what: hostile(),
                    max_connections_per_host: None,
                }],
                reads: 1,
                bytes: 1,
                elapsed_ms: 1,
            }],
            applications: vec![Application {
                name: hostile(),
                frameworks: [hostile()].into(),
                hosts: [hostile()].into(),
                ..Application::default()
            }],
            services: vec![Service {
                registry: hostile(),
                name: hostile(),
                namespace: hostile(),
                is_application: false,
                framework: "Dubbo",
                providers: Vec::new(),
                consumers: Vec::new(),
                handed: Vec::new(),
            }],
            findings: findings.into_rows(),
        };
        let page = page(&report, Detail::All);
        assert!(page.contains("ready: 0 in the way"));
        for line in page.lines() {
            assert!(
                !line.starts_with("ready:") && !line.contains(char::is_control),
                "{line:?}"
            );
        }
    }
}
