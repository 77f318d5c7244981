// SPDX-License-Identifier: Apache-2.0
//! `tree.txt` in a registry, and a relay that notes every operation on its way there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes, BytesMut};
use remora_naming::dubbo_url::encode_component;
use remora_zookeeper::backend::Ensemble;
use remora_zookeeper::client::{Client, Options};
use remora_zookeeper::embedded::{self, Server};
use remora_zookeeper::wire::{Acl, CreateMode, ErrorCode, Seq, perms, split_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

pub const TREE: &str = include_str!("tree.txt");

/// An embedded registry on a port of its own, with a session that holds what is built.
pub struct Registry {
    pub addr: SocketAddr,
    pub client: Client,
    _stop: DropGuard,
}

impl Registry {
    pub async fn start() -> Self {
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = Server::in_memory(embedded::Options::default());
        let end = stop.clone();
        tokio::spawn(async move { server.serve(listener, end).await });
        let backend = Ensemble::parse(&format!("zookeeper://{addr}")).unwrap();
        let client = Client::start(Arc::new(backend), Options::default(), stop.clone());
        Self {
            addr,
            client,
            _stop: stop.drop_guard(),
        }
    }

    /// Makes every node of `text`, a file like `tree.txt`.
    pub async fn build(&self, text: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let text = text
            .replace("$NOW", &now.to_string())
            .replace("$LATER", &(now + 3_600_000).to_string());
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (kind, rest) = line.split_once(' ').unwrap();
            let (place, data) = rest.split_once(" = ").unwrap_or((rest, ""));
            let path = match place.split_once(" + ") {
                Some((dir, child)) => format!("{dir}/{}", encode_component(child)),
                None => place.to_owned(),
            };
            let data = data.replace("\\n", "\n").replace("\\x01", "\u{1}");
            self.client.create_parents(&path).await.unwrap();
            let data = Bytes::from(data.into_bytes());
            let made = match kind {
                "E" => self.client.create(&path, data, CreateMode::Ephemeral).await,
                "P" => self.client.create(&path, data, CreateMode::Persistent).await,
                "S" => {
                    let other = Acl {
                        perms: perms::ALL,
                        scheme: "digest".into(),
                        id: "other:0123456789abcdefghijklmnopq=".into(),
                    };
                    let acl = Seq::from_iter([other]);
                    self.client.create_as(&path, data, CreateMode::Persistent, acl).await
                }
                other => panic!("no such kind: {other}"),
            };
            match made {
                Ok(_) => {}
                Err(error) if error.code() == Some(ErrorCode::NODE_EXISTS) => {}
                Err(error) => panic!("{path}: {error}"),
            }
        }
    }
}

/// Operations that were sent, by number; the greeting counts as 0, four-letter words by their letters.
pub type Record = Arc<Mutex<BTreeMap<String, usize>>>;

/// Relays connections to `to` and notes every operation of their clients.
pub async fn recorder(to: SocketAddr) -> (SocketAddr, Record) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let record = Record::default();
    let noted = Arc::clone(&record);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let noted = Arc::clone(&noted);
            tokio::spawn(async move {
                let Ok(server) = TcpStream::connect(to).await else {
                    return;
                };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let back = async { tokio::io::copy(&mut from_server, &mut to_client).await };
                let forth = async {
                    let (mut input, mut is_greeted) = (BytesMut::new(), false);
                    loop {
                        let before = input.len();
                        if from_client.read_buf(&mut input).await.unwrap_or(0) == 0 {
                            let _ = to_server.shutdown().await;
                            break;
                        }
                        let fresh = input[before..].to_vec();
                        note(&mut input, &mut is_greeted, &noted);
                        if to_server.write_all(&fresh).await.is_err() {
                            break;
                        }
                    }
                };
                let _ = tokio::join!(back, forth);
            });
        }
    });
    (addr, record)
}

fn note(input: &mut BytesMut, is_greeted: &mut bool, record: &Record) {
    let add = |what: String| *record.lock().unwrap().entry(what).or_default() += 1;
    if !*is_greeted && input.len() == 4 && input.iter().all(u8::is_ascii_lowercase) {
        add(String::from_utf8(input.split().to_vec()).unwrap());
        return;
    }
    while let Some(mut frame) = split_frame(input, 1 << 20).unwrap() {
        if !std::mem::replace(is_greeted, true) {
            add("greeting".into());
            continue;
        }
        let (_xid, op) = (frame.get_i32(), frame.get_i32());
        // A watch is the last byte of a read.
        let watch = matches!(op, 3 | 4 | 8 | 12) && frame.last() == Some(&1);
        add(format!("{op}{}", if watch { " with a watch" } else { "" }));
    }
}

pub const DEADLINE: Duration = Duration::from_secs(30);
