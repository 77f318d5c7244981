// SPDX-License-Identifier: Apache-2.0
//! What the embedded registry keeps over its end, planned or not.

#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use remora_zookeeper::backend::Duplex;
use remora_zookeeper::embedded::{FILE_NAME, OpenError, Options, Server};
use remora_zookeeper::wire::request::Create;
use remora_zookeeper::wire::{CreateMode, ErrorCode, OpCode, Request};
use support::{Client, acl, create, create_record, eventually, pipe};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

fn open(dir: &Path) -> Server {
    Server::open(dir, Options::default()).unwrap()
}

#[tokio::test]
async fn reopened_registry_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let server = open(dir.path());
    let mut c = Client::new(&server).await;
    c.auth("u:p").await.unwrap();
    c.create("/plain", CreateMode::Persistent).await.unwrap();
    c.set("/plain", b"changed").await.unwrap();
    c.create("/plain/s", CreateMode::PersistentSequential).await.unwrap();
    c.create("/e", CreateMode::Ephemeral).await.unwrap();
    c.create("/gone", CreateMode::Persistent).await.unwrap();
    c.delete("/gone").await.unwrap();
    let private = Create {
        acl: acl("auth", "", 31),
        data: None,
        ..create_record("/private", CreateMode::Persistent)
    };
    c.ask(Request::Create(private)).await.unwrap();
    let container = Create {
        op: OpCode::CreateContainer,
        ..create_record("/c", CreateMode::Container)
    };
    c.ask(Request::Create(container)).await.unwrap();
    let paths = [
        "/",
        "/plain",
        "/plain/s0000000000",
        "/e",
        "/private",
        "/c",
        "/zookeeper/config",
    ];
    let mut before = Vec::new();
    for path in paths {
        before.push((
            c.get(path, false).await.unwrap(),
            c.ask(Request::GetAcl { path: path.into() }).await.unwrap(),
        ));
    }
    let nodes = server.figures();
    server.close().await;

    let server = open(dir.path());
    let again = server.figures();
    assert_eq!(
        (again.nodes, again.data_bytes, again.ephemerals),
        (nodes.nodes, nodes.data_bytes, nodes.ephemerals)
    );
    assert!(again.zxid > nodes.zxid);
    let mut c = Client::resume(&server, &c).await.expect("its session goes on");
    c.auth("u:p").await.unwrap();
    for (path, before) in paths.into_iter().zip(before) {
        let now = (
            c.get(path, false).await.unwrap(),
            c.ask(Request::GetAcl { path: path.into() }).await.unwrap(),
        );
        assert_eq!(now, before, "{path}");
    }
    let next = c.create("/plain/s", CreateMode::PersistentSequential).await.unwrap();
    assert_eq!(next, "/plain/s0000000001");
    assert_eq!(c.get("/gone", false).await, Err(ErrorCode::NO_NODE));
    c.close().await;
    let mut other = Client::new(&server).await;
    assert_eq!(other.exists("/e", false).await, Err(ErrorCode::NO_NODE));
}

#[tokio::test]
async fn session_that_nobody_resumes_after_a_restart_expires() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        min_session_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let server = Server::open(dir.path(), options.clone()).unwrap();
    let mut c = Client::open_with(pipe(&server), None, 300).await.unwrap();
    c.create("/e", CreateMode::Ephemeral).await.unwrap();
    server.close().await;
    let opened = Instant::now();
    let server = Server::open(dir.path(), options).unwrap();
    let mut other = Client::new(&server).await;
    other
        .exists("/e", false)
        .await
        .expect("it has its full timeout from the start on");
    eventually("its node is gone", async || other.exists("/e", false).await.err()).await;
    assert!(opened.elapsed() >= Duration::from_millis(300));
    assert!(Client::resume(&server, &c).await.is_none());
}

#[tokio::test]
async fn closed_session_stays_closed_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = open(dir.path());
    let mut c = Client::new(&server).await;
    c.ask(Request::CloseSession).await.unwrap();
    server.close().await;
    assert!(Client::resume(&open(dir.path()), &c).await.is_none());
}

#[tokio::test]
async fn second_opening_says_that_it_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let server = open(dir.path());
    let second = Server::open(dir.path(), Options::default());
    assert!(matches!(second, Err(OpenError::InUse { .. })));
    drop(server);
    open(dir.path());
}

#[test]
fn foreign_or_damaged_file_is_an_error_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE_NAME);
    for content in [&b"not a database"[..], &[0; 8192], b"redb\x1a\x0a\xa9\x0d\x0a"] {
        std::fs::write(&file, content).unwrap();
        let Err(error) = Server::open(dir.path(), Options::default()) else {
            panic!("opened")
        };
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(FILE_NAME), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), content);
    }
    let blocked = dir.path().join("file");
    std::fs::write(&blocked, b"").unwrap();
    assert!(matches!(
        Server::open(&blocked, Options::default()),
        Err(OpenError::Io { .. })
    ));
}

