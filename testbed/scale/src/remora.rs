// SPDX-License-Identifier: Apache-2.0
//! The processes under test, and what their admin pages say.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use remora_zookeeper::client::Client;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::world;

/// Where providers register.
pub struct Registry {
    pub address: String,
    // Killed when dropped.
    _child: Option<Child>,
}

impl Registry {
    /// One that runs already.
    pub fn named(address: String) -> Self {
        Self { address, _child: None }
    }

    /// The embedded one, as a process of its own.
    pub async fn start(binary: &str, directory: &Path) -> anyhow::Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let child = Command::new(binary)
            .args(["registry", "--listen", &address, "--data-dir"])
            .arg(directory.join("registry"))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{binary} cannot be started; build it with `cargo build --release`"))?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(&address).await.is_err() {
            ensure!(
                Instant::now() < deadline,
                "the embedded registry did not open {address}"
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(Self {
            address,
            _child: Some(child),
        })
    }
}

/// A `remora run`.
pub struct Remora {
    binary: String,
    registry: String,
    directory: PathBuf,
    door: u16,
    admin: u16,
    child: Child,
    pub started_in: Duration,
}

impl Remora {
    pub async fn start(binary: &str, registry: &str, directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let [door, admin, egress, ingress] = [free_port()?, free_port()?, free_port()?, free_port()?];
        let config = format!(
            "registry: zookeeper://{registry}\ndata_dir: {}\nfacades: {{ zookeeper: {{ listen: 127.0.0.1:{door} }} }}\n\
             protocols: {{ dubbo: {{ egress: 127.0.0.1:{egress}, ingress: 127.0.0.1:{ingress} }} }}\n\
             admin: {{ listen: 127.0.0.1:{admin} }}\n",
            directory.join("data").display()
        );
        std::fs::write(directory.join("remora.yaml"), config)?;
        Self::launch(
            binary.to_owned(),
            registry.to_owned(),
            directory.to_owned(),
            door,
            admin,
        )
        .await
    }

    async fn launch(
        binary: String,
        registry: String,
        directory: PathBuf,
        door: u16,
        admin: u16,
    ) -> anyhow::Result<Self> {
        let timer = Instant::now();
        let child = Command::new(&binary)
            .args(["run", "--config"])
            .arg(directory.join("remora.yaml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{binary} cannot be started; build it with `cargo build --release`"))?;
        let remora = Self {
            binary,
            registry,
            directory,
            door,
            admin,
            child,
            started_in: Duration::ZERO,
        };
        while !remora.get("/readyz").await.is_ok_and(|(status, _)| status == 200) {
            ensure!(timer.elapsed() < PATIENCE, "Remora did not become ready");
            tokio::time::sleep(POLL).await;
        }
        Ok(Self {
            started_in: timer.elapsed(),
            ..remora
        })
    }

    /// Stops it with SIGKILL and starts it again with the same directory.
    pub async fn restart(mut self) -> anyhow::Result<Self> {
        self.child.kill().await?;
        Self::launch(self.binary, self.registry, self.directory, self.door, self.admin).await
    }

    /// An application's session at its door.
    pub async fn application(&self) -> anyhow::Result<Client> {
        world::connect(&format!("127.0.0.1:{}", self.door))
    }

    /// Waits until the catalog is as wanted.
    pub async fn wait_for(&self, what: &str, is_so: impl Fn(&View) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.get("/catalog").await?;
            ensure!(status == 200, "/catalog answered {status}");
            if is_so(&View::of(&serde_json::from_slice(&body)?)) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
            tokio::time::sleep(CATALOG_POLL).await;
        }
    }

    /// CPU time used so far. Source: proc(5), `stat` fields 14 and 15, 100 ticks a second.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(self.proc("stat")?)?;
        let after_name = stat.rsplit_once(')').context("no name in stat")?.1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let tick = |at: usize| {
            fields
                .get(at)
                .and_then(|f| f.parse::<u64>().ok())
                .context("no time in stat")
        };
        Ok(Duration::from_millis((tick(11)? + tick(12)?) * 10))
    }

    pub fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(self.proc("status")?)?;
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let pid = self.child.id().context("Remora has ended")?;
        Ok(format!("/proc/{pid}/{file}"))
    }

    async fn get(&self, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n",
            self.admin
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let end = answer
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .context("no HTTP head")?;
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .context("no HTTP status")?;
        let body = answer.split_off(end + 4);
        if head.contains("transfer-encoding: chunked") {
            return Ok((status, unchunked(&body)?));
        }
        Ok((status, body))
    }
}

fn unchunked(mut body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let line = body.windows(2).position(|w| w == b"\r\n").context("no chunk size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line])?, 16)?;
        body = &body[line + 2..];
        if size == 0 {
            return Ok(out);
        }
        let Some(chunk) = body.get(..size) else {
            bail!("a chunk is cut off")
        };
        out.extend_from_slice(chunk);
        body = body.get(size + 2..).context("a chunk has no end")?;
    }
}

/// The routes of `/catalog`: addresses by service.
pub struct View(HashMap<String, HashSet<String>>);

impl View {
    fn of(catalog: &Value) -> Self {
        let mut services: HashMap<String, HashSet<String>> = HashMap::new();
        let routes = catalog.pointer("/routes").and_then(Value::as_array);
        for route in routes.into_iter().flatten() {
            // `name:version`
            let Some(key) = route.get("service").and_then(Value::as_str) else {
                continue;
            };
            let name = key.split(':').next().unwrap_or(key);
            let known = services.entry(name.to_owned()).or_default();
            let instances = route.get("instances").and_then(Value::as_array);
            for instance in instances.into_iter().flatten() {
                known.extend(instance.get("address").and_then(Value::as_str).map(str::to_owned));
            }
        }
        Self(services)
    }

    /// Providers known of a service.
    pub fn providers(&self, service: &str) -> usize {
        self.0.get(service).map_or(0, HashSet::len)
    }

    /// Whether exactly the providers with these numbers are known.
    pub fn has_only(&self, service: &str, mut numbers: Range<usize>) -> bool {
        let Some(known) = self.0.get(service) else { return false };
        known.len() == numbers.len() && numbers.all(|n| known.contains(&world::address(n)))
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
// A catalog of some thousand entries is work for Remora, too.
const CATALOG_POLL: Duration = Duration::from_millis(100);
