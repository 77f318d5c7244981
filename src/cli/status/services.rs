// SPDX-License-Identifier: Apache-2.0
//! Service by service: what stands in the registry, what stands or is handed out instead, and why.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::super::page::{Page, span};
use crate::admin::TakeoverView;
use crate::views::{ServiceListView, ServiceView, ServicesView};

/// What is taken over, in a line or a few.
pub(super) fn takeover(view: &TakeoverView, now_s: u64, out: &mut Page) {
    let count = |side: &str, taken: bool| -> u64 {
        let decided = view.decisions.iter().filter(|d| d.side == side);
        let decided = decided.filter(|d| (d.decision == TAKEN) == taken);
        decided.map(|d| d.count).sum()
    };
    let of = |side: &str| {
        let taken = count(side, true);
        format!("{taken} of {}", taken + count(side, false))
    };
    let mut line = format!(
        "  takeover: {} published entries, {} followed lists",
        of("provider"),
        of("consumer")
    );
    if view.mode != "takeover" || view.side != "both" || view.percent != 100 {
        let (mode, side, percent) = (&view.mode, &view.side, view.percent);
        line.push_str(&format!("; mode {mode}, side {side}, {percent} % of instances"));
    }
    if view.unsettled > 0 {
        line.push_str(&format!("; {} ON THEIR WAY in the registry", view.unsettled));
    }
    out.line(line);
    for (list, rules) in [("allow", &view.allow), ("deny", &view.deny)] {
        for rule in rules {
            let names = match rule.names {
                0 => "names NOTHING here".to_owned(),
                names => format!("names {names} here"),
            };
            out.line(format!("    {list}: {}, {names}", rule.rule));
        }
    }
    if let Some(since) = view.rolled_back_since {
        let ago = span(now_s.saturating_sub(since));
        match view.may_be_removed {
            true => out.line(format!(
                "  ROLLED BACK {ago} ago; nobody calls through here: Remora may be taken away"
            )),
            false => out.line(format!("  ROLLED BACK {ago} ago; before Remora may be taken away:")),
        }
        for what in view.before_removal() {
            out.line(format!("    {what}"));
        }
    }
}

/// The page of services.
pub(super) fn services(view: &ServicesView, out: &mut Page) {
    let rows = view.services.iter().flat_map(|service| {
        let published = service.publishes.iter().map(|p| {
            let state = if p.is_settled {
                String::new()
            } else {
                ", ON ITS WAY".to_owned()
            };
            let instead = match &p.in_registry {
                there if *there == p.own => "as it is".to_owned(),
                there if there.is_empty() => "nothing".to_owned(),
                there => format!("-> {there}"),
            };
            let decision = format!("{}{state}", p.decision);
            vec![
                p.service.clone(),
                "published".to_owned(),
                named(&p.application),
                p.own.clone(),
                instead,
                decision,
            ]
        });
        let followed = service.lists.iter().flat_map(|list| followed(service, list));
        published.chain(followed).collect::<Vec<_>>()
    });
    let shown = view.services.len() as u64;
    let title = match view.total {
        total if total == shown => "Services".to_owned(),
        total => format!(
            "Services {} to {} of {total} (--service, --application, --limit and --offset choose)",
            view.offset + 1.min(shown),
            view.offset + shown
        ),
    };
    let columns = ["service", "", "application", "really at", "instead", "takeover"];
    out.table(&title, &columns, rows);
    let lists = view.services.iter().flat_map(|service| &service.lists);
    if lists
        .clone()
        .any(|list| list.real.iter().any(|real| real.is_taken_over))
    {
        out.line("  *: the ingress of a Remora".to_owned());
    }
    let handed_out = lists.flat_map(|list| &list.followers).flat_map(|f| &f.handed_out);
    let hosts: BTreeSet<String> = handed_out
        .map(|entry| address(entry))
        .filter_map(|address| Some(address.rsplit_once(':')?.0.to_owned()))
        .collect();
    for host in hosts {
        if let Some(what) = egress_name(&host) {
            out.line(format!("  {host}: {what}"));
        }
    }
}

/// What an egress address is that does not look like 127.0.0.1.
fn egress_name(host: &str) -> Option<String> {
    let plain = host.parse::<u32>().map(Ipv4Addr::from);
    let ip = plain.clone().or_else(|_| host.parse::<Ipv4Addr>()).ok()?;
    if !ip.is_loopback() {
        return None;
    }
    let alias = match ip == Ipv4Addr::LOCALHOST {
        true => "",
        false => "another name of 127.0.0.1, so that Dubbo 3 connects at once after a restart of Remora",
    };
    match (plain.is_ok(), alias) {
        (true, "") => Some(format!("{ip}, as Java Dubbo dials it")),
        (true, alias) => Some(format!("{ip}, as Java Dubbo dials it; {alias}")),
        (false, "") => None,
        (false, alias) => Some(alias.to_owned()),
    }
}

fn followed(service: &ServiceView, list: &ServiceListView) -> Vec<Vec<String>> {
    let really = some(list.real.iter().map(|real| match real.is_taken_over {
        true => format!("{}*", real.address),
        false => real.address.clone(),
    }));
    let really = match (list.source.as_str(), list.held) {
        ("registry", 0) => really,
        (source, held) => format!("{really} ({source}, {held} held)"),
    };
    let rows = list.followers.iter().map(|follower| {
        let instead = match follower.decision == TAKEN {
            true => format!("-> {}", some(follower.handed_out.iter().map(|entry| address(entry)))),
            false => "as it is".to_owned(),
        };
        vec![
            service.name.clone(),
            "followed".to_owned(),
            named(&follower.application),
            really.clone(),
            instead,
            follower.decision.clone(),
        ]
    });
    rows.collect()
}

