// SPDX-License-Identifier: Apache-2.0
//! Letters, and what becomes of those that are damaged.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::channel::{Channel, ChannelError, FDS_MAX, Letter, TEXT_MAX};
use super::message::Kind;

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
