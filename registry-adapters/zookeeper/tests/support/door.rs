// SPDX-License-Identifier: Apache-2.0
//! A front door over an embedded registry, with a discovery that does what it is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use remora_naming::{application, dubbo_url, sofa};
use remora_registry::{
    BoxFuture, Client as Library, Discovery, Facade, Farewell, InRegistry, Instance, LeaseId, LeaseInfo, Outward,
    Params, PublishError, RegistryState, Seat, Snapshot, Source, Target, UnappliedRule, Why,
};
use remora_zookeeper::backend::{Backend, BackendError, Duplex, Embedded};
use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::facade::{Config, Stats, ZookeeperFacade};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Client, DEADLINE, eventually};

/// A discovery by rote: an address becomes the next port, a list becomes one entry per service at the egress.
#[derive(Default)]
pub struct Script {
    lists: Mutex<HashMap<Target, watch::Sender<Option<Arc<Snapshot>>>>>,
    pub documents: Mutex<HashMap<(String, String), String>>,
    log: Mutex<Vec<String>>,
    pub rules: Mutex<HashMap<String, Vec<UnappliedRule>>>,
    leases: AtomicU64,
    /// Added to the ingress port.
    pub moved_by: AtomicU16,
    /// Whether the registry is there, if the discovery can say.
    pub reach: Mutex<Option<watch::Sender<RegistryState>>>,
    /// Why the registry behind can hold nothing.
    pub holds_nothing: Mutex<Option<String>>,
    /// Asks for the withdrawal of everything.
    pub farewell: Farewell,
    /// What is left as it is: nothing, or everything; and how often that changed.
    left: AtomicBool,
    policy: watch::Sender<u64>,
}

pub const EGRESS: (&str, u16) = ("2130706433", 20882);
pub const SOFA_EGRESS: (&str, u16) = ("127.0.0.1", 12220);

impl Script {
    fn list(&self, target: &Target) -> watch::Sender<Option<Arc<Snapshot>>> {
        let mut lists = self.lists.lock().unwrap();
        lists
            .entry(target.clone())
            .or_insert_with(|| watch::channel(None).0)
            .clone()
    }

    /// Gives out a list of provider URLs, or of an application's documents, each with its name.
    pub fn show(&self, target: &Target, instances: Vec<Instance>, foreign: &[&str]) {
        let snapshot = Snapshot {
            target: target.clone(),
            instances: instances.into_iter().map(Arc::new).collect(),
            malformed: Vec::new(),
            foreign: foreign.iter().map(|name| Arc::from(*name)).collect(),
            source: Source::Registry,
        };
        self.list(target).send_replace(Some(Arc::new(snapshot)));
    }

    /// The policy leaves everything as it is from now on, or takes everything over.
    pub fn leave(&self, is_left: bool) {
        self.left.store(is_left, Ordering::Relaxed);
        self.policy.send_modify(|number| *number += 1);
        for list in self.lists.lock().unwrap().values() {
            list.send_modify(|_| {});
        }
    }

    /// The registry is there from now on, or has been away for a while.
    pub fn is_there(&self, is_there: bool) {
        let now = std::time::Instant::now();
        let state = match is_there {
            true => RegistryState::Up { since: now },
            false => RegistryState::Down {
                since: now.checked_sub(DEADLINE).unwrap(),
                cause: "away".into(),
            },
        };
        let mut reach = self.reach.lock().unwrap();
        match &*reach {
            Some(reach) => drop(reach.send_replace(state)),
            None => *reach = Some(watch::channel(state).0),
        }
    }

    pub fn providers(&self, target: &Target, urls: &[&str]) {
        self.show(target, urls.iter().map(|url| provider(url)).collect(), &[]);
    }

    /// What was asked of it, each once: `publish 20880`, `withdraw 20880`, `close`, `name app`.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn note(&self, what: String) {
        self.log.lock().unwrap().push(what);
    }

    pub async fn hears(&self, what: &str) {
        eventually(what, async || self.log().iter().any(|said| said == what).then_some(())).await;
    }
}

