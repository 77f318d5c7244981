// SPDX-License-Identifier: Apache-2.0
//! Whether an application still listens, asked of the kernel while calls go to it.
//!
//! SOFARPC (5.6.5, seen) ends like this: a thread of its registry client is told to unregister; the port closes; 10 to 50 ms
//! later the unregistration reaches the registry, and then the process is gone. Connections stay open until then, and
//! what comes by them after the port is closed is neither run nor answered. So the closed port is the first sign, and the
//! only one in time. Source: `sock_diag(7)`; an answer takes 2 to 5 µs and needs no right.
//! Not here: what an application says itself (`Door::is_leaving`).

use std::cell::{OnceCell, RefCell};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use tokio::time::Instant;

/// What one worker knows of the ports behind its ingress.
#[derive(Debug, Default)]
pub(super) struct Listening {
    /// `None` where the kernel cannot be asked.
    kernel: OnceCell<Option<OwnedFd>>,
    ports: RefCell<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    addr: SocketAddr,
    asked: Instant,
    is_open: bool,
    /// It was seen open: only then is it believed that it is closed.
    was_open: bool,
}

impl Listening {
    /// Whether somebody listens at `addr`, as of the last millisecond. `true` where that cannot be told.
    pub(super) fn is_open(&self, addr: SocketAddr, now: Instant) -> bool {
        let mut ports = self.ports.borrow_mut();
        let known = ports.iter().position(|known| known.addr == addr);
        if let Some(known) = known.and_then(|known| ports.get(known))
            && now.saturating_duration_since(known.asked) < ASK_AGAIN
        {
            return known.is_open;
        }
        let found = self.ask(addr);
        let was_open = found == Some(true) || known.and_then(|known| ports.get(known)).is_some_and(|k| k.was_open);
        let is_open = found != Some(false) || !was_open;
        let news = Known {
            addr,
            asked: now,
            is_open,
            was_open,
        };
        match known.and_then(|known| ports.get_mut(known)) {
            Some(known) => *known = news,
            None => {
                // One host has few applications; what is forgotten is asked again.
                ports.truncate(PORTS_MAX - 1);
                ports.insert(0, news);
            }
        }
        is_open
    }

    fn ask(&self, addr: SocketAddr) -> Option<bool> {
        let SocketAddr::V4(addr) = addr else { return None };
        let kernel = self.kernel.get_or_init(open).as_ref()?;
        sendto(
            kernel,
            &question(addr),
            SendFlags::DONTWAIT,
            &SocketAddrNetlink::new(0, 0),
        )
        .ok()?;
        let mut answer = [0; ANSWER_MAX];
        // The kernel has answered before `sendto` returned.
        let (len, _) = recv(kernel, &mut answer[..], RecvFlags::DONTWAIT).ok()?;
        is_listening(answer.get(..len)?)
    }
}

fn open() -> Option<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(SOCK_DIAG)).ok()
}

// offset  bytes  field (of the machine's byte order but for the ports)
//      0      4  length of all
//      4      2  type: 20, of one address family
//      6      2  flags: 1, a question
//      8      8  number and sender, unused
//     16      1  address family: 2, which finds IPv6 listeners that take IPv4 as well
//     17      1  protocol: 6, TCP
//     18      2  more to be told: nothing
//     20      4  states: any
//     24      2  local port
//     26      2  remote port: none, so that no connection is found
//     28     16  local address
//     44     16  remote address
//     60      4  interface
//     64      8  cookie: all ones for any
fn question(addr: SocketAddrV4) -> [u8; QUESTION_LEN] {
    let mut question = [0; QUESTION_LEN];
    let mut put = |at: usize, bytes: &[u8]| question[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &72u32.to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &1u16.to_ne_bytes());
    put(16, &[2, 6]);
    put(20, &u32::MAX.to_ne_bytes());
    put(24, &addr.port().to_be_bytes());
    put(28, &addr.ip().octets());
    put(64, &[0xff; 8]);
    question
}

/// `None` if the answer is none to the question.
fn is_listening(answer: &[u8]) -> Option<bool> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    match kind {
        SOCK_DIAG_BY_FAMILY => Some(*answer.get(17)? == LISTEN),
        ERROR => {
            let error = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
            (error == NOT_FOUND).then_some(false)
        }
        _ => None,
    }
}

const QUESTION_LEN: usize = 72;
/// An answer is a head and 72 bytes, and what newer kernels add.
const ANSWER_MAX: usize = 512;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const ERROR: u16 = 2;
/// `-ENOENT`.
const NOT_FOUND: i32 = -2;
/// State of a listening socket.
const LISTEN: u8 = 10;
/// A call that arrives in between may be lost with its application; asking costs as much as a call.
const ASK_AGAIN: Duration = Duration::from_millis(1);
const PORTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv6Addr, TcpListener, TcpStream};

    #[test]
    fn a_closed_port_is_seen_although_its_connections_are_open() {
        for bind in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else {
                assert!(TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err(), "{bind}");
                continue;
            };
            let addr = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
            let (listening, now) = (Listening::default(), Instant::now());
            assert_eq!(listening.ask(addr), Some(true), "{bind}");
            assert!(listening.is_open(addr, now));
            let _caller = TcpStream::connect(addr).unwrap();
            let _accepted = listener.accept().unwrap();
            drop(listener);
            assert!(listening.is_open(addr, now), "not asked again yet");
            assert!(!listening.is_open(addr, now + ASK_AGAIN), "{bind}");
        }
    }

    #[test]
    fn a_port_that_was_never_seen_open_is_taken_for_open() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listening = Listening::default();
        assert_eq!(listening.ask(closed), Some(false));
        assert!(
            listening.is_open(closed, Instant::now()),
            "something else may take its calls"
        );
    }

    #[test]
    fn few_ports_are_remembered_and_answers_cut_anywhere_say_nothing() {
        let (listening, now) = (Listening::default(), Instant::now());
        for port in 1..=200 {
            listening.is_open(SocketAddr::from(([127, 0, 0, 1], port)), now);
        }
        assert_eq!(listening.ports.borrow().len(), PORTS_MAX);
        let mut answer = [0; 88];
        answer[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        answer[17] = LISTEN;
        assert_eq!(is_listening(&answer), Some(true));
        assert!((0..=17).all(|cut| is_listening(&answer[..cut]).is_none()));
    }
}
