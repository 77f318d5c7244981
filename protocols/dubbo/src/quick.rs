// SPDX-License-Identifier: Apache-2.0
//! The body of most requests in hessian2, read in one pass: ASCII strings in one piece, and attachments that are such
//! strings only.
//!
//! Gives what `hessian2_body.rs` gives, at a fifth of its cost, or nothing: then the whole grammar is for that file. The
//! arguments may be anything.

use std::borrow::Cow;

use remora_hessian2::{Walk, argument_count};

use crate::request::{Attached, Call, Key, Value, is_generic};

/// What the body says, if it is of the usual shape.
pub(crate) fn read(body: &[u8]) -> Option<Call<'_>> {
    let mut cursor = Cursor { rest: body };
    let front = cursor.front()?;
    cursor.skip_arguments(front.arguments)?;
    let mut call = Call {
        service: Some(Cow::Borrowed(front.service)),
        version: Some(Cow::Borrowed(front.version)),
        method: Cow::Borrowed(front.method),
        ..Call::default()
    };
    cursor.attachments(&mut call.attached, [front.service, front.version])?;
    Some(call)
}

/// A body of the usual shape, around its arguments.
#[derive(Debug)]
pub(crate) struct Parts<'b> {
    pub(crate) front: &'b [u8],
    pub(crate) arguments: u64,
    pub(crate) back: &'b [u8],
}

/// The parts of a body that [`read`] can read.
pub(crate) fn parts(body: &[u8]) -> Option<Parts<'_>> {
    read(body)?;
    let mut cursor = Cursor { rest: body };
    let arguments = cursor.front()?.arguments;
    let front = body.get(..body.len() - cursor.rest.len())?;
    cursor.skip_arguments(arguments)?;
    Some(Parts {
        front,
        arguments,
        back: cursor.rest,
    })
}

/// What follows that many arguments.
#[inline]
pub(crate) fn behind_arguments(arguments_and_rest: &[u8], count: u64) -> Option<&[u8]> {
    let mut cursor = Cursor {
        rest: arguments_and_rest,
    };
    cursor.skip_arguments(count)?;
    Some(cursor.rest)
}

/// The values before the arguments.
struct Front<'b> {
    service: &'b str,
    version: &'b str,
    method: &'b str,
    arguments: u64,
}

struct Cursor<'b> {
    rest: &'b [u8],
}

impl<'b> Cursor<'b> {
    #[inline]
    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (front, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(front)
    }

