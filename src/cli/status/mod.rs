// SPDX-License-Identifier: Apache-2.0
//! `remora status`: what the admin pages say, in columns that fit a terminal.

mod services;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::page::{Page, span};
use crate::admin::{CallsView, CatalogView, Client, ConnectionsView, Filter, TakeoverView};
use crate::lifecycle::ReadinessReport;
use crate::views::{OddView, PublishedView, ServicesView};

/// All that `--json` prints.
#[derive(Debug, Serialize, Deserialize)]
struct Status {
    readiness: ReadinessReport,
    catalog: CatalogView,
    connections: ConnectionsView,
    #[serde(default)]
    takeover: TakeoverView,
    #[serde(default)]
    services: ServicesView,
}

pub(super) async fn status(client: Client, json: bool, mut filter: Filter) -> anyhow::Result<()> {
    if !json {
        filter.limit.get_or_insert(SERVICES_SHOWN);
    }
    let page = match filter.query().as_str() {
        "" => "/services".to_owned(),
        query => format!("/services?{query}"),
    };
    let mut status = Status {
        readiness: client.json("/readyz").await?,
        catalog: client.json("/catalog").await?,
        connections: client.json("/connections").await?,
        takeover: client.json_if_there("/takeover").await?,
        services: client.json_if_there(&page).await?,
    };
    narrow(&mut status.catalog, &filter);
    match json {
        true => super::print(&format!("{}\n", serde_json::to_string_pretty(&status)?))?,
        false => super::print(&text(&status, &filter))?,
    }
    Ok(())
}

/// Leaves what was asked for.
fn narrow(catalog: &mut CatalogView, filter: &Filter) {
    catalog.leases.retain(|lease| {
        filter.has_application(std::iter::once(&*lease.application))
            && (filter.service.is_none() || lease.publishes.iter().any(|p| filter.has_service(&p.service)))
    });
    catalog.lists.retain(|list| {
        filter.has_service(&list.name)
            && filter.has_application(list.followers.iter().map(String::as_str).chain([&*list.name]))
    });
    catalog.routes.retain(|route| {
        let provides = route.instances.iter().map(|instance| &*instance.application);
        filter.has_service(&route.service) && filter.has_application(provides)
    });
}

fn text(status: &Status, filter: &Filter) -> String {
    let mut out = Page::default();
    head(status, &mut out);
    services::services(&status.services, &mut out);
    if status.services.total == 0 && (filter.service.is_some() || filter.application.is_some()) {
        out.line(String::new());
        out.line("No service of this name is published or followed here.".to_owned());
    }
    applications(&status.catalog, &mut out);
    routes(&status.catalog, &mut out);
    connections(&status.connections, &mut out);
    oddities(&status.catalog, &mut out);
    out.text
}

fn head(status: &Status, out: &mut Page) {
    let readiness = &status.readiness;
    let state = if readiness.ready { "ready" } else { "NOT READY" };
    out.line(format!(
        "remora {}, up {}, {state}",
        status.catalog.version,
        span(status.catalog.uptime_s)
    ));
    for reason in &readiness.reasons {
        out.line(format!("  because: {reason}"));
    }
    for note in &readiness.notes {
        out.line(format!("  note: {note}"));
    }
    if let Some(reload) = &status.catalog.reload {
        let keys = |what: &str, keys: &[String]| match keys.is_empty() {
            true => String::new(),
            false => format!("; {what}: {}", keys.join(" ")),
        };
        out.line(format!(
            "  configuration: last read {} ago, {}{}{}",
            span(now_s().saturating_sub(reload.at_s)),
            reload.outcome.label(),
            keys("waiting for a restart", &reload.restart),
            keys("problems", &reload.problems),
        ));
    }
    services::takeover(&status.takeover, now_s(), out);
    let rows = status.catalog.registries.iter().flat_map(|r| {
        let state = match r.cause.is_empty() {
            true => format!("{} for {}", r.state, span(r.for_s)),
            false => format!("{} for {}: {}", r.state, span(r.for_s), r.cause),
        };
        let first = r.facades.first().map_or("none", String::as_str);
        let mut rows = vec![vec![r.name.clone(), r.url.clone(), first.to_owned(), state]];
        let further = r.facades.iter().skip(1);
        rows.extend(further.map(|door| vec![String::new(), String::new(), door.clone(), String::new()]));
        rows
    });
    out.table("Registries", &["name", "registry", "doors", "state"], rows);
}