impl Discovery for Script {
    fn open_lease(&self, _: LeaseInfo) -> LeaseId {
        LeaseId(self.leases.fetch_add(1, Ordering::Relaxed))
    }

    fn name_lease(&self, _: LeaseId, application: &str) {
        self.note(format!("name {application}"));
    }

    fn close_lease(&self, lease: LeaseId) {
        self.note(format!("close {}", lease.0));
    }

    fn publish(&self, _: LeaseId, _: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        if instance.app_port().is_some() {
            return Err(PublishError::AlreadyTakenOver {
                host: instance.host.to_string(),
                port: instance.port,
            });
        }
        if !matches!(&*instance.protocol, "dubbo" | "bolt") {
            return Err(PublishError::Protocol {
                protocol: instance.protocol.to_string(),
            });
        }
        self.note(format!("publish {}", instance.port));
        if self.left.load(Ordering::Relaxed) {
            return Err(PublishError::NotTaken { why: Why::RolledBack });
        }
        Ok(Outward {
            host: instance.host.to_string(),
            port: instance.port + 1 + self.moved_by.load(Ordering::Relaxed),
            app_port: instance.port,
        })
    }

    fn policy(&self) -> watch::Receiver<u64> {
        self.policy.subscribe()
    }

    fn stands(&self, _: LeaseId, _: &Target, instance: &Instance, standing: InRegistry) {
        self.note(format!("stands {} {standing:?}", instance.port));
    }

    fn leaves(&self, _: LeaseId, _: &Snapshot) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    fn takes_lists(&self) -> bool {
        !self.left.load(Ordering::Relaxed)
    }

    fn behind(&self, ingress: u16) -> Option<u16> {
        Some(ingress - 1)
    }

    fn known_outward(&self, instance: &Instance) -> Option<Outward> {
        Some(Outward {
            host: instance.host.to_string(),
            port: instance.port + 1 + self.moved_by.load(Ordering::Relaxed),
            app_port: instance.port,
        })
    }

    fn publish_kept(&self, lease: LeaseId, target: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        let outward = self.publish(lease, target, instance)?;
        self.note(format!("keep {target} {}:{}", instance.host, instance.port));
        Ok(outward)
    }

    fn reach(&self) -> Option<watch::Receiver<RegistryState>> {
        self.reach.lock().unwrap().as_ref().map(watch::Sender::subscribe)
    }

    fn cannot_hold(&self, _: &Target) -> Option<String> {
        self.holds_nothing.lock().unwrap().clone()
    }

    fn withdraw(&self, _: LeaseId, target: &Target, instance: &Instance) {
        self.note(format!("withdraw {}", instance.port));
        self.note(format!("withdraw {target} {}:{}", instance.host, instance.port));
    }

    fn leave(&self, lease: LeaseId, target: &Target, instance: &Instance) {
        self.note(format!("leave {}", instance.port));
        self.withdraw(lease, target, instance);
    }

    fn unfollow(&self, _: LeaseId, target: &Target) {
        self.note(format!("unfollow {target}"));
    }

    fn follow(&self, _: LeaseId, target: &Target) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.note(format!("follow {target}"));
        self.list(target).subscribe()
    }

    fn inward(&self, _: LeaseId, snapshot: &Snapshot, client: Library) -> Vec<Instance> {
        let host = match client {
            Library::Java => EGRESS.0,
            Library::Plain => "127.0.0.1",
        };
        let mut shown: Vec<Instance> = Vec::new();
        for instance in &snapshot.instances {
            let entry = match (&snapshot.target, &*instance.protocol) {
                (_, "bolt") => sofa_at_egress(instance),
                (_, protocol) if protocol != "dubbo" => Instance::clone(instance),
                (Target::Service { .. }, _) => at_egress(instance, host),
                (Target::Application { .. }, _) => {
                    application::shown_at(instance, host, EGRESS.1, instance.revision().unwrap()).unwrap()
                }
            };
            if !shown.iter().any(|one| one.id == entry.id) {
                shown.push(entry);
            }
        }
        shown
    }

    fn inward_metadata<'a>(&'a self, application: &'a str, revision: &'a str) -> BoxFuture<'a, Option<String>> {
        let key = (application.to_owned(), revision.to_owned());
        let document = self.documents.lock().unwrap().get(&key).cloned();
        Box::pin(async move { document })
    }

    fn rules_not_applied(&self, place: &str, rules: Vec<UnappliedRule>) {
        self.rules.lock().unwrap().insert(place.to_owned(), rules);
    }

    fn seat(&self) -> Seat {
        self.farewell.seat()
    }
}

