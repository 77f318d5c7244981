// SPDX-License-Identifier: Apache-2.0
//! What would break or behave otherwise, one kind of thing per file.

mod consumers;
mod hosts;
mod lists;
mod registries;
mod rules;

pub(super) use self::consumers::check as consumers;
pub(super) use self::hosts::{check as hosts, knock};
pub(super) use self::lists::check as lists;
pub(super) use self::registries::check as registries;
pub(super) use self::rules::check as rules;

use std::collections::BTreeSet;

/// `a, b, c and 4 more`.
pub(super) fn few<T: AsRef<str>>(all: &BTreeSet<T>) -> String {
    const SHOWN: usize = 5;
    let mut text: Vec<&str> = all.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let more = format!("{} more", all.len().saturating_sub(SHOWN));
    if all.len() > SHOWN {
        text.push(&more);
    }
    match text.split_last() {
        Some((last, front)) if !front.is_empty() => format!("{} and {last}", front.join(", ")),
        _ => text.concat(),
    }
}

/// At most so many bytes of a foreign text, in one line.
pub(super) fn line(text: &str, bytes: usize) -> String {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut: String = text
        .get(..end)
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match end < text.len() {
        true => format!("{}...", cut.trim()),
        false => cut.trim().to_owned(),
    }
}
