// SPDX-License-Identifier: Apache-2.0
//! Last known copies of nodes: over restarts, and within their limits.

use super::*;
use crate::wire::{Seq, Stat, Text};

const MAPPING: &str = "/dubbo/mapping/a.B";
const OF: &str = "zookeeper://h:2181";

fn data(bytes: &'static [u8]) -> Reply {
    Reply::Data {
        data: Some(Bytes::from_static(bytes)),
        stat: Stat::default(),
    }
}

fn children(names: &[&str]) -> Reply {
    Reply::Children(names.iter().map(|name| Text::from(*name)).collect::<Seq<Text>>())
}

fn in_dir(dir: &Path, of: &str) -> Copies {
    let mut copies = Copies::new(of, &Arc::default());
    copies.remember_in(dir, "default");
    copies
}

fn seen(copies: &Copies, path: &str, reply: &Reply) {
    copies.note(path, ErrorCode::OK, Some(reply));
}

#[test]
fn copies_and_debts_survive_a_restart_but_not_another_registry() {
    let dir = tempfile::tempdir().unwrap();
    let copies = in_dir(dir.path(), OF);
    assert!(copies.draft().is_none(), "nothing to write");
    seen(&copies, MAPPING, &data(b"shop, \xff"));
    seen(
        &copies,
        "/dubbo/a.B/routers",
        &children(&["condition%3A%2F%2F0", "b c"]),
    );
    seen(&copies, "/dubbo/a.B/configurators", &children(&[]));
    copies.owe(MAPPING, &Bytes::from_static(b"shop,late"));
    copies.draft().unwrap().write().unwrap();
    assert!(copies.draft().is_none());

    let again = in_dir(dir.path(), OF);
    for path in [MAPPING, "/dubbo/a.B/routers", "/dubbo/a.B/configurators"] {
        assert_eq!(again.get(path), copies.get(path));
        assert!(again.get(path).is_some());
    }
    let owed = Owed {
        before: Bytes::from_static(b"shop, \xff"),
        data: Bytes::from_static(b"shop,late"),
    };
    assert_eq!(again.owed(), [(MAPPING.to_owned(), owed)]);
    let other = in_dir(dir.path(), "zookeeper://other:2181");
    assert_eq!((other.get(MAPPING), other.owed()), (None, vec![]));
}

#[test]
fn a_damaged_file_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let copies = in_dir(dir.path(), OF);
    seen(&copies, MAPPING, &data(b"shop"));
    copies.draft().unwrap().write().unwrap();
    let file = dir.path().join("zookeeper-copies-default");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(in_dir(dir.path(), OF).get(MAPPING), None);
}

#[test]
fn what_is_gone_from_the_registry_is_gone_with_all_below() {
    let copies = Copies::new(OF, &Arc::default());
    let rules = "/dubbo/a.B/routers";
    seen(&copies, rules, &children(&["x", "y"]));
    seen(&copies, "/dubbo/a.B/routers/x", &data(b"1"));
    seen(&copies, "/dubbo/a.B/routers/y", &data(b"2"));
    seen(&copies, "/dubbo/a.B/routers2", &data(b"3"));
    seen(&copies, rules, &children(&["y"]));
    assert_eq!(copies.get("/dubbo/a.B/routers/x"), None);
    assert!(copies.get("/dubbo/a.B/routers/y").is_some());
    copies.note(rules, ErrorCode::NO_NODE, None);
    assert_eq!((copies.get(rules), copies.get("/dubbo/a.B/routers/y")), (None, None));
    assert!(copies.get("/dubbo/a.B/routers2").is_some());
}

#[test]
fn no_copy_holds_the_buffer_that_it_was_read_into() {
    let copies = Copies::new(OF, &Arc::default());
    let buffer = Bytes::from(vec![b'x'; 64 << 10]);
    let stat = Stat::default();
    let data = Some(buffer.slice(..10));
    seen(&copies, MAPPING, &Reply::Data { data, stat });
    copies.owe(MAPPING, &buffer.slice(..20));
    assert!(buffer.is_unique());
    assert_eq!(copies.get(MAPPING).unwrap().data.unwrap().len(), 10);
}

#[test]
fn what_is_owed_never_fills_the_memory_and_the_last_word_counts() {
    let copies = Copies::new(OF, &Arc::default());
    let large = Bytes::from(vec![b'x'; MAX_NODE_BYTES / 2]);
    for number in 0..100 {
        copies.owe(&format!("/dubbo/metadata/{number}"), &large);
    }
    let bytes: usize = copies.owed().iter().map(|(path, owed)| owed.size(path)).sum();
    assert!(
        bytes <= MAX_OWED_BYTES && bytes > MAX_OWED_BYTES - MAX_NODE_BYTES,
        "{bytes}"
    );
    let copies = Copies::new(OF, &Arc::default());
    for number in 0..=MAX_OWED {
        copies.owe(&format!("/dubbo/mapping/{number}"), &Bytes::from_static(b"a"));
    }
    assert_eq!(copies.owed().len(), MAX_OWED);
    copies.owe("/dubbo/mapping/7", &Bytes::from_static(b"a,b"));
    let owed = copies.owed();
    let (_, last) = owed.iter().find(|(path, _)| path == "/dubbo/mapping/7").unwrap();
    assert_eq!(
        last.data,
        Bytes::from_static(b"a,b"),
        "there is room for what is owed already"
    );
}

#[test]
fn there_are_never_more_than_allowed_and_none_is_an_old_one() {
    let mut now = Now::default();
    for number in 0..=MAX_NODES {
        now.update(&format!("/dubbo/mapping/{number}"), |copy| {
            copy.data = Some(Bytes::new())
        });
    }
    assert_eq!(now.nodes.len(), MAX_NODES);
    now.update("/dubbo/mapping/7", |copy| {
        copy.data = Some(vec![0; MAX_NODE_BYTES + 1].into())
    });
    assert!(
        !now.nodes.contains_key("/dubbo/mapping/7"),
        "it changed, and is too long"
    );
    for number in 0..20 {
        now.update(&format!("/dubbo/mapping/{number}"), |copy| {
            copy.data = Some(vec![0; MAX_NODE_BYTES / 2].into());
        });
    }
    assert!(now.bytes <= MAX_BYTES);
    let counted: usize = now.nodes.iter().map(|(path, copy)| size(path, copy)).sum();
    assert_eq!(now.bytes, counted);
}
