// SPDX-License-Identifier: Apache-2.0
//! Where each key of a YAML document stands, so that a check made after reading can still say line and column.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Line and column of each value by dotted key, e.g. `registries[1].name`.
#[derive(Clone, Debug, Default)]
pub struct Keys(HashMap<String, (u64, u64)>);

impl Keys {
    /// Reads `text` a second time; a document that was read into the model cannot fail here, and if it does, places are
    /// simply unknown.
    pub fn of(text: &str) -> Self {
        let mut keys = Self::default();
        if let Ok(root) = serde_saphyr::from_str::<Spanned<Node>>(text) {
            keys.add(String::new(), &root);
        }
        keys
    }

    /// Line and column of the value of `key`, or of the nearest key above it.
    pub fn place(&self, key: &str) -> Option<(u64, u64)> {
        let mut key = key;
        loop {
            if let Some(place) = self.0.get(key) {
                return Some(*place);
            }
            key = key.get(..key.rfind(['.', '['])?)?;
        }
    }

    /// Line and column of the value of `key` itself.
    pub fn exactly(&self, key: &str) -> Option<(u64, u64)> {
        self.0.get(key).copied()
    }

    /// Whether the document itself says something for `key`.
    pub fn holds(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Every key with a value.
    #[cfg(test)]
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn add(&mut self, key: String, node: &Spanned<Node>) {
        match &node.value {
            Node::Map(entries) => {
                for (name, value) in entries {
                    let dot = if key.is_empty() { "" } else { "." };
                    self.add(format!("{key}{dot}{name}"), value);
                }
            }
            Node::Seq(items) => {
                for (at, value) in items.iter().enumerate() {
                    self.add(format!("{key}[{at}]"), value);
                }
            }
            Node::Scalar => {}
        }
        let place = (node.referenced.line(), node.referenced.column());
        self.0.insert(key, place);
    }
}

enum Node {
    Map(Vec<(String, Spanned<Node>)>),
    Seq(Vec<Spanned<Node>>),
    Scalar,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any YAML")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Scalar)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }
            fn visit_str<E>(self, _: &str) -> Result<Node, E> {
                Ok(Node::Scalar)
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Node::Map(entries))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::Seq(items))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_where_it_stands() {
        let keys = Keys::of("registry: embedded\nregistries:\n  - name: east\n  - { name: west }\n");
        assert_eq!(keys.place("registry"), Some((1, 11)));
        assert_eq!(keys.place("registries[1].name"), Some((4, 13)));
        assert_eq!(
            keys.place("registries[1].facades.zookeeper"),
            keys.place("registries[1]")
        );
    }
}
