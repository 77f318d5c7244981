// SPDX-License-Identifier: Apache-2.0
//! Looks whether the configuration file has changed.
//!
//! Looked at by name, not by an open file: editors put a new file in the old one's place, and a ConfigMap is a chain of
//! symbolic links of which one is swapped. A file is read when it has not changed for one look, so that half a file is not.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::reload::Reloader;

/// What tells one content of a file from another: device, inode, length, times of change in ns. `None`: no file.
pub(super) type Stamp = Option<(u64, u64, u64, i128, i128)>;

pub(super) fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
    Some((
        meta.dev(),
        meta.ino(),
        meta.len(),
        ns(meta.mtime(), meta.mtime_nsec()),
        ns(meta.ctime(), meta.ctime_nsec()),
    ))
}

/// Reloads when the file is another than `seen`, until `closing`.
pub(super) async fn watch(reloader: Arc<Reloader>, path: PathBuf, mut seen: Stamp, closing: CancellationToken) {
    let mut changing = seen;
    let look = || {
        let path = path.clone();
        // A file on a network may take its time.
        tokio::task::spawn_blocking(move || stamp(&path))
    };
    let watching = async {
        loop {
            sleep(LOOK_EVERY).await;
            if !reloader.lifecycle.load().watch_config {
                continue;
            }
            let Ok(now) = look().await else { return };
            if now != seen && now == changing {
                seen = now;
                reloader.reload("file").await;
            }
            changing = now;
        }
    };
    closing.run_until_cancelled(watching).await;
}

/// Kubernetes takes up to a minute to show a changed ConfigMap; people wait a second or two.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_put_in_the_old_ones_place_and_a_swapped_link_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a"), "same").unwrap();
        let first = stamp(&at("a"));
        assert_eq!(first, stamp(&at("a")));
        std::fs::write(at("new"), "same").unwrap();
        std::fs::rename(at("new"), at("a")).unwrap();
        assert_ne!(first, stamp(&at("a")), "an editor saved it");

        // As a ConfigMap is mounted: remora.yaml -> ..data/remora.yaml, ..data -> ..2026.
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("remora.yaml"), text).unwrap();
        }
        std::os::unix::fs::symlink("..1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/remora.yaml", at("remora.yaml")).unwrap();
        let first = stamp(&at("remora.yaml"));
        std::os::unix::fs::symlink("..2", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_ne!(first, stamp(&at("remora.yaml")));
        std::fs::remove_file(at("..2/remora.yaml")).unwrap();
        assert_eq!(stamp(&at("remora.yaml")), None);
    }
}
