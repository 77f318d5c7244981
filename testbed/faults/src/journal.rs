// SPDX-License-Identifier: Apache-2.0
//! Who did what: providers note each call that they execute, callers how each call ended. Held against each other, calls
//! that were executed twice are seen, and those that ended well without having been executed.
//!
//! A record: client (4 bytes), number of the call (8), what (4), little endian. Written with one write(2) for many, so that
//! what a killed process noted is there: the kernel has it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

/// A journal that is written.
#[derive(Debug)]
pub struct Journal {
    file: Option<File>,
    waiting: Vec<u8>,
}

impl Journal {
    /// Appends to the file; without one nothing is kept.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("cannot write {}", path.display()))
        };
        Ok(Self {
            file: path.map(open).transpose()?,
            waiting: Vec::new(),
        })
    }

    /// Notes one call.
    pub fn note(&mut self, client: u32, number: u64, what: u32) {
        if self.file.is_some() {
            self.waiting.extend_from_slice(&client.to_le_bytes());
            self.waiting.extend_from_slice(&number.to_le_bytes());
            self.waiting.extend_from_slice(&what.to_le_bytes());
        }
    }

    /// Hands what was noted to the kernel.
    ///
    /// # Errors
    /// As write(2).
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file
            && !self.waiting.is_empty()
        {
            file.write_all(&self.waiting)?;
            self.waiting.clear();
        }
        Ok(())
    }
}

/// A call of a provider's journal.
pub const EXECUTED: u32 = 0;
/// A call of a caller's journal that ended well.
pub const OK: u32 = 1;
/// One that failed: it may or may not have been executed.
pub const FAILED: u32 = 2;

#[derive(Default)]
struct Fate {
    executed: u32,
    ok: u32,
    failed: u32,
}

/// Holds the journals against each other.
///
/// # Errors
/// When a journal cannot be read.
pub fn judge(journals: &[impl AsRef<Path>]) -> anyhow::Result<Value> {
    let mut fates: HashMap<(u32, u64), Fate> = HashMap::new();
    for path in journals {
        let path = path.as_ref();
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        for record in bytes.chunks_exact(RECORD) {
            let number =
                |range: std::ops::Range<usize>| record[range].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
            let fate = fates.entry((number(0..4) as u32, number(4..12))).or_default();
            match number(12..16) as u32 {
                EXECUTED => fate.executed += 1,
                OK => fate.ok += 1,
                _ => fate.failed += 1,
            }
        }
    }
    let count = |is: fn(&Fate) -> bool| fates.values().filter(|fate| is(fate)).count();
    let mut twice: Vec<_> = fates
        .iter()
        .filter(|(_, fate)| fate.executed > 1)
        .map(|(id, _)| *id)
        .collect();
    twice.sort_unstable();
    twice.truncate(5);
    Ok(json!({
        "event": "judgement",
        "calls": count(|fate| fate.ok + fate.failed > 0),
        "ok": count(|fate| fate.ok > 0),
        "failed": count(|fate| fate.failed > 0),
        "failed_and_executed": count(|fate| fate.failed > 0 && fate.executed > 0),
        "executed": count(|fate| fate.executed > 0),
        "duplicates": count(|fate| fate.executed > 1),
        "answered_twice": count(|fate| fate.ok + fate.failed > 1),
        "ok_not_executed": count(|fate| fate.ok > 0 && fate.executed == 0),
        "first_duplicates": twice.iter().map(|(client, number)| format!("{client:x}/{number}")).collect::<Vec<_>>(),
    }))
}

const RECORD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_executed_twice_or_never_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (of_caller, of_provider) = (folder.path().join("caller"), folder.path().join("provider"));
        let mut caller = Journal::open(Some(&of_caller)).unwrap();
        let mut provider = Journal::open(Some(&of_provider)).unwrap();
        for (number, outcome, executed) in [
            (1, OK, 1),
            (2, OK, 2),
            (3, OK, 0),
            (4, FAILED, 0),
            (5, FAILED, 1),
            (6, FAILED, 2),
        ] {
            caller.note(7, number, outcome);
            for _ in 0..executed {
                provider.note(7, number, EXECUTED);
            }
        }
        caller.flush().unwrap();
        provider.flush().unwrap();
        let found = judge(&[of_caller, of_provider]).unwrap();
        let figure = |name: &str| found[name].as_u64().unwrap();
        assert_eq!((figure("calls"), figure("ok"), figure("failed")), (6, 3, 3));
        assert_eq!(
            (
                figure("duplicates"),
                figure("ok_not_executed"),
                figure("failed_and_executed")
            ),
            (2, 1, 2)
        );
        assert_eq!(found["first_duplicates"], json!(["7/2", "7/6"]));
    }
}
