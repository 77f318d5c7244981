// SPDX-License-Identifier: Apache-2.0
//! What becomes of a request: relayed, rewritten, or answered here.

use bytes::Bytes;
use remora_registry::Client;

use super::door::Door;
use super::kept::application_of;
use super::line::Place;
use super::list::Entry;
use super::paths::Shape;
use super::sent::{Done, Then};
use super::stand_in::Home;
use crate::chroot::set_path;
use crate::places;
use crate::wire::request::Create;
use crate::wire::{Acl, ErrorCode, Reply, Request, RequestHeader, Seq, Stat, Text};

impl Door {
    pub(super) fn on_request(&mut self, head: RequestHeader, request: Request, frame: Bytes) {
        if self.home == Home::StandIn {
            if !self.stands_in_for(&request) {
                return self.refuse(head, ErrorCode::CONNECTION_LOSS);
            }
            self.furnish(&request);
        }
        self.state.has_identity |= matches!(request, Request::Auth(_) | Request::Sasl { .. });
        match request {
            Request::Ping => self.ping(head),
            Request::CloseSession => self.relay(head, request, &frame, Then::Close),
            // Its answer lists the real servers.
            Request::Reconfig(_) => self.refuse(head, ErrorCode::RECONFIG_DISABLED),
            Request::SetWatches(set) => self.set_watches(head, set, false),
            Request::SetWatches2(set) => self.set_watches(head, set, true),
            Request::Multi(ops) => self.multi(head, &ops, &frame),
            Request::MultiRead(ops) => self.multi_read(head, ops, &frame),
            other => self.by_path(head, other, &frame),
        }
    }

    fn by_path(&mut self, head: RequestHeader, request: Request, frame: &Bytes) {
        let Some(path) = request.path().map(|path| path.to_string()) else {
            return self.relay(head, request, frame, Then::Relay);
        };
        let shared = std::sync::Arc::clone(&self.shared);
        match shared.roots.shape(&path) {
            Shape::Frozen => self.frozen(head, &request, &path),
            Shape::Dir => self.dir_request(head, request, frame, &path),
            Shape::Child { dir, name } => self.child_request(head, request, frame, &path, dir, name),
            Shape::RuleDir if !self.state.is_raw => self.rule_dir_request(head, request, frame, path),
            Shape::Rule if !self.state.is_raw => self.rule_request(head, request, frame, path),
            Shape::Metadata { application, revision } => {
                self.metadata_request(head, request, frame, application, revision);
            }
            Shape::Consumer { service, name } => {
                self.consumer_request(&request, &path, service, name);
                self.relay(head, request, frame, Then::Relay);
            }
            Shape::RuleDir | Shape::Rule | Shape::Other => {
                if matches!(request, Request::GetChildren { .. } | Request::GetChildren2 { .. })
                    && shared.is_namespace(&path)
                {
                    self.show_raw();
                }
                self.relay(head, request, frame, Then::Relay);
            }
        }
    }

    /// An operator's tool: it lists the root of all services, which no application does.
    fn show_raw(&mut self) {
        if !self.state.is_raw {
            self.state.is_raw = true;
            self.fire_everything();
            self.state.views.clear();
            self.state.hidden_rules.clear();
        }
    }

    /// A request on an entry of a list.
    fn child_request(
        &mut self,
        head: RequestHeader,
        request: Request,
        frame: &Bytes,
        path: &str,
        dir: &str,
        name: &str,
    ) {
        let request = match request {
            Request::Create(create) => return self.create_child(head, create, frame, path, dir, name),
            Request::SetData(set) => return self.set_child_data(head, set, frame, path),
            other => other,
        };
        self.find_learned(path, dir, name);
        if let Some(own) = self.state.names.own(path) {
            let (registry_path, has_data) = (own.registry_path.clone(), own.data.is_some());
            let then = match &request {
                Request::Delete { .. } => Then::Delete {
                    app_path: path.to_owned(),
                },
                Request::GetData { .. } if has_data => Then::OwnData {
                    app_path: path.to_owned(),
                },
                _ => Then::Relay,
            };
            let mut request = request;
            set_path(&mut request, Text::from(registry_path.as_str()));
            let place = self.place();
            let ends_ours = matches!(request, Request::RemoveWatches { .. });
            self.send(head, request, place, then);
            if ends_ours {
                self.guard_node(&registry_path);
            }
            return;
        }
        if self.state.is_resumed && !self.state.is_raw && is_read(&request) {
            // It may have been shown by the Remora before this one.
            if self.hold(head, &request, frame, &[dir.to_owned()]) {
                return;
            }
        }
        if self.answer_made(head, &request, dir, name) {
            return;
        }
        let then = match &request {
            Request::Delete { version, .. } => Then::DeleteUnknown {
                app_path: path.to_owned(),
                version: *version,
            },
            Request::Exists { watch: true, .. } => Then::AbsentWatch {
                app_path: path.to_owned(),
            },
            _ => Then::Relay,
        };
        self.relay(head, request, frame, then);
    }

