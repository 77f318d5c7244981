// SPDX-License-Identifier: Apache-2.0
//! A line to a registry that can be cut, and led to another registry or to none.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

use std::sync::{Arc, Mutex};

use remora_zookeeper::backend::{Backend, BackendError, BoxFuture, Duplex, Embedded};
use remora_zookeeper::embedded::Server;
use tokio::io::copy_bidirectional;
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
pub struct Line {
    state: Arc<Mutex<State>>,
    chroot: &'static str,
}

struct State {
    end: Option<Arc<dyn Backend>>,
    cut: CancellationToken,
}

impl Line {
    pub fn to(server: &Server) -> Self {
        Self::to_backend(Embedded::new(server.clone()))
    }

    pub fn to_backend(backend: impl Backend) -> Self {
        let end: Option<Arc<dyn Backend>> = Some(Arc::new(backend));
        let cut = CancellationToken::new();
        Self {
            state: Arc::new(Mutex::new(State { end, cut })),
            chroot: "",
        }
    }

    pub fn with_chroot(mut self, chroot: &'static str) -> Self {
        self.chroot = chroot;
        self
    }

    /// Breaks every connection; new ones lead to `server`, or are refused.
    pub fn lead(&self, server: Option<&Server>) {
        self.lead_to(server.map(|s| Arc::new(Embedded::new(s.clone())) as Arc<dyn Backend>));
    }

    pub fn lead_to(&self, end: Option<Arc<dyn Backend>>) {
        let mut state = self.state.lock().unwrap();
        state.end = end;
        std::mem::take(&mut state.cut).cancel();
    }

    /// Breaks every connection; new ones are taken.
    pub fn cut(&self) {
        std::mem::take(&mut self.state.lock().unwrap().cut).cancel();
    }
}

impl Backend for Line {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Duplex>, BackendError>> {
        Box::pin(async move {
            let (end, cut) = {
                let state = self.state.lock().unwrap();
                (state.end.clone(), state.cut.clone())
            };
            let refused = || BackendError::Refused {
                cause: "the line is cut".into(),
            };
            let mut far = end.ok_or_else(refused)?.connect().await?;
            let (ours, mut near) = tokio::io::duplex(64 * 1024);
            tokio::spawn(async move {
                let copied = copy_bidirectional(&mut near, &mut far);
                let _ = cut.run_until_cancelled(copied).await;
            });
            Ok(Box::new(ours) as Box<dyn Duplex>)
        })
    }

    fn describe(&self) -> String {
        "line".to_owned()
    }

    fn chroot(&self) -> &str {
        self.chroot
    }
}
