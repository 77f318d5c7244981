// SPDX-License-Identifier: Apache-2.0
//! Stepping through a body value by value, without copying or building any.
//!
//! Source: Hessian 2.0 as hessian-lite reads it, the older draft as sofa-hessian 3.5.5 reads it; bytes of both under
//! `testbed/golden/hessian2/`. Not here: what values mean (`value.rs`), maps entry by entry (`attachments.rs`).

use std::ops::Range;
use std::sync::Arc;

use crate::cursor::{Cursor, TypeName};
use crate::error::WalkError;
use crate::lead::Lead;
use crate::limits::{Dialect, Limits, MAX_DEPTH};
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
    classes: Classes,
    items_left: usize,
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
    name_at: u32,
    fields: u32,
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

    /// As `skip`, but may stop half way on an error.
    pub(crate) fn skip_value(&mut self) -> Result<(), WalkError> {
        match self.open_value()? {
            None => Ok(()),
            Some(open) => self.skip_inside(open),
        }
    }

    /// Steps over what is inside a list, map or object, up to its end.
    fn skip_inside(&mut self, first: Open) -> Result<(), WalkError> {
        let mut stack = [Open::Values(0); MAX_DEPTH];
        let max = self.limits.max_depth.min(MAX_DEPTH);
        let mut depth = 0;
        let mut next = Some(first);
        loop {
            if let Some(open) = next.take() {
                let too_deep = WalkError::TooDeep {
                    at: self.cursor.at,
                    max,
                };
                *stack
                    .get_mut(..max)
                    .and_then(|places| places.get_mut(depth))
                    .ok_or(too_deep)? = open;
                depth += 1;
            }
            // Close whatever ends here.
            while let Some(top) = depth.checked_sub(1).and_then(|top| stack.get_mut(top)) {
                if !top.has_next(&mut self.cursor)? {
                    depth -= 1;
                    continue;
                }
                next = self.open_value()?;
                break;
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// Steps over a scalar, or over the head of a list, map or object, which is then open.
    #[inline]
    fn open_value(&mut self) -> Result<Option<Open>, WalkError> {
        loop {
            let at = self.cursor.at;
            let cursor = &mut self.cursor;
            let lead = cursor.lead()?;
            let spent = WalkError::TooMany {
                at,
                what: "values",
                max: self.limits.max_items,
            };
            self.items_left = self.items_left.checked_sub(1).ok_or(spent)?;
            let scalar_bytes = match lead {
                Lead::Text(_) | Lead::TextShort(_) | Lead::TextLast | Lead::TextChunk => {
                    cursor.text_after(lead)?;
                    return Ok(None);
                }
                Lead::Null | Lead::True | Lead::False | Lead::Int(_) | Lead::Long(_) => 0,
                Lead::DoubleZero | Lead::DoubleOne => 0,
                Lead::Int1(_) | Lead::Long1(_) | Lead::Double1 | Lead::Ref1 => 1,
                Lead::Int2(_) | Lead::Long2(_) | Lead::Double2 | Lead::Ref2 => 2,
                Lead::Int4 | Lead::Long4 | Lead::DoubleMilli | Lead::DoubleFloat | Lead::DateMinute | Lead::Ref4 => 4,
                Lead::Long8 | Lead::Double8 | Lead::DateMilli => 8,
                Lead::Class => {
                    self.define_class()?;
                    continue;
                }
                Lead::Unused | Lead::End => {
                    cursor.at = at;
                    return Err(WalkError::UnusedLead {
                        at,
                        lead: cursor.byte()?,
                    });
                }
                lead => return self.open_container(at, lead),
            };
            cursor.take(scalar_bytes)?;
            return Ok(None);
        }
    }

    fn open_container(&mut self, at: usize, lead: Lead) -> Result<Option<Open>, WalkError> {
        let cursor = &mut self.cursor;
        Ok(Some(match lead {
            Lead::ListTyped(len) => {
                cursor.type_name()?;
                Open::Values(to_u32(cursor.fits(at, i64::from(len))?))
            }
            Lead::ListPlain(len) => Open::Values(to_u32(cursor.fits(at, i64::from(len))?)),
            Lead::ListTypedFixed => {
                cursor.type_name()?;
                Open::Values(to_u32(cursor.count()?))
            }
            Lead::ListPlainFixed => Open::Values(to_u32(cursor.count()?)),
            Lead::ListTypedOpen => {
                cursor.type_name()?;
                Open::UntilEnd
            }
            Lead::ListPlainOpen => Open::UntilEnd,
            Lead::Map => Open::Keys,
            Lead::MapTyped => {
                cursor.type_name()?;
                Open::Keys
            }
            Lead::SofaList => {
                cursor.type_name()?;
                match cursor.sofa_length()? {
                    Some((len, _)) => Open::ValuesThenEnd(to_u32(len)),
                    None => Open::UntilEnd,
                }
            }
            Lead::SofaListByType => {
                cursor.index()?;
                Open::Values(to_u32(cursor.count()?))
            }
            Lead::Object(index) => Open::Values(self.field_count(at, u32::from(index))?),
            Lead::ObjectIndexed => {
                let index = cursor.index()?;
                Open::Values(self.field_count(at, index)?)
            }
            Lead::Ref => {
                cursor.index()?;
                return Ok(None);
            }
            Lead::Remote => {
                cursor.type_name()?;
                cursor.text()?;
                return Ok(None);
            }
            lead => {
                if let Some((len, has_more)) = cursor.binary_len(lead)? {
                    cursor.skip_binary(len, has_more)?;
                }
                return Ok(None);
            }
        }))
    }

    /// Fields of an object at byte `at`.
    fn field_count(&self, at: usize, index: u32) -> Result<u32, WalkError> {
        let table = self.classes.table();
        let class = usize::try_from(index).ok().and_then(|index| table.get(index));
        let class = class.ok_or(WalkError::UnknownClass {
            at,
            index: i64::from(index),
            defined: table.len(),
        })?;
        self.cursor.fits(at, i64::from(class.fields)).map(to_u32)
    }

    /// Takes a class definition whose lead was taken.
    fn define_class(&mut self) -> Result<(), WalkError> {
        let at = self.cursor.at;
        let name_at = u32::try_from(at).map_err(|_| WalkError::TooMany {
            at,
            what: "bytes",
            max: u32::MAX as usize,
        })?;
        self.cursor.class_name()?;
        let fields = to_u32(self.cursor.count()?);
        for _ in 0..fields {
            self.cursor.text()?;
        }
        if let Classes::Growing(table) = &mut self.classes {
            if table.len() >= self.limits.max_classes {
                return Err(WalkError::TooMany {
                    at,
                    what: "classes",
                    max: self.limits.max_classes,
                });
            }
            table.push(Class { name_at, fields });
        }
        Ok(())
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
    fn table(&self) -> &[Class] {
        match self {
            Self::Growing(table) => table,
            Self::Known(table) => table,
        }
    }
}

/// What is still to come inside an open list, map or object.
#[derive(Debug, Clone, Copy)]
enum Open {
    /// This many values.
    Values(u32),
    /// This many values, then an end marker.
    ValuesThenEnd(u32),
    /// Values up to an end marker.
    UntilEnd,
    /// Key and value pairs up to an end marker; a key or the marker is next.
    Keys,
    /// The value of a pair is next.
    PairValue,
}

impl Open {
    /// Whether another value is next. If not, the end marker (if any) was taken.
    #[inline]
    fn has_next(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, WalkError> {
        match self {
            Self::Values(0) => return Ok(false),
            Self::Values(left) => *left -= 1,
            Self::ValuesThenEnd(0) => {
                let at = cursor.at;
                return match cursor.lead()? {
                    Lead::End => Ok(false),
                    _ => Err(cursor.kind(at, "the end of a list")),
                };
            }
            Self::ValuesThenEnd(left) => *left -= 1,
            Self::UntilEnd => return Ok(!take_end(cursor)),
            Self::Keys => {
                if take_end(cursor) {
                    return Ok(false);
                }
                *self = Self::PairValue;
            }
            Self::PairValue => *self = Self::Keys,
        }
        Ok(true)
    }
}

/// Takes the end marker if it is next.
#[inline]
pub(crate) fn take_end(cursor: &mut Cursor<'_>) -> bool {
    let is_end = cursor
        .peek()
        .is_some_and(|byte| Lead::of(cursor.dialect, byte) == Lead::End);
    if is_end {
        cursor.at += 1;
    }
    is_end
}

/// Opens a map: takes its head. `false` if the value is no map (nothing taken then).
pub(crate) fn take_map_head(cursor: &mut Cursor<'_>) -> Result<bool, WalkError> {
    let start = cursor.at;
    match cursor.lead()? {
        Lead::Map => Ok(true),
        Lead::MapTyped => {
            let _: TypeName<'_> = cursor.type_name()?;
            Ok(true)
        }
        _ => {
            cursor.at = start;
            Ok(false)
        }
    }
}

/// Counts come from an int, so they fit.
fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

const NULL: u8 = b'N';
