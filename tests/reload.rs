// SPDX-License-Identifier: Apache-2.0
//! A changed configuration, taken over by a running Remora: by command, by signal, by itself; and one that is wrong.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod site;

use std::net::{SocketAddr, TcpListener, TcpStream};

use site::{Site, free_ports, text, until};

/// Nothing is read unless somebody asks.
const BY_HAND: &str = "lifecycle: { watch_config: false }\n";

fn started(site: &Site, more: &str) -> site::Running {
    site.write(more);
    let mut running = site.run();
    let waited = site.ask("wait");
    if !waited.status.success() {
        running.signal("-KILL");
        panic!("{}\n{}", text(&waited), running.said());
    }
    running
}

fn effective(site: &Site) -> String {
    text(&site::get(site.admin, "/config"))
}

#[test]
fn what_changed_is_named_and_what_needs_a_restart_keeps_its_value() {
    let site = Site::new();
    let _running = started(&site, BY_HAND);
    let nothing = site.ask("reload");
    assert!(
        nothing.status.success() && text(&nothing).contains("the configuration has not changed"),
        "{}",
        text(&nothing)
    );

    site.write(&format!(
        "{BY_HAND}workers: 3\ncall: {{ max_attempts: 7 }}\nlog: debug\n"
    ));
    let done = site.ask("reload");
    assert!(done.status.success());
    let said = text(&done);
    for line in [
        "in use: call.max_attempts",
        "in use: log.level",
        "needs a restart: workers",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let config = effective(&site);
    assert!(
        config.contains("max_attempts: 7") && config.contains("workers: 1"),
        "{config}"
    );
    let status = text(&site.ask("status"));
    assert!(status.contains("applied; waiting for a restart: workers"), "{status}");
    let again = text(&site.ask("reload"));
    assert!(
        again.contains("needs a restart: workers") && !again.contains("the configuration has not changed"),
        "{again}"
    );
}

#[test]
fn a_wrong_file_changes_nothing_and_is_seen() {
    let site = Site::new();
    let mut running = started(&site, BY_HAND);
    site.write(&format!(
        "{BY_HAND}call: {{ max_attempts: 99 }}\nfollow: [ {{ protocol: dubbo, service: '' }} ]\n"
    ));
    let refused = site.ask("reload");
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused);
    assert!(
        said.contains("call.max_attempts") && said.contains("follow[0].service"),
        "{said}"
    );
    assert!(effective(&site).contains("max_attempts: 3"));
    let status = site.status();
    assert_eq!(status["catalog"]["reload"]["outcome"], "refused");
    assert_eq!(status["readiness"]["ready"], true);
    assert!(
        status["readiness"]["notes"][0].as_str().unwrap().contains("not in use"),
        "{status}"
    );
    let metrics = text(&site::get(site.admin, "/metrics"));
    assert!(
        metrics.contains("remora_config_valid 0") && metrics.contains(r#"remora_reloads_total{outcome="refused"} 1"#),
        "{metrics}"
    );

    site.write("this is: [ no YAML\n");
    assert_eq!(site.ask("reload").status.code(), Some(1));
    std::fs::remove_file(site.config()).unwrap();
    assert_eq!(site.ask("reload").status.code(), Some(1));

    site.write(BY_HAND);
    assert!(site.ask("reload").status.success());
    assert_eq!(site.status()["readiness"]["notes"].as_array().unwrap().len(), 0);
    running.signal("-TERM");
    assert!(running.end().success());
    assert!(
        running
            .said()
            .contains("the configuration is not taken over, nothing changes")
    );
}

#[test]
fn the_file_is_read_again_when_it_changes_and_on_a_hangup() {
    let site = Site::new();
    let running = started(&site, "");
    site.write("call: { max_attempts: 5 }\n");
    until("the new file is in use", || {
        effective(&site).contains("max_attempts: 5")
    });
    assert_eq!(site.status()["catalog"]["reload"]["asked_by"], "file");

    site.write(&format!("{BY_HAND}call: {{ max_attempts: 5 }}\n"));
    until("the file is not watched any more", || {
        effective(&site).contains("watch_config: false")
    });
    site.write(&format!("{BY_HAND}call: {{ max_attempts: 6 }}\n"));
    running.signal("-HUP");
    until("the hangup is heard", || effective(&site).contains("max_attempts: 6"));
    assert_eq!(site.status()["catalog"]["reload"]["asked_by"], "signal");
}

#[test]
fn doors_move_close_and_open_while_others_stay() {
    let site = Site::with(", mesh: off, sofaregistry: off", ", bolt: off");
    let _running = started(&site, BY_HAND);
    let staying = TcpStream::connect(site.door).unwrap();
    let [registry, session, taken] = free_ports();
    let with = |door: &str| {
        let zookeeper = format!("zookeeper: {{ listen: {} }}", site.door);
        let text = std::fs::read_to_string(site.dir.path().join("first.yaml")).unwrap();
        let old = format!("{zookeeper}, mesh: off, sofaregistry: off");
        assert!(text.contains(&old), "{text}");
        std::fs::write(
            site.config(),
            text.replace(&old, &format!("{zookeeper}, mesh: off, {door}")) + BY_HAND,
        )
        .unwrap();
    };
    with(&format!("sofaregistry: {{ listen: {registry}, session: {session} }}"));
    let opened = site.ask("reload");
    assert!(
        opened.status.success() && text(&opened).contains("in use: facades.sofaregistry"),
        "{}",
        text(&opened)
    );
    assert!(TcpStream::connect(registry).is_ok() && TcpStream::connect(session).is_ok());
    assert!(text(&site.ask("status")).contains(&format!("sofaregistry {registry}")));

    let holder = TcpListener::bind(taken).unwrap();
    with(&format!("sofaregistry: {{ listen: {taken}, session: {session} }}"));
    // Its session port is its own, so it is closed first; the other one cannot be had, so it opens as it was.
    let kept = site.ask("reload");
    assert!(text(&kept).contains(&taken.to_string()), "{}", text(&kept));
    assert!(TcpStream::connect(registry).is_ok(), "the door as it was");
    drop(holder);

    with("sofaregistry: off");
    assert!(site.ask("reload").status.success());
    assert!(TcpStream::connect(registry).is_err() && TcpStream::connect(session).is_err());
    assert!(is_open(&staying), "a door that has not changed keeps its connections");
}

/// Whether the other end has not closed.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    stream
        .peek(&mut [0])
        .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn publications_and_follows_come_and_go_one_by_one() {
    let site = Site::new();
    // One ingress port is enough: both services are of the application at this port.
    let application = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let entry = |service: &str, weight: u32| {
        format!(
            "  - {{ protocol: dubbo, service: {service}, address: '{application}', params: {{ weight: '{weight}' }} }}\n"
        )
    };
    let _running = started(&site, &format!("{BY_HAND}publish:\n{}", entry("a.A", 1)));
    let services = || -> Vec<String> {
        let status = site.status();
        let leases = status["catalog"]["leases"].as_array().cloned().unwrap_or_default();
        let published = leases
            .iter()
            .flat_map(|lease| lease["publishes"].as_array().cloned().unwrap_or_default());
        published
            .filter(|p| p["state"] == "published")
            .map(|p| p["service"].as_str().unwrap().to_owned())
            .collect()
    };
    until("the first one stands", || services() == ["a.A"]);
    site.write(&format!(
        "{BY_HAND}publish:\n{}{}follow: [ {{ protocol: dubbo, service: a.C }} ]\n",
        entry("a.A", 1),
        entry("a.B", 1)
    ));
    assert!(site.ask("reload").status.success());
    until("both stand", || services() == ["a.A", "a.B"]);
    until("the list is followed", || {
        let status = site.status();
        let lists = status["catalog"]["lists"].as_array().cloned().unwrap_or_default();
        lists.iter().any(|list| list["name"] == "a.C")
    });
    site.write(&format!("{BY_HAND}publish:\n{}", entry("a.B", 2)));
    assert!(site.ask("reload").status.success());
    until("the first one is gone", || services() == ["a.B"]);
}

/// Free ports must not be the site's own.
#[test]
fn a_port_that_cannot_be_had_refuses_the_whole_reload() {
    let site = Site::with(", mesh: off, sofaregistry: off", ", bolt: off");
    let _running = started(&site, BY_HAND);
    let taken: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let holder = TcpListener::bind(taken).unwrap();
    let taken = holder.local_addr().unwrap();
    let text_now = std::fs::read_to_string(site.config()).unwrap();
    let moved = text_now.replace(&format!("listen: {}", site.door), &format!("listen: {taken}"));
    std::fs::write(site.config(), format!("{moved}call: {{ max_attempts: 8 }}\n")).unwrap();
    let refused = site.ask("reload");
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(effective(&site).contains("max_attempts: 3"));
    assert!(TcpStream::connect(site.door).is_ok());
}
