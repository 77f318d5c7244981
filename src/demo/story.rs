// SPDX-License-Identifier: Apache-2.0
//! How the demo tells what happens: numbered steps, two columns, 80 characters wide.

use std::io::{self, Write};
use std::time::Duration;

/// Writes the story as it goes.
pub(super) struct Story<W> {
    out: W,
    steps: usize,
}

/// Width of the left column.
const LABEL: usize = 13;
/// Width of a line.
const WIDTH: usize = 80;

impl<W: Write> Story<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, steps: 0 }
    }

    /// A line of its own.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Begins a step.
    pub(super) fn step(&mut self, title: &str) -> io::Result<()> {
        self.steps += 1;
        let steps = self.steps;
        self.line(&format!("\n{steps}. {title}"))
    }

    /// A fact: what it is, and the fact. Long ones go on in the next line, at `?`, `&` or a space.
    pub(super) fn fact(&mut self, label: &str, text: &str) -> io::Result<()> {
        let mut label = label;
        for part in wrap(text, WIDTH - LABEL - 3) {
            self.line(&format!("   {label:<LABEL$}{part}"))?;
            label = "";
        }
        Ok(())
    }
}

fn wrap(text: &str, width: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.chars().count() > width {
        let end = rest.char_indices().nth(width).map_or(rest.len(), |(at, _)| at);
        let head = rest.get(..end).unwrap_or(rest);
        let cut = head.rfind(['&', '?', ' ']).filter(|at| *at > 0).unwrap_or(end);
        let (part, more) = rest.split_at(cut);
        parts.push(part);
        rest = more.trim_start_matches(' ');
    }
    parts.push(rest);
    parts
}

/// A duration for people: `0.21 ms`.
pub(super) fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

/// The value below which `percent` of the sorted values lie.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

/// A number with thin groups: `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_urls_are_broken_at_their_parameters() {
        let mut out = Vec::new();
        let url = format!(
            "dubbo://127.0.0.1:20880/demo.EchoService?anyhost=true&{}&pid=1",
            "x=".repeat(15)
        );
        Story::new(&mut out).fact("registers", &url).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.split_whitespace().skip(1).collect::<String>(), url);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(12), "12");
        let sorted: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&sorted, 50), Duration::from_millis(51));
        assert_eq!(percentile(&sorted, 99), Duration::from_millis(100));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }
}
