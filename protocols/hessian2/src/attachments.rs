// SPDX-License-Identifier: Apache-2.0
//! Maps with string keys, entry by entry: the attachments behind the arguments of a Dubbo call.
//!
//! Not here: changing an entry (`splice.rs`).

use std::ops::Range;
use std::sync::Arc;

use crate::cursor::Cursor;
use crate::error::WalkError;
use crate::lead::Lead;
use crate::limits::{Dialect, Limits};
use crate::text::Text;
use crate::walk::{Class, Classes, Walk};

/// Where the attachments of a body stand. Borrows nothing, so it may be kept beside a shared buffer.
#[derive(Debug, Clone)]
pub struct AttachmentsRange {
    /// The whole value, lead and end marker included.
    range: Range<usize>,
    /// First key up to, and without, the end marker; empty at the start of the value if it is null.
    inside: Range<usize>,
    is_null: bool,
    dialect: Dialect,
    limits: Limits,
    /// Needed to step over values that are objects; `None` if there are none.
    classes: Option<Arc<[Class]>>,
}

impl AttachmentsRange {
    /// The whole value in the body, in bytes.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The entries in the body, without the head of the map and its end marker; empty if the value is null.
    pub fn inside(&self) -> Range<usize> {
        self.inside.clone()
    }

    /// Whether null stands in the place of the map, as some clients outside Java send it.
    pub fn is_null(&self) -> bool {
        self.is_null
    }

    /// The dialect that the body was walked in.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The entries, read again from the body that this range was located in.
    /// With another body the entries end where its bytes stop making sense.
    pub fn entries<'b>(&self, body: &'b [u8]) -> Entries<'b> {
        let classes = match &self.classes {
            Some(table) => Classes::Known(Arc::clone(table)),
            None => Classes::Growing(Vec::new()),
        };
        let body = body.get(..self.inside.end).unwrap_or_default();
        let start = self.inside.start.min(body.len());
        Entries {
            walk: Walk::resumed(body, start, self.dialect, self.limits, classes),
        }
    }
}

/// The attachments of a body: null, or a map with string keys.
#[derive(Debug, Clone)]
pub struct Attachments<'b> {
    body: &'b [u8],
    located: AttachmentsRange,
}

impl<'b> Attachments<'b> {
    /// The whole value in the body, in bytes.
    pub fn range(&self) -> Range<usize> {
        self.located.range()
    }

    /// Whether null stands in the place of the map.
    pub fn is_null(&self) -> bool {
        self.located.is_null
    }

    /// The entries in the order of the wire; none if the value is null.
    pub fn entries(&self) -> Entries<'b> {
        self.located.entries(self.body)
    }

    /// The string under `key`. When the key stands there twice the last one counts, as in `HashMap.put`.
    /// `None` if the key is absent, or its last value is no string.
    pub fn get(&self, key: &str) -> Option<Text<'b>> {
        self.entry(key)?.value
    }

    /// The last entry with this key.
    pub fn entry(&self, key: &str) -> Option<Entry<'b>> {
        self.entries().filter(|entry| entry.key == key).last()
    }

    /// The place alone, to be kept longer than the borrow of the body.
    pub fn located(&self) -> &AttachmentsRange {
        &self.located
    }
}

/// One entry of a map with string keys.
#[derive(Debug, Clone)]
pub struct Entry<'b> {
    /// The key.
    pub key: Text<'b>,
    /// The value if it is a string.
    pub value: Option<Text<'b>>,
    /// The value if it is an int or a long of any width.
    pub number: Option<i64>,
    /// Bytes of the key in the body, lead included.
    pub key_range: Range<usize>,
    /// Bytes of the value in the body, lead included.
    pub value_range: Range<usize>,
}

/// The entries of a map that was stepped over once already, so none of them can fail.
#[derive(Debug, Clone)]
pub struct Entries<'b> {
    walk: Walk<'b>,
}

impl<'b> Iterator for Entries<'b> {
    type Item = Entry<'b>;

    fn next(&mut self) -> Option<Entry<'b>> {
        if self.walk.is_at_end() {
            return None;
        }
        next_entry(&mut self.walk).ok()
    }
}

