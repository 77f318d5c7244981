// SPDX-License-Identifier: Apache-2.0
//! Strings as they stand on the wire.
//!
//! A string counts UTF-16 units. Each unit takes 1 to 3 bytes, a surrogate 3, so a character beyond U+FFFF takes two
//! units and 6 bytes (CESU-8). Readers in Java look at lead bytes only and never check the bytes that follow; so does
//! this one, lest it read another name than the application does. What it accepts beyond Java is 4-byte UTF-8, counted
//! as two units, which some writers outside Java emit. Source: hessian-lite `Hessian2Input.parseUTF8Char`.

use std::borrow::Cow;
use std::fmt;

use crate::error::WalkError;
use crate::lead::Lead;
use crate::limits::Dialect;

/// A string of a body: a view of its bytes, copied nowhere.
///
/// - Equal to a `&str` or another `Text` when the UTF-16 units are the same, however they are cut into chunks.
/// - Lone surrogates are legal. `to_utf16` gives them as they are, `as_str` gives U+FFFD in their place.
#[derive(Clone, Copy)]
pub struct Text<'b> {
    /// The lead or leads (if it stands as a value) and the characters.
    wire: &'b [u8],
    /// Bytes of `wire` before the characters; 0 if there is no lead or there are chunks.
    lead_len: u8,
    form: Form,
}

#[derive(Clone, Copy)]
enum Form {
    /// One piece, every byte below 0x80.
    Ascii,
    /// One piece of this many units.
    Piece { units: usize },
    /// Several pieces: `wire` starts with the lead of the first. The units are those of all pieces.
    Chunks { units: usize, dialect: Dialect },
    /// Not from the wire: UTF-8 of a Rust string, of this many units.
    Utf8 { units: usize },
}

impl<'b> Text<'b> {
    /// One piece with `lead_len` bytes before its characters, whose end was found by `units_end`.
    pub(crate) fn piece(wire: &'b [u8], lead_len: u8, units: usize, is_ascii: bool) -> Self {
        let form = if is_ascii { Form::Ascii } else { Form::Piece { units } };
        Self { wire, lead_len, form }
    }

    /// Several pieces with their leads, checked from first to last.
    pub(crate) fn chunked(wire: &'b [u8], units: usize, dialect: Dialect) -> Self {
        Self {
            wire,
            lead_len: 0,
            form: Form::Chunks { units, dialect },
        }
    }

    /// The bytes to write again, if they came with a lead that `dialect` knows.
    pub(crate) fn wire_in(&self, dialect: Dialect) -> Option<&'b [u8]> {
        let &lead = self.wire.first()?;
        let is_known = match self.form {
            Form::Chunks { dialect: written, .. } => written == dialect,
            _ => self.lead_len > 0 && !matches!(Lead::of(dialect, lead), Lead::Unused | Lead::TextChunk),
        };
        is_known.then_some(self.wire)
    }

    /// The characters to write again behind a head of another kind, if they came from the wire in one piece.
    pub(crate) fn wire_characters(&self) -> Option<&'b [u8]> {
        matches!(self.form, Form::Ascii | Form::Piece { .. }).then(|| self.raw())
    }

    /// Length in UTF-16 units, as `String.length()` in Java.
    pub fn units(&self) -> usize {
        match self.form {
            Form::Ascii => self.raw().len(),
            Form::Piece { units } | Form::Chunks { units, .. } | Form::Utf8 { units } => units,
        }
    }

    /// Whether the string is `""`.
    pub fn is_empty(&self) -> bool {
        self.units() == 0
    }

    /// The bytes if the string is in one piece and all ASCII: then they are also its UTF-8 form.
    pub fn as_ascii(&self) -> Option<&'b [u8]> {
        matches!(self.form, Form::Ascii).then(|| self.raw())
    }

    /// The bytes as they stand in the body: without the lead if the string is in one piece, else with all leads.
    pub fn raw(&self) -> &'b [u8] {
        self.wire.get(usize::from(self.lead_len)..).unwrap_or_default()
    }

    /// Whether [`raw`](Self::raw) includes chunk leads.
    pub fn is_chunked(&self) -> bool {
        matches!(self.form, Form::Chunks { .. })
    }

    /// The string, borrowed from the body when its bytes are valid UTF-8 in one piece (always so for ASCII).
    /// Otherwise a copy, with U+FFFD for lone surrogates and for bytes that no writer emits.
    pub fn as_str(&self) -> Cow<'b, str> {
        if !self.is_chunked()
            && let Ok(text) = std::str::from_utf8(self.raw())
        {
            return Cow::Borrowed(text);
        }
        // UTF-8 never takes more bytes than the wire does, but for broken 4-byte characters.
        let mut text = String::with_capacity(self.wire.len());
        text.extend(char::decode_utf16(self.utf16()).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)));
        Cow::Owned(text)
    }

    /// The UTF-16 units, exactly as a Java application would hold them.
    pub fn utf16(&self) -> Utf16<'b> {
        let (first, rest, dialect) = match self.form {
            Form::Chunks { dialect, .. } => (&[][..], self.wire, dialect),
            _ => (self.raw(), &[][..], Dialect::Hessian2),
        };
        Utf16 {
            piece: first,
            rest,
            dialect,
            low: None,
        }
    }

    /// [`utf16`](Self::utf16) collected.
    pub fn to_utf16(&self) -> Vec<u16> {
        self.utf16().collect()
    }
}

