// SPDX-License-Identifier: Apache-2.0
//! Commands that ask a running proxy, where things are not as they should be: nobody listens, somebody says nothing, a foreign
//! program answers, the configuration is broken, the work takes longer than the command may.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod site;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use site::{PATIENCE, Site, remora, text, until};

/// Every command that asks, with a limit of a second where it has one.
const COMMANDS: [&[&str]; 10] = [
    &["wait", "--timeout", "1s"],
    &["wait", "--gone", "--timeout", "1s"],
    &["status", "--timeout", "1s"],
    &["topology", "--timeout", "1s"],
    &["withdraw", "--timeout", "1s"],
    &["reload", "--timeout", "1s"],
    &["rollback", "--timeout", "1s"],
    &["rollback", "--wait", "--timeout", "1s"],
    &["rollback", "--forward", "--wait", "--timeout", "1s"],
    &["stop", "--timeout", "1s"],
];
/// Far above what a loaded machine adds, far below the limits that commands have where none is given.
const SLACK: Duration = Duration::from_secs(3);

/// Somebody who does this to every connection.
fn listen(answer: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    addr
}

/// Reads a request's head and answers it.
fn foreign(answer: &'static str) -> SocketAddr {
    listen(move |mut stream| {
        let mut seen = Vec::new();
        let mut some = [0; 512];
        while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
            match stream.read(&mut some) {
                Ok(n) if n > 0 => seen.extend_from_slice(&some[..n]),
                _ => return,
            }
        }
        // The other end may have gone.
        let _ = stream.write_all(answer.as_bytes());
    })
}

fn ask(command: &[&str], admin: SocketAddr) -> (Output, String) {
    let output = remora(command).args(["--admin", &admin.to_string()]).output().unwrap();
    let said = text(&output);
    (output, said)
}

#[test]
fn who_says_nothing_is_not_waited_for_longer_than_said_nor_taken_for_nobody() {
    let kept = std::sync::Mutex::new(Vec::new());
    let silent = listen(move |stream| kept.lock().unwrap().push(stream));
    for command in COMMANDS {
        let begin = Instant::now();
        let (output, said) = ask(command, silent);
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(1) + SLACK, "{command:?} took {took:?}");
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        let expected = format!("{silent} takes connections, but no answer to /");
        assert!(said.contains(&expected), "{command:?}: {said}");
    }
    for registry in [format!("zookeeper://{silent}"), format!("sofaregistry://{silent}")] {
        let begin = Instant::now();
        let output = remora(&["preflight", "--no-host", "--timeout", "1s", "--registry", &registry])
            .output()
            .unwrap();
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(1) + SLACK / 2, "{registry} took {took:?}");
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    }
}

#[test]
fn who_is_not_there_is_told_at_once_but_to_who_waits() {
    let nobody = site::free_ports::<1>()[0];
    for command in COMMANDS {
        if command[..2] == ["wait", "--gone"] {
            continue;
        }
        let (output, said) = ask(command, nobody);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains(&format!("no Remora answers on {nobody}")), "{said}");
    }
    let (output, said) = ask(&["upgrade"], nobody);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("nothing to upgrade: no Remora answers on") && !said.contains("too old"),
        "{said}"
    );
}

