// SPDX-License-Identifier: Apache-2.0
//! Lists, maps and objects while their inside is being decoded.

use crate::cursor::Cursor;
use crate::error::WalkError;
use crate::value::{List, ListForm, Map, Object, Value};

/// A list, map or object whose inside is being read.
pub(crate) struct Open<'b> {
    pub(crate) part: Part<'b>,
    /// Class definitions that stood before its lead: index of the first, and how many.
    pub(crate) defined: (u32, u32),
}

pub(crate) enum Part<'b> {
    /// `left` is `None` if only an end marker tells.
    List {
        list: List<'b>,
        left: Option<usize>,
    },
    Map {
        map: Map<'b>,
        key: Option<Value<'b>>,
    },
    Object {
        object: Object<'b>,
        left: usize,
    },
}

impl<'b> Part<'b> {
    pub(crate) fn push(&mut self, value: Value<'b>) {
        match self {
            Self::List { list, left } => {
                list.items.push(value);
                *left = left.map(|left| left.saturating_sub(1));
            }
            Self::Map { map, key } => match key.take() {
                Some(key) => map.entries.push((key, value)),
                None => *key = Some(value),
            },
            Self::Object { object, left } => {
                object.fields.push(value);
                *left = left.saturating_sub(1);
            }
        }
    }

    /// Whether nothing more belongs inside. The end marker (if any) is then taken.
    pub(crate) fn is_complete(&self, cursor: &mut Cursor<'_>) -> Result<bool, WalkError> {
        match self {
            Self::List { left: None, .. } | Self::Map { key: None, .. } => Ok(cursor.take_end()),
            Self::List { list, left: Some(0) } if matches!(list.form, ListForm::Byte | ListForm::Word) => {
                if cursor.take_end() {
                    Ok(true)
                } else {
                    Err(cursor.kind(cursor.at, "the end of a list"))
                }
            }
            Self::List { left: Some(left), .. } | Self::Object { left, .. } => Ok(*left == 0),
            Self::Map { .. } => Ok(false),
        }
    }

    pub(crate) fn finish(self) -> Value<'b> {
        match self {
            Self::List { list, .. } => Value::List(list),
            Self::Map { map, .. } => Value::Map(map),
            Self::Object { object, .. } => Value::Object(object),
        }
    }
}

/// Puts the definitions that stood before a value in front of it.
pub(crate) fn defining((first, count): (u32, u32), value: Value<'_>) -> Value<'_> {
    match count {
        0 => value,
        _ => Value::Defining {
            first,
            count,
            value: Box::new(value),
        },
    }
}
