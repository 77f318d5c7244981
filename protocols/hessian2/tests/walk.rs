// SPDX-License-Identifier: Apache-2.0
//! The walk over bodies written by hand, where each byte is known.

use remora_hessian2::{Dialect, Limits, MAX_DEPTH, Walk, WalkError};

/// Skips every value of `body` and gives the offsets between them.
fn stops(body: &[u8], dialect: Dialect) -> Result<Vec<usize>, WalkError> {
    let mut walk = Walk::with(body, dialect, Limits::default());
    let mut stops = Vec::new();
    while !walk.is_at_end() {
        walk.skip()?;
        stops.push(walk.position());
    }
    Ok(stops)
}

/// A body as dubbo 2.7 writes it for `sayHello("w\u{f6}rld", order)`, the order being an object that names itself.
fn request() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(b"\x052.0.2\x0fdemo.HelloWorld\x051.0.0\x08sayHello\x1eLjava/lang/String;Ldemo/Order;");
    body.extend(b"\x05w\xc3\xb6rld");
    body.extend(b"C\x0ademo.Order\x93\x04next\x03ext\x02id`\x51\x90H\x01k\x5f\0\0\x05\xdcZ\x02o1");
    body.extend(b"H\x04path\x0fdemo.HelloWorld\x07timeout\xd4\x0b\xb8\x05order\x51\x90\x05other`NNNZ");
    body
}

#[test]
fn request_is_read_up_to_its_attachments() {
    let body = request();
    let mut walk = Walk::new(&body);
    assert_eq!(walk.string().unwrap(), "2.0.2");
    assert_eq!(walk.string().unwrap(), "demo.HelloWorld");
    assert_eq!(walk.string_or_null().unwrap().unwrap().as_str(), "1.0.0");
    assert_eq!(walk.string().unwrap(), "sayHello");
    let arguments = remora_hessian2::argument_count(&walk.string().unwrap().as_str()).unwrap();
    walk.skip_many(arguments).unwrap();
    assert_eq!(
        walk.class_names()
            .map(|name| name.as_str().into_owned())
            .collect::<Vec<_>>(),
        ["demo.Order"]
    );
    let attachments = walk.attachments().unwrap();
    assert!(walk.is_at_end() && !attachments.is_null());
    assert_eq!(attachments.range().end, body.len());
    assert_eq!(attachments.get("path").unwrap(), "demo.HelloWorld");
    assert_eq!(attachments.entry("timeout").unwrap().number, Some(3000));
    let keys: Vec<_> = attachments
        .entries()
        .map(|entry| entry.key.as_str().into_owned())
        .collect();
    assert_eq!(keys, ["path", "timeout", "order", "other"]);
    assert_eq!(&body[attachments.entry("other").unwrap().value_range], b"`NNN");
}

#[test]
fn failure_leaves_the_walk_where_it_was() {
    let body = request();
    let mut walk = Walk::new(&body);
    walk.skip_many(5).unwrap();
    let stood = walk.position();
    assert!(matches!(
        walk.attachments(),
        Err(WalkError::Kind {
            wanted: "a map or null",
            ..
        })
    ));
    assert!(matches!(walk.int(), Err(WalkError::Kind { .. })));
    assert_eq!(walk.position(), stood);
    walk.skip().unwrap();
    assert!(matches!(walk.string(), Err(WalkError::Kind { lead: b'C', .. })));
    assert!(walk.skip_many(9).is_err());
    assert_eq!(walk.class_names().count(), 0, "the definition was met, then taken back");
    walk.skip().unwrap();
    assert_eq!(walk.class_names().count(), 1);
}

#[test]
fn body_cut_at_any_byte_is_an_error() {
    let body = request();
    for cut in 1..body.len() {
        let cut_body = &body[..cut];
        let mut walk = Walk::new(cut_body);
        let result = walk.skip_many(8);
        assert!(result.is_err(), "cut at {cut}");
        assert!(result.unwrap_err().at() <= cut);
        assert_eq!(walk.position(), 0);
    }
}

