// SPDX-License-Identifier: Apache-2.0
//! Writing a body value by value, with the choices that Java makes.
//!
//! Source: `Hessian2Output` of hessian-lite and of sofa-hessian 3.5.5.
//! Not here: writing decoded values back (`encode_body.rs`).

use crate::limits::Dialect;
use crate::scalar::{Binary, Date, Double, Width};
use crate::text::Text;

/// Writes a body: scalars in their shortest form, strings as CESU-8 in chunks, classes defined on first use.
///
/// - Lists, maps and objects are begun, filled with exactly what was announced, and closed with [`end`](Self::end).
/// - `list_begin`, `list_begin_open`, `map_begin` and `object_begin` give the index by which
///   [`reference`](Self::reference) can name the value later.
/// - The wire cannot express counts of more than `i32::MAX`, nor type names of more than 65535 units in the older draft;
///   neither may be asked for.
///
/// ```
/// # use remora_hessian2::Encoder;
/// let mut encoder = Encoder::default();
/// encoder.int(5);
/// encoder.map_begin(None);
/// encoder.string("dubbo").string("2.0.2");
/// encoder.end();
/// assert_eq!(encoder.finish(), b"\x95H\x05dubbo\x052.0.2Z");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Encoder {
    pub(crate) out: Vec<u8>,
    pub(crate) dialect: Dialect,
    classes: Vec<String>,
    types: Vec<String>,
    refs: u32,
    /// For each value begun and not ended: its end marker, if it has one.
    open: Vec<Option<u8>>,
}

