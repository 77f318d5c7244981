// SPDX-License-Identifier: Apache-2.0
//! Beside a supervisor and beside an application: sd_notify, `exec`, `withdraw`, `wait --gone`.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod site;

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use site::{PATIENCE, Running, Site, remora, text, until};

#[test]
fn systemd_hears_that_it_is_ready_lives_reloads_and_stops() {
    let site = Site::new();
    let path = site.dir.path().join("notify");
    let ear = UnixDatagram::bind(&path).unwrap();
    ear.set_read_timeout(Some(PATIENCE)).unwrap();
    let child = remora(&["run", "--config"])
        .arg(site.config())
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut heard: Vec<String> = Vec::new();
    let mut hear = |wanted: &str| {
        let deadline = Instant::now() + PATIENCE;
        let from = heard.len();
        loop {
            assert!(Instant::now() < deadline, "{wanted} after {heard:?}");
            let mut message = [0; 1024];
            let length = ear.recv(&mut message).unwrap();
            heard.push(String::from_utf8_lossy(&message[..length]).into_owned());
            if heard[from..].iter().any(|said| said.starts_with(wanted)) {
                return;
            }
        }
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    running.signal("-HUP");
    hear("RELOADING=1\nMONOTONIC_USEC=");
    hear("READY=1");
    running.signal("-TERM");
    hear("STOPPING=1");
    assert!(running.end().success());
    assert!(heard.iter().any(|said| said == "STATUS=serving"), "{heard:?}");
}

/// `remora exec` with a shell script as the application.
fn exec(site: &Site, script: &str) -> Running {
    let child = remora(&["exec", "--config"])
        .arg(site.config())
        .args(["--", "/bin/sh", "-c", script])
        .current_dir(site.dir.path())
        .env("PATH", "/usr/bin:/bin")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Running(child)
}

fn there(site: &Site, file: &str) -> bool {
    site.dir.path().join(file).exists()
}

#[test]
fn exec_starts_the_application_when_ready_and_passes_its_status_on() {
    let site = Site::new();
    let admin = site.admin.to_string();
    let binary = env!("CARGO_BIN_EXE_remora");
    let mut running = exec(&site, &format!("{binary} wait --timeout 1s --admin {admin} && exit 7"));
    assert_eq!(running.end().code(), Some(7));
    assert!(site.ask("status").status.code() == Some(1), "the proxy has gone too");
}

#[test]
fn exec_withdraws_first_then_ends_the_application_then_the_proxy() {
    let site = Site::new();
    let application = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.write(&format!(
        "publish: [ {{ protocol: dubbo, service: a.A, address: '{application}' }} ]\nlifecycle: {{ withdraw_pause: 300ms }}\n"
    ));
    let admin = site.admin.to_string();
    let binary = env!("CARGO_BIN_EXE_remora");
    // At its end the application asks whether the proxy still serves, and what it publishes.
    let script = format!(
        "trap '{binary} status --admin {admin} > at-the-end; exit 3' TERM; touch up; while :; do sleep 0.05; done"
    );
    let mut running = exec(&site, &script);
    until("the application runs", || there(&site, "up"));
    until("it is published", || {
        text(&site.ask("status")).contains("kept by Remora") || site.status().to_string().contains("\"published\"")
    });
    running.signal("-TERM");
    assert_eq!(running.end().code(), Some(3));
    let seen = std::fs::read_to_string(site.dir.path().join("at-the-end")).unwrap();
    assert!(seen.contains("NOT READY") && seen.contains("withdrawn"), "{seen}");
    assert!(seen.contains("Remora, WITHDRAWN"), "it stands no more: {seen}");
    assert_eq!(site.ask("status").status.code(), Some(1));
}

#[test]
fn exec_forwards_signals_reaps_orphans_and_starts_a_dead_proxy_again() {
    let site = Site::new();
    // The inner shell leaves an orphan behind that ends at once.
    let script = "trap 'touch told' USR1; (sh -c 'sleep 0.1 & echo $! > orphan'); touch up; while [ ! -e over ]; do sleep 0.05; done; exit 0";
    let mut running = exec(&site, script);
    until("the application runs", || there(&site, "up"));
    running.signal("-USR1");
    until("the signal arrived", || there(&site, "told"));
    let orphan = std::fs::read_to_string(site.dir.path().join("orphan")).unwrap();
    until("the orphan is reaped", || {
        !std::path::Path::new(&format!("/proc/{}", orphan.trim())).exists()
    });

    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.0.id())).unwrap();
    let is_proxy =
        |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("\0run\0"));
    let proxy = children
        .split_whitespace()
        .find(is_proxy)
        .expect("the proxy is a child")
        .to_owned();
    assert!(
        std::process::Command::new("kill")
            .args(["-9", &proxy])
            .status()
            .unwrap()
            .success()
    );
    until("another proxy serves", || {
        let waited = site.ask("wait").status.success();
        waited && !std::path::Path::new(&format!("/proc/{proxy}")).exists()
    });
    std::fs::write(site.dir.path().join("over"), "").unwrap();
    assert!(running.end().success());
    assert!(running.said().contains("the proxy ended, it is started again"));
}

#[test]
fn exec_does_not_start_an_application_without_a_proxy() {
    let site = Site::new();
    let _taken = TcpListener::bind(site.door).unwrap();
    let mut running = exec(&site, "touch up");
    assert_eq!(running.end().code(), Some(1));
    assert!(!there(&site, "up"));
    let output = remora(&["exec", "--config"])
        .arg(site.config())
        .args(["--", "/no/such/program"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn withdraw_takes_publications_back_and_serves_on() {
    let site = Site::new();
    let application = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.write(&format!(
        "publish: [ {{ protocol: dubbo, service: a.A, address: '{application}' }} ]\nlifecycle: {{ withdraw_pause: 200ms }}\n"
    ));
    let mut running = site.run();
    assert!(site.ask("wait").status.success());
    until("it is published", || {
        site.status().to_string().contains("\"published\"")
    });
    let begin = Instant::now();
    let left = site.ask("withdraw");
    assert!(left.status.success());
    assert!(
        text(&left).contains("1 entry withdrawn, 0 calls in flight"),
        "{}",
        text(&left)
    );
    assert!(
        begin.elapsed() >= Duration::from_millis(200),
        "consumers get time to hear of it"
    );
    assert_eq!(site.status()["readiness"]["reasons"][0], "withdrawn");
    assert!(std::net::TcpStream::connect(site.ingress).is_ok());
    let again = Instant::now();
    assert!(site.ask("stop").status.success());
    assert!(running.end().success());
    assert!(again.elapsed() < PATIENCE / 2);
}

#[test]
fn wait_gone_waits_for_the_last_application() {
    let site = Site::new();
    let _running = site.run();
    assert!(site.ask("wait").status.success());
    let application = std::net::TcpStream::connect(site.egress).unwrap();
    let admin = site.admin.to_string();
    let gone = |timeout: &str| {
        remora(&["wait", "--gone", "--timeout", timeout, "--admin", &admin])
            .output()
            .unwrap()
    };
    until("its connection is seen", || {
        site.status()["connections"]["connections"]
            .as_array()
            .is_some_and(|c| c.len() == 1)
    });
    let still = gone("600ms");
    assert_eq!(still.status.code(), Some(1));
    assert!(text(&still).contains("1 at the egress"), "{}", text(&still));
    drop(application);
    let done = gone("30s");
    assert!(done.status.success(), "{}", text(&done));
}
