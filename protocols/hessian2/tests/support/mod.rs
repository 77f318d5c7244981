// SPDX-License-Identifier: Apache-2.0
//! Golden files: `testbed/golden/hessian2/<library>/<case>.hex`, whose lines `golden.Golden` of
//! `testbed/java/golden-hessian` describes.
#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, reason = "a broken golden file fails the test")]

use std::path::Path;

use remora_hessian2::Dialect;

/// One golden file.
pub struct Golden {
    /// Library and case, for messages.
    pub name: String,
    pub dialect: Dialect,
    pub bytes: Vec<u8>,
    /// What the top-level values are, where the file tells.
    pub values: Vec<Expected>,
}

/// A value named in a golden file.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    Null,
    Bool(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Date(i64),
    Text(Vec<u16>),
}

/// All golden files, or those of one case.
pub fn golden_files(case: Option<&str>) -> Vec<Golden> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testbed/golden/hessian2");
    let mut files = Vec::new();
    for library in ["hessian-lite-3.2", "hessian-lite-4.0", "sofa-hessian-3.5"] {
        let dialect = if library.starts_with("sofa") {
            Dialect::Sofa
        } else {
            Dialect::Hessian2
        };
        let folder = root.join(library);
        let mut names: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        for path in names {
            let name = path.file_stem().unwrap().to_str().unwrap();
            if case.is_none_or(|case| case == name) {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push(parse(format!("{library}/{name}"), dialect, &text));
            }
        }
    }
    assert!(!files.is_empty(), "golden files of {case:?}");
    files
}

fn parse(name: String, dialect: Dialect, text: &str) -> Golden {
    let mut golden = Golden {
        name,
        dialect,
        bytes: Vec::new(),
        values: Vec::new(),
    };
    for line in text.lines() {
        if let Some(tokens) = line.strip_prefix("# values ") {
            golden.values = tokens.split(' ').map(expected).collect();
        } else if let Some((byte, count)) = line.split_once('*').filter(|_| !line.starts_with('#')) {
            let byte = u8::from_str_radix(byte, 16).unwrap();
            golden
                .bytes
                .resize(golden.bytes.len() + count.parse::<usize>().unwrap(), byte);
        } else if !line.starts_with('#') {
            let digits = line.as_bytes().chunks_exact(2);
            golden
                .bytes
                .extend(digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()));
        }
    }
    golden
}

fn expected(token: &str) -> Expected {
    match token {
        "null" => Expected::Null,
        "true" => Expected::Bool(true),
        "false" => Expected::Bool(false),
        "Infinityd" => Expected::Double(f64::INFINITY),
        "-Infinityd" => Expected::Double(f64::NEG_INFINITY),
        "NaNd" => Expected::Double(f64::NAN),
        _ if token.ends_with('"') => Expected::Text(token.split('+').flat_map(run).collect()),
        _ => {
            if let Some(millis) = token.strip_suffix("ms") {
                Expected::Date(millis.parse().unwrap())
            } else if let Some(double) = token.strip_suffix('d') {
                Expected::Double(double.parse().unwrap())
            } else if let Some(long) = token.strip_suffix('L') {
                Expected::Long(long.parse().unwrap())
            } else {
                Expected::Int(token.parse().unwrap())
            }
        }
    }
}

/// `3*"a"` or `1*"\ud83d"`.
fn run(token: &str) -> Vec<u16> {
    let (count, unit) = token.split_once('*').unwrap();
    let unit = unit.trim_matches('"');
    let unit = match unit.strip_prefix("\\u") {
        Some(digits) => u16::from_str_radix(digits, 16).unwrap(),
        None => unit.bytes().next().map_or(0, u16::from),
    };
    vec![unit; count.parse().unwrap()]
}
