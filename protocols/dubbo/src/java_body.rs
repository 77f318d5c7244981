// SPDX-License-Identifier: Apache-2.0
//! The body of a request in Java's own serialization: the strings at its front and the attachments at its end, without
//! what lies between. Nothing is ever made an object.
//!
//! Source: "Java Object Serialization Specification" section 6.4, `JavaObjectOutput` and `NativeJavaObjectOutput` of Dubbo
//! 2.7.23, and the captures of 2.6.12 and 2.7.23 in `testbed/golden/dubbo/`.

use std::borrow::Cow;

use remora_hessian2::argument_count;

use crate::request::{Attached, Call, Key, Value, is_generic};
use crate::serialization as id;

/// `None` if the body has another shape than Dubbo gives it, or names its group in a way that cannot be followed.
pub(crate) fn read(serialization: u8, body: &[u8]) -> Option<Call<'_>> {
    let (mut front, rest) = first_block(body.strip_prefix(STREAM_START)?)?;
    let mut text = || front.text(serialization != id::NATIVE_JAVA);
    text()?;
    let (service, version, method, descriptor) = (text()?, text()?, text()??, text()??);
    let is_generic = is_generic(&method, &descriptor) && argument_count(&descriptor).is_ok();
    let mut call = Call {
        service,
        version,
        method,
        is_generic,
        attached: attachments(body)?,
    };
    if is_generic && let Some(Item::Text(method)) = (Bytes { rest }).item() {
        call.method = method;
    }
    Some(call)
}

/// The data before the first object, and what follows it.
fn first_block(stream: &[u8]) -> Option<(Bytes<'_>, &[u8])> {
    let mut stream = Bytes { rest: stream };
    let len = match stream.byte()? {
        BLOCK => usize::from(stream.byte()?),
        LONG_BLOCK => usize::try_from(stream.u32()?).ok()?,
        _ => return None,
    };
    let block = stream.take(len)?;
    Some((Bytes { rest: block }, stream.rest))
}

/// The attachments: the `HashMap` that ends where the body ends. An argument cannot pass for it, since the real one
/// comes after all arguments.
fn attachments(body: &[u8]) -> Option<Attached<'_>> {
    if body.ends_with(NULL_AT_END) {
        return Some(Attached::default());
    }
    let tail = body.get(body.len().saturating_sub(MAX_TAIL_BYTES)..)?;
    memchr::memmem::rfind_iter(tail, HASH_MAP_DATA)
        .take(MAX_TAIL_TRIES)
        .find_map(|at| {
            let map = Bytes {
                rest: tail.get(at + HASH_MAP_DATA.len()..)?,
            };
            entries(map)
        })
}

/// The inside of a `HashMap`: capacity, size, and so many keys and values, all of them strings, to the last byte.
fn entries(mut map: Bytes<'_>) -> Option<Attached<'_>> {
    map.u32()?;
    let size = map.u32()?;
    let mut attached = Attached::default();
    for _ in 0..size {
        // A key that is a string seen before could be any; only `text` says which.
        let Item::Text(key) = map.item()? else {
            return None;
        };
        let item = map.item()?;
        let Some(which) = Key::of(key.as_bytes()) else {
            continue;
        };
        match item {
            Item::Text(value) => attached.put(which, Value::Text(value)),
            Item::Null => attached.put(which, Value::Other),
            // The same string as another one before it: of the names, interface and path repeat the service.
            Item::SeenBefore if matches!(&*key, "group" | "version") => return None,
            Item::SeenBefore => attached.put(which, Value::Other),
        }
    }
    (map.rest == [END_OF_OBJECT] && attached.names_a_service()).then_some(attached)
}

/// One value inside the map.
enum Item<'b> {
    Text(Cow<'b, str>),
    Null,
    SeenBefore,
}

struct Bytes<'b> {
    rest: &'b [u8],
}

impl<'b> Bytes<'b> {
    /// A string as data: `Some(None)` is null. `has_length`: Dubbo's own output writes the length before it.
    fn text(&mut self, has_length: bool) -> Option<Option<Cow<'b, str>>> {
        if has_length && self.u32()? == NULL_LENGTH {
            return Some(None);
        }
        let len = usize::from(self.u16()?);
        self.take(len).map(|raw| Some(String::from_utf8_lossy(raw)))
    }

    /// A string as an object, null, or a reference.
    fn item(&mut self) -> Option<Item<'b>> {
        match self.byte()? {
            STRING => {
                let len = usize::from(self.u16()?);
                self.take(len).map(|raw| Item::Text(String::from_utf8_lossy(raw)))
            }
            NULL => Some(Item::Null),
            REFERENCE => self.u32().map(|_| Item::SeenBefore),
            _ => None,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }
}

const STREAM_START: &[u8] = b"\xac\xed\x00\x05";
const BLOCK: u8 = 0x77;
const LONG_BLOCK: u8 = 0x7a;
const STRING: u8 = 0x74;
const NULL: u8 = 0x70;
const REFERENCE: u8 = 0x71;
const END_OF_OBJECT: u8 = 0x78;
/// What Dubbo's own output writes for a null map, as a block of its own.
const NULL_AT_END: &[u8] = b"\x77\x01\x00";
const NULL_LENGTH: u32 = u32::MAX;
/// `HashMap.writeObject`: a block of 8 bytes with capacity and size, then the entries.
const HASH_MAP_DATA: &[u8] = b"\x77\x08";
/// How far back the attachments are looked for, in bytes, and how many times: bounds the work.
const MAX_TAIL_BYTES: usize = 16 << 10;
const MAX_TAIL_TRIES: usize = 64;
