// SPDX-License-Identifier: Apache-2.0
//! One route: where it listens and leads to, the rules that hold for its connections, and its figures.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::pipe;

/// A route as it is asked for: `name=listen,target`.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    name: String,
    listen: SocketAddr,
    target: SocketAddr,
}

impl std::str::FromStr for RouteSpec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, rest) = text.split_once('=').context("a route is name=listen,target")?;
        let (listen, target) = rest.split_once(',').context("a route is name=listen,target")?;
        Ok(Self {
            name: name.to_owned(),
            listen: listen.parse()?,
            target: target.parse()?,
        })
    }
}

/// What holds for one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Direction {
    /// Nothing is read and nothing written: bytes wait where they are.
    pub(super) is_held: bool,
    /// Bytes are read and thrown away.
    pub(super) is_swallowed: bool,
    /// Each byte arrives so much later.
    pub(super) delay: Duration,
    /// Bytes a second, if there is a limit.
    pub(super) rate: Option<u64>,
}

/// What holds for all connections of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) up: Direction,
    pub(super) down: Direction,
    /// Connections are accepted and closed at once.
    pub(super) is_refusing: bool,
    /// Counts: connections that began before the last one are reset, closed, or closed in one direction.
    pub(super) resets: u64,
    pub(super) closes: u64,
    pub(super) ends_up: u64,
    pub(super) ends_down: u64,
}

/// A route that is open.
#[derive(Debug)]
pub struct Route {
    pub(super) name: String,
    listen: SocketAddr,
    rules: watch::Sender<Rules>,
    pub(super) figures: Arc<Figures>,
}

/// What went through.
#[derive(Debug, Default)]
pub(super) struct Figures {
    accepted: AtomicU64,
    open: AtomicI64,
    pub(super) up: AtomicU64,
    pub(super) down: AtomicU64,
    unreachable: AtomicU64,
    /// Bytes after which all connections are reset; below 0: none.
    pub(super) cut_after: AtomicI64,
}

impl Route {
    /// Opens it.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn open(spec: &RouteSpec) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket
            .bind(spec.listen)
            .with_context(|| format!("cannot listen on {}", spec.listen))?;
        let listener = socket.listen(4096)?;
        let listen = listener.local_addr()?;
        let (rules, _) = watch::channel(Rules::default());
        let figures = Arc::new(Figures::default());
        figures.cut_after.store(NEVER, Ordering::Relaxed);
        tokio::spawn(accept(listener, spec.target, rules.clone(), figures.clone()));
        Ok(Self {
            name: spec.name.clone(),
            listen,
            rules,
            figures,
        })
    }

    /// Changes the rules.
    pub(super) fn change(&self, change: impl FnOnce(&mut Rules)) {
        self.rules.send_modify(change);
    }

    /// All as at the beginning. Connections stay, but for those that lost bytes: what comes next would not fit.
    pub(super) fn heal(&self) {
        self.figures.cut_after.store(NEVER, Ordering::Relaxed);
        self.change(|rules| {
            let lost_bytes = rules.up.is_swallowed || rules.down.is_swallowed;
            *rules = Rules {
                resets: rules.resets + u64::from(lost_bytes),
                closes: rules.closes,
                ends_up: rules.ends_up,
                ends_down: rules.ends_down,
                ..Rules::default()
            };
        });
    }

    /// Its figures.
    pub(super) fn json(&self) -> Value {
        let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        json!({
            "route": self.name, "listen": self.listen.to_string(), "accepted": of(&self.figures.accepted), "open": self.figures.open.load(Ordering::Relaxed),
            "bytes_up": of(&self.figures.up), "bytes_down": of(&self.figures.down), "unreachable": of(&self.figures.unreachable),
        })
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, rules: watch::Sender<Rules>, figures: Arc<Figures>) {
    loop {
        let Ok((near, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if rules.borrow().is_refusing {
            continue;
        }
        figures.accepted.fetch_add(1, Ordering::Relaxed);
        let (rules, figures) = (rules.clone(), figures.clone());
        tokio::spawn(async move {
            figures.open.fetch_add(1, Ordering::Relaxed);
            let far = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(target)).await;
            match far {
                Ok(Ok(far)) => pipe::run(near, far, rules, figures.clone()).await,
                // Nobody is there: who connected is told so, as well as it can be.
                _ => {
                    figures.unreachable.fetch_add(1, Ordering::Relaxed);
                    let _ = near.set_zero_linger();
                }
            }
            figures.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

pub(super) const NEVER: i64 = i64::MIN;
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
