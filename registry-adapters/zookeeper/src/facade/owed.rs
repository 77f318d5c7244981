// SPDX-License-Identifier: Apache-2.0
//! What applications wrote into the stand-in and will not write again: mappings and metadata. The registry is told once it
//! is back.
//!
//! A client that hears that its session is over makes its ephemeral nodes anew; nodes that stay it wrote once, and takes for
//! granted. Others may have changed the same nodes meanwhile: names are added to a mapping, never taken out; any other node
//! is made, or gets the data that was written.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Shared;
use super::door::Door;
use super::paths::Shape;
use super::sent::Then;
use super::stand_in::Home;
use super::stats::Stats;
use crate::client::{Client, ClientError, SessionState};
use crate::wire::{CreateMode, ErrorCode, Request};

/// One node's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owed {
    /// As it was when the application read it.
    pub(super) before: Bytes,
    /// As the application wrote it.
    pub(super) data: Bytes,
}

impl Owed {
    /// Bytes that it takes for a node at `path`.
    pub(super) fn size(&self, path: &str) -> usize {
        path.len() + self.before.len() + self.data.len()
    }
}

/// Nodes that are not discovery's, below the roots of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Which applications offer an interface: their names, with commas between them.
    Mapping,
    /// What an application says of its services.
    Metadata,
    /// A list of rules or settings of a service.
    RuleDir,
    /// An operator's word: a rule, a setting.
    Word,
}

impl Shared {
    /// What a path is, of what copies are kept of.
    pub(super) fn kind(&self, path: &str) -> Option<Kind> {
        match self.roots.shape(path) {
            Shape::RuleDir => return Some(Kind::RuleDir),
            Shape::Rule => return Some(Kind::Word),
            Shape::Metadata { .. } => return Some(Kind::Metadata),
            Shape::Other => {}
            _ => return None,
        }
        let (parent, name) = path.rsplit_once('/')?;
        // `/sofa-rpc/<service>/{configs,overrides}`
        let is_dir = |path: &str, name: &str| {
            matches!(name, "configs" | "overrides")
                && path.rsplit_once('/').is_some_and(|(root, _)| self.is_namespace(root))
        };
        if is_dir(parent, name) {
            return Some(Kind::RuleDir);
        }
        let (above, last) = parent.rsplit_once('/')?;
        if self.roots.shape(parent) == Shape::RuleDir || is_dir(above, last) {
            return Some(Kind::Word);
        }
        let below = |word: &str| {
            let mut at = path.match_indices(word);
            at.any(|(at, _)| path.get(..at).is_some_and(|root| self.is_namespace(root)))
        };
        if below("/config/mapping/") {
            return Some(Kind::Metadata);
        }
        match (below("/mapping/"), below("/metadata/"), below("/config/")) {
            (true, _, _) => Some(Kind::Mapping),
            (_, true, _) => Some(Kind::Metadata),
            // A group of the config centre, `/dubbo/config/dubbo`, says nothing by itself.
            (_, _, true) => Some(match parent.ends_with("/config") {
                true => Kind::RuleDir,
                false => Kind::Word,
            }),
            _ => None,
        }
    }
}

impl Door {
    /// Has a reply noted that tells of a node that copies are kept of.
    pub(super) fn noting(&self, request: &Request, then: Then) -> Then {
        let (path, written) = match request {
            Request::GetData { path, .. }
            | Request::Exists { path, .. }
            | Request::GetChildren { path, .. }
            | Request::GetChildren2 { path, .. } => (path, None),
            Request::Create(create) if is_lasting(create.flags) => (&create.path, Some(create.data.clone())),
            Request::SetData(set) => (&set.path, Some(set.data.clone())),
            Request::Delete { path, .. } => (path, None),
            _ => return then,
        };
        let is_read = matches!(then, Then::Relay | Then::RuleList { .. } | Then::Rule { .. });
        if !is_read || !self.shared.keeps_copies() {
            return then;
        }
        let Some(kind) = self.shared.kind(path) else {
            return then;
        };
        let path = path.to_string();
        match self.home {
            Home::Registry if self.state.has_identity || written.is_some() => then,
            Home::Registry => Then::Noted {
                path,
                then: Box::new(then),
            },
            Home::StandIn => match (kind, written) {
                (Kind::Mapping | Kind::Metadata, Some(data)) => Then::Wrote {
                    path,
                    data: data.unwrap_or_default(),
                },
                (Kind::Mapping | Kind::Metadata, None) if matches!(request, Request::Delete { .. }) => {
                    self.shared.copies.forgive(&path);
                    then
                }
                _ => then,
            },
        }
    }

    /// Something that stays was written into the stand-in.
    pub(super) fn wrote(&self, path: &str, data: &Bytes) {
        if self.state.has_identity {
            // Only it could write this for itself, and for whom it should be readable is not ours to say.
            return warn!(
                registry = &*self.shared.registry,
                path,
                "written while the registry is away by an application that authenticates: it is not told to the registry"
            );
        }
        self.shared.copies.owe(path, data);
    }

