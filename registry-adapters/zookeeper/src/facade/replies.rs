// SPDX-License-Identifier: Apache-2.0
//! What becomes of the registry's replies and events on their way to the application.

use bytes::Bytes;

use super::door::{Door, DoorError};
use super::paths::Shape;
use super::sent::{Sent, Then};
use crate::wire::{ErrorCode, OpCode, Reader, Record, Reply, ReplyHeader, Text, WatcherEvent};

impl Door {
    pub(super) fn on_reply(&mut self, sent: Sent, mut head: ReplyHeader, body: Bytes) {
        let Sent {
            app_xid,
            op,
            place,
            then,
            ..
        } = sent;
        head.xid = app_xid;
        let err = head.err;
        // A body that cannot be read is handed on as it came; the application will say what it thinks of it.
        let decoded = |body: &Bytes| match (err.is_ok(), op) {
            (true, Some(op)) => Reply::decode(op, body.clone()).ok(),
            _ => None,
        };
        let mut relayed = None;
        let then = match then {
            Then::RelayedList { dir, watch } => {
                relayed = Some((dir, watch)).filter(|_| err.is_ok());
                Then::Relay
            }
            Then::Noted { path, then } => {
                self.shared.copies.note(&path, err, decoded(&body).as_ref());
                *then
            }
            Then::Wrote { path, data } => {
                if err.is_ok() {
                    self.wrote(&path, &data);
                }
                Then::Relay
            }
            then => then,
        };
        let reply = match then {
            // Taken off above; they are not put into each other.
            Then::Ignore | Then::Noted { .. } | Then::Wrote { .. } | Then::RelayedList { .. } => return,
            Then::Farewell { registry_path } => return self.farewell_answered(&registry_path, err),
            Then::Guard { path, watch } => return self.guarded(&path, watch, head, decoded(&body)),
            Then::Restore { path, is_second } => return self.restored(path, is_second, err),
            Then::Learn => return self.learned(decoded(&body)),
            Then::LearnData { path } => return self.learned_data(path, decoded(&body)),
            Then::LearnDocument { path, application } => {
                return self.learned_document(path, &application, decoded(&body));
            }
            Then::Step(step) => return self.stepping(step, err, decoded(&body)),
            Then::Former(former) => return self.former_gone(*former, err),
            Then::Move(step) => return self.moving(step, decoded(&body)),
            Then::DeleteUnknown { app_path, version } => {
                if err == ErrorCode::NO_NODE && self.delete_outward(app_xid, place, &app_path, version) {
                    return;
                }
                None
            }
            Then::List(read) => return self.list_read(read, head, decoded(&body)),
            Then::Close => {
                self.is_closed = true;
                None
            }
            Then::Relay => match self.shared.chroot.is_empty() && op != Some(OpCode::GetEphemerals) {
                true => None,
                false => decoded(&body).map(|reply| self.seen(reply)),
            },
            Then::Heir(heir) => return self.inheriting(heir, head, decoded(&body)),
            Then::Create { app_path, create } => {
                self.created(&app_path, err);
                if err == ErrorCode::NODE_EXISTS && self.inherit(&app_path, *create, place, app_xid).is_some() {
                    return;
                }
                decoded(&body).map(|reply| with_path(reply, &app_path))
            }
            Then::Delete { app_path } => {
                self.deleted(&app_path, err);
                self.former_goes(&app_path);
                if self.was_withdrawn(&app_path, err) {
                    head.err = ErrorCode::OK;
                }
                None
            }
            Then::OwnData { app_path } => decoded(&body).map(|reply| self.own_data(&app_path, reply)),
            Then::AbsentWatch { app_path } => {
                if err == ErrorCode::NO_NODE {
                    self.watch_absent(app_path);
                }
                None
            }
            Then::DirStat { dir, watch } => {
                let reply = decoded(&body);
                self.dir_stat(&dir, watch, err, reply)
            }
            Then::DirWatch { dir, mode } => {
                if err.is_ok()
                    && let Some(view) = self.state.views.get_mut(&dir)
                {
                    view.watches.persistent = Some(mode);
                }
                None
            }
            Then::RuleList { dir } => {
                let reply = decoded(&body);
                self.without_rules(&dir, err, reply)
            }
            Then::Rule { path } => {
                let reply = decoded(&body);
                self.without_rule(&path, err, reply)
            }
            Then::Multi { ops } => {
                let reply = decoded(&body);
                self.multi_done(&ops, reply)
            }
            Then::MultiRead { ops } => {
                let reply = decoded(&body);
                self.multi_read_done(&ops, reply)
            }
        };
        match reply {
            Some(reply) => self.fill(place, head, &reply),
            None => self.fill_raw(place, head, &body),
        }
        if let Some((dir, watch)) = relayed {
            self.relayed_list_read(&dir, watch);
        }
    }

    /// A relayed reply with its paths as the application knows them.
    fn seen(&self, reply: Reply) -> Reply {
        let chroot = &self.shared.chroot;
        match reply {
            Reply::Created { path } => Reply::Created {
                path: Text::from(chroot.seen(&path)),
            },
            Reply::Created2 { path, stat } => Reply::Created2 {
                path: Text::from(chroot.seen(&path)),
                stat,
            },
            Reply::Path { path } => Reply::Path {
                path: Text::from(chroot.seen(&path)),
            },
            Reply::Results(results) => Reply::Results(chroot.leave_results(&results)),
            // Only `getEphemerals` answers with paths; names of children have no slash.
            Reply::Children(paths) => {
                Reply::Children(paths.iter().map(|path| Text::from(self.app_path(&path))).collect())
            }
            other => other,
        }
    }

    /// The application's form of a path in the registry.
    fn app_path<'a>(&'a self, registry_path: &'a str) -> &'a str {
        if !registry_path.starts_with('/') {
            return registry_path;
        }
        let path = self.shared.chroot.seen(registry_path);
        self.state.names.app_path(path).unwrap_or(path)
    }

    fn watch_absent(&mut self, app_path: String) {
        let Shape::Child { dir, name } = self.shared.roots.shape(&app_path) else {
            return;
        };
        // It may be shown later, or published under another name.
        if let Some(view) = self.state.views.get_mut(dir) {
            view.watch_entry(name, true);
        }
        self.state.watch_absent(&app_path);
    }

    pub(super) fn on_event(&mut self, head: ReplyHeader, body: Bytes) -> Result<(), DoorError> {
        let event = WatcherEvent::read(&mut Reader::new(body))?;
        let path = self.shared.chroot.seen(&event.path).to_owned();
        self.guard_event(&path);
        if self.is_step_event(&path, event.kind) {
            return Ok(());
        }
        let passes = match self.shared.roots.shape(&path) {
            Shape::Dir if !self.state.is_raw => self.dir_event(&path, event.kind),
            Shape::Child { dir, name } if !self.state.is_raw => self.child_event(dir, name, event.kind, &path),
            _ => true,
        };
        if passes {
            let path = self.app_path(&event.path).to_owned();
            self.pass_event(head, event.kind, event.state, &path);
        }
        Ok(())
    }
}

fn with_path(reply: Reply, app_path: &str) -> Reply {
    let path = Text::from(app_path);
    match reply {
        Reply::Created { .. } => Reply::Created { path },
        Reply::Created2 { stat, .. } => Reply::Created2 { path, stat },
        other => other,
    }
}
