// SPDX-License-Identifier: Apache-2.0
//! What an application published goes on standing between the end of its session and its next registration.
//!
//! A client that is told that its session expired registers again, but in its own time: Dubbo 2.7 after 10 s. Until then
//! its nodes stand in a session of ours. It was there a moment ago, to be told; what it does not take over within a limited
//! time goes. When it makes a node anew the facade replaces ours (`heir.rs`), in one transaction.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use remora_naming::sofa;
use remora_registry::Target;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Shared;
use super::names::{Node, Own};
use super::session::State;
use crate::client::{Client, ClientError, Options, SessionState};
use crate::places;
use crate::wire::{Acl, CreateMode, ErrorCode, Seq};

/// The session of ours of one door; there is one while something stands in it.
#[derive(Default)]
pub(super) struct Bridge {
    client: Mutex<Weak<Client>>,
}

impl Bridge {
    pub(super) fn client(&self, shared: &Shared, drain: &CancellationToken) -> Arc<Client> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.upgrade().unwrap_or_else(|| {
            let options = Options {
                session_timeout: SESSION_TIMEOUT,
                ..Options::default()
            };
            let new = Client::start(Arc::clone(&shared.backend), options, drain.clone());
            let new = Arc::new(new);
            *client = Arc::downgrade(&new);
            new
        })
    }
}

/// What a session left.
pub(super) struct Estate {
    session: i64,
    nodes: Vec<(String, Node)>,
    /// The application's own port behind each node.
    ports: Vec<u16>,
    /// Directories that it used, with how they are made.
    dirs: Vec<(String, CreateMode)>,
}

impl Estate {
    /// `whole`: also what is not taken over.
    pub(super) fn of(state: &State, whole: bool) -> Self {
        let standing: Vec<&Own> = state
            .names
            .all_live()
            .filter(|own| whole || own.is_taken)
            .filter(|own| own.node.as_ref().is_none_or(|node| node.is_ephemeral))
            .collect();
        let published = standing.iter().map(|own| &own.target);
        let lists = state.views.values();
        let followed = lists.filter_map(|view| view.list.borrow().as_ref().map(|list| list.target.clone()));
        let targets: BTreeSet<Target> = published.cloned().chain(followed).collect();
        let dirs = targets.iter().flat_map(directories);
        Self {
            session: state.session,
            nodes: standing
                .iter()
                .map(|own| (own.registry_path.clone(), own.node()))
                .collect(),
            ports: standing.iter().map(|own| own.instance.port).collect(),
            dirs: dirs.collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.dirs.is_empty()
    }

    /// Leaves out what belongs to applications that do not listen any more.
    async fn retain_living(&mut self) {
        let mut living = HashMap::new();
        for port in &self.ports {
            if !living.contains_key(port) {
                let dialled = TcpStream::connect((Ipv4Addr::LOCALHOST, *port));
                let accepts = matches!(timeout(KNOCK_TIMEOUT, dialled).await, Ok(Ok(_)));
                living.insert(*port, accepts);
            }
        }
        let mut ports = self.ports.iter();
        self.nodes
            .retain(|_| ports.next().is_some_and(|port| living.get(port) == Some(&true)));
    }
}

/// What its application makes around a list, once, and takes for granted from then on (Dubbo 2.7 `persistentExistNodePath`):
/// in a registry that came back empty it would find nothing, and never register.
fn directories(target: &Target) -> Vec<(String, CreateMode)> {
    let dir = places::dir_of(target);
    let Target::Service { .. } = target else {
        return vec![(dir, CreateMode::Persistent)];
    };
    let Some((service, _)) = dir.rsplit_once('/') else {
        return Vec::new();
    };
    let (names, mode) = match sofa::is_sofa(target) {
        true => (
            ["providers", "consumers", "configs", "overrides"],
            CreateMode::Container,
        ),
        false => (
            ["providers", "consumers", "configurators", "routers"],
            CreateMode::Persistent,
        ),
    };
    names.map(|name| (format!("{service}/{name}"), mode)).to_vec()
}

/// Keeps standing what stood in a session that is over; its application was just told so. Ends by itself, or with `drain`.
pub(super) fn carry(shared: &Arc<Shared>, state: Box<State>, drain: &CancellationToken) {
    let estate = Estate::of(&state, false);
    start(shared, estate, Living::Known, Some(state), drain);
}

/// As [`carry`], of a session that the application still has, but not for long.
pub(super) fn carry_ahead(shared: &Arc<Shared>, state: &State, drain: &CancellationToken) {
    // It was we who ended the session, so nothing of it may be missing.
    start(shared, Estate::of(state, true), Living::Known, None, drain);
}

/// As [`carry`], of a session that its client gave up: what belongs to applications that still listen.
pub(super) fn carry_living(shared: &Arc<Shared>, estate: Estate, drain: &CancellationToken) {
    start(shared, estate, Living::ToBeSeen, None, drain);
}

/// Whether the application is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Living {
    Known,
    ToBeSeen,
}

