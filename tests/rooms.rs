// SPDX-License-Identifier: Apache-2.0
//! Dependencies between the rooms of the root package point one way: app -> discovery, call, admin, lifecycle -> config,
//! metrics, views. Cargo cannot say so inside one package; this test does.

use std::path::{Path, PathBuf};

/// Each room and the rooms it may name. `config` puts the rooms' own `Config` structs together, nothing else of them.
const ALLOWED: &[(&str, &str)] = &[
    ("metrics", ""),
    ("views", ""),
    ("config", ""),
    ("lifecycle", "config"),
    ("admin", "config lifecycle metrics views"),
    ("discovery", "config metrics views"),
    // The call path reads the route tables and takes the ingress ports that discovery hands over.
    ("call", "config metrics discovery::route_table discovery::ingress"),
    (
        "app",
        "config metrics views lifecycle admin discovery call plugins Config Plugins",
    ),
    ("demo", "app config lifecycle admin plugins App AppError Config Plugins"),
    ("preflight", "app config discovery admin plugins Plugins"),
    (
        "cli",
        "app demo preflight config admin views lifecycle plugins App Config Plugins",
    ),
    ("plugins", "config"),
];

#[test]
fn rooms_name_only_the_rooms_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut looked_at = 0;
    for (room, allowed) in ALLOWED {
        for file in files_of(&src, room) {
            looked_at += 1;
            let text = std::fs::read_to_string(&file).unwrap();
            for path in crate_paths(&text) {
                let is_own = path.split("::").next() == Some(room);
                let is_assembly = *room == "config" && is_config_of_a_room(&path);
                let is_allowed = allowed.split(' ').any(|a| {
                    path.strip_prefix(a)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
                });
                if !is_own && !is_assembly && !is_allowed {
                    wrong.push(format!("{} names crate::{path}", file.display()));
                }
            }
        }
    }
    assert!(looked_at > 20, "only {looked_at} files found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_is_listed_here() {
    let lib = include_str!("../src/lib.rs");
    let rooms = lib.lines().filter_map(|line| {
        let line = line.trim();
        let rest = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "))?;
        rest.strip_suffix(';')
    });
    for room in rooms {
        assert!(
            ALLOWED.iter().any(|(name, _)| *name == room),
            "room {room} has no row in ALLOWED"
        );
    }
}

/// The words `Config` and value checks are all that the configuration may take from a room.
fn is_config_of_a_room(path: &str) -> bool {
    matches!(path, "admin" | "call" | "discovery" | "lifecycle")
        || path.ends_with("Config")
        || path.ends_with("LogConfig")
}

fn files_of(src: &Path, room: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![src.join(room)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "rs") => files.push(path),
                false => {}
            }
        }
    }
    let single = src.join(format!("{room}.rs"));
    files.extend(single.is_file().then_some(single));
    files.retain(|file| !file.ends_with("tests.rs") && !file.components().any(|part| part.as_os_str() == "tests"));
    files
}

/// Every `crate::a::b` of a source text, groups of `use crate::{a, b::c}` taken apart at their first level. Comments and
/// the tests at a file's end are left out.
fn crate_paths(text: &str) -> Vec<String> {
    let code: Vec<&str> = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let preceded_by_word = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        if preceded_by_word {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => paths.push(path_at(rest)),
            Some(group) => paths.extend(first_level(group)),
        }
    }
    paths
}

fn path_at(rest: &str) -> String {
    let end = rest
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(rest.len());
    rest[..end].trim_end_matches(':').to_owned()
}

fn first_level(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut paths) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                paths.push(path_at(group[start..at].trim()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                paths.push(path_at(group[start..at].trim()));
                start = at + 1;
            }
            _ => {}
        }
    }
    paths.retain(|path| !path.is_empty());
    paths
}

#[test]
fn paths_are_found_in_groups_and_alone() {
    let text = "use crate::{admin, config::{A, B}};\nlet x = crate::call::Pool::new();\n// crate::no\n";
    assert_eq!(crate_paths(text), ["admin", "config", "call::Pool::new"]);
}
