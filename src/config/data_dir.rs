// SPDX-License-Identifier: Apache-2.0
//! Where state is kept when the configuration does not say.

use std::path::{Path, PathBuf};

/// The directory in use and how it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir {
    /// The directory; made by this room.
    pub path: PathBuf,
    /// For the banner: why this one.
    pub why: &'static str,
}

/// The configured directory; else `/var/lib/remora` if it can be written, else `$XDG_STATE_HOME/remora`, else
/// `~/.local/state/remora`. The directory is made if absent.
///
/// # Errors
/// The directory and the system's error, when none can be written.
pub fn data_dir(configured: Option<&Path>) -> Result<DataDir, (PathBuf, std::io::Error)> {
    if let Some(path) = configured {
        return writable(path, "configured");
    }
    let system = writable(Path::new("/var/lib/remora"), "default");
    if system.is_ok() {
        return system;
    }
    let state_home = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    match state_home.filter(|dir| dir.is_absolute()).or_else(home) {
        Some(dir) => writable(&dir.join("remora"), "/var/lib/remora cannot be written"),
        None => system,
    }
}

/// Why a configured directory cannot be one, as far as can be seen without making it.
pub(super) fn problem(path: &Path) -> Option<String> {
    if path.as_os_str().is_empty() {
        return Some("is empty; allowed: a directory".to_owned());
    }
    let there = path.ancestors().find(|part| part.exists())?;
    let is_file = !there.is_dir();
    is_file.then(|| format!("{} is a file; allowed: a directory", there.display()))
}

fn writable(path: &Path, why: &'static str) -> Result<DataDir, (PathBuf, std::io::Error)> {
    let probe = path.join(format!(".writable-{}", std::process::id()));
    let tried = std::fs::create_dir_all(path)
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe));
    match tried {
        Ok(()) => Ok(DataDir {
            path: path.to_owned(),
            why,
        }),
        Err(cause) => Err((path.to_owned(), cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_directory_is_made_and_an_impossible_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert_eq!(data_dir(Some(&path)).unwrap().path, path);
        assert!(path.is_dir());
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let (named, _) = data_dir(Some(&file.join("x"))).unwrap_err();
        assert_eq!(named, file.join("x"));
        for wrong in [&file, &file.join("x")] {
            assert!(problem(wrong).unwrap().contains("/file is a file"), "{wrong:?}");
        }
        assert_eq!(problem(Path::new("")).unwrap(), "is empty; allowed: a directory");
        assert_eq!(problem(&dir.path().join("c/d")), None);
        assert_eq!(problem(Path::new("relative/c")), None);
    }
}
