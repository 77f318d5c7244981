// SPDX-License-Identifier: Apache-2.0
//! Whole bodies as values that keep what Java objects would lose: order, number widths, date and list forms.
//!
//! Not here: reading (`decode.rs`), writing (`encode_body.rs`), scalars with several forms (`scalar.rs`).

use crate::limits::Dialect;
use crate::scalar::{Binary, Date, Double, Width};
use crate::text::Text;

/// A body: its values in order, and the tables they share. Made by [`decode`](crate::decode()).
///
/// Values own no bytes of strings and binaries; they point into the body that was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body<'b> {
    /// The dialect it was read in and will be written in.
    pub dialect: Dialect,
    /// The values, one after another.
    pub values: Vec<Value<'b>>,
    /// Classes in the order of their definition. An object names its class by index here.
    pub classes: Vec<ClassDef<'b>>,
    /// Type names of lists and maps in the order of their first use.
    pub types: Vec<Text<'b>>,
    /// Lists, maps and objects in the body; a reference names one of them by its place in the order of their leads.
    pub ref_count: u32,
}

impl<'b> Body<'b> {
    /// The class of an object, or `None` if the object is not of this body.
    pub fn class_of(&self, object: &Object<'b>) -> Option<&ClassDef<'b>> {
        self.classes.get(usize::try_from(object.class).ok()?)
    }

    /// The value of an object's field.
    pub fn field<'v>(&self, object: &'v Object<'b>, name: &str) -> Option<&'v Value<'b>> {
        let place = self.class_of(object)?.fields.iter().position(|field| field == name)?;
        object.fields.get(place)
    }

    /// The type name of a list or map, such as `java.util.TreeMap` or `[int`; `None` if it has none.
    pub fn type_name(&self, type_ref: Option<TypeRef>) -> Option<&Text<'b>> {
        self.types.get(usize::try_from(type_ref?.index).ok()?)
    }
}

/// A class definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassDef<'b> {
    /// Class name, such as `java.lang.RuntimeException`.
    pub name: Text<'b>,
    /// Field names, in the order in which objects carry their values.
    pub fields: Vec<Text<'b>>,
}

/// One value with all that is inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'b> {
    /// Null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A Java byte, short or int.
    Int(i32, Width),
    /// A Java long.
    Long(i64, Width),
    /// A Java float or double.
    Double(Double),
    /// A `java.util.Date`.
    Date(Date),
    /// A string.
    Text(Text<'b>),
    /// A `byte[]`.
    Binary(Binary<'b>),
    /// A list, set, queue or array.
    List(List<'b>),
    /// A map.
    Map(Map<'b>),
    /// An instance of a class.
    Object(Object<'b>),
    /// A list, map or object again, by its place in the order of their leads.
    Ref(u32, Width),
    /// A stub of a remote object (older draft only).
    Remote {
        /// The type, if given.
        type_ref: Option<TypeRef>,
        /// Its address.
        url: Text<'b>,
    },
    /// A value with class definitions right before it, where Java writes them: before the first object of the class.
    Defining {
        /// Index in [`Body::classes`] of the first.
        first: u32,
        /// How many.
        count: u32,
        /// The value behind them, itself not `Defining`.
        value: Box<Value<'b>>,
    },
}

impl<'b> Value<'b> {
    /// An int in its shortest form.
    pub fn int(value: i32) -> Self {
        Self::Int(value, Width::of_int(value))
    }

    /// A long in its shortest form.
    pub fn long(value: i64) -> Self {
        Self::Long(value, Width::of_long(value))
    }

    /// The value itself, without definitions before it.
    pub fn bare(&self) -> &Self {
        match self {
            Self::Defining { value, .. } => value,
            value => value,
        }
    }

    /// The string, if the value is one.
    pub fn as_text(&self) -> Option<&Text<'b>> {
        match self.bare() {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// How a list, map or stub names its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeRef {
    /// Index in [`Body::types`].
    pub index: u32,
    /// Whether the name itself stands there, an index, or an index behind a lead of the older draft.
    pub form: TypeForm,
}

/// See [`TypeRef`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeForm {
    /// The name, which enters the table of types here.
    Name,
    /// An index.
    Index,
    /// An index behind `T`, which the reader of the older draft also accepts.
    OldIndex,
}

/// A list, set, queue or array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<'b> {
    /// Its type; `None` for `java.util.ArrayList`, except that hessian-lite 3.2 names that one too.
    pub type_ref: Option<TypeRef>,
    /// How its length is given.
    pub form: ListForm,
    /// The items.
    pub items: Vec<Value<'b>>,
}

/// How a list gives its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListForm {
    /// In the lead, up to 7.
    Lead,
    /// As an int.
    Int,
    /// Not at all: an end marker closes the list.
    Open,
    /// In one byte, and an end marker closes the list (older draft).
    Byte,
    /// In four bytes, and an end marker closes the list (older draft).
    Word,
    /// As an int behind a type index, without an end marker (older draft).
    ByType,
}

/// A map with its entries in the order of the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map<'b> {
    /// Its type; `None` for `java.util.HashMap`.
    pub type_ref: Option<TypeRef>,
    /// Keys and values.
    pub entries: Vec<(Value<'b>, Value<'b>)>,
}

/// An instance of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<'b> {
    /// Index of its class in [`Body::classes`].
    pub class: u32,
    /// Whether the index stands behind the lead instead of in it. Always so in the older draft and above 15.
    pub is_indexed: bool,
    /// Field values in the order of [`ClassDef::fields`].
    pub fields: Vec<Value<'b>>,
}
