// SPDX-License-Identifier: Apache-2.0
//! Who calls whom: counted on both sides of a real Remora, asked for as text, JSON and a graph.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod upgrading;

use serde_json::Value;
use upgrading::{Site, http, text_of};

fn json(site: &Site, more: &[&str]) -> Value {
    let asked = [&["--format", "json"], more].concat();
    let output = site.ask("topology", &asked);
    assert!(output.status.success(), "{}", text_of(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn calls_of_both_sides_are_shown_with_service_instance_and_age() {
    let site = Site::start();
    let text = text_of(&site.ask("topology", &[]));
    assert!(text.contains("No calls yet."), "{text}");

    let load = site.load();
    load.advance(200);
    let calls = site.end(load);

    let seen = json(&site, &[]);
    let remora = &seen["remoras"][0];
    let (out, into) = (&remora["out"][0], &remora["in"][0]);
    for side in [out, into] {
        assert_eq!(side["service"], "demo.Echo", "{seen:#}");
        assert_eq!(side["protocol"], "dubbo", "{seen:#}");
        assert_eq!(side["consumers"][0]["host"], "127.0.0.1", "{seen:#}");
    }
    let sum = |rows: &Value| -> u64 {
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| row["calls"].as_u64().unwrap())
            .sum()
    };
    let (sent, came) = (sum(&out["consumers"]), sum(&into["consumers"]));
    assert!(
        sent > 0 && came > 0 && sent + came >= calls,
        "{sent} + {came} of {calls}: {seen:#}"
    );
    assert_eq!(sum(&out["instances"]), sent, "each call went to one instance: {seen:#}");
    assert_eq!(out["instances"][0]["through"], "local", "{seen:#}");
    assert_eq!(out["instances"][0]["errors"], 0, "{seen:#}");
    assert!(out["instances"][0]["last_s"].as_u64().unwrap() < 60, "{seen:#}");
    assert_eq!(into["ingress"], site.ingress.port(), "{seen:#}");

    let text = text_of(&site.ask("topology", &[]));
    for expected in [
        "Calls out: who calls",
        "Calls out: where they go",
        "Calls in",
        "demo.Echo",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    let dot = text_of(&site.ask("topology", &["--format", "dot"]));
    assert!(dot.starts_with("digraph remora {") && dot.ends_with("}\n"), "{dot}");
    assert!(dot.contains(r#""service demo.Echo" [shape=box"#), "{dot}");
}

#[test]
fn filters_narrow_and_what_cannot_be_asked_is_named() {
    let site = Site::start();
    let load = site.load();
    load.advance(20);
    site.end(load);
    let rows = |more: &[&str]| json(&site, more)["remoras"][0]["out"].as_array().unwrap().len();
    assert_eq!(rows(&["--service", "Echo"]), 1);
    assert_eq!(rows(&["--service", "Till"]), 0);
    assert_eq!(rows(&["--limit", "0"]), 0);
    let said = http(site.admin, "/topology?servise=Echo");
    assert!(said.contains("`servise=Echo` cannot be asked for"), "{said}");

    let file = site.dir.path().join("host.json");
    std::fs::write(&file, serde_json::to_vec(&json(&site, &[])).unwrap()).unwrap();
    let merged = json(&site, &["--from", file.to_str().unwrap()]);
    assert_eq!(
        merged["remoras"].as_array().unwrap().len(),
        2,
        "the file and the running one"
    );
}

#[test]
fn nobody_at_the_admin_port_is_said_so() {
    let mut site = Site::start();
    assert!(site.ask("stop", &[]).status.success());
    site.exit();
    for command in ["topology", "status"] {
        let output = site.ask(command, &[]);
        assert_eq!(output.status.code(), Some(1));
        let said = text_of(&output);
        assert!(said.contains(&format!("no Remora answers on {}", site.admin)), "{said}");
    }
}

#[test]
fn status_has_both_views_of_a_service_and_all_that_it_had() {
    let site = Site::start();
    let output = site.ask("status", &["--json", "--service", "demo.Echo"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["readiness"]["ready"], true, "{status:#}");
    for key in ["catalog", "connections"] {
        assert!(status[key].is_object(), "{key} in {status:#}");
    }
    let service = &status["services"]["services"][0];
    assert_eq!(service["name"], "demo.Echo", "{status:#}");
    let published = &service["publishes"][0];
    assert_eq!(published["decision"], "taken_over", "{status:#}");
    let in_registry = published["in_registry"].as_str().unwrap();
    assert!(
        in_registry.ends_with(&format!(":{}", site.ingress.port())),
        "{status:#}"
    );
    assert_ne!(published["own"], published["in_registry"], "{status:#}");
    let list = &service["lists"][0];
    assert_eq!(list["real"][0]["protocol"], "dubbo", "{status:#}");
    assert_eq!(list["followers"][0]["decision"], "taken_over", "{status:#}");
    let handed = list["followers"][0]["handed_out"][0].as_str().unwrap();
    assert!(
        handed.contains(&format!(":{}/demo.Echo", site.egress.port())),
        "{status:#}"
    );

    let page = text_of(&site.ask("status", &[]));
    for expected in ["takeover: ", "Services", "published", "followed", "-> "] {
        assert!(page.contains(expected), "{expected} in\n{page}");
    }
    let none = text_of(&site.ask("status", &["--service", "demo.Till"]));
    assert!(!none.contains("demo.Echo"), "{none}");
    assert!(
        none.contains("No service of this name is published or followed here."),
        "{none}"
    );
}
