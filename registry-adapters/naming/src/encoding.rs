// SPDX-License-Identifier: Apache-2.0
//! Percent-encoding as Java's `URLEncoder` and `URLDecoder` do it with UTF-8.
//!
//! Kept as they are: `A-Z a-z 0-9 . - * _`; a space becomes `+`; every other byte `%XX` with upper-case digits. Dubbo 3
//! looks for literal `%3A%2F%2F`, `%3F`, `%26` in child names, so the case of the digits matters.

use std::borrow::Cow;

use crate::NamingError;

/// Encodes one component, or a whole URL that becomes a child's name.
pub(crate) fn encode(text: &str, out: &mut String) {
    for &byte in text.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => out.push(byte as char),
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push(HEX[usize::from(byte >> 4)] as char);
                out.push(HEX[usize::from(byte & 15)] as char);
            }
        }
    }
}

/// Undoes one level of encoding. Bytes that are not UTF-8 become U+FFFD, as in Java.
pub(crate) fn decode(text: &str) -> Result<Cow<'_, str>, NamingError> {
    if !text.bytes().any(|b| b == b'%' || b == b'+') {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    for unit in units(text) {
        bytes.push(unit?.byte);
    }
    Ok(Cow::Owned(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(broken) => String::from_utf8_lossy(broken.as_bytes()).into_owned(),
    }))
}

/// One decoded byte and where it stood in the encoded text.
#[derive(Clone, Copy)]
pub(crate) struct Unit {
    pub(crate) byte: u8,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The decoded bytes of `text` one by one.
pub(crate) fn units(text: &str) -> impl Iterator<Item = Result<Unit, NamingError>> + '_ {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let unit = match *bytes.get(start)? {
            b'%' => {
                let digit = |i: usize| bytes.get(i).and_then(|b| (*b as char).to_digit(16));
                let (Some(high), Some(low)) = (digit(start + 1), digit(start + 2)) else {
                    at = bytes.len();
                    return Some(Err(NamingError::Escape { at: start }));
                };
                at = start + 3;
                u8::try_from(high * 16 + low).unwrap_or(b'?')
            }
            b'+' => {
                at = start + 1;
                b' '
            }
            other => {
                at = start + 1;
                other
            }
        };
        Some(Ok(Unit {
            byte: unit,
            start,
            end: at,
        }))
    })
}

const HEX: [u8; 16] = *b"0123456789ABCDEF";
