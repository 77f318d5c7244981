// SPDX-License-Identifier: Apache-2.0
//! JSON documents with limits: keys keep their order, unknown ones stay.

use serde_json::Value;

use crate::NamingError;

/// Longest document read: ZooKeeper's own limit for a node's data.
pub(crate) const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// Reads a document; nesting is limited by the reader (128 levels).
pub(crate) fn read(json: &[u8]) -> Result<Value, NamingError> {
    if json.len() > MAX_DOCUMENT_BYTES {
        return Err(NamingError::TooLong {
            bytes: json.len(),
            limit: MAX_DOCUMENT_BYTES,
        });
    }
    serde_json::from_slice(json).map_err(|e| NamingError::Json { cause: e.to_string() })
}

/// The value of a text as Dubbo writes it: a string as it is, everything else as JSON.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A port in a number or in a string.
pub(crate) fn port_in(value: &Value) -> Option<u16> {
    match value {
        Value::Number(n) => n.as_u64().and_then(|n| u16::try_from(n).ok()),
        Value::String(s) => s.parse().ok(),
        _ => None,
    }
}

/// Writes `new` in the form (number or string) that `value` has.
pub(crate) fn set_port(value: &mut Value, new: u16) {
    *value = match value {
        Value::String(_) => Value::String(new.to_string()),
        _ => Value::from(new),
    };
}
