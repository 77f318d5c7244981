// SPDX-License-Identifier: Apache-2.0
//! Paths: what a server takes. Source: ZooKeeper 3.9 `PathUtils.validatePath`.

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No characters.
    #[error("path is empty")]
    Empty,
    /// Does not start with `/`.
    #[error("path does not start with a slash")]
    NotAbsolute,
    /// Ends with `/` and is not the root.
    #[error("path ends with a slash")]
    EndsWithSlash,
    /// `//`, `.` or `..`.
    #[error("path has an empty or relative part")]
    Part,
    /// A control character or one of ZooKeeper's other forbidden ones.
    #[error("path has the forbidden character U+{0:04X}")]
    Character(u32),
}

/// Checks a path as a server does.
///
/// # Errors
/// See [`PathError`]; a server answers `BAD_ARGUMENTS`.
pub fn check_path(path: &str) -> Result<(), PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if path == "/" {
        return Ok(());
    }
    let Some(relative) = path.strip_prefix('/') else {
        return Err(PathError::NotAbsolute);
    };
    if relative.ends_with('/') {
        return Err(PathError::EndsWithSlash);
    }
    if let Some(odd) = relative.chars().find(|c| is_forbidden(*c)) {
        return Err(PathError::Character(u32::from(odd)));
    }
    if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(PathError::Part);
    }
    Ok(())
}

// Java looks at UTF-16 units: a character beyond U+FFFF is two surrogates and falls into D800..F8FF.
fn is_forbidden(c: char) -> bool {
    matches!(c, '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{10ffff}')
}

/// Splits a path that [`check_path`] took into its parent and its name: `/a/b` is `("/a", "b")`, `/a` is `("/", "a")`.
/// `None` for the root and for what has no slash.
pub fn parent_and_name(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    if name.is_empty() {
        return None;
    }
    Some((if parent.is_empty() { "/" } else { parent }, name))
}