/// Services of a page for a terminal, unless more are asked for.
const SERVICES_SHOWN: usize = 100;

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn applications(catalog: &CatalogView, out: &mut Page) {
    let rows = catalog.leases.iter().map(|l| {
        let name = if l.application.is_empty() { "?" } else { &l.application };
        let (publishes, follows) = (l.publishes.len().to_string(), l.follows.to_string());
        vec![
            name.to_owned(),
            l.facade.clone(),
            l.registry.clone(),
            l.peer.clone(),
            publishes,
            follows,
        ]
    });
    let columns = ["application", "door", "registry", "from", "publishes", "follows"];
    out.table("Applications", &columns, rows);
    let rows = catalog.leases.iter().flat_map(|l| {
        l.publishes.iter().map(|p| {
            vec![
                l.application.clone(),
                p.service.clone(),
                p.own.clone(),
                format!("-> {}", p.published),
                how_far(p),
            ]
        })
    });
    out.table(
        "Published",
        &["application", "service", "its own address", "in the registry", "by"],
        rows,
    );
    let rows = catalog.withdrawing.iter().map(|w| {
        let why = if w.error.is_empty() { "in a moment" } else { &w.error };
        vec![w.list.clone(), w.published.clone(), span(w.for_s), why.to_owned()]
    });
    out.table(
        "No longer wanted, still in the registry",
        &["list", "address", "since", "why"],
        rows,
    );
    let rows = catalog.lists.iter().map(|l| {
        let followers = if l.followers.is_empty() {
            "nobody now".to_owned()
        } else {
            l.followers.join(" ")
        };
        let providers = format!("{} ({} through a Remora)", l.providers, l.taken_over);
        let source = match l.held {
            0 => l.source.clone(),
            held => format!("{}, {held} HELD", l.source),
        };
        vec![format!("{} {}", l.level, l.name), followers, providers, source]
    });
    out.table("Followed", &["list", "by", "providers", "as of"], rows);
}

/// Who holds a publication in the registry, and how far that is.
fn how_far(published: &PublishedView) -> String {
    match (published.state.as_str(), published.error.as_str()) {
        ("application", _) => "its own session".to_owned(),
        ("published", _) => "Remora".to_owned(),
        (state, "") => format!("Remora, {}", state.to_uppercase()),
        (state, error) => format!("Remora, {}: {error}", state.to_uppercase()),
    }
}

fn routes(catalog: &CatalogView, out: &mut Page) {
    let rows = catalog.routes.iter().flat_map(|r| {
        let nobody = r
            .instances
            .is_empty()
            .then(|| vec![r.service.clone(), "nobody".to_owned()]);
        let some = r.instances.iter().map(|i| {
            vec![
                r.service.clone(),
                i.address.clone(),
                i.protocol.clone(),
                i.weight.to_string(),
                i.application.clone(),
            ]
        });
        nobody.into_iter().chain(some).collect::<Vec<_>>()
    });
    out.table(
        "Routes",
        &["service", "instance", "protocol", "weight", "application"],
        rows,
    );
}

fn connections(view: &ConnectionsView, out: &mut Page) {
    let rows = view
        .listeners
        .iter()
        .map(|l| vec![l.side.clone(), l.protocol.clone(), l.address.clone(), l.app.clone()]);
    out.table("Ports", &["side", "protocol", "listens on", "application at"], rows);
    let rows = view.calls.iter().map(|c| {
        let bad = c
            .outcomes
            .iter()
            .filter(|(o, n)| *n > 0 && !CallsView::GOOD.contains(&o.as_str()));
        let bad: Vec<String> = bad.map(|(o, n)| format!("{o} {n}")).collect();
        vec![
            c.side.clone(),
            c.protocol.clone(),
            c.total().to_string(),
            c.errors().to_string(),
            bad.join(", "),
        ]
    });
    out.table("Calls", &["side", "protocol", "calls", "errors", "which"], rows);
    let rows = view.connections.iter().map(|c| {
        vec![
            c.side.clone(),
            c.direction.clone(),
            c.protocol.clone(),
            c.peer.clone(),
            c.in_flight.to_string(),
        ]
    });
    out.table(
        "Connections",
        &["side", "direction", "protocol", "peer", "in flight"],
        rows,
    );
    if view.left_out > 0 {
        out.line(format!("  and {} more", view.left_out));
    }
}

