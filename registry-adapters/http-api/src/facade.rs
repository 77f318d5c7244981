// SPDX-License-Identifier: Apache-2.0
//! A door of an HTTP API as the rest of Remora sees it; `mesh` and `dubbod` make one each.

use std::net::SocketAddr;
use std::sync::Arc;

use remora_registry::{BoxFuture, Discovery, Facade, FacadeError};
use tokio_util::sync::CancellationToken;

use crate::door::{Desk, Door};
use crate::server::Api;
use crate::stats::Stats;

/// A door, bound to its ports.
pub struct HttpFacade {
    pub(crate) door: Door,
    /// What to set in the application, for its address.
    pub(crate) words: fn(SocketAddr) -> String,
    /// What answers, once there is something to answer from.
    pub(crate) api: Box<dyn FnOnce(Arc<Desk>) -> Arc<dyn Api> + Send>,
}

impl HttpFacade {
    /// Where it listens: `listen` first, then one address for each further application.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.door.local_addrs()
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<Stats> {
        self.door.stats()
    }
}

impl Facade for HttpFacade {
    fn name(&self) -> &'static str {
        self.door.name()
    }

    fn banner(&self) -> String {
        let first = self.local_addrs().first().copied();
        (self.words)(first.unwrap_or(self.door.settings().listen))
    }

    fn serve(
        self: Box<Self>,
        discovery: Arc<dyn Discovery>,
        drain: CancellationToken,
    ) -> BoxFuture<'static, Result<(), FacadeError>> {
        Box::pin(self.door.serve(discovery, drain, self.api))
    }
}