    /// Answers reads of an entry that exists here only.
    fn answer_made(&mut self, head: RequestHeader, request: &Request, dir: &str, name: &str) -> bool {
        let Some(view) = self.state.views.get_mut(dir) else {
            return false;
        };
        let Some(Entry::Made(made)) = view.shown.entry(name) else {
            return false;
        };
        let stat = made.stat();
        let reply = match request {
            Request::Exists { watch, .. } => {
                view.watch_entry(name, *watch);
                Reply::Stat(stat)
            }
            Request::GetData { watch, .. } => {
                let data = Some(made.data.clone());
                view.watch_entry(name, *watch);
                Reply::Data { data, stat }
            }
            Request::GetAcl { .. } => Reply::Acl {
                acl: Seq::from_iter([Acl::open()]),
                stat,
            },
            Request::GetChildren { .. } => Reply::Children(Seq::empty()),
            Request::GetChildren2 { .. } => Reply::Children2 {
                children: Seq::empty(),
                stat,
            },
            Request::GetAllChildrenNumber { .. } => Reply::Number(0),
            Request::Sync { path } => Reply::Path { path: path.clone() },
            Request::AddWatch { .. } => {
                view.watch_entry_for_good(name);
                Reply::Number(0)
            }
            Request::CheckWatches { .. } => {
                let is_watched = view.is_entry_watched(name);
                return self.answer_watcher(head, is_watched);
            }
            Request::RemoveWatches { .. } => {
                let was_watched = view.forget_entry(name);
                return self.answer_watcher(head, was_watched);
            }
            _ => return false,
        };
        self.answer(head, &reply);
        true
    }

    pub(super) fn answer_watcher(&mut self, head: RequestHeader, is_watched: bool) -> bool {
        if is_watched {
            self.answer(head, &Reply::Empty);
        } else {
            self.refuse(head, ErrorCode::NO_WATCHER);
        }
        true
    }

    /// A consumer registers: its URL tells its name, its client library, and which service of an interface it wants.
    fn consumer_request(&mut self, request: &Request, path: &str, service: &str, name: &str) {
        match request {
            Request::Create(Create { .. }) => self.consumer_came(path, service, name),
            Request::Delete { .. } => self.consumer_went(path),
            _ => {}
        }
    }

    pub(super) fn consumer_came(&mut self, path: &str, service: &str, name: &str) {
        let Some(target) = self.shared.roots.target(&format!("{service}/providers")) else {
            return;
        };
        let Ok(consumer) = places::parse_child(&target, name) else {
            return;
        };
        self.state.meet(application_of(&target, &consumer), &consumer.params);
        self.notice_release(consumer.params.get("release"));
        self.follow_service_of(path, &target, &consumer);
    }

    /// dubbo-go announces itself; what it was shown before is shown again in the form that it can dial.
    pub(super) fn notice_release(&mut self, release: Option<&str>) {
        if self.state.client == Client::Java && release.is_some_and(|r| r.starts_with("dubbo-golang")) {
            self.state.client = Client::Plain;
            self.refresh_all();
        }
    }

    /// `<namespace>/metadata/<application>/<revision>`: what an application tells about its services.
    fn metadata_request(
        &mut self,
        head: RequestHeader,
        request: Request,
        frame: &Bytes,
        application: &str,
        revision: &str,
    ) {
        match request {
            Request::Create(create) => self.write_metadata(head, Request::Create(create), frame, application),
            Request::SetData(set) => self.write_metadata(head, Request::SetData(set), frame, application),
            Request::Exists { .. } | Request::GetData { .. } if !self.state.is_raw => {
                let place = self.place();
                let discovery = self.discovery();
                let (application, revision) = (application.to_owned(), revision.to_owned());
                let request = Box::new(request);
                self.jobs.spawn(async move {
                    let answer = discovery.inward_metadata(&application, &revision).await;
                    Done::Metadata {
                        place,
                        head,
                        request,
                        answer,
                    }
                });
            }
            other => self.relay(head, other, frame, Then::Relay),
        }
    }

    /// Discovery knows what a revision offers, or leaves it to the registry.
    pub(super) fn metadata_answered(
        &mut self,
        place: Place,
        head: RequestHeader,
        request: Request,
        answer: Option<String>,
    ) {
        let Some(document) = answer else {
            return self.relay_at(head, request, place);
        };
        let data = Bytes::from(document);
        let zxid = self.state.high;
        let stat = Stat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            data_length: i32::try_from(data.len()).unwrap_or(i32::MAX),
            ..Stat::default()
        };
        let reply = match request {
            Request::Exists { .. } => Reply::Stat(stat),
            _ => Reply::Data { data: Some(data), stat },
        };
        self.answer_at(place, head, &reply);
    }
}

fn is_read(request: &Request) -> bool {
    matches!(
        request,
        Request::Exists { .. }
            | Request::GetData { .. }
            | Request::GetAcl { .. }
            | Request::GetChildren { .. }
            | Request::GetChildren2 { .. }
            | Request::GetAllChildrenNumber { .. }
            | Request::Sync { .. }
            | Request::AddWatch { .. }
    )
}
