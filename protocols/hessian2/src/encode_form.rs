// SPDX-License-Identifier: Apache-2.0
//! Each form that a value can take, written: what the encoder chooses from and a decoded body is written back with.

use crate::encode::{Encoder, low8};
use crate::lead::{SOFA_LENGTH1, SOFA_LENGTH4, SOFA_TYPE_INDEX, SOFA_TYPE_NAME};
use crate::limits::Dialect;
use crate::scalar::{Date, Double, Width};
use crate::text::Text;

impl Encoder {
    pub(crate) fn end_marker(&self) -> u8 {
        match self.dialect {
            Dialect::Hessian2 => b'Z',
            Dialect::Sofa => b'z',
        }
    }

    pub(crate) fn int_in(&mut self, value: i32, width: Width) -> &mut Self {
        let [_, high, middle, low] = value.to_be_bytes();
        match width {
            Width::Zero => self.byte(low.wrapping_add(0x90)),
            Width::One => self.byte(middle.wrapping_add(0xc8)).byte(low),
            Width::Two => self.byte(high.wrapping_add(0xd4)).byte(middle).byte(low),
            Width::Four | Width::Eight => self.byte(b'I').bytes(&value.to_be_bytes()),
        }
    }

    pub(crate) fn long_in(&mut self, value: i64, width: Width) -> &mut Self {
        let [_, _, _, _, top, high, middle, low] = value.to_be_bytes();
        match (width, self.dialect) {
            (Width::Zero, _) => self.byte(low.wrapping_add(0xe0)),
            (Width::One, _) => self.byte(middle.wrapping_add(0xf8)).byte(low),
            (Width::Two, _) => self.byte(high.wrapping_add(0x3c)).byte(middle).byte(low),
            (Width::Four, Dialect::Hessian2) => self.byte(b'Y').bytes(&[top, high, middle, low]),
            (Width::Four, Dialect::Sofa) => self.byte(0x77).bytes(&[top, high, middle, low]),
            (Width::Eight, _) => self.byte(b'L').bytes(&value.to_be_bytes()),
        }
    }

    pub(crate) fn double_in(&mut self, double: Double) -> &mut Self {
        let [zero, one, byte, short] = match self.dialect {
            Dialect::Hessian2 => [0x5b, 0x5c, 0x5d, 0x5e],
            Dialect::Sofa => [0x67, 0x68, 0x69, 0x6a],
        };
        match double {
            Double::Zero => self.byte(zero),
            Double::One => self.byte(one),
            Double::Byte(value) => self.byte(byte).bytes(&value.to_be_bytes()),
            Double::Short(value) => self.byte(short).bytes(&value.to_be_bytes()),
            Double::Milli(thousandths) => self.byte(0x5f).bytes(&thousandths.to_be_bytes()),
            Double::Float(bits) => self.byte(0x6b).bytes(&bits.to_be_bytes()),
            Double::Full(bits) => self.byte(b'D').bytes(&bits.to_be_bytes()),
        }
    }

    pub(crate) fn date_in(&mut self, date: Date) -> &mut Self {
        match (date, self.dialect) {
            (Date::Minutes(minutes), _) => self.byte(0x4b).bytes(&minutes.to_be_bytes()),
            (Date::Millis(millis), Dialect::Hessian2) => self.byte(0x4a).bytes(&millis.to_be_bytes()),
            (Date::Millis(millis), Dialect::Sofa) => self.byte(b'd').bytes(&millis.to_be_bytes()),
        }
    }

    pub(crate) fn reference_in(&mut self, index: u32, width: Width) -> &mut Self {
        let [.., middle, low] = index.to_be_bytes();
        match (self.dialect, width) {
            (Dialect::Hessian2, _) => self.byte(b'Q').int(i32::try_from(index).unwrap_or(i32::MAX)),
            (Dialect::Sofa, Width::Zero | Width::One) => self.byte(0x4a).byte(low),
            (Dialect::Sofa, Width::Two) => self.byte(0x4b).byte(middle).byte(low),
            (Dialect::Sofa, _) => self.byte(b'R').bytes(&index.to_be_bytes()),
        }
    }

    pub(crate) fn define<'t>(&mut self, name: &Text<'_>, fields: impl ExactSizeIterator<Item = Text<'t>>) {
        match self.dialect {
            Dialect::Hessian2 => self.byte(b'C').text(name),
            Dialect::Sofa => self.byte(b'O').count(name.units()).units(name),
        };
        self.count(fields.len());
        fields.for_each(|field| {
            self.text(&field);
        });
    }

    pub(crate) fn object_head(&mut self, class: usize, is_indexed: bool) -> &mut Self {
        match self.dialect {
            Dialect::Hessian2 if is_indexed => self.byte(b'O').count(class),
            Dialect::Hessian2 => self.byte(0x60 + low8(class)),
            Dialect::Sofa => self.byte(b'o').count(class),
        }
    }

    pub(crate) fn type_definition(&mut self, name: &Text<'_>) {
        match self.dialect {
            Dialect::Hessian2 => self.text(name),
            Dialect::Sofa => self.byte(SOFA_TYPE_NAME).length16(name.units()).units(name),
        };
    }

    pub(crate) fn type_index(&mut self, index: usize) {
        if self.dialect == Dialect::Sofa {
            self.byte(SOFA_TYPE_INDEX);
        }
        self.count(index);
    }

    pub(crate) fn sofa_length(&mut self, len: usize) -> &mut Self {
        match u8::try_from(len) {
            Ok(len) => self.byte(SOFA_LENGTH1).byte(len),
            Err(_) => self.sofa_length4(len),
        }
    }

    pub(crate) fn sofa_length4(&mut self, len: usize) -> &mut Self {
        self.byte(SOFA_LENGTH4)
            .bytes(&i32::try_from(len).unwrap_or(i32::MAX).to_be_bytes())
    }

    /// The characters of a name, without a lead.
    pub(crate) fn units(&mut self, name: &Text<'_>) -> &mut Self {
        match name.wire_characters() {
            Some(characters) => self.bytes(characters),
            None => {
                name.utf16().for_each(|unit| self.unit(unit));
                self
            }
        }
    }

    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        self.int(i32::try_from(count).unwrap_or(i32::MAX))
    }

    pub(crate) fn length16(&mut self, len: usize) -> &mut Self {
        let len = u16::try_from(len).expect("a chunk has at most 0x8000 units or bytes, type names less");
        self.bytes(&len.to_be_bytes())
    }

    pub(crate) fn byte(&mut self, byte: u8) -> &mut Self {
        self.out.push(byte);
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }
}
