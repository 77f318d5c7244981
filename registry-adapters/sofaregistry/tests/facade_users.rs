// SPDX-License-Identifier: Apache-2.0
//! The front door between several users of one machine, and when there are too many connections.

#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use remora_registry::peers::Access;
use remora_sofaregistry::facade::{Config, SofaRegistryFacade};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

/// A door whose system has the connections and listening ports of users that are said.
struct Machine {
    dir: tempfile::TempDir,
    rows: Vec<String>,
    door: Door,
}

impl Machine {
    fn with(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let facade = SofaRegistryFacade::bind(config, None, "default").unwrap();
        let door = Door::serving(facade.reads_sockets_from(dir.path()).remember_in(dir.path()));
        let mut machine = Self {
            dir,
            rows: Vec::new(),
            door,
        };
        machine.say("  sl  local_address rem_address   st".to_owned());
        machine
    }

    fn say(&mut self, row: String) {
        self.rows.push(row);
        std::fs::write(self.dir.path().join("tcp"), self.rows.join("\n") + "\n").unwrap();
    }

    fn listens(&mut self, uid: u32, port: u16) {
        self.say(format!(
            "  0: 00000000:{port:04X} 00000000:0000 0A 0:0 0:0 0 {uid} 0 77"
        ));
    }

    /// A client of this user.
    async fn client(&mut self, uid: u32) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (from, to) = (hex(socket.local_addr().unwrap()), hex(self.door.session));
        self.say(format!("  1: {from} {to} 01 0:0 0:0 0 {uid} 0 78"));
        Client::on(socket.connect(self.door.session).await.unwrap())
    }
}

fn hex(addr: SocketAddr) -> String {
    match addr {
        SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port()),
        SocketAddr::V6(_) => unreachable!("tests use IPv4"),
    }
}

#[tokio::test]
async fn nobody_but_root_changes_what_another_user_published() {
    let mut machine = Machine::with(config());
    let mut ours = machine.client(1000).await;
    ours.register(&publisher(ECHO, "p", &[LINE])).await;
    let mut theirs = machine.client(1001).await;
    let other = LINE.replace("10.77.0.3", "10.77.0.66");
    for message in [
        again(publisher(ECHO, "p", &[&other])),
        end(again(publisher(ECHO, "p", &[]))),
    ] {
        let answer = theirs.ask(&message).await;
        assert!(answer.refused, "{answer:?}");
        let told = answer.message.unwrap();
        assert!(told.contains("user 1000") && told.contains("user 1001"), "{told}");
    }
    assert_eq!(machine.door.memory.published(ECHO_TARGET), ["10.77.0.3:12200"]);
    theirs.register(&publisher(ECHO, "theirs", &[&other])).await;
    let mut root = machine.client(0).await;
    root.register(&end(again(publisher(ECHO, "p", &[])))).await;
    assert_eq!(machine.door.memory.published(ECHO_TARGET), ["10.77.0.66:12200"]);
}

#[tokio::test]
async fn the_port_that_another_user_listens_on_is_not_published() {
    let mut machine = Machine::with(config());
    machine.listens(1000, 12200);
    let mut theirs = machine.client(1001).await;
    let answer = theirs.ask(&publisher(ECHO, "p", &[LINE])).await;
    assert!(answer.refused, "{answer:?}");
    assert!(
        answer
            .message
            .unwrap()
            .contains("port 12200 is listened on by user 1000")
    );
    assert!(machine.door.memory.published(ECHO_TARGET).is_empty());
    for uid in [1000, 0] {
        let mut may = machine.client(uid).await;
        may.register(&publisher(ECHO, &format!("of-{uid}"), &[LINE])).await;
    }
}

#[tokio::test]
async fn a_user_who_may_not_use_the_door_gets_no_answer() {
    let access = Access {
        users: BTreeSet::from([1000]),
        ..Access::default()
    };
    let mut machine = Machine::with(Config { access, ..config() });
    let mut theirs = machine.client(1001).await;
    theirs.closed().await;
    let mut ours = machine.client(1000).await;
    ours.register(&publisher(ECHO, "p", &[LINE])).await;
    let mut http = TcpStream::connect(machine.door.http).await.unwrap();
    http.write_all(b"GET /api/servers/query HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // A reset is a close too.
    let _ = timeout(PATIENCE, http.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(machine.door.stats.denied.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn connections_that_say_nothing_make_way_on_both_ports() {
    let door = Door::with(
        Config {
            max_connections: 8,
            ..config()
        },
        None,
    );
    let mut first = door.client().await;
    first.register(&publisher(ECHO, "p", &[LINE])).await;
    let mut silent = Vec::new();
    for to in [door.session, door.http] {
        for _ in 0..40 {
            silent.push(TcpStream::connect(to).await.unwrap());
        }
    }
    for n in 0..7 {
        let mut http = TcpStream::connect(door.http).await.unwrap();
        http.write_all(b"GET /api/servers/query HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, http.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.ends_with(&door.session.to_string()), "{answer}");
        let mut client = door.client().await;
        client.register(&publisher(ECHO, &format!("p-{n}"), &[LINE])).await;
        silent.push(TcpStream::connect(door.session).await.unwrap());
        drop(client);
    }
    first.register(&subscriber(ECHO, "s")).await;
    assert!(door.stats.made_way.load(Ordering::Relaxed) >= 60);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_not_whole_in_time_closes_its_connection_however_slowly_it_comes() {
    let door = Door::open();
    let mut slow = TcpStream::connect(door.session).await.unwrap();
    let begin = Instant::now();
    // The head of a bolt request, one byte every seven seconds: never silent for long enough to be idle.
    let feeding = async {
        for byte in [1_u8, 1, 0, 1, 1, 0, 0, 0, 7, 1, 0, 0] {
            if slow.write_all(&[byte]).await.is_err() {
                return;
            }
            let mut end = [0; 1];
            if timeout(Duration::from_secs(7), slow.read(&mut end)).await.is_ok() {
                return;
            }
        }
        panic!("not closed after {:?}", begin.elapsed());
    };
    feeding.await;
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_secs(30) && took < Duration::from_secs(36),
        "{took:?}"
    );
    // A frame of its own in time each, for as long: nobody is closed.
    let mut steady = door.client().await;
    for n in 0..10 {
        steady.register(&publisher(ECHO, &format!("p-{n}"), &[LINE])).await;
        sleep(Duration::from_secs(7)).await;
    }
    assert_eq!(door.stats.idle.load(Ordering::Relaxed), 1);
}
