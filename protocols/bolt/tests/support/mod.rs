// SPDX-License-Identifier: Apache-2.0
//! Captured frames, for the tests beside this folder.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::PathBuf;

use remora_bolt::Bolt;
use remora_protocol::{BytesMut, Decoded, Frame, Protocol};

/// Above all frames here.
pub const LIMIT: usize = 1 << 20;

/// A captured frame.
pub struct Golden {
    /// Name of its file.
    pub name: String,
    /// Its bytes.
    pub wire: Vec<u8>,
}

/// All frames whose name contains `part`, at least one.
pub fn golden(part: &str) -> Vec<Golden> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testbed/golden/bolt");
    let mut all: Vec<Golden> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .map(|path| Golden {
            name: path.file_stem().expect("a file name").to_string_lossy().into_owned(),
            wire: bytes(&std::fs::read_to_string(&path).expect("a readable file")),
        })
        .filter(|golden| golden.name.contains(part))
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!all.is_empty(), "no golden frame is named {part}");
    all
}

/// The golden frame of that name.
pub fn one(name: &str) -> Frame {
    let all = golden(name);
    let exact = all.iter().find(|golden| golden.name == name);
    frame(&exact.unwrap_or_else(|| panic!("no golden frame is named {name}")).wire)
}

/// Lines of hex, and runs of one byte such as `78*9000`.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (hex, count) = line.split_once('*').unwrap_or((line, "1"));
        let count: usize = count.parse().expect("a count");
        out.extend(hex_bytes(hex).repeat(count));
    }
    out
}

/// Hex digits; all else is white space.
pub fn hex_bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// The one frame that `wire` holds.
pub fn frame(wire: &[u8]) -> Frame {
    let mut input = BytesMut::from(wire);
    match Bolt.decode(&mut input, LIMIT).expect("a bolt frame") {
        Decoded::Frame(frame) => {
            assert!(input.is_empty());
            frame
        }
        other => panic!("{other:?}"),
    }
}