#[test]
fn duplicate_key_counts_last() {
    let mut walk = Walk::new(b"H\x01a\x011\x01b\x012\x01a\x013Z");
    assert_eq!(walk.attachments().unwrap().get("a").unwrap(), "3");
}

#[test]
fn attachments_may_be_null_or_of_another_class() {
    let null = Walk::new(b"N").attachments().unwrap();
    assert!(null.is_null() && null.entries().next().is_none() && null.range() == (0..1));
    let typed = Walk::new(b"M\x11java.util.TreeMap\x01k\x01vZ").attachments().unwrap();
    assert_eq!(typed.get("k").unwrap(), "v");
    assert!(Walk::new(b"N").map_entries().is_err());
    assert_eq!(Walk::new(b"H\x01k\x01vZ").map_entries().unwrap().count(), 1);
}

#[test]
fn every_scalar_takes_the_bytes_of_its_lead() {
    let hessian2: &[(&[u8], usize)] = &[
        (b"N", 1),
        (b"T", 1),
        (b"F", 1),
        (b"\x80", 1),
        (b"\xbf", 1),
        (b"\xc8\0", 2),
        (b"\xd4\0\0", 3),
        (b"I\0\0\0\0", 5),
        (b"\xd8", 1),
        (b"\xef", 1),
        (b"\xf0\0", 2),
        (b"\x38\0\0", 3),
        (b"Y\0\0\0\0", 5),
        (b"L\0\0\0\0\0\0\0\0", 9),
        (b"\x5b", 1),
        (b"\x5c", 1),
        (b"\x5d\0", 2),
        (b"\x5e\0\0", 3),
        (b"\x5f\0\0\0\0", 5),
        (b"D\0\0\0\0\0\0\0\0", 9),
        (b"\x4a\0\0\0\0\0\0\0\0", 9),
        (b"\x4b\0\0\0\0", 5),
        (b"\x20", 1),
        (b"\x23abc", 4),
        (b"\x34\x02ab", 4),
        (b"A\0\x01aB\0\x01b", 8),
        (b"A\0\x01a\x20", 5),
        (b"\0", 1),
        (b"\x30\x02ab", 4),
        (b"R\0\x01aS\0\x01b", 8),
        (b"R\0\x01a\0", 5),
        (b"Q\x90", 2),
    ];
    let sofa: &[(&[u8], usize)] = &[
        (b"N", 1),
        (b"\x77\0\0\0\0", 5),
        (b"\x67", 1),
        (b"\x68", 1),
        (b"\x69\0", 2),
        (b"\x6a\0\0", 3),
        (b"\x6b\0\0\0\0", 5),
        (b"d\0\0\0\0\0\0\0\0", 9),
        (b"\x4a\0", 2),
        (b"\x4b\0\0", 3),
        (b"R\0\0\0\0", 5),
        (b"b\0\x01aB\0\x01b", 8),
        (b"s\0\x01aS\0\x01b", 8),
        (b"r\x75\x90\x01u", 5),
    ];
    for (dialect, cases) in [(Dialect::Hessian2, hessian2), (Dialect::Sofa, sofa)] {
        for (body, len) in cases {
            let mut doubled = body.to_vec();
            doubled.extend_from_slice(body);
            assert_eq!(stops(&doubled, dialect), Ok(vec![*len, 2 * len]), "{body:02x?}");
            for cut in 1..body.len() {
                assert!(stops(&body[..cut], dialect).is_err(), "{body:02x?} cut at {cut}");
            }
        }
    }
}

