// SPDX-License-Identifier: Apache-2.0
//! One attachment added or replaced.

use remora_hessian2::{Limits, SpliceError, Walk, splice_attachment};

/// Walks over `arguments` values and splices into what follows.
fn spliced(body: &[u8], arguments: usize, key: &str, value: &str) -> Result<Vec<u8>, SpliceError> {
    let mut walk = Walk::with(body, Default::default(), Limits::default());
    walk.skip_many(arguments).expect("arguments are well formed");
    let attachments = walk.attachments().expect("attachments are well formed");
    splice_attachment(body, attachments.located(), key, value)
}

#[test]
fn absent_key_is_put_behind_the_others() {
    assert_eq!(
        spliced(b"\x01xH\x01a\x011Z", 1, "b", "2").unwrap(),
        b"\x01xH\x01a\x011\x01b\x012Z"
    );
    assert_eq!(spliced(b"M\x01tZ", 0, "b", "2").unwrap(), b"M\x01t\x01b\x012Z");
}

#[test]
fn string_is_replaced_where_it_stands() {
    assert_eq!(
        spliced(b"H\x01a\x011\x01b\x012Z", 0, "a", "longer").unwrap(),
        b"H\x01a\x06longer\x01b\x012Z"
    );
    assert_eq!(
        spliced(b"H\x01a\x011\x01a\x012Z", 0, "a", "3").unwrap(),
        b"H\x01a\x011\x01a\x013Z"
    );
}

#[test]
fn value_of_another_kind_is_overridden_not_removed() {
    let body = b"H\x01aHZ\x01bQ\x91Z";
    assert_eq!(spliced(body, 0, "a", "1").unwrap(), b"H\x01aHZ\x01bQ\x91\x01a\x011Z");
    assert_eq!(spliced(b"H\x01aNZ", 0, "a", "1").unwrap(), b"H\x01aN\x01a\x011Z");
}

#[test]
fn null_becomes_a_map() {
    assert_eq!(
        spliced(b"\x01xN", 1, "a", "\u{1f600}").unwrap(),
        b"\x01xH\x01a\x02\xed\xa0\xbd\xed\xb8\x80Z"
    );
}

#[test]
fn null_with_values_behind_it_is_left_alone() {
    let error = spliced(b"N\x01x", 0, "a", "1").unwrap_err();
    assert_eq!(error, SpliceError::ValuesFollow { at: 0 });
    assert_eq!(error.reason(), "values_follow");
}

#[test]
fn range_of_another_body_is_refused() {
    let body = b"\x01xH\x01a\x011Z";
    let mut walk = Walk::new(body);
    walk.skip().unwrap();
    let attachments = walk.attachments().unwrap();
    let error = splice_attachment(&body[..5], attachments.located(), "b", "2").unwrap_err();
    assert_eq!(error.reason(), "other_body");
}

#[test]
fn bytes_behind_the_map_stay() {
    assert_eq!(
        spliced(b"HZQ\x90\x01x", 0, "a", "1").unwrap(),
        b"H\x01a\x011ZQ\x90\x01x"
    );
}
