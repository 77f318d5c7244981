// SPDX-License-Identifier: Apache-2.0
//! What applications publish: nodes rewritten outward on their way to the registry, and known under their own form here.

use std::sync::Arc;

use bytes::Bytes;
use remora_naming::{NamingError, application, dubbo_url, metadata};
use remora_registry::{Instance, PublishError, ServiceKey, Target};
use tracing::{debug, info, warn};

use super::door::Door;
use super::kept::application_of;
use super::line::Place;
use super::names::{Node, Own};
use super::paths::Shape;
use super::sent::Then;
use crate::places;
use crate::wire::request::{Create, SetData};
use crate::wire::{CreateMode, ErrorCode, EventKind, Reply, Request, RequestHeader, Text};

/// Why a node is passed on as the application wrote it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unchanged {
    #[error("it is none of discovery's")]
    Foreign,
    #[error(transparent)]
    Naming(#[from] NamingError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Unchanged {
    fn reason(&self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Naming(e) => e.reason(),
            Self::Publish(e) => e.reason(),
        }
    }
}

impl Door {
    pub(super) fn create_child(
        &mut self,
        head: RequestHeader,
        create: Create,
        frame: &Bytes,
        path: &str,
        dir: &str,
        name: &str,
    ) {
        match self.outward_create(&create, path, dir, name) {
            Ok(_) if self.is_leaving() && self.is_taken(path) => self.keep_out(head, &create),
            Ok(create) => {
                let place = self.place();
                let then = Then::Create {
                    app_path: path.to_owned(),
                    create: Box::new(create.clone()),
                };
                self.send(head, Request::Create(create), place, then);
            }
            Err(cause) => {
                log_unchanged(&cause, path);
                self.relay(head, Request::Create(create), frame, Then::Relay);
            }
        }
    }

    fn is_taken(&self, app_path: &str) -> bool {
        self.state.names.own(app_path).is_some_and(|own| own.is_taken)
    }

    /// The create to send in a create's place.
    pub(super) fn outward_create(
        &mut self,
        create: &Create,
        path: &str,
        dir: &str,
        name: &str,
    ) -> Result<Create, Unchanged> {
        let fits = CreateMode::from_wire(create.flags).is_some_and(|mode| !mode.is_sequential());
        if !fits {
            return Err(Unchanged::Foreign);
        }
        let data = create.data.clone().unwrap_or_default();
        let create = self.publish_child(path, dir, name, &data).map(|own| Create {
            path: Text::from(own.registry_path),
            data: match own.data {
                Some((_, data)) => Some(data),
                None => create.data.clone(),
            },
            ..create.clone()
        })?;
        if let Some(own) = self.state.names.own_mut(path) {
            own.node = Some(Node::of(&create));
        }
        Ok(create)
    }

    /// Publishes an entry with discovery and remembers both of its forms.
    fn publish_child(&mut self, path: &str, dir: &str, name: &str, data: &Bytes) -> Result<Own, Unchanged> {
        let own = self.own_form(dir, name, data)?;
        self.state
            .meet(application_of(&own.target, &own.instance), &own.instance.params);
        if !self.remember(path, own.clone()) {
            return Err(Unchanged::Foreign);
        }
        if let Target::Service { namespace, .. } = &own.target {
            self.shared.saw_namespace(namespace);
        }
        Ok(own)
    }

    pub(super) fn own_form(&mut self, dir: &str, name: &str, data: &Bytes) -> Result<Own, Unchanged> {
        let target = self.shared.roots.target(dir).ok_or(Unchanged::Foreign)?;
        let decided = *self.policy.borrow();
        let mut also = Vec::new();
        let mut is_taken = true;
        let (instance, registry_name, registry_data) = match &target {
            Target::Service { .. } => {
                if !dubbo_url::is_provider_child(name) {
                    return Err(Unchanged::Foreign);
                }
                let instance = places::parse_child(&target, name)?;
                self.notice_release(instance.params.get("release"));
                let registry_name = match self.publish(&target, &instance) {
                    Ok(outward) => dubbo_url::with_outward(name, &outward)?,
                    Err(PublishError::NotTaken { .. }) => {
                        is_taken = false;
                        name.to_owned()
                    }
                    Err(error) => return Err(error.into()),
                };
                (instance, registry_name, None)
            }
            Target::Application { .. } => {
                let instance = application::parse(name, data)?.ok_or(Unchanged::Foreign)?;
                let outward = match self.publish(&target, &instance) {
                    Ok(outward) => outward,
                    Err(PublishError::NotTaken { .. }) => {
                        let data = Bytes::copy_from_slice(data);
                        return Ok(Own {
                            registry_path: format!("{dir}/{name}"),
                            target,
                            instance,
                            also,
                            data: Some((data.clone(), data)),
                            node: None,
                            is_live: false,
                            is_taken: false,
                            decided,
                        });
                    }
                    Err(error) => return Err(error.into()),
                };
                let mut ports = Vec::new();
                for endpoint in application::endpoints(&instance) {
                    if endpoint.port == instance.port {
                        continue;
                    }
                    let other = Instance {
                        protocol: endpoint.protocol.into(),
                        port: endpoint.port,
                        ..instance.clone()
                    };
                    // One that no plugin speaks is called where it stands.
                    if let Ok(outward) = self.publish(&target, &other) {
                        ports.push((other.port, outward.port));
                        also.push(other);
                    }
                }
                let (registry_name, json) = application::with_outwards(name, data, &outward, &ports)?;
                (instance, registry_name, Some(Bytes::from(json)))
            }
        };
        Ok(Own {
            registry_path: format!("{dir}/{registry_name}"),
            target,
            instance,
            also,
            // Copied: the frame's buffer would stay for as long as the node does.
            data: registry_data.map(|ours| (Bytes::copy_from_slice(data), ours)),
            node: None,
            is_live: false,
            is_taken,
            decided,
        })
    }

