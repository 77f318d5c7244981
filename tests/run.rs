// SPDX-License-Identifier: Apache-2.0
//! The binary as an operator uses it: run, wait, status, stop, signals, ports that are taken.

mod site;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use site::{Running, Site, free_ports, remora, text};

#[test]
fn it_runs_says_what_to_set_answers_and_stops() {
    let site = Site::new();
    let mut running = site.run();
    assert!(site.ask("wait").status.success());
    let status = site.ask("status");
    assert!(status.status.success());
    let page = text(&status);
    for expected in ["ready", "embedded", &site.door.to_string(), &site.egress.to_string()] {
        assert!(page.contains(expected), "{expected}\n{page}");
    }
    let json = remora(&["status", "--json", "--admin", &site.admin.to_string()])
        .output()
        .expect("the binary");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["readiness"]["ready"], true);
    assert!(site.ask("stop").status.success());
    assert!(running.end().success());
    let said = running.said();
    for expected in [&format!("zookeeper://{}", site.door), "data", &site.admin.to_string()] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    let gone = site.ask("status");
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone).contains("no Remora answers on"), "{}", text(&gone));
}

#[test]
fn sigterm_drains_and_ends_well() {
    let site = Site::new();
    let mut running = site.run();
    assert!(site.ask("wait").status.success());
    running.signal("-TERM");
    assert!(running.end().success());
    assert!(running.said().contains("stopped"));
}

#[test]
fn it_serves_on_when_nobody_reads_its_log_any_more() {
    let site = Site::new();
    let mut running = site.run();
    assert!(site.ask("wait").status.success());
    drop((running.0.stdout.take(), running.0.stderr.take()));
    // Each of these is logged.
    for _ in 0..3 {
        let done = site.ask("reload");
        assert!(done.status.success(), "{}", text(&done));
    }
    assert!(site.ask("stop").status.success());
    assert!(running.end().success());
}

#[test]
fn commands_end_quietly_when_nobody_reads_what_they_say() {
    let site = Site::new();
    let config = site.config().display().to_string();
    let commands: [&[&str]; 5] = [
        &["check", "--config", &config],
        &["--help"],
        &["status", "--admin", "127.0.0.1:1"],
        &["check", "--config", "/nowhere"],
        &["exec", "--config", &config, "--", "/bin/true"],
    ];
    for command in commands {
        let mut child = remora(command)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo built the binary");
        drop((child.stdout.take(), child.stderr.take()));
        let code = Running(child).end().code();
        assert!(matches!(code, Some(0 | 1)), "{command:?} ended with {code:?}");
    }
}

#[test]
fn a_taken_port_is_named_with_the_key_that_changes_it() {
    for key in [
        "admin.listen",
        "facades.zookeeper.listen",
        "protocols.dubbo.egress",
        "protocols.dubbo.ingress",
    ] {
        let site = Site::new();
        let addr = match key {
            "admin.listen" => site.admin,
            "facades.zookeeper.listen" => site.door,
            "protocols.dubbo.egress" => site.egress,
            _ => site.ingress,
        };
        let _taken = TcpListener::bind(addr).expect("it was free a moment ago");
        let mut running = site.run();
        assert_eq!(running.end().code(), Some(1), "{key}");
        let said = running.said();
        assert!(said.contains(&addr.to_string()) && said.contains(key), "{key}\n{said}");
    }
}

#[test]
fn a_door_for_sofa_that_was_asked_for_must_be_had() {
    let [taken, egress, ingress] = free_ports();
    let _taken = TcpListener::bind(taken).expect("it was free a moment ago");
    let bolt = |egress: SocketAddr, ingress: SocketAddr| format!(", bolt: {{ egress: {egress}, ingress: {ingress} }}");
    for (facades, protocols, key) in [
        (
            format!(", mesh: {{ listen: {taken} }}"),
            bolt(egress, ingress),
            "facades.mesh.listen",
        ),
        (
            format!(", dubbod: {{ listen: {taken} }}"),
            String::new(),
            "facades.dubbod.listen",
        ),
        (
            format!(", sofaregistry: {{ listen: {taken}, session: {egress} }}"),
            String::new(),
            "facades.sofaregistry.listen",
        ),
        (String::new(), bolt(taken, ingress), "protocols.bolt.egress"),
        (String::new(), bolt(egress, taken), "protocols.bolt.ingress"),
    ] {
        let site = Site::with(&facades, &protocols);
        let mut running = site.run();
        assert_eq!(running.end().code(), Some(1), "{key}");
        let said = running.said();
        assert!(said.contains(&taken.to_string()) && said.contains(key), "{key}\n{said}");
    }
}

#[test]
fn a_door_that_nobody_named_is_left_out_where_its_port_is_taken() {
    // Another test's Remora may have it for now; what has it for longer takes it as well as we do.
    let deadline = Instant::now() + Duration::from_secs(20);
    let _taken = loop {
        match TcpListener::bind("127.0.0.1:9603") {
            Err(_) if Instant::now() < deadline => std::thread::park_timeout(Duration::from_millis(20)),
            taken => break taken,
        }
    };
    let site = Site::new();
    let mut running = site.run();
    assert!(site.ask("wait").status.success());
    let page = text(&site.ask("status"));
    assert!(!page.contains("sofaregistry"), "{page}");
    assert!(site.ask("stop").status.success());
    assert!(running.end().success());
    let said = running.said();
    assert!(
        said.contains("note         facades.sofaregistry: left out: cannot listen on 127.0.0.1:9603"),
        "{said}"
    );
}

#[test]
fn wait_gives_up_with_the_reason() {
    let [nobody] = free_ports();
    let output = remora(&["wait", "--timeout", "300ms", "--admin", &nobody.to_string()])
        .output()
        .expect("the binary");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("not ready within 300ms"), "{}", text(&output));
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let site = Site::new();
    let file = site.dir.path().join("file");
    std::fs::write(&file, b"").expect("the directory can be written");
    let inside = file.join("data");
    let output = remora(&["run", "--data-dir", path(&inside), "--config", path(&site.config())])
        .output()
        .expect("the binary");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    let expected = format!("--data-dir: {} is a file", path(&file));
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn a_directory_that_another_remora_uses_is_named() {
    let (first, second) = (Site::new(), Site::new());
    let directory = path(&first.dir.path().join("data")).to_owned();
    let _running = first.run();
    assert!(first.ask("wait").status.success());
    let output = remora(&["run", "--data-dir", &directory, "--config", path(&second.config())])
        .output()
        .expect("the binary");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(
        said.contains("in use by another Remora") && said.contains(&directory),
        "{said}"
    );
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}
