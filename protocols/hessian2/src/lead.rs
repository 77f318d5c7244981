// SPDX-License-Identifier: Apache-2.0
//! The first byte of a value: what it says in each dialect.
//!
//! Sources: Hessian 2.0 as read by hessian-lite `Hessian2Input`; the older draft as read by sofa-hessian 3.5.5
//! `Hessian2Input`. Both are pinned down by the bytes under `testbed/golden/hessian2/`.

use crate::limits::Dialect;

/// What a lead byte announces. A number in it is what the byte itself carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lead {
    Null,
    True,
    False,
    /// Int in the lead itself.
    Int(i8),
    /// Int whose high part is in the lead, with 1 or 2 bytes to follow.
    Int1(i8),
    Int2(i8),
    Int4,
    Long(i8),
    Long1(i8),
    Long2(i8),
    Long4,
    Long8,
    DoubleZero,
    DoubleOne,
    /// Double from a signed 8 or 16 bit number.
    Double1,
    Double2,
    /// Double from a signed 32 bit number of thousandths.
    DoubleMilli,
    /// Double from a 32 bit float.
    DoubleFloat,
    Double8,
    DateMilli,
    DateMinute,
    /// String of this many UTF-16 units.
    Text(u8),
    /// String of (this << 8) + next byte units.
    TextShort(u8),
    /// String chunk with a 16 bit length; another chunk follows.
    TextChunk,
    /// Last, or only, string chunk with a 16 bit length.
    TextLast,
    Binary(u8),
    BinaryShort(u8),
    BinaryChunk,
    BinaryLast,
    /// Type, then this many values.
    ListTyped(u8),
    /// This many values.
    ListPlain(u8),
    /// Type, int length, values.
    ListTypedFixed,
    /// Int length, values.
    ListPlainFixed,
    /// Type, values, end marker.
    ListTypedOpen,
    /// Values, end marker.
    ListPlainOpen,
    Map,
    MapTyped,
    /// Class definition; the value itself follows.
    Class,
    /// Object of the class with this index.
    Object(u8),
    /// Int class index, then the fields.
    ObjectIndexed,
    /// Int index of a value.
    Ref,
    /// Index of a value in 1, 2 or 4 bytes (older draft).
    Ref1,
    Ref2,
    Ref4,
    /// Optional type, optional length, values, end marker (older draft).
    SofaList,
    /// Int type index, int length, values, no end marker (older draft).
    SofaListByType,
    /// Type, string: a stub of a remote object (older draft).
    Remote,
    /// End of a map or open list; never a value.
    End,
    Unused,
}

impl Lead {
    #[inline]
    pub(crate) fn of(dialect: Dialect, byte: u8) -> Self {
        let table = match dialect {
            Dialect::Hessian2 => &HESSIAN2,
            Dialect::Sofa => &SOFA,
        };
        table[usize::from(byte)]
    }
}

static HESSIAN2: [Lead; 256] = table(Dialect::Hessian2);
static SOFA: [Lead; 256] = table(Dialect::Sofa);

const fn table(dialect: Dialect) -> [Lead; 256] {
    let mut leads = [Lead::Unused; 256];
    let mut byte = 0u8;
    loop {
        leads[byte as usize] = match shared(byte) {
            Lead::Unused => match dialect {
                Dialect::Hessian2 => hessian2(byte),
                Dialect::Sofa => sofa(byte),
            },
            lead => lead,
        };
        if byte == 0xff {
            return leads;
        }
        byte += 1;
    }
}

/// Leads that mean the same in both dialects.
const fn shared(byte: u8) -> Lead {
    match byte {
        0x00..=0x1f => Lead::Text(byte),
        0x20..=0x2f => Lead::Binary(byte - 0x20),
        0x38..=0x3f => Lead::Long2(byte as i8 - 0x3c),
        b'B' => Lead::BinaryLast,
        b'D' => Lead::Double8,
        b'F' => Lead::False,
        b'I' => Lead::Int4,
        b'L' => Lead::Long8,
        b'N' => Lead::Null,
        b'S' => Lead::TextLast,
        b'T' => Lead::True,
        0x80..=0xbf => Lead::Int((byte as i16 - 0x90) as i8),
        0xc0..=0xcf => Lead::Int1((byte as i16 - 0xc8) as i8),
        0xd0..=0xd7 => Lead::Int2((byte as i16 - 0xd4) as i8),
        0xd8..=0xef => Lead::Long((byte as i16 - 0xe0) as i8),
        0xf0..=0xff => Lead::Long1((byte as i16 - 0xf8) as i8),
        _ => Lead::Unused,
    }
}

const fn hessian2(byte: u8) -> Lead {
    match byte {
        0x30..=0x33 => Lead::TextShort(byte - 0x30),
        0x34..=0x37 => Lead::BinaryShort(byte - 0x34),
        b'A' => Lead::BinaryChunk,
        b'C' => Lead::Class,
        b'H' => Lead::Map,
        0x4a => Lead::DateMilli,
        0x4b => Lead::DateMinute,
        b'M' => Lead::MapTyped,
        b'O' => Lead::ObjectIndexed,
        b'Q' => Lead::Ref,
        b'R' => Lead::TextChunk,
        b'U' => Lead::ListTypedOpen,
        b'V' => Lead::ListTypedFixed,
        b'W' => Lead::ListPlainOpen,
        b'X' => Lead::ListPlainFixed,
        b'Y' => Lead::Long4,
        b'Z' => Lead::End,
        0x5b => Lead::DoubleZero,
        0x5c => Lead::DoubleOne,
        0x5d => Lead::Double1,
        0x5e => Lead::Double2,
        0x5f => Lead::DoubleMilli,
        0x60..=0x6f => Lead::Object(byte - 0x60),
        0x70..=0x77 => Lead::ListTyped(byte - 0x70),
        0x78..=0x7f => Lead::ListPlain(byte - 0x78),
        _ => Lead::Unused,
    }
}

const fn sofa(byte: u8) -> Lead {
    match byte {
        0x4a => Lead::Ref1,
        0x4b => Lead::Ref2,
        b'R' => Lead::Ref4,
        b'M' => Lead::MapTyped,
        b'O' => Lead::Class,
        b'o' => Lead::ObjectIndexed,
        b'V' => Lead::SofaList,
        b'v' => Lead::SofaListByType,
        b'b' => Lead::BinaryChunk,
        b'd' => Lead::DateMilli,
        // XML is read like a string and has not been written for many years.
        b's' | b'x' => Lead::TextChunk,
        b'X' => Lead::TextLast,
        0x67 => Lead::DoubleZero,
        0x68 => Lead::DoubleOne,
        0x69 => Lead::Double1,
        0x6a => Lead::Double2,
        0x6b => Lead::DoubleFloat,
        b'r' => Lead::Remote,
        0x77 => Lead::Long4,
        b'z' => Lead::End,
        _ => Lead::Unused,
    }
}

/// Precedes a type name with a 16 bit length (older draft).
pub(crate) const SOFA_TYPE_NAME: u8 = b't';
/// Precedes an int index of a type (older draft).
pub(crate) const SOFA_TYPE_INDEX: u8 = 0x75;
/// The same, as the reader also accepts it.
pub(crate) const SOFA_TYPE_INDEX_OLD: u8 = b'T';
/// Precedes a list length in one byte (older draft).
pub(crate) const SOFA_LENGTH1: u8 = 0x6e;
/// Precedes a list length in four bytes (older draft).
pub(crate) const SOFA_LENGTH4: u8 = b'l';
