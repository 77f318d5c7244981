// SPDX-License-Identifier: Apache-2.0
//! Accepting connections: in one place, each handed to the worker with the fewest.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use remora_protocol::Protocol;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug_span, warn};

use super::connection;
use super::guests::Guest;
use super::wire::CloseReason;
use super::worker::{Message, Worker};
use crate::metrics::call::{Refused, Side};

/// A listening port and what is behind it.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) side: Side,
    pub(super) protocol: Arc<dyn Protocol>,
    pub(super) local: SocketAddr,
    /// Ingress: where the application listens, once there is one.
    pub(super) app: ArcSwapOption<SocketAddr>,
    /// Ingress: the application has said that it stops.
    pub(super) is_leaving: AtomicBool,
}

/// Hands accepted connections out.
#[derive(Debug)]
pub(super) struct Hub {
    /// The worker on whose thread connections are accepted.
    pub(super) here: Rc<Worker>,
    /// The others.
    pub(super) elsewhere: Vec<(mpsc::Sender<Message>, Arc<AtomicUsize>)>,
    /// When the last line of [`Hub::warn`] was written, and what it did not tell since.
    pub(super) warned: Cell<(Option<Instant>, u64)>,
}

impl Hub {
    /// Accepts on one port until the drain begins.
    pub(super) async fn listen(self: Rc<Self>, door: Arc<Door>, listener: TcpListener, drain: CancellationToken) {
        let mut pause = ACCEPT_PAUSE_MIN;
        self.here.may_begin().await;
        loop {
            let accepted = tokio::select! {
                // In this order: after its end nothing is accepted, not even once.
                biased;
                () = drain.cancelled() => return,
                // Cancel safe: a connection not yet accepted stays in the kernel's queue.
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = ACCEPT_PAUSE_MIN;
                    self.admit(&door, stream, peer);
                }
                Err(error) => {
                    // Out of descriptors, mostly. The port stays open and comes back when some are free.
                    warn!(side = door.side.label(), peer = %door.local, %error, "could not accept, pausing");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                }
            }
        }
    }

    fn admit(&self, door: &Arc<Door>, stream: TcpStream, peer: SocketAddr) {
        let guest = match self.place(door, &stream, peer) {
            Ok(guest) => guest,
            Err(why) => {
                self.here.shard(door.side, &door.protocol).refuse(why);
                return self.warn(door, peer, why.label());
            }
        };
        tune(&stream);
        let here = self.here.load.load(Ordering::Relaxed);
        let least = self
            .elsewhere
            .iter()
            .min_by_key(|(_, load)| load.load(Ordering::Relaxed));
        match least.filter(|(_, load)| load.load(Ordering::Relaxed) < here) {
            None => self.here.admit(door.clone(), stream, peer, guest),
            Some((inbox, load)) => {
                load.fetch_add(1, Ordering::Relaxed);
                let handed = stream.into_std().map(|stream| Message::Connection {
                    door: door.clone(),
                    stream,
                    peer,
                    guest,
                });
                if !handed.is_ok_and(|message| inbox.try_send(message).is_ok()) {
                    load.fetch_sub(1, Ordering::Relaxed);
                    self.here.shard(door.side, &door.protocol).refuse(Refused::Busy);
                }
            }
        }
    }

    /// Whether a connection may come in; at an ingress with its place there.
    fn place(&self, door: &Door, stream: &TcpStream, peer: SocketAddr) -> Result<Option<Guest>, Refused> {
        let config = self.here.config();
        if door.side == Side::Egress && !is_local_peer(door.local, stream, peer) {
            return Err(Refused::Foreign);
        }
        if self.connections() >= config.max_connections {
            return Err(Refused::MaxConnections);
        }
        if door.side == Side::Egress {
            return Ok(None);
        }
        let (guest, made_way) = self.here.guests.enter(&config, peer.ip())?;
        if made_way {
            self.warn(door, peer, CloseReason::MadeWay.label());
        }
        Ok(Some(guest))
    }

    /// Tells of a connection that was refused, or before which a silent one made way; of many in a short time one line tells all.
    fn warn(&self, door: &Door, peer: SocketAddr, reason: &'static str) {
        let (last, untold) = self.warned.get();
        let (now, connections) = (Instant::now(), untold + 1);
        if last.is_some_and(|last| now.saturating_duration_since(last) < WARN_EVERY) {
            self.warned.set((last, connections));
            return;
        }
        self.warned.set((Some(now), 0));
        warn!(side = door.side.label(), %peer, reason, connections, "connections refused, or closed for others");
    }

    fn connections(&self) -> usize {
        let elsewhere = self.elsewhere.iter().map(|(_, load)| load.load(Ordering::Relaxed));
        elsewhere.sum::<usize>() + self.here.load.load(Ordering::Relaxed)
    }
}

