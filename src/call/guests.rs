// SPDX-License-Identifier: Apache-2.0
//! How many connections callers of other hosts may hold at the ingress ports.
//!
//! Anybody who reaches the host may connect there, so nobody may take all the places by connecting alone. Ingress connections
//! have a share of `max_connections`, and what is beyond it stays for the applications of this host; each address has a
//! limit of its own; and of those from whom no whole frame has come yet the oldest makes way for the next one, so
//! that whoever calls gets in. An address is one of IPv4, or a network of 64 bits of IPv6, which one host may use all of.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use tokio::sync::Notify;

use super::config::Config;
use crate::metrics::call::Refused;

/// Everybody at the ingress ports; shared by the workers.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    open: usize,
    next: u64,
    /// Those from whom no whole frame has come, the oldest first.
    silent: BTreeMap<u64, (IpAddr, Arc<Notify>)>,
    origins: HashMap<IpAddr, Origin>,
}

/// What one address has.
#[derive(Debug, Default)]
struct Origin {
    open: usize,
    silent: BTreeSet<u64>,
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Guest {
    guests: Arc<Guests>,
    number: u64,
    origin: IpAddr,
    must_go: Arc<Notify>,
    is_silent: Cell<bool>,
    has_left: Cell<bool>,
}

impl Guests {
    /// A place for a connection that has said nothing yet; true if another one makes way for it.
    ///
    /// # Errors
    /// The limit that is reached by those who have spoken.
    pub(super) fn enter(self: &Arc<Self>, config: &Config, peer: IpAddr) -> Result<(Guest, bool), Refused> {
        let origin = network(peer);
        let mut book = self.book();
        let (open, silent) = book.origins.get(&origin).map_or((0, 0), |o| (o.open, o.silent.len()));
        let leaves = if open >= config.max_connections_per_address {
            Some(book.oldest_of(origin).ok_or(Refused::PerAddress)?)
        } else if silent >= config.max_silent_per_address {
            book.oldest_of(origin)
        } else if book.open >= config.max_ingress_connections() {
            let oldest = book.silent.first_key_value();
            Some(oldest.map(|(number, _)| *number).ok_or(Refused::IngressShare)?)
        } else {
            None
        };
        if let Some(number) = leaves {
            book.make_way(number);
        }
        let guest = self.add(&mut book, origin, true);
        Ok((guest, leaves.is_some()))
    }

    /// A place for a connection of another process, which has one already.
    pub(super) fn take_over(self: &Arc<Self>, peer: IpAddr, is_silent: bool) -> Guest {
        self.add(&mut self.book(), network(peer), is_silent)
    }

