// SPDX-License-Identifier: Apache-2.0
//! What is followed, and the full list at one moment.

use std::fmt;
use std::sync::Arc;

use crate::Instance;

/// A list that can be followed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// All providers of a service name, every group, version and protocol.
    Service {
        /// Where the registry keeps it: a ZooKeeper root such as `/dubbo`, a Nacos namespace; empty if it has one place.
        namespace: Arc<str>,
        /// Service name, decoded.
        name: Arc<str>,
    },
    /// All instances of an application (application-level discovery).
    Application {
        /// Where the registry keeps it, e.g. `/services`.
        namespace: Arc<str>,
        /// Application name, decoded.
        name: Arc<str>,
    },
}

impl Target {
    /// The name without its namespace.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Service { name, .. } | Self::Application { name, .. } => name,
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &Arc<str> {
        match self {
            Self::Service { namespace, .. } | Self::Application { namespace, .. } => namespace,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { namespace, name } => write!(f, "service {namespace}/{name}"),
            Self::Application { namespace, name } => write!(f, "application {namespace}/{name}"),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Where a list came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The real registry said so while connected.
    Registry,
    /// The last known list, read back from disk while the registry was out of reach.
    Disk,
}

/// The full list of one target at one moment. Immutable; a change is a new snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What was followed.
    pub target: Target,
    /// Every well-formed entry. Includes those whose protocol nothing here speaks.
    pub instances: Vec<Arc<Instance>>,
    /// Names of entries that could not be read, as the registry has them, at most 100; shown in `status`.
    pub malformed: Vec<Arc<str>>,
    /// Children that are not discovery's, by name: shown as they are, by a facade of the same kind of registry. Under an
    /// application, those that no Dubbo wrote; under a service, those that are no URL at all.
    pub foreign: Vec<Arc<str>>,
    /// Where the list came from.
    pub source: Source,
}