impl<'b> From<&'b str> for Text<'b> {
    /// A string to be encoded.
    fn from(text: &'b str) -> Self {
        let units = text.encode_utf16().count();
        let form = if text.is_ascii() {
            Form::Ascii
        } else {
            Form::Utf8 { units }
        };
        Self {
            wire: text.as_bytes(),
            lead_len: 0,
            form,
        }
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        match self.form {
            Form::Ascii | Form::Utf8 { .. } => self.raw() == other.as_bytes(),
            // Equal bytes decode to equal units.
            Form::Piece { .. } if self.raw() == other.as_bytes() => true,
            Form::Piece { units } | Form::Chunks { units, .. } => {
                // A unit takes 1 to 3 bytes of UTF-8: unequal lengths are seen without decoding.
                other.len() >= units && other.len() / 3 <= units && self.utf16().eq(other.encode_utf16())
            }
        }
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self.form, other.form) {
            (Form::Ascii, Form::Ascii) => self.raw() == other.raw(),
            _ => self.units() == other.units() && self.utf16().eq(other.utf16()),
        }
    }
}

impl Eq for Text<'_> {}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_str(), f)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_str())
    }
}

/// The UTF-16 units of a [`Text`].
#[derive(Debug, Clone)]
pub struct Utf16<'b> {
    /// Rest of the piece being read, without its lead.
    piece: &'b [u8],
    /// The pieces after it, with their leads.
    rest: &'b [u8],
    dialect: Dialect,
    /// Second half of a 4-byte character.
    low: Option<u16>,
}

impl Utf16<'_> {
    /// Moves on to the next chunk. Its bytes were checked when the text was made, so a miss means the end.
    fn next_piece(&mut self) -> Option<()> {
        let (&lead, after) = self.rest.split_first()?;
        let (units, data) = match Lead::of(self.dialect, lead) {
            Lead::Text(units) => (usize::from(units), after),
            Lead::TextShort(high) => {
                let (&low, data) = after.split_first()?;
                ((usize::from(high) << 8) + usize::from(low), data)
            }
            _ => {
                let (len, data) = after.split_first_chunk::<2>()?;
                (usize::from(u16::from_be_bytes(*len)), data)
            }
        };
        let (end, _) = units_end(data, 0, units).ok()?;
        (self.piece, self.rest) = data.split_at_checked(end)?;
        Some(())
    }
}

impl Iterator for Utf16<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if let Some(low) = self.low.take() {
            return Some(low);
        }
        while self.piece.is_empty() {
            self.next_piece()?;
        }
        let (&lead, after) = self.piece.split_first()?;
        let len = bytes_of(lead)?;
        let (tail, rest) = after.split_at_checked(len - 1)?;
        self.piece = rest;
        let bits = tail
            .iter()
            .fold(0u32, |bits, byte| (bits << 6) + u32::from(byte & 0x3f));
        Some(match *tail {
            [] => u16::from(lead),
            [_] => (u16::from(lead & 0x1f) << 6) + bits as u16,
            [_, _] => (u16::from(lead & 0x0f) << 12) + bits as u16,
            _ => {
                let code = (u32::from(lead & 0x07) << 18) + bits;
                let (high, low) = surrogates(code);
                self.low = Some(low);
                high
            }
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let bytes = self.piece.len() + self.rest.len();
        (self.piece.len() / 3, Some(bytes + 1))
    }
}