impl Encoder {
    /// An empty body. `Encoder::default()` is one in Dubbo's dialect.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            ..Self::default()
        }
    }

    /// The bytes written. Whatever is still open stays open.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Null.
    pub fn null(&mut self) -> &mut Self {
        self.byte(b'N')
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.byte(if value { b'T' } else { b'F' })
    }

    /// An int, for a Java byte, short or int.
    pub fn int(&mut self, value: i32) -> &mut Self {
        self.int_in(value, Width::of_int(value))
    }

    /// A long.
    pub fn long(&mut self, value: i64) -> &mut Self {
        self.long_in(value, Width::of_long(value))
    }

    /// A double, for a Java float or double. The sign of a negative zero is lost, as in Java.
    pub fn double(&mut self, value: f64) -> &mut Self {
        self.double_in(Double::shortest(value, self.dialect))
    }

    /// A `java.util.Date`, in milliseconds since the epoch, UTC.
    pub fn date(&mut self, millis: i64) -> &mut Self {
        self.date_in(Date::shortest(millis, self.dialect))
    }

    /// A string.
    pub fn string(&mut self, value: &str) -> &mut Self {
        if value.is_ascii() {
            self.ascii(value.as_bytes())
        } else {
            self.utf16(value.encode_utf16())
        }
    }

    /// A string of UTF-16 units, as a Java application holds it; lone surrogates are kept.
    pub fn string_utf16(&mut self, units: &[u16]) -> &mut Self {
        self.utf16(units.iter().copied())
    }

    /// A string that was read: its own bytes if this dialect can hold them.
    pub fn text(&mut self, text: &Text<'_>) -> &mut Self {
        if let Some(wire) = text.wire_in(self.dialect) {
            self.bytes(wire)
        } else if let Some(ascii) = text.as_ascii() {
            self.ascii(ascii)
        } else {
            self.utf16(text.utf16())
        }
    }

    /// A `byte[]`, in chunks of 8189 bytes (what fits into Java's buffer with the lead), or 32768 in the older draft.
    /// hessian-lite 4.0 cuts the first chunk shorter when something was written before it, and 3.2 cuts at 4093;
    /// readers do not care.
    pub fn binary(&mut self, value: &[u8]) -> &mut Self {
        let (chunk_len, chunk_lead) = match self.dialect {
            Dialect::Hessian2 => (8189, b'A'),
            Dialect::Sofa => (0x8000, b'b'),
        };
        let mut rest = value;
        while let Some((chunk, after)) = rest.split_at_checked(chunk_len).filter(|(_, after)| !after.is_empty()) {
            self.byte(chunk_lead).length16(chunk.len()).bytes(chunk);
            rest = after;
        }
        match (rest.len(), self.dialect) {
            (len @ 0..=0xf, _) => self.byte(0x20 + low8(len)),
            (len @ 0..=0x3ff, Dialect::Hessian2) => self.byte(0x34 + low8(len >> 8)).byte(low8(len)),
            (len, _) => self.byte(b'B').length16(len),
        };
        self.bytes(rest)
    }

    /// Bytes that were read: as they were cut, if in this dialect.
    pub(crate) fn binary_again(&mut self, binary: &Binary<'_>) -> &mut Self {
        match binary.wire_in(self.dialect) {
            Some(wire) => self.bytes(wire),
            None => self.binary(&binary.as_bytes()),
        }
    }

    /// The list, map or object with this index again.
    pub fn reference(&mut self, index: u32) -> &mut Self {
        self.reference_in(index, Width::of_ref(index, self.dialect))
    }

    /// Begins a list of `len` items; `type_name` is `None` for `java.util.ArrayList`. Gives its index.
    pub fn list_begin(&mut self, type_name: Option<&str>, len: usize) -> u32 {
        let mut end = None;
        match (self.dialect, type_name.map(|name| (name, self.known_type(name)))) {
            (Dialect::Hessian2, type_name) => {
                let base = if type_name.is_some() {
                    (0x70, b'V')
                } else {
                    (0x78, b'X')
                };
                self.byte(if len <= 7 { base.0 + low8(len) } else { base.1 });
                if let Some((name, known)) = type_name {
                    self.type_name(name, known);
                }
                if len > 7 {
                    self.count(len);
                }
            }
            (Dialect::Sofa, Some((_, Some(index)))) => {
                self.byte(b'v').count(index).count(len);
            }
            (Dialect::Sofa, type_name) => {
                self.byte(b'V');
                if let Some((name, known)) = type_name {
                    self.type_name(name, known);
                }
                self.sofa_length(len);
                end = Some(b'z');
            }
        }
        self.opened(end)
    }

    /// Begins a list whose length is not known yet. Gives its index.
    pub fn list_begin_open(&mut self, type_name: Option<&str>) -> u32 {
        self.byte(match (self.dialect, type_name) {
            (Dialect::Hessian2, Some(_)) => b'U',
            (Dialect::Hessian2, None) => b'W',
            (Dialect::Sofa, _) => b'V',
        });
        if let Some(name) = type_name {
            let known = self.known_type(name);
            self.type_name(name, known);
        }
        self.opened(Some(self.end_marker()))
    }

    /// Begins a map, to be filled with a key, its value, and so on; `type_name` is `None` for `java.util.HashMap`.
    /// Gives its index.
    pub fn map_begin(&mut self, type_name: Option<&str>) -> u32 {
        match (self.dialect, type_name) {
            (Dialect::Hessian2, None) => self.byte(b'H'),
            _ => self.byte(b'M'),
        };
        if let Some(name) = type_name {
            let known = self.known_type(name);
            self.type_name(name, known);
        }
        self.opened(Some(self.end_marker()))
    }

    /// Begins an object, to be filled with one value for each of `fields`. Gives its index.
    ///
    /// The class is defined when its name comes first; the fields of later calls are then taken to be the same.
    pub fn object_begin(&mut self, class_name: &str, fields: &[&str]) -> u32 {
        let known = self.classes.iter().position(|name| name == class_name);
        let class = known.unwrap_or_else(|| {
            self.define(&class_name.into(), fields.iter().map(|&field| Text::from(field)));
            self.classes.push(class_name.to_owned());
            self.classes.len() - 1
        });
        self.object_head(class, self.dialect == Dialect::Sofa || class > 0xf);
        self.opened(None)
    }

    /// Closes the list, map or object that was begun last.
    pub fn end(&mut self) -> &mut Self {
        match self.open.pop().flatten() {
            Some(marker) => self.byte(marker),
            None => self,
        }
    }

    fn opened(&mut self, end: Option<u8>) -> u32 {
        self.open.push(end);
        let index = self.refs;
        self.refs = self.refs.saturating_add(1);
        index
    }

    fn known_type(&self, name: &str) -> Option<usize> {
        self.types.iter().position(|known| known == name)
    }

    /// Writes a type that has the index `known`, or defines it.
    fn type_name(&mut self, name: &str, known: Option<usize>) {
        match known {
            Some(index) => self.type_index(index),
            None => {
                self.type_definition(&name.into());
                self.types.push(name.to_owned());
            }
        }
    }

    fn ascii(&mut self, mut rest: &[u8]) -> &mut Self {
        while let Some((chunk, after)) = rest.split_at_checked(MAX_CHUNK).filter(|(_, after)| !after.is_empty()) {
            self.text_chunk_lead(chunk.len()).bytes(chunk);
            rest = after;
        }
        self.text_lead(rest.len()).bytes(rest)
    }

    fn utf16(&mut self, units: impl Iterator<Item = u16>) -> &mut Self {
        let mut units = units.peekable();
        let mut chunk = Vec::with_capacity(units.size_hint().0.min(MAX_CHUNK + 1));
        loop {
            chunk.extend(units.by_ref().take(MAX_CHUNK - chunk.len()));
            if units.peek().is_none() {
                self.text_lead(chunk.len());
                chunk.iter().for_each(|unit| self.unit(*unit));
                return self;
            }
            // A high surrogate moves to the next chunk, with the other half behind it or not.
            let moved = chunk.pop_if(|last| (0xd800..0xdc00).contains(last));
            self.text_chunk_lead(chunk.len());
            chunk.drain(..).for_each(|unit| self.unit(unit));
            chunk.extend(moved);
        }
    }

    fn text_chunk_lead(&mut self, units: usize) -> &mut Self {
        let lead = match self.dialect {
            Dialect::Hessian2 => b'R',
            Dialect::Sofa => b's',
        };
        self.byte(lead).length16(units)
    }

    fn text_lead(&mut self, units: usize) -> &mut Self {
        match (units, self.dialect) {
            (0..=0x1f, _) => self.byte(low8(units)),
            (0..=0x3ff, Dialect::Hessian2) => self.byte(0x30 + low8(units >> 8)).byte(low8(units)),
            _ => self.byte(b'S').length16(units),
        }
    }

    /// One UTF-16 unit in 1 to 3 bytes.
    pub(crate) fn unit(&mut self, unit: u16) {
        let tail = |shift: u16| 0x80 | low8(usize::from(unit >> shift & 0x3f));
        match unit {
            0..0x80 => self.byte(low8(usize::from(unit))),
            0x80..0x800 => self.byte(0xc0 | low8(usize::from(unit >> 6))).byte(tail(0)),
            _ => self
                .byte(0xe0 | low8(usize::from(unit >> 12)))
                .byte(tail(6))
                .byte(tail(0)),
        };
    }
}

/// Most UTF-16 units in one chunk.
const MAX_CHUNK: usize = 0x8000;

/// The low 8 bits.
pub(crate) fn low8(value: usize) -> u8 {
    value.to_le_bytes()[0]
}
