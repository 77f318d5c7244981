// SPDX-License-Identifier: Apache-2.0
//! What a facade asks of the proxy, and the facade itself.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{BoxFuture, FacadeError, Instance, PublishError, RegistryState, Seat, Snapshot, Target, UnappliedRule};

/// Number of a lease, unique in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

impl LeaseId {
    /// No lease has it: an application that nothing is known of.
    pub const NOBODY: Self = Self(0);
}

/// Which client library an application uses, as far as the facade could tell. Decides the form of loopback address that
/// it is handed: Java Dubbo replaces `127.*` before it connects, Go cannot dial the decimal form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Client {
    /// A Java client, or unknown.
    #[default]
    Java,
    /// Any client that dials `127.0.0.1` as written.
    Plain,
}

/// Who came in by a facade.
#[derive(Clone, Debug, Default)]
pub struct LeaseInfo {
    /// Which facade: `zookeeper`, `mesh`.
    pub facade: &'static str,
    /// Which configured registry it belongs to (`default` unless `registries:` names several).
    pub registry: Arc<str>,
    /// The application's name once known, else empty.
    pub application: String,
    /// The peer's address, for `status`.
    pub peer: String,
}

/// One application's stay at a facade. Dropping it withdraws what it published through `Discovery` and ends what it
/// follows.
pub struct Lease {
    id: LeaseId,
    discovery: Arc<dyn Discovery>,
}

impl Lease {
    /// Opens a lease.
    pub fn open(discovery: Arc<dyn Discovery>, info: LeaseInfo) -> Self {
        Self {
            id: discovery.open_lease(info),
            discovery,
        }
    }

    /// Its number.
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// The proxy's discovery.
    pub fn discovery(&self) -> &Arc<dyn Discovery> {
        &self.discovery
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.discovery.close_lease(self.id);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.id.0)
    }
}

/// What must stand in the registry in an application's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outward {
    /// Published host.
    pub host: String,
    /// Our ingress port, already listening.
    pub port: u16,
    /// Value of the marker parameter [`Instance::MARKER`]: the application's own port.
    pub app_port: u16,
}

/// What of a publication stands in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InRegistry {
    /// The application's own address.
    Own,
    /// Its ingress.
    Ingress,
    /// Both for a while, so that nobody finds none.
    Both,
}

impl InRegistry {
    /// One of them, alone.
    pub fn alone(is_taken: bool) -> Self {
        match is_taken {
            true => Self::Ingress,
            false => Self::Own,
        }
    }
}

