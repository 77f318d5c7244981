// SPDX-License-Identifier: Apache-2.0
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::request::{Auth, Create, Reconfig, SetData, SetWatches};
use super::*;

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

// First frame of a ZooKeeper 3.8.4 Java client, captured.
const CONNECT: &str = "0000002d 00000000 0000000000000000 0000ea60 0000000000000000 00000010
    00000000000000000000000000000000 00";

#[test]
fn captured_connect_request_is_read_and_written_byte_for_byte() {
    let mut input = BytesMut::from(&hex(CONNECT)[..]);
    let body = split_frame(&mut input, DEFAULT_MAX_FRAME).unwrap().unwrap();
    let request = ConnectRequest::read(&mut Reader::new(body)).unwrap();
    assert_eq!(request.timeout_ms, 60_000);
    assert_eq!(request.read_only, Some(false));
    let mut out = BytesMut::new();
    let start = begin_frame(&mut out);
    request.write(&mut out);
    end_frame(&mut out, start);
    assert_eq!(out.freeze(), hex(CONNECT));
}

#[test]
fn connect_without_the_read_only_byte_stays_without_it() {
    let body = hex(CONNECT).slice(4..48);
    let request = ConnectRequest::read(&mut Reader::new(body.clone())).unwrap();
    assert_eq!(request.read_only, None);
    let mut out = BytesMut::new();
    request.write(&mut out);
    assert_eq!(out.freeze(), body);
    let mut out = BytesMut::new();
    ConnectResponse::expired(request.read_only).write(&mut out);
    assert_eq!(out.len(), 36);
    let mut out = BytesMut::new();
    ConnectResponse::expired(Some(true)).write(&mut out);
    assert_eq!(out.len(), 37);
}

#[test]
fn event_is_what_a_real_server_sent() {
    let mut out = BytesMut::new();
    reply::encode_event(NO_ZXID, EventKind::NodeCreated, "/k/nope", &mut out);
    let captured = "00000023 ffffffff ffffffffffffffff 00000000 00000001 00000003 00000007 2f6b2f6e6f7065";
    assert_eq!(out.freeze(), hex(captured));
}

#[test]
fn open_acl_is_what_clients_send() {
    let acl: Seq<Acl> = [Acl::open()].into_iter().collect();
    let mut out = BytesMut::new();
    acl.write(&mut out);
    assert_eq!(
        out.freeze(),
        hex("00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65")
    );
}

#[test]
fn frame_waits_for_every_byte() {
    let whole = hex(CONNECT);
    for cut in 0..whole.len() {
        let mut input = BytesMut::from(&whole[..cut]);
        assert_eq!(split_frame(&mut input, DEFAULT_MAX_FRAME), Ok(None), "cut at {cut}");
        assert_eq!(input.len(), cut, "nothing may be consumed");
    }
    let mut two = BytesMut::from(&[&whole[..], &whole[..]].concat()[..]);
    assert!(split_frame(&mut two, DEFAULT_MAX_FRAME).unwrap().is_some());
    assert!(split_frame(&mut two, DEFAULT_MAX_FRAME).unwrap().is_some());
    assert!(two.is_empty());
}

#[test]
fn over_limit_is_refused_from_the_length_alone() {
    let mut input = BytesMut::from(&[0, 0, 1, 0][..]);
    assert!(matches!(
        split_frame(&mut input, 255),
        Err(WireError::FrameTooLong {
            announced: 256,
            limit: 255
        })
    ));
    let mut negative = BytesMut::from(&[0xff; 4][..]);
    assert!(matches!(
        split_frame(&mut negative, 255),
        Err(WireError::FrameTooLong { announced: -1, .. })
    ));
}

#[test]
fn request_cut_anywhere_is_an_error_not_a_panic() {
    for request in examples() {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        let whole = out.freeze();
        for cut in 0..whole.len() {
            assert!(
                Request::decode(request.op(), whole.slice(..cut)).is_err(),
                "{request:?} cut at {cut}"
            );
        }
    }
}

#[test]
fn huge_count_is_refused_before_anything_is_read() {
    let body = hex("0000000000000000 7fffffff 00000000");
    assert!(matches!(
        Request::decode(OpCode::SetWatches, body),
        Err(WireError::Truncated { .. })
    ));
}

#[test]
fn null_vector_reads_as_empty_and_null_data_stays_null() {
    let body = hex("00000002 2f61 ffffffff ffffffff 00000000");
    let Ok(Request::Create(create)) = Request::decode(OpCode::Create, body) else {
        panic!("a create");
    };
    assert_eq!(create.data, None);
    assert!(create.acl.is_empty());
}

