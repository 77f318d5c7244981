// SPDX-License-Identifier: Apache-2.0
//! Any bytes as a Hessian body, in both dialects: no panic, no memory beyond the limits, and walk and decode agree.
#![no_main]

mod peak;

use libfuzzer_sys::fuzz_target;
use remora_hessian2::{Attachments, Dialect, Limits, Walk, WalkError, decode, splice_attachment};

#[global_allocator]
static ALLOCATOR: peak::Counting = peak::Counting;

/// What a walk may allocate on top of the body it was given.
const WALK_BYTES: usize = 64 << 10;

fuzz_target!(|body: &[u8]| {
    for dialect in [Dialect::Hessian2, Dialect::Sofa] {
        check(body, dialect);
    }
});

fn check(body: &[u8], dialect: Dialect) {
    let limits = Limits { max_decoded_bytes: 8 << 20, ..Limits::default() };
    let (walked, peak) = peak::peak_of(|| walk_all(body, dialect, limits));
    assert!(peak <= body.len() + WALK_BYTES, "walk took {peak} bytes");

    let (decoded, peak) = peak::peak_of(|| decode(body, dialect, limits));
    assert!(peak <= body.len() + limits.max_decoded_bytes, "decode took {peak} bytes");
    match (walked, decoded) {
        (Ok(count), Ok(decoded)) => {
            assert_eq!(count, decoded.values.len());
            // What was written once is written the same way for ever.
            let once = decoded.encode();
            let again = decode(&once, dialect, limits).expect("what was decoded can be decoded again").encode();
            assert!(once == again);
        }
        (Ok(_), Err(WalkError::UnknownRef { .. } | WalkError::TooMany { .. })) | (Err(_), Err(_)) => {}
        (walked, decoded) => panic!("walk says {walked:?}, decode says {:?}", decoded.map(|_| ())),
    }
}

/// Steps over every value, reads whatever can be read there, and gives the number of values.
fn walk_all(body: &[u8], dialect: Dialect, limits: Limits) -> Result<usize, WalkError> {
    let mut walk = Walk::with(body, dialect, limits);
    let mut count = 0;
    while !walk.is_at_end() {
        let start = walk.position();
        if let Ok(text) = walk.string() {
            assert_eq!(text.utf16().count(), text.units());
            assert!(text == text && text.units() <= body.len());
            if body.len() < 4096 {
                assert!(text.to_utf16().len() == text.units() && text.as_str().len() <= 3 * text.units());
            }
            count += 1;
            continue;
        }
        // A clone copies the class table, which the limit on memory does not foresee.
        if body.len() < 4096 && walk.class_names().next().is_none() {
            if let Ok(attachments) = walk.clone().attachments() {
                assert_eq!(attachments.range().start, start);
                read(body, &attachments);
            }
        }
        walk.skip().inspect_err(|_| assert_eq!(walk.position(), start))?;
        assert!(walk.position() > start);
        count += 1;
    }
    Ok(count)
}

fn read(body: &[u8], attachments: &Attachments<'_>) {
    let mut entries = 0;
    let mut end = attachments.located().inside().start;
    for entry in attachments.entries() {
        assert!(entry.key_range.start == end && entry.value_range.start == entry.key_range.end);
        end = entry.value_range.end;
        entries += 1;
    }
    assert_eq!(end, attachments.located().inside().end);
    let Ok(changed) = splice_attachment(body, attachments.located(), "remora", "\u{1f600}") else {
        return;
    };
    let tail = body.len() - attachments.range().end;
    let is_same = changed.ends_with(&body[body.len() - tail..]) && changed.starts_with(&body[..attachments.range().start]);
    assert!(is_same && (entries > 0 || changed.len() > body.len()));
}
