// SPDX-License-Identifier: Apache-2.0
//! A place in a body and the steps from it: bytes, numbers, text, type names.
//!
//! Every step checks the length first and leaves the cursor where it was when it fails half way only if it says so;
//! the callers restore their place themselves.

use crate::error::WalkError;
use crate::lead::{Lead, SOFA_LENGTH1, SOFA_LENGTH4, SOFA_TYPE_INDEX, SOFA_TYPE_INDEX_OLD, SOFA_TYPE_NAME};
use crate::limits::Dialect;
use crate::text::{Text, is_ascii, units_end};

/// A place in a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'b> {
    pub(crate) body: &'b [u8],
    /// Never above `body.len()`.
    pub(crate) at: usize,
    pub(crate) dialect: Dialect,
    /// Chunks that may still be stepped over.
    pub(crate) chunks_left: usize,
    pub(crate) max_chunks: usize,
}

impl<'b> Cursor<'b> {
    #[inline]
    pub(crate) fn left(&self) -> usize {
        self.body.len().saturating_sub(self.at)
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, WalkError> {
        let byte = self.peek().ok_or(WalkError::EndOfBody { at: self.at, wanted: 1 })?;
        self.at += 1;
        Ok(byte)
    }

    /// The lead byte here, and what it means; the cursor moves behind it.
    #[inline]
    pub(crate) fn lead(&mut self) -> Result<Lead, WalkError> {
        Ok(Lead::of(self.dialect, self.byte()?))
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'b [u8], WalkError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.body.len());
        let bytes = end.and_then(|end| self.body.get(self.at..end));
        let bytes = bytes.ok_or(WalkError::EndOfBody {
            at: self.body.len(),
            wanted: len - self.left().min(len),
        })?;
        self.at += len;
        Ok(bytes)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WalkError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("take gave N bytes"))
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<usize, WalkError> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    /// The value of an int, from its lead on: any int form, or a long in 4 bytes as Java accepts it.
    pub(crate) fn int(&mut self, wanted: &'static str) -> Result<i32, WalkError> {
        let at = self.at;
        match self.lead()? {
            Lead::Long4 => Ok(i32::from_be_bytes(self.array()?)),
            lead => match self.int_after(lead)? {
                Some(int) => Ok(int),
                None => Err(self.kind(at, wanted)),
            },
        }
    }

    /// The value of an int whose lead was taken, or `None` if it is no int.
    #[inline]
    pub(crate) fn int_after(&mut self, lead: Lead) -> Result<Option<i32>, WalkError> {
        Ok(Some(match lead {
            Lead::Int(value) => i32::from(value),
            Lead::Int1(high) => (i32::from(high) << 8) + i32::from(self.byte()?),
            Lead::Int2(high) => (i32::from(high) << 16) + i32::from(u16::from_be_bytes(self.array()?)),
            Lead::Int4 => i32::from_be_bytes(self.array()?),
            _ => return Ok(None),
        }))
    }

    /// The value of a long whose lead was taken, or `None` if it is no long.
    pub(crate) fn long_after(&mut self, lead: Lead) -> Result<Option<i64>, WalkError> {
        Ok(Some(match lead {
            Lead::Long(value) => i64::from(value),
            Lead::Long1(high) => (i64::from(high) << 8) + i64::from(self.byte()?),
            Lead::Long2(high) => (i64::from(high) << 16) + i64::from(u16::from_be_bytes(self.array()?)),
            Lead::Long4 => i64::from(i32::from_be_bytes(self.array()?)),
            Lead::Long8 => i64::from_be_bytes(self.array()?),
            _ => return Ok(None),
        }))
    }

    /// An int that counts things of at least one byte each.
    pub(crate) fn count(&mut self) -> Result<usize, WalkError> {
        let at = self.at;
        let count = self.int("an int")?;
        self.fits(at, i64::from(count))
    }

    /// Checks a count that stood at byte `at` against the bytes that are left.
    #[inline]
    pub(crate) fn fits(&self, at: usize, count: i64) -> Result<usize, WalkError> {
        let left = self.left();
        match usize::try_from(count) {
            Ok(count) if count <= left => Ok(count),
            _ => Err(WalkError::BadCount { at, count, left }),
        }
    }

    /// An index into a table, not negative.
    pub(crate) fn index(&mut self) -> Result<u32, WalkError> {
        let at = self.at;
        let index = self.int("an index")?;
        u32::try_from(index).map_err(|_| WalkError::BadCount {
            at,
            count: i64::from(index),
            left: self.left(),
        })
    }

    /// A string from its lead on.
    #[inline]
    pub(crate) fn text(&mut self) -> Result<Text<'b>, WalkError> {
        match self.short_ascii() {
            Some(text) => Ok(text),
            None => self.any_text(),
        }
    }