#[test]
fn multi_keeps_its_operations_in_order() {
    let ops: Ops = [
        Op::Create(create("/a", OpCode::Create2)),
        Op::Delete {
            path: "/b".into(),
            version: 3,
        },
        Op::Check {
            path: "/c".into(),
            version: -1,
        },
    ]
    .into_iter()
    .collect();
    let mut out = BytesMut::new();
    Request::Multi(ops.clone()).encode(&mut out);
    assert!(out.ends_with(&hex("ffffffff 01 ffffffff")));
    assert_eq!(
        Request::decode(OpCode::Multi, out.freeze()),
        Ok(Request::Multi(ops.clone()))
    );
    assert_eq!(
        ops.iter().map(|op| op.path().to_string()).collect::<Vec<_>>(),
        ["/a", "/b", "/c"]
    );
}

#[test]
fn failed_multi_is_what_java_reads() {
    let results: Results = [OpResult::Error(ErrorCode::OK), OpResult::Error(ErrorCode::NODE_EXISTS)]
        .into_iter()
        .collect();
    let mut out = BytesMut::new();
    Reply::Results(results).encode(&mut out);
    let expected = "ffffffff 00 00000000 00000000  ffffffff 00 ffffff92 ffffff92  ffffffff 01 ffffffff";
    assert_eq!(out.freeze(), hex(expected));
}

#[test]
fn paths_are_judged_as_path_utils_does() {
    for good in ["/", "/a", "/a/b.c", "/a/...", "/zwölf", "/a b"] {
        assert_eq!(check_path(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        "a",
        "/a/",
        "//",
        "/a//b",
        "/.",
        "/..",
        "/a/./b",
        "/a/../b",
        "/a\u{1}",
        "/a\u{0}b",
        "/\u{7f}",
        "/\u{e000}",
        "/\u{1f600}",
        "/\u{ffff}",
    ] {
        assert!(check_path(bad).is_err(), "{bad:?}");
    }
    assert_eq!(parent_and_name("/a/b"), Some(("/a", "b")));
    assert_eq!(parent_and_name("/a"), Some(("/", "a")));
    assert_eq!(parent_and_name("/"), None);
}

#[test]
fn four_letter_words_are_told_from_frames() {
    assert_eq!(four_letter_word(b"ruok"), Some(*b"ruok"));
    assert_eq!(four_letter_word(b"mnt"), None);
    assert_eq!(four_letter_word(&[0, 0, 0, 45]), None);
}

fn create(path: &str, op: OpCode) -> Create {
    Create {
        op,
        path: path.into(),
        data: Some(Bytes::from_static(b"127.0.0.1")),
        acl: [Acl::open()].into_iter().collect(),
        flags: 0,
        ttl_ms: if op == OpCode::CreateTtl { 5_000 } else { 0 },
    }
}

// One of each, all with a body.
fn examples() -> Vec<Request> {
    let path = || Text::from("/dubbo/a");
    let names = |n: usize| (0..n).map(|i| Text::from(format!("/w/{i}"))).collect::<Seq<Text>>();
    let watches = SetWatches {
        relative_zxid: 7,
        data: names(2),
        exist: names(0),
        child: names(1),
        ..SetWatches::default()
    };
    vec![
        Request::Create(create("/a", OpCode::Create)),
        Request::Create(create("/a", OpCode::CreateTtl)),
        Request::Delete {
            path: path(),
            version: -1,
        },
        Request::Exists {
            path: path(),
            watch: true,
        },
        Request::SetData(SetData {
            path: path(),
            data: None,
            version: 2,
        }),
        Request::SetAcl {
            path: path(),
            acl: [Acl::open(), Acl::open()].into_iter().collect(),
            version: 0,
        },
        Request::Multi(
            [Op::Create(create("/m", OpCode::CreateContainer))]
                .into_iter()
                .collect(),
        ),
        Request::MultiRead(
            [Op::GetData {
                path: path(),
                watch: false,
            }]
            .into_iter()
            .collect(),
        ),
        Request::Reconfig(Reconfig {
            joining: "a".into(),
            leaving: "".into(),
            new_members: "".into(),
            config: -1,
        }),
        Request::CheckWatches { path: path(), kind: 3 },
        Request::Auth(Auth {
            kind: 0,
            scheme: "digest".into(),
            auth: Some(Bytes::from_static(b"u:p")),
        }),
        Request::SetWatches(watches.clone()),
        Request::SetWatches2(SetWatches {
            persistent: names(1),
            persistent_recursive: names(3),
            ..watches
        }),
        Request::Sasl {
            token: Some(Bytes::from_static(b"t")),
        },
        Request::GetEphemerals { prefix: path() },
        Request::AddWatch { path: path(), mode: 1 },
    ]
}

fn stat() -> impl Strategy<Value = Stat> {
    (any::<[i64; 6]>(), any::<[i32; 5]>()).prop_map(|(l, i)| Stat {
        czxid: l[0],
        mzxid: l[1],
        ctime: l[2],
        mtime: l[3],
        version: i[0],
        cversion: i[1],
        aversion: i[2],
        ephemeral_owner: l[4],
        data_length: i[3],
        num_children: i[4],
        pzxid: l[5],
    })
}

fn text() -> impl Strategy<Value = Text> {
    ".{0,12}".prop_map(Text::from)
}

fn data() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from))
}

