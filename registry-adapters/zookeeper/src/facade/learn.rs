// SPDX-License-Identifier: Apache-2.0
//! A session that comes back to a Remora that knows nothing of it: what it had published is asked of the registry.
//!
//! The registry's names carry the application's own port, so the ingress can be found again; the application's own form of
//! a name is recognised when it uses it. Servers before 3.6 cannot list a session's ephemerals; names are then found when
//! they are deleted or created again.

use std::time::Duration;

use bytes::Bytes;
use remora_naming::{application, dubbo_url, metadata};
use remora_registry::{Instance, Outward, PublishError, Target};
use tokio::time::Instant;
use tracing::{info, warn};

use super::door::Door;
use super::kept::application_of;
use super::names::Own;
use super::paths::Shape;
use super::sent::Then;
use super::steps::Due;
use crate::places;
use crate::wire::request::Create;
use crate::wire::{Acl, CreateMode, Op, OpCode, OpResult, Ops, Reply, Request, Seq, Text};

/// A node that stands at an address that is no longer ours, on its way to the new one.
#[derive(Debug)]
pub(super) struct Move {
    from: String,
    own: Own,
    data: Option<Bytes>,
}

/// How far it is known what a session published before Remora restarted.
#[derive(Debug)]
pub(super) enum Learning {
    /// To be asked for when the application has said who it is, at the latest `at`.
    Due {
        at: Instant,
    },
    /// Asked for; the application waits, with the request it sent meanwhile.
    Asked {
        questions: usize,
        until: Instant,
        held: Option<Bytes>,
    },
    Done,
}

impl Learning {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Due { at } => Some(*at),
            Self::Asked { until, .. } => Some(*until),
            Self::Done => None,
        }
    }
}

/// What an application sends before it asks for anything. Its nodes may be readable to it only afterwards.
pub(super) fn is_about_the_connection(op: Option<OpCode>) -> bool {
    matches!(op, Some(OpCode::Auth | OpCode::Sasl | OpCode::Ping))
}

impl Door {
    /// Asks as soon as the application has said who it is.
    pub(super) fn learn_soon(&mut self) {
        self.learning = Learning::Due {
            at: Instant::now() + LEARN_AFTER,
        };
    }

    /// Asks the registry what the session published; `held` is what the application wants meanwhile.
    pub(super) fn learn(&mut self, held: Option<Bytes>) {
        self.learning = Learning::Asked {
            questions: 0,
            until: Instant::now() + LEARN_TIMEOUT,
            held,
        };
        let prefix = Text::from("/");
        self.ask(Request::GetEphemerals { prefix }, Then::Learn);
    }

    /// The time to ask, or to stop waiting for the answers, may have come.
    pub(super) fn learn_in_time(&mut self) {
        let now = Instant::now();
        match &self.learning {
            Learning::Due { at } if *at <= now => self.learn(None),
            Learning::Asked { until, .. } if *until <= now => {
                warn!(
                    registry = "zookeeper",
                    "what a resumed session published is not known in time"
                );
                self.learning_over();
            }
            _ => {}
        }
    }

    fn ask(&mut self, request: Request, then: Then) {
        if let Learning::Asked { questions, .. } = &mut self.learning {
            *questions += 1;
        }
        self.send_own(request, 0, None, then);
    }

    fn answered(&mut self) {
        if let Learning::Asked { questions, .. } = &mut self.learning {
            *questions = questions.saturating_sub(1);
            if *questions == 0 {
                self.learning_over();
            }
        }
    }

    fn learning_over(&mut self) {
        self.state.is_to_be_learned = false;
        if let Learning::Asked { held: Some(frame), .. } = std::mem::replace(&mut self.learning, Learning::Done) {
            // Its head was read before it was held.
            let _ = self.on_app_frame(frame);
        }
    }

    /// The session's ephemerals.
    pub(super) fn learned(&mut self, reply: Option<Reply>) {
        if let Some(Reply::Children(paths)) = reply {
            for path in paths.iter() {
                let path = self.shared.chroot.seen(&path).to_owned();
                let roots = self.shared.roots.clone();
                let (dir, name) = match roots.shape(&path) {
                    Shape::Child { dir, name } => (dir, name),
                    Shape::Consumer { service, name } => {
                        self.consumer_came(&path, service, name);
                        continue;
                    }
                    _ => continue,
                };
                match roots.target(dir) {
                    Some(target @ Target::Service { .. }) => {
                        if let Ok(instance) = places::parse_child(&target, name) {
                            self.learned_one(path.clone(), target, instance, None);
                        }
                    }
                    Some(Target::Application { .. }) => {
                        let request = Request::GetData {
                            path: Text::from(path.as_str()),
                            watch: false,
                        };
                        self.ask(request, Then::LearnData { path: path.clone() });
                    }
                    None => {}
                }
            }
        }
        self.answered();
    }

