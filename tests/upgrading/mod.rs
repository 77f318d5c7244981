// SPDX-License-Identifier: Apache-2.0
//! A Remora between a Dubbo provider and consumers that never stop calling; none of them ever opens a second connection.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

#[path = "../ports/mod.rs"]
mod ports;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ports::free_ports;
use remora_dubbo::{Answer, Dubbo, StringCall, answer, string_arguments, string_reply};
use remora_protocol::{BytesMut, Decoded, Frame, FrameKind, Protocol, StreamId};

/// Nothing here takes longer on a loaded machine, or it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
const SERVICE: &str = "demo.Echo";

/// A running Remora, with its configuration.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub admin: SocketAddr,
    pub egress: SocketAddr,
    pub ingress: SocketAddr,
    pub process: Child,
    stop: Arc<AtomicBool>,
}

impl Site {
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let provider = provider();
        let [admin, egress, ingress] = free_ports();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let services = dir.path().join("services.yaml");
        let instances = format!("instances:\n  - {{ protocol: dubbo, service: {SERVICE}, address: {provider} }}\n");
        std::fs::write(&services, instances).expect("the directory can be written");
        let range = ingress.port();
        let text = format!(
            "registry: file://{}\n\
             data_dir: {}\n\
             facades: {{ zookeeper: off, mesh: off, dubbod: off, sofaregistry: off }}\n\
             protocols:\n\
             \x20 dubbo: {{ egress: {egress}, ingress: {ingress}, ingress_range: {range}-{range} }}\n\
             \x20 bolt: off\n\
             publish:\n\
             \x20 - {{ protocol: dubbo, service: {SERVICE}, address: {provider} }}\n\
             follow:\n\
             \x20 - {{ protocol: dubbo, service: {SERVICE} }}\n\
             admin: {{ listen: {admin} }}\n",
            services.display(),
            dir.path().join("data").display()
        );
        std::fs::write(dir.path().join("remora.yaml"), text).expect("the directory can be written");
        let log = std::fs::File::create(dir.path().join("log")).expect("the directory can be written");
        let process = Command::new(env!("CARGO_BIN_EXE_remora"))
            .env_clear()
            .args(["run", "--config"])
            .arg(dir.path().join("remora.yaml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("cargo built the binary");
        let site = Self {
            dir,
            admin,
            egress,
            ingress,
            process,
            stop,
        };
        let waited = site.ask("wait", &["--timeout", "60s"]);
        assert!(waited.status.success(), "{}", text_of(&waited));
        site
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("remora.yaml")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn ask(&self, command: &str, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_remora"))
            .env_clear()
            .args([command, "--admin", &self.admin.to_string()])
            .args(more)
            .output()
            .expect("cargo built the binary")
    }

    /// Upgrades, which must succeed.
    pub fn upgrade(&self, more: &[&str]) -> String {
        let output = self.ask("upgrade", more);
        assert!(output.status.success(), "{}\n{}", text_of(&output), self.log());
        text_of(&output)
    }

    /// Tries to upgrade, which must fail.
    pub fn upgrade_fails(&self, more: &[&str]) -> String {
        let output = self.ask("upgrade", more);
        assert_eq!(output.status.code(), Some(1), "{}", text_of(&output));
        text_of(&output)
    }

    /// Consumers that call until [`Load::end`]: two at the egress, two at the ingress, and one with a call that takes long.
    pub fn load(&self) -> Load {
        let calls = Arc::new(AtomicU64::new(0));
        let consumers = [self.egress, self.egress, self.ingress, self.ingress];
        let mut threads: Vec<_> = consumers
            .into_iter()
            .map(|addr| {
                let (stop, calls) = (Arc::clone(&self.stop), Arc::clone(&calls));
                let mut consumer = Consumer::dial(addr);
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        consumer.call("quick");
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let stop = Arc::clone(&self.stop);
        let mut consumer = Consumer::dial(self.egress);
        threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                consumer.call("wait 1500");
            }
        }));
        Load { threads, calls }
    }

