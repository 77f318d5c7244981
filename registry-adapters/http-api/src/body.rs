// SPDX-License-Identifier: Apache-2.0
//! JSON bodies, key by key. What is wrong is told with the key's full name; keys that nobody asks for are ignored.

use remora_registry::Params;
use serde_json::{Map, Value};

use crate::error::Refused;

/// A JSON object of a body, or inside one.
#[derive(Debug)]
pub(crate) struct Object {
    /// Name of the object with a dot behind; empty for the body itself.
    prefix: String,
    keys: Map<String, Value>,
}

impl Object {
    /// Reads a body.
    ///
    /// # Errors
    /// `Json` when it is no object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Refused> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(keys)) => Ok(Self {
                prefix: String::new(),
                keys,
            }),
            Ok(other) => Err(Refused::Json {
                cause: format!("it is {}", kind(&other)),
            }),
            Err(error) => Err(Refused::Json {
                cause: error.to_string(),
            }),
        }
    }

    /// Full name of a key.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Whether it has the key, `null` or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// The value as text; `None` if missing, null or blank.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, Refused> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
            Some(other) => Err(self.wrong(key, "a string", other)),
        }
    }

    /// The value as text.
    pub(crate) fn required_text(&self, key: &str) -> Result<&str, Refused> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    /// The value as an object of its own; empty if missing or null.
    pub(crate) fn object(&self, key: &str) -> Result<Self, Refused> {
        let keys = match self.keys.get(key) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(keys)) => keys.clone(),
            Some(other) => return Err(self.wrong(key, "an object", other)),
        };
        Ok(Self {
            prefix: format!("{}{key}.", self.prefix),
            keys,
        })
    }

    /// As [`object`](Self::object), but it must be there.
    pub(crate) fn required_object(&self, key: &str) -> Result<Self, Refused> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Err(self.missing(key)),
            Some(_) => self.object(key),
        }
    }

    /// The value as a list of names; empty if missing or null.
    pub(crate) fn names(&self, key: &str) -> Result<Vec<String>, Refused> {
        let list = match self.keys.get(key) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(self.wrong(key, "an array of strings", other)),
        };
        let mut names = Vec::with_capacity(list.len());
        for (at, item) in list.iter().enumerate() {
            let key = || format!("{key}[{at}]");
            match item {
                Value::String(name) if is_name(name) => names.push(name.clone()),
                Value::String(_) => return Err(self.wrong_value(&key(), "no name has these characters")),
                other => return Err(self.wrong(&key(), "a string", other)),
            }
        }
        Ok(names)
    }

    /// The value as a port, written as a number or as text; `None` if missing or null.
    pub(crate) fn port(&self, key: &str) -> Result<Option<u16>, Refused> {
        let port = match self.keys.get(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.as_u64().and_then(|port| u16::try_from(port).ok()),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(other) => return Err(self.wrong(key, "a port", other)),
        };
        match port {
            None | Some(0) => Err(self.wrong_value(key, "a port is a number from 1 to 65535")),
            port => Ok(port),
        }
    }

    /// Every key as a parameter, in order: text, numbers and truth values; nulls are left out.
    pub(crate) fn params(&self) -> Result<Params, Refused> {
        let mut params = Params::default();
        let mut bytes = 0;
        for (key, value) in &self.keys {
            let value = match value {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(fact) => fact.to_string(),
                other => return Err(self.wrong(key, "a string, a number or a truth value", other)),
            };
            bytes += key.len() + value.len();
            if bytes > MAX_PARAMS_BYTES {
                return Err(self.wrong_value(
                    key,
                    &format!("with those before it, it has more than {MAX_PARAMS_BYTES} bytes"),
                ));
            }
            params.0.push((key.clone(), value));
        }
        Ok(params)
    }

    /// Every key but one, as it is.
    pub(crate) fn others(mut self, key: &str) -> Map<String, Value> {
        self.keys.remove(key);
        self.keys
    }

    /// The key is missing.
    pub(crate) fn missing(&self, key: &str) -> Refused {
        Refused::Missing { key: self.name(key) }
    }

    /// The key has a value that makes no sense.
    pub(crate) fn wrong_value(&self, key: &str, why: &str) -> Refused {
        Refused::Value {
            key: self.name(key),
            why: why.to_owned(),
        }
    }

    fn wrong(&self, key: &str, expected: &'static str, found: &Value) -> Refused {
        Refused::Type {
            key: self.name(key),
            expected,
            found: kind(found),
        }
    }
}

/// Whether a text can be a name in a registry: nothing that separates parts of a path, a list or a URL.
pub(crate) fn is_name(text: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !"/?&=,#%".contains(c);
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.chars().all(is_plain)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// They stand in the registry's name of the provider, and on disk; 1 KiB is usual.
const MAX_PARAMS_BYTES: usize = 16 << 10;
/// Java allows 64 KiB; nobody writes it.
const MAX_NAME_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> Object {
        Object::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_wrong_is_told_with_the_full_name_of_its_key() {
        let body = object(r#"{"a":{"b":{"c":[1]}},"n":7,"l":["ok",3],"m":["a,b"],"p":70000,"q":"x","r":0,"s":true}"#);
        let inner = body.object("a").unwrap().object("b").unwrap();
        let told = |refused: Refused| refused.to_string();
        assert_eq!(
            told(inner.params().unwrap_err()),
            "key `a.b.c` must be a string, a number or a truth value, not an array"
        );
        assert_eq!(
            told(body.text("n").unwrap_err()),
            "key `n` must be a string, not a number"
        );
        assert_eq!(told(body.required_text("none").unwrap_err()), "key `none` is missing");
        assert_eq!(
            told(body.names("l").unwrap_err()),
            "key `l[1]` must be a string, not a number"
        );
        assert_eq!(
            told(body.names("m").unwrap_err()),
            "key `m[0]` is wrong: no name has these characters"
        );
        assert_eq!(
            told(body.object("n").unwrap_err()),
            "key `n` must be an object, not a number"
        );
        for port in ["p", "q", "r"] {
            assert!(told(body.port(port).unwrap_err()).contains("from 1 to 65535"), "{port}");
        }
        assert_eq!(
            told(body.port("s").unwrap_err()),
            "key `s` must be a port, not a truth value"
        );
    }

    #[test]
    fn null_is_as_good_as_missing() {
        let body = object(r#"{"a":null,"b":"  ","c":{"x":null,"y":1,"z":false,"w":"v"}}"#);
        assert_eq!(body.text("a").unwrap(), None);
        assert_eq!(body.text("b").unwrap(), None);
        assert_eq!(body.port("a").unwrap(), None);
        assert!(body.names("a").unwrap().is_empty());
        assert!(body.object("a").unwrap().params().unwrap().0.is_empty());
        assert!(body.required_object("a").is_err());
        let pairs = body.object("c").unwrap().params().unwrap().0;
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("y", "1"), ("z", "false"), ("w", "v")]);
    }

    #[test]
    fn parameters_are_bounded() {
        let body = object(&format!(r#"{{"a":"{0}","b":"{0}","c":"{0}"}}"#, "x".repeat(8000)));
        assert!(body.params().unwrap_err().to_string().starts_with("key `c` is wrong"));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let deep = "[".repeat(100_000);
        for wrong in ["", "null", "[]", "\"a\"", "{", "{\"a\":}", "{} x", "\u{1}", &deep] {
            assert!(
                matches!(Object::parse(wrong.as_bytes()), Err(Refused::Json { .. })),
                "{wrong:.20}"
            );
        }
        assert!(Object::parse(b"{\"a\":\"\xff\"}").is_err());
    }
}
