// SPDX-License-Identifier: Apache-2.0
//! Reading the fields of a message's object.
//!
//! As Java reads them: in any order, unknown ones stepped over, absent and null ones left at their default; list and map
//! types (`java.util.Collections$EmptyMap`) do not matter. What is looked at and copied is counted, since a list that is
//! referred to from many places is copied into each.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use remora_hessian2::{Body, Object, Value};

use super::{WireError, Zones};

/// A decoded content with what is left of its allowance.
pub(super) struct Content<'b> {
    class: &'static str,
    body: Body<'b>,
    items: Allowance,
    bytes: Allowance,
}

struct Allowance {
    what: &'static str,
    max: usize,
    left: Cell<usize>,
}

impl Allowance {
    fn new(what: &'static str, max: usize) -> Self {
        let left = Cell::new(max);
        Self { what, max, left }
    }

    fn spend(&self, class: &'static str, count: usize) -> Result<(), WireError> {
        let (what, max) = (self.what, self.max);
        let left = self.left.get().checked_sub(count);
        self.left.set(left.ok_or(WireError::Repeats { class, what, max })?);
        Ok(())
    }
}

impl<'b> Content<'b> {
    /// `len` is the length of the undecoded content, `max_items` the limit it was decoded with.
    pub(super) fn new(class: &'static str, body: Body<'b>, len: usize, max_items: usize) -> Self {
        Self {
            class,
            body,
            items: Allowance::new("values", max_items),
            // Characters take at most as many bytes as on the wire; the rest is for a few shared lists.
            bytes: Allowance::new("bytes", len.saturating_mul(2).saturating_add(1024)),
        }
    }

    /// The fields of the message: one object of its class.
    pub(super) fn fields(&self) -> Result<Fields<'_, 'b>, WireError> {
        let refuse = WireError::NotThatClass { class: self.class };
        let [value] = self.body.values.as_slice() else {
            return Err(refuse);
        };
        match value.bare() {
            Value::Object(object) if self.body.class_of(object).is_some_and(|c| c.name == self.class) => Ok(Fields {
                content: self,
                object,
                containers: Rc::default(),
            }),
            _ => Err(refuse),
        }
    }

    /// A field of an object of this content.
    fn field<'c>(&self, object: &'c Object<'b>, name: &str) -> Result<Option<&'c Value<'b>>, WireError> {
        self.items.spend(self.class, object.fields.len())?;
        Ok(self.body.field(object, name))
    }
}

/// The fields of one object, by name.
pub(super) struct Fields<'c, 'b> {
    content: &'c Content<'b>,
    object: &'c Object<'b>,
    /// Lists, maps and objects of the whole content in the order in which references count them.
    containers: Rc<OnceCell<Vec<&'c Value<'b>>>>,
}

impl<'c, 'b> Fields<'c, 'b> {
    pub(super) fn text(&self, field: &'static str) -> Result<Option<String>, WireError> {
        match self.value(field)? {
            None => Ok(None),
            Some(value) => self.as_text(field, value).map(Some),
        }
    }

    pub(super) fn text_or_empty(&self, field: &'static str) -> Result<String, WireError> {
        self.text(field).map(Option::unwrap_or_default)
    }

    pub(super) fn bool(&self, field: &'static str) -> Result<bool, WireError> {
        match self.value(field)? {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(self.wrong(field, "a boolean")),
        }
    }

    pub(super) fn long(&self, field: &'static str) -> Result<Option<i64>, WireError> {
        match self.value(field)? {
            None => Ok(None),
            Some(Value::Long(value, _)) => Ok(Some(*value)),
            Some(Value::Int(value, _)) => Ok(Some(i64::from(*value))),
            Some(_) => Err(self.wrong(field, "a whole number")),
        }
    }

    pub(super) fn int(&self, field: &'static str) -> Result<Option<i32>, WireError> {
        match self.long(field)? {
            None => Ok(None),
            Some(value) => match i32::try_from(value) {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(self.wrong(field, "an int")),
            },
        }
    }

    /// A `byte[]`.
    pub(super) fn bytes(&self, field: &'static str) -> Result<Option<Vec<u8>>, WireError> {
        match self.value(field)? {
            None => Ok(None),
            Some(Value::Binary(binary)) => {
                let bytes = binary.as_bytes();
                self.content.bytes.spend(self.content.class, bytes.len())?;
                Ok(Some(bytes.into_owned()))
            }
            Some(_) => Err(self.wrong(field, "bytes")),
        }
    }

    /// A list of strings; nulls in it are left out.
    pub(super) fn texts(&self, field: &'static str) -> Result<Vec<String>, WireError> {
        let items = self.items(field)?.unwrap_or_default();
        let items = items.iter().filter_map(|item| self.resolve(item));
        items.map(|item| self.as_text(field, item)).collect()
    }

    /// A map of strings to strings; an entry with a null in it is left out.
    pub(super) fn text_map(&self, field: &'static str) -> Result<Vec<(String, String)>, WireError> {
        let mut map = Vec::new();
        for (key, value) in self.entries(field)?.unwrap_or_default() {
            if let (Some(key), Some(value)) = (self.resolve(key), self.resolve(value)) {
                map.push((self.as_text(field, key)?, self.as_text(field, value)?));
            }
        }
        Ok(map)
    }

    /// A `DataBox`.
    pub(super) fn data_box(&self, field: &'static str) -> Result<Option<String>, WireError> {
        match self.value(field)? {
            None => Ok(None),
            Some(value) => self.as_data(field, value).map(Some),
        }
    }

