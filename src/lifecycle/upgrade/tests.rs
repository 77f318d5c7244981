// SPDX-License-Identifier: Apache-2.0
//! Letters, and what becomes of those that are damaged.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::channel::{Channel, ChannelError, FDS_MAX, Letter, TEXT_MAX};
use super::message::{Kind, Serves};
use super::supervise::Watch;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn pair() -> (Channel, Channel) {
    let (one, other) = UnixStream::pair().unwrap();
    (Channel::new(one), Channel::new(other))
}

/// The bytes of a letter without descriptors.
fn wire(letter: &Letter) -> Vec<u8> {
    let (one, mut other) = UnixStream::pair().unwrap();
    Channel::new(one).send(letter, soon()).unwrap();
    let mut bytes = Vec::new();
    other.read_to_end(&mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Result<Letter, ChannelError> {
    let (mut one, other) = UnixStream::pair().unwrap();
    one.write_all(bytes).unwrap();
    drop(one);
    Channel::new(other).receive(soon())
}

fn letter() -> Letter {
    Letter {
        kind: Kind::Control as u16,
        text: br#"{"count":3}"#.to_vec(),
        bytes: vec![7; 300],
        fds: Vec::new(),
    }
}

#[test]
fn descriptors_arrive_with_their_letter() {
    let (mut one, mut other) = pair();
    let sockets: Vec<TcpListener> = (0..FDS_MAX)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let addrs: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
    let first = Letter {
        fds: sockets.into_iter().map(OwnedFd::from).collect(),
        ..letter()
    };
    // Two in a row, read late: descriptors must not move to the other letter.
    one.send(&first, soon()).unwrap();
    one.send(&letter(), soon()).unwrap();
    let got = other.receive(soon()).unwrap();
    let found: Vec<_> = got
        .fds
        .into_iter()
        .map(|fd| TcpListener::from(fd).local_addr().unwrap())
        .collect();
    assert_eq!(found, addrs);
    assert_eq!((got.kind, got.text, got.bytes), (first.kind, first.text, first.bytes));
    assert!(other.receive(soon()).unwrap().fds.is_empty());
}

#[test]
fn a_letter_cut_anywhere_is_no_letter() {
    let whole = wire(&letter());
    for cut in 0..whole.len() {
        let error = read(&whole[..cut]).expect_err("it is not whole");
        assert!(matches!(error, ChannelError::Closed), "cut at {cut}: {error}");
    }
    assert_eq!(read(&whole).unwrap().bytes, letter().bytes);
}

#[test]
fn a_damaged_letter_is_refused_and_nothing_grows() {
    let whole = wire(&letter());
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            match read(&damaged) {
                // Kind, protocol and the spare bytes say nothing wrong by themselves.
                Ok(_) => assert!((4..8).contains(&at) || (18..20).contains(&at), "byte {at}"),
                Err(ChannelError::Malformed(_) | ChannelError::Closed) => {}
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
    }
    let mut endless = whole;
    endless[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(read(&endless), Err(ChannelError::Malformed(_))));
}

#[test]
fn what_is_over_the_limit_is_not_sent() {
    let (mut one, _other) = pair();
    let long = Letter {
        text: vec![b' '; TEXT_MAX + 1],
        ..letter()
    };
    assert!(matches!(one.send(&long, soon()), Err(ChannelError::TooLong { .. })));
}

#[test]
fn silence_ends_at_the_deadline() {
    let (_one, mut other) = pair();
    let error = other.receive(Instant::now() + Duration::from_millis(30)).unwrap_err();
    assert_eq!(error.reason(), "late");
}

#[test]
fn an_end_is_the_end_of_who_served_last_in_whatever_order_it_is_learned() {
    let pid = |raw| Pid::from_raw(raw).unwrap();
    let [first, second, third] = [11, 12, 13].map(pid);
    let serves = |pid: Pid| {
        let pid = pid.as_raw_nonzero().get();
        Letter::new(Kind::Serves, &Serves { pid }).unwrap()
    };
    let (mut serving, ours) = pair();
    let mut watch = Watch::new(ours, first);
    // Both have said who goes on before they ended; nobody looked for a while.
    serving.send(&serves(second), soon()).unwrap();
    serving.send(&serves(third), soon()).unwrap();
    watch.has_ended(first, ExitCode::SUCCESS);
    watch.has_ended(second, ExitCode::SUCCESS);
    watch.hear();
    assert!(watch.verdict().is_none(), "the third one serves");
    // One that ended as soon as it served, before anybody said that it did.
    let fourth = pid(14);
    watch.has_ended(fourth, ExitCode::from(3));
    watch.hear();
    assert!(watch.verdict().is_none(), "the third one serves");
    serving.send(&serves(fourth), soon()).unwrap();
    drop(serving);
    watch.hear();
    assert_eq!(watch.verdict(), Some(ExitCode::from(3)));
}
