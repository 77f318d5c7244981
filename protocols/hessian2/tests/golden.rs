// SPDX-License-Identifier: Apache-2.0
//! What the Java libraries wrote: walked, decoded, written back, and written anew.

mod support;

use remora_hessian2::{
    Body, Dialect, Encoder, Limits, Value, Walk, WalkError, argument_count, decode, splice_attachment,
};
use support::{Expected, Golden, golden_files};

fn decoded(golden: &Golden) -> Body<'_> {
    decode(&golden.bytes, golden.dialect, Limits::default()).unwrap_or_else(|e| panic!("{}: {e}", golden.name))
}

fn walk(golden: &Golden) -> Walk<'_> {
    Walk::with(&golden.bytes, golden.dialect, Limits::default())
}

/// Number of values up to the end.
fn walk_to_end(bytes: &[u8], dialect: Dialect) -> Result<usize, WalkError> {
    let mut walk = Walk::with(bytes, dialect, Limits::default());
    let mut count = 0;
    while !walk.is_at_end() {
        walk.skip()?;
        count += 1;
    }
    Ok(count)
}

#[test]
fn walk_ends_at_the_last_byte() {
    for golden in golden_files(None) {
        let count = walk_to_end(&golden.bytes, golden.dialect).unwrap_or_else(|e| panic!("{}: {e}", golden.name));
        assert_eq!(count, decoded(&golden).values.len(), "{}", golden.name);
        if !golden.values.is_empty() {
            assert_eq!(count, golden.values.len(), "{}", golden.name);
        }
    }
}

#[test]
fn decoded_body_is_written_back_byte_for_byte() {
    for golden in golden_files(None) {
        assert!(decoded(&golden).encode() == golden.bytes, "{}", golden.name);
    }
}

#[test]
fn cut_body_is_an_error_or_ends_between_values() {
    for golden in golden_files(None) {
        // A long run of one byte is cut at its ends and at each 61st byte between.
        let interesting = |cut: &usize| {
            let around = golden.bytes.get(cut.saturating_sub(4)..cut + 4).unwrap_or_default();
            !cut.is_multiple_of(61) || around.windows(2).any(|pair| pair[0] != pair[1])
        };
        let cuts = (0..golden.bytes.len()).filter(|cut| golden.bytes.len() < 2000 || interesting(cut) && cut % 61 == 0);
        let mut walk = walk(&golden);
        let mut stops = vec![0];
        while !walk.is_at_end() {
            walk.skip().unwrap();
            stops.push(walk.position());
        }
        for cut in cuts {
            let cut_body = &golden.bytes[..cut];
            let is_stop = stops.binary_search(&cut).is_ok();
            assert_eq!(
                walk_to_end(cut_body, golden.dialect).is_ok(),
                is_stop,
                "{} cut at {cut}",
                golden.name
            );
            let body = decode(cut_body, golden.dialect, Limits::default());
            assert_eq!(body.is_ok(), is_stop, "{} cut at {cut}", golden.name);
        }
    }
}

#[test]
fn scalars_are_read_and_written_as_java_does() {
    let mut seen = 0;
    for golden in golden_files(None).iter().filter(|golden| !golden.values.is_empty()) {
        let mut encoder = Encoder::new(golden.dialect);
        for (value, expected) in decoded(golden).values.iter().zip(&golden.values) {
            let name = &golden.name;
            match (value, expected) {
                (Value::Null, Expected::Null) => encoder.null(),
                (Value::Bool(found), Expected::Bool(value)) if found == value => encoder.bool(*value),
                (Value::Int(found, _), Expected::Int(value)) if found == value => encoder.int(*value),
                (Value::Long(found, _), Expected::Long(value)) if found == value => encoder.long(*value),
                (Value::Double(found), Expected::Double(value)) => {
                    assert!(
                        found.value() == *value || value.is_nan() && found.value().is_nan(),
                        "{name}: {value}"
                    );
                    encoder.double(*value)
                }
                (Value::Date(found), Expected::Date(millis)) if found.millis() == *millis => encoder.date(*millis),
                (Value::Text(found), Expected::Text(units)) => {
                    assert_eq!(found.units(), units.len(), "{name}");
                    assert!(found.to_utf16() == *units, "{name}");
                    assert_eq!(found.as_str(), String::from_utf16_lossy(units), "{name}");
                    match String::from_utf16(units) {
                        Ok(text) => {
                            assert!(*found == text.as_str(), "{name}");
                            encoder.string(&text)
                        }
                        Err(_) => encoder.string_utf16(units),
                    }
                }
                (found, expected) => panic!("{name}: {found:?} is not {expected:?}"),
            };
            seen += 1;
        }
        assert!(encoder.finish() == golden.bytes, "{}", golden.name);
    }
    assert!(seen > 250, "{seen}");
}

