// SPDX-License-Identifier: Apache-2.0
//! What is under way on one connection: requests at the registry, and questions to discovery.

use bytes::Bytes;

use super::dirs::{Followed, ListRead};
use super::heir::Heir;
use super::learn::Move;
use super::line::Place;
use super::multi::MultiOp;
use super::overlap::Former;
use super::steps::Step;
use crate::wire::request::Create;
use crate::wire::{OpCode, Request, RequestHeader};

/// A request at the registry.
#[derive(Debug)]
pub(super) struct Sent {
    /// Its number there.
    pub(super) xid: i32,
    /// The application's number for it; for a request of our own on its behalf, the number to answer under.
    pub(super) app_xid: i32,
    pub(super) op: Option<OpCode>,
    /// Where its reply belongs; `None` for what the application does not wait for.
    pub(super) place: Option<Place>,
    pub(super) then: Then,
}

/// What to do with a reply. Paths are the application's.
#[derive(Debug)]
pub(super) enum Then {
    /// Hand it on.
    Relay,
    /// Hand it on under the application's own path. What was asked for is kept where it may be asked again.
    Create {
        app_path: String,
        create: Box<Create>,
    },
    /// A node of a former session is replaced.
    Heir(Box<Heir>),
    /// Taken back, if it worked.
    Delete {
        app_path: String,
    },
    /// Put the application's own data back.
    OwnData {
        app_path: String,
    },
    /// A watch may stand on a name that we publish under another one.
    AbsentWatch {
        app_path: String,
    },
    /// Agree with the list shown.
    DirStat {
        dir: String,
        watch: bool,
    },
    /// A persistent watch on a list.
    DirWatch {
        dir: String,
        mode: i32,
    },
    /// Hand it on; it is a list that is left as it is.
    RelayedList {
        dir: String,
        watch: bool,
    },
    /// The directory of a list that is read.
    List(Box<ListRead>),
    /// Keep rules from it.
    RuleList {
        dir: String,
    },
    /// Keep a rule from it.
    Rule {
        path: String,
    },
    Multi {
        ops: Vec<MultiOp>,
    },
    MultiRead {
        ops: Vec<String>,
    },
    /// The session ends.
    Close,
    /// Ephemerals of a session that came back.
    Learn,
    LearnData {
        path: String,
    },
    /// A document that belongs to one of them.
    LearnDocument {
        path: String,
        application: String,
    },
    /// A learned node moves to its new ingress.
    Move(Box<Move>),
    /// Taken back; if it was not there, it may stand under another name.
    DeleteUnknown {
        app_path: String,
        version: i32,
    },
    /// A node is brought to what the policy says.
    Step(Box<Step>),
    /// A node goes whose successor stands.
    Former(Box<Former>),
    /// An entry goes, because Remora does.
    Farewell {
        registry_path: String,
    },
    /// Whether a published node stands; the registry tells of its end from now on.
    Guard {
        path: String,
        watch: bool,
    },
    /// A published node that was gone is made again.
    Restore {
        path: String,
        is_second: bool,
    },
    /// Tells of a node that copies are kept of, see `copies.rs`.
    Noted {
        path: String,
        then: Box<Then>,
    },
    /// Something that stays, in the stand-in, see `owed.rs`.
    Wrote {
        path: String,
        data: Bytes,
    },
    /// Nobody asks.
    Ignore,
}

impl Then {
    /// Whether a request is a write of ours whose answer nobody waits for: of a metadata document.
    pub(super) fn is_own_write(&self, op: Option<OpCode>) -> bool {
        matches!(self, Self::Ignore) && op == Some(OpCode::SetData)
    }
}

/// A finished job.
pub(super) enum Done {
    /// A followed list may have changed.
    Changed(Followed),
    /// Discovery answered.
    Metadata {
        place: Place,
        head: RequestHeader,
        request: Box<Request>,
        answer: Option<String>,
    },
    /// The lists that a request needs are known, or late.
    Held {
        place: Place,
        head: RequestHeader,
        request: Box<Request>,
        frame: Bytes,
        dirs: Vec<String>,
    },
}
