// SPDX-License-Identifier: Apache-2.0
//! Last known lists: what is kept, and what is refused.

use super::*;
use crate::discovery::test_support::{application_node, provider, service};
use remora_naming::sofa;

fn lists() -> Lists {
    let mut odd = Instance::clone(&provider("10.0.0.3", 1, ""));
    odd.id = "odd".into();
    let list = Snapshot {
        target: service("demo.EchoService"),
        instances: vec![provider("10.0.0.1", 20880, "weight=5"), Arc::new(odd)],
        malformed: vec!["x".into()],
        foreign: vec!["lock".into()],
        source: Source::Registry,
    };
    let nodes = Snapshot {
        target: Target::Application {
            namespace: "/services".into(),
            name: "demo".into(),
        },
        instances: vec![application_node("10.0.0.1", 20880, "r1")],
        malformed: vec![],
        foreign: vec![],
        source: Source::Registry,
    };
    let interface = sofa::Service::of_interface("demo.Echo", "");
    let child = "bolt%3A%2F%2F10.0.0.5%3A12200%3Fversion%3D1.0%26uniqueId%3Dblue";
    let mut offline = sofa::child::parse(child, "demo.Echo").unwrap();
    offline.params.set(sofa::params::OFFLINE, "true");
    let of_sofa = Snapshot {
        target: interface.interface_target(),
        instances: vec![Arc::new(offline)],
        malformed: vec![],
        foreign: vec![],
        source: Source::Registry,
    };
    let document = Document::read(r#"{"services":{}}"#).unwrap();
    Lists {
        lists: vec![Arc::new(list), Arc::new(nodes), Arc::new(of_sofa)],
        documents: vec![("demo".into(), "r1".into(), Arc::new(document))],
    }
}

#[test]
fn what_was_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "east/1");
    assert!(read(&path, "zookeeper://h:2181").unwrap().lists.is_empty());
    let kept = lists();
    write(&path, "zookeeper://h:2181", &kept).unwrap();
    let found = read(&path, "zookeeper://h:2181").unwrap();
    assert_eq!(found.lists.len(), 3);
    for (a, b) in found.lists.iter().zip(&kept.lists) {
        assert_eq!(
            (&a.target, &a.instances, &a.foreign, a.source),
            (&b.target, &b.instances, &b.foreign, Source::Disk)
        );
    }
    assert_eq!(found.documents.len(), 1);
}

#[test]
fn lists_of_another_registry_and_damaged_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "default");
    write(&path, "zookeeper://h:2181", &lists()).unwrap();
    let reason = |result: Result<Lists, DiscoveryError>| result.err().map(|e| e.reason());
    assert_eq!(reason(read(&path, "zookeeper://other:2181")), Some("other_registry"));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(reason(read(&path, "zookeeper://h:2181")), Some("damaged"));
}

/// How many instances the first list has, as a mark of which state it is.
fn read_back(path: &Path) -> Option<usize> {
    let found = read(path, "zookeeper://h:2181").ok()?;
    found.lists.first().map(|list| list.instances.len())
}

/// Two states, the first with two instances, the second with three.
fn write_two(path: &Path) {
    let mut kept = lists();
    write(path, "zookeeper://h:2181", &kept).unwrap();
    let mut list = Snapshot::clone(&kept.lists[0]);
    list.instances.push(provider("10.0.0.9", 20880, ""));
    kept.lists[0] = Arc::new(list);
    write(path, "zookeeper://h:2181", &kept).unwrap();
}

#[test]
fn a_state_cut_anywhere_costs_one_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "default");
    write_two(&path);
    let (before, now) = (Some(2), Some(3));
    assert_eq!(read_back(&path), now);
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(read_back(&path), before, "cut at {cut}");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        read_back(&path),
        before,
        "the last write was cut off between its two steps"
    );
}

#[test]
fn no_flipped_bit_gets_past_the_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "default");
    write_two(&path);
    std::fs::remove_file(disk::former(&path)).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(25);
    for _ in 0..10_000 {
        let mut flipped = whole.clone();
        for _ in 0..random.usize(1..4) {
            let bit = random.usize(..whole.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
        std::fs::write(&path, &flipped).unwrap();
        // Blanks in the first line say nothing, and a bit may be flipped twice.
        let found = read_back(&path);
        let is_whole = flipped[HEAD..] == whole[HEAD..];
        assert!(found.is_none() || (found == Some(3) && is_whole), "{found:?}");
    }
    std::fs::write(disk::former(&path), b"x").unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(
        read(&path, "zookeeper://h:2181").err().map(|e| e.reason()),
        Some("damaged")
    );
}

#[test]
fn the_state_before_of_another_registry_is_refused_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "default");
    write(&path, "zookeeper://other:2181", &lists()).unwrap();
    write(&path, "zookeeper://h:2181", &lists()).unwrap();
    std::fs::write(&path, b"damaged").unwrap();
    assert_eq!(read_back(&path), None);
    std::fs::remove_file(&path).unwrap();
    assert!(read(&path, "zookeeper://h:2181").unwrap().lists.is_empty());
}

/// Length of the first line, with kind, version and checksum.
const HEAD: usize = 48;