    /// The reply to a create that was rewritten.
    pub(super) fn created(&mut self, app_path: &str, err: ErrorCode) {
        match err {
            // It is not there yet, and will be tried again once its parents are; or it is there.
            ErrorCode::NO_NODE => {}
            ErrorCode::OK | ErrorCode::NODE_EXISTS => {
                let own = self.state.names.own_mut(app_path).map(|own| {
                    own.is_live = true;
                    own.registry_path.clone()
                });
                if let Some(path) = own {
                    self.guard_node(&path);
                    self.decide_again_if_late(app_path);
                }
                if err.is_ok() {
                    info!(registry = "zookeeper", path = app_path, "published");
                    if self.state.absent_watches.remove(app_path) {
                        self.fire(EventKind::NodeCreated, app_path);
                    }
                }
            }
            _ => self.withdraw(app_path),
        }
    }

    /// The reply to a delete that was rewritten.
    pub(super) fn deleted(&mut self, app_path: &str, err: ErrorCode) {
        if matches!(err, ErrorCode::OK | ErrorCode::NO_NODE) {
            info!(registry = "zookeeper", path = app_path, "withdrawn");
            if let Some(own) = self.gone(app_path) {
                self.leave(&own);
            }
        }
    }

    fn withdraw(&mut self, app_path: &str) {
        if let Some(own) = self.gone(app_path) {
            self.take_back(&own);
        }
    }

    fn gone(&mut self, app_path: &str) -> Option<Own> {
        let own = self.state.names.own_mut(app_path)?;
        own.is_live = false;
        Some(own.clone())
    }

    /// A delete of a name that this session did not publish found nothing: an earlier session of the application may have
    /// published it for good (`dynamic=false`), and then it stands under its outward name. `false` if it cannot be that.
    pub(super) fn delete_outward(&mut self, app_xid: i32, place: Option<Place>, path: &str, version: i32) -> bool {
        let roots = self.shared.roots.clone();
        let Shape::Child { dir, name } = roots.shape(path) else {
            return false;
        };
        if self.state.is_raw || !matches!(roots.target(dir), Some(Target::Service { .. })) {
            return false;
        }
        // It is not known whether there is such a node at all, so nothing is published for it.
        let outward = || {
            let target = roots.target(dir)?;
            let is_provider = dubbo_url::is_provider_child(name);
            let instance = places::parse_child(&target, name).ok().filter(|_| is_provider)?;
            let outward = self.discovery().known_outward(&instance)?;
            dubbo_url::with_outward(name, &outward).ok()
        };
        let Some(registry_name) = outward() else {
            return false;
        };
        let request = Request::Delete {
            path: Text::from(format!("{dir}/{registry_name}")),
            version,
        };
        let then = Then::Delete {
            app_path: path.to_owned(),
        };
        self.send_own(request, app_xid, place, then);
        true
    }

    /// `setData` on an entry: an application-level instance changes its document, other data is nobody's business.
    pub(super) fn set_child_data(&mut self, head: RequestHeader, set: SetData, frame: &Bytes, path: &str) {
        match self.outward_set(&set, path) {
            Some(set) => {
                let place = self.place();
                self.send(head, Request::SetData(set), place, Then::Relay);
            }
            None => self.relay(head, Request::SetData(set), frame, Then::Relay),
        }
    }

