// SPDX-License-Identifier: Apache-2.0
//! What stands in the registry is brought to what the takeover policy says now, on the application's own session: the node in
//! its new form comes and the one in its old form goes in one transaction, so that no list is ever without it.
//!
//! The application's own form of each node is known from its create; of one that it created before this Remora knew it, it is
//! made from what stands (`remora_naming::*::restored`). Names are changed when the transaction is sent: what the application
//! asks for next is behind it in the same session.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use remora_naming::{application, dubbo_url};
use remora_registry::{Discovery, InRegistry, Instance, Target};
use tokio::time::Instant;
use tracing::{info, warn};

use super::door::Door;
use super::list::Viewer;
use super::names::{Node, Own};
use super::overlap::is_side_by_side;
use super::paths::Shape;
use super::publish::{Unchanged, log_unchanged};
use super::sent::Then;
use super::stand_in::Home;
use crate::wire::request::{Create, SetData};
use crate::wire::{Acl, CreateMode, ErrorCode, EventKind, Op, OpCode, OpResult, Ops, Reply, Request, Seq, Text};

/// Something that is to be decided on again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A node, by the application's name of it.
    Own(String),
    /// One that was found, by its path in the registry.
    Learned(String),
}

/// What is to be brought to the policy on one connection.
#[derive(Debug, Default)]
pub(super) struct Steps {
    due: VecDeque<Due>,
    /// Those that did not work, and when to try again.
    again: VecDeque<(Instant, Due)>,
    /// Paths in the registry of nodes that are on their way: their end is no news to the application.
    leaving: BTreeSet<String>,
}

impl Steps {
    /// The end of a node is no news to the application.
    pub(super) fn leaves(&mut self, registry_path: &str) {
        self.leaving.insert(registry_path.to_owned());
    }

    pub(super) fn has_left(&mut self, registry_path: &str) {
        self.leaving.remove(registry_path);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.due.is_empty() {
            true => self.again.front().map(|(at, _)| *at),
            false => Some(Instant::now()),
        }
    }
}

/// One node on its way from one form to the other.
#[derive(Debug)]
pub(super) struct Step {
    app_path: String,
    was: Own,
    next: Own,
    /// What is written with it, once that is known.
    node: Option<Node>,
    /// The data of the node as it stands, while its access list is asked for.
    data: Option<Bytes>,
    /// How it is done.
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The old node goes, the new one comes.
    Swap,
    /// The new one comes; the old one goes a while later, see `overlap.rs`.
    Add,
    /// The old one is gone already.
    Make,
    /// Something stands in the new place already: it goes, too.
    Replace,
    /// Both forms have the same name: the data changes.
    Rewrite,
}

impl Door {
    /// Another policy is in force, or was while the application was away: everything that stands is decided on again.
    pub(super) fn policy_changed(&mut self) {
        let decided = *self.policy.borrow_and_update();
        if self.shared.config.keeps_publications {
            return;
        }
        let own = self.state.names.decided_before(decided).into_iter().map(Due::Own);
        let learned = self.state.names.learned_before(decided).into_iter().map(Due::Learned);
        let due: Vec<Due> = own.chain(learned).collect();
        self.steps.again.clear();
        self.steps.due = due.into();
        self.documents_again();
        self.rules_again();
        self.step_in_time();
    }

    pub(super) fn decide_soon(&mut self, due: Due) {
        self.steps.due.push_back(due);
    }

    /// A node was created, or brought somewhere, by what was decided before.
    pub(super) fn decide_again_if_late(&mut self, app_path: &str) {
        let decided = *self.policy.borrow();
        let own = self.state.names.own(app_path);
        if own.is_some_and(|own| own.is_live && own.decided != decided) && !self.shared.config.keeps_publications {
            self.decide_soon(Due::Own(app_path.to_owned()));
        }
    }