#[test]
fn bytes_are_cut_as_java_cuts_them() {
    let mut seen = 0;
    for golden in golden_files(None) {
        let Some(len) = golden
            .name
            .split_once("/binary-")
            .and_then(|(_, len)| len.parse::<usize>().ok())
        else {
            continue;
        };
        let mut content = vec![0x5a; len];
        if let Some(last) = content.last_mut() {
            *last = 1;
        }
        let body = decoded(&golden);
        let Some(Value::Binary(binary)) = body.values.first() else {
            panic!("{}", golden.name)
        };
        assert!(binary.as_bytes() == content, "{}", golden.name);
        seen += 1;
        // The older library has a buffer of 4 KiB instead of 8.
        if golden.name.starts_with("hessian-lite-3.2") && len > 4093 {
            continue;
        }
        let mut encoder = Encoder::new(golden.dialect);
        encoder.binary(&content).string("next");
        assert!(encoder.finish() == golden.bytes, "{}", golden.name);
    }
    assert_eq!(seen, 36);
}

fn items(encoder: &mut Encoder, len: usize) {
    for item in 0..len {
        encoder.string(&format!("item{item}"));
    }
}

#[test]
fn lists_and_maps_are_written_as_java_does() {
    for (case, type_name) in [("list-array-", None), ("list-linked-", Some("java.util.LinkedList"))] {
        for len in [0, 1, 7, 8, 300] {
            for golden in golden_files(Some(&format!("{case}{len}"))) {
                // The older library names the type of every list.
                let is_named = type_name.is_none() && golden.name.starts_with("hessian-lite-3.2");
                let mut encoder = Encoder::new(golden.dialect);
                encoder.list_begin(
                    if is_named {
                        Some("java.util.ArrayList")
                    } else {
                        type_name
                    },
                    len,
                );
                items(&mut encoder, len);
                encoder.end();
                assert_eq!(encoder.finish(), golden.bytes, "{}", golden.name);
            }
        }
    }
    for golden in golden_files(Some("map-type-twice")) {
        let mut encoder = Encoder::new(golden.dialect);
        for _ in 0..2 {
            encoder.map_begin(Some("java.util.TreeMap"));
            encoder
                .string("emoji")
                .string("\u{1f600}")
                .string("one")
                .string("1")
                .string("two")
                .string("2")
                .end();
        }
        assert_eq!(encoder.finish(), golden.bytes, "{}", golden.name);
    }
    for golden in golden_files(Some("list-type-twice")) {
        let mut encoder = Encoder::new(golden.dialect);
        for (name, len) in [
            ("LinkedList", 1),
            ("LinkedList", 9),
            ("Vector", 1),
            ("Vector", 2),
            ("LinkedList", 0),
        ] {
            encoder.list_begin(Some(&format!("java.util.{name}")), len);
            items(&mut encoder, len);
            encoder.end();
        }
        assert_eq!(encoder.finish(), golden.bytes, "{}", golden.name);
    }
    for golden in golden_files(Some("list-of-itself")) {
        let type_name = golden
            .name
            .starts_with("hessian-lite-3.2")
            .then_some("java.util.ArrayList");
        let mut encoder = Encoder::new(golden.dialect);
        let index = encoder.list_begin(type_name, 3);
        encoder.reference(index).string("x").reference(index).end();
        assert_eq!(encoder.finish(), golden.bytes, "{}", golden.name);
    }
}

#[test]
fn objects_are_written_as_java_does() {
    for golden in golden_files(Some("object-18-classes")) {
        let mut encoder = Encoder::new(golden.dialect);
        for class in (0..18).chain([17, 0]) {
            encoder.object_begin(&format!("golden.Model$C{class:02}"), &["v"]);
            encoder.int(0).end();
        }
        assert_eq!(encoder.finish(), golden.bytes, "{}", golden.name);
    }
    for golden in golden_files(Some("enum")) {
        let mut encoder = Encoder::new(golden.dialect);
        let mut red = 0;
        for (place, color) in ["RED", "BLUE", "RED"].into_iter().enumerate() {
            if place == 2 {
                encoder.reference(red);
                continue;
            }
            // Only hessian-lite writes a constant with a body of its own as its enum.
            let is_own = color == "BLUE" && golden.dialect == Dialect::Sofa;
            let index = encoder.object_begin(
                &format!("golden.Model$Color{}", if is_own { "$1" } else { "" }),
                &["name"],
            );
            encoder.string(color).end();
            red = red.min(index);
        }
        assert_eq!(encoder.finish(), golden.bytes, "{}", golden.name);
    }
}

