// SPDX-License-Identifier: Apache-2.0
//! CPU time and memory of other processes, from proc(5).

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// Processes under a common name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Their name.
    pub name: String,
    /// Their ids.
    pub pids: Vec<u32>,
}

impl std::str::FromStr for Watched {
    type Err = anyhow::Error;

    /// Reads `name=pid` or `name=pid+pid`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, pids) = text.split_once('=').context("a watched process is name=pid+pid")?;
        let pids = pids.split('+').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self {
            name: name.to_owned(),
            pids,
        })
    }
}

impl Watched {
    /// CPU time used so far, user and system, all threads that live now.
    ///
    /// # Errors
    /// When one of the processes is gone.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        self.pids.iter().map(|pid| cpu(*pid)).sum()
    }

    /// Resident memory now, in KiB.
    ///
    /// # Errors
    /// When one of the processes is gone.
    pub fn rss_kib(&self) -> anyhow::Result<u64> {
        self.pids.iter().map(|pid| rss_kib(*pid)).sum()
    }
}

fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut total = Duration::ZERO;
    let mut has_precise = true;
    for task in fs::read_dir(&tasks).with_context(|| format!("process {pid} is gone"))? {
        match on_cpu(&task?.path()) {
            Some(time) => total += time,
            None => has_precise = false,
        }
    }
    if has_precise { Ok(total) } else { ticks(pid) }
}

/// First number of `schedstat`: time on the CPU in nanoseconds. A thread that ended in between counts as none.
fn on_cpu(task: &Path) -> Option<Duration> {
    match fs::read_to_string(task.join("schedstat")) {
        Ok(text) => Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?)),
        Err(_) if !task.exists() => Some(Duration::ZERO),
        Err(_) => None,
    }
}

/// Fields 14 and 15 of `stat`, where the kernel keeps no `schedstat`; 100 ticks a second.
fn ticks(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("no name in stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let tick = |at: usize| -> anyhow::Result<u64> { Ok(fields.get(at).context("stat is short")?.parse()?) };
    Ok(Duration::from_millis((tick(11)? + tick(12)?) * 10))
}

fn rss_kib(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let row = status.lines().find_map(|row| row.strip_prefix("VmRSS:"));
    let row = row.context("no VmRSS in status")?;
    Ok(row.trim().trim_end_matches("kB").trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_by_name_and_ids() {
        let expected = Watched {
            name: "two".to_owned(),
            pids: vec![1, 22],
        };
        assert_eq!("two=1+22".parse::<Watched>().unwrap(), expected);
        assert!("two".parse::<Watched>().is_err());
        assert!("two=x".parse::<Watched>().is_err());
    }

    #[test]
    fn this_process_uses_cpu_and_memory() {
        let own = Watched {
            name: "own".to_owned(),
            pids: vec![std::process::id()],
        };
        let before = own.cpu().unwrap();
        let begun = std::time::Instant::now();
        let mut spins = 0u64;
        while begun.elapsed() < Duration::from_millis(50) {
            spins = std::hint::black_box(spins + 1);
        }
        assert!(own.cpu().unwrap() > before);
        assert!(own.rss_kib().unwrap() > 100);
    }
}
