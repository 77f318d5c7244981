// SPDX-License-Identifier: Apache-2.0
//! The body of a request in hessian2: walked, never decoded.

use std::borrow::Cow;

use remora_hessian2::{Entry, Text, Walk, WalkError, argument_count};
use remora_protocol::RouteKeysError;

use crate::request::{Attached, Call, Key, Value, is_generic};

pub(crate) fn read(body: &[u8]) -> Result<Call<'_>, RouteKeysError> {
    let mut walk = Walk::new(body);
    let mut call = Call::default();
    let mut argument_count = front(&mut walk, &mut call)?;
    if call.is_generic && argument_count > 0 {
        argument_count -= 1;
        generic_method(&mut walk, &mut call).map_err(malformed)?;
    }
    let attached = &mut call.attached;
    match walk
        .skip_many(argument_count)
        .and_then(|()| walk.attachments_each(|entry| put(attached, &entry)))
    {
        Ok(_) => {}
        // Nothing is wrong with such a request: the application may be able to read it. Only our limits were passed.
        Err(error @ (WalkError::TooDeep { .. } | WalkError::TooMany { .. })) => {
            call.attached = last_map(body).ok_or(malformed(error))?;
        }
        Err(error) => return Err(malformed(error)),
    }
    Ok(call)
}

/// The five values before the arguments. Gives the number of arguments.
fn front<'b>(walk: &mut Walk<'b>, call: &mut Call<'b>) -> Result<usize, RouteKeysError> {
    walk.skip().map_err(malformed)?;
    call.service = walk.string_or_null().map_err(malformed)?.map(text);
    call.version = walk.string_or_null().map_err(malformed)?.map(text);
    call.method = text(walk.string().map_err(malformed)?);
    let at = walk.position();
    let descriptor = text(walk.string().map_err(malformed)?);
    call.is_generic = is_generic(&call.method, &descriptor);
    argument_count(&descriptor).map_err(|_| RouteKeysError::Malformed {
        at,
        what: "parameter types",
    })
}

fn generic_method<'b>(walk: &mut Walk<'b>, call: &mut Call<'b>) -> Result<(), WalkError> {
    match walk.string_or_null() {
        Ok(Some(method)) => call.method = text(method),
        Ok(None) => {}
        Err(WalkError::Kind { .. }) => walk.skip()?,
        Err(error) => return Err(error),
    }
    Ok(())
}

fn put<'b>(attached: &mut Attached<'b>, entry: &Entry<'b>) {
    let Some(key) = entry.key.as_ascii().and_then(Key::of) else {
        return;
    };
    let value = match (entry.value, entry.number) {
        (Some(value), _) => Value::Text(text(value)),
        (None, Some(number)) => Value::Number(number),
        (None, None) => Value::Other,
    };
    attached.put(key, value);
}

/// The attachments of a body whose arguments cannot be stepped over: the last map of it that ends where the body ends
/// and names a service. An argument cannot pass for it, since the real map comes after all arguments.
fn last_map(body: &[u8]) -> Option<Attached<'_>> {
    let tail_at = body.len().saturating_sub(MAX_TAIL_BYTES);
    let tail = body.get(tail_at..)?;
    memchr::memrchr_iter(b'H', tail).take(MAX_TAIL_TRIES).find_map(|at| {
        let mut walk = Walk::new(tail.get(at..)?);
        let mut attached = Attached::default();
        walk.attachments_each(|entry| put(&mut attached, &entry)).ok()?;
        (walk.is_at_end() && attached.names_a_service()).then_some(attached)
    })
}

fn text(text: Text<'_>) -> Cow<'_, str> {
    text.as_str()
}

fn malformed(error: WalkError) -> RouteKeysError {
    RouteKeysError::Malformed {
        at: error.at(),
        what: error.reason(),
    }
}

/// How far back [`last_map`] looks, in bytes, and how many times it tries: bounds its work to half a millisecond or so.
const MAX_TAIL_BYTES: usize = 16 << 10;
const MAX_TAIL_TRIES: usize = 64;
