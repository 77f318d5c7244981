// SPDX-License-Identifier: Apache-2.0
//! A bounded number of connections, in which nobody is locked out by those who say nothing.
//!
//! A connection is silent until it has said something worth an answer, and may be silent again between two requests. When
//! every place is taken, the one that has been silent longest makes way for the next. Whoever keeps all places with
//! connections at work is not held off here: that is what each door's limits on requests are for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The places of one port.
#[derive(Clone, Debug)]
pub struct Places {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max: usize,
    table: Mutex<Table>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    taken: usize,
    made_way: u64,
    next: u64,
    /// By how long they have been silent, the longest first.
    silent: BTreeMap<u64, CancellationToken>,
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    make_way: CancellationToken,
    /// Its number among the silent; `None` while at work.
    silent: Mutex<Option<u64>>,
}

impl Places {
    /// `max` places; none is as bad as no door, so there is one at least.
    pub fn new(max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                max: max.max(1),
                table: Mutex::default(),
                freed: Notify::new(),
            }),
        }
    }

    /// A place for a connection that has said nothing yet; `None` when all others are at work.
    pub fn enter(&self) -> Option<Place> {
        let mut table = self.shared.table();
        if table.taken >= self.shared.max {
            let (_, longest) = table.silent.pop_first()?;
            table.made_way += 1;
            // The place is the new one's from now on; see `Place::drop`.
            longest.cancel();
        } else {
            table.taken += 1;
        }
        let make_way = CancellationToken::new();
        let number = table.be_silent(&make_way);
        Some(Place {
            shared: Arc::clone(&self.shared),
            make_way,
            silent: Mutex::new(Some(number)),
        })
    }

    /// As [`enter`](Self::enter), but waits for a place. Cancel safe.
    pub async fn wait(&self) -> Place {
        loop {
            let freed = self.shared.freed.notified();
            if let Some(place) = self.enter() {
                return place;
            }
            freed.await;
        }
    }

    /// Whether every place is taken. The next one pushes another out, so whoever accepts connections should let those that
    /// he has accepted be heard first: they may have said something.
    pub fn is_full(&self) -> bool {
        self.shared.table().taken >= self.shared.max
    }

    /// Connections that made way since the start.
    pub fn made_way(&self) -> u64 {
        self.shared.table().made_way
    }
}

impl Place {
    /// Becomes ready when the connection is to be closed, for another one.
    pub async fn must_go(&self) {
        self.make_way.cancelled().await;
    }

    /// It has said something: from now on it makes way for nobody. False if that comes too late.
    pub fn is_at_work(&self) -> bool {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        match silent.take() {
            Some(number) => self.shared.table().silent.remove(&number).is_some(),
            None => !self.make_way.is_cancelled(),
        }
    }

    /// It has had its answer and says nothing for now.
    pub fn is_silent(&self) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent.is_none() && !self.make_way.is_cancelled() {
            *silent = Some(self.shared.table().be_silent(&self.make_way));
            self.shared.freed.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let silent = self.silent.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut table = self.shared.table();
        if let Some(number) = silent {
            table.silent.remove(&number);
        }
        if !self.make_way.is_cancelled() {
            table.taken -= 1;
            drop(table);
            self.shared.freed.notify_one();
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn be_silent(&mut self, make_way: &CancellationToken) -> u64 {
        let number = self.next;
        self.next += 1;
        self.silent.insert(number, make_way.clone());
        number
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn must_go(place: &Place) -> bool {
        place.make_way.is_cancelled()
    }

    #[test]
    fn the_longest_silent_makes_way_and_those_at_work_stay() {
        let places = Places::new(3);
        let [a, b, c] = [(); 3].map(|()| places.enter().unwrap());
        assert!(a.is_at_work() && places.is_full());
        let d = places.enter().unwrap();
        assert_eq!([&a, &b, &c, &d].map(must_go), [false, true, false, false]);
        assert!(!b.is_at_work(), "too late");
        drop(b);
        assert!(places.is_full(), "the place was given on before");
        c.is_at_work();
        d.is_at_work();
        assert!(places.enter().is_none(), "all are at work");
        c.is_silent();
        a.is_silent();
        let _e = places.enter().unwrap();
        assert_eq!(
            [&a, &c, &d].map(must_go),
            [false, true, false],
            "silent again, and longer"
        );
        assert_eq!(places.made_way(), 2);
    }

    #[test]
    fn places_are_given_back_once_each() {
        let places = Places::new(2);
        for _ in 0..100 {
            let (a, b) = (places.enter().unwrap(), places.enter().unwrap());
            b.is_at_work();
            let c = places.enter().unwrap();
            assert!(must_go(&a));
            drop(a);
            drop(c);
            drop(b);
            assert!(!places.is_full());
        }
        let table = places.shared.table();
        assert_eq!((table.taken, table.silent.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_gets_the_place_of_the_first_that_goes_or_falls_silent() {
        let places = Places::new(1);
        let a = places.enter().unwrap();
        a.is_at_work();
        assert!(timeout(Duration::from_secs(9), places.wait()).await.is_err());
        let waiting = tokio::spawn({
            let places = places.clone();
            async move { places.wait().await }
        });
        tokio::task::yield_now().await;
        a.is_silent();
        let b = waiting.await.unwrap();
        assert!(must_go(&a) && !must_go(&b));
        b.is_at_work();
        let waiting = tokio::spawn({
            let places = places.clone();
            async move { places.wait().await }
        });
        tokio::task::yield_now().await;
        drop(a);
        drop(b);
        waiting.await.unwrap();
    }
}