/// The proxy's discovery as facades see it. Implemented by the proxy; calls return at once unless they say otherwise.
pub trait Discovery: Send + Sync + 'static {
    /// A new application arrived.
    fn open_lease(&self, info: LeaseInfo) -> LeaseId;

    /// The application's name became known (from a URL it registered).
    fn name_lease(&self, lease: LeaseId, application: &str);

    /// Its framework and version became known likewise, such as `dubbo 3.3.6`; for people.
    fn note_framework(&self, lease: LeaseId, framework: &str) {
        let _ = (lease, framework);
    }

    /// The application is gone for good: its session was closed or expired.
    fn close_lease(&self, lease: LeaseId);

    /// The application publishes `instance`, at its own address, in `target`. Learns the ingress route and answers what
    /// must stand in the registry. Deterministic: the same application port on this host always answers the same, also
    /// after a restart, so that a facade may ask again to translate a name.
    ///
    /// # Errors
    /// Then the publication is to be passed on unchanged. `NotTaken` may become another answer later: see
    /// [`policy`](Self::policy).
    fn publish(&self, lease: LeaseId, target: &Target, instance: &Instance) -> Result<Outward, PublishError>;

    /// A number that changes whenever the takeover policy does. A facade whose applications publish in sessions of their own
    /// then asks [`publish`](Self::publish) again for everything that stands, and brings what stands to the answer in one
    /// step. Lists need nothing of the kind: those that are followed are shown again. What `publish_kept` keeps neither.
    /// Where it is not implemented the policy never changes.
    fn policy(&self) -> watch::Receiver<u64> {
        watch::Sender::new(0).subscribe()
    }

    /// What stands in the registry for `instance` now. A facade says so after it brought there what
    /// [`publish`](Self::publish) answered anew.
    fn stands(&self, lease: LeaseId, target: &Target, instance: &Instance, standing: InRegistry) {
        let _ = (lease, target, instance, standing);
    }

    /// Whether the takeover policy leaves a whole list as it stands in the registry for this application. A facade that can
    /// relay reads to the registry then does.
    fn leaves(&self, lease: LeaseId, snapshot: &Snapshot) -> bool {
        let _ = (lease, snapshot);
        false
    }

    /// Whether the takeover policy may show any list otherwise than it stands. If not, rules that name hosts are the
    /// applications' own to apply.
    fn takes_lists(&self) -> bool {
        true
    }

    /// The application's own port behind one of our ingress ports.
    fn behind(&self, ingress: u16) -> Option<u16> {
        let _ = ingress;
        None
    }

    /// What would stand in the registry for `instance`, if the ingress of its port is known already; nothing is published,
    /// and no port is opened. `None` where it is not implemented.
    fn known_outward(&self, instance: &Instance) -> Option<Outward> {
        let _ = instance;
        None
    }

    /// As [`publish`](Self::publish), for an application that holds no session of its own at the registry: what must stand
    /// there is kept there by the registry's adapter, on Remora's own session, from now until it is withdrawn or the
    /// lease ends. Returns at once; a registry that is away gets it when it is back. `instance` is the application's own
    /// address; the adapter prints it in its registry's form. Publishing again under the same `id` replaces what stands:
    /// the new one comes before the old one goes.
    ///
    /// What is not taken over (a protocol that no plugin speaks, an address that another Remora published, what the takeover
    /// policy leaves) is kept as it is, and the answer names its own address.
    ///
    /// # Errors
    /// `NoIngress`, `OwnPort`, `NotKept`: then nothing is published.
    fn publish_kept(&self, lease: LeaseId, target: &Target, instance: &Instance) -> Result<Outward, PublishError>;

    /// Why the registry behind cannot hold `target` at all, for a message to the application; `None` if it can.
    fn cannot_hold(&self, target: &Target) -> Option<String>;

    /// Whether the registry behind can be reached, and its changes; `None` where nobody can say. A facade that can do
    /// something for applications meanwhile asks for it.
    fn reach(&self) -> Option<watch::Receiver<RegistryState>> {
        None
    }

    /// The application takes `instance` back, also from where `publish_kept` keeps it.
    fn withdraw(&self, lease: LeaseId, target: &Target, instance: &Instance);

    /// As [`withdraw`](Self::withdraw), when the application did so itself, and not the end of its session. When nothing of it is
    /// left at its port, other Remoras that ask are told so, until something is published at the port again: SOFARPC stops to
    /// serve at once, so its calls go to other instances; Dubbo serves on for a while, and is held for lost no longer. Where it is not implemented it is no more than a withdrawal.
    fn leave(&self, lease: LeaseId, target: &Target, instance: &Instance) {
        self.withdraw(lease, target, instance);
    }

    /// The application follows `target`. The receiver holds `None` until a list is known. Calling it again for the same
    /// lease and target is cheap and gives another receiver of the same list; the follow ends with the lease.
    fn follow(&self, lease: LeaseId, target: &Target) -> watch::Receiver<Option<Arc<Snapshot>>>;

    /// The application follows `target` no longer. A list that nobody follows goes after a grace time. Without this, and
    /// where it is not implemented, the follow ends with the lease.
    fn unfollow(&self, lease: LeaseId, target: &Target) {
        let _ = (lease, target);
    }

    /// The list that the application behind `lease` is shown: one entry per distinct tuple that a client filters on, at our
    /// egress. Entries that no plugin speaks, and those that the takeover policy leaves, come out unchanged. Stable while
    /// providers come and go. Deterministic.
    fn inward(&self, lease: LeaseId, snapshot: &Snapshot, client: Client) -> Vec<Instance>;

    /// The metadata document (JSON) to show to an application for a revision seen in an application-level list, with ports
    /// such that calls go to our egress. `None` if that revision is not one of a list that is followed.
    fn inward_metadata<'a>(&'a self, application: &'a str, revision: &'a str) -> BoxFuture<'a, Option<String>>;

    /// A rule was kept from the applications that follow `place`. Replaces what was reported for the same place before; an
    /// empty list says that the place has no such rule any more.
    fn rules_not_applied(&self, place: &str, rules: Vec<UnappliedRule>);

    /// A place for a connection whose application publishes in a session of its own: when Remora leaves for good, the
    /// connection is asked to take those entries out of the registry. Where it is not implemented nobody asks.
    fn seat(&self) -> Seat {
        Seat::nobody()
    }
}

/// The end that speaks a registry's protocol to applications. Made bound to its port by the plugin's own constructor.
pub trait Facade: Send + 'static {
    /// Short fixed name: `zookeeper`.
    fn name(&self) -> &'static str;

    /// Where it listens and what an application must be told, one line, for the start-up banner.
    fn banner(&self) -> String;

    /// Serves until `drain` is cancelled, then closes its connections (without ending the applications' sessions) and
    /// returns.
    fn serve(
        self: Box<Self>,
        discovery: Arc<dyn Discovery>,
        drain: CancellationToken,
    ) -> BoxFuture<'static, Result<(), FacadeError>>;
}
