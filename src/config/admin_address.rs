// SPDX-License-Identifier: Apache-2.0
//! Where a running Remora is asked, for commands that are not told: `admin` of the environment, else of the file that
//! `REMORA_CONFIG` names, else the default.
//!
//! Only that key is needed, so a file in which another one is wrong, or that cannot be read at all, keeps nobody from a
//! rollback: what is wrong is told, and the next best address is asked; only to look if it is a guess.

use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;

use super::error::{ConfigError, Place};
use super::load::{Overrides, is_blank, load, read, text_of};
use crate::admin;

/// An address, and what to say about it.
#[derive(Debug, PartialEq, Eq)]
pub struct AdminAddress {
    /// To be asked.
    pub addr: SocketAddr,
    /// What is wrong with the configuration, and what follows.
    pub warning: Option<String>,
    /// Whether a configuration is named that cannot be read, so that another Remora may answer there: nothing is to be changed
    /// at such an address.
    pub is_guess: bool,
}

/// The one key that is needed; what stands beside it is not looked at.
#[derive(Default, Deserialize)]
struct Only {
    admin: Option<admin::Config>,
}

/// Where to ask. Never fails: who only looks may look at an address that may be wrong.
pub fn admin_address(environment: impl Fn(&str) -> Option<String>) -> AdminAddress {
    let error = match load(&Overrides::default(), &environment) {
        Ok(loaded) => {
            return AdminAddress {
                addr: loaded.config.admin.listen.0,
                warning: None,
                is_guess: false,
            };
        }
        Err(error) => error,
    };
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    let by_environment = || read::<admin::Config>(&set("REMORA_ADMIN")?, |_, _| Place::Default).ok();
    let by_file = || admin_of(Path::new(&set("REMORA_CONFIG")?)).ok()?;
    let found = by_environment().or_else(by_file);
    let is_guess = found.is_none();
    let (listen, whence) = match found {
        Some(admin) => (admin.listen, "its admin.listen"),
        None => (admin::Config::default().listen, "the default"),
    };
    AdminAddress {
        addr: listen.0,
        is_guess,
        warning: Some(format!("{error}; asking {listen}, {whence}: --admin names another")),
    }
}

fn admin_of(file: &Path) -> Result<Option<admin::Config>, ConfigError> {
    let text = text_of(file)?;
    match is_blank(&text) {
        true => Ok(None),
        false => Ok(read::<Only>(&text, |_, _| Place::Default)?.admin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(file: Option<&str>, admin: Option<&str>) -> (String, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("remora.yaml");
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
        }
        let found = admin_address(|name| match name {
            "REMORA_CONFIG" => Some(path.display().to_string()),
            "REMORA_ADMIN" => admin.map(str::to_owned),
            _ => None,
        });
        assert!(!found.is_guess || found.warning.is_some());
        let warning = found.warning.unwrap_or_default();
        let warning = warning.replace(&path.display().to_string(), "remora.yaml");
        (found.addr.to_string(), warning)
    }

    #[test]
    fn a_good_file_says_it_without_a_word() {
        let good = asked(Some("admin: { listen: 127.0.0.1:7 }\n"), None);
        assert_eq!(good, ("127.0.0.1:7".to_owned(), String::new()));
        assert_eq!(asked(Some("# nothing\n"), None).0, "127.0.0.1:15020");
        assert_eq!(asked(Some("workers: 1\n"), Some("127.0.0.1:8")).0, "127.0.0.1:8");
    }

    #[test]
    fn a_file_in_which_another_key_is_wrong_still_says_it() {
        let (addr, warning) = asked(Some("workers: two\nadmin: 127.0.0.1:7\nnot: known\n"), None);
        assert_eq!(addr, "127.0.0.1:7");
        assert_eq!(
            warning,
            "remora.yaml:1:10: workers: not a whole number; allowed: 0 and above; asking 127.0.0.1:7, its admin.listen: \
             --admin names another"
        );
    }

    #[test]
    fn a_file_that_says_nothing_leads_to_the_default_and_a_warning() {
        for (file, why) in [
            (
                None,
                "remora.yaml ($REMORA_CONFIG): No such file or directory (os error 2);",
            ),
            (Some("admin: {{{"), "remora.yaml:1:"),
            (Some("admin: { listen: nowhere }\n"), "remora.yaml:1:18: admin.listen"),
        ] {
            let (addr, warning) = asked(file, None);
            assert_eq!(addr, "127.0.0.1:15020", "{warning}");
            assert!(warning.starts_with(why), "{warning}");
            assert!(
                warning.ends_with("asking 127.0.0.1:15020, the default: --admin names another"),
                "{warning}"
            );
        }
        assert_eq!(asked(Some("admin: {{{"), Some("127.0.0.1:8")).0, "127.0.0.1:8");
        assert_eq!(asked(Some("admin: 127.0.0.1:7\n"), Some("nowhere")).0, "127.0.0.1:7");
    }
}
