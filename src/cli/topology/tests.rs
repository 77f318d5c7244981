// SPDX-License-Identifier: Apache-2.0
//! Graphs and pages of two Remoras that saw the same calls.

use super::graph::Graph;
use super::*;
use crate::admin::{ApplicationView, CalleeView, CallerView, InView, OutView};

fn caller(application: &str, host: &str, calls: u64) -> CallerView {
    CallerView {
        application: application.to_owned(),
        known_by: "frame".to_owned(),
        host: host.to_owned(),
        calls,
        last_s: Some(3),
        ..CallerView::default()
    }
}

fn callee(application: &str, address: &str, through: &str, calls: u64, errors: u64) -> CalleeView {
    CalleeView {
        application: application.to_owned(),
        address: address.to_owned(),
        framework: "dubbo 3.3.6".to_owned(),
        through: through.to_owned(),
        calls,
        errors,
        last_s: Some(3),
    }
}

/// A consumer's Remora on 10.0.0.7, and the Remora of one of its two providers on 10.0.0.5, which a bare consumer calls too.
fn two() -> Topology {
    let consumers = TopologyView {
        version: "0.1.0".to_owned(),
        hosts: vec!["10.0.0.7".to_owned()],
        counted_for_s: 60,
        applications: vec![ApplicationView {
            application: "shop".to_owned(),
            framework: "dubbo 2.7.23".to_owned(),
            facade: "zookeeper".to_owned(),
            peer: "127.0.0.1:4000".to_owned(),
            publishes: 0,
            follows: 1,
        }],
        out: vec![OutView {
            service: "demo.Echo:1.0.0".to_owned(),
            protocol: "dubbo".to_owned(),
            consumers: vec![caller("shop", "127.0.0.1", 30)],
            instances: vec![
                callee("orders", "10.0.0.5:20881", "remora", 20, 0),
                callee("orders", "10.0.0.6:20880", "direct", 10, 2),
            ],
            unplaced: 1,
        }],
        ..TopologyView::default()
    };
    let providers = TopologyView {
        version: "0.1.0".to_owned(),
        hosts: vec!["10.0.0.5".to_owned()],
        into: vec![InView {
            service: "demo.Echo:1.0.0".to_owned(),
            protocol: "dubbo".to_owned(),
            application: "orders".to_owned(),
            framework: "dubbo 3.3.6".to_owned(),
            address: "127.0.0.1:20880".to_owned(),
            ingress: 20881,
            consumers: vec![caller("shop", "10.0.0.7", 20), caller("", "10.0.0.9", 5)],
        }],
        ..TopologyView::default()
    };
    let remora = |admin: &str, view| Remora {
        admin: admin.to_owned(),
        view,
    };
    Topology {
        remoras: vec![remora("10.0.0.7:15020", consumers), remora("10.0.0.5:15020", providers)],
    }
}

#[test]
fn a_call_that_two_remoras_saw_is_one_edge() {
    let graph = Graph::of(&two());
    let calls: Vec<(&str, u64)> = graph
        .calls
        .iter()
        .map(|((who, _), c)| (who.as_str(), c.calls))
        .collect();
    assert_eq!(calls, [("10.0.0.9", 5), ("shop", 30)], "shop was counted where it is");
    let to: Vec<(&str, u64, u64)> = graph
        .goes_to
        .iter()
        .map(|((_, _, through), c)| (through.as_str(), c.calls, c.errors))
        .collect();
    assert_eq!(to, [("direct", 10, 2), ("ingress", 5, 0), ("remora", 20, 0)]);
    assert_eq!(graph.applications["orders"], "dubbo 3.3.6");
}

#[test]
fn the_graph_is_graphviz() {
    let mut topology = two();
    topology.remoras[0].view.out[0].consumers[0].application = "sh\"op\\\n\x1b".to_owned();
    let dot = dot::dot(&Graph::of(&topology));
    for line in [
        "digraph remora {",
        r#"  "application sh\"op\\\n " -> "service demo.Echo:1.0.0" [label="30 calls"];"#,
        r#"  "service demo.Echo:1.0.0" -> "application orders" [label="20 calls\nremora", style=solid];"#,
        r#"  "service demo.Echo:1.0.0" -> "application orders" [label="10 calls, 2 errors\ndirect", style=dashed, color=red];"#,
        r#"  "application orders" [label="orders\ndubbo 3.3.6"];"#,
    ] {
        assert!(dot.lines().any(|l| l == line), "{line} in\n{dot}");
    }
    assert!(dot.ends_with("}\n"));
}

#[test]
fn the_page_names_callers_instances_and_what_found_nobody() {
    let text = text::text(&two());
    for expected in [
        "remora 0.1.0 at 10.0.0.7:15020 on 10.0.0.7, calls of the last 1m00s",
        "shop         dubbo 2.7.23  zookeeper 127.0.0.1:4000  0          1",
        "demo.Echo:1.0.0  orders    10.0.0.6:20880  dubbo 3.3.6  direct   10     2       3s ago",
        "demo.Echo:1.0.0  nobody                                                 1",
        "?         10.0.0.9  demo.Echo:1.0.0  orders    127.0.0.1:20880 <- :20881  5      3s ago",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
}

#[test]
fn what_json_prints_can_be_read_back_on_another_host() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_json::to_vec(&two()).unwrap()).unwrap();
    assert_eq!(Graph::of(&read(file.path()).unwrap()), Graph::of(&two()));
    std::fs::write(file.path(), "{}").unwrap();
    let error = format!("{:#}", read(file.path()).unwrap_err());
    assert!(
        error.contains("is not what `remora topology --format json` prints"),
        "{error}"
    );
}
