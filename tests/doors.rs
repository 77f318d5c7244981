// SPDX-License-Identifier: Apache-2.0
//! The binary's doors for applications that hold no session at the registry: what they publish is kept there by Remora.

mod ports;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ports::free_ports;
use serde_json::{Value, json};

/// Nothing here takes longer on a loaded machine, or it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Remora with doors at ports of its own; killed when it goes out of scope.
struct Remora {
    dir: tempfile::TempDir,
    admin: SocketAddr,
    mesh: SocketAddr,
    sofaregistry: SocketAddr,
    child: Child,
}

impl Remora {
    fn start(registry: &str) -> Self {
        let [admin, mesh, sofaregistry, session, egress, ingress, zookeeper] = free_ports();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let range = ingress.port();
        let text = format!(
            "registry: {registry}\n\
             advertise: 127.0.0.1\n\
             data_dir: {}\n\
             facades:\n\
             \x20 zookeeper: {{ listen: {zookeeper} }}\n\
             \x20 mesh: {{ listen: {mesh}, probe_every: 200ms }}\n\
             \x20 sofaregistry: {{ listen: {sofaregistry}, session: {session} }}\n\
             \x20 dubbod: off\n\
             protocols:\n\
             \x20 bolt: {{ egress: {egress}, ingress: {ingress}, ingress_range: {range}-{range} }}\n\
             \x20 dubbo: off\n\
             admin: {{ listen: {admin} }}\n",
            dir.path().join("data").display()
        );
        std::fs::write(dir.path().join("remora.yaml"), text).expect("the directory can be written");
        let child = run(dir.path());
        let remora = Self {
            dir,
            admin,
            mesh,
            sofaregistry,
            child,
        };
        remora.wait();
        remora
    }

    fn wait(&self) {
        let admin = self.admin.to_string();
        let done = command(&["wait", "--timeout", "60s", "--admin", &admin]).status();
        assert!(done.expect("cargo built the binary").success());
    }

    /// The same again, after a crash.
    fn restart_after_kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
        self.child = run(self.dir.path());
        self.wait();
    }

    fn ask(&self, path: &str, body: &Value) -> Value {
        http(self.mesh, "POST", path, &body.to_string())
    }

    /// `service own published state` of everything that applications publish here.
    fn published(&self) -> Vec<String> {
        let catalog = http(self.admin, "GET", "/catalog", "");
        let leases = catalog["leases"].as_array().expect("a list").iter();
        let publications = leases.flat_map(|lease| lease["publishes"].as_array().expect("a list").clone());
        let text = |p: &Value, key: &str| p[key].as_str().unwrap_or_default().to_owned();
        let row = |p: Value| {
            ["service", "own", "published", "state"]
                .map(|key| text(&p, key))
                .join(" ")
        };
        publications.map(row).collect()
    }

    fn until(&self, wanted: &[String]) {
        let deadline = Instant::now() + PATIENCE;
        while self.published() != wanted {
            assert!(
                Instant::now() < deadline,
                "{:?} instead of {wanted:?}",
                self.published()
            );
            std::thread::yield_now();
        }
    }
}

impl Drop for Remora {
    fn drop(&mut self) {
        // Ended already, in a test that passed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(dir: &Path) -> Child {
    let mut command = command(&["run", "--config"]);
    let command = command
        .arg(dir.join("remora.yaml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("cargo built the binary")
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remora"));
    command.env_clear().args(args);
    command
}

fn http(addr: SocketAddr, method: &str, path: &str, body: &str) -> Value {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time is set");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// An application, as far as Remora sees it: a port that accepts.
fn application() -> (TcpListener, u16) {
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let number = port.local_addr().expect("it is bound").port();
    (port, number)
}

fn publish(port: u16) -> Value {
    json!({
        "serviceName": "demo.Echo:1.0",
        "protocolType": "bolt",
        "providerMetaInfo": {
            "protocol": "bolt", "version": "4.0", "serializeType": "hessian2", "appName": "shop",
            "properties": { "port": port.to_string() },
        },
        "onlyPublishInCloud": false,
        "group": null,
    })
}

#[test]
fn what_the_mesh_api_published_returns_after_a_crash_and_goes_with_the_application() {
    let mut remora = Remora::start("embedded");
    let (port, number) = application();
    assert_eq!(
        remora.ask("/configs/application", &json!({"appName": "shop"}))["success"],
        true
    );
    assert_eq!(remora.ask("/services/publish", &publish(number))["success"], true);
    let ingress = |remora: &Remora| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let published = remora.published();
            match published.as_slice() {
                [one] if one.ends_with(" published") => return one.clone(),
                _ => assert!(Instant::now() < deadline, "{published:?}"),
            }
            std::thread::yield_now();
        }
    };
    let before = ingress(&remora);
    assert!(
        before.starts_with(&format!("demo.Echo:1.0 127.0.0.1:{number} 127.0.0.1:")),
        "{before}"
    );
    remora.restart_after_kill();
    assert_eq!(ingress(&remora), before, "at the same ingress");
    drop(port);
    remora.until(&[]);
}

#[test]
fn an_application_of_the_mesh_api_lives_on_a_sofaregistry() {
    // A Remora's own door is one.
    let shared = Remora::start("embedded");
    let beside = Remora::start(&format!("sofaregistry://{}", shared.sofaregistry));
    let (_port, number) = application();
    assert_eq!(beside.ask("/services/publish", &publish(number))["success"], true);
    let deadline = Instant::now() + PATIENCE;
    let at_shared = loop {
        match shared.published().as_slice() {
            [one] => break one.clone(),
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        std::thread::yield_now();
    };
    let mine = beside.published();
    assert_eq!(mine.len(), 1);
    let address = mine[0].split(' ').nth(2).expect("where it is published");
    assert!(
        at_shared.starts_with("demo.Echo:1.0 ") && at_shared.contains(&format!(" {address} ")),
        "as the other Remora published it: {at_shared}, {mine:?}"
    );
    let gone = json!({"serviceName": "demo.Echo:1.0", "protocolType": "bolt", "group": null});
    assert_eq!(beside.ask("/services/unpublish", &gone)["success"], true);
    shared.until(&[]);
    beside.until(&[]);
}