    /// The document of one of the session's instances.
    pub(super) fn learned_data(&mut self, path: String, reply: Option<Reply>) {
        let roots = self.shared.roots.clone();
        if let Some(Reply::Data { data: Some(data), .. }) = reply
            && let Shape::Child { dir, name } = roots.shape(&path)
            && let (Some(target), Ok(Some(instance))) = (roots.target(dir), application::parse(name, &data))
        {
            self.learn_document(&target, &instance);
            self.learned_one(path.clone(), target, instance, Some(data));
        }
        self.answered();
    }

    /// Asks for the metadata that an instance with a marker has in the registry: its ports are our ingress ports.
    fn learn_document(&mut self, target: &Target, instance: &Instance) {
        let is_remote = instance.params.get("dubbo.metadata.storage-type") == Some("remote");
        if let (true, Some(revision), Some(_)) = (is_remote, instance.revision(), instance.app_port()) {
            let application = target.name().to_string();
            let path = format!("{METADATA_ROOT}/{application}/{revision}");
            let request = Request::GetData {
                path: Text::from(path.as_str()),
                watch: false,
            };
            self.ask(request, Then::LearnDocument { path, application });
        }
    }

    /// The metadata of one of the session's instances.
    pub(super) fn learned_document(&mut self, path: String, application: &str, reply: Option<Reply>) {
        if let Some(Reply::Data { data: Some(ours), .. }) = reply {
            let discovery = self.discovery();
            if let Ok(theirs) = metadata::restored(&ours, &|port| discovery.behind(port)) {
                self.remember_document(path, application, Some(Bytes::from(theirs)), Some(&ours));
                self.documents_again();
            }
        }
        self.answered();
    }

    /// Publishes a marked node again with discovery, so that its ingress is known, and remembers it until the application
    /// uses its own form of the name.
    fn learned_one(&mut self, path: String, target: Target, instance: Instance, data: Option<Bytes>) {
        let Some(app_port) = instance.app_port() else {
            return self.learned_plain(path, target, instance, data);
        };
        let decided = *self.policy.borrow();
        let mut app_form = instance.clone();
        app_form.port = app_port;
        app_form.params.remove(Instance::MARKER);
        self.state.meet(application_of(&target, &app_form), &app_form.params);
        self.notice_release(app_form.params.get("release"));
        let outward = self.publish(&target, &app_form);
        let data = data.map(|data| Bytes::copy_from_slice(&data));
        let own = Own {
            registry_path: path.clone(),
            target,
            instance: app_form,
            also: Vec::new(),
            data: data.map(|data| (data.clone(), data)),
            node: None,
            is_live: true,
            is_taken: true,
            decided,
        };
        match outward {
            Err(PublishError::NotTaken { .. }) => {
                self.leads_here(&own, true);
                self.learned_node(own);
                self.decide_soon(Due::Learned(path));
            }
            Ok(outward) if outward.port != instance.port => self.move_node(own, &instance, &outward),
            Ok(_) => self.learned_node(own),
            Err(e) => {
                warn!(
                    registry = "zookeeper",
                    path,
                    reason = e.reason(),
                    "a resumed publication was not taken over"
                );
                self.learned_node(own);
            }
        }
    }

    fn learned_node(&mut self, own: Own) {
        let path = own.registry_path.clone();
        self.state.names.learn(own);
        self.guard_node(&path);
    }

    // ---- a node whose ingress is another one now ----

    /// Brings a node to the ingress that its application has now, on the application's own session.
    fn move_node(&mut self, mut own: Own, instance: &Instance, outward: &Outward) {
        let from = own.registry_path.clone();
        let Some((dir, name)) = from.rsplit_once('/') else {
            return;
        };
        let moved = match &own.data {
            None => dubbo_url::moved(name, &outward.host, outward.port).map(|name| (name, None)),
            Some((json, _)) => application::moved(name, json, &outward.host, outward.port)
                .map(|(name, json)| (name, Some(Bytes::from(json)))),
        };
        let Ok((name, data)) = moved else {
            return self.learned_node(own);
        };
        info!(
            registry = "zookeeper",
            path = from,
            was = instance.port,
            ingress = outward.port,
            "a resumed application is moved to its new ingress"
        );
        own.registry_path = format!("{dir}/{name}");
        own.data = data.clone().map(|data| (data.clone(), data));
        let path = Text::from(from.as_str());
        let is_known = data.is_some();
        let step = Then::Move(Box::new(Move { from, own, data }));
        match is_known {
            true => self.ask(Request::GetAcl { path }, step),
            false => self.ask(Request::GetData { path, watch: false }, step),
        }
    }