#[tokio::test]
async fn flipped_bytes_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let server = open(dir.path());
    let mut c = Client::new(&server).await;
    for i in 0..50 {
        c.create(&format!("/n{i}"), CreateMode::Persistent).await.unwrap();
    }
    server.close().await;
    let file = dir.path().join(FILE_NAME);
    let whole = std::fs::read(&file).unwrap();
    let used = whole.iter().rposition(|b| *b != 0).unwrap();
    // Panics inside the store are caught and reported as an error; their text is of no use here.
    std::panic::set_hook(Box::new(|_| {}));
    for i in 0..120 {
        std::fs::write(&file, &whole).unwrap();
        let mut f = std::fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
        let at = (used / 120 * i) as u64;
        let mut byte = [0];
        f.seek(SeekFrom::Start(at)).unwrap();
        f.read_exact(&mut byte).unwrap();
        f.seek(SeekFrom::Start(at)).unwrap();
        f.write_all(&[!byte[0]]).unwrap();
        drop(f);
        if let Err(e) = Server::open(dir.path(), Options::default()) {
            assert!(matches!(e, OpenError::Corrupt { .. } | OpenError::Io { .. }), "{e}");
        }
    }
    let _ = std::panic::take_hook();
}

const DIR: &str = "REGISTRY_TEST_DIR";

/// Not a test of its own: the process that the next one kills.
#[test]
fn registry_process() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = open(Path::new(&dir));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("\nlistening on {}", listener.local_addr().unwrap());
        server.serve(listener, CancellationToken::new()).await;
    });
}

struct Process {
    child: Child,
    addr: String,
}

impl Process {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["registry_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = lines
            .find_map(|line| line.unwrap().strip_prefix("listening on ").map(str::to_owned))
            .unwrap();
        Self { child, addr }
    }

    async fn connect(&self) -> Box<dyn Duplex> {
        Box::new(TcpStream::connect(&self.addr).await.unwrap())
    }

    // SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
async fn kill_9_takes_back_nothing_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut answered: Vec<String> = Vec::new();
    let mut before: Option<Client> = None;
    for round in 0..6 {
        let process = Process::start(dir.path());
        let mut c = match &before {
            None => Client::open(process.connect().await, None).await.unwrap(),
            Some(before) => Client::open(process.connect().await, Some(before))
                .await
                .expect("its session goes on"),
        };
        let present = c.children("/", false).await.unwrap();
        for name in &answered {
            assert!(
                present.contains(name),
                "{name} was answered before the kill in round {round}"
            );
        }
        // Several requests under way all the time; the kill comes in the middle of them.
        let mode = if round % 2 == 0 {
            CreateMode::Ephemeral
        } else {
            CreateMode::Persistent
        };
        let mut sent = 0;
        let mut killed = Some(process);
        for i in 0..4000 {
            while sent < i + 200 {
                let record = Create {
                    data: Some(Bytes::from(vec![1; 300])),
                    ..create_record(&format!("/r{round}-{sent}"), mode)
                };
                c.send(&Request::Create(record)).await;
                sent += 1;
            }
            let Some((head, _)) = c.reply().await else { break };
            assert_eq!(head.err, ErrorCode::OK);
            answered.push(format!("r{round}-{i}"));
            if i == 300 + round * 77
                && let Some(process) = killed.take()
            {
                process.kill();
            }
        }
        assert!(killed.is_none());
        before = Some(c);
    }
    let process = Process::start(dir.path());
    let before = before.unwrap();
    let mut c = Client::open(process.connect().await, Some(&before))
        .await
        .expect("its session goes on");
    let present = c.children("/", false).await.unwrap();
    assert!(answered.iter().all(|name| present.contains(name)));
    assert_eq!(c.exists("/r0-0", false).await.unwrap().ephemeral_owner, before.session);
    c.close().await;
    let mut other = Client::open(process.connect().await, None).await.unwrap();
    let left = other.children("/", false).await.unwrap();
    assert!(
        left.iter()
            .all(|name| !name.starts_with("r0-") && !name.starts_with("r2-")),
        "ephemerals went with it"
    );
    process.kill();
}

#[tokio::test]
async fn answer_waits_for_the_disk_on_other_connections_too() {
    let dir = tempfile::tempdir().unwrap();
    let server = open(dir.path());
    let (mut a, mut b) = (Client::new(&server).await, Client::new(&server).await);
    // Whatever a reader was shown must be there after the writer's change was cut off in the middle.
    for i in 0..50 {
        let path = format!("/n{i}");
        a.send(&create(&path, CreateMode::Persistent)).await;
        if b.exists(&path, false).await.is_ok() {
            let copy = tempfile::tempdir().unwrap();
            std::fs::copy(dir.path().join(FILE_NAME), copy.path().join(FILE_NAME)).unwrap();
            let copied = open(copy.path());
            let mut reader = Client::new(&copied).await;
            reader.exists(&path, false).await.expect("shown, so on disk");
        }
        a.reply().await.unwrap();
    }
}
