// SPDX-License-Identifier: Apache-2.0
//! Whether a refusal gets a line of its own in the log: whoever knocks all day must not fill the disk.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Counts the lines of one door.
#[derive(Debug)]
pub struct Audit {
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    second: Instant,
    /// Written in this second.
    lines: u32,
    /// Refusals since the last line.
    unwritten: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            seen: Mutex::new(Seen {
                second: Instant::now(),
                lines: 0,
                unwritten: 0,
            }),
        }
    }
}

impl Audit {
    /// For one refusal: `None` if there were very many in this second, else write a line, with how many refusals before it
    /// have none.
    pub fn line(&self) -> Option<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.second.elapsed() >= Duration::from_secs(1) {
            (seen.second, seen.lines) = (Instant::now(), 0);
        }
        if seen.lines >= MAX_LINES_A_SECOND {
            seen.unwritten += 1;
            return None;
        }
        seen.lines += 1;
        Some(std::mem::take(&mut seen.unwritten))
    }
}

const MAX_LINES_A_SECOND: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_gets_some_lines_a_second_and_the_next_line_tells_of_the_rest() {
        let audit = Audit::default();
        let written = (0..1000).filter_map(|_| audit.line()).collect::<Vec<_>>();
        assert_eq!(written, [0; 20]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(audit.line(), Some(980));
        assert_eq!(audit.line(), Some(0));
    }
}
