// SPDX-License-Identifier: Apache-2.0
//! What the tests of this room share: instances, and a registry that says what it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use remora_naming::{application, dubbo_url};
use remora_registry::{BoxFuture, Instance, Registry, RegistryError, RegistryState, Snapshot, Source, Target};
use tokio::sync::watch;

use super::catalog::lock;

/// A provider of `demo.EchoService`; `extra` are further parameters, as in a URL.
pub(super) fn provider(host: &str, port: u16, extra: &str) -> Arc<Instance> {
    let extra = if extra.is_empty() {
        String::new()
    } else {
        format!("&{extra}")
    };
    url(&format!(
        "dubbo://{host}:{port}/demo.EchoService?application=demo-provider&dubbo=2.0.2&interface=demo.EchoService&methods=echo&side=provider{extra}"
    ))
}

pub(super) fn url(url: &str) -> Arc<Instance> {
    Arc::new(dubbo_url::parse_child(&dubbo_url::encode_component(url)).unwrap())
}

pub(super) fn application_node(host: &str, port: u16, revision: &str) -> Arc<Instance> {
    node(
        host,
        revision,
        &format!(r#"[{{\"port\":{port},\"protocol\":\"dubbo\"}}]"#),
        port,
    )
}

pub(super) fn node(host: &str, revision: &str, endpoints: &str, port: u16) -> Arc<Instance> {
    let json = format!(
        r#"{{"name":"demo","id":"{host}:{port}","address":"{host}","port":{port},"payload":{{"id":"{host}:{port}","name":"demo","metadata":{{"dubbo.endpoints":"{endpoints}","dubbo.metadata.revision":"{revision}","dubbo.metadata.storage-type":"local","timestamp":"1700000000000"}}}},"registrationTimeUTC":1700000000001}}"#
    );
    Arc::new(
        application::parse(&format!("{host}:{port}"), json.as_bytes())
            .unwrap()
            .unwrap(),
    )
}

pub(super) fn service(name: &str) -> Target {
    Target::Service {
        namespace: "/dubbo".into(),
        name: name.into(),
    }
}

pub(super) fn app(name: &str) -> Target {
    Target::Application {
        namespace: "/services".into(),
        name: name.into(),
    }
}

type Shown = watch::Sender<Option<Arc<Snapshot>>>;

/// A registry that says what it is told.
pub(super) struct Scripted {
    state: watch::Sender<RegistryState>,
    lists: Mutex<HashMap<Target, Shown>>,
    documents: Mutex<HashMap<(String, String), String>>,
    standing: Mutex<Vec<(Target, Instance)>>,
    is_operators_own: bool,
}

impl Scripted {
    pub(super) fn up() -> Arc<Self> {
        Self::new(false)
    }

    /// As a file is.
    pub(super) fn of_the_operator() -> Arc<Self> {
        Self::new(true)
    }

    fn new(is_operators_own: bool) -> Arc<Self> {
        Arc::new(Self {
            state: watch::Sender::new(RegistryState::Up { since: Instant::now() }),
            lists: Mutex::default(),
            documents: Mutex::default(),
            standing: Mutex::default(),
            is_operators_own,
        })
    }

    pub(super) fn down() -> Arc<Self> {
        let registry = Self::up();
        registry.go_down();
        registry
    }

    pub(super) fn go_down(&self) {
        self.state.send_replace(RegistryState::Down {
            since: Instant::now(),
            cause: "scripted".into(),
        });
    }

    pub(super) fn come_up(&self) {
        self.state.send_replace(RegistryState::Up { since: Instant::now() });
    }

    pub(super) fn says(&self, target: &Target, instances: Vec<Arc<Instance>>) {
        let snapshot = Snapshot {
            target: target.clone(),
            instances,
            malformed: Vec::new(),
            foreign: Vec::new(),
            source: Source::Registry,
        };
        lock(&self.lists)
            .entry(target.clone())
            .or_default()
            .send_replace(Some(Arc::new(snapshot)));
    }

    pub(super) fn has_document(&self, application: &str, revision: &str, json: &str) {
        lock(&self.documents).insert((application.into(), revision.into()), json.into());
    }

    /// What is published here.
    pub(super) fn standing(&self) -> Vec<(Target, Instance)> {
        lock(&self.standing).clone()
    }

    /// How many follow a target here.
    pub(super) fn followers(&self, target: &Target) -> usize {
        lock(&self.lists).get(target).map_or(0, Shown::receiver_count)
    }
}

impl Registry for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn is_operators_own(&self) -> bool {
        self.is_operators_own
    }

    fn state(&self) -> watch::Receiver<RegistryState> {
        self.state.subscribe()
    }

    fn follow(&self, target: Target) -> watch::Receiver<Option<Arc<Snapshot>>> {
        lock(&self.lists).entry(target).or_default().subscribe()
    }

    fn publish<'a>(&'a self, target: &'a Target, instance: &'a Instance) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(async move {
            // What stands already is the same entry, whoever publishes it again.
            let mut standing = lock(&self.standing);
            if !standing.iter().any(|(t, i)| (t, i) == (target, instance)) {
                standing.push((target.clone(), instance.clone()));
            }
            Ok(())
        })
    }

    fn withdraw<'a>(&'a self, target: &'a Target, instance: &'a Instance) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(async move {
            lock(&self.standing).retain(|(t, i)| (t, i) != (target, instance));
            Ok(())
        })
    }

    fn metadata<'a>(
        &'a self,
        application: &'a str,
        revision: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, RegistryError>> {
        let found = lock(&self.documents)
            .get(&(application.to_owned(), revision.to_owned()))
            .cloned();
        Box::pin(async { Ok(found) })
    }
}
