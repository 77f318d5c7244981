// SPDX-License-Identifier: Apache-2.0
//! One string as each serialization writes it: the body of a reply whose status is not 20.
//!
//! Source: `writeUTF` of each `ObjectOutput` of Dubbo 2.7.23 and 3.3.6, whose bytes stand in the tests below. A client
//! reads such a body by the serialization of the reply, and answers a body it cannot read with its own error, so the
//! call ends in any case; the text is then lost.

use std::fmt::Write;

use crate::serialization as id;

/// The serialization to write for a peer that used `serialization`: the same where its strings are known here, else
/// hessian2, which every client has and which clients accept in a reply whose status is not 20.
pub(crate) fn readable_by_user_of(serialization: u8) -> u8 {
    match serialization {
        // Its strings are framed by a class registration of the application's own.
        id::FURY => id::HESSIAN2,
        known if id::name(known).is_some() => known,
        _ => id::HESSIAN2,
    }
}

/// `text` in `serialization`. Callers bound its length.
pub(crate) fn encode(serialization: u8, text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    match serialization {
        id::JAVA | id::COMPACTED_JAVA => java(&mut out, text, true),
        id::NATIVE_JAVA => java(&mut out, text, false),
        id::FASTJSON | id::GSON | id::JACKSON | id::PROTOBUF_JSON => json_line(&mut out, text),
        id::KRYO | id::KRYO2 => kryo(&mut out, text),
        id::FST => fst(&mut out, text),
        id::AVRO => {
            varint(&mut out, text.len() * 2);
            out.extend_from_slice(text.as_bytes());
        }
        id::PROTOSTUFF => {
            out.extend_from_slice(&u32_of(text.len()).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        id::PROTOBUF => protobuf(&mut out, text),
        id::FASTJSON2 => fastjson2(&mut out, text),
        id::MSGPACK => msgpack(&mut out, text),
        _ => hessian2(&mut out, text),
    }
    out
}

fn hessian2(out: &mut Vec<u8>, text: &str) {
    let units = text.encode_utf16().count();
    match units {
        0..=31 => out.push(units as u8),
        32..=1023 => out.extend_from_slice(&[0x30 + (units >> 8) as u8, units as u8]),
        _ => {
            out.push(b'S');
            out.extend_from_slice(&u16_of(units).to_be_bytes());
        }
    }
    utf8_by_units(out, text, Nul::OneByte);
}

/// An object stream with one block of data. `has_length`: Dubbo's own `JavaObjectOutput` writes the length once more.
fn java(out: &mut Vec<u8>, text: &str, has_length: bool) {
    let mut utf = Vec::with_capacity(text.len());
    utf8_by_units(&mut utf, text, Nul::TwoBytes);
    let mut block = Vec::with_capacity(utf.len() + 6);
    if has_length {
        block.extend_from_slice(&u32_of(text.encode_utf16().count()).to_be_bytes());
    }
    block.extend_from_slice(&u16_of(utf.len()).to_be_bytes());
    block.extend_from_slice(&utf);
    out.extend_from_slice(b"\xac\xed\x00\x05");
    match u8::try_from(block.len()) {
        Ok(len) => out.extend_from_slice(&[0x77, len]),
        Err(_) => {
            out.push(0x7a);
            out.extend_from_slice(&u32_of(block.len()).to_be_bytes());
        }
    }
    out.extend_from_slice(&block);
}

fn json_line(out: &mut Vec<u8>, text: &str) {
    let mut line = String::with_capacity(text.len() + 3);
    json_string(&mut line, text);
    line.push('\n');
    out.extend_from_slice(line.as_bytes());
}

/// A JSON string with its quotes.
pub(crate) fn json_string(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            c if c < ' ' => write!(line, "\\u{:04x}", u32::from(c)).expect("writing to a String cannot fail"),
            c => line.push(c),
        }
    }
    line.push('"');
}

/// The long form of `Output.writeString`, which readers also take for ASCII.
fn kryo(out: &mut Vec<u8>, text: &str) {
    let length = text.encode_utf16().count() + 1;
    let first = 0x80 | (length & 0x3f) as u8;
    if length < 0x40 {
        out.push(first);
    } else {
        out.push(first | 0x40);
        varint(out, length >> 6);
    }
    utf8_by_units(out, text, Nul::OneByte);
}

fn fst(out: &mut Vec<u8>, text: &str) {
    let units = text.encode_utf16().count();
    match u8::try_from(units) {
        Ok(len) if len < 0x80 => out.push(len),
        _ => {
            out.push(0x80);
            out.extend_from_slice(&u16_of(units).to_le_bytes());
        }
    }
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte < 0xff => out.push(byte),
            _ => {
                out.push(0xff);
                out.extend_from_slice(&unit.to_le_bytes());
            }
        }
    }
}

/// `google.protobuf.StringValue` behind its length.
fn protobuf(out: &mut Vec<u8>, text: &str) {
    if text.is_empty() {
        out.push(0);
        return;
    }
    let mut message = vec![0x0a];
    varint(&mut message, text.len());
    message.extend_from_slice(text.as_bytes());
    varint(out, message.len());
    out.extend_from_slice(&message);
}

/// JSONB behind its length.
fn fastjson2(out: &mut Vec<u8>, text: &str) {
    let mut jsonb = Vec::with_capacity(text.len() + 4);
    match u8::try_from(text.len()) {
        Ok(len) if text.is_ascii() && len <= 47 => jsonb.push(0x49 + len),
        _ => {
            jsonb.push(if text.is_ascii() { 0x79 } else { 0x7a });
            jsonb.push(0x48);
            jsonb.extend_from_slice(&u32_of(text.len()).to_be_bytes());
        }
    }
    jsonb.extend_from_slice(text.as_bytes());
    out.extend_from_slice(&u32_of(jsonb.len()).to_be_bytes());
    out.extend_from_slice(&jsonb);
}

