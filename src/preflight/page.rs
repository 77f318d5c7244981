// SPDX-License-Identifier: Apache-2.0
//! The report for people: registries, applications, services before -> after, findings with the gravest first, the verdict.

use std::collections::BTreeSet;
use std::fmt::Write as _;

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
        let _ = writeln!(out, "registry {}: {}", registry.name, registry.url);
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
            let _ = writeln!(out, "  {}  {what}{limit}", server.address);
        }
        let kib = registry.bytes >> 10;
        let _ = writeln!(
            out,
            "  {} reads, {kib} KiB, {} ms; nothing was written",
            registry.reads, registry.elapsed_ms
        );
    }
}

fn applications(out: &mut String, applications: &[Application], detail: Detail) {
    let _ = writeln!(out, "\napplications: {}", applications.len());
    let (shown, left) = detail.cut(applications, APPLICATIONS);
    for application in shown {
        let name = if application.name.is_empty() {
            "(no name)"
        } else {
            &application.name
        };
        let _ = writeln!(
            out,
            "  {name}  {}; provides {}, consumes {}; on {}",
            joined(&application.frameworks, "framework unknown"),
            application.provides.len(),
            application.consumes.len(),
            joined(&application.hosts, "no host"),
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
    let _ = writeln!(
        out,
        "\nlists: {}, with {providers} providers, of which {taken} would be taken over",
        services.len()
    );
    let (shown, left) = detail.cut(services, SERVICES);
    for service in shown {
        let kind = match (service.is_application, service.framework) {
            (true, _) => "application",
            (false, framework) => framework,
        };
        let consumers: BTreeSet<String> = service.consumers.iter().map(|c| c.application.clone()).collect();
        let _ = writeln!(
            out,
            "  {kind} {}/{}  consumers: {}",
            service.namespace.trim_end_matches('/'),
            service.name,
            joined(&consumers, "none")
        );
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
            let _ = writeln!(
                out,
                "    published  {} {} {change}  ({})",
                provider.protocol,
                provider.before,
                [&[provider.service.as_str()], &who[..]].concat().join(", ")
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
            let _ = writeln!(
                out,
                "    handed out {} {} {stands}  ({})",
                entry.protocol, entry.address, entry.service
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
    let _ = writeln!(out, "\n{heading}");
    for finding in of {
        let number = finding.at.len();
        let _ = writeln!(
            out,
            "  {} {} ({number}): {}",
            finding.code.number(),
            finding.name,
            finding.title
        );
        let (shown, left) = detail.cut(&finding.at, PLACES);
        for at in shown {
            let _ = writeln!(out, "      {}: {}", at.subject, at.seen);
        }
        more(out, left);
        let _ = writeln!(out, "    do: {}", finding.advice);
    }
}

fn verdict(out: &mut String, report: &Report) {
    let count = |severity: Severity| {
        let of = report.findings.iter().filter(move |f| f.severity == severity);
        of.map(|f| f.at.len()).sum::<usize>()
    };
    let _ = writeln!(
        out,
        "\n{}: {} in the way, {} warnings, {} notes; docs/preflight.md explains each",
        report.verdict.words(),
        count(Severity::NotReady),
        count(Severity::Warning),
        count(Severity::Note)
    );
}

fn more(out: &mut String, left: usize) {
    if left > 0 {
        let _ = writeln!(out, "      and {left} more (--all shows them)");
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