    /// One step of a move is done: its data is read, its ACL is read, it stands at the new place.
    pub(super) fn moving(&mut self, mut step: Box<Move>, reply: Option<Reply>) {
        let path = Text::from(step.from.as_str());
        match reply {
            Some(Reply::Data { data, .. }) => {
                step.data = data;
                self.ask(Request::GetAcl { path }, Then::Move(step));
            }
            // The identity of others is shown as `x`; the node would be lost to them.
            Some(Reply::Acl { acl, .. }) if !acl.iter().any(|entry| entry.id.ends_with(":x")) => {
                let ops = [
                    Op::Delete { path, version: -1 },
                    Op::Create(ephemeral(&step.own.registry_path, step.data.clone(), acl)),
                ];
                self.ask(Request::Multi(Ops::from_iter(ops)), Then::Move(step));
            }
            Some(Reply::Results(results)) if !results.iter().any(|result| matches!(result, OpResult::Error(_))) => {
                self.learned_node(step.own);
            }
            _ => {
                warn!(
                    registry = "zookeeper",
                    path = step.from,
                    "a resumed application stays at a port that is not its ingress; restart it to register it anew"
                );
                let own = Own {
                    registry_path: step.from,
                    ..step.own
                };
                self.learned_node(own);
            }
        }
        self.answered();
    }

    // ---- the application's own form of a name ----

    /// Recognises the application's own form of a name that was published before Remora restarted.
    pub(super) fn find_learned(&mut self, path: &str, dir: &str, name: &str) {
        if self.state.names.own(path).is_some() {
            return;
        }
        let Some(target) = self.shared.roots.target(dir) else {
            return;
        };
        match &target {
            Target::Service { .. } => {
                let Ok(instance) = places::parse_child(&target, name) else {
                    return;
                };
                if !self.state.names.may_be_learned(&target, instance.port) {
                    return;
                }
                let Ok(own) = self.own_form(dir, name, &Bytes::new()) else {
                    return;
                };
                self.adopt(path, own);
            }
            Target::Application { .. } => {
                // The name is `host:port`. The document as the application wrote it is lost; it reads the registry's.
                let port = name.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
                if let Some(own) = port.and_then(|port| self.state.names.take_learned(&target, port)) {
                    self.state.names.insert(path, own);
                }
            }
        }
    }

    fn adopt(&mut self, path: &str, mut own: Own) {
        match self.state.names.learned(&own.registry_path) {
            Some(_) => {
                own.is_live = true;
                self.remember(path, own);
            }
            // Another node at the same port; to know its form it was published.
            None => self.take_back(&own),
        }
    }

    /// Remembers a name under which an application published. `false` when there is no room.
    pub(super) fn remember(&mut self, path: &str, own: Own) -> bool {
        let learned = self.state.names.learned(&own.registry_path).cloned();
        let id = std::sync::Arc::clone(&own.instance.id);
        if !self.state.names.insert(path, own) {
            return false;
        }
        // It was published as it stands in the registry; from now on as the application wrote it.
        if let Some(learned) = learned.filter(|learned| learned.instance.id != id) {
            self.take_back(&learned);
        }
        true
    }
}

fn ephemeral(path: &str, data: Option<Bytes>, acl: Seq<Acl>) -> Create {
    Create {
        op: OpCode::Create,
        path: Text::from(path),
        data,
        acl,
        flags: CreateMode::Ephemeral.number(),
        ttl_ms: 0,
    }
}

/// Where Dubbo keeps metadata documents, unless its `group` says otherwise.
const METADATA_ROOT: &str = "/dubbo/metadata";
/// An application that only pings is not asked for who it is; its ingress must be known all the same.
const LEARN_AFTER: Duration = Duration::from_millis(200);
/// Then the application is heard, known or not.
const LEARN_TIMEOUT: Duration = Duration::from_secs(5);
