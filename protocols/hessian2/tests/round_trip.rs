// SPDX-License-Identifier: Apache-2.0
//! Any values, written, walked, decoded and written again, in both dialects.
#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use proptest::collection::vec;
use proptest::prelude::*;
use remora_hessian2::{Body, Dialect, Encoder, Limits, Value, Walk, decode, splice_attachment};

/// A value to be written.
#[derive(Debug, Clone)]
enum Made {
    Null,
    Bool(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Date(i64),
    Text(String),
    Utf16(Vec<u16>),
    Binary(Vec<u8>),
    List(Option<&'static str>, Vec<Made>),
    OpenList(Option<&'static str>, Vec<Made>),
    Map(Option<&'static str>, Vec<(Made, Made)>),
    Object(usize, Vec<Made>),
    /// A reference to one of the values begun so far.
    Ref(usize),
}

/// Name and fields of the classes of objects.
const CLASSES: [(&str, &[&str]); 3] = [
    ("demo.Empty", &[]),
    ("demo.One", &["só"]),
    ("demo.Pair\u{e9}", &["left", "right"]),
];

fn made() -> impl Strategy<Value = Made> {
    let leaf = prop_oneof![
        Just(Made::Null),
        any::<bool>().prop_map(Made::Bool),
        prop_oneof![any::<i32>(), -70000..70000, -300..300].prop_map(Made::Int),
        prop_oneof![any::<i64>(), -70000i64..70000, -300i64..300].prop_map(Made::Long),
        prop_oneof![
            any::<f64>(),
            (-70000i32..70000).prop_map(|mills| f64::from(mills) / 1000.0)
        ]
        .prop_map(Made::Double),
        prop_oneof![any::<i64>(), (-9000i64..9000).prop_map(|minutes| minutes * 60_000)].prop_map(Made::Date),
        any::<String>().prop_map(Made::Text),
        "[a-z]{0,1200}".prop_map(Made::Text),
        vec(any::<u16>(), 0..50).prop_map(Made::Utf16),
        vec(any::<u8>(), 0..1100).prop_map(Made::Binary),
        any::<usize>().prop_map(Made::Ref),
    ];
    let type_name = prop_oneof![Just(None), Just(Some("java.util.TreeSet")), Just(Some("[int"))];
    leaf.prop_recursive(5, 60, 10, move |inner| {
        prop_oneof![
            (type_name.clone(), vec(inner.clone(), 0..10)).prop_map(|(name, items)| Made::List(name, items)),
            (type_name.clone(), vec(inner.clone(), 0..4)).prop_map(|(name, items)| Made::OpenList(name, items)),
            (type_name.clone(), vec((inner.clone(), inner.clone()), 0..4)).prop_map(|(name, map)| Made::Map(name, map)),
            (0..CLASSES.len(), vec(inner, 2)).prop_map(|(class, fields)| Made::Object(class, fields)),
        ]
    })
}

/// Writes `value`; `begun` counts what references can name.
fn write(encoder: &mut Encoder, value: &Made, begun: &mut u32) {
    match value {
        Made::Null => {
            encoder.null();
        }
        Made::Bool(value) => {
            encoder.bool(*value);
        }
        Made::Int(value) => {
            encoder.int(*value);
        }
        Made::Long(value) => {
            encoder.long(*value);
        }
        Made::Double(value) => {
            encoder.double(*value);
        }
        Made::Date(value) => {
            encoder.date(*value);
        }
        Made::Text(value) => {
            encoder.string(value);
        }
        Made::Utf16(value) => {
            encoder.string_utf16(value);
        }
        Made::Binary(value) => {
            encoder.binary(value);
        }
        Made::Ref(_) if *begun == 0 => {
            encoder.null();
        }
        Made::Ref(any) => {
            encoder.reference(u32::try_from(any % *begun as usize).unwrap());
        }
        Made::List(name, items) => {
            assert_eq!(encoder.list_begin(*name, items.len()), *begun);
            *begun += 1;
            items.iter().for_each(|item| write(encoder, item, begun));
            encoder.end();
        }
        Made::OpenList(name, items) => {
            assert_eq!(encoder.list_begin_open(*name), *begun);
            *begun += 1;
            items.iter().for_each(|item| write(encoder, item, begun));
            encoder.end();
        }
        Made::Map(name, entries) => {
            assert_eq!(encoder.map_begin(*name), *begun);
            *begun += 1;
            for (key, value) in entries {
                write(encoder, key, begun);
                write(encoder, value, begun);
            }
            encoder.end();
        }
        Made::Object(class, values) => {
            let (name, fields) = CLASSES[*class];
            assert_eq!(encoder.object_begin(name, fields), *begun);
            *begun += 1;
            values
                .iter()
                .take(fields.len())
                .for_each(|value| write(encoder, value, begun));
            encoder.end();
        }
    }
}

/// Whether the reader of the older draft takes the first value for a type: it does so with `true` where no type stands.
fn misleads_sofa(value: &Made) -> bool {
    let is_true = |value: Option<&Made>| matches!(value, Some(Made::Bool(true)));
    match value {
        Made::OpenList(None, items) if is_true(items.first()) => true,
        Made::Map(None, entries) if is_true(entries.first().map(|(key, _)| key)) => true,
        Made::Map(_, entries) => entries
            .iter()
            .any(|(key, value)| misleads_sofa(key) || misleads_sofa(value)),
        Made::List(_, items) | Made::OpenList(_, items) | Made::Object(_, items) => items.iter().any(misleads_sofa),
        _ => false,
    }
}

/// Whether `found` is what was written.
fn is_same(body: &Body<'_>, found: &Value<'_>, made: &Made) -> bool {
    match (found.bare(), made) {
        (Value::Null, Made::Null | Made::Ref(_)) | (Value::Ref(..), Made::Ref(_)) => true,
        (Value::Bool(found), Made::Bool(made)) => found == made,
        (Value::Int(found, _), Made::Int(made)) => found == made,
        (Value::Long(found, _), Made::Long(made)) => found == made,
        (Value::Double(found), Made::Double(made)) => found.value() == *made || made.is_nan() && found.value().is_nan(),
        (Value::Date(found), Made::Date(made)) => found.millis() == *made,
        (Value::Text(found), Made::Text(made)) => *found == made.as_str() && found.as_str() == made.as_str(),
        (Value::Text(found), Made::Utf16(made)) => found.to_utf16() == *made,
        (Value::Binary(found), Made::Binary(made)) => found.as_bytes() == made.as_slice(),
        (Value::List(found), Made::List(name, made) | Made::OpenList(name, made)) => {
            let is_named = body.type_name(found.type_ref).map(|name| name.as_str().into_owned());
            is_named.as_deref() == *name && are_same(body, &found.items, made)
        }
        (Value::Map(found), Made::Map(_, made)) => {
            let pairs = found.entries.iter().zip(made);
            found.entries.len() == made.len()
                && pairs
                    .into_iter()
                    .all(|((key, value), made)| is_same(body, key, &made.0) && is_same(body, value, &made.1))
        }
        (Value::Object(found), Made::Object(class, made)) => {
            let (name, fields) = CLASSES[*class];
            body.class_of(found).unwrap().name == name && are_same(body, &found.fields, &made[..fields.len()])
        }
        _ => false,
    }
}

fn are_same(body: &Body<'_>, found: &[Value<'_>], made: &[Made]) -> bool {
    found.len() == made.len() && found.iter().zip(made).all(|(found, made)| is_same(body, found, made))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_written_is_walked_and_decoded(values in vec(made(), 1..4), is_sofa: bool) {
        let dialect = if is_sofa { Dialect::Sofa } else { Dialect::Hessian2 };
        prop_assume!(!is_sofa || !values.iter().any(misleads_sofa));
        let mut encoder = Encoder::new(dialect);
        let mut begun = 0;
        values.iter().for_each(|value| write(&mut encoder, value, &mut begun));
        let bytes = encoder.finish();

        let mut walk = Walk::with(&bytes, dialect, Limits::default());
        walk.skip_many(values.len()).unwrap();
        prop_assert!(walk.is_at_end());
        let body = decode(&bytes, dialect, Limits::default()).unwrap();
        prop_assert!(are_same(&body, &body.values, &values));
        prop_assert_eq!(body.ref_count, begun);
        prop_assert_eq!(body.encode(), bytes);
    }

    #[test]
    fn spliced_entry_is_found_and_others_stay(
        arguments in vec(made(), 0..3),
        entries in vec(("[a-e]", made()), 0..6),
        key in "[a-g]",
        value: String,
        is_sofa: bool,
    ) {
        let dialect = if is_sofa { Dialect::Sofa } else { Dialect::Hessian2 };
        let mut all = arguments.iter().chain(entries.iter().map(|(_, value)| value));
        prop_assume!(!is_sofa || !all.any(misleads_sofa));
        let mut encoder = Encoder::new(dialect);
        let mut begun = 0;
        arguments.iter().for_each(|argument| write(&mut encoder, argument, &mut begun));
        encoder.map_begin(None);
        begun += 1;
        for (key, value) in &entries {
            encoder.string(key);
            write(&mut encoder, value, &mut begun);
        }
        encoder.end();
        let bytes = encoder.finish();

        let mut walk = Walk::with(&bytes, dialect, Limits::default());
        walk.skip_many(arguments.len()).unwrap();
        let before = walk.attachments().unwrap();
        let changed = splice_attachment(&bytes, before.located(), &key, &value).unwrap();
        prop_assert!(decode(&changed, dialect, Limits::default()).is_ok());
        let mut walk = Walk::with(&changed, dialect, Limits::default());
        walk.skip_many(arguments.len()).unwrap();
        prop_assert_eq!(walk.position(), before.range().start);
        let after = walk.attachments().unwrap();
        prop_assert!(walk.is_at_end());
        prop_assert_eq!(after.get(&key).unwrap(), value.as_str());
        for other in ["a", "b", "c", "d", "e", "f", "g"].into_iter().filter(|other| *other != key) {
            let value = |map: &remora_hessian2::Attachments<'_>, body: &[u8]| {
                map.entry(other).map(|entry| body[entry.value_range].to_vec())
            };
            prop_assert_eq!(value(&before, &bytes), value(&after, &changed));
        }
    }

    #[test]
    fn any_bytes_end_in_an_error_or_at_the_end(bytes in vec(any::<u8>(), 0..200), is_sofa: bool) {
        let dialect = if is_sofa { Dialect::Sofa } else { Dialect::Hessian2 };
        let mut walk = Walk::with(&bytes, dialect, Limits::default());
        while !walk.is_at_end() && walk.skip().is_ok() {}
        let decoded = decode(&bytes, dialect, Limits::default());
        prop_assert!(decoded.is_err() || walk.is_at_end());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..Default::default() })]

    #[test]
    fn chunked_string_is_read_as_it_was(lead in "[a\u{e9}]{0,3}", unit in "[a\u{4f60}\u{1f600}]", count in 16_000usize..70_000, is_sofa: bool) {
        let text = lead + &unit.repeat(count);
        let dialect = if is_sofa { Dialect::Sofa } else { Dialect::Hessian2 };
        let mut encoder = Encoder::new(dialect);
        encoder.string(&text).null();
        let bytes = encoder.finish();
        let mut walk = Walk::with(&bytes, dialect, Limits::default());
        let found = walk.string().unwrap();
        prop_assert!(found == text.as_str() && found.as_str() == text.as_str());
        prop_assert_eq!(walk.string_or_null(), Ok(None));
        prop_assert!(decode(&bytes, dialect, Limits::default()).unwrap().encode() == bytes);
    }
}
