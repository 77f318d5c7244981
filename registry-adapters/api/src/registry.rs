// SPDX-License-Identifier: Apache-2.0
//! The adapter: our client of a real registry.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::{BoxFuture, Instance, RegistryError, Snapshot, Target};

/// Whether the real registry is reachable.
#[derive(Clone, Debug)]
pub enum RegistryState {
    /// First connection not made yet.
    Connecting,
    /// Connected since `since`.
    Up {
        /// When.
        since: Instant,
    },
    /// Lost or never reached; the adapter goes on trying.
    Down {
        /// When it went down.
        since: Instant,
        /// The last failure, for `status` and `/readyz`.
        cause: Arc<str>,
    },
}

impl RegistryState {
    /// Whether operations have a chance now.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// A client of a real registry. Reconnects by itself, with jitter, for ever; after a reconnect every followed list is
/// read anew.
pub trait Registry: Send + Sync + 'static {
    /// Short fixed name: `zookeeper`, `nacos`.
    fn name(&self) -> &'static str;

    /// Whether its lists are the operator's own words for this machine, and may therefore name loopback addresses. A
    /// registry that others can write to must say no.
    fn is_operators_own(&self) -> bool {
        false
    }

    /// Why this registry cannot hold `target` at all, in words for the application's log; `None` if it can. Such a target
    /// is followed as an empty list and publishing into it is `Unsupported`.
    fn cannot_hold(&self, target: &Target) -> Option<String> {
        let _ = target;
        None
    }

    /// How much later than another a follower may hear of a change. Where a registry holds changes back it tells two of them as
    /// one: what is published in the place of something else must have stood for so long before that goes.
    fn told_within(&self) -> Duration {
        Duration::from_millis(1500)
    }

    /// The connection's state and its changes.
    fn state(&self) -> watch::Receiver<RegistryState>;

    /// Follows a list until every clone of the receiver is dropped. `None` until the first list is known; a lost registry
    /// leaves the last list standing. An absent list is an empty snapshot.
    fn follow(&self, target: Target) -> watch::Receiver<Option<Arc<Snapshot>>>;

    /// Publishes on Remora's own session, for an application that came in by a door of another registry. Published
    /// again by the adapter after a lost session, until withdrawn. Idempotent. `instance` stands at our ingress and has
    /// neither `id` nor `raw` of this registry: its name there is made from protocol, address, key and parameters. Where a
    /// registry holds one entry per address, the same address with other parameters replaces it.
    fn publish<'a>(&'a self, target: &'a Target, instance: &'a Instance) -> BoxFuture<'a, Result<(), RegistryError>>;

    /// Takes back what `publish` published. Idempotent. An entry at the same address that was published with other
    /// parameters since is left alone.
    fn withdraw<'a>(&'a self, target: &'a Target, instance: &'a Instance) -> BoxFuture<'a, Result<(), RegistryError>>;

    /// The metadata document of an application's revision, if the registry doubles as metadata centre and has it
    /// (`/dubbo/metadata/<app>/<revision>`); a JSON text.
    fn metadata<'a>(
        &'a self,
        application: &'a str,
        revision: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, RegistryError>>;
}