fn msgpack(out: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(len) if len < 32 => out.push(0xa0 | len),
        _ => {
            out.push(0xda);
            out.extend_from_slice(&u16_of(text.len()).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// How U+0000 is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nul {
    OneByte,
    /// As Java's `DataOutput.writeUTF` does.
    TwoBytes,
}

/// UTF-8 of each UTF-16 unit for itself, a surrogate pair as twice three bytes.
fn utf8_by_units(out: &mut Vec<u8>, text: &str, nul: Nul) {
    for unit in text.encode_utf16() {
        let low = |shift: u16| 0x80 | ((unit >> shift) & 0x3f) as u8;
        match unit {
            0 if nul == Nul::TwoBytes => out.extend_from_slice(&[0xc0, 0x80]),
            0..0x80 => out.push(unit as u8),
            0x80..0x800 => out.extend_from_slice(&[0xc0 | (unit >> 6) as u8, low(0)]),
            _ => out.extend_from_slice(&[0xe0 | (unit >> 12) as u8, low(6), low(0)]),
        }
    }
}

/// Base 128, lowest group first.
fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(0x80 | (value & 0x7f) as u8);
        value >>= 7;
    }
    out.push(value as u8);
}

fn u16_of(len: usize) -> u16 {
    u16::try_from(len).expect("callers bound the text to MAX_TEXT_BYTES")
}

fn u32_of(len: usize) -> u32 {
    u32::try_from(len).expect("callers bound the text to MAX_TEXT_BYTES")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "w\u{f6}\u{1f600}\0\"\n";

    /// What `writeUTF` of each serialization gave for "remora[x]: y" and for [`MIXED`]: Dubbo 2.7.23, fastjson2 3.3.6.
    /// Where two are given, ours is the second: another form that readers take too.
    #[test]
    fn strings_are_those_that_dubbo_writes() {
        for (serialization, plain, mixed) in [
            (id::HESSIAN2, "0c72656d6f72615b785d3a2079", "0777c3b6eda0bdedb88000220a"),
            (
                id::NATIVE_HESSIAN,
                "0c72656d6f72615b785d3a2079",
                "0777c3b6eda0bdedb88000220a",
            ),
            (
                id::JAVA,
                "aced000577120000000c000c72656d6f72615b785d3a2079",
                "aced0005771300000007000d77c3b6eda0bdedb880c080220a",
            ),
            (
                id::NATIVE_JAVA,
                "aced0005770e000c72656d6f72615b785d3a2079",
                "aced0005770f000d77c3b6eda0bdedb880c080220a",
            ),
            (
                id::FASTJSON,
                "2272656d6f72615b785d3a2079220a",
                "2277c3b6f09f98805c75303030305c225c6e220a",
            ),
            (
                id::GSON,
                "2272656d6f72615b785d3a2079220a",
                "2277c3b6f09f98805c75303030305c225c6e220a",
            ),
            (
                id::PROTOBUF_JSON,
                "2272656d6f72615b785d3a2079220a",
                "2277c3b6f09f98805c75303030305c225c6e220a",
            ),
            // Java writes short ASCII as 72..f9, without a length.
            (id::KRYO, "8d72656d6f72615b785d3a2079", "8877c3b6eda0bdedb88000220a"),
            (id::KRYO2, "8d72656d6f72615b785d3a2079", "8877c3b6eda0bdedb88000220a"),
            (id::FST, "0c72656d6f72615b785d3a2079", "0777f6ff3dd8ff00de00220a"),
            (id::AVRO, "1872656d6f72615b785d3a2079", "1477c3b6f09f988000220a"),
            (
                id::PROTOSTUFF,
                "0000000c72656d6f72615b785d3a2079",
                "0000000a77c3b6f09f988000220a",
            ),
            (
                id::PROTOBUF,
                "0e0a0c72656d6f72615b785d3a2079",
                "0c0a0a77c3b6f09f988000220a",
            ),
            // Java picks the shortest form of the inner length, `7a0a`.
            (
                id::FASTJSON2,
                "0000000d5572656d6f72615b785d3a2079",
                "000000107a480000000a77c3b6f09f988000220a",
            ),
            (id::MSGPACK, "ac72656d6f72615b785d3a2079", "aa77c3b6f09f988000220a"),
        ] {
            assert_eq!(hex(&encode(serialization, "remora[x]: y")), plain, "{serialization}");
            assert_eq!(hex(&encode(serialization, MIXED)), mixed, "{serialization}");
        }
    }

    #[test]
    fn lengths_over_the_short_forms_are_those_that_dubbo_writes() {
        let long = "x".repeat(300);
        for (serialization, front) in [
            (id::HESSIAN2, "312c78"),
            (id::JAVA, "aced00057a000001320000012c012c78"),
            (id::NATIVE_JAVA, "aced00057a0000012e012c78"),
            (id::KRYO, "ed0478"),
            (id::FST, "802c0178"),
            (id::AVRO, "d80478"),
            (id::PROTOSTUFF, "0000012c78"),
            (id::PROTOBUF, "af020aac0278"),
            (id::MSGPACK, "da012c78"),
        ] {
            let encoded = hex(&encode(serialization, &long));
            assert!(encoded.starts_with(front), "{serialization}: {encoded}");
        }
    }

    #[test]
    fn what_is_not_known_is_answered_in_hessian2() {
        for serialization in 0..32 {
            let answered = readable_by_user_of(serialization);
            let is_known = id::name(serialization).is_some() && serialization != id::FURY;
            assert_eq!(answered, if is_known { serialization } else { id::HESSIAN2 });
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
