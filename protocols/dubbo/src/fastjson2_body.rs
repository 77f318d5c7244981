// SPDX-License-Identifier: Apache-2.0
//! The body of a request in fastjson2: every value is a JSONB blob behind its length, 4 bytes, big endian.
//! Source: `FastJson2ObjectOutput` of Dubbo 3.3.6.

use std::borrow::Cow;

use remora_hessian2::argument_count;
use remora_protocol::RouteKeysError;

use crate::jsonb::{Item, Jsonb, JsonbError};
use crate::request::{Attached, Call, Key, Value, is_generic};

/// # Errors
/// `Malformed` when a length does not fit, `None` when the body holds a form of JSONB that is not known here.
pub(crate) fn read(body: &[u8]) -> Result<Option<Call<'_>>, RouteKeysError> {
    match try_read(body) {
        Ok(call) => Ok(Some(call)),
        Err(Unread::Unknown) => Ok(None),
        Err(Unread::Broken { at, what }) => Err(RouteKeysError::Malformed { at, what }),
    }
}

fn try_read(body: &[u8]) -> Result<Call<'_>, Unread> {
    let mut blobs = Blobs { body, at: 0 };
    blobs.next()?;
    let service = blobs.text()?;
    let version = blobs.text()?;
    let method = blobs.text()?.unwrap_or_default();
    let at = blobs.at;
    let descriptor = blobs.text()?.unwrap_or_default();
    let is_generic = is_generic(&method, &descriptor);
    let mut arguments = argument_count(&descriptor).map_err(|_| Unread::Broken {
        at,
        what: "parameter types",
    })?;
    let mut call = Call {
        service,
        version,
        method,
        is_generic,
        attached: Attached::default(),
    };
    if is_generic && arguments > 0 {
        arguments -= 1;
        if let Some(method) = blobs.text()? {
            call.method = method;
        }
    }
    for _ in 0..arguments {
        blobs.next()?;
    }
    let at = blobs.at;
    let attachments = blobs.next()?;
    attached(attachments, &mut call.attached).map_err(|error| unread(error, at + LENGTH_BYTES))?;
    Ok(call)
}

fn attached<'b>(blob: &'b [u8], attached: &mut Attached<'b>) -> Result<(), JsonbError> {
    let mut jsonb = Jsonb::new(blob);
    if !jsonb.enter_map()? {
        return Ok(());
    }
    while let Some(key) = jsonb.key()? {
        let item = jsonb.item()?;
        if let Some(key) = Key::of(key.as_bytes()) {
            attached.put(
                key,
                match item {
                    Item::Text(text) => Value::Text(text),
                    Item::Number(number) => Value::Number(number),
                    Item::Null | Item::Other => Value::Other,
                },
            );
        }
    }
    Ok(())
}

struct Blobs<'b> {
    body: &'b [u8],
    at: usize,
}

impl<'b> Blobs<'b> {
    fn next(&mut self) -> Result<&'b [u8], Unread> {
        let broken = Unread::Broken {
            at: self.at,
            what: "length of a value",
        };
        let rest = self.body.get(self.at..).unwrap_or_default();
        let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or(broken)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| broken)?;
        let blob = rest.get(..length).ok_or(broken)?;
        self.at += LENGTH_BYTES + length;
        Ok(blob)
    }

    /// The next value as a string; `None` if it is null or no string.
    fn text(&mut self) -> Result<Option<Cow<'b, str>>, Unread> {
        let at = self.at;
        let blob = self.next()?;
        match Jsonb::new(blob).item() {
            Ok(Item::Text(text)) => Ok(Some(text)),
            Ok(Item::Null | Item::Number(_) | Item::Other) => Ok(None),
            Err(error) => Err(unread(error, at + LENGTH_BYTES)),
        }
    }
}

/// Why the body could not be read.
#[derive(Clone, Copy)]
enum Unread {
    Broken { at: usize, what: &'static str },
    Unknown,
}

fn unread(error: JsonbError, blob_at: usize) -> Unread {
    match error {
        JsonbError::Broken(at) => Unread::Broken {
            at: blob_at + at,
            what: "length in JSONB",
        },
        JsonbError::Unknown => Unread::Unknown,
    }
}

const LENGTH_BYTES: usize = 4;
