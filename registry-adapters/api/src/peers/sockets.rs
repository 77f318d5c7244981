// SPDX-License-Identifier: Apache-2.0
//! What the system tells about its TCP sockets: who sent a request, who listens on a port, who is called.
//!
//! Source: `/proc/net/tcp` and `tcp6` of Linux, whose lines are
//!
//! ```text
//!   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
//!    0: 0100007F:3412 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31337 ...
//! ```
//! with addresses as words in the machine's byte order, listening sockets first. A socket that its process has closed has
//! inode 0 and user 0, which is nobody's. Elsewhere there is nothing to read.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// The directory with the tables.
pub const PROC_NET: &str = "/proc/net";

/// The sockets of this host at one moment, as far as a door cares.
#[derive(Debug, Default)]
pub struct Sockets {
    /// User of each connection to a door: its own address, then the door's.
    callers: HashMap<(SocketAddr, SocketAddr), u32>,
    listeners: HashMap<u16, u32>,
    called: HashSet<IpAddr>,
}

impl Sockets {
    /// Reads the tables. `door_ports` are the ports of the door, `egress_port` is where applications call.
    ///
    /// # Errors
    /// The system's: it tells nothing about sockets.
    pub fn read(dir: &Path, door_ports: &HashSet<u16>, egress_port: u16) -> std::io::Result<Self> {
        let mut sockets = Self::default();
        each_row(dir, |row| {
            if row.is_listening {
                note_listener(&mut sockets.listeners, &row);
            } else if row.inode != 0 && door_ports.contains(&row.remote.port()) {
                sockets.callers.insert((row.local, row.remote), row.uid);
            } else if row.inode != 0 && row.is_established && row.remote.port() == egress_port {
                sockets.called.insert(row.remote.ip());
            }
            true
        })?;
        Ok(sockets)
    }

    /// User of the process that has the other end of a connection to the door.
    pub fn caller(&self, peer: SocketAddr, door: SocketAddr) -> Option<u32> {
        self.callers.get(&(canonical(peer), canonical(door))).copied()
    }

    /// User of the process that listens on this port, where an ingress would call it.
    pub fn listener(&self, port: u16) -> Option<u32> {
        self.listeners.get(&port).copied()
    }

    /// Addresses of the egress to which somebody is connected.
    pub fn called(&self) -> &HashSet<IpAddr> {
        &self.called
    }
}

/// Ports on which processes of this host listen, where an ingress would call them, and their users.
///
/// # Errors
/// The system's.
pub fn listeners(dir: &Path) -> std::io::Result<HashMap<u16, u32>> {
    let mut listeners = HashMap::new();
    each_row(dir, |row| {
        if row.is_listening {
            note_listener(&mut listeners, &row);
        }
        // They come first, and there may be very many others.
        row.is_listening
    })?;
    Ok(listeners)
}

fn note_listener(listeners: &mut HashMap<u16, u32>, row: &Row) {
    let ip = row.local.ip();
    if ip == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        listeners.insert(row.local.port(), row.uid);
    } else if ip.is_unspecified() {
        listeners.entry(row.local.port()).or_insert(row.uid);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    is_listening: bool,
    is_established: bool,
    uid: u32,
    inode: u64,
}

/// Hands out the rows of each table until `take` has enough of that table.
fn each_row(dir: &Path, mut take: impl FnMut(Row) -> bool) -> std::io::Result<()> {
    for (name, is_needed) in [("tcp", true), ("tcp6", false)] {
        let file = match File::open(dir.join(name)) {
            Ok(file) => file,
            // A kernel without IPv6.
            Err(error) if !is_needed && error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::with_capacity(64 << 10, file).lines() {
            if row(&line?).is_some_and(|row| !take(row)) {
                break;
            }
        }
    }
    Ok(())
}

/// `None` for the heading and for lines of another shape.
fn row(line: &str) -> Option<Row> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let local = address(words.next()?)?;
    let remote = address(words.next()?)?;
    let state = words.next()?;
    let uid = words.nth(3)?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    Some(Row {
        local,
        remote,
        is_listening: state == "0A",
        is_established: state == "01",
        uid,
        inode,
    })
}

fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for (at, quarter) in bytes.chunks_exact_mut(4).enumerate() {
                quarter.copy_from_slice(&word(at * 8)?);
            }
            IpAddr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Java's sockets are IPv6 ones with IPv4 addresses.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:2FA8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 7001 1 0000000000000000 100 0 0 10 0
   1: 0100007F:5148 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1002        0 7002 1 0000000000000000 100 0 0 10 0
   2: 0500000A:5149 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1003        0 7003 1 0000000000000000 100 0 0 10 0
   3: 0100007F:C001 0100007F:3412 01 00000000:00000000 00:00000000 00000000  1000        0 8001 1 0000000000000000 20 4 30 10 -1
   4: 0100007F:3412 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 8002 1 0000000000000000 20 4 30 10 -1
   5: 0100007F:C002 0100007F:3412 06 00000000:00000000 03:00001644 00000000     0        0 0 3 0000000000000000
   6: 0100007F:C003 0500007F:2FBC 01 00000000:00000000 00:00000000 00000000  1000        0 8003 1 0000000000000000 20 4 30 10 -1
";
    const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:2FA9 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1004        0 9001 1 0000000000000000 100 0 0 10 0
   1: 0000000000000000FFFF00000100007F:C004 0000000000000000FFFF00000100007F:3412 01 00000000:00000000 00:00000000 00000000  1005        0 9002 1 0000000000000000 20 4 30 10 -1
";

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn callers_listeners_and_called_addresses_are_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tcp"), TCP).unwrap();
        std::fs::write(dir.path().join("tcp6"), TCP6).unwrap();
        let sockets = Sockets::read(dir.path(), &HashSet::from([0x3412]), 12220).unwrap();
        let door = addr("127.0.0.1:13330");
        assert_eq!(sockets.caller(addr("127.0.0.1:49153"), door), Some(1000));
        assert_eq!(
            sockets.caller(addr("127.0.0.1:49154"), door),
            None,
            "closed, so nobody's"
        );
        assert_eq!(
            sockets.caller(addr("127.0.0.1:49156"), door),
            Some(1005),
            "a socket of Java"
        );
        assert_eq!(sockets.caller(addr("[::ffff:127.0.0.1]:49156"), door), Some(1005));
        assert_eq!(sockets.listener(12200), Some(1001));
        assert_eq!(sockets.listener(0x5148), Some(1002));
        assert_eq!(sockets.listener(0x5149), None, "an ingress calls loopback");
        assert_eq!(sockets.listener(12201), Some(1004));
        assert_eq!(*sockets.called(), HashSet::from(["127.0.0.5".parse().unwrap()]));
        assert_eq!(listeners(dir.path()).unwrap().len(), 3);
    }

    #[test]
    fn a_system_that_tells_nothing_is_an_error_and_odd_lines_are_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Sockets::read(dir.path(), &HashSet::new(), 1).is_err());
        std::fs::write(
            dir.path().join("tcp"),
            "odd\n 0: x:y z:1 0A\n 1: 0100007F 1 2 3 4 5 6 7 8 9\n\n",
        )
        .unwrap();
        assert!(listeners(dir.path()).unwrap().is_empty());
    }
}
