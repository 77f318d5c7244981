// SPDX-License-Identifier: Apache-2.0
//! Writing a decoded body back, byte for byte where Java wrote it.

use std::slice::Iter;

use crate::encode::Encoder;
use crate::lead::SOFA_TYPE_INDEX_OLD;
use crate::value::{Body, ListForm, TypeForm, TypeRef, Value};

impl Body<'_> {
    /// The bytes of the body; those it was decoded from, as far as [`decode`](crate::decode()) promises.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(self.dialect);
        let mut stack = vec![Inside {
            items: Items::Values(self.values.iter()),
            end: None,
        }];
        while let Some(inside) = stack.last_mut() {
            match inside.items.next() {
                Some(value) => stack.extend(self.head(&mut encoder, value)),
                None => {
                    inside.end.map(|marker| encoder.byte(marker));
                    stack.pop();
                }
            }
        }
        encoder.finish()
    }

    /// Writes a scalar, or the head of a list, map or object and gives what is inside it.
    fn head<'v>(&self, encoder: &mut Encoder, value: &'v Value<'v>) -> Option<Inside<'v>> {
        if let Value::Defining { first, count, .. } = value {
            let classes = self.classes.iter().skip(to_usize(*first)).take(to_usize(*count));
            classes.for_each(|class| encoder.define(&class.name, class.fields.iter().copied()));
        }
        match value.bare() {
            Value::Null => encoder.null(),
            Value::Bool(value) => encoder.bool(*value),
            Value::Int(value, width) => encoder.int_in(*value, *width),
            Value::Long(value, width) => encoder.long_in(*value, *width),
            Value::Double(double) => encoder.double_in(*double),
            Value::Date(date) => encoder.date_in(*date),
            Value::Text(text) => encoder.text(text),
            Value::Binary(binary) => encoder.binary_again(binary),
            Value::Ref(index, width) => encoder.reference_in(*index, *width),
            Value::Remote { type_ref, url } => {
                encoder.byte(b'r');
                self.type_ref(encoder, *type_ref);
                encoder.text(url)
            }
            Value::List(list) => {
                let end = self.list_head(encoder, list.type_ref, list.form, list.items.len());
                return Some(Inside {
                    items: Items::Values(list.items.iter()),
                    end,
                });
            }
            Value::Map(map) => {
                let is_plain = map.type_ref.is_none() && self.dialect == crate::Dialect::Hessian2;
                encoder.byte(if is_plain { b'H' } else { b'M' });
                self.type_ref(encoder, map.type_ref);
                let entries = Items::Entries(map.entries.iter(), None);
                return Some(Inside {
                    items: entries,
                    end: Some(encoder.end_marker()),
                });
            }
            Value::Object(object) => {
                encoder.object_head(to_usize(object.class), object.is_indexed);
                return Some(Inside {
                    items: Items::Values(object.fields.iter()),
                    end: None,
                });
            }
            // Not made by `decode`: the definitions of the inner one are lost.
            Value::Defining { .. } => encoder,
        };
        None
    }

    fn list_head(&self, encoder: &mut Encoder, type_ref: Option<TypeRef>, form: ListForm, len: usize) -> Option<u8> {
        let typed = |yes: u8, no: u8| if type_ref.is_some() { yes } else { no };
        match form {
            ListForm::Lead => {
                encoder.byte(typed(0x70, 0x78) + u8::try_from(len.min(7)).unwrap_or(7));
                self.type_ref(encoder, type_ref);
                None
            }
            ListForm::Int => {
                encoder.byte(typed(b'V', b'X'));
                self.type_ref(encoder, type_ref);
                encoder.count(len);
                None
            }
            ListForm::ByType => {
                encoder
                    .byte(b'v')
                    .count(to_usize(type_ref.map_or(0, |type_ref| type_ref.index)))
                    .count(len);
                None
            }
            ListForm::Open | ListForm::Byte | ListForm::Word => {
                encoder.byte(match self.dialect {
                    crate::Dialect::Hessian2 => typed(b'U', b'W'),
                    crate::Dialect::Sofa => b'V',
                });
                self.type_ref(encoder, type_ref);
                match form {
                    ListForm::Byte => encoder.sofa_length(len),
                    ListForm::Word => encoder.sofa_length4(len),
                    _ => encoder,
                };
                Some(encoder.end_marker())
            }
        }
    }

    fn type_ref(&self, encoder: &mut Encoder, type_ref: Option<TypeRef>) {
        let Some(TypeRef { index, form }) = type_ref else {
            return;
        };
        match (form, self.types.get(to_usize(index))) {
            (TypeForm::Name, Some(name)) => encoder.type_definition(name),
            (TypeForm::OldIndex, _) => {
                encoder.byte(SOFA_TYPE_INDEX_OLD).count(to_usize(index));
            }
            _ => encoder.type_index(to_usize(index)),
        }
    }
}

/// An open list, map or object: what is still to be written, and its end marker.
struct Inside<'v> {
    items: Items<'v>,
    end: Option<u8>,
}

enum Items<'v> {
    Values(Iter<'v, Value<'v>>),
    /// The value of a pair waits while its key is written.
    Entries(Iter<'v, (Value<'v>, Value<'v>)>, Option<&'v Value<'v>>),
}

impl<'v> Items<'v> {
    fn next(&mut self) -> Option<&'v Value<'v>> {
        match self {
            Self::Values(values) => values.next(),
            Self::Entries(entries, waiting) => match waiting.take() {
                Some(value) => Some(value),
                None => {
                    let (key, value) = entries.next()?;
                    *waiting = Some(value);
                    Some(key)
                }
            },
        }
    }
}

fn to_usize(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