#[test]
fn a_foreign_program_is_told_in_a_line_without_its_web_page() {
    let page = foreign(
        "HTTP/1.1 404 Not Found\r\nServer: other\r\nContent-Type: text/html\r\nContent-Length: 60\r\nConnection: close\r\n\r\n\
         <!DOCTYPE html>\n<html><body><h1>\x1b[31mNot here</h1></body></html>  ",
    );
    let shell = foreign("SSH-2.0-OpenSSH_9.2\r\n");
    let all_is_well = foreign("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    for (peer, command) in [page, shell, all_is_well]
        .into_iter()
        .flat_map(|p| COMMANDS.map(|c| (p, c)))
    {
        let (output, said) = ask(command, peer);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(
            said.contains(&format!("what listens on {peer} is no Remora")),
            "{command:?}: {said}"
        );
        assert!(
            !said.contains(['<', '\x1b']) && said.lines().count() == 1,
            "{command:?}: {said}"
        );
    }
    let (_, said) = ask(&["reload"], page);
    assert!(said.contains("404 Not Found") && !said.contains('<'), "{said}");
}

#[test]
fn a_broken_configuration_keeps_nobody_from_a_rollback() {
    let site = Site::new();
    let _running = site.run();
    assert!(site.ask("wait").status.success());
    let broken = site.dir.path().join("broken.yaml");
    let good = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(&broken, format!("{good}workers: two\n")).unwrap();
    let with = |file: &std::path::Path, arguments: &[&str]| {
        let mut command: Command = remora(arguments);
        command.env("REMORA_CONFIG", file).output().unwrap()
    };
    for command in [&["rollback"][..], &["status"], &["rollback", "--forward"], &["wait"]] {
        let output = with(&broken, command);
        let warned = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command:?}: {warned}");
        let expected = format!(
            "workers: not a whole number; allowed: 0 and above; asking {}",
            site.admin
        );
        assert!(
            warned.starts_with("remora: warning: ") && warned.contains(&expected),
            "{command:?}: {warned}"
        );
    }
    let admin = site.admin.to_string();
    let told = with(&site.dir.path().join("nowhere"), &["rollback", "--admin", &admin]);
    assert!(told.status.success() && told.stderr.is_empty(), "{}", text(&told));
    // Where only the default is left, another Remora may listen: looking is allowed, changing is not.
    for command in [&["rollback"][..], &["withdraw"], &["reload"], &["stop"], &["upgrade"]] {
        let guessed = with(&site.dir.path().join("nowhere"), command);
        let words = String::from_utf8_lossy(&guessed.stderr).into_owned();
        assert_eq!(guessed.status.code(), Some(1), "{command:?}: {words}");
        assert!(
            words.contains("nothing is changed at an address that is a guess"),
            "{command:?}: {words}"
        );
    }
    let stopped = with(&broken, &["stop"]);
    assert!(stopped.status.success(), "{}", text(&stopped));
}

#[test]
fn a_withdrawal_outlives_the_command_and_a_stop_behind_it_leaves_consumers_their_time() {
    const PAUSE: Duration = Duration::from_secs(3);
    let site = Site::new();
    let application = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.write(&format!(
        "publish: [ {{ protocol: dubbo, service: a.A, address: '{application}' }} ]\nlifecycle: {{ withdraw_pause: 3s }}\n"
    ));
    let mut running = site.run();
    assert!(site.ask("wait").status.success());
    until("it is published", || {
        site.status().to_string().contains("\"published\"")
    });
    let begin = Instant::now();
    let (output, said) = ask(&["withdraw", "--timeout", "500ms"], site.admin);
    assert!(begin.elapsed() < PAUSE, "{:?}", begin.elapsed());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("not over within 500ms; Remora goes on with it") && !said.contains("no Remora answers"),
        "{said}"
    );
    assert!(site.ask("stop").status.success());
    assert!(running.end().success());
    let took = begin.elapsed();
    assert!(took >= PAUSE && took < PATIENCE / 2, "served on for {took:?}");
}

#[test]
fn a_stop_tells_what_a_registry_that_hangs_keeps() {
    let site = Site::new();
    let [registry] = site::free_ports();
    let listen = registry.to_string();
    let dir = site.dir.path().join("registry");
    let child = remora(&["registry", "--listen", &listen, "--data-dir"])
        .arg(&dir)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let hanging = site::Running(child);
    until("the registry listens", || TcpStream::connect(registry).is_ok());
    site.write(&format!(
        "registry: zookeeper://{registry}\npublish: [ {{ protocol: dubbo, service: a.A, address: '127.0.0.1:20880' }} ]\n\
         advertise: 127.0.0.1\n"
    ));
    let mut running = site.run();
    assert!(site.ask("wait").status.success());
    until("it is published", || {
        site.status().to_string().contains("\"published\"")
    });
    hanging.signal("-STOP");
    let (output, said) = ask(&["stop"], site.admin);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("waiting for the registries to take out what leads here"),
        "{said}"
    );
    assert!(said.contains("warning: 1 entry still leads here"), "{said}");
    assert!(said.starts_with("stopped\n"), "{said}");
    assert!(running.end().success());
}