    /// Ends the load: no call may have failed.
    pub fn end(&self, load: Load) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in load.threads {
            if let Err(panic) = thread.join() {
                let why = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                panic!("a call failed: {why}\n{}", self.log());
            }
        }
        self.stop.store(false, Ordering::Relaxed);
        load.calls.load(Ordering::Relaxed)
    }

    pub fn exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().expect("it is our child") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "still running after {PATIENCE:?}\n{}",
                self.log()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.process.id().to_string()])
            .status();
        assert!(sent.expect("kill is there").success());
    }

    /// The process that serves.
    pub fn serving(&self) -> u64 {
        let view: serde_json::Value = serde_json::from_str(&http(self.admin, "/upgrade")).expect("JSON");
        view["pid"].as_u64().expect("a process id")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        // Whoever serves by now; it may have ended.
        let _ = self.ask("stop", &["--timeout", "20s"]);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Consumers at work.
pub struct Load {
    threads: Vec<JoinHandle<()>>,
    calls: Arc<AtomicU64>,
}

impl Load {
    /// Waits until so many more calls were answered.
    pub fn advance(&self, calls: u64) {
        let wanted = self.calls.load(Ordering::Relaxed) + calls;
        let deadline = Instant::now() + PATIENCE;
        while self.calls.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline, "calls do not go on");
            assert!(
                !self.threads.iter().any(JoinHandle::is_finished),
                "a consumer has ended"
            );
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

/// One connection for good, one call at a time.
pub struct Consumer {
    stream: TcpStream,
    input: BytesMut,
    id: u64,
}

impl Consumer {
    pub fn dial(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the port is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        stream.set_nodelay(true).expect("no delay");
        Self {
            stream,
            input: BytesMut::new(),
            id: 0,
        }
    }

    /// Calls, and checks that the answer is the one to this call.
    pub fn call(&mut self, argument: &str) {
        self.id += 1;
        let argument = format!("{argument} #{}", self.id);
        let call = StringCall {
            service: SERVICE,
            method: "say",
            arguments: &[&argument],
            timeout: Some(PATIENCE),
            ..StringCall::default()
        };
        let sent = self.stream.write_all(&call.to_request(StreamId(self.id)));
        assert!(sent.is_ok(), "call {argument}: {sent:?}");
        let frame = loop {
            match next(&mut self.stream, &mut self.input) {
                Some(frame) if frame.kind == FrameKind::Reply => break frame,
                Some(frame) => assert_eq!(frame.kind, FrameKind::Heartbeat, "call {argument}"),
                None => panic!("call {argument}: the connection closed"),
            }
        };
        assert_eq!(frame.stream_id.0, self.id, "call {argument}");
        assert_eq!(answer(&frame).expect("a reply"), Answer::Returned(Some(argument)));
    }
}

/// Answers what it is asked; `wait 300` after 300 ms.
fn provider() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    addr
}

fn serve(mut stream: TcpStream) {
    let mut input = BytesMut::new();
    while let Some(frame) = next(&mut stream, &mut input) {
        match frame.kind {
            FrameKind::Request => {
                let Ok(mut out) = stream.try_clone() else { return };
                let argument = string_arguments(&frame).unwrap_or_default().concat();
                let reply = string_reply(&frame, &argument).expect("a request");
                let wait = argument
                    .strip_prefix("wait ")
                    .and_then(|rest| rest.split(' ').next()?.parse().ok());
                match wait {
                    Some(ms) => drop(std::thread::spawn(move || {
                        std::thread::sleep(Duration::from_millis(ms));
                        let _ = out.write_all(&reply);
                    })),
                    None => drop(out.write_all(&reply)),
                }
            }
            FrameKind::Heartbeat => {
                let _ = stream.write_all(&Dubbo.heartbeat_reply(&frame).unwrap_or_default());
            }
            _ => {}
        }
    }
}

fn next(stream: &mut TcpStream, input: &mut BytesMut) -> Option<Frame> {
    loop {
        if let Decoded::Frame(frame) = Dubbo.decode(input, 1 << 20).expect("dubbo") {
            return Some(frame);
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return None,
            Ok(n) => input.extend_from_slice(&bytes[..n]),
        }
    }
}

pub fn http(addr: SocketAddr, page: &str) -> String {
    let mut stream = TcpStream::connect(addr).expect("admin listens");
    let request = format!("GET {page} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default()
}

pub fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
