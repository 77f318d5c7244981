// SPDX-License-Identifier: Apache-2.0
//! A walk over JSONB, the binary form of fastjson2: strings are read, everything else is stepped over.
//!
//! Source: `JSONB.Constants` and `JSONReaderJSONB` of fastjson2 2.0.56, and the bytes it wrote for Dubbo 3.3.6.

use std::borrow::Cow;

/// Why a value could not be walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonbError {
    /// A count or length that the rest of the bytes cannot hold, at this offset.
    Broken(usize),
    /// A form that is legal, or may be in a later release, but is not known here.
    Unknown,
}

/// A place in one JSONB value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jsonb<'b> {
    bytes: &'b [u8],
    at: usize,
}

/// A value as far as a route can depend on it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'b> {
    Null,
    Text(Cow<'b, str>),
    Number(i64),
    Other,
}

impl<'b> Jsonb<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next value.
    pub(crate) fn item(&mut self) -> Result<Item<'b>, JsonbError> {
        let start = self.at;
        let lead = self.byte()?;
        match lead {
            NULL => return Ok(Item::Null),
            STRING_FIRST..=STRING_LAST => return self.text(lead).map(Item::Text),
            _ => {}
        }
        if let Some(number) = self.number(lead)? {
            return Ok(Item::Number(number));
        }
        self.at = start;
        self.skip(MAX_DEPTH)?;
        Ok(Item::Other)
    }

    /// Takes the head of a map, whose entries are then read by [`key`](Self::key) and [`item`](Self::item) in turn.
    /// `false` for null; `Unknown` for anything else.
    pub(crate) fn enter_map(&mut self) -> Result<bool, JsonbError> {
        match self.byte()? {
            NULL => Ok(false),
            OBJECT => Ok(true),
            TYPED => {
                self.skip_type_name()?;
                if self.byte()? == OBJECT {
                    Ok(true)
                } else {
                    Err(JsonbError::Unknown)
                }
            }
            _ => Err(JsonbError::Unknown),
        }
    }

    /// The next key of a map, `None` behind its last entry.
    pub(crate) fn key(&mut self) -> Result<Option<Cow<'b, str>>, JsonbError> {
        match self.byte()? {
            OBJECT_END => Ok(None),
            lead @ STRING_FIRST..=STRING_LAST => self.text(lead).map(Some),
            SYMBOL => {
                let lead = self.byte()?;
                if !matches!(lead, STRING_FIRST..=STRING_LAST) {
                    return Err(JsonbError::Unknown);
                }
                let name = self.text(lead)?;
                self.int()?;
                Ok(Some(name))
            }
            _ => Err(JsonbError::Unknown),
        }
    }

    /// Steps over one value. `depth` more levels may open.
    fn skip(&mut self, depth: usize) -> Result<(), JsonbError> {
        let lead = self.byte()?;
        if self.number(lead)?.is_some() {
            return Ok(());
        }
        match lead {
            NULL | 0xb0..=0xb3 => {}
            STRING_FIRST..=STRING_LAST => {
                let len = self.text_len(lead)?;
                self.take(len)?;
            }
            // Seconds, minutes, float, date: 4 bytes. Milliseconds, double: 8.
            0xac | 0xad | 0xb7 | 0xa9 => _ = self.take(4)?,
            0xab | 0xb5 => _ = self.take(8)?,
            // A char; float and double stored as int; long as decimal or big integer.
            0x90 | 0xb4 | 0xb6 | 0xb8 | 0xba => _ = self.int()?,
            // Time, date and time, the same with a zone, instant: fixed bytes, then nanoseconds.
            0xa7 => _ = self.take(3).and_then(|_| self.int())?,
            0xa8 => _ = self.take(7).and_then(|_| self.int())?,
            0xae => _ = self.take(8).and_then(|_| self.int())?,
            0xaa => {
                self.take(7)?;
                self.int()?;
                self.skip(self.deeper(depth)?)?;
            }
            // Scale, then a big integer.
            0xb9 => {
                self.int()?;
                self.skip(self.deeper(depth)?)?;
            }
            0x91 | 0xbb => {
                let len = self.len()?;
                self.take(len)?;
            }
            TYPED => {
                self.skip_type_name()?;
                self.skip(self.deeper(depth)?)?;
            }
            // A path to a value seen before.
            0x93 => self.skip(self.deeper(depth)?)?,
            0x94..=0xa3 => self.skip_array(usize::from(lead - 0x94), depth)?,
            0xa4 => {
                let count = self.len()?;
                self.skip_array(count, depth)?;
            }
            OBJECT => {
                let depth = self.deeper(depth)?;
                while self.peek()? != OBJECT_END {
                    self.skip_name(depth)?;
                    self.skip(depth)?;
                }
                self.at += 1;
            }
            _ => return Err(JsonbError::Unknown),
        }
        Ok(())
    }

    fn skip_array(&mut self, count: usize, depth: usize) -> Result<(), JsonbError> {
        let depth = self.deeper(depth)?;
        (0..count).try_for_each(|_| self.skip(depth))
    }

    fn skip_name(&mut self, depth: usize) -> Result<(), JsonbError> {
        if self.peek()? != SYMBOL {
            return self.skip(depth);
        }
        self.at += 1;
        self.skip_type_name()
    }

    /// A name with the number it is given, or the number of one given before.
    fn skip_type_name(&mut self) -> Result<(), JsonbError> {
        let lead = self.peek()?;
        if matches!(lead, STRING_FIRST..=STRING_LAST) {
            self.at += 1;
            let len = self.text_len(lead)?;
            self.take(len)?;
        }
        self.int().map(drop)
    }

    fn deeper(&self, depth: usize) -> Result<usize, JsonbError> {
        depth.checked_sub(1).ok_or(JsonbError::Unknown)
    }

    /// The string whose lead was taken.
    fn text(&mut self, lead: u8) -> Result<Cow<'b, str>, JsonbError> {
        let len = self.text_len(lead)?;
        let raw = self.take(len)?;
        let units = |unit: fn([u8; 2]) -> u16| {
            let units = raw.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
            Cow::Owned(
                char::decode_utf16(units)
                    .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                    .collect(),
            )
        };
        match lead {
            UTF8 => Ok(String::from_utf8_lossy(raw)),
            UTF16_LE => Ok(units(u16::from_le_bytes)),
            UTF16_BE => Ok(units(u16::from_be_bytes)),
            UTF16 | GB18030 => Err(JsonbError::Unknown),
            // The rest is called ASCII and may be any Latin 1.
            _ => Ok(match std::str::from_utf8(raw) {
                Ok(text) if raw.is_ascii() => Cow::Borrowed(text),
                _ => Cow::Owned(raw.iter().map(|&byte| char::from(byte)).collect()),
            }),
        }
    }

    fn text_len(&mut self, lead: u8) -> Result<usize, JsonbError> {
        match lead {
            STRING_FIRST..=SHORT_LAST => Ok(usize::from(lead - STRING_FIRST)),
            _ => self.len(),
        }
    }

    /// An int that counts things of at least one byte each.
    fn len(&mut self) -> Result<usize, JsonbError> {
        let at = self.at;
        let left = self.bytes.len() - self.at;
        usize::try_from(self.int()?)
            .ok()
            .filter(|len| *len <= left)
            .ok_or(JsonbError::Broken(at))
    }

    fn int(&mut self) -> Result<i64, JsonbError> {
        let lead = self.byte()?;
        self.number(lead)?.ok_or(JsonbError::Unknown)
    }

    /// The int or long whose lead was taken, or `None` (nothing more taken) if it is none.
    fn number(&mut self, lead: u8) -> Result<Option<i64>, JsonbError> {
        Ok(Some(match lead {
            0xf0..=0xff => i64::from(lead) - 0x100,
            0x00..=0x2f => i64::from(lead),
            0x30..=0x3f => ((i64::from(lead) - 0x38) << 8) + i64::from(self.byte()?),
            0x40..=0x47 => ((i64::from(lead) - 0x44) << 16) + i64::from(u16::from_be_bytes(self.array()?)),
            0x48 | 0xbf => i64::from(i32::from_be_bytes(self.array()?)),
            0xbc => i64::from(i16::from_be_bytes(self.array()?)),
            0xbd => i64::from(i8::from_be_bytes(self.array()?)),
            0xbe => i64::from_be_bytes(self.array()?),
            0xc0..=0xc7 => ((i64::from(lead) - 0xc4) << 16) + i64::from(u16::from_be_bytes(self.array()?)),
            0xc8..=0xd7 => ((i64::from(lead) - 0xd0) << 8) + i64::from(self.byte()?),
            0xd8..=0xef => i64::from(lead) - 0xe0,
            _ => return Ok(None),
        }))
    }

    fn peek(&self) -> Result<u8, JsonbError> {
        self.bytes.get(self.at).copied().ok_or(JsonbError::Broken(self.at))
    }

    fn byte(&mut self) -> Result<u8, JsonbError> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8], JsonbError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..len).ok_or(JsonbError::Broken(self.at))?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], JsonbError> {
        let at = self.at;
        self.take(N)?.try_into().map_err(|_| JsonbError::Broken(at))
    }
}

/// Levels that may be open inside each other; what is deeper is `Unknown`.
const MAX_DEPTH: usize = 64;

const NULL: u8 = 0xaf;
const TYPED: u8 = 0x92;
const OBJECT: u8 = 0xa6;
const OBJECT_END: u8 = 0xa5;
/// Up to 47 bytes, length in the lead.
const STRING_FIRST: u8 = 0x49;
const SHORT_LAST: u8 = 0x78;
const UTF8: u8 = 0x7a;
const UTF16: u8 = 0x7b;
const UTF16_LE: u8 = 0x7c;
const UTF16_BE: u8 = 0x7d;
const GB18030: u8 = 0x7e;
const STRING_LAST: u8 = GB18030;
const SYMBOL: u8 = 0x7f;
