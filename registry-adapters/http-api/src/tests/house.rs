// SPDX-License-Identifier: Apache-2.0
//! A door with its discovery, a client, and applications that listen or do not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use remora_naming::sofa::line;
use remora_registry::{
    BoxFuture, Client, Discovery, Facade, FacadeError, Instance, LeaseId, LeaseInfo, Outward, Ports, PublishError,
    Snapshot, Source, Target, UnappliedRule,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{HttpFacade, Settings, Stats, dubbod, mesh};

/// Between two looks of a door.
pub(super) const LOOK: Duration = Duration::from_millis(20);
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// What discovery holds at a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) leases: BTreeMap<LeaseId, String>,
    /// Published instances by target and id.
    pub(super) published: BTreeMap<(String, String), Instance>,
    pub(super) of_lease: BTreeMap<(String, String), LeaseId>,
    pub(super) followed: BTreeSet<String>,
    pub(super) publishes: usize,
    next_lease: u64,
}

/// A discovery that notes what it is asked and shows what it is told.
pub(super) struct Scripted {
    held: watch::Sender<Held>,
    lists: Mutex<BTreeMap<String, watch::Sender<Option<Arc<Snapshot>>>>>,
    /// Names of targets that the registry cannot hold.
    pub(super) unheld: Mutex<BTreeSet<String>>,
    /// Whether publications fail.
    pub(super) has_no_ports: Mutex<bool>,
}

impl Scripted {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            held: watch::Sender::default(),
            lists: Mutex::default(),
            unheld: Mutex::default(),
            has_no_ports: Mutex::default(),
        })
    }

    pub(super) fn held(&self) -> Held {
        self.held.borrow().clone()
    }

    /// What is held, as it changes.
    pub(super) fn changes(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }

    /// Waits until what is held is as wanted.
    pub(super) async fn until(&self, what: &str, is_wanted: impl Fn(&Held) -> bool) -> Held {
        let mut held = self.held.subscribe();
        let found = timeout(LIMIT, held.wait_for(|held| is_wanted(held))).await;
        match found {
            Ok(held) => held.unwrap().clone(),
            Err(_) => panic!("{what}: {:#?}", self.held()),
        }
    }

    /// The registry has these lines for a service.
    pub(super) fn says(&self, target: &Target, instances: Vec<Instance>) {
        let snapshot = Snapshot {
            target: target.clone(),
            instances: instances.into_iter().map(Arc::new).collect(),
            malformed: Vec::new(),
            foreign: Vec::new(),
            source: Source::Registry,
        };
        self.list(target).send_replace(Some(Arc::new(snapshot)));
    }

    fn list(&self, target: &Target) -> watch::Sender<Option<Arc<Snapshot>>> {
        self.lists
            .lock()
            .unwrap()
            .entry(target.to_string())
            .or_default()
            .clone()
    }
}

impl Discovery for Scripted {
    fn open_lease(&self, info: LeaseInfo) -> LeaseId {
        let mut id = LeaseId(0);
        self.held.send_modify(|held| {
            held.next_lease += 1;
            id = LeaseId(held.next_lease);
            held.leases.insert(id, info.application.clone());
        });
        id
    }

    fn name_lease(&self, lease: LeaseId, application: &str) {
        self.held.send_modify(|held| {
            held.leases.insert(lease, application.to_owned());
        });
    }

    fn close_lease(&self, lease: LeaseId) {
        self.held.send_modify(|held| {
            held.leases.remove(&lease);
            let gone: Vec<_> = held
                .of_lease
                .iter()
                .filter(|(_, l)| **l == lease)
                .map(|(k, _)| k.clone())
                .collect();
            for key in gone {
                held.of_lease.remove(&key);
                held.published.remove(&key);
            }
            if held.leases.is_empty() {
                held.followed.clear();
            }
        });
    }

    fn publish(&self, _: LeaseId, _: &Target, _: &Instance) -> Result<Outward, PublishError> {
        panic!("these doors keep no session");
    }

    fn publish_kept(&self, lease: LeaseId, target: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        if *self.has_no_ports.lock().unwrap() {
            return Err(PublishError::NoIngress {
                protocol: "bolt".into(),
                app_port: instance.port,
                cause: "scripted".into(),
            });
        }
        self.held.send_modify(|held| {
            assert!(held.leases.contains_key(&lease), "published without a lease");
            let key = (target.to_string(), instance.id.to_string());
            held.published.insert(key.clone(), instance.clone());
            held.of_lease.insert(key, lease);
            held.publishes += 1;
        });
        Ok(Outward {
            host: "10.0.0.5".into(),
            port: 12201,
            app_port: instance.port,
        })
    }

