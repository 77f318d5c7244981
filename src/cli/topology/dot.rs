// SPDX-License-Identifier: Apache-2.0
//! A graph in Graphviz's language: applications are ellipses, services boxes. A line to a provider is solid where its calls go
//! through a Remora there, dashed where they go to it directly, and red where calls failed.

use super::graph::{Calls, Graph};

pub(super) fn dot(graph: &Graph) -> String {
    let mut out = String::from("digraph remora {\n  rankdir=LR;\n  node [fontname=\"sans-serif\", fontsize=11];\n");
    out.push_str("  edge [fontname=\"sans-serif\", fontsize=9];\n");
    for (name, framework) in &graph.applications {
        let label = match framework.as_str() {
            "" => name.clone(),
            framework => format!("{name}\n{framework}"),
        };
        out.push_str(&format!("  {} [label={}];\n", application(name), quoted(&label)));
    }
    for name in &graph.services {
        out.push_str(&format!("  {} [shape=box, label={}];\n", service(name), quoted(name)));
    }
    for ((caller, called), calls) in &graph.calls {
        let label = quoted(&count(calls));
        out.push_str(&format!(
            "  {} -> {} [label={label}];\n",
            application(caller),
            service(called)
        ));
    }
    for ((called, provider, through), calls) in &graph.goes_to {
        let instances = match calls.instances {
            0 | 1 => String::new(),
            some => format!("\n{some} instances"),
        };
        let label = quoted(&format!("{}\n{through}{instances}", count(calls)));
        let style = match through.as_str() {
            "remora" | "ingress" => "solid",
            "gone" => "dotted",
            _ => "dashed",
        };
        let colour = if calls.errors > 0 { ", color=red" } else { "" };
        let (from, to) = (service(called), application(provider));
        out.push_str(&format!("  {from} -> {to} [label={label}, style={style}{colour}];\n"));
    }
    out.push_str("}\n");
    out
}

fn count(calls: &Calls) -> String {
    match (calls.calls, calls.errors) {
        (calls, 0) => format!("{calls} calls"),
        (calls, errors) => format!("{calls} calls, {errors} errors"),
    }
}

fn application(name: &str) -> String {
    quoted(&format!("application {name}"))
}

fn service(name: &str) -> String {
    quoted(&format!("service {name}"))
}

/// A name is anybody's text.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
