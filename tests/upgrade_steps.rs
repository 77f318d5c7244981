// SPDX-License-Identifier: Apache-2.0
//! The new process of an upgrade ends at each of its steps: the old one serves on, and the next upgrade works.
//!
//! This program is the new process, too: `remora upgrade --binary` starts it with the arguments of `remora run`, so it
//! cannot have the usual test harness.

#[path = "upgrading/mod.rs"]
mod upgrading;

use std::path::PathBuf;

use remora::lifecycle::upgrade::Predecessor;
use upgrading::{Consumer, Site};

/// How far the new process comes, and what it does then.
const STEPS: [(&str, &str); 9] = [
    ("hello", "ends"),
    ("hello", "refuses"),
    ("prepared", "ends"),
    ("prepared", "refuses"),
    ("prepared", "aborts"),
    ("ready", "ends"),
    ("ready", "refuses"),
    ("ready", "hangs"),
    ("taken", "ends"),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--take-over") {
        return take_over(&arguments);
    }
    // `cargo test` asks what there is.
    if arguments.iter().any(|argument| argument == "--list") {
        return println!("old_process_serves_on: test");
    }
    old_process_serves_on();
}

/// The old process has the configuration's folder in common with us.
fn plan(arguments: &[String]) -> PathBuf {
    let config = arguments.iter().find(|argument| argument.ends_with(".yaml"));
    PathBuf::from(config.expect("remora run --config")).with_file_name("plan")
}

fn take_over(arguments: &[String]) {
    let plan = std::fs::read_to_string(plan(arguments)).expect("a plan");
    let (step, what) = plan.split_once(' ').expect("a step, and what to do there");
    let (mut predecessor, _offer) = Predecessor::meet().expect("an old process");
    if step == "hello" {
        return end(predecessor, what);
    }
    let _control = predecessor.prepared().expect("the old one goes on");
    if step == "prepared" {
        return end(predecessor, what);
    }
    let connections = predecessor.ready().expect("the old one goes on");
    assert!(!connections.is_empty());
    if step == "ready" {
        return end(predecessor, what);
    }
    // Told to go, it ends without having served.
    let _supervisor = predecessor.taken(0).expect("the old one goes on");
}

fn end(predecessor: Predecessor, what: &str) {
    match what {
        "refuses" => predecessor.refuse("as planned".to_owned()),
        "aborts" => std::process::abort(),
        "hangs" => std::thread::park(),
        _ => {}
    }
}

fn old_process_serves_on() {
    let site = Site::start();
    let own = std::env::current_exe().expect("a path");
    let own = own.to_str().expect("a plain path");
    let before = site.serving();
    for (step, what) in STEPS {
        std::fs::write(site.dir.path().join("plan"), format!("{step} {what}")).expect("the directory can be written");
        if step == "taken" {
            continue;
        }
        let load = site.load();
        load.advance(20);
        let said = site.upgrade_fails(&["--binary", own]);
        assert_eq!(said.contains("as planned"), what == "refuses", "{said}");
        load.advance(20);
        let calls = site.end(load);
        assert_eq!(site.serving(), before, "{step} {what}");
        println!("{step} {what}: the old process serves on, {calls} calls, none failed");
    }
    // Behind the point of no return connections are lost with the new process, as in a crash; nothing else is.
    let said = site.upgrade_fails(&["--binary", own]);
    assert!(said.contains("to serve"), "{said}");
    assert_eq!(site.serving(), before);
    for addr in [site.egress, site.ingress] {
        Consumer::dial(addr).call("again");
    }
    println!("taken ends: the old process serves on");

    let load = site.load();
    site.upgrade(&[]);
    load.advance(20);
    site.end(load);
    assert_ne!(site.serving(), before);
    println!("the next upgrade works");
}