/// The first, and how many more.
fn some(mut of: impl Iterator<Item = String>) -> String {
    let Some(first) = of.next() else {
        return "nobody".to_owned();
    };
    match of.count() {
        0 => first,
        more => format!("{first} +{more}"),
    }
}

/// `host:port` of `protocol://host:port/service`.
fn address(entry: &str) -> String {
    let rest = entry.split_once("://").map_or(entry, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest).to_owned()
}

fn named(application: &str) -> String {
    match application {
        "" => "?".to_owned(),
        name => name.to_owned(),
    }
}

/// The word for what is taken over.
const TAKEN: &str = "taken_over";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{DecisionsView, RuleUseView};
    use crate::views::{FollowerView, RealView, ServicePublishedView};

    fn decided(side: &str, decision: &str, count: u64) -> DecisionsView {
        DecisionsView {
            side: side.to_owned(),
            decision: decision.to_owned(),
            count,
        }
    }

    #[test]
    fn both_views_of_a_service_stand_side_by_side() {
        let view = ServicesView {
            services: vec![ServiceView {
                level: "service".to_owned(),
                name: "demo.Echo".to_owned(),
                publishes: vec![ServicePublishedView {
                    application: "orders".to_owned(),
                    service: "demo.Echo:1.0.0".to_owned(),
                    own: "10.0.0.5:20880".to_owned(),
                    in_registry: "10.0.0.5:20881".to_owned(),
                    decision: "taken_over".to_owned(),
                    is_settled: false,
                    ..ServicePublishedView::default()
                }],
                lists: vec![ServiceListView {
                    source: "registry".to_owned(),
                    real: [("10.0.0.5:20881", true), ("10.0.0.6:20880", false)]
                        .map(|(address, is_taken_over)| RealView {
                            address: address.to_owned(),
                            is_taken_over,
                            ..RealView::default()
                        })
                        .to_vec(),
                    followers: [("shop", "taken_over"), ("till", "not_allowed")]
                        .map(|(application, decision)| FollowerView {
                            application: application.to_owned(),
                            decision: decision.to_owned(),
                            handed_out: vec!["dubbo://2130706433:20882/demo.Echo:1.0.0".to_owned()],
                            ..FollowerView::default()
                        })
                        .to_vec(),
                    ..ServiceListView::default()
                }],
                ..ServiceView::default()
            }],
            total: 7,
            offset: 3,
        };
        let mut page = Page::default();
        services(&view, &mut page);
        for expected in [
            "Services 4 to 4 of 7 (--service,",
            "demo.Echo:1.0.0  published  orders       10.0.0.5:20880      -> 10.0.0.5:20881    taken_over, ON ITS WAY",
            "demo.Echo        followed   shop         10.0.0.5:20881* +1  -> 2130706433:20882  taken_over",
            "demo.Echo        followed   till         10.0.0.5:20881* +1  as it is             not_allowed",
            "  *: the ingress of a Remora\n  2130706433: 127.0.0.1, as Java Dubbo dials it\n",
        ] {
            assert!(page.text.contains(expected), "{expected} in\n{}", page.text);
        }
    }

    #[test]
    fn an_egress_address_that_looks_strange_is_explained() {
        assert_eq!(egress_name("127.0.0.1"), None);
        assert_eq!(egress_name("10.0.0.5"), None);
        assert_eq!(egress_name("2130706433").unwrap(), "127.0.0.1, as Java Dubbo dials it");
        assert!(
            egress_name("2130706434")
                .unwrap()
                .starts_with("127.0.0.2, as Java Dubbo dials it; another name")
        );
        assert!(
            egress_name("127.0.0.3")
                .unwrap()
                .starts_with("another name of 127.0.0.1")
        );
    }

    #[test]
    fn a_rule_that_names_nothing_and_entries_on_their_way_are_loud() {
        let view = TakeoverView {
            mode: "observe".to_owned(),
            side: "consumer".to_owned(),
            percent: 10,
            allow: vec![RuleUseView {
                rule: "service: demo.Ecco".to_owned(),
                names: 0,
            }],
            decisions: vec![decided("provider", "other_side", 2), decided("consumer", "observed", 3)],
            unsettled: 1,
            ..TakeoverView::default()
        };
        let mut page = Page::default();
        takeover(&view, 0, &mut page);
        for expected in [
            "takeover: 0 of 2 published entries, 0 of 3 followed lists; mode observe, side consumer, 10 % of instances; 1 ON THEIR WAY",
            "allow: service: demo.Ecco, names NOTHING here",
        ] {
            assert!(page.text.contains(expected), "{expected} in\n{}", page.text);
        }
    }

    #[test]
    fn after_a_rollback_the_page_says_whether_remora_may_go() {
        let mut view = TakeoverView {
            rolled_back_since: Some(1000),
            waits_for: vec!["2 calls have no reply yet".to_owned()],
            applications: vec!["shop".to_owned()],
            ..TakeoverView::default()
        };
        let said = |view: &TakeoverView| {
            let mut page = Page::default();
            takeover(view, 1065, &mut page);
            page.text
        };
        let text = said(&view);
        assert!(
            text.contains("ROLLED BACK 1m05s ago; before Remora may be taken away:\n    2 calls"),
            "{text}"
        );
        assert!(text.contains("own address: shop\n"), "{text}");
        (view.may_be_removed, view.waits_for, view.applications) = (true, vec![], vec![]);
        assert!(said(&view).contains("Remora may be taken away\n"), "{}", said(&view));
    }
}
