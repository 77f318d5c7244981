// SPDX-License-Identifier: Apache-2.0
//! A place to run the binary in, and what tests ask of it.
#![allow(dead_code, reason = "each test crate uses a part of it")]

#[path = "../ports/mod.rs"]
mod ports;

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

pub use ports::free_ports;

/// Nothing here takes longer on a loaded machine, or it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration of its own: free ports, a directory that goes away.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub admin: SocketAddr,
    pub door: SocketAddr,
    pub egress: SocketAddr,
    pub ingress: SocketAddr,
}

impl Site {
    /// As before there were doors for SOFARPC: those are not named.
    pub fn new() -> Self {
        Self::with("", "")
    }

    /// With more facades and protocols.
    pub fn with(facades: &str, protocols: &str) -> Self {
        let [admin, door, egress, ingress] = free_ports();
        let site = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            admin,
            door,
            egress,
            ingress,
        };
        let ingress_port = ingress.port();
        // The range is next to nothing: no application registers here.
        let text = format!(
            "data_dir: {}\n\
             facades: {{ zookeeper: {{ listen: {door} }}{facades} }}\n\
             protocols: {{ dubbo: {{ egress: {egress}, ingress: {ingress}, ingress_range: {ingress_port}-{ingress_port} }}{protocols} }}\n\
             admin: {{ listen: {admin} }}\n",
            site.dir.path().join("data").display()
        );
        std::fs::write(site.config(), text).expect("the directory can be written");
        site
    }

    pub fn config(&self) -> std::path::PathBuf {
        self.dir.path().join("remora.yaml")
    }

    pub fn run(&self) -> Running {
        let child = remora(&["run", "--config"])
            .arg(self.config())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo built the binary");
        Running(child)
    }

    pub fn ask(&self, command: &str) -> Output {
        let admin = self.admin.to_string();
        remora(&[command, "--admin", &admin])
            .output()
            .expect("cargo built the binary")
    }
}

pub struct Running(pub Child);

impl Running {
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.0.id().to_string()])
            .status()
            .expect("kill is there");
        assert!(sent.success());
    }

    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {PATIENCE:?}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    pub fn said(&mut self) -> String {
        let mut said = String::new();
        let streams = (self.0.stdout.take(), self.0.stderr.take());
        streams.0.expect("piped").read_to_string(&mut said).expect("text");
        streams.1.expect("piped").read_to_string(&mut said).expect("text");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, in a test that passed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn remora(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remora"));
    command.env_clear().args(args);
    command
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

/// Waits for a fact.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

impl Site {
    /// `status --json`.
    pub fn status(&self) -> serde_json::Value {
        let output = remora(&["status", "--json", "--admin", &self.admin.to_string()]).output();
        serde_json::from_slice(&output.expect("the binary").stdout).unwrap_or_default()
    }

    /// Puts a file with more lines in the configuration's place, as an editor does.
    pub fn write(&self, more: &str) {
        let first = self.dir.path().join("first.yaml");
        if !first.exists() {
            std::fs::copy(self.config(), &first).expect("the directory can be written");
        }
        let text = std::fs::read_to_string(&first).expect("it was written");
        let draft = self.dir.path().join("draft.yaml");
        std::fs::write(&draft, text + more).expect("the directory can be written");
        std::fs::rename(draft, self.config()).expect("the directory can be written");
    }
}

/// A page of the admin port, as what a command said.
pub fn get(admin: SocketAddr, page: &str) -> Output {
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    let mut stream = std::net::TcpStream::connect(admin).expect("it runs");
    let request = format!("GET {page} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut stdout = Vec::new();
    stream.read_to_end(&mut stdout).expect("it answers");
    Output {
        status: ExitStatus::from_raw(0),
        stdout,
        stderr: Vec::new(),
    }
}
