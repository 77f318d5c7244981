// SPDX-License-Identifier: Apache-2.0
//! The file: nodes, sessions, and a few numbers, in one redb database.
//!
//! Everything is read at the start and kept in memory; afterwards the file is written only, one transaction per batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::core::Batch;
use super::session::Key;
use super::tree::Tree;

// path -> node
const NODES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("nodes");
// session id -> timeout in ms
const SESSIONS: TableDefinition<'_, i64, i32> = TableDefinition::new("sessions");
// `format`, `zxid`, `key`
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");

const FORMAT: &[u8] = b"remora-registry-1";

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "registry.redb";

// The tree is in memory; the file's own cache need only hold the pages of a batch.
const CACHE_BYTES: usize = 2 << 20;

/// The embedded registry cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or file cannot be made or read.
    #[error("{path}: {cause}; is the data directory writable for this user?")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// Another process has it open.
    #[error("{path} is in use by another process; give each registry a data directory of its own")]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// It is not a registry's file, or damaged.
    #[error("{path} is not a readable registry file: {cause}; restore a copy, or move it away to start empty")]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What was found.
        cause: String,
    },
}

impl OpenError {
    /// Metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Io { .. } => "data_dir_io",
            Self::InUse { .. } => "data_dir_in_use",
            Self::Corrupt { .. } => "data_dir_corrupt",
        }
    }
}

/// The open file.
pub(super) struct Store {
    path: PathBuf,
    // `None` after a failed write: redb refuses further ones until it is opened again.
    database: Option<Database>,
}

/// What the file held.
pub(super) struct Stored {
    pub(super) tree: Tree,
    pub(super) sessions: Vec<(i64, i32)>,
    pub(super) zxid: i64,
    pub(super) key: Key,
}

impl Store {
    /// Opens or makes the file in `dir`; `None` beside it when it was made just now.
    ///
    /// # Errors
    /// See [`OpenError`]. A damaged file is left as it is.
    pub(super) fn open(dir: &Path) -> Result<(Self, Option<Stored>), OpenError> {
        std::fs::create_dir_all(dir).map_err(|e| OpenError::Io {
            path: dir.to_owned(),
            cause: e.to_string(),
        })?;
        let path = dir.join(FILE_NAME);
        // redb asserts here and there on what it reads; a damaged file must not take the process down.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_file(&path)));
        opened.unwrap_or_else(|_| {
            let cause = "its pages contradict each other".to_owned();
            Err(OpenError::Corrupt { path, cause })
        })
    }

    fn open_file(path: &Path) -> Result<(Self, Option<Stored>), OpenError> {
        let corrupt = |cause: String| OpenError::Corrupt {
            path: path.to_owned(),
            cause,
        };
        let database = open_database(path)?;
        let stored = read(&database).map_err(corrupt)?;
        let store = Self {
            path: path.to_owned(),
            database: Some(database),
        };
        Ok((store, stored))
    }

    /// Makes a fresh file a registry's, so that it is known as one.
    pub(super) fn initialise(&mut self, key: &Key) -> Result<(), redb::Error> {
        self.write(|facts| {
            facts.insert("format", FORMAT)?;
            facts.insert("key", key.as_slice())?;
            Ok(())
        })
    }

    fn write(
        &mut self,
        facts: impl FnOnce(&mut redb::Table<'_, &'static str, &'static [u8]>) -> Result<(), redb::Error>,
    ) -> Result<(), redb::Error> {
        let Some(database) = &self.database else {
            return Err(redb::Error::PreviousIo);
        };
        let txn = database.begin_write()?;
        facts(&mut txn.open_table(FACTS)?)?;
        txn.open_table(NODES)?;
        txn.open_table(SESSIONS)?;
        txn.commit()?;
        Ok(())
    }

    /// Puts a batch on disk: all of it, or nothing.
    ///
    /// # Errors
    /// redb's. The batch is as before; [`Store::reopen`] and try again.
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<(), redb::Error> {
        let Some(database) = &self.database else {
            return Err(redb::Error::PreviousIo);
        };
        let txn = database.begin_write()?;
        {
            let mut nodes = txn.open_table(NODES)?;
            for (path, node) in &batch.nodes {
                match node {
                    Some(bytes) => nodes.insert(&**path, bytes.as_slice())?,
                    None => nodes.remove(&**path)?,
                };
            }
            let mut sessions = txn.open_table(SESSIONS)?;
            for (id, timeout) in &batch.sessions {
                match timeout {
                    Some(ms) => sessions.insert(id, ms)?,
                    None => sessions.remove(id)?,
                };
            }
            txn.open_table(FACTS)?
                .insert("zxid", batch.zxid.to_be_bytes().as_slice())?;
        }
        txn.commit()?;
        Ok(())
    }

    /// Opens the file again after a failed write.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(super) fn reopen(&mut self) -> Result<(), OpenError> {
        self.database = None;
        self.database = Some(open_database(&self.path)?);
        Ok(())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn open_database(path: &Path) -> Result<Database, OpenError> {
    let opened = Database::builder().set_cache_size(CACHE_BYTES).create(path);
    opened.map_err(|e| {
        let path = path.to_owned();
        match e {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path },
            DatabaseError::Storage(redb::StorageError::Io(e)) if !is_about_content(&e) => OpenError::Io {
                path,
                cause: e.to_string(),
            },
            e => OpenError::Corrupt {
                path,
                cause: e.to_string(),
            },
        }
    })
}

fn is_about_content(e: &std::io::Error) -> bool {
    matches!(
        e.kind(),
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
    )
}

fn read(database: &Database) -> Result<Option<Stored>, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let txn = database.begin_read().map_err(|e| text(&e))?;
    let mut tables = txn.list_tables().map_err(|e| text(&e))?;
    if tables.next().is_none() {
        return Ok(None);
    }
    let facts = txn.open_table(FACTS).map_err(|e| text(&e))?;
    let fact = |name: &str| {
        facts
            .get(name)
            .map_err(|e| text(&e))
            .map(|v| v.map(|v| v.value().to_vec()))
    };
    if fact("format")?.as_deref() != Some(FORMAT) {
        return Err("its format is not one this version knows".to_owned());
    }
    let key = fact("key")?
        .and_then(|key| Key::try_from(key).ok())
        .ok_or("its key is missing")?;
    let Some(zxid) = fact("zxid")? else {
        // Made, and never written to.
        return Ok(Some(Stored {
            tree: Tree::new(),
            sessions: Vec::new(),
            zxid: 0,
            key,
        }));
    };
    let zxid = <[u8; 8]>::try_from(zxid).map_err(|_| "its zxid is malformed")?;
    let mut tree = Tree::default();
    let nodes = txn.open_table(NODES).map_err(|e| text(&e))?;
    for entry in nodes.iter().map_err(|e| text(&e))? {
        let (path, node) = entry.map_err(|e| text(&e))?;
        let path = path.value();
        tree.load_node(path, node.value())
            .map_err(|cause| format!("node {path}: {cause}"))?;
    }
    if tree.node("/").is_none() {
        return Err("its root node is missing".to_owned());
    }
    let mut sessions = Vec::new();
    let table = txn.open_table(SESSIONS).map_err(|e| text(&e))?;
    for entry in table.iter().map_err(|e| text(&e))? {
        let (id, timeout) = entry.map_err(|e| text(&e))?;
        sessions.push((id.value(), timeout.value()));
    }
    Ok(Some(Stored {
        tree,
        sessions,
        zxid: i64::from_be_bytes(zxid),
        key,
    }))
}
