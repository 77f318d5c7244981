// SPDX-License-Identifier: Apache-2.0
//! Building the values of a body.
//!
//! Not for the call path: a proxy that only routes walks (`walk.rs`) and never builds values.

use crate::cursor::{Cursor, TypeName};
use crate::decode_part::{Open, Part, defining};
use crate::error::WalkError;
use crate::lead::{Lead, SOFA_LENGTH1};
use crate::limits::{Dialect, Limits, MAX_DEPTH};
use crate::scalar::{Binary, Date, Double, Width};
use crate::value::{Body, ClassDef, List, ListForm, Map, Object, TypeForm, TypeRef, Value};

/// Decodes a whole body, to its last byte.
///
/// - Writing the result with [`Body::encode`] gives the same bytes for all that Java writes. What other writers may do
///   and this does not keep: ints longer than they need be in the place of a length, an index or a field count.
/// - References stay indices, so a body of cycles costs no more than any other.
/// - Memory on top of `body` is at most [`Limits::max_decoded_bytes`]. Each value is charged four times its size of some
///   50 bytes, which covers the vectors around it while they grow.
///
/// # Errors
/// Any [`WalkError`]; beyond what a walk refuses also references to values and types that are not there.
pub fn decode(body: &[u8], dialect: Dialect, limits: Limits) -> Result<Body<'_>, WalkError> {
    let max_chunks = limits.max_chunks;
    let cursor = Cursor {
        body,
        at: 0,
        dialect,
        chunks_left: max_chunks,
        max_chunks,
    };
    let (values, classes, types) = (Vec::new(), Vec::new(), Vec::new());
    let decoded = Body {
        dialect,
        values,
        classes,
        types,
        ref_count: 0,
    };
    let (items_left, bytes_left) = (limits.max_items, limits.max_decoded_bytes);
    let mut decoder = Decoder {
        cursor,
        limits,
        decoded,
        items_left,
        bytes_left,
    };
    while decoder.cursor.left() > 0 {
        let value = decoder.value()?;
        decoder.charge_item::<Value<'_>>()?;
        decoder.decoded.values.push(value);
    }
    Ok(decoder.decoded)
}

struct Decoder<'b> {
    cursor: Cursor<'b>,
    limits: Limits,
    decoded: Body<'b>,
    items_left: usize,
    bytes_left: usize,
}