    fn cannot_hold(&self, target: &Target) -> Option<String> {
        let unheld = self.unheld.lock().unwrap();
        unheld.contains(&**target.name()).then(|| "it has no groups".to_owned())
    }

    fn withdraw(&self, _: LeaseId, target: &Target, instance: &Instance) {
        self.held.send_modify(|held| {
            let key = (target.to_string(), instance.id.to_string());
            held.published.remove(&key);
            held.of_lease.remove(&key);
        });
    }

    fn follow(&self, _: LeaseId, target: &Target) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.held.send_modify(|held| {
            held.followed.insert(target.to_string());
        });
        self.list(target).subscribe()
    }

    fn unfollow(&self, _: LeaseId, target: &Target) {
        self.held.send_modify(|held| {
            held.followed.remove(&target.to_string());
        });
    }

    fn inward(&self, _: LeaseId, snapshot: &Snapshot, client: Client) -> Vec<Instance> {
        assert_eq!(client, Client::Plain, "SOFARPC dials the dotted form");
        let at_egress = |instance: &Arc<Instance>| Instance {
            host: "127.0.0.1".into(),
            port: 12220,
            ..Instance::clone(instance)
        };
        snapshot.instances.iter().map(at_egress).collect()
    }

    fn inward_metadata<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }

    fn rules_not_applied(&self, _: &str, _: Vec<UnappliedRule>) {}
}

/// A door that serves until it is closed or dropped.
pub(super) struct House {
    pub(super) discovery: Arc<Scripted>,
    pub(super) addr: SocketAddr,
    pub(super) stats: Arc<Stats>,
    drain: DropGuard,
    serving: JoinHandle<Result<(), FacadeError>>,
}

/// Settings with a port that the system chooses and quick looks.
fn quick(mut settings: Settings, change: impl FnOnce(&mut Settings)) -> Settings {
    settings.listen = "127.0.0.1:0".parse().unwrap();
    settings.probe_every = LOOK;
    change(&mut settings);
    settings
}

impl House {
    pub(super) fn mesh(dir: &Path, discovery: &Arc<Scripted>, change: impl FnOnce(&mut Settings)) -> Self {
        let mut config = mesh::Config {
            first_list_wait: Duration::from_millis(300),
            ..mesh::Config::default()
        };
        config.door = quick(config.door, change);
        Self::serve(mesh::bind(&Ports::default(), config, dir, "default"), discovery)
    }

    /// A mesh door that reads the system's sockets from `proc_net`.
    pub(super) fn mesh_with(
        dir: &Path,
        discovery: &Arc<Scripted>,
        proc_net: PathBuf,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut config = mesh::Config::default();
        config.door = quick(config.door, change);
        let mut facade = mesh::bind(&Ports::default(), config, dir, "default").unwrap();
        facade.door.proc_net = proc_net;
        Self::serve(Ok(facade), discovery)
    }

    pub(super) fn dubbod(dir: &Path, discovery: &Arc<Scripted>, change: impl FnOnce(&mut Settings)) -> Self {
        let mut config = dubbod::Config::default();
        config.door = quick(config.door, change);
        Self::serve(dubbod::bind(&Ports::default(), config, dir, "default"), discovery)
    }

    fn serve(bound: Result<HttpFacade, FacadeError>, discovery: &Arc<Scripted>) -> Self {
        let facade = Box::new(bound.unwrap());
        let (addr, stats) = (facade.local_addrs()[0], facade.stats());
        let drain = CancellationToken::new();
        let serving = tokio::spawn(facade.serve(Arc::clone(discovery) as Arc<dyn Discovery>, drain.clone()));
        Self {
            discovery: Arc::clone(discovery),
            addr,
            stats,
            drain: drain.drop_guard(),
            serving,
        }
    }

    /// A drain, as by SIGTERM.
    pub(super) async fn close(self) {
        drop(self.drain);
        timeout(LIMIT, self.serving)
            .await
            .expect("the door closes")
            .unwrap()
            .unwrap();
    }

    /// As by kill -9: nothing is told to anybody.
    pub(super) async fn kill(self) {
        self.serving.abort();
        let _ = self.serving.await;
    }

    /// Sends a JSON body as SOFARPC does.
    pub(super) async fn post(&self, path: &str, body: &str) -> Answer {
        post_to(self.addr, path, body).await
    }

