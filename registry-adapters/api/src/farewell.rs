// SPDX-License-Identifier: Apache-2.0
//! The withdrawal of what applications publish in sessions of their own: only the connection that carries such a session
//! can do it, and whoever asks for it has to know when all have.

use tokio::sync::watch;

/// Asks every connection for its farewell.
#[derive(Clone, Debug)]
pub struct Farewell {
    asked: watch::Sender<bool>,
    /// Connections whose farewell is not over, and what the others withdrew.
    count: watch::Sender<Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    open: usize,
    withdrawn: usize,
}

impl Default for Farewell {
    fn default() -> Self {
        Self {
            asked: watch::Sender::new(false),
            count: watch::Sender::default(),
        }
    }
}

impl Farewell {
    /// A place for one connection.
    pub fn seat(&self) -> Seat {
        self.count.send_modify(|count| count.open += 1);
        Seat {
            asked: Some(self.asked.subscribe()),
            count: self.count.clone(),
            is_over: false,
        }
    }

    /// Asks, and waits until every connection is done; gives how many entries were withdrawn, by all of them so far. Those that
    /// come later are asked at once. Cancel safe; what was asked stays asked.
    pub async fn say(&self) -> usize {
        self.asked.send_replace(true);
        let mut count = self.count.subscribe();
        // The sender is ours.
        let _ = count.wait_for(|count| count.open == 0).await;
        self.withdrawn()
    }

    /// How many entries were withdrawn so far.
    pub fn withdrawn(&self) -> usize {
        self.count.borrow().withdrawn
    }

    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }
}

/// One connection's place; dropping it means that nothing more can be withdrawn there.
#[derive(Debug)]
pub struct Seat {
    asked: Option<watch::Receiver<bool>>,
    count: watch::Sender<Count>,
    is_over: bool,
}

impl Seat {
    /// A place where nobody asks.
    pub fn nobody() -> Self {
        Self {
            asked: None,
            count: watch::Sender::default(),
            is_over: true,
        }
    }

    /// Waits until the farewell is asked for, which happens once. Cancel safe.
    pub async fn asked(&mut self) {
        if let Some(asked) = &mut self.asked
            && asked.wait_for(|is_asked| *is_asked).await.is_ok()
        {
            self.asked = None;
            return;
        }
        std::future::pending().await
    }

    /// All is withdrawn that can be.
    pub fn done(&mut self, withdrawn: usize) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.count.send_modify(|count| {
                count.open = count.open.saturating_sub(1);
                count.withdrawn += withdrawn;
            });
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.done(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn whoever_asks_waits_for_all_and_learns_how_much() {
        let farewell = Arc::new(Farewell::default());
        let (mut one, two) = (farewell.seat(), farewell.seat());
        let asking = tokio::spawn({
            let farewell = Arc::clone(&farewell);
            async move { farewell.say().await }
        });
        timeout(Duration::from_secs(10), one.asked()).await.unwrap();
        one.done(3);
        assert!(!asking.is_finished());
        drop(two);
        assert_eq!(timeout(Duration::from_secs(10), asking).await.unwrap().unwrap(), 3);
        let mut late = farewell.seat();
        timeout(Duration::from_secs(10), late.asked()).await.unwrap();
    }

    #[tokio::test]
    async fn it_is_asked_once() {
        let farewell = Farewell::default();
        let mut seat = farewell.seat();
        let say = farewell.say();
        tokio::pin!(say);
        let both = async {
            seat.asked().await;
            seat.done(1);
            timeout(Duration::from_millis(20), seat.asked()).await
        };
        let (_, again) = tokio::join!(say, both);
        assert!(again.is_err());
        assert!(
            timeout(Duration::from_millis(20), Seat::nobody().asked())
                .await
                .is_err()
        );
    }
}
