// SPDX-License-Identifier: Apache-2.0
//! Topologies for a terminal.

use super::super::page::{Page, span};
use super::{Remora, Topology};
use crate::admin::{CallerView, TopologyView};

pub(super) fn text(topology: &Topology) -> String {
    let mut out = Page::default();
    for (number, remora) in topology.remoras.iter().enumerate() {
        if number > 0 {
            out.line(String::new());
        }
        one(remora, &mut out);
    }
    out.text
}

fn one(remora: &Remora, out: &mut Page) {
    let view = &remora.view;
    let hosts = match view.hosts.first() {
        Some(host) => format!(" on {host}"),
        None => String::new(),
    };
    let counted = span(view.counted_for_s);
    out.line(format!(
        "remora {} at {}{hosts}, calls of the last {counted}",
        view.version, remora.admin
    ));
    applications(view, out);
    calls_out(view, out);
    calls_in(view, out);
    if view.out.is_empty() && view.into.is_empty() {
        out.line(String::new());
        out.line("No calls yet.".to_owned());
    }
    if view.others > 0 {
        out.line(format!(
            "{} calls of callers that had no room in the count",
            view.others
        ));
    }
    if view.left_out > 0 {
        out.line(format!(
            "{} services more; --limit, --offset, --service and --application choose",
            view.left_out
        ));
    }
}

fn applications(view: &TopologyView, out: &mut Page) {
    let rows = view.applications.iter().map(|a| {
        let (publishes, follows) = (a.publishes.to_string(), a.follows.to_string());
        let door = format!("{} {}", a.facade, a.peer);
        vec![known(&a.application), known(&a.framework), door, publishes, follows]
    });
    let columns = ["application", "framework", "door", "publishes", "follows"];
    out.table("Applications here", &columns, rows);
}

fn calls_out(view: &TopologyView, out: &mut Page) {
    let rows = view.out.iter().flat_map(|row| {
        let service = known(&row.service);
        row.consumers.iter().map(move |c| {
            let (calls, last) = (c.calls.to_string(), ago(c.last_s));
            vec![named(c), known(&c.framework), service.clone(), calls, last]
        })
    });
    let columns = ["consumer", "framework", "service", "calls", "last"];
    out.table("Calls out: who calls", &columns, rows);
    let rows = view.out.iter().flat_map(|row| {
        let service = known(&row.service);
        let nobody = (row.unplaced > 0).then(|| {
            let mut nobody = vec![service.clone(), "nobody".to_owned()];
            nobody.extend([String::new(), String::new(), String::new(), String::new()]);
            nobody.extend([row.unplaced.to_string(), String::new()]);
            nobody
        });
        let some = row.instances.iter().map(|i| {
            vec![
                service.clone(),
                known(&i.application),
                i.address.clone(),
                known(&i.framework),
                i.through.clone(),
                i.calls.to_string(),
                i.errors.to_string(),
                ago(i.last_s),
            ]
        });
        some.chain(nobody).collect::<Vec<_>>()
    });
    let columns = [
        "service",
        "provider",
        "instance",
        "framework",
        "through",
        "calls",
        "errors",
        "last",
    ];
    out.table("Calls out: where they go", &columns, rows);
}

fn calls_in(view: &TopologyView, out: &mut Page) {
    let rows = view.into.iter().flat_map(|row| {
        let line = |who: String, from: &str, calls: u64, last_s: Option<u64>| {
            vec![
                who,
                from.to_owned(),
                known(&row.service),
                known(&row.application),
                format!("{} <- :{}", known(&row.address), row.ingress),
                calls.to_string(),
                ago(last_s),
            ]
        };
        let nobody = row.consumers.is_empty().then(|| line("nobody".to_owned(), "", 0, None));
        let some = row.consumers.iter().map(|c| line(named(c), &c.host, c.calls, c.last_s));
        some.chain(nobody).collect::<Vec<_>>()
    });
    let columns = ["consumer", "from", "service", "provider", "at", "calls", "last"];
    out.table("Calls in", &columns, rows);
}

fn named(caller: &CallerView) -> String {
    match (caller.application.as_str(), caller.known_by.as_str()) {
        ("", _) => "?".to_owned(),
        (name, "follows") => format!("{name} (follows it)"),
        (name, _) => name.to_owned(),
    }
}

fn known(text: &str) -> String {
    match text {
        "" => "?".to_owned(),
        text => text.to_owned(),
    }
}

fn ago(seconds: Option<u64>) -> String {
    match seconds {
        None => "never".to_owned(),
        Some(seconds) => format!("{} ago", span(seconds)),
    }
}