impl Worker {
    /// Serves an accepted connection on this thread.
    pub(super) fn admit(self: &Rc<Self>, door: Arc<Door>, stream: TcpStream, peer: SocketAddr, guest: Option<Guest>) {
        self.load.fetch_add(1, Ordering::Relaxed);
        self.serve(door, stream, peer, guest);
    }

    /// Serves a connection that is already counted in this worker's load.
    pub(super) fn serve(self: &Rc<Self>, door: Arc<Door>, stream: TcpStream, peer: SocketAddr, guest: Option<Guest>) {
        let span = debug_span!("connection", side = door.side.label(), protocol = door.protocol.name(), %peer);
        let serving = connection::serve(self.clone(), door, stream, peer, guest);
        // Ends when the connection is closed, at the latest by the worker's drain.
        if span.is_disabled() {
            tokio::task::spawn_local(serving);
        } else {
            tokio::task::spawn_local(serving.instrument(span));
        }
    }
}

/// Whether a peer is of this machine. An egress on loopback can have no others.
fn is_local_peer(door: SocketAddr, stream: &TcpStream, peer: SocketAddr) -> bool {
    door.ip().is_loopback()
        || stream.local_addr().is_ok_and(|local| local.ip() == peer.ip())
        || is_this_machine(peer.ip())
}

/// Whether `addr` is one of these listening addresses, under whichever of the machine's names.
pub(super) fn is_own(listeners: &[SocketAddr], addr: SocketAddr) -> bool {
    listeners.iter().any(|own| {
        own.port() == addr.port()
            && (own.ip() == addr.ip() || (own.ip().is_unspecified() && is_this_machine(addr.ip())))
    })
}

/// Whether an address is one of this machine's own: then, and only then, the kernel would use it as the source of what is
/// sent to it. Nothing is sent.
fn is_this_machine(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let any: IpAddr = if ip.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let source = || -> io::Result<IpAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    ip.is_loopback() || source().is_ok_and(|source| source == ip)
}

/// Sets what every connection of the call path has: no delay, and the kernel's own watch over a peer that vanished.
/// Failing to set one is no reason to refuse a connection.
pub(super) fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(3);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
}

/// Shortest time between two lines on connections that were refused.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// Pause after a failed accept; doubled up to the longest.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_millis(100);
/// Idle time before the kernel probes a peer: heartbeats come first where the protocol has them.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Time that written bytes may stay without acknowledgement before the kernel gives the connection up.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_listeners_are_known_under_every_address_of_the_machine() {
        let any: SocketAddr = ([0, 0, 0, 0], 20881).into();
        let one: SocketAddr = ([127, 0, 0, 2], 20882).into();
        assert!(is_own(&[any], ([127, 0, 0, 1], 20881).into()));
        assert!(!is_own(&[any], ([127, 0, 0, 1], 20880).into()));
        assert!(
            !is_own(&[any], ([192, 0, 2, 1], 20881).into()),
            "an address of nobody here"
        );
        assert!(is_own(&[one], one));
        assert!(
            !is_own(&[one], ([127, 0, 0, 1], 20882).into()),
            "another alias is another listener"
        );
    }
}
