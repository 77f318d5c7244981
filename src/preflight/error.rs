// SPDX-License-Identifier: Apache-2.0
//! Why nothing could be looked at.

use remora_zookeeper::survey::SurveyError;

use crate::app::AppError;

/// Preflight has nothing to say about the shop, because it could not look.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The registry.
    #[error("registry {name} ({url}): {cause}")]
    Zookeeper {
        /// Configured name.
        name: String,
        /// Its address, without its password.
        url: String,
        /// Why.
        cause: SurveyError,
    },
    /// The registry.
    #[error("registry {name} ({url}): {cause}")]
    SofaRegistry {
        /// Configured name.
        name: String,
        /// Its address.
        url: String,
        /// Why.
        cause: remora_sofaregistry::survey::SurveyError,
    },
    /// Its address.
    #[error(transparent)]
    Address(#[from] AppError),
    /// Nothing to look at.
    #[error("registry {name} ({url}): {why}")]
    NothingToLookAt {
        /// Configured name.
        name: String,
        /// Its address.
        url: String,
        /// Why.
        why: String,
    },
    /// A list in a file, which is wrong or not there.
    #[error(transparent)]
    File(remora_registry::RegistryError),
    /// `--only` names what is not there.
    #[error("{names} (--only); {known} services and applications are there")]
    Unknown {
        /// In words.
        names: String,
        /// How many there are.
        known: usize,
    },
}

impl PreflightError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Zookeeper { cause, .. } => cause.reason(),
            Self::SofaRegistry { cause, .. } => cause.reason(),
            Self::Address(_) => "registry_address",
            Self::NothingToLookAt { .. } => "nothing_to_look_at",
            Self::File(cause) => cause.reason(),
            Self::Unknown { .. } => "service_unknown",
        }
    }

    pub(super) fn unknown(patterns: Vec<(String, Option<String>)>, known: usize) -> Self {
        let words = |(pattern, like): (String, Option<String>)| match like {
            Some(like) => format!("no service is called {pattern}, did you mean {like}?"),
            None => format!("no service is called {pattern}"),
        };
        let names: Vec<String> = patterns.into_iter().map(words).collect();
        Self::Unknown {
            names: names.join("; "),
            known,
        }
    }
}