impl<'b> Walk<'b> {
    /// The next value, a map or null, as the attachments of a call; the walk then stands behind it.
    ///
    /// # Errors
    /// `Kind` if it is another value (a reference or an object, which some clients might send: pass the body on
    /// unchanged then) or a key is no string; any other [`WalkError`] from what is inside.
    pub fn attachments(&mut self) -> Result<Attachments<'b>, WalkError> {
        self.attachments_each(|_| {})
    }

    /// The same, with each entry handed to `each` on the way: one walk instead of two when every entry is looked at.
    ///
    /// # Errors
    /// As [`attachments`](Self::attachments); `each` may have seen entries by then.
    pub fn attachments_each(&mut self, mut each: impl FnMut(Entry<'b>)) -> Result<Attachments<'b>, WalkError> {
        let start = self.position();
        if self.is_null_next() {
            self.cursor.at += 1;
            return Ok(self.located(start, start..start, None));
        }
        self.step(|walk| {
            if !take_map_head(&mut walk.cursor)? {
                return Err(walk.cursor.kind(start, "a map or null"));
            }
            let first_key = walk.position();
            let mut has_objects = false;
            loop {
                let end = walk.position();
                if walk.cursor.take_end() {
                    let classes = has_objects.then(|| walk.known_classes());
                    return Ok(walk.located(start, first_key..end, classes));
                }
                let entry = next_entry(walk)?;
                has_objects |= entry.value.is_none();
                each(entry);
            }
        })
    }

    /// The next value, a map with string keys, entry by entry; the walk then stands behind the map.
    ///
    /// # Errors
    /// As [`attachments`](Self::attachments), and `Kind` for null.
    pub fn map_entries(&mut self) -> Result<Entries<'b>, WalkError> {
        self.step(|walk| {
            let start = walk.position();
            let map = walk.attachments()?;
            if map.is_null() {
                Err(walk.cursor.kind(start, "a map"))
            } else {
                Ok(map.entries())
            }
        })
    }

    fn is_null_next(&self) -> bool {
        self.peek_lead()
            .is_some_and(|lead| Lead::of(self.cursor.dialect, lead) == Lead::Null)
    }

    fn located(&self, start: usize, inside: Range<usize>, classes: Option<Arc<[Class]>>) -> Attachments<'b> {
        let is_null = inside.start == start;
        let range = start..self.position();
        let (dialect, limits) = (self.cursor.dialect, self.limits);
        Attachments {
            body: self.cursor.body,
            located: AttachmentsRange {
                range,
                inside,
                is_null,
                dialect,
                limits,
                classes,
            },
        }
    }
}

/// Opens a map: takes its head. `false` if the value is no map (nothing taken then).
fn take_map_head(cursor: &mut Cursor<'_>) -> Result<bool, WalkError> {
    let start = cursor.at;
    match cursor.lead()? {
        Lead::Map => Ok(true),
        Lead::MapTyped => {
            cursor.type_name()?;
            Ok(true)
        }
        _ => {
            cursor.at = start;
            Ok(false)
        }
    }
}

/// Steps over one key and its value.
fn next_entry<'b>(walk: &mut Walk<'b>) -> Result<Entry<'b>, WalkError> {
    let key_at = walk.position();
    let key = walk.cursor.text().map_err(|error| match error {
        WalkError::Kind { at, lead, .. } => WalkError::Kind {
            at,
            lead,
            wanted: "a string key",
        },
        error => error,
    })?;
    let value_at = walk.position();
    let value = match walk.cursor.short_ascii() {
        Some(value) => Some(value),
        None => {
            let lead = walk.cursor.lead()?;
            walk.cursor.text_after(lead)?
        }
    };
    let mut number = None;
    if value.is_none() {
        walk.cursor.at = value_at;
        number = walk.cursor.number();
        walk.skip_value()?;
    }
    Ok(Entry {
        key,
        value,
        number,
        key_range: key_at..value_at,
        value_range: value_at..walk.position(),
    })
}

impl Cursor<'_> {
    /// The value here if it is an int or a long.
    fn number(mut self) -> Option<i64> {
        let lead = self.lead().ok()?;
        match self.int_after(lead).ok()? {
            Some(int) => Some(i64::from(int)),
            None => self.long_after(lead).ok()?,
        }
    }
}
