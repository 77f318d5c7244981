// SPDX-License-Identifier: Apache-2.0
//! Scalars that the wire can write in several ways, and which of them Java chooses.
//!
//! Source: `Hessian2Output` of hessian-lite and of sofa-hessian 3.5.5.

use std::borrow::Cow;

use crate::lead::Lead;
use crate::limits::Dialect;

/// Bytes that follow the lead of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// None: the lead carries the number.
    Zero,
    /// One.
    One,
    /// Two.
    Two,
    /// Four.
    Four,
    /// Eight.
    Eight,
}

impl Width {
    /// The fewest bytes for an int.
    pub fn of_int(value: i32) -> Self {
        match value {
            -0x10..=0x2f => Self::Zero,
            -0x800..=0x7ff => Self::One,
            -0x4_0000..=0x3_ffff => Self::Two,
            _ => Self::Four,
        }
    }

    /// The fewest bytes for a long.
    pub fn of_long(value: i64) -> Self {
        match value {
            -0x8..=0xf => Self::Zero,
            -0x800..=0x7ff => Self::One,
            -0x4_0000..=0x3_ffff => Self::Two,
            -0x8000_0000..=0x7fff_ffff => Self::Four,
            _ => Self::Eight,
        }
    }

    /// The bytes that Java takes for a reference in the older draft. In Hessian 2.0 a reference is an int.
    pub fn of_ref(index: u32, dialect: Dialect) -> Self {
        match (dialect, index) {
            (Dialect::Hessian2, _) => Self::of_int(i32::try_from(index).unwrap_or(i32::MAX)),
            (Dialect::Sofa, ..0x100) => Self::One,
            (Dialect::Sofa, ..0x1_0000) => Self::Two,
            (Dialect::Sofa, _) => Self::Four,
        }
    }
}

/// A double as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Double {
    /// 0.0 in the lead.
    Zero,
    /// 1.0 in the lead.
    One,
    /// A whole number in one byte.
    Byte(i8),
    /// A whole number in two bytes.
    Short(i16),
    /// Thousandths in four bytes (Hessian 2.0).
    Milli(i32),
    /// The bits of a float (older draft).
    Float(u32),
    /// The bits of a double.
    Full(u64),
}

impl Double {
    /// The form that Java writes. A negative zero loses its sign there, and so it does here.
    pub fn shortest(value: f64, dialect: Dialect) -> Self {
        // Casts from float saturate in Java as they do here.
        let whole = value as i32;
        if f64::from(whole) == value {
            match whole {
                0 => return Self::Zero,
                1 => return Self::One,
                _ => {}
            }
            if let Ok(byte) = i8::try_from(whole) {
                return Self::Byte(byte);
            }
            if let Ok(short) = i16::try_from(whole) {
                return Self::Short(short);
            }
        }
        match dialect {
            Dialect::Hessian2 => {
                let thousandths = (value * 1000.0) as i32;
                if 0.001 * f64::from(thousandths) == value {
                    return Self::Milli(thousandths);
                }
            }
            Dialect::Sofa => {
                let float = value as f32;
                if f64::from(float) == value {
                    return Self::Float(float.to_bits());
                }
            }
        }
        // Java writes one NaN only.
        Self::Full(if value.is_nan() { JAVA_NAN } else { value.to_bits() })
    }

    /// The number.
    pub fn value(self) -> f64 {
        match self {
            Self::Zero => 0.0,
            Self::One => 1.0,
            Self::Byte(value) => f64::from(value),
            Self::Short(value) => f64::from(value),
            Self::Milli(thousandths) => 0.001 * f64::from(thousandths),
            Self::Float(bits) => f64::from(f32::from_bits(bits)),
            Self::Full(bits) => f64::from_bits(bits),
        }
    }
}

const JAVA_NAN: u64 = 0x7ff8_0000_0000_0000;

/// A date as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Date {
    /// Milliseconds since the epoch, UTC.
    Millis(i64),
    /// Minutes since the epoch (Hessian 2.0).
    Minutes(i32),
}

impl Date {
    /// The form that Java writes for milliseconds since the epoch.
    pub fn shortest(millis: i64, dialect: Dialect) -> Self {
        match i32::try_from(millis / MINUTE) {
            Ok(minutes) if dialect == Dialect::Hessian2 && millis % MINUTE == 0 => Self::Minutes(minutes),
            _ => Self::Millis(millis),
        }
    }

    /// Milliseconds since the epoch, UTC.
    pub fn millis(self) -> i64 {
        match self {
            Self::Millis(millis) => millis,
            Self::Minutes(minutes) => i64::from(minutes) * MINUTE,
        }
    }
}

/// Milliseconds in a minute.
const MINUTE: i64 = 60_000;

/// A byte array: a view of its pieces in the body, or plain bytes to be encoded.
#[derive(Clone, Copy)]
pub struct Binary<'b> {
    bytes: &'b [u8],
    /// The dialect of the leads in `bytes`, or `None` if there are none.
    leads: Option<Dialect>,
}

impl<'b> Binary<'b> {
    /// All pieces with their leads, checked from first to last.
    pub(crate) fn wire(bytes: &'b [u8], dialect: Dialect) -> Self {
        let leads = Some(dialect);
        Self { bytes, leads }
    }

    /// The bytes to write again, if they came in this dialect.
    pub(crate) fn wire_in(&self, dialect: Dialect) -> Option<&'b [u8]> {
        (self.leads == Some(dialect)).then_some(self.bytes)
    }

    /// The pieces in order; Java cuts arrays of more than about 8 KiB, sofa-hessian of more than 32 KiB.
    pub fn pieces(&self) -> Pieces<'b> {
        Pieces {
            rest: self.bytes,
            leads: self.leads,
        }
    }

    /// All bytes; copied only if they came in several pieces.
    pub fn as_bytes(&self) -> Cow<'b, [u8]> {
        let mut pieces = self.pieces();
        let first = pieces.next().unwrap_or_default();
        match pieces.next() {
            None => Cow::Borrowed(first),
            Some(second) => {
                let mut all = [first, second].concat();
                pieces.for_each(|piece| all.extend_from_slice(piece));
                Cow::Owned(all)
            }
        }
    }
}

impl<'b> From<&'b [u8]> for Binary<'b> {
    /// Bytes to be encoded.
    fn from(bytes: &'b [u8]) -> Self {
        Self { bytes, leads: None }
    }
}

impl PartialEq for Binary<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.pieces().flatten().eq(other.pieces().flatten())
    }
}

impl Eq for Binary<'_> {}

impl std::fmt::Debug for Binary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Binary({} bytes)", self.pieces().map(<[u8]>::len).sum::<usize>())
    }
}

/// The pieces of a [`Binary`].
#[derive(Debug, Clone)]
pub struct Pieces<'b> {
    rest: &'b [u8],
    leads: Option<Dialect>,
}

impl<'b> Iterator for Pieces<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        let Some(dialect) = self.leads else {
            let plain = std::mem::take(&mut self.rest);
            return (!plain.is_empty()).then_some(plain);
        };
        let (&lead, after) = self.rest.split_first()?;
        let (len, data) = match Lead::of(dialect, lead) {
            Lead::Binary(len) => (usize::from(len), after),
            Lead::BinaryShort(high) => {
                let (&low, data) = after.split_first()?;
                ((usize::from(high) << 8) + usize::from(low), data)
            }
            _ => {
                let (len, data) = after.split_first_chunk::<2>()?;
                (usize::from(u16::from_be_bytes(*len)), data)
            }
        };
        let (piece, rest) = data.split_at_checked(len)?;
        self.rest = rest;
        Some(piece)
    }
}
