// SPDX-License-Identifier: Apache-2.0
//! The file in which a door keeps what applications wanted: one line `remora-<door> <version> <crc32 of the rest>`, then
//! the content.
//!
//! Written to a neighbour, synced, renamed, so that a reader finds the old content or the new one; the content before the
//! last one stays beside it. What does not check out is set aside, never read.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system's error.
    #[error("{}: {cause}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Its content is not what was written.
    #[error("{}: {why}", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What gives it away.
        why: String,
    },
}

impl FileError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Damaged { .. } => "damaged",
        }
    }
}

/// Replaces the content of a door's file. Blocks until it is on disk.
///
/// # Errors
/// `Io`; the former content stands then, or stands beside as `.old`.
pub fn write(path: &Path, door: &str, content: &[u8]) -> Result<(), FileError> {
    let failed = |cause| FileError::Io {
        path: path.to_owned(),
        cause,
    };
    let new = beside(path, "new");
    let head = format!("{} {:08x}\n", kind(door), crc32fast::hash(content));
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(head.as_bytes())?;
        file.write_all(content)?;
        file.sync_all()
    });
    written.map_err(failed)?;
    match fs::rename(path, beside(path, "old")) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(failed(cause)),
        _ => {}
    }
    fs::rename(&new, path).map_err(failed)?;
    // The rename itself must survive a power cut; not every file system lets a directory be synced.
    if let Some(folder) = path.parent().and_then(|parent| File::open(parent).ok()) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// The content; `None` if there is none. Damaged files are set aside and told to `tell`; the content before the last one
/// is better than none.
pub fn read(path: &Path, door: &str, mut tell: impl FnMut(&FileError)) -> Option<Vec<u8>> {
    for path in [path.to_owned(), beside(path, "old")] {
        match read_one(&path, door) {
            Ok(Some(content)) => return Some(content),
            Ok(None) => {}
            Err(error) => {
                tell(&error);
                if let FileError::Damaged { path, .. } = error {
                    set_aside(&path);
                }
            }
        }
    }
    None
}

/// Keeps a damaged file for people, out of the way.
pub fn set_aside(path: &Path) {
    let _ = fs::rename(path, beside(path, "damaged"));
}

fn read_one(path: &Path, door: &str) -> Result<Option<Vec<u8>>, FileError> {
    let mut bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(FileError::Io {
                path: path.to_owned(),
                cause,
            });
        }
    };
    let damaged = |why: &str| FileError::Damaged {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let end = bytes.iter().take(MAX_HEAD_BYTES).position(|byte| *byte == b'\n');
    let end = end.ok_or_else(|| damaged("its first line is missing"))?;
    let content = bytes.split_off(end + 1);
    let head = std::str::from_utf8(&bytes).unwrap_or_default().trim_end();
    let (found, crc) = head.rsplit_once(' ').unwrap_or_default();
    if found != kind(door) {
        return Err(damaged("its first line is of another kind or version"));
    }
    if crc != format!("{:08x}", crc32fast::hash(&content)) {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(Some(content))
}

fn kind(door: &str) -> String {
    format!("remora-{door} {VERSION}")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Of the content's form.
const VERSION: u32 = 1;
const MAX_HEAD_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn silent(_: &FileError) {}

    #[test]
    fn what_was_written_is_read_and_no_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.json");
        assert_eq!(read(&path, "mesh", silent), None);
        write(&path, "mesh", b"one").unwrap();
        write(&path, "mesh", b"two\nlines").unwrap();
        assert_eq!(read(&path, "mesh", silent).unwrap(), b"two\nlines");
        // The moment between the two renames.
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&path, "mesh", silent).unwrap(), b"one");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_set_aside_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.json");
        write(&path, "mesh", b"{\"some\":\"content\"}").unwrap();
        let whole = fs::read(&path).unwrap();
        let damaged: Vec<Vec<u8>> = (0..whole.len())
            .map(|cut| whole[..cut].to_vec())
            .chain((0..whole.len() * 8).map(|bit| {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                flipped
            }))
            .collect();
        for bytes in damaged {
            fs::write(&path, &bytes).unwrap();
            let mut told = 0;
            assert_eq!(read(&path, "mesh", |_| told += 1), None);
            assert_eq!(told, 1);
            assert_eq!(fs::read(beside(&path, "damaged")).unwrap(), bytes);
            assert!(!path.exists());
        }
        write(&path, "dubbod", b"x").unwrap();
        assert_eq!(read(&path, "mesh", silent), None, "of another door");
    }

    #[test]
    fn a_damaged_file_falls_back_on_the_content_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.json");
        write(&path, "mesh", b"one").unwrap();
        write(&path, "mesh", b"two").unwrap();
        fs::write(&path, b"junk").unwrap();
        assert_eq!(read(&path, "mesh", silent).unwrap(), b"one");
    }
}
