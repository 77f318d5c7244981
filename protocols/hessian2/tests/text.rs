// SPDX-License-Identifier: Apache-2.0
//! Strings: units against bytes, chunks, surrogates, and what only other writers emit.

use std::borrow::Cow;

use remora_hessian2::{Dialect, Limits, Walk, WalkError};

#[test]
fn ascii_and_latin_are_borrowed() {
    for (body, text) in [
        (&b"\0"[..], ""),
        (b"\x02hi", "hi"),
        (b"\x05w\xc3\xb6rld", "wörld"),
        (b"\x02\xe4\xbd\xa0!", "你!"),
    ] {
        let mut walk = Walk::new(body);
        let found = walk.string().unwrap();
        assert!(matches!(found.as_str(), Cow::Borrowed(borrowed) if borrowed == text));
        assert_eq!(found, text);
        assert_eq!(found.units(), text.encode_utf16().count());
        assert!(walk.is_at_end());
    }
}

#[test]
fn surrogate_pair_counts_two_units_and_six_bytes() {
    let mut walk = Walk::new(b"\x04a\xed\xa0\xbd\xed\xb8\x80b");
    let text = walk.string().unwrap();
    assert!(walk.is_at_end());
    assert_eq!(text.as_str(), "a\u{1f600}b");
    assert_eq!(text, "a\u{1f600}b");
    assert!(text != "a\u{1f601}b" && text != "a" && !text.is_empty());
    assert_eq!(text.to_utf16(), "a\u{1f600}b".encode_utf16().collect::<Vec<_>>());
}

#[test]
fn four_byte_character_of_other_writers_counts_two_units() {
    let mut walk = Walk::new(b"\x03\xf0\x9f\x98\x80b");
    let text = walk.string().unwrap();
    assert!(walk.is_at_end());
    assert_eq!(text, "\u{1f600}b");
    assert_eq!(text.to_utf16().len(), text.units());
    assert!(matches!(
        Walk::new(b"\x01\xf0\x9f\x98\x80").string(),
        Err(WalkError::BadText { at: 1, .. })
    ));
}

#[test]
fn pair_may_be_cut_by_a_chunk() {
    for (body, dialect) in [
        (&b"R\0\x02a\xed\xa0\xbd\x02\xed\xb8\x80b"[..], Dialect::Hessian2),
        (
            b"R\0\x01aR\0\x01\xed\xa0\xbdR\0\0\x30\x02\xed\xb8\x80b",
            Dialect::Hessian2,
        ),
        (b"s\0\x02a\xed\xa0\xbdS\0\x02\xed\xb8\x80b", Dialect::Sofa),
    ] {
        let mut walk = Walk::with(body, dialect, Limits::default());
        let text = walk.string().unwrap();
        assert!(walk.is_at_end() && text.is_chunked());
        assert_eq!(text.units(), 4);
        assert_eq!(text, "a\u{1f600}b");
        assert_eq!(text.as_str(), "a\u{1f600}b");
        assert_eq!(text, Walk::new(b"\x04a\xed\xa0\xbd\xed\xb8\x80b").string().unwrap());
    }
}

#[test]
fn lone_surrogate_is_kept_exactly() {
    let text = Walk::new(b"\x02\xed\xb8\x80x").string().unwrap();
    assert_eq!(text.to_utf16(), [0xde00, u16::from(b'x')]);
    assert_eq!(text.as_str(), "\u{fffd}x");
    assert!(text != "\u{fffd}x");
}

#[test]
fn overlong_letter_reads_as_java_reads_it() {
    let text = Walk::new(b"\x02\xc1\x81b").string().unwrap();
    assert_eq!(text, "Ab");
    assert_eq!(text.as_str(), "Ab");
}

#[test]
fn continuation_byte_starts_no_character() {
    assert_eq!(
        Walk::new(b"\x02a\x80").string(),
        Err(WalkError::BadText { at: 2, byte: 0x80 })
    );
    assert_eq!(
        Walk::new(b"\x02a\xff").string(),
        Err(WalkError::BadText { at: 2, byte: 0xff })
    );
}

#[test]
fn long_mixed_text_ends_at_the_right_byte() {
    let part = "The quick brown fox jumps over ü 你好 \u{1f600} and runs on. ";
    for repeat in 1..30 {
        let text = part.repeat(repeat);
        let units: Vec<u16> = text.encode_utf16().collect();
        let mut body = vec![b'S'];
        body.extend(u16::try_from(units.len()).unwrap().to_be_bytes());
        for unit in &units {
            match *unit {
                0..0x80 => body.push(*unit as u8),
                0x80..0x800 => body.extend([0xc0 | (unit >> 6) as u8, 0x80 | (unit & 0x3f) as u8]),
                _ => body.extend([
                    0xe0 | (unit >> 12) as u8,
                    0x80 | (unit >> 6 & 0x3f) as u8,
                    0x80 | (unit & 0x3f) as u8,
                ]),
            }
        }
        body.push(b'T');
        let mut walk = Walk::new(&body);
        let found = walk.string().unwrap();
        assert_eq!(walk.peek_lead(), Some(b'T'));
        assert_eq!(found, text.as_str());
        assert_eq!(found.as_str(), text);
    }
}
