// SPDX-License-Identifier: Apache-2.0
//! The relay does to connections what it is told.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use remora_faults::relay::serve_at;
use serde_json::Value;

/// A relay on a thread, its control connection, and one connection through it.
struct Scene {
    control: BufReader<TcpStream>,
    entry: SocketAddr,
    far_door: TcpListener,
}

impl Scene {
    fn new() -> Self {
        let far_door = TcpListener::bind("127.0.0.1:0").unwrap();
        let spec = format!("wire=127.0.0.1:0,{}", far_door.local_addr().unwrap());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let local = tokio::task::LocalSet::new();
            runtime.block_on(local.run_until(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                serve_at(listener, &[spec.parse().unwrap()]).await.unwrap();
            }));
        });
        let control = TcpStream::connect(receiver.recv().unwrap()).unwrap();
        let mut scene = Self {
            control: BufReader::new(control),
            entry: far_door.local_addr().unwrap(),
            far_door,
        };
        scene.entry = scene.told("wire stats")["routes"][0]["listen"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        scene
    }

    fn told(&mut self, line: &str) -> Value {
        self.control
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        self.control.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// Both ends of a connection that something went through.
    fn connected(&self) -> (TcpStream, TcpStream) {
        let mut near = TcpStream::connect(self.entry).unwrap();
        let (mut far, _) = self.far_door.accept().unwrap();
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        near.write_all(b"up").unwrap();
        assert_eq!(taken(&mut far, 2), b"up");
        far.write_all(b"down").unwrap();
        assert_eq!(taken(&mut near, 4), b"down");
        (near, far)
    }
}

fn taken(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Nothing arrives for a while.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let is_silent = stream
        .read(&mut [0; 8])
        .is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    is_silent
}

fn is_reset(stream: &mut TcpStream) -> bool {
    stream
        .read(&mut [0; 8])
        .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn what_is_held_in_one_direction_arrives_when_it_is_healed() {
    let mut scene = Scene::new();
    let (mut near, mut far) = scene.connected();
    scene.told("wire hold up");
    near.write_all(b"late").unwrap();
    far.write_all(b"soon").unwrap();
    assert_eq!(taken(&mut near, 4), b"soon");
    assert!(is_silent(&mut far));
    scene.told("wire heal");
    assert_eq!(taken(&mut far, 4), b"late");
}

#[test]
fn a_connection_that_lost_bytes_does_not_go_on() {
    let mut scene = Scene::new();
    let (mut near, mut far) = scene.connected();
    scene.told("* swallow up");
    near.write_all(b"lost").unwrap();
    assert!(is_silent(&mut far));
    far.write_all(b"back").unwrap();
    assert_eq!(taken(&mut near, 4), b"back");
    scene.told("* heal");
    assert!(is_reset(&mut near) && is_reset(&mut far));
    scene.connected();
}

#[test]
fn a_delay_holds_for_one_direction_and_keeps_the_order() {
    let mut scene = Scene::new();
    let (mut near, mut far) = scene.connected();
    scene.told("wire delay 200 down");
    let begun = Instant::now();
    near.write_all(b"quick").unwrap();
    taken(&mut far, 5);
    let quick = begun.elapsed();
    far.write_all(b"one").unwrap();
    far.write_all(b"two").unwrap();
    assert_eq!(taken(&mut near, 6), b"onetwo");
    assert!(begun.elapsed() >= quick + Duration::from_millis(200));
}

#[test]
fn a_rate_is_kept() {
    let mut scene = Scene::new();
    let (mut near, mut far) = scene.connected();
    scene.told("wire rate 10000 up");
    let begun = Instant::now();
    near.write_all(&[7; 4000]).unwrap();
    taken(&mut far, 4000);
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
}

#[test]
fn a_reset_is_seen_by_both_and_the_next_connection_is_good() {
    let mut scene = Scene::new();
    let (mut near, mut far) = scene.connected();
    scene.told("wire reset");
    assert!(is_reset(&mut near) && is_reset(&mut far));
    scene.connected();
}

#[test]
fn a_cut_delivers_as_many_bytes_as_it_says() {
    let mut scene = Scene::new();
    let (mut near, mut far) = scene.connected();
    scene.told("wire cut 5");
    near.write_all(b"0123456789").unwrap();
    assert_eq!(taken(&mut far, 5), b"01234");
    assert!(is_reset(&mut far) && is_reset(&mut near));
    scene.connected();
}

#[test]
fn nothing_arrives_behind_a_cut() {
    let mut scene = Scene::new();
    let (near, mut far) = scene.connected();
    // More than the sockets hold: many pieces wait in the relay when the cut comes.
    const SENT: usize = 24 << 20;
    let writer = std::thread::spawn(move || {
        let bytes: Vec<u8> = (0..SENT / 8).flat_map(|number| (number as u64).to_be_bytes()).collect();
        let mut near = near;
        let _ = near.write_all(&bytes);
    });
    taken(&mut far, 8 << 10);
    scene.told("wire cut 2000003");
    let mut got = Vec::new();
    let _ = far.read_to_end(&mut got);
    writer.join().unwrap();
    let expected = (0u64..).skip(1 << 10).flat_map(u64::to_be_bytes);
    assert!(
        got.len() < SENT && got.iter().copied().eq(expected.take(got.len())),
        "a gap in {} bytes",
        got.len()
    );
}

#[test]
fn half_a_close_leaves_the_other_half_open() {
    let mut scene = Scene::new();
    let (mut near, mut far) = scene.connected();
    scene.told("wire end up");
    assert_eq!(far.read(&mut [0; 8]).unwrap(), 0, "the end of what comes from near");
    far.write_all(b"still").unwrap();
    assert_eq!(taken(&mut near, 5), b"still");
    // The other half by itself, from a peer.
    far.shutdown(Shutdown::Write).unwrap();
    assert_eq!(near.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_refusal_leaves_old_connections_alone() {
    let mut scene = Scene::new();
    let (mut near, mut far) = scene.connected();
    scene.told("wire refuse");
    let mut refused = TcpStream::connect(scene.entry).unwrap();
    assert!(!matches!(refused.read(&mut [0; 8]), Ok(1..)));
    near.write_all(b"old").unwrap();
    assert_eq!(taken(&mut far, 3), b"old");
    scene.told("wire heal");
    scene.connected();
}

#[test]
fn what_it_does_not_understand_is_said() {
    let mut scene = Scene::new();
    for line in [
        "",
        "wire",
        "other heal",
        "wire end",
        "wire delay",
        "wire hold sideways",
        "wire dance",
    ] {
        let answer = scene.told(line);
        assert_eq!(answer["ok"], false, "{line}: {answer}");
    }
}