    /// A string of up to 31 characters, all ASCII, which nearly all strings are that a route is read from. Nothing is
    /// taken if it is another one.
    #[inline]
    pub(crate) fn short_ascii(&mut self) -> Option<Text<'b>> {
        let rest = self.body.get(self.at..)?;
        let lead = *rest.first().filter(|lead| **lead < 0x20)?;
        let wire = rest.get(..=usize::from(lead)).filter(|wire| is_ascii(wire))?;
        self.at += wire.len();
        Some(Text::piece(wire, 1, usize::from(lead), true))
    }

    #[inline(never)]
    fn any_text(&mut self) -> Result<Text<'b>, WalkError> {
        let at = self.at;
        let lead = self.lead()?;
        match self.text_after(lead)? {
            Some(text) => Ok(text),
            None => Err(self.kind(at, "a string")),
        }
    }

    /// A string whose lead was just taken, or `None` (nothing taken) if the lead starts no string.
    #[inline]
    pub(crate) fn text_after(&mut self, lead: Lead) -> Result<Option<Text<'b>>, WalkError> {
        let (lead_len, units) = match lead {
            Lead::Text(units) => (1, usize::from(units)),
            Lead::TextShort(high) => (2, (usize::from(high) << 8) + usize::from(self.byte()?)),
            Lead::TextLast => (3, self.u16()?),
            Lead::TextChunk => return self.chunked_text().map(Some),
            _ => return Ok(None),
        };
        self.piece(lead_len, units).map(Some)
    }

    /// One piece of text: `lead_len` bytes that were taken already, then `units` UTF-16 units.
    #[inline]
    pub(crate) fn piece(&mut self, lead_len: u8, units: usize) -> Result<Text<'b>, WalkError> {
        let start = self.at.saturating_sub(usize::from(lead_len));
        let (end, is_ascii) = units_end(self.body, self.at, units)?;
        self.at = end;
        Ok(Text::piece(
            self.body.get(start..end).unwrap_or_default(),
            lead_len,
            units,
            is_ascii,
        ))
    }

    fn chunked_text(&mut self) -> Result<Text<'b>, WalkError> {
        let start = self.at - 1;
        let mut units = 0usize;
        let mut is_last = false;
        let mut chunk = self.u16()?;
        loop {
            let (end, _) = units_end(self.body, self.at, chunk)?;
            self.at = end;
            units += chunk;
            if is_last {
                let raw = self.body.get(start..end).unwrap_or_default();
                return Ok(Text::chunked(raw, units, self.dialect));
            }
            self.spend_chunk()?;
            let at = self.at;
            let lead = self.lead()?;
            is_last = lead != Lead::TextChunk;
            chunk = match lead {
                Lead::Text(units) => usize::from(units),
                Lead::TextShort(high) => (usize::from(high) << 8) + usize::from(self.byte()?),
                Lead::TextLast | Lead::TextChunk => self.u16()?,
                _ => return Err(self.kind(at, "a string chunk")),
            };
        }
    }

    /// The byte count of one binary piece whose lead was taken; and whether another chunk follows.
    pub(crate) fn binary_len(&mut self, lead: Lead) -> Result<Option<(usize, bool)>, WalkError> {
        Ok(Some(match lead {
            Lead::Binary(len) => (usize::from(len), false),
            Lead::BinaryShort(high) => ((usize::from(high) << 8) + usize::from(self.byte()?), false),
            Lead::BinaryLast => (self.u16()?, false),
            Lead::BinaryChunk => (self.u16()?, true),
            _ => return Ok(None),
        }))
    }

    /// Steps over the bytes of a binary whose first piece has `len` bytes.
    pub(crate) fn skip_binary(&mut self, mut len: usize, mut has_more: bool) -> Result<(), WalkError> {
        loop {
            self.take(len)?;
            if !has_more {
                return Ok(());
            }
            self.spend_chunk()?;
            let at = self.at;
            let lead = self.lead()?;
            (len, has_more) = match self.binary_len(lead)? {
                Some(next) => next,
                None => return Err(self.kind(at, "a binary chunk")),
            };
        }
    }

    pub(crate) fn spend_chunk(&mut self) -> Result<(), WalkError> {
        let spent = WalkError::TooMany {
            at: self.at,
            what: "chunks",
            max: self.max_chunks,
        };
        self.chunks_left = self.chunks_left.checked_sub(1).ok_or(spent)?;
        Ok(())
    }

    /// What stands where a type may: its name, its index, or nothing (older draft only).
    pub(crate) fn type_name(&mut self) -> Result<TypeName<'b>, WalkError> {
        match self.dialect {
            Dialect::Hessian2 => {
                let lead = self.lead()?;
                if let Some(name) = self.text_after(lead)? {
                    return Ok(TypeName::Name(name));
                }
                self.at -= 1;
                Ok(TypeName::Index(self.index()?))
            }
            Dialect::Sofa => match self.peek() {
                Some(SOFA_TYPE_NAME) => {
                    self.at += 1;
                    let units = self.u16()?;
                    Ok(TypeName::Name(self.piece(0, units)?))
                }
                Some(lead @ (SOFA_TYPE_INDEX | SOFA_TYPE_INDEX_OLD)) => {
                    self.at += 1;
                    let index = self.index()?;
                    Ok(if lead == SOFA_TYPE_INDEX {
                        TypeName::Index(index)
                    } else {
                        TypeName::OldIndex(index)
                    })
                }
                Some(_) => Ok(TypeName::Absent),
                None => Err(WalkError::EndOfBody { at: self.at, wanted: 1 }),
            },
        }
    }

    /// The length of a list in the older draft, or `None` if it is not given.
    pub(crate) fn sofa_length(&mut self) -> Result<Option<(usize, u8)>, WalkError> {
        let at = self.at;
        let (lead, count) = match self.peek() {
            Some(SOFA_LENGTH1) => {
                self.at += 1;
                (SOFA_LENGTH1, i64::from(self.byte()?))
            }
            Some(SOFA_LENGTH4) => {
                self.at += 1;
                (SOFA_LENGTH4, i64::from(i32::from_be_bytes(self.array()?)))
            }
            _ => return Ok(None),
        };
        Ok(Some((self.fits(at, count)?, lead)))
    }

    /// The name of a class being defined, whose lead was taken.
    pub(crate) fn class_name(&mut self) -> Result<Text<'b>, WalkError> {
        match self.dialect {
            Dialect::Hessian2 => self.text(),
            Dialect::Sofa => {
                let units = self.count()?;
                self.piece(0, units)
            }
        }
    }

    /// Takes the end marker if it is next.
    #[inline]
    pub(crate) fn take_end(&mut self) -> bool {
        let is_end = self
            .peek()
            .is_some_and(|byte| Lead::of(self.dialect, byte) == Lead::End);
        if is_end {
            self.at += 1;
        }
        is_end
    }

    /// The error for a value at `at` that is not what was wanted.
    pub(crate) fn kind(&self, at: usize, wanted: &'static str) -> WalkError {
        match self.body.get(at) {
            Some(&lead) => WalkError::Kind { at, wanted, lead },
            None => WalkError::EndOfBody { at, wanted: 1 },
        }
    }
}

/// What stands in the place of a type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TypeName<'b> {
    /// The name, which enters the table of types here.
    Name(Text<'b>),
    Index(u32),
    /// An index behind the alternative lead of the older draft.
    OldIndex(u32),
    Absent,
}
