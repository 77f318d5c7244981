// SPDX-License-Identifier: Apache-2.0
//! Small state files: one line `remora-<kind> <version> <crc32 of the rest>`, then the content.
//!
//! Written to a neighbour file, synced, renamed: a reader finds the old content or the new one. What does not check out is
//! refused. A file may keep the content before (`.old`), for a reader that finds the last one damaged.
//! Not here: what is inside.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::DiscoveryError;

/// Kind and version of a file's content.
#[derive(Clone, Copy)]
pub(super) struct Seal {
    pub(super) kind: &'static str,
    pub(super) version: u32,
}

/// Replaces the file with what `fill` writes.
pub(super) fn write(
    path: &Path,
    seal: Seal,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), DiscoveryError> {
    let failed = |cause| DiscoveryError::File {
        path: path.to_owned(),
        cause,
    };
    let new = neighbour(path);
    let written = write_to(&new, seal, fill).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written.map_err(failed)?;
    // The rename itself must survive a power cut; not every file system lets a directory be synced.
    if let Some(folder) = path.parent().and_then(|p| File::open(p).ok()) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// As [`write`], and keeps the content before in a second file.
pub(super) fn write_keeping(
    path: &Path,
    seal: Seal,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), DiscoveryError> {
    let old = former(path);
    let spare = former(&old);
    // A second name for what stands. Without one (no such file yet, a file system without links) there is just no spare.
    let _ = std::fs::remove_file(&spare);
    if std::fs::hard_link(path, &spare).is_ok() {
        let _ = std::fs::rename(&spare, &old);
    }
    write(path, seal, fill)
}

/// Where the content before is kept.
pub(super) fn former(path: &Path) -> PathBuf {
    beside(path, ".old")
}

/// The content of the file; `None` if there is no such file.
pub(super) fn read(path: &Path, seal: Seal) -> Result<Option<Vec<u8>>, DiscoveryError> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|mut f| f.read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(DiscoveryError::File {
                path: path.to_owned(),
                cause,
            });
        }
    }
    let damaged = |cause: &str| DiscoveryError::Damaged {
        path: path.to_owned(),
        cause: cause.to_owned(),
    };
    let head = bytes.get(..HEAD_BYTES).ok_or_else(|| damaged("it is cut short"))?;
    let content = bytes.get(HEAD_BYTES..).unwrap_or_default();
    let prefix = format!("remora-{} {} ", seal.kind, seal.version);
    let head = std::str::from_utf8(head).unwrap_or_default();
    let Some(crc) = head.strip_prefix(&prefix) else {
        return Err(damaged("its first line is of another kind or version"));
    };
    let mut sum = Crc32::new();
    sum.add(content);
    if crc.trim_end() != sum.text() {
        return Err(damaged("its checksum is wrong"));
    }
    bytes.drain(..HEAD_BYTES);
    Ok(Some(bytes))
}

fn write_to(path: &Path, seal: Seal, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut out = Summed {
        to: BufWriter::with_capacity(256 << 10, File::create(path)?),
        sum: Crc32::new(),
    };
    // The head has a fixed length, so that the checksum can be filled in afterwards.
    out.to.write_all(&[b' '; HEAD_BYTES])?;
    fill(&mut out)?;
    let head = format!("remora-{} {} {}", seal.kind, seal.version, out.sum.text());
    let mut file = out.to.into_inner().map_err(|e| e.into_error())?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(format!("{head:<width$}\n", width = HEAD_BYTES - 1).as_bytes())?;
    file.sync_all()
}

fn neighbour(path: &Path) -> PathBuf {
    beside(path, ".new")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

struct Summed<W> {
    to: W,
    sum: Crc32,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = self.to.write(bytes)?;
        self.sum.add(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// The checksum of zip and Ethernet: every burst of up to 32 flipped bits is found.
struct Crc32(u32);

impl Crc32 {
    fn new() -> Self {
        Self(!0)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let at = (self.0 as u8) ^ byte;
            self.0 = (self.0 >> 8) ^ TABLE[usize::from(at)];
        }
    }

    fn text(&self) -> String {
        format!("{:08x}", !self.0)
    }
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                (value >> 1) ^ 0xedb8_8320
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

const HEAD_BYTES: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal {
        kind: "test",
        version: 1,
    };

    fn put(path: &Path, content: &[u8]) {
        write(path, SEAL, |out| out.write_all(content)).unwrap();
    }

    #[test]
    fn checksum_is_the_common_one() {
        let mut sum = Crc32::new();
        sum.add(b"123456789");
        assert_eq!(sum.text(), "cbf43926");
    }

    #[test]
    fn what_was_written_is_read_and_a_missing_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert_eq!(read(&path, SEAL).unwrap(), None);
        put(&path, b"one");
        put(&path, b"two\nlines");
        assert_eq!(read(&path, SEAL).unwrap().unwrap(), b"two\nlines");
        assert!(!neighbour(&path).exists());
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        put(&path, b"some content that matters");
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(read(&path, SEAL).is_err(), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            // Blanks between checksum and line end are the only bytes that say nothing.
            if let Ok(content) = read(&path, SEAL) {
                assert_eq!(
                    content.as_deref(),
                    Some(b"some content that matters".as_slice()),
                    "bit {bit}"
                );
            }
        }
        put(&path, b"x");
        assert!(read(&path, Seal { version: 2, ..SEAL }).is_err());
    }
}