fn texts() -> impl Strategy<Value = Seq<Text>> {
    proptest::collection::vec(text(), 0..6).prop_map(|v| v.into_iter().collect())
}

fn acls() -> impl Strategy<Value = Seq<Acl>> {
    let acl = (any::<i32>(), text(), text()).prop_map(|(perms, scheme, id)| Acl { perms, scheme, id });
    proptest::collection::vec(acl, 0..4).prop_map(|v| v.into_iter().collect())
}

fn any_create() -> impl Strategy<Value = Create> {
    let op = prop_oneof![
        Just(OpCode::Create),
        Just(OpCode::Create2),
        Just(OpCode::CreateContainer),
        Just(OpCode::CreateTtl)
    ];
    (op, text(), data(), acls(), any::<i32>(), any::<i64>()).prop_map(|(op, path, data, acl, flags, ttl)| Create {
        op,
        path,
        data,
        acl,
        flags,
        ttl_ms: if op == OpCode::CreateTtl { ttl } else { 0 },
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        any_create().prop_map(Op::Create),
        (text(), any::<i32>()).prop_map(|(path, version)| Op::Delete { path, version }),
        (text(), data(), any::<i32>()).prop_map(|(path, data, version)| Op::SetData(SetData { path, data, version })),
        (text(), any::<i32>()).prop_map(|(path, version)| Op::Check { path, version }),
        (text(), any::<bool>()).prop_map(|(path, watch)| Op::GetData { path, watch }),
        (text(), any::<bool>()).prop_map(|(path, watch)| Op::GetChildren { path, watch }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        any_create().prop_map(Request::Create),
        proptest::sample::select(examples()),
        proptest::collection::vec(op(), 0..5).prop_map(|ops| Request::Multi(ops.into_iter().collect())),
        (any::<i64>(), texts(), texts(), texts(), texts(), texts()).prop_map(|(z, data, exist, child, p, r)| {
            Request::SetWatches2(SetWatches {
                relative_zxid: z,
                data,
                exist,
                child,
                persistent: p,
                persistent_recursive: r,
            })
        }),
        (text(), acls(), any::<i32>()).prop_map(|(path, acl, version)| Request::SetAcl { path, acl, version }),
    ]
}

fn result() -> impl Strategy<Value = OpResult> {
    prop_oneof![
        text().prop_map(|path| OpResult::Create { path }),
        (text(), stat()).prop_map(|(path, stat)| OpResult::Create2 {
            op: OpCode::Create2,
            path,
            stat
        }),
        Just(OpResult::Delete),
        Just(OpResult::Check),
        stat().prop_map(|stat| OpResult::SetData { stat }),
        (data(), stat()).prop_map(|(data, stat)| OpResult::GetData { data, stat }),
        texts().prop_map(|children| OpResult::GetChildren { children }),
        any::<i32>().prop_map(|e| OpResult::Error(ErrorCode(e))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_survive_the_wire(request in request()) {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        prop_assert_eq!(Request::decode(request.op(), out.freeze()), Ok(request));
    }

    #[test]
    fn replies_survive_the_wire(
        stat in stat(), acl in acls(), children in texts(), data in data(), path in text(),
        results in proptest::collection::vec(result(), 0..5), number in any::<i32>(),
    ) {
        let cases = [
            (OpCode::Delete, Reply::Empty),
            (OpCode::Create, Reply::Created { path: path.clone() }),
            (OpCode::CreateContainer, Reply::Created2 { path: path.clone(), stat }),
            (OpCode::SetAcl, Reply::Stat(stat)),
            (OpCode::GetData, Reply::Data { data: data.clone(), stat }),
            (OpCode::GetAcl, Reply::Acl { acl, stat }),
            (OpCode::GetChildren, Reply::Children(children.clone())),
            (OpCode::GetChildren2, Reply::Children2 { children, stat }),
            (OpCode::Sync, Reply::Path { path: path.clone() }),
            (OpCode::Multi, Reply::Results(results.into_iter().collect())),
            (OpCode::Sasl, Reply::Token(data)),
            (OpCode::AddWatch, Reply::Number(number)),
            (OpCode::WhoAmI, Reply::Identities([ClientInfo { scheme: path.clone(), user: path }].into_iter().collect())),
        ];
        for (op, reply) in cases {
            let mut out = BytesMut::new();
            reply.encode(&mut out);
            prop_assert_eq!(Reply::decode(op, out.freeze()), Ok(reply));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(op in proptest::sample::select(OpCode::ALL.to_vec()), body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let body = Bytes::from(body);
        if let Ok(request) = Request::decode(op, body.clone()) {
            let mut out = BytesMut::new();
            request.encode(&mut out);
            let again = Request::decode(op, out.freeze());
            prop_assert_eq!(again, Ok(request));
        }
        let _ = Reply::decode(op, body);
    }
}