#[test]
fn fields_and_types_are_found_by_name() {
    for golden in golden_files(Some("object-cycle")) {
        let body = decoded(&golden);
        let Value::Object(order) = body.values[0].bare() else {
            panic!("{}", golden.name)
        };
        assert_eq!(body.class_of(order).unwrap().name, "golden.Model$Order");
        assert_eq!(body.field(order, "id").unwrap().as_text().unwrap(), &"o2");
        assert!(matches!(body.field(order, "next"), Some(Value::Ref(0, _))));
        assert!(matches!(body.values[1], Value::Ref(0, _)));
        assert_eq!(body.field(order, "nothing"), None);
    }
    for golden in golden_files(Some("map-type-twice")) {
        let body = decoded(&golden);
        for value in &body.values {
            let Value::Map(map) = value else {
                panic!("{}", golden.name)
            };
            assert_eq!(body.type_name(map.type_ref).unwrap(), &"java.util.TreeMap");
        }
    }
}

#[test]
fn request_is_read_without_touching_its_arguments() {
    for golden in golden_files(None)
        .iter()
        .filter(|golden| golden.name.contains("lite") && golden.name.contains("call-request"))
    {
        let mut walk = walk(golden);
        assert_eq!(walk.string().unwrap(), "2.0.2");
        assert_eq!(walk.string().unwrap(), "demo.HelloWorld");
        assert_eq!(walk.string().unwrap(), "1.0.0");
        walk.string().unwrap();
        let arguments = argument_count(&walk.string().unwrap().as_str()).unwrap();
        walk.skip_many(arguments).unwrap();
        let attachments = walk.attachments().unwrap();
        assert!(walk.is_at_end(), "{}", golden.name);
        if golden.name.ends_with("null-attachments") {
            assert!(attachments.is_null());
        } else {
            assert_eq!(attachments.get("path").unwrap(), "demo.HelloWorld", "{}", golden.name);
            assert_eq!(attachments.get("group").unwrap(), "blue", "{}", golden.name);
        }
        if golden.name.ends_with("rich-attachments") {
            assert_eq!(attachments.entry("timeout").unwrap().number, Some(3000));
            assert_eq!(attachments.entry("deadline").unwrap().number, Some(3_000_000_000));
            assert_eq!(attachments.get("emoji").unwrap(), "\u{1f600}");
            assert!(attachments.entry("order").unwrap().value.is_none() && attachments.entry("tags").is_some());
        }

        for (key, value) in [
            ("group", "green"),
            ("remora", "\u{1f600} new"),
            ("timeout", "1"),
            ("order", "text"),
        ] {
            let changed = splice_attachment(&golden.bytes, attachments.located(), key, value).unwrap();
            assert_eq!(
                changed[..attachments.range().start],
                golden.bytes[..attachments.range().start]
            );
            let body = decode(&changed, golden.dialect, Limits::default()).unwrap();
            assert_eq!(body.values.len(), decoded(golden).values.len());
            let mut walk = Walk::new(&changed);
            walk.skip_many(5 + arguments).unwrap();
            let after = walk.attachments().unwrap();
            assert!(walk.is_at_end());
            assert_eq!(after.get(key).unwrap(), value, "{}", golden.name);
            let others = |entries: remora_hessian2::Entries<'_>| {
                let others = entries
                    .filter(|entry| entry.key != key)
                    .map(|entry| entry.key.to_utf16());
                others.collect::<Vec<_>>()
            };
            assert_eq!(others(after.entries()), others(attachments.entries()));
        }
    }
}

#[test]
fn responses_are_an_int_and_what_it_announces() {
    for (case, kind, values) in [("value", 4, 1), ("null", 5, 0), ("exception", 3, 1)] {
        for golden in golden_files(Some(&format!("call-response-{case}"))) {
            if golden.dialect == Dialect::Sofa {
                continue;
            }
            let mut walk = walk(&golden);
            assert_eq!(walk.int(), Ok(kind));
            walk.skip_many(values).unwrap();
            assert_eq!(walk.map_entries().unwrap().next().unwrap().key, "dubbo");
            assert!(walk.is_at_end());
        }
    }
}

#[test]
fn sofa_calls_name_their_fields() {
    for (case, class, field, value) in [
        (
            "call-request-string",
            "com.alipay.sofa.rpc.core.request.SofaRequest",
            "methodName",
            "echo",
        ),
        (
            "call-response-error",
            "com.alipay.sofa.rpc.core.response.SofaResponse",
            "errorMsg",
            "service not found",
        ),
    ] {
        let golden = golden_files(Some(case)).pop().unwrap();
        let body = decoded(&golden);
        let Value::Object(call) = body.values[0].bare() else {
            panic!("{case}")
        };
        assert_eq!(body.class_of(call).unwrap().name, class);
        assert_eq!(body.field(call, field).unwrap().as_text().unwrap(), &value);
    }
}