    /// Posts, and checks that it was accepted.
    pub(super) async fn accepted(&self, path: &str, body: &str) -> Value {
        let answer = self.post(path, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let is_accepted = answer.json["success"] == true || answer.json["err_no"] == 0;
        assert!(is_accepted, "{path} {body}: {answer:?}");
        answer.json
    }

    pub(super) async fn heartbeat(&self, query: &str) -> Answer {
        exchange(
            self.addr,
            &format!("GET /heartbeat{query} HTTP/1.1\r\nHost: {}\r\n\r\n", self.addr),
        )
        .await
    }

    pub(super) fn refused(&self, reason: &str) -> u64 {
        self.stats.refused().find(|(label, _)| *label == reason).unwrap().1
    }

    pub(super) fn registrations(&self, state: &str) -> u64 {
        self.stats.registrations().find(|(label, _)| *label == state).unwrap().1
    }

    /// Waits until the door has looked at everything so many times from now on, each look of `LOOK`.
    pub(super) async fn after_looks(&self, count: u64) {
        let looks = || self.stats.looks.load(Ordering::Relaxed);
        // The one under way may have begun before whatever happened now.
        let enough = looks() + count + 1;
        let looked = async {
            while looks() < enough {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, looked).await.expect("the door goes on looking");
    }

    /// Waits for a number of registrations in a state.
    pub(super) async fn until_registrations(&self, state: &str, count: u64) {
        let reached = async {
            while self.registrations(state) != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(LIMIT, reached).await.is_err() {
            panic!("{count} {state}: {:?}", self.stats);
        }
    }
}

/// An answer of a door.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) json: Value,
}

impl Answer {
    /// The mesh API's message of a refusal.
    pub(super) fn mesh_error(&self) -> &str {
        assert_eq!(
            (self.status, &self.json["success"]),
            (200, &Value::Bool(false)),
            "{self:?}"
        );
        self.json["errorMessage"].as_str().unwrap()
    }

    /// The dubbod API's message of a refusal.
    pub(super) fn dubbod_error(&self) -> &str {
        assert_eq!((self.status, &self.json["err_no"]), (200, &Value::from(1)), "{self:?}");
        self.json["err_msg"].as_str().unwrap()
    }
}

pub(super) async fn post_to(addr: SocketAddr, path: &str, body: &str) -> Answer {
    let request = format!(
        "POST {path} HTTP/1.1\r\nContent-Type: text/plain\r\nHost: {addr}\r\nConnection: keep-alive\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(addr, &request).await
}

/// Sends bytes and reads until the door closes, which it does after each answer.
pub(super) async fn exchange(addr: SocketAddr, request: &str) -> Answer {
    let mut stream = timeout(LIMIT, TcpStream::connect(addr)).await.unwrap().unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer))
        .await
        .expect("the door answers and closes")
        .unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Answer {
        status: head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0),
        head: head.to_owned(),
        json: serde_json::from_str(body).unwrap_or_default(),
    }
}

/// An application that listens; closing its port is its end.
pub(super) async fn app() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port on which nobody listens now.
pub(super) async fn free_port() -> u16 {
    app().await.1
}

/// Opens a port again that was closed a moment ago.
pub(super) async fn app_at(port: u16) -> TcpListener {
    let bound = async {
        loop {
            match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(LIMIT, bound).await.expect("the port can be had again")
}

/// A publish of SOFARPC 5.13.2, with a port in its properties.
pub(super) fn publish(service: &str, port: u16) -> String {
    format!(
        r#"{{"serviceName":"{service}","protocolType":"bolt","providerMetaInfo":{{"protocol":"bolt","version":"4.0","serializeType":"hessian2","appName":"demo-provider","properties":{{"port":"{port}"}}}},"onlyPublishInCloud":false,"group":null}}"#
    )
}

pub(super) fn unpublish(service: &str) -> String {
    format!(r#"{{"serviceName":"{service}","protocolType":"bolt","group":null}}"#)
}

pub(super) fn subscribe(service: &str) -> String {
    format!(
        r#"{{"serviceName":"{service}","protocolType":"bolt","targetAppAddress":null,"vipEnforce":false,"vipOnly":false,"localCloudFirst":false,"group":null,"properties":null}}"#
    )
}

/// The line of a provider elsewhere.
pub(super) fn provider(service: &str, text: &str) -> (Target, Instance) {
    let service = remora_naming::sofa::Service::parse(service).unwrap();
    let instance = line::parse(text, &service).unwrap();
    (service.target(), instance)
}