    /// Takes the steps that are due; the rest in the next turn.
    pub(super) fn step_in_time(&mut self) {
        let now = Instant::now();
        while self.steps.again.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, due)) = self.steps.again.pop_front() {
                self.steps.due.push_back(due);
            }
        }
        for _ in 0..STEPS_AT_ONCE {
            match self.steps.due.pop_front() {
                // What goes because Remora does needs no other form.
                Some(_) if self.is_leaving() => {}
                Some(Due::Own(path)) => self.decide_again(&path),
                Some(Due::Learned(path)) => self.decide_learned(&path),
                None => return,
            }
        }
    }

    fn decide_again(&mut self, app_path: &str) {
        let roots = self.shared.roots.clone();
        let (Some(was), Shape::Child { dir, name }) = (self.state.names.own(app_path).cloned(), roots.shape(app_path))
        else {
            return;
        };
        if !was.is_live || self.steps.leaving.contains(&was.registry_path) {
            return;
        }
        let theirs = was.data.as_ref().map(|(theirs, _)| theirs.clone());
        match self.own_form(dir, name, &theirs.unwrap_or_default()) {
            Ok(next) => self.bring(app_path, was, next),
            Err(cause) => log_unchanged(&cause, app_path),
        }
    }

    /// A node that was found when its session came back; its own form is made from what stands.
    fn decide_learned(&mut self, registry_path: &str) {
        let Some(was) = self.state.names.learned(registry_path).cloned() else {
            return;
        };
        let Some((dir, name)) = registry_path.rsplit_once('/') else {
            return;
        };
        let restored = self.application_form(&was, name);
        let (name, theirs) = match restored {
            Ok(restored) => restored,
            Err(cause) => return log_unchanged(&cause, registry_path),
        };
        let app_path = format!("{dir}/{name}");
        match self.own_form(dir, &name, &theirs.clone().unwrap_or_default()) {
            Ok(next) if next.is_taken => {
                self.take_back(&next);
                if let Some(own) = self.state.names.learned_mut(registry_path) {
                    own.decided = next.decided;
                }
            }
            Ok(next) => {
                let was = Own {
                    data: theirs.zip(was.data.as_ref().map(|(_, ours)| ours.clone())),
                    instance: next.instance.clone(),
                    ..was
                };
                if let Some(learned) = self.state.names.learned(registry_path).cloned() {
                    self.take_back(&learned);
                }
                self.leads_here(&next, true);
                self.state.names.forget_learned(registry_path);
                self.bring(&app_path, was, next);
            }
            Err(cause) => log_unchanged(&cause, registry_path),
        }
    }

    fn application_form(&self, was: &Own, name: &str) -> Result<(String, Option<Bytes>), Unchanged> {
        match &was.data {
            None => Ok((dubbo_url::restored(name)?, None)),
            Some((_, ours)) => {
                let discovery = self.discovery();
                let behind = |port: u16| discovery.behind(port).unwrap_or(port);
                let (name, json) = application::restored(name, ours, &behind)?;
                Ok((name, Some(Bytes::from(json))))
            }
        }
    }

    /// A node without a marker of a session that came back: it stands as the application wrote it.
    pub(super) fn learned_plain(&mut self, path: String, target: Target, instance: Instance, data: Option<Bytes>) {
        let roots = self.shared.roots.clone();
        let Shape::Child { dir, name } = roots.shape(&path) else {
            return;
        };
        if self.state.names.own(&path).is_some() || self.shared.config.keeps_publications {
            return;
        }
        let data = data.map(|data| Bytes::copy_from_slice(&data));
        let Ok(next) = self.own_form(dir, name, &data.clone().unwrap_or_default()) else {
            return;
        };
        let was = Own {
            registry_path: path.clone(),
            target,
            instance,
            also: Vec::new(),
            data: data.map(|data| (data.clone(), data)),
            node: None,
            is_live: true,
            is_taken: false,
            decided: next.decided,
        };
        if next.is_taken {
            self.leads_here(&next, false);
        }
        self.state.names.insert(&path, was.clone());
        self.bring(&path, was, next);
    }

    fn bring(&mut self, app_path: &str, was: Own, mut next: Own) {
        next.is_live = true;
        let ours = |own: &Own| own.data.as_ref().map(|(_, ours)| ours.clone());
        let is_same_place = was.registry_path == next.registry_path;
        if is_same_place && ours(&was) == ours(&next) {
            next.node = was.node;
            let is_taken = next.is_taken;
            self.leads_here(&next, is_taken);
            self.state.names.insert(app_path, next);
            return;
        }
        let mut step = Box::new(Step {
            app_path: app_path.to_owned(),
            node: was.node.clone(),
            data: None,
            way: match (is_same_place, is_side_by_side(&was, was.node.as_ref())) {
                (true, _) => Way::Rewrite,
                (false, true) => Way::Add,
                (false, false) => Way::Swap,
            },
            was,
            next,
        });
        match step.node.is_some() || step.way == Way::Rewrite {
            true => self.take_step(step),
            false => {
                let path = Text::from(step.was.registry_path.as_str());
                step.data = None;
                self.send_own(Request::GetData { path, watch: false }, 0, None, Then::Step(step));
            }
        }
    }

    fn take_step(&mut self, mut step: Box<Step>) {
        if step.way == Way::Add && !is_side_by_side(&step.was, step.node.as_ref()) {
            step.way = Way::Swap;
        }
        let from = Text::from(step.was.registry_path.as_str());
        let to = Text::from(step.next.registry_path.as_str());
        let ours = step.next.data.as_ref().map(|(_, ours)| ours.clone());
        if let Some(node) = &mut step.node
            && ours.is_some()
        {
            node.data.clone_from(&ours);
        }
        step.next.node.clone_from(&step.node);
        if step.way == Way::Add && self.stays(&step.next.registry_path) {
            // It was left a moment ago.
            self.state.names.insert(&step.app_path, step.next.clone());
            return self.stepped(*step);
        }
        let request = match (step.way, &step.node) {
            (Way::Rewrite, _) => Request::SetData(SetData {
                path: to,
                data: ours,
                version: ANY,
            }),
            (way, node) => {
                let mode = match node {
                    Some(node) if !node.is_ephemeral => CreateMode::Persistent,
                    _ => CreateMode::Ephemeral,
                };
                let create = Op::Create(Create {
                    op: OpCode::Create,
                    path: to.clone(),
                    data: node.as_ref().and_then(|node| node.data.clone()),
                    acl: node
                        .as_ref()
                        .map_or_else(|| Seq::from_iter([Acl::open()]), |node| node.acl.clone()),
                    flags: mode.number(),
                    ttl_ms: 0,
                });
                let delete = |path| Op::Delete { path, version: ANY };
                let ops: Vec<Op> = match way {
                    Way::Make | Way::Add => vec![create],
                    Way::Replace => vec![delete(from), delete(to), create],
                    Way::Swap | Way::Rewrite => vec![delete(from), create],
                };
                Request::Multi(ops.into_iter().collect::<Ops>())
            }
        };
        self.steps.leaving.insert(step.was.registry_path.clone());
        if step.way == Way::Replace {
            self.steps.leaving.insert(step.next.registry_path.clone());
        }
        self.state.names.insert(&step.app_path, step.next.clone());
        self.send_own(request, 0, None, Then::Step(step));
    }

    /// One part of a step is done: the node's data is read, its access list is read, it stands in its new form.
    pub(super) fn stepping(&mut self, mut step: Box<Step>, err: ErrorCode, reply: Option<Reply>) {
        let path = || Text::from(step.was.registry_path.as_str());
        match reply {
            Some(Reply::Data { data, .. }) => {
                step.data = data.map(|data| Bytes::copy_from_slice(&data));
                let request = Request::GetAcl { path: path() };
                return self.send_own(request, 0, None, Then::Step(step));
            }
            // The identity of others is shown as `x`; the node would be lost to them.
            Some(Reply::Acl { acl, stat }) if !acl.iter().any(|entry| entry.id.ends_with(":x")) => {
                step.node = Some(Node {
                    data: step.data.take(),
                    acl: acl.iter().collect(),
                    is_ephemeral: stat.ephemeral_owner != 0,
                });
                return self.take_step(step);
            }
            _ => {}
        }
        let failed = match (step.way, &reply) {
            (Way::Rewrite, Some(Reply::Stat(_))) => None,
            (Way::Rewrite, _) => Some((usize::MAX, err)),
            (_, Some(Reply::Results(results))) => {
                // One that was not tried because of another says so with these two.
                let is_cause = |code: ErrorCode| !matches!(code, ErrorCode::OK | ErrorCode::RUNTIME_INCONSISTENCY);
                results.iter().enumerate().find_map(|(at, result)| match result {
                    OpResult::Error(code) if is_cause(code) => Some((at, code)),
                    _ => None,
                })
            }
            _ => Some((usize::MAX, err)),
        };
        self.steps.leaving.remove(&step.was.registry_path);
        self.steps.leaving.remove(&step.next.registry_path);
        // Taken back by the application meanwhile, and so it stays.
        let is_gone = self.state.names.own(&step.app_path).is_none_or(|own| !own.is_live);
        match failed {
            // It was under way to the registry when the step was.
            None if is_gone => self.goes_at_once(step.next.registry_path, step.app_path),
            None => self.stepped(*step),
            Some(_) if is_gone => {}
            Some((0, ErrorCode::NO_NODE)) if step.way == Way::Swap => {
                step.way = Way::Make;
                self.take_step(step);
            }
            Some((1, ErrorCode::NODE_EXISTS)) if step.way == Way::Swap => {
                step.way = Way::Replace;
                self.take_step(step);
            }
            Some((0, ErrorCode::NODE_EXISTS)) if step.way == Way::Add => {
                step.way = Way::Replace;
                self.take_step(step);
            }
            Some((_, ErrorCode::NODE_EXISTS)) if step.way == Way::Make => self.stepped(*step),
            Some((_, code)) => self.step_failed(*step, code),
        }
    }

    fn stepped(&mut self, step: Step) {
        let (was, now) = (&step.was.registry_path, &step.next.registry_path);
        info!(
            registry = "zookeeper",
            was,
            now,
            taken_over = step.next.is_taken,
            "a published node has another form"
        );
        match step.way {
            Way::Add => {
                self.stands(&step.next, InRegistry::Both);
                self.goes_later(was.clone(), step.app_path.clone());
            }
            _ => self.leads_here(&step.next, step.next.is_taken),
        }
        match step.next.is_taken {
            true => self.guard_node(now),
            // The application may watch its node; the watch went with the old form.
            false => self.watch_dir(now),
        }
        self.decide_again_if_late(&step.app_path);
    }

    fn step_failed(&mut self, step: Step, code: ErrorCode) {
        warn!(
            registry = "zookeeper",
            path = step.was.registry_path,
            wanted = step.next.registry_path,
            code = code.0,
            "a published node stays as it was, it is tried again"
        );
        self.decide_anew(&step.app_path, step.was);
        let at = Instant::now() + AGAIN_AFTER;
        self.steps.again.push_back((at, Due::Own(step.app_path)));
    }

    /// The connection is over. Whether the steps under way on it were taken cannot be known, so they are decided on again when
    /// the session is back: one that was taken is found to be.
    pub(super) fn steps_cut_off(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        if sent.iter().any(|sent| sent.then.is_own_write(sent.op)) {
            self.state.documents.doubt();
        }
        for sent in sent {
            let Then::Step(step) = sent.then else { continue };
            // A found node has no name of the application's before its data is known.
            let is_asked_for = step.node.is_none() && step.way != Way::Rewrite;
            let own = self.state.names.own(&step.app_path);
            if own.map_or(is_asked_for, |own| own.is_live) {
                self.decide_anew(&step.app_path, step.was);
            }
        }
    }

    /// As it was, and not by what is in force, so that the next look finds it.
    fn decide_anew(&mut self, app_path: &str, mut was: Own) {
        was.decided = u64::MAX;
        self.leads_here(&was, was.is_taken);
        self.state.names.insert(app_path, was);
    }

    /// Whether an event tells of what a step did: the application did not do it, so to it nothing happened.
    pub(super) fn is_step_event(&self, registry_path: &str, kind: i32) -> bool {
        EventKind::from_wire(kind) == Some(EventKind::NodeDeleted) && self.steps.leaving.contains(registry_path)
    }

    /// A list was read from the registry. If it is shown in another way by now, its reader, who set its watch with this reply
    /// only, is told so.
    pub(super) fn relayed_list_read(&mut self, dir: &str, watch: bool) {
        let view = self.state.views.get(dir);
        if watch && view.is_some_and(|view| view.is_known && !view.is_relayed()) {
            self.fire(EventKind::NodeChildrenChanged, dir);
        }
    }

    /// Who looks at a list on this connection.
    pub(super) fn viewer<'a>(&self, discovery: &'a dyn Discovery) -> Viewer<'a> {
        Viewer {
            discovery,
            lease: self.lease(),
            client: self.state.client,
            may_see_registry: self.home == Home::Registry && !self.shared.config.keeps_publications,
        }
    }

    /// Tells discovery what stands, alone.
    pub(super) fn leads_here(&self, own: &Own, is_taken: bool) {
        self.stands(own, InRegistry::alone(is_taken));
    }

    fn stands(&self, own: &Own, standing: InRegistry) {
        let (lease, discovery) = (self.lease(), self.discovery());
        for instance in std::iter::once(&own.instance).chain(&own.also) {
            discovery.stands(lease, &own.target, instance, standing);
        }
    }
}

const ANY: i32 = -1;
/// The rest waits for the next turn: an application with thousands of nodes must not hold up the others.
const STEPS_AT_ONCE: usize = 256;
const AGAIN_AFTER: Duration = Duration::from_secs(1);