/// `state` stays until the end: its ingress ports stay assigned with it.
fn start(
    shared: &Arc<Shared>,
    mut estate: Estate,
    living: Living,
    state: Option<Box<State>>,
    drain: &CancellationToken,
) {
    if estate.is_empty() {
        return;
    }
    let (shared, drain) = (Arc::clone(shared), drain.clone());
    tokio::spawn(async move {
        if living == Living::ToBeSeen {
            estate.retain_living().await;
        }
        let client = shared.bridge.client(&shared, &drain);
        info!(
            registry = &*shared.registry,
            nodes = estate.nodes.len(),
            "a session is over: what its application published goes on standing until it publishes again"
        );
        tokio::select! {
            () = drain.cancelled() => {}
            () = keep(client, estate, Instant::now() + LIMIT) => {}
        }
        drop(state);
    });
}

async fn keep(client: Arc<Client>, estate: Estate, until: Instant) {
    let mut session = client.state();
    let is_up = |state: &SessionState| matches!(state, SessionState::Up { .. } | SessionState::Closed);
    let Ok(Ok(_)) = timeout_at(until, session.wait_for(is_up)).await else {
        return;
    };
    for (dir, mode) in &estate.dirs {
        if let Err(error) = make_dir(&client, dir, *mode).await {
            debug!(registry = "zookeeper", path = dir, reason = error.reason(), %error, "cannot make a directory");
        }
    }
    let former = estate.session;
    let nodes: Arc<[(String, Node)]> = estate.nodes.into();
    let mut makers = JoinSet::new();
    for number in 0..AT_ONCE {
        let (client, nodes) = (Arc::clone(&client), Arc::clone(&nodes));
        makers.spawn(async move {
            for (path, node) in nodes.iter().skip(number).step_by(AT_ONCE) {
                if let Err(error) = make(&client, path, node, former).await {
                    debug!(registry = "zookeeper", path, reason = error.reason(), %error, "cannot keep a node standing");
                }
            }
        });
    }
    while makers.join_next().await.is_some() {}
    sleep_until(until).await;
    let own = match &*client.state().borrow() {
        SessionState::Up { session, .. } => *session,
        _ => return,
    };
    for (path, _) in nodes.iter() {
        if let Ok(Some(stat)) = client.exists(path, None).await
            && stat.ephemeral_owner == own
        {
            info!(registry = "zookeeper", path, "its application did not publish it again");
            let _ = client.delete(path).await;
        }
    }
}

async fn make_dir(client: &Client, path: &str, mode: CreateMode) -> Result<(), ClientError> {
    if client.exists(path, None).await?.is_some() {
        return Ok(());
    }
    // A name below it that is never made.
    client.create_parents_as(&format!("{path}/x"), mode).await
}

/// Makes a node; one that `former` left is replaced, one of anybody else stands already.
async fn make(client: &Client, path: &str, node: &Node, former: i64) -> Result<(), ClientError> {
    let data = node.data.clone().unwrap_or_default();
    // An identity that our session does not have.
    let is_known = |entry: Acl| matches!(&*entry.scheme, "world" | "digest" | "ip");
    let acl = match node.acl.iter().all(is_known) {
        true => node.acl.clone(),
        false => Seq::from_iter([Acl::open()]),
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let mode = CreateMode::Ephemeral;
        let error = match client.create_as(path, data.clone(), mode, acl.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) if tries >= MAX_TRIES => return Err(error),
            Err(error) => error,
        };
        match error.code() {
            Some(ErrorCode::NO_NODE) => client.create_parents(path).await?,
            Some(ErrorCode::NODE_EXISTS) => match client.exists(path, None).await? {
                Some(stat) if stat.ephemeral_owner == former => match client.delete(path).await {
                    Err(error) if !error.is_no_node() => return Err(error),
                    _ => {}
                },
                Some(_) => return Ok(()),
                None => {}
            },
            _ => return Err(error),
        }
    }
}

/// Longer than Dubbo 2.7 and SOFARPC take to publish again, shorter than what a dead provider may stand.
const LIMIT: Duration = Duration::from_secs(30);
/// An application on this machine answers at once.
const KNOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// If this process dies meanwhile.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Nodes made at once.
const AT_ONCE: usize = 16;
const MAX_TRIES: u32 = 4;