fn oddities(catalog: &CatalogView, out: &mut Page) {
    let rows = catalog
        .rules_not_applied
        .iter()
        .map(|r| vec![r.about.clone(), r.kind.clone(), r.text.clone(), r.consequence.clone()]);
    out.table(
        "Rules NOT APPLIED (by Remora, nor by the applications)",
        &["about", "kind", "says", "so"],
        rows,
    );
    let odd = |o: &OddView| vec![o.list.clone(), o.entry.clone(), o.why.clone()];
    let columns = ["list", "entry", "why"];
    out.table(
        "Malformed entries, skipped",
        &columns,
        catalog.malformed.iter().map(odd),
    );
    out.table(
        "Refused addresses, never dialled",
        &columns,
        catalog.refused.iter().map(odd),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{InstanceView, RegistryView, RouteView};
    use crate::views::{LeaseView, RuleView, WithdrawalView};

    #[test]
    fn the_page_shows_before_and_after_and_what_is_wrong() {
        let status = Status {
            readiness: ReadinessReport {
                ready: true,
                reasons: vec![],
                notes: vec!["registry default: down for 5 s: refused; serving last known lists".to_owned()],
            },
            catalog: CatalogView {
                version: "0.1.0".to_owned(),
                uptime_s: 75,
                registries: vec![RegistryView {
                    name: "default".to_owned(),
                    url: "zookeeper://zk:2181".to_owned(),
                    state: "down".to_owned(),
                    for_s: 5,
                    cause: "refused".to_owned(),
                    facades: vec!["zookeeper 127.0.0.1:2181".to_owned()],
                }],
                leases: vec![LeaseView {
                    application: "shop".to_owned(),
                    facade: "zookeeper".to_owned(),
                    publishes: vec![PublishedView {
                        service: "a.B:1.0.0".to_owned(),
                        protocol: "dubbo".to_owned(),
                        own: "10.0.0.5:20880".to_owned(),
                        published: "10.0.0.5:20881".to_owned(),
                        state: "waiting".to_owned(),
                        error: "connection refused".to_owned(),
                    }],
                    ..LeaseView::default()
                }],
                withdrawing: vec![WithdrawalView {
                    list: "service /dubbo/a.Gone".to_owned(),
                    published: "10.0.0.5:20900".to_owned(),
                    for_s: 4,
                    ..WithdrawalView::default()
                }],
                routes: vec![
                    RouteView {
                        service: "c.D".to_owned(),
                        instances: vec![],
                    },
                    RouteView {
                        service: "a.B:1.0.0".to_owned(),
                        instances: vec![InstanceView {
                            address: "10.0.0.5:20881".to_owned(),
                            protocol: "dubbo".to_owned(),
                            weight: 100,
                            application: "shop".to_owned(),
                        }],
                    },
                ],
                rules_not_applied: vec![RuleView {
                    kind: "tag".to_owned(),
                    place: "/dubbo/config/dubbo/shop.tag-router".to_owned(),
                    why: "names hosts".to_owned(),
                    text: "tags: gray".to_owned(),
                    about: "application shop".to_owned(),
                    consequence: "calls with its tags go anywhere".to_owned(),
                }],
                ..CatalogView::default()
            },
            connections: ConnectionsView {
                calls: vec![CallsView {
                    side: "egress".to_owned(),
                    protocol: "dubbo".to_owned(),
                    outcomes: vec![
                        ("ok".to_owned(), 40),
                        ("app_exception".to_owned(), 1),
                        ("timeout".to_owned(), 2),
                    ],
                }],
                ..ConnectionsView::default()
            },
            takeover: TakeoverView::default(),
            services: ServicesView::default(),
        };
        let text = text(&status, &Filter::default());
        for expected in [
            "remora 0.1.0, up 1m15s, ready",
            "serving last known lists",
            "a.B:1.0.0  10.0.0.5:20880   -> 10.0.0.5:20881  Remora, WAITING: connection refused",
            "service /dubbo/a.Gone  10.0.0.5:20900  4s     in a moment",
            "c.D        nobody",
            "egress  dubbo     43     2       timeout 2",
            "Rules NOT APPLIED",
            "application shop  tag   tags: gray  calls with its tags go anywhere",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }
}
