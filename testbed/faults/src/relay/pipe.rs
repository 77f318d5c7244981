// SPDX-License-Identifier: Apache-2.0
//! One connection: two directions, each read and written by itself, under the rules of the route.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::route::{Direction, Figures, NEVER, Rules};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Way {
    fn of(self, rules: &Rules) -> Direction {
        match self {
            Self::Up => rules.up,
            Self::Down => rules.down,
        }
    }

    fn ends(self, rules: &Rules) -> u64 {
        match self {
            Self::Up => rules.ends_up,
            Self::Down => rules.ends_down,
        }
    }
}

/// Until both directions have ended, or the rules end it.
pub(super) async fn run(near: TcpStream, far: TcpStream, rules: watch::Sender<Rules>, figures: Arc<Figures>) {
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
    }
    let mut seen = rules.subscribe();
    let begun = *seen.borrow_and_update();
    let ended = async {
        let is_over = |now: &Rules| now.resets != begun.resets || now.closes != begun.closes;
        // An error says that the relay ends.
        let now = seen.wait_for(is_over).await.map(|now| *now);
        now.is_ok_and(|now| now.resets != begun.resets)
    };
    let both = async {
        tokio::join!(
            way(Way::Up, &near, &far, &rules, &figures, begun),
            way(Way::Down, &far, &near, &rules, &figures, begun)
        )
    };
    tokio::select! {
        // The end goes first: under new rules nothing may pass on a connection that they end.
        biased;
        is_reset = ended => {
            if is_reset {
                let _ = (near.set_zero_linger(), far.set_zero_linger());
            }
        }
        results = both => {
            // A peer that reset its connection resets the other one.
            if results.0.is_err() || results.1.is_err() {
                let _ = (near.set_zero_linger(), far.set_zero_linger());
            }
        }
    }
}

type Piece = (Instant, Bytes);

/// One direction: what is read goes, in time, to be written.
async fn way(
    way: Way,
    from: &TcpStream,
    to: &TcpStream,
    rules: &watch::Sender<Rules>,
    figures: &Figures,
    begun: Rules,
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let (of_reader, of_writer) = (rules.subscribe(), rules.subscribe());
    let is_ended = |now: &Rules| way.ends(now) != way.ends(&begun);
    let mut seen = rules.subscribe();
    let ended = async {
        let _ = seen.wait_for(is_ended).await;
    };
    let both = async {
        tokio::try_join!(
            read(way, from, of_reader, figures, sender),
            write(way, to, of_writer, figures, receiver, rules)
        )
    };
    tokio::select! {
        // Half a close: this direction is over, the other one goes on.
        () = ended => {}
        done = both => { done?; }
    }
    // The peer is told; it may be gone.
    let _ = socket2::SockRef::from(to).shutdown(std::net::Shutdown::Write);
    Ok(())
}

async fn read(
    way: Way,
    from: &TcpStream,
    mut rules: watch::Receiver<Rules>,
    figures: &Figures,
    pieces: mpsc::Sender<Piece>,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_MAX];
    loop {
        let now = way.of(&rules.borrow_and_update());
        if now.is_held {
            if rules.changed().await.is_err() {
                return Ok(());
            }
            continue;
        }
        tokio::select! {
            ready = from.readable() => ready?,
            _ = rules.changed() => continue,
        }
        // A slow line has short pieces.
        let most = now.rate.map_or(READ_MAX, |rate| {
            usize::try_from(rate / 20).unwrap_or(READ_MAX).clamp(1, READ_MAX)
        });
        let count = match from.try_read(&mut buffer[..most]) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        match way {
            Way::Up => &figures.up,
            Way::Down => &figures.down,
        }
        .fetch_add(count as u64, Ordering::Relaxed);
        if now.is_swallowed {
            continue;
        }
        if let Some(rate) = now.rate {
            tokio::time::sleep(Duration::from_secs_f64(count as f64 / rate.max(1) as f64)).await;
        }
        let piece = (Instant::now() + now.delay, Bytes::copy_from_slice(&buffer[..count]));
        if pieces.send(piece).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    way: Way,
    to: &TcpStream,
    mut rules: watch::Receiver<Rules>,
    figures: &Figures,
    mut pieces: mpsc::Receiver<Piece>,
    all: &watch::Sender<Rules>,
) -> io::Result<()> {
    while let Some((due, mut piece)) = pieces.recv().await {
        tokio::time::sleep_until(due).await;
        let mut is_cut = false;
        if figures.cut_after.load(Ordering::Relaxed) != NEVER {
            let left = figures.cut_after.fetch_sub(piece.len() as i64, Ordering::Relaxed);
            if left != NEVER && left <= piece.len() as i64 {
                is_cut = true;
                piece.truncate(usize::try_from(left).unwrap_or(0));
            }
        }
        while !piece.is_empty() {
            if rules.wait_for(|now| !way.of(now).is_held).await.is_err() {
                return Ok(());
            }
            to.writable().await?;
            match to.try_write(&piece) {
                Ok(count) => drop(piece.split_to(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if is_cut {
            figures.cut_after.store(NEVER, Ordering::Relaxed);
            all.send_modify(|rules| rules.resets += 1);
            // What is on its way behind the cut does not arrive.
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    }
    Ok(())
}

const READ_MAX: usize = 64 << 10;
/// Pieces on their way in one direction; more are not read.
const PIECES_MAX: usize = 256;