    fn add(self: &Arc<Self>, book: &mut Book, origin: IpAddr, is_silent: bool) -> Guest {
        let number = book.next;
        book.next += 1;
        book.come(origin);
        let must_go = Arc::<Notify>::default();
        if is_silent {
            book.silent.insert(number, (origin, must_go.clone()));
            book.origins.entry(origin).or_default().silent.insert(number);
        }
        Guest {
            guests: self.clone(),
            number,
            origin,
            must_go,
            is_silent: Cell::new(is_silent),
            has_left: Cell::new(false),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    /// Whether no whole frame has come.
    pub(super) fn is_silent(&self) -> bool {
        self.is_silent.get()
    }

    /// Becomes ready when the connection is to be closed for another one.
    pub(super) async fn must_go(&self) {
        self.must_go.notified().await;
    }

    /// The connection is closed; its place is free at once, though calls may still hold on to it.
    pub(super) fn leave(&self) {
        if !self.has_left.replace(true) {
            let mut book = self.guests.book();
            // One that made way does not count any more.
            if !self.is_silent.get() || book.is_heard(self.number, self.origin) {
                book.go(self.origin);
            }
        }
    }

    /// A whole frame has come: from now on it makes way for nobody. If it was to, it comes back.
    pub(super) fn speaks(&self) {
        if self.is_silent.replace(false) {
            let mut book = self.guests.book();
            if !book.is_heard(self.number, self.origin) {
                book.come(self.origin);
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Book {
    fn oldest_of(&self, origin: IpAddr) -> Option<u64> {
        self.origins.get(&origin)?.silent.first().copied()
    }

    fn make_way(&mut self, number: u64) {
        if let Some((origin, must_go)) = self.silent.get(&number).cloned() {
            self.is_heard(number, origin);
            self.go(origin);
            must_go.notify_one();
        }
    }

    /// Takes it off the silent ones; false if it is none of them.
    fn is_heard(&mut self, number: u64, origin: IpAddr) -> bool {
        if let Some(origin) = self.origins.get_mut(&origin) {
            origin.silent.remove(&number);
        }
        self.silent.remove(&number).is_some()
    }

    fn come(&mut self, origin: IpAddr) {
        self.open += 1;
        self.origins.entry(origin).or_default().open += 1;
    }

    fn go(&mut self, origin: IpAddr) {
        self.open = self.open.saturating_sub(1);
        if let Some(seats) = self.origins.get_mut(&origin) {
            seats.open = seats.open.saturating_sub(1);
            if seats.open == 0 {
                self.origins.remove(&origin);
            }
        }
    }
}

fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn config() -> Config {
        Config {
            max_connections: 10,
            ingress_percent: 50,
            max_connections_per_address: 4,
            max_silent_per_address: 3,
            ..Config::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Whether it was told to go.
    fn goes(guest: &Guest) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(guest.must_go()).poll(&mut context).is_ready()
    }

    #[test]
    fn the_oldest_silent_one_of_an_address_makes_way() {
        let guests = Arc::<Guests>::default();
        let enter = |text| guests.enter(&config(), ip(text));
        let other = enter("192.0.2.9").unwrap().0;
        let first: Vec<Guest> = (0..3).map(|_| enter("192.0.2.1").unwrap().0).collect();
        first[0].speaks();
        let (_fourth, made_way) = enter("192.0.2.1").unwrap();
        assert!(!made_way, "two are silent");
        let (_fifth, made_way) = enter("::ffff:192.0.2.1").unwrap();
        assert!(made_way, "it is the same address");
        assert_eq!([0, 1, 2].map(|n| goes(&first[n])), [false, true, false]);
        assert!(!goes(&other), "other addresses are not touched");
    }

    #[test]
    fn an_address_whose_connections_all_speak_gets_no_more() {
        let guests = Arc::<Guests>::default();
        let enter = |text| guests.enter(&config(), ip(text));
        let all: Vec<Guest> = (0..4).map(|_| enter("2001:db8::1").unwrap().0).collect();
        all.iter().for_each(Guest::speaks);
        assert_eq!(enter("2001:db8::2:3").unwrap_err(), Refused::PerAddress, "same network");
        assert!(enter("2001:db8:0:1::1").is_ok());
        drop(all);
        assert!(enter("2001:db8::1").is_ok());
    }

    #[test]
    fn when_the_share_is_taken_silence_makes_way_and_speech_does_not() {
        let guests = Arc::<Guests>::default();
        let enter = |n: u8| guests.enter(&config(), IpAddr::from([192, 0, 2, n]));
        let all: Vec<Guest> = (0..5).map(|n| enter(n).unwrap().0).collect();
        all[0].speaks();
        let (sixth, made_way) = enter(6).unwrap();
        assert!(made_way && goes(&all[1]) && !goes(&all[0]));
        // It said something before it heard that it was to go.
        all[1].speaks();
        assert_eq!(guests.book().open, 6);
        for guest in all.iter().chain([&sixth]) {
            guest.speaks();
        }
        assert_eq!(enter(7).unwrap_err(), Refused::IngressShare);
        drop((all, sixth));
        let book = guests.book();
        assert_eq!((book.open, book.silent.len(), book.origins.len()), (0, 0, 0));
    }
}