fn at_egress(instance: &Instance, host: &str) -> Instance {
    let url = format!(
        "dubbo://{host}:{}/{}?interface={}",
        EGRESS.1, instance.path, instance.path
    );
    provider(&url)
}

/// What SOFARPC's consumers are shown; one entry per unique id.
fn sofa_at_egress(instance: &Instance) -> Instance {
    let mut shown = Instance {
        id: "".into(),
        host: SOFA_EGRESS.0.into(),
        port: SOFA_EGRESS.1,
        params: Params::default(),
        raw: "".into(),
        ..Instance::clone(instance)
    };
    shown.id = sofa::child::print(&shown).into();
    shown
}

/// A provider by its URL.
pub fn provider(url: &str) -> Instance {
    dubbo_url::parse_child(&dubbo_url::encode_component(url)).unwrap()
}

/// The document of an application's instance, as Dubbo 3 writes it.
pub fn document(app: &str, host: &str, ports: &[u16], revision: &str) -> String {
    let endpoints: Vec<String> = ports
        .iter()
        .map(|port| format!(r#"{{\"port\":{port},\"protocol\":\"dubbo\"}}"#))
        .collect();
    let (port, endpoints) = (ports[0], endpoints.join(","));
    format!(
        r#"{{"name":"{app}","id":"{host}:{port}","address":"{host}","port":{port},"sslPort":null,"payload":{{"@class":"org.apache.dubbo.registry.zookeeper.ZookeeperInstance","id":"{host}:{port}","name":"{app}","metadata":{{"dubbo.endpoints":"[{endpoints}]","dubbo.metadata.revision":"{revision}"}}}},"registrationTimeUTC":1,"serviceType":"DYNAMIC","uriSpec":null}}"#
    )
}

pub fn instance(app: &str, host: &str, ports: &[u16], revision: &str) -> Instance {
    let document = document(app, host, ports, revision);
    let name = format!("{host}:{}", ports[0]);
    application::parse(&name, document.as_bytes()).unwrap().unwrap()
}

/// The child's name of a URL.
pub fn child(url: &str) -> String {
    dubbo_url::encode_component(url)
}

pub fn service(name: &str) -> Target {
    Target::Service {
        namespace: "/dubbo".into(),
        name: name.into(),
    }
}

pub fn app(name: &str) -> Target {
    Target::Application {
        namespace: "/services".into(),
        name: name.into(),
    }
}

/// The backend of a door: can be exchanged, and cut off.
pub struct Switch {
    server: Mutex<Server>,
    cut: Mutex<CancellationToken>,
    stall: Mutex<CancellationToken>,
    is_away: Mutex<bool>,
    chroot: String,
}

impl Switch {
    pub fn new(server: &Server, chroot: &str) -> Arc<Self> {
        Arc::new(Self {
            server: Mutex::new(server.clone()),
            cut: Mutex::default(),
            stall: Mutex::default(),
            is_away: Mutex::default(),
            chroot: chroot.to_owned(),
        })
    }

    /// Another registry stands at its address from now on.
    pub fn turn(&self, server: &Server) {
        *self.server.lock().unwrap() = server.clone();
        self.cut();
    }

    /// Ends every connection to the registry.
    pub fn cut(&self) {
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }

    /// What is sent over the connections that are open gets nowhere from now on, either way; they stay open.
    pub fn stall(&self) {
        std::mem::take(&mut *self.stall.lock().unwrap()).cancel();
    }

    pub fn away(&self, is_away: bool) {
        *self.is_away.lock().unwrap() = is_away;
        if is_away {
            self.cut();
        }
    }
}

impl Backend for Switch {
    fn connect(&self) -> remora_zookeeper::backend::BoxFuture<'_, Result<Box<dyn Duplex>, BackendError>> {
        let server = self.server.lock().unwrap().clone();
        let cut = self.cut.lock().unwrap().clone();
        let stall = self.stall.lock().unwrap().clone();
        let is_away = *self.is_away.lock().unwrap();
        Box::pin(async move {
            if is_away {
                return Err(BackendError::Refused { cause: "away".into() });
            }
            let mut there = Embedded::new(server).connect().await?;
            let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
            tokio::spawn(async move {
                tokio::select! {
                    () = cut.cancelled() => {}
                    () = stall.cancelled() => cut.cancelled().await,
                    _ = tokio::io::copy_bidirectional(&mut theirs, &mut there) => {}
                }
            });
            Ok(Box::new(ours) as Box<dyn Duplex>)
        })
    }

    fn can_be_away(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        "switch".to_owned()
    }

    fn chroot(&self) -> &str {
        &self.chroot
    }
}

/// A door that serves.
pub struct Door {
    pub addr: std::net::SocketAddr,
    pub stats: Arc<Stats>,
    pub script: Arc<Script>,
    drain: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Door {
    pub fn open(backend: Arc<dyn Backend>, script: &Arc<Script>) -> Self {
        Self::open_with(backend, script, Config::default())
    }

    pub fn open_with(backend: Arc<dyn Backend>, script: &Arc<Script>, config: Config) -> Self {
        Self::serve(backend, script, config, |facade| facade)
    }

    /// One that knows what the one before it wrote down in `dir`.
    pub fn open_in(dir: &std::path::Path, backend: Arc<dyn Backend>, script: &Arc<Script>) -> Self {
        Self::serve(backend, script, Config::default(), |facade| facade.remember_in(dir))
    }

    fn serve(
        backend: Arc<dyn Backend>,
        script: &Arc<Script>,
        config: Config,
        finish: impl FnOnce(ZookeeperFacade) -> ZookeeperFacade,
    ) -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        let facade = ZookeeperFacade::bind(Config { listen, ..config }, backend, "default").unwrap();
        let facade = finish(facade);
        let (addr, stats) = (facade.local_addr(), facade.stats());
        let drain = CancellationToken::new();
        let discovery: Arc<dyn Discovery> = Arc::<Script>::clone(script);
        let serving = Box::new(facade).serve(discovery, drain.clone());
        Self {
            addr,
            stats,
            script: Arc::clone(script),
            drain,
            served: tokio::spawn(async move { serving.await.unwrap() }),
        }
    }

    pub async fn socket(&self) -> Box<dyn Duplex> {
        Box::new(TcpStream::connect(self.addr).await.unwrap())
    }

    /// A new session of an application.
    pub async fn client(&self) -> Client {
        Client::open(self.socket().await, None).await.expect("a session")
    }

    /// The session of an application that lost its connection; `None`: it is told that it expired.
    pub async fn resume(&self, before: &Client) -> Option<Client> {
        Client::open(self.socket().await, Some(before)).await
    }

    /// Remora ends; its applications' sessions go on.
    pub async fn drain(self) {
        self.drain.cancel();
        tokio::time::timeout(DEADLINE, self.served)
            .await
            .expect("in time")
            .unwrap();
    }
}

/// An embedded registry, a script, a door over them.
pub fn world() -> (Server, Arc<Script>, Door) {
    let server = Server::in_memory(Options::default());
    let script = Arc::new(Script::default());
    let door = Door::open(Arc::new(Embedded::new(server.clone())), &script);
    (server, script, door)
}

/// Creates a path and everything above it.
pub async fn mkdirs(client: &mut Client, path: &str) {
    let mut above = String::new();
    for part in path.split('/').skip(1) {
        above = format!("{above}/{part}");
        let _ = client
            .create(&above, remora_zookeeper::wire::CreateMode::Persistent)
            .await;
    }
}
