// SPDX-License-Identifier: Apache-2.0
//! Figures of this process, under the names that every Prometheus client uses. Read from `/proc`; elsewhere there are none.

use std::time::{SystemTime, UNIX_EPOCH};

use super::names;
use super::scraped::Figure;

/// Memory, file descriptors, CPU and start time.
pub fn figures(started: SystemTime) -> Vec<Figure> {
    let since_epoch = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut figures = vec![Figure::gauge(
        names::PROCESS_START_TIME,
        "Start time of the process since unix epoch in seconds",
        since_epoch.as_secs_f64(),
    )];
    if let Some(bytes) = resident_bytes() {
        figures.push(Figure::gauge(
            names::PROCESS_RESIDENT_MEMORY,
            "Resident memory size in bytes",
            bytes,
        ));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the one that reads the directory.
        let open = open.count().saturating_sub(1);
        figures.push(Figure::gauge(
            names::PROCESS_OPEN_FDS,
            "Number of open file descriptors",
            open as f64,
        ));
    }
    if let Some(seconds) = cpu_seconds() {
        figures.push(Figure::counter(
            names::PROCESS_CPU,
            "Total user and system CPU time spent in seconds",
            seconds,
        ));
    }
    figures
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((kib * 1024) as f64)
}

/// User and system ticks are the 14th and 15th field of `stat`; the 2nd, the name in parentheses, may hold spaces.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    Some((ticks.next()?? + ticks.next()??) as f64 / TICKS_PER_SECOND)
}

/// `USER_HZ`, which Linux fixes at 100 towards programs on every architecture it runs on but Alpha and IA-64.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let figures = figures(SystemTime::now());
        assert_eq!(figures.len(), 4);
        assert!(figures.iter().all(|figure| figure.values[0].1 >= 0.0));
        let rss = figures
            .iter()
            .find(|f| f.name == names::PROCESS_RESIDENT_MEMORY)
            .unwrap();
        assert!(rss.values[0].1 > 1e5, "{rss:?}");
    }
}