enum Head<'b> {
    Whole(Value<'b>),
    Open(Part<'b>),
}

impl<'b> Decoder<'b> {
    /// One value with all that is inside it.
    fn value(&mut self) -> Result<Value<'b>, WalkError> {
        let max = self.limits.max_depth.min(MAX_DEPTH);
        let mut stack: Vec<Open<'b>> = Vec::new();
        loop {
            let defined = self.definitions()?;
            let mut whole = match self.head()? {
                Head::Whole(value) => Some(defining(defined, value)),
                Head::Open(part) => {
                    let at = self.cursor.at;
                    if stack.len() >= max {
                        return Err(WalkError::TooDeep { at, max });
                    }
                    self.charge_item::<Open<'_>>()?;
                    stack.push(Open { part, defined });
                    None
                }
            };
            // Hand the value to what is open around it, and close whatever is complete.
            loop {
                let Some(open) = stack.last_mut() else {
                    match whole {
                        Some(value) => return Ok(value),
                        None => break,
                    }
                };
                if let Some(value) = whole.take() {
                    self.charge_item::<Value<'_>>()?;
                    open.part.push(value);
                }
                if !open.part.is_complete(&mut self.cursor)? {
                    break;
                }
                whole = stack.pop().map(|open| defining(open.defined, open.part.finish()));
            }
        }
    }

    /// The class definitions that stand here.
    fn definitions(&mut self) -> Result<(u32, u32), WalkError> {
        let first = self.decoded.classes.len();
        while self
            .cursor
            .peek()
            .is_some_and(|lead| Lead::of(self.cursor.dialect, lead) == Lead::Class)
        {
            let at = self.cursor.at;
            self.spend_item()?;
            self.cursor.at += 1;
            if self.decoded.classes.len() >= self.limits.max_classes {
                return Err(WalkError::TooMany {
                    at,
                    what: "classes",
                    max: self.limits.max_classes,
                });
            }
            let name = self.cursor.class_name()?;
            let count = self.cursor.count()?;
            self.charge_item::<ClassDef<'_>>()?;
            let mut fields = Vec::new();
            for _ in 0..count {
                self.charge_item::<crate::Text<'_>>()?;
                fields.push(self.cursor.text()?);
            }
            self.decoded.classes.push(ClassDef { name, fields });
        }
        let count = self.decoded.classes.len() - first;
        Ok((to_u32(first), to_u32(count)))
    }

    /// A scalar, or the head of a list, map or object.
    fn head(&mut self) -> Result<Head<'b>, WalkError> {
        self.spend_item()?;
        let cursor = &mut self.cursor;
        let at = cursor.at;
        let lead = cursor.lead()?;
        if let Some(value) = cursor.int_after(lead)? {
            return Ok(Head::Whole(Value::Int(value, width_of(lead))));
        }
        if let Some(value) = cursor.long_after(lead)? {
            return Ok(Head::Whole(Value::Long(value, width_of(lead))));
        }
        if let Some(text) = cursor.text_after(lead)? {
            return Ok(Head::Whole(Value::Text(text)));
        }
        if let Some((len, has_more)) = cursor.binary_len(lead)? {
            cursor.skip_binary(len, has_more)?;
            let wire = cursor.body.get(at..cursor.at).unwrap_or_default();
            return Ok(Head::Whole(Value::Binary(Binary::wire(wire, cursor.dialect))));
        }
        let value = match lead {
            Lead::Null => Value::Null,
            Lead::True => Value::Bool(true),
            Lead::False => Value::Bool(false),
            Lead::DoubleZero => Value::Double(Double::Zero),
            Lead::DoubleOne => Value::Double(Double::One),
            Lead::Double1 => Value::Double(Double::Byte(i8::from_be_bytes(cursor.array()?))),
            Lead::Double2 => Value::Double(Double::Short(i16::from_be_bytes(cursor.array()?))),
            Lead::DoubleMilli => Value::Double(Double::Milli(i32::from_be_bytes(cursor.array()?))),
            Lead::DoubleFloat => Value::Double(Double::Float(u32::from_be_bytes(cursor.array()?))),
            Lead::Double8 => Value::Double(Double::Full(u64::from_be_bytes(cursor.array()?))),
            Lead::DateMilli => Value::Date(Date::Millis(i64::from_be_bytes(cursor.array()?))),
            Lead::DateMinute => Value::Date(Date::Minutes(i32::from_be_bytes(cursor.array()?))),
            Lead::Ref => {
                let index = cursor.index()?;
                self.reference(at, index, lead)?
            }
            Lead::Ref1 => {
                let index = u32::from(cursor.byte()?);
                self.reference(at, index, lead)?
            }
            Lead::Ref2 => {
                let index = u32::from(u16::from_be_bytes(cursor.array()?));
                self.reference(at, index, lead)?
            }
            Lead::Ref4 => {
                let index = u32::from_be_bytes(cursor.array()?);
                self.reference(at, index, lead)?
            }
            Lead::Remote => {
                let type_ref = self.type_ref()?;
                Value::Remote {
                    type_ref,
                    url: self.cursor.text()?,
                }
            }
            Lead::End | Lead::Unused => {
                cursor.at = at;
                return Err(WalkError::UnusedLead {
                    at,
                    lead: cursor.byte()?,
                });
            }
            lead => return self.open(at, lead).map(Head::Open),
        };
        Ok(Head::Whole(value))
    }

    fn open(&mut self, at: usize, lead: Lead) -> Result<Part<'b>, WalkError> {
        self.decoded.ref_count = self.decoded.ref_count.saturating_add(1);
        let (type_ref, form, left) = match lead {
            Lead::ListTyped(len) => (
                self.type_ref()?,
                ListForm::Lead,
                Some(self.cursor.fits(at, i64::from(len))?),
            ),
            Lead::ListPlain(len) => (None, ListForm::Lead, Some(self.cursor.fits(at, i64::from(len))?)),
            Lead::ListTypedFixed => (self.type_ref()?, ListForm::Int, Some(self.cursor.count()?)),
            Lead::ListPlainFixed => (None, ListForm::Int, Some(self.cursor.count()?)),
            Lead::ListTypedOpen => (self.type_ref()?, ListForm::Open, None),
            Lead::ListPlainOpen => (None, ListForm::Open, None),
            Lead::SofaList => {
                let type_ref = self.type_ref()?;
                match self.cursor.sofa_length()? {
                    Some((len, SOFA_LENGTH1)) => (type_ref, ListForm::Byte, Some(len)),
                    Some((len, _)) => (type_ref, ListForm::Word, Some(len)),
                    None => (type_ref, ListForm::Open, None),
                }
            }
            Lead::SofaListByType => {
                let index_at = self.cursor.at;
                let index = self.cursor.index()?;
                let type_ref = self.known_type(index_at, index, TypeForm::Index)?;
                (Some(type_ref), ListForm::ByType, Some(self.cursor.count()?))
            }
            Lead::Object(index) => return self.object(at, u32::from(index), false),
            Lead::ObjectIndexed => {
                let index = self.cursor.index()?;
                return self.object(at, index, true);
            }
            lead => {
                let type_ref = if lead == Lead::MapTyped { self.type_ref()? } else { None };
                let map = Map {
                    type_ref,
                    entries: Vec::new(),
                };
                return Ok(Part::Map { map, key: None });
            }
        };
        let list = List {
            type_ref,
            form,
            items: Vec::new(),
        };
        Ok(Part::List { list, left })
    }

    fn object(&self, at: usize, class: u32, is_indexed: bool) -> Result<Part<'b>, WalkError> {
        let defined = self.decoded.classes.len();
        let definition = usize::try_from(class)
            .ok()
            .and_then(|class| self.decoded.classes.get(class));
        let definition = definition.ok_or(WalkError::UnknownClass {
            at,
            index: i64::from(class),
            defined,
        })?;
        let left = definition.fields.len();
        self.cursor.fits(at, i64::try_from(left).unwrap_or(i64::MAX))?;
        let object = Object {
            class,
            is_indexed,
            fields: Vec::new(),
        };
        Ok(Part::Object { object, left })
    }

    fn type_ref(&mut self) -> Result<Option<TypeRef>, WalkError> {
        let at = self.cursor.at;
        match self.cursor.type_name()? {
            TypeName::Absent => Ok(None),
            TypeName::Index(index) => self.known_type(at, index, TypeForm::Index).map(Some),
            TypeName::OldIndex(index) => self.known_type(at, index, TypeForm::OldIndex).map(Some),
            TypeName::Name(name) => {
                let index = to_u32(self.decoded.types.len());
                self.charge_item::<crate::Text<'_>>()?;
                self.decoded.types.push(name);
                Ok(Some(TypeRef {
                    index,
                    form: TypeForm::Name,
                }))
            }
        }
    }

    fn known_type(&self, at: usize, index: u32, form: TypeForm) -> Result<TypeRef, WalkError> {
        let defined = self.decoded.types.len();
        match usize::try_from(index) {
            Ok(place) if place < defined => Ok(TypeRef { index, form }),
            _ => Err(WalkError::UnknownRef {
                at,
                what: "type",
                index,
                defined,
            }),
        }
    }

    fn reference(&self, at: usize, index: u32, lead: Lead) -> Result<Value<'b>, WalkError> {
        let defined = self.decoded.ref_count;
        if index >= defined {
            let defined = usize::try_from(defined).unwrap_or(usize::MAX);
            return Err(WalkError::UnknownRef {
                at,
                what: "value",
                index,
                defined,
            });
        }
        let width = match lead {
            Lead::Ref => Width::of_ref(index, Dialect::Hessian2),
            lead => width_of(lead),
        };
        Ok(Value::Ref(index, width))
    }

    fn spend_item(&mut self) -> Result<(), WalkError> {
        let spent = WalkError::TooMany {
            at: self.cursor.at,
            what: "values",
            max: self.limits.max_items,
        };
        self.items_left = self.items_left.checked_sub(1).ok_or(spent)?;
        Ok(())
    }

    /// Pays for one more `T` in a vector. A growing vector holds the old and the doubled new buffer for a moment,
    /// three times its items; and it starts with room for four items.
    fn charge_item<T>(&mut self) -> Result<(), WalkError> {
        let max = self.limits.max_decoded_bytes;
        let spent = WalkError::TooMany {
            at: self.cursor.at,
            what: "decoded bytes",
            max,
        };
        self.bytes_left = self.bytes_left.checked_sub(4 * size_of::<T>()).ok_or(spent)?;
        Ok(())
    }
}

fn width_of(lead: Lead) -> Width {
    match lead {
        Lead::Int1(_) | Lead::Long1(_) | Lead::Ref1 => Width::One,
        Lead::Int2(_) | Lead::Long2(_) | Lead::Ref2 => Width::Two,
        Lead::Int4 | Lead::Long4 | Lead::Ref4 => Width::Four,
        Lead::Long8 => Width::Eight,
        _ => Width::Zero,
    }
}

/// Tables have at most as many entries as an int can count.
fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