/// The two units of a character beyond U+FFFF; two replacement characters for a code that is none.
fn surrogates(code: u32) -> (u16, u16) {
    match code {
        0x1_0000..=0x10_ffff => {
            let code = code - 0x1_0000;
            (0xd800 + (code >> 10) as u16, 0xdc00 + (code & 0x3ff) as u16)
        }
        _ => (0xfffd, 0xfffd),
    }
}

/// Bytes of the character that starts with `lead`, or `None` if none does.
#[inline]
fn bytes_of(lead: u8) -> Option<usize> {
    match lead {
        0x00..=0x7f => Some(1),
        0xc0..=0xdf => Some(2),
        0xe0..=0xef => Some(3),
        0xf0..=0xf4 => Some(4),
        _ => None,
    }
}

/// Finds the end of `units` UTF-16 units that start at byte `at` of `body`; also says whether all bytes are ASCII.
///
/// Looks at 8 bytes at a time while they are ASCII.
///
/// # Errors
/// `EndOfBody`, `BadText`; the latter also for a 4-byte character of which only one unit is counted.
#[inline]
pub(crate) fn units_end(body: &[u8], at: usize, units: usize) -> Result<(usize, bool), WalkError> {
    if let Some(bytes) = at.checked_add(units).and_then(|end| body.get(at..end))
        && is_ascii(bytes)
    {
        return Ok((at + units, true));
    }
    mixed_end(body, at, units).map(|end| (end, false))
}

/// As `bytes.is_ascii()`, which looks at each byte of a short string; and most names are short.
#[inline]
pub(crate) fn is_ascii(bytes: &[u8]) -> bool {
    let word = |eight: &[u8; 8]| u64::from_ne_bytes(*eight);
    match (
        bytes.len(),
        bytes.first_chunk::<4>(),
        bytes.last_chunk::<4>(),
        bytes.last_chunk::<8>(),
    ) {
        (65.., ..) => bytes.is_ascii(),
        // The last word overlaps the one before it.
        (_, _, _, Some(last)) => {
            let (words, _) = bytes.as_chunks::<8>();
            words.iter().fold(word(last), |all, eight| all | word(eight)) & HIGH_BITS == 0
        }
        (_, Some(first), Some(last), None) => {
            (u32::from_ne_bytes(*first) | u32::from_ne_bytes(*last)) & 0x8080_8080 == 0
        }
        _ => bytes.iter().fold(0, |all, byte| all | byte) < 0x80,
    }
}

/// The same for text that has other characters in it.
#[inline(never)]
fn mixed_end(body: &[u8], start: usize, units: usize) -> Result<usize, WalkError> {
    let mut rest = body.get(start..).unwrap_or_default();
    let mut left = units;
    while left > 0 {
        if left >= 8
            && let Some((eight, after)) = rest.split_first_chunk::<8>()
            && u64::from_ne_bytes(*eight) & HIGH_BITS == 0
        {
            rest = after;
            left -= 8;
            continue;
        }
        let at = body.len() - rest.len();
        let Some(&lead) = rest.first() else {
            return Err(WalkError::EndOfBody { at, wanted: left });
        };
        let (len, counted) = match lead {
            0x00..=0x7f => (1, 1),
            0xc0..=0xdf => (2, 1),
            0xe0..=0xef => (3, 1),
            0xf0..=0xf4 if left > 1 => (4, 2),
            _ => return Err(WalkError::BadText { at, byte: lead }),
        };
        left -= counted;
        let Some(after) = rest.get(len..) else {
            return Err(WalkError::EndOfBody {
                at: body.len(),
                wanted: len - rest.len(),
            });
        };
        rest = after;
    }
    Ok(body.len() - rest.len())
}

const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