    /// The `setData` to send in place of one on a published node; `None` if it is not one.
    pub(super) fn outward_set(&mut self, set: &SetData, path: &str) -> Option<SetData> {
        let Shape::Child { dir, name } = self.shared.roots.shape(path) else {
            return None;
        };
        let (dir, name) = (dir.to_owned(), name.to_owned());
        self.find_learned(path, &dir, &name);
        if let Some(own) = self.state.names.own_mut(path)
            && own.data.is_none()
            && let Some(node) = &mut own.node
        {
            node.data = set.data.as_deref().map(Bytes::copy_from_slice);
        }
        let own = self.state.names.own(path)?.clone();
        let mut set = set.clone();
        set.path = Text::from(own.registry_path.as_str());
        if own.data.is_some() {
            let data = set.data.clone().unwrap_or_default();
            match self.own_form(&dir, &name, &data) {
                Ok(mut new) if new.registry_path == own.registry_path => {
                    new.is_live = own.is_live;
                    new.node = own.node.map(|node| Node {
                        data: new.data.as_ref().map(|(_, ours)| ours.clone()),
                        ..node
                    });
                    set.data = new.data.as_ref().map(|(_, ours)| ours.clone());
                    self.state.names.insert(path, new);
                }
                Ok(new) => {
                    let (was, now) = (&own.registry_path, &new.registry_path);
                    warn!(
                        registry = "zookeeper",
                        was, now, "a published instance changed its address in place"
                    );
                }
                Err(cause) => log_unchanged(&cause, path),
            }
        }
        Some(set)
    }

    /// A metadata document that an application writes: its services' ports become ingress ports.
    pub(super) fn write_metadata(&mut self, head: RequestHeader, request: Request, frame: &Bytes, application: &str) {
        let data = match &request {
            Request::Create(create) => create.data.clone(),
            Request::SetData(set) => set.data.clone(),
            _ => None,
        };
        let path = request.path().map(|path| path.to_string()).unwrap_or_default();
        let document = data.as_ref().and_then(|data| self.outward_metadata(data, application));
        self.remember_document(path, application, data, document.as_deref());
        let Some(document) = document else {
            return self.relay(head, request, frame, Then::Relay);
        };
        let document = Some(Bytes::from(document));
        let request = match request {
            Request::Create(create) => Request::Create(Create {
                data: document,
                ..create
            }),
            Request::SetData(set) => Request::SetData(SetData { data: document, ..set }),
            other => other,
        };
        let place = self.place();
        let then = self.noting(&request, Then::Relay);
        self.send(head, request, place, then);
    }

    pub(super) fn outward_metadata(&mut self, data: &[u8], application: &str) -> Option<Vec<u8>> {
        let services = metadata::services(data).ok()?;
        let target = Target::Application {
            namespace: self.shared.application_root(),
            name: application.into(),
        };
        let mut done: Vec<u16> = Vec::new();
        let mut document = None;
        for service in services {
            let Some(port) = service.port.filter(|port| !done.contains(port)) else {
                continue;
            };
            done.push(port);
            let instance = Instance {
                id: "".into(),
                key: Some(ServiceKey::clone(&service.key)),
                protocol: service.protocol.as_str().into(),
                host: self.own_host().unwrap_or_else(|| "127.0.0.1".into()),
                port,
                path: service.path.as_str().into(),
                params: service.params.clone(),
                raw: "".into(),
            };
            match self.publish(&target, &instance) {
                Ok(outward) => {
                    let before = document.as_deref().unwrap_or(data);
                    document = Some(metadata::with_outward(before, &outward).ok()?);
                }
                Err(e) => debug!(
                    registry = "zookeeper",
                    reason = e.reason(),
                    port,
                    "metadata port left as it is"
                ),
            }
        }
        document
    }

    /// The host that the application published so far; a metadata document names none.
    fn own_host(&self) -> Option<Arc<str>> {
        self.state.names.any_host()
    }

    /// Replies to reads of an own node with data: the application reads what it wrote.
    pub(super) fn own_data(&self, app_path: &str, reply: Reply) -> Reply {
        let Reply::Data { data, mut stat } = reply else {
            return reply;
        };
        let own = self.state.names.own(app_path).and_then(|own| own.data.as_ref());
        match (own, &data) {
            (Some((theirs, ours)), Some(there)) if ours == there => {
                stat.data_length = i32::try_from(theirs.len()).unwrap_or(i32::MAX);
                let data = Some(theirs.clone());
                Reply::Data { data, stat }
            }
            _ => Reply::Data { data, stat },
        }
    }
}

pub(super) fn log_unchanged(cause: &Unchanged, path: &str) {
    match cause {
        Unchanged::Foreign => {}
        Unchanged::Publish(PublishError::NotTaken { why }) => {
            debug!(registry = "zookeeper", path, reason = why.label(), "published as it is");
        }
        cause => warn!(
            registry = "zookeeper",
            path,
            reason = cause.reason(),
            "published unchanged: {cause}"
        ),
    }
}