    /// The bytes of a string in one piece of which every character is one byte.
    #[inline]
    fn ascii(&mut self) -> Option<&'b [u8]> {
        let before = self.rest;
        let (len, from) = match *before {
            [len @ ..=0x1f, ..] => (usize::from(len), 1),
            [high @ 0x30..=0x33, low, ..] => (usize::from(high - 0x30) << 8 | usize::from(low), 2),
            [b'S', high, low, ..] => (usize::from(high) << 8 | usize::from(low), 3),
            _ => return None,
        };
        let bytes = before.get(from..from + len)?;
        if !bytes.is_ascii() {
            return None;
        }
        self.rest = before.get(from + len..)?;
        Some(bytes)
    }

    #[inline]
    fn text(&mut self) -> Option<&'b str> {
        std::str::from_utf8(self.ascii()?).ok()
    }

    fn front(&mut self) -> Option<Front<'b>> {
        self.ascii()?;
        let service = self.text()?;
        let version = self.text()?;
        let method = self.text()?;
        let descriptor = self.text()?;
        if is_generic(method, descriptor) {
            return None;
        }
        let arguments = match descriptor {
            "" => 0,
            "Ljava/lang/String;" => 1,
            other => u64::try_from(argument_count(other).ok()?).ok()?,
        };
        Some(Front {
            service,
            version,
            method,
            arguments,
        })
    }

    #[inline]
    fn skip_arguments(&mut self, count: u64) -> Option<()> {
        for left in (1..=count).rev() {
            let len = match *self.rest.first()? {
                b'N' | b'T' | b'F' | 0x80..=0xbf | 0xd8..=0xef => 1,
                0xc0..=0xcf | 0xf0..=0xff => 2,
                0xd0..=0xd7 | 0x38..=0x3f => 3,
                b'I' | b'Y' => 5,
                b'L' => 9,
                _ if self.ascii().is_some() => 0,
                _ => {
                    // No value before this one can be referred to or defines a class.
                    let mut walk = Walk::new(self.rest);
                    walk.skip_many(usize::try_from(left).ok()?).ok()?;
                    self.take(walk.position())?;
                    return Some(());
                }
            };
            self.take(len)?;
        }
        Some(())
    }

    /// As `text`; most values in attachments are what stood before the arguments.
    #[inline]
    fn text_or_one_of(&mut self, known: [&'b str; 2]) -> Option<&'b str> {
        let bytes = self.ascii()?;
        match known.into_iter().find(|known| known.as_bytes() == bytes) {
            Some(known) => Some(known),
            None => std::str::from_utf8(bytes).ok(),
        }
    }

    fn attachments(&mut self, attached: &mut Attached<'b>, known: [&'b str; 2]) -> Option<()> {
        if self.take(1)? != b"H" {
            return None;
        }
        while *self.rest.first()? != b'Z' {
            let key = self.ascii()?;
            if let Some(key) = Key::of(key) {
                attached.put(key, Value::Text(Cow::Borrowed(self.text_or_one_of(known)?)));
            } else {
                self.ascii()?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use remora_hessian2::Encoder;
    use remora_protocol::{Frame, FrameKind, KeyPrint, StreamId};

    use super::*;
    use crate::head::{self, FLAG_REQUEST, FLAG_TWO_WAY, HEAD_LEN};
    use crate::{hessian2_body, request};

    /// Bodies of captured requests.
    static CAPTURED: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(captured);

    fn captured() -> Vec<(String, Vec<u8>)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testbed/golden/dubbo");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_hessian2 = !name.contains("-java") && !name.contains("fastjson2");
            if name.contains("-request-") && !name.contains("heartbeat") && is_hessian2 {
                let text = std::fs::read_to_string(&path).unwrap();
                let lines = text.lines().filter(|line| !line.starts_with('#'));
                let digits: Vec<u8> = lines.flat_map(str::bytes).filter(u8::is_ascii_hexdigit).collect();
                let wire = digits
                    .chunks(2)
                    .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap());
                found.push((name, wire.skip(16).collect()));
            }
        }
        found
    }

    #[test]
    fn it_reads_most_captured_requests_and_reads_them_as_the_whole_grammar_does() {
        let (mut quick, mut all) = (0, 0);
        for (name, body) in CAPTURED.iter() {
            all += 1;
            if let Some(call) = read(body) {
                quick += 1;
                assert_eq!(call, hessian2_body::read(body).unwrap(), "{name}");
            }
        }
        assert!(quick * 2 > all && all > 20, "{quick} of {all}");
    }

    #[test]
    fn arguments_of_any_kind_are_stepped_over() {
        let mut body = Encoder::default();
        for text in [
            "2.0.2",
            "demo.Echo",
            "1.0.0",
            "echo",
            "Ljava/lang/String;JDLcom/example/Order;Z",
        ] {
            body.string(text);
        }
        body.string("w\u{f6}rld").long(1 << 40).double(0.3);
        body.object_begin("com.example.Order", &["id"]);
        body.string("o1").end();
        body.bool(true);
        body.map_begin(None);
        body.string("path")
            .string("demo.Echo")
            .string("group")
            .string("blue")
            .end();
        let body = body.finish();
        let call = read(&body).expect("of the usual shape");
        assert_eq!(call, hessian2_body::read(&body).unwrap());
    }

    proptest! {
        #[test]
        fn what_is_recognized_has_the_same_keys(
            which in any::<prop::sample::Index>(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..4),
        ) {
            let body = &which.get(&CAPTURED).1;
            let mut other = body.clone();
            for (at, byte, is_insert) in changes {
                let at = at.index(other.len());
                if is_insert { other.insert(at, byte) } else { other[at] = byte }
            }
            let frame = |body: &[u8]| Frame {
                kind: FrameKind::Request,
                stream_id: StreamId(1),
                head_len: HEAD_LEN,
                wire: head::frame(FLAG_REQUEST | FLAG_TWO_WAY | 2, 0, StreamId(1), body),
            };
            let (known, request) = (frame(body), frame(&other));
            let mut print = KeyPrint::default();
            if request::print_keys(&known, &mut print) {
                prop_assert!(request::has_keys(&known, &print));
                if request::has_keys(&request, &print) {
                    prop_assert_eq!(request::route_keys(&request), request::route_keys(&known));
                }
            }
        }

        #[test]
        fn whatever_it_reads_the_whole_grammar_reads_alike(
            which in any::<prop::sample::Index>(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..4),
        ) {
            let mut body = which.get(&CAPTURED).1.clone();
            for (at, byte, is_insert) in changes {
                let at = at.index(body.len());
                if is_insert { body.insert(at, byte) } else { body[at] = byte }
            }
            if let Some(call) = read(&body) {
                prop_assert_eq!(Ok(call), hessian2_body::read(&body));
            }
        }
    }
}
