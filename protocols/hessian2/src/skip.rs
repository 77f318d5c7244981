// SPDX-License-Identifier: Apache-2.0
//! Stepping over one value of any kind, with a fixed stack in the place of recursion.

use crate::cursor::Cursor;
use crate::error::WalkError;
use crate::lead::Lead;
use crate::limits::MAX_DEPTH;
use crate::walk::{Class, Classes, Walk};

impl Walk<'_> {
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
            let Some(items_left) = self.items_left.checked_sub(1) else {
                return Err(WalkError::TooMany {
                    at,
                    what: "values",
                    max: self.limits.max_items,
                });
            };
            self.items_left = items_left;
            let cursor = &mut self.cursor;
            if cursor.short_ascii().is_some() {
                return Ok(None);
            }
            let lead = cursor.lead()?;
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
            Self::UntilEnd => return Ok(!cursor.take_end()),
            Self::Keys => {
                if cursor.take_end() {
                    return Ok(false);
                }
                *self = Self::PairValue;
            }
            Self::PairValue => *self = Self::Keys,
        }
        Ok(true)
    }
}

/// Counts come from an int, so they fit.
fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
