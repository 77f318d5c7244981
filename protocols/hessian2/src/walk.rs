// SPDX-License-Identifier: Apache-2.0
//! Stepping through a body value by value, without copying or building any.
//!
//! Source: Hessian 2.0 as hessian-lite reads it, the older draft as sofa-hessian 3.5.5 reads it; bytes of both under
//! `testbed/golden/hessian2/`. Not here: stepping over one value (`skip.rs`), maps entry by entry (`attachments.rs`), what values
//! mean (`value.rs`).

use std::ops::Range;
use std::sync::Arc;

use crate::cursor::Cursor;
use crate::error::WalkError;
use crate::limits::{Dialect, Limits};
use crate::text::Text;

/// A place in a body, with what must be remembered to step over the values behind it: the classes defined so far.
///
/// - A body is a sequence of values that share their class definitions, so walk it from its first byte.
/// - Linear in the bytes stepped over. Nesting is followed with a fixed stack, never by recursion.
/// - Allocates the class table only: 8 bytes for each definition, at most 48 KiB at once with default limits.
/// - After an error the walk stands where it stood before the call.
///
/// ```
/// # use remora_hessian2::Walk;
/// let mut walk = Walk::new(b"\x05hello\x91N");
/// assert_eq!(walk.string()?, "hello");
/// walk.skip()?;
/// assert_eq!(walk.string_or_null()?, None);
/// assert!(walk.is_at_end());
/// # Ok::<(), remora_hessian2::WalkError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Walk<'b> {
    pub(crate) cursor: Cursor<'b>,
    pub(crate) limits: Limits,
    pub(crate) classes: Classes,
    /// Values that may still be stepped over.
    pub(crate) items_left: usize,
}

/// Classes by index. `Known` is complete already: a definition met again is stepped over.
#[derive(Debug, Clone)]
pub(crate) enum Classes {
    Growing(Vec<Class>),
    Known(Arc<[Class]>),
}

/// A class definition: where its name stands and how many fields its objects have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Class {
    pub(crate) name_at: u32,
    pub(crate) fields: u32,
}

impl<'b> Walk<'b> {
    /// A walk from the first byte of a Dubbo body (without the 16-byte frame head), with default limits.
    pub fn new(body: &'b [u8]) -> Self {
        Self::with(body, Dialect::Hessian2, Limits::default())
    }

    /// A walk in the given dialect and limits.
    pub fn with(body: &'b [u8], dialect: Dialect, limits: Limits) -> Self {
        Self::resumed(body, 0, dialect, limits, Classes::Growing(Vec::new()))
    }

    /// A walk from byte `at`, where a value starts.
    pub(crate) fn resumed(body: &'b [u8], at: usize, dialect: Dialect, limits: Limits, classes: Classes) -> Self {
        let max_chunks = limits.max_chunks;
        let cursor = Cursor {
            body,
            at,
            dialect,
            chunks_left: max_chunks,
            max_chunks,
        };
        Self {
            cursor,
            limits,
            classes,
            items_left: limits.max_items,
        }
    }

    /// Offset of the next value, in bytes from the start of the body.
    pub fn position(&self) -> usize {
        self.cursor.at
    }

    /// Whether every byte was walked. Bytes left over after the last expected value are not an error to Java readers.
    pub fn is_at_end(&self) -> bool {
        self.cursor.left() == 0
    }

    /// First byte of the next value, or `None` at the end.
    pub fn peek_lead(&self) -> Option<u8> {
        self.cursor.peek()
    }

    /// The whole body, as given.
    pub fn body(&self) -> &'b [u8] {
        self.cursor.body
    }

    /// Names of the classes defined in what was walked so far, in order of their index.
    /// A policy may compare them with a deny list before the frame is passed on.
    pub fn class_names(&self) -> impl Iterator<Item = Text<'b>> + '_ {
        self.classes.table().iter().filter_map(|class| {
            let at = usize::try_from(class.name_at).ok()?;
            Cursor { at, ..self.cursor }.class_name().ok()
        })
    }

    /// The next value, a string.
    ///
    /// # Errors
    /// `Kind` if it is another value (null too), `EndOfBody`, `BadText`, `TooMany` chunks.
    #[inline]
    pub fn string(&mut self) -> Result<Text<'b>, WalkError> {
        let (at, chunks_left) = (self.cursor.at, self.cursor.chunks_left);
        self.cursor.text().inspect_err(|_| {
            self.cursor.at = at;
            self.cursor.chunks_left = chunks_left;
        })
    }

    /// The next value, a string or null.
    ///
    /// # Errors
    /// As [`string`](Self::string).
    #[inline]
    pub fn string_or_null(&mut self) -> Result<Option<Text<'b>>, WalkError> {
        if self.peek_lead() == Some(NULL) {
            self.cursor.at += 1;
            return Ok(None);
        }
        self.string().map(Some)
    }

    /// The next value, an int of any width.
    ///
    /// # Errors
    /// `Kind` if it is another value, `EndOfBody`.
    pub fn int(&mut self) -> Result<i32, WalkError> {
        self.step(|walk| walk.cursor.int("an int"))
    }

    /// Steps over one whole value of any kind, with all that is inside it.
    ///
    /// # Errors
    /// Any [`WalkError`] except `Kind` for the value itself.
    pub fn skip(&mut self) -> Result<(), WalkError> {
        self.step(Self::skip_value)
    }

    /// Steps over `count` values, such as the arguments of a call.
    ///
    /// # Errors
    /// As [`skip`](Self::skip); the walk then stands before the first of them.
    pub fn skip_many(&mut self, count: usize) -> Result<(), WalkError> {
        self.step(|walk| (0..count).try_for_each(|_| walk.skip_value()))
    }

    /// Steps over one value and gives the bytes it took.
    ///
    /// # Errors
    /// As [`skip`](Self::skip).
    pub fn skip_range(&mut self) -> Result<Range<usize>, WalkError> {
        let start = self.position();
        self.skip()?;
        Ok(start..self.position())
    }

    /// Runs `walk`, and on failure puts everything back.
    #[inline]
    pub(crate) fn step<T>(&mut self, walk: impl FnOnce(&mut Self) -> Result<T, WalkError>) -> Result<T, WalkError> {
        let (cursor, classes, items_left) = (self.cursor, self.classes.table().len(), self.items_left);
        let result = walk(self);
        if result.is_err() {
            self.cursor = cursor;
            self.items_left = items_left;
            if let Classes::Growing(table) = &mut self.classes {
                table.truncate(classes);
            }
        }
        result
    }

    /// The class table as it is now, to be shared by walks over parts of what was walked.
    pub(crate) fn known_classes(&self) -> Arc<[Class]> {
        match &self.classes {
            Classes::Growing(table) => table.as_slice().into(),
            Classes::Known(table) => Arc::clone(table),
        }
    }
}

impl Classes {
    pub(crate) fn table(&self) -> &[Class] {
        match self {
            Self::Growing(table) => table,
            Self::Known(table) => table,
        }
    }
}

const NULL: u8 = b'N';