    /// Puts the last known copy of a node into the stand-in.
    pub(super) fn put_copy(&mut self, path: &str) {
        if self.shared.kind(path).is_none() || self.furnished.contains(path) {
            return;
        }
        let Some(copy) = self.shared.copies.get(path) else {
            return;
        };
        Stats::count(&self.shared.stats.copies_shown);
        self.put_with(path, copy.data.unwrap_or_default());
        for name in copy.children.into_iter().flatten() {
            let child = format!("{path}/{name}");
            let data = self.shared.copies.get(&child).and_then(|copy| copy.data);
            self.put_with(&child, data.unwrap_or_default());
        }
    }
}

/// Tells the registry all that is owed to it. Ends when that is done, at the first failure of the connection, or with `drain`.
pub(super) async fn pay(shared: Arc<Shared>, drain: CancellationToken) {
    let all = shared.copies.owed();
    if all.is_empty() {
        return;
    }
    let client = shared.bridge.client(&shared, &drain);
    let mut session = client.state();
    let is_up = |state: &SessionState| matches!(state, SessionState::Up { .. } | SessionState::Closed);
    if !matches!(timeout(CONNECTION_WAIT, session.wait_for(is_up)).await, Ok(Ok(_))) {
        return;
    }
    for (number, (path, owed)) in all.iter().enumerate() {
        let is_above_others = all.get(number + 1).is_some_and(|(next, _)| is_below(next, path));
        let told = tokio::select! {
            () = drain.cancelled() => return,
            told = tell(&client, path, owed, shared.kind(path), is_above_others) => told,
        };
        match told {
            Ok(()) => {
                info!(
                    registry = &*shared.registry,
                    path, "written while the registry was away: it stands there now"
                );
                shared.copies.paid(path, owed);
            }
            Err(error) if error.code().is_some() => {
                warn!(registry = &*shared.registry, path, reason = error.reason(), %error, "written while the registry was away, and refused by it now");
                shared.copies.paid(path, owed);
            }
            Err(error) => {
                return debug!(registry = &*shared.registry, path, reason = error.reason(), %error, "the registry is not told yet what was written meanwhile");
            }
        }
    }
}

async fn tell(
    client: &Client,
    path: &str,
    owed: &Owed,
    kind: Option<Kind>,
    is_above_others: bool,
) -> Result<(), ClientError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let (stands, version) = match client.data(path, None).await {
            Ok((data, stat)) => (Some(data), stat.version),
            Err(error) if error.is_no_node() => (None, 0),
            Err(error) => return Err(error),
        };
        let wanted = match (kind, &stands) {
            (Some(Kind::Mapping), Some(stands)) => merged(stands, owed),
            // Made on the way to another one.
            (_, Some(_)) if is_above_others => return Ok(()),
            _ => owed.data.clone(),
        };
        let done = match &stands {
            Some(stands) if *stands == wanted => return Ok(()),
            Some(_) => client.set_data_of(path, wanted, version).await.map(drop),
            None => {
                client.create_parents(path).await?;
                client.create(path, wanted, CreateMode::Persistent).await.map(drop)
            }
        };
        let raced = [ErrorCode::BAD_VERSION, ErrorCode::NO_NODE, ErrorCode::NODE_EXISTS];
        match done {
            Err(error) if tries < MAX_TRIES && error.code().is_some_and(|code| raced.contains(&code)) => {}
            done => return done,
        }
    }
}

/// What stands, and the names that the application added to what it had read.
fn merged(stands: &Bytes, owed: &Owed) -> Bytes {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stands, before, data) = (text(stands), text(&owed.before), text(&owed.data));
    let has = |list: &str, name: &str| list.split(',').any(|other| other.trim() == name);
    let mut names = stands.clone();
    for name in data.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !has(&before, name) && !has(&names, name) {
            if !names.is_empty() {
                names.push(',');
            }
            names.push_str(name);
        }
    }
    names.into()
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

fn is_lasting(flags: i32) -> bool {
    matches!(
        CreateMode::from_wire(flags),
        Some(CreateMode::Persistent | CreateMode::Container)
    )
}

const CONNECTION_WAIT: Duration = Duration::from_secs(10);
/// Others write the same mapping at the same time, when all applications of an interface start.
const MAX_TRIES: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(stands: &'static str, before: &'static str, data: &'static str) -> String {
        let owed = Owed {
            before: before.into(),
            data: data.into(),
        };
        String::from_utf8(merged(&Bytes::from(stands), &owed).to_vec()).unwrap()
    }

    #[test]
    fn names_are_added_to_a_mapping_and_never_taken_out() {
        assert_eq!(joined("a,b", "a", "a,c"), "a,b,c");
        // `a` was taken out by somebody else meanwhile.
        assert_eq!(joined("b", "a", "a,c"), "b,c");
        assert_eq!(joined("b,c", "", "c"), "b,c");
        assert_eq!(joined("", "", "c"), "c");
    }

    #[test]
    fn a_node_is_above_those_that_begin_with_its_path_and_a_slash() {
        assert!(is_below("/a/b", "/a"));
        assert!(!is_below("/ab", "/a"));
    }
}