#[test]
fn every_container_ends_where_it_says() {
    let hessian2: &[&[u8]] = &[
        b"HZ",
        b"H\x90\x91\x92NZ",
        b"M\x01tZ",
        b"M\x90NNZ",
        b"x",
        b"zNN",
        b"X\x92NN",
        b"p\x01t",
        b"q\x90N",
        b"V\x01t\x91N",
        b"U\x01tNNZ",
        b"U\x90Z",
        b"WZ",
        b"WNNNZ",
        b"C\x01a\x90`",
        b"C\x01a\x91\x01f`N",
        b"C\x01a\x90C\x01b\x91\x01fO\x91N",
        b"zHZWHZZ",
        b"C\x01a\x91\x01fzC\x01b\x90aa",
    ];
    let sofa: &[&[u8]] = &[
        b"Mz",
        b"Mt\0\x01aNNz",
        b"M\x75\x90NNz",
        b"Vz",
        b"VNz",
        b"Vn\x02NNz",
        b"Vt\0\x01an\x01Nz",
        b"Vl\0\0\0\x01Nz",
        b"v\x90\x92NN",
        b"O\x91a\x90o\x90",
        b"O\x91a\x91\x01fo\x90N",
        b"Vn\x01Vn\0zz",
    ];
    for (dialect, cases) in [(Dialect::Hessian2, hessian2), (Dialect::Sofa, sofa)] {
        for body in cases {
            assert_eq!(stops(body, dialect), Ok(vec![body.len()]), "{body:02x?}");
            for cut in 1..body.len() {
                assert!(stops(&body[..cut], dialect).is_err(), "{body:02x?} cut at {cut}");
            }
        }
    }
}

#[test]
fn nesting_counts_have_limits() {
    let limits = Limits {
        max_depth: 3,
        max_classes: 1,
        max_items: 5,
        max_chunks: 1,
        ..Limits::default()
    };
    let reason = |body: &[u8]| Walk::with(body, Dialect::Hessian2, limits).skip().unwrap_err().reason();
    assert!(Walk::with(b"yyyN", Dialect::Hessian2, limits).skip().is_ok());
    assert_eq!(reason(b"yyyyN"), "too_deep");
    assert_eq!(reason(b"C\x01a\x90C\x01b\x90`"), "too_many");
    assert_eq!(reason(b"}NNNNN"), "too_many");
    assert_eq!(reason(b"R\0\0R\0\0\0"), "too_many");
    assert_eq!(reason(b"A\0\0A\0\0\x20"), "too_many");

    let bomb = vec![b'y'; 1 << 20];
    let deep = Walk::with(
        &bomb,
        Dialect::Hessian2,
        Limits {
            max_depth: usize::MAX,
            ..limits
        },
    );
    assert!(matches!(
        { deep }.skip(),
        Err(WalkError::TooMany { .. } | WalkError::TooDeep { max: MAX_DEPTH, .. })
    ));
    assert!(matches!(
        Walk::new(&bomb).skip(),
        Err(WalkError::TooDeep { max: MAX_DEPTH, .. })
    ));
}

#[test]
fn counts_beyond_the_body_are_refused() {
    for body in [
        &b"V\x04[intI\x7f\xff\xff\xff"[..],
        b"XI\x7f\xff\xff\xff",
        b"X\x8f",
        b"\x7fN",
        b"C\x01aI\x7f\xff\xff\xff",
        b"C\x01a\x91\x01f`",
    ] {
        let error = Walk::new(body).skip().unwrap_err();
        assert!(matches!(error, WalkError::BadCount { .. }), "{body:02x?}: {error}");
    }
    for body in [&b"Q\x8f"[..], b"O\x8f", b"M\x8f"] {
        assert_eq!(Walk::new(body).skip().unwrap_err().reason(), "bad_count");
    }
    assert_eq!(
        Walk::new(b"`").skip(),
        Err(WalkError::UnknownClass {
            at: 0,
            index: 0,
            defined: 0
        })
    );
}

#[test]
fn unused_leads_are_named() {
    for lead in [0x40, 0x45, 0x47, 0x50, b'Z'] {
        assert_eq!(Walk::new(&[lead]).skip(), Err(WalkError::UnusedLead { at: 0, lead }));
    }
    assert_eq!(
        Walk::new(b"HNZ").skip(),
        Err(WalkError::UnusedLead { at: 2, lead: b'Z' })
    );
}