    /// A list of `DataBox`.
    pub(super) fn data_boxes(&self, field: &'static str) -> Result<Option<Vec<String>>, WireError> {
        match self.value(field)? {
            None => Ok(None),
            Some(value) => self.as_data_list(field, value).map(Some),
        }
    }

    /// A map of zones to lists of `DataBox`; a zone whose list is null has none.
    pub(super) fn zones(&self, field: &'static str) -> Result<Option<Zones>, WireError> {
        let Some(entries) = self.entries(field)? else {
            return Ok(None);
        };
        let mut zones = Vec::new();
        for (zone, list) in entries {
            let zone = match self.resolve(zone) {
                Some(zone) => self.as_text(field, zone)?,
                None => continue,
            };
            let list = match self.resolve(list) {
                Some(list) => self.as_data_list(field, list)?,
                None => Vec::new(),
            };
            zones.push((zone, list));
        }
        Ok(Some(zones))
    }

    /// A map of strings to objects: the fields of each.
    pub(super) fn objects(&self, field: &'static str) -> Result<Vec<(String, Fields<'c, 'b>)>, WireError> {
        let mut objects = Vec::new();
        for (key, value) in self.entries(field)?.unwrap_or_default() {
            let (Some(key), Some(value)) = (self.resolve(key), self.resolve(value)) else {
                continue;
            };
            let Value::Object(object) = value else {
                return Err(self.wrong(field, "a map of objects"));
            };
            let fields = Fields {
                content: self.content,
                object,
                containers: Rc::clone(&self.containers),
            };
            objects.push((self.as_text(field, key)?, fields));
        }
        Ok(objects)
    }

    /// The value of a field; `None` if it is absent or null.
    fn value(&self, field: &str) -> Result<Option<&'c Value<'b>>, WireError> {
        Ok(self
            .content
            .field(self.object, field)?
            .and_then(|value| self.resolve(value)))
    }

    /// The value itself: without definitions before it, and what a reference names; `None` for null.
    fn resolve(&self, value: &'c Value<'b>) -> Option<&'c Value<'b>> {
        match value.bare() {
            Value::Null => None,
            Value::Ref(index, _) => {
                let containers = self.containers.get_or_init(|| containers(&self.content.body));
                containers.get(usize::try_from(*index).ok()?).copied()
            }
            value => Some(value),
        }
    }

    fn items(&self, field: &'static str) -> Result<Option<&'c [Value<'b>]>, WireError> {
        match self.value(field)? {
            None => Ok(None),
            Some(Value::List(list)) => {
                self.content.items.spend(self.content.class, list.items.len())?;
                Ok(Some(&list.items))
            }
            Some(_) => Err(self.wrong(field, "a list")),
        }
    }

    fn entries(&self, field: &'static str) -> Result<Option<&'c [(Value<'b>, Value<'b>)]>, WireError> {
        match self.value(field)? {
            None => Ok(None),
            Some(Value::Map(map)) => {
                self.content.items.spend(self.content.class, map.entries.len())?;
                Ok(Some(&map.entries))
            }
            Some(_) => Err(self.wrong(field, "a map")),
        }
    }

    fn as_text(&self, field: &'static str, value: &Value<'b>) -> Result<String, WireError> {
        let Value::Text(text) = value else {
            return Err(self.wrong(field, "a string"));
        };
        let text = text.as_str();
        self.content.bytes.spend(self.content.class, text.len())?;
        Ok(text.into_owned())
    }

    fn as_data_list(&self, field: &'static str, value: &'c Value<'b>) -> Result<Vec<String>, WireError> {
        let Value::List(list) = value else {
            return Err(self.wrong(field, "a list of DataBox"));
        };
        self.content.items.spend(self.content.class, list.items.len())?;
        let boxes = list.items.iter().filter_map(|item| self.resolve(item));
        boxes.map(|item| self.as_data(field, item)).collect()
    }

    /// What a `DataBox` holds; null is an empty text.
    fn as_data(&self, field: &'static str, value: &'c Value<'b>) -> Result<String, WireError> {
        let Value::Object(object) = value else {
            return Err(self.wrong(field, "a DataBox"));
        };
        let data = self.content.field(object, "data")?;
        data.and_then(|data| self.resolve(data))
            .map_or_else(|| Ok(String::new()), |data| self.as_text(field, data))
    }

    fn wrong(&self, field: &'static str, wanted: &'static str) -> WireError {
        WireError::Field {
            class: self.content.class,
            field,
            wanted,
        }
    }
}

/// Lists, maps and objects in the order of their leads. Nesting is limited where the content is decoded.
fn containers<'c, 'b>(body: &'c Body<'b>) -> Vec<&'c Value<'b>> {
    fn walk<'c, 'b>(value: &'c Value<'b>, found: &mut Vec<&'c Value<'b>>) {
        let value = value.bare();
        match value {
            Value::List(list) => {
                found.push(value);
                list.items.iter().for_each(|item| walk(item, found));
            }
            Value::Map(map) => {
                found.push(value);
                for (key, value) in &map.entries {
                    walk(key, found);
                    walk(value, found);
                }
            }
            Value::Object(object) => {
                found.push(value);
                object.fields.iter().for_each(|field| walk(field, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    body.values.iter().for_each(|value| walk(value, &mut found));
    found
}
