// SPDX-License-Identifier: Apache-2.0
//! Captured frames, for the tests beside this folder.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::PathBuf;

use remora_dubbo::Dubbo;
use remora_protocol::{BytesMut, Decoded, Frame, Protocol};

/// Dubbo's own limit.
pub const LIMIT: usize = 8 << 20;

/// A captured frame.
pub struct Golden {
    /// Name of its file.
    pub name: String,
    /// Its bytes.
    pub wire: Vec<u8>,
}

/// All frames whose name contains `part`, at least one.
pub fn golden(part: &str) -> Vec<Golden> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testbed/golden/dubbo");
    let mut all: Vec<Golden> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .map(|path| Golden {
            name: path.file_stem().expect("a file name").to_string_lossy().into_owned(),
            wire: hex(&std::fs::read_to_string(&path).expect("a readable file")),
        })
        .filter(|golden| golden.name.contains(part))
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!all.is_empty(), "no golden frame is named {part}");
    all
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::bytes)
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    let digit = |b: u8| char::from(b).to_digit(16).expect("a hex digit") as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// The one frame that `wire` holds.
pub fn frame(wire: &[u8]) -> Frame {
    let mut input = BytesMut::from(wire);
    match Dubbo.decode(&mut input, LIMIT).expect("a dubbo frame") {
        Decoded::Frame(frame) => {
            assert!(input.is_empty());
            frame
        }
        other => panic!("{other:?}"),
    }
}
