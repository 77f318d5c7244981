// SPDX-License-Identifier: Apache-2.0
//! Lines and columns that fit a terminal.

use std::borrow::Cow;

/// A text in which no character commands a terminal: names come from registries and from other hosts. What would is written
/// as `\u001b`, which is the same character again in JSON.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let is_command = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(is_command) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        match is_command(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// For people, such as `3m05s`.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// Rows of one table: more are for a program.
const MAX_ROWS: usize = 500;
/// Longer cells are cut in the middle: the ends tell addresses and classes apart.
const MAX_CELL: usize = 64;

#[derive(Default)]
pub(super) struct Page {
    pub(super) text: String,
}

impl Page {
    /// One line, whatever stands in it.
    pub(super) fn line(&mut self, line: String) {
        let line = line.trim_end();
        let in_one_line = |c: char| if c.is_control() { ' ' } else { c };
        self.text.extend(line.chars().map(in_one_line));
        self.text.push('\n');
    }

    /// Columns as wide as their widest cell; nothing at all without rows.
    pub(super) fn table(&mut self, title: &str, columns: &[&str], rows: impl Iterator<Item = Vec<String>>) {
        let mut rows = rows;
        let shown = rows.by_ref().take(MAX_ROWS);
        let shown: Vec<Vec<String>> = shown
            .map(|row| row.into_iter().map(|cell| cut(&cell)).collect())
            .collect();
        let left_out = rows.count();
        let rows = shown;
        if rows.is_empty() {
            return;
        }
        let head: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
        let width = |at: usize| {
            let cells = rows.iter().chain(std::iter::once(&head)).filter_map(|row| row.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns.len()).map(width).collect();
        self.line(String::new());
        self.line(title.to_owned());
        for row in std::iter::once(&head).chain(&rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            self.line(format!("  {}", cells.collect::<Vec<_>>().join("  ")));
        }
        if left_out > 0 {
            self.line(format!(
                "  and {left_out} more (--json has all; --service and --application choose)"
            ));
        }
    }
}

fn cut(cell: &str) -> String {
    let chars: Vec<char> = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if chars.len() <= MAX_CELL {
        return chars.into_iter().collect();
    }
    let half = MAX_CELL / 2 - 1;
    let (front, back) = (chars.iter().take(half), chars.iter().skip(chars.len() - half));
    front.chain(&['.', '.']).chain(back).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_table_ends_and_says_how_much_it_leaves_out() {
        let mut page = Page::default();
        page.table("Many", &["n"], (0..MAX_ROWS + 3).map(|n| vec![n.to_string()]));
        assert!(page.text.contains("  499\n  and 3 more"), "{}", page.text);
    }

    #[test]
    fn a_foreign_text_commands_no_terminal_and_begins_no_line() {
        let text = "name \x1b]0;x\x07\u{9b}2J\r\u{7f}\n\tplain";
        let printed = harmless(text);
        assert_eq!(printed, "name \\u001b]0;x\\u0007\\u009b2J\\u000d\\u007f\n\tplain");
        let in_json = serde_json::to_string(&text).unwrap();
        let read: String = serde_json::from_str(&harmless(&in_json)).unwrap();
        assert_eq!(read, text, "it stays what it is for a program");
        let mut page = Page::default();
        page.line("note: registry\nremora 1.0, ready\x1b[2K".to_owned());
        assert_eq!(page.text, "note: registry remora 1.0, ready [2K\n");
    }

    #[test]
    fn long_cells_are_cut_and_hold_no_control_characters() {
        let cell = cut(&format!("{}\x1b[31m{}", "a".repeat(80), "z".repeat(80)));
        assert_eq!(cell.chars().count(), MAX_CELL);
        assert!(cell.starts_with("aaa") && cell.ends_with("zzz") && !cell.contains('\x1b'));
    }
}
