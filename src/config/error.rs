// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a configuration, and where.

use std::fmt;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file; line and column count from 1, 0 if unknown.
    File {
        /// As given.
        file: String,
        /// Line.
        line: u64,
        /// Column.
        column: u64,
    },
    /// An environment variable.
    Environment(String),
    /// A command line flag.
    Flag(&'static str),
    /// Our own default.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line: 0, .. } => f.write_str(file),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{file}: {cause}")]
    Read {
        /// As given.
        file: String,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A key or value is wrong.
    #[error("{place}: {}{problem}", key_prefix(.place, .key))]
    Invalid {
        /// Where it stands.
        place: Place,
        /// Dotted key, e.g. `facades.zookeeper.listen`; empty for the document as a whole.
        key: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
}

fn key_prefix(place: &Place, key: &str) -> String {
    match key {
        "" | "." | "?" => String::new(),
        // `--data-dir` has said it.
        key if matches!(place, Place::Flag(flag) if flag.trim_start_matches('-').replace('-', "_") == key) => {
            String::new()
        }
        key => format!("{key}: "),
    }
}

impl ConfigError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Read { .. } => "config_unreadable",
            Self::Invalid { .. } => "config_invalid",
        }
    }
}
