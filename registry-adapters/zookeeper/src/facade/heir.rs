// SPDX-License-Identifier: Apache-2.0
//! Nodes that a former session of the application left behind.
//!
//! After an outage longer than its session a client opens a new one and registers again, while its old ephemerals still
//! stand. SOFARPC and Dubbo 2.6 take the refusal for success, and the node goes with the old session soon after: the
//! provider is lost for good. So such a node is replaced by one of the session that asks for it, in one transaction.
//! Source: SOFARPC `ZookeeperRegistry.registerProviderUrls`, Dubbo 2.6 `CuratorZookeeperClient.createEphemeral`.

use tracing::info;

use super::door::Door;
use super::line::{Origin, Place};
use super::sent::Then;
use crate::wire::request::Create;
use crate::wire::{CreateMode, ErrorCode, Op, OpResult, Ops, Reply, ReplyHeader, Request, Stat, Text};

/// A create that was refused because the node is there.
#[derive(Debug)]
pub(super) struct Heir {
    app_path: String,
    create: Create,
    /// Where the application waits; `None` if nobody does.
    place: Option<Place>,
    app_xid: i32,
}

impl Door {
    /// Looks whose node it is. `None`: that is known, the refusal is to be handed on.
    pub(super) fn inherit(&mut self, app_path: &str, create: Create, place: Option<Place>, app_xid: i32) -> Option<()> {
        let heir = Heir {
            app_path: app_path.to_owned(),
            create,
            place: Some(place?),
            app_xid,
        };
        let is_ephemeral = CreateMode::from_wire(heir.create.flags) == Some(CreateMode::Ephemeral);
        is_ephemeral.then(|| {
            let request = Request::Exists {
                path: heir.create.path.clone(),
                watch: false,
            };
            self.send_own(request, app_xid, None, Then::Heir(Box::new(heir)));
        })
    }

    /// Replaces a node that was found to be another session's.
    pub(super) fn inherit_unasked(&mut self, create: Create, head: ReplyHeader, stat: Stat) {
        let heir = Heir {
            app_path: create.path.to_string(),
            create,
            place: None,
            app_xid: 0,
        };
        self.inheriting(Box::new(heir), head, Some(Reply::Stat(stat)));
    }

    /// One step is done: its owner is known, or it was replaced.
    pub(super) fn inheriting(&mut self, heir: Box<Heir>, head: ReplyHeader, reply: Option<Reply>) {
        match reply {
            Some(Reply::Stat(stat)) if self.is_orphan(stat.ephemeral_owner) => {
                let ops = [
                    Op::Delete {
                        path: heir.create.path.clone(),
                        version: stat.version,
                    },
                    Op::Create(heir.create.clone()),
                ];
                let request = Request::Multi(Ops::from_iter(ops));
                self.send_own(request, heir.app_xid, None, Then::Heir(heir));
            }
            Some(Reply::Results(results)) => {
                let path = || Text::from(heir.app_path.as_str());
                let created = results.iter().find_map(|result| match result {
                    OpResult::Create { .. } => Some(Reply::Created { path: path() }),
                    OpResult::Create2 { stat, .. } => Some(Reply::Created2 { path: path(), stat }),
                    _ => None,
                });
                match created {
                    Some(reply) => {
                        info!(
                            registry = "zookeeper",
                            path = heir.app_path,
                            "published in place of a former session's node"
                        );
                        let xid = heir.app_xid;
                        self.fill(heir.place, ReplyHeader { xid, ..head }, &reply);
                    }
                    None => self.refuse_heir(&heir, head.zxid),
                }
            }
            _ => self.refuse_heir(&heir, head.zxid),
        }
    }

    fn refuse_heir(&mut self, heir: &Heir, zxid: i64) {
        let Some(place) = heir.place else { return };
        self.fill_error(place, heir.app_xid, zxid, ErrorCode::NODE_EXISTS, Origin::Upstream);
    }

    /// Whether a node belongs to another session, which is not connected here.
    pub(super) fn is_orphan(&self, owner: i64) -> bool {
        owner != 0 && owner != self.state.session && !self.shared.sessions.is_here(owner)
    }
}
