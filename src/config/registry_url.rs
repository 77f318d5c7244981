// SPDX-License-Identifier: Apache-2.0
//! Where the real registry is: `embedded`, `zookeeper://h1:2181,h2:2181/chroot`, `file:///etc/remora/services.yaml`, ...
//!
//! Only the form is checked here; which schemes this build has an adapter for is known to `check.rs`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use remora_file::FileRegistry;
use remora_zookeeper::backend::Ensemble;

use super::value::{ValueError, text_value};

/// A registry's address.
#[derive(Clone, PartialEq, Eq)]
pub enum RegistryUrl {
    /// The in-process ZooKeeper, persisted to `data_dir`.
    Embedded,
    /// A registry somewhere, or a file.
    Url {
        /// `zookeeper`, `nacos`, `sofaregistry`, `file`, or what a plugin brings.
        scheme: String,
        /// `user:password` in front of the hosts; the password is never printed.
        credentials: Option<String>,
        /// `h1:2181,h2:2181`; empty for a file.
        hosts: String,
        /// The path with its leading slash, or empty: a chroot, a namespace, a file's name.
        path: String,
    },
}

impl RegistryUrl {
    /// `embedded` or the scheme.
    pub fn scheme(&self) -> &str {
        match self {
            Self::Embedded => "embedded",
            Self::Url { scheme, .. } => scheme,
        }
    }

    /// A setting behind the hosts of a SOFARegistry: `zone`, `dataCenter`.
    pub fn setting(&self, key: &str) -> Option<&str> {
        let Self::Url { path, .. } = self else {
            return None;
        };
        let settings = path.trim_start_matches('/').strip_prefix('?')?;
        settings_of(settings).find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// What can be told of it without asking it: something to know, or why it cannot be one.
    pub(super) fn look(&self) -> Result<Option<String>, String> {
        let Self::Url { scheme, path, .. } = self else {
            return Ok(None);
        };
        match scheme.as_str() {
            "file" => {
                let read = FileRegistry::read(Path::new(path));
                Ok(read
                    .err()
                    .map(|error| format!("{error}; it is read again every second")))
            }
            "zookeeper" => match Ensemble::parse(&self.to_string()) {
                Ok(_) => Ok(None),
                Err(error) => Err(error.to_string()),
            },
            _ => Ok(None),
        }
    }

    /// As it was written, with its password: for another process of ours, never to be printed.
    pub fn written(&self) -> String {
        match self {
            Self::Url {
                scheme,
                credentials: Some(credentials),
                hosts,
                path,
            } => format!("{scheme}://{credentials}@{hosts}{path}"),
            other => other.to_string(),
        }
    }

    /// `user:password`, for whoever speaks to the registry; never to be printed.
    pub fn credentials(&self) -> Option<&str> {
        match self {
            Self::Embedded => None,
            Self::Url { credentials, .. } => credentials.as_deref(),
        }
    }
}

impl FromStr for RegistryUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::Registry(without_password(text));
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let path_at = match scheme {
            "sofaregistry" => rest.find(['/', '?']),
            _ => rest.find('/'),
        };
        let (authority, path) = rest.split_at(path_at.unwrap_or(rest.len()));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials.to_owned()), hosts),
            None => (None, authority),
        };
        let scheme_is_word = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let place_is_given = match scheme {
            "file" => hosts.is_empty() && path.len() > 1,
            // Its own port is the usual one; behind the hosts stand settings, no path.
            "sofaregistry" => {
                let settings = path.trim_start_matches('/');
                hosts
                    .split(',')
                    .all(|host| is_host_port(host) || is_host_port(&format!("{host}:9603")))
                    && credentials.is_none()
                    && settings.is_empty() | settings.strip_prefix('?').is_some_and(are_settings)
            }
            // Not in this version, whatever stands there: the check says so.
            "nacos" => true,
            _ => hosts.split(',').all(is_host_port),
        };
        if !scheme_is_word || !place_is_given {
            return Err(wrong());
        }
        Ok(Self::Url {
            scheme: scheme.to_owned(),
            credentials,
            hosts: hosts.to_owned(),
            path: if scheme == "file" {
                path
            } else {
                path.trim_end_matches('/')
            }
            .to_owned(),
        })
    }
}

/// `zone=RZ01&dataCenter=DC`.
fn are_settings(text: &str) -> bool {
    settings_of(text).all(|(key, value)| SETTINGS.contains(&key) && !value.is_empty())
}

fn settings_of(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('&')
        .map(|setting| setting.split_once('=').unwrap_or((setting, "")))
}

/// What the address of a SOFARegistry may say of the client.
const SETTINGS: [&str; 2] = ["zone", "dataCenter"];

fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_is_plain = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/?#@,".contains(c));
    host_is_plain && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// For an address that may be wrong anywhere: all up to the last `@` may be a secret.
fn without_password(text: &str) -> String {
    let Some((before, hosts)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    match before.split_once("://") {
        Some((scheme, credentials)) => {
            let user = credentials.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{hosts}")
        }
        None => format!("***@{hosts}"),
    }
}

/// The address with its password hidden.
impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Url {
                scheme,
                credentials,
                hosts,
                path,
            } => {
                write!(f, "{scheme}://")?;
                if let Some(credentials) = credentials {
                    write!(f, "{}:***@", credentials.split(':').next().unwrap_or_default())?;
                }
                write!(f, "{hosts}{path}")
            }
        }
    }
}

impl fmt::Debug for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

text_value!(
    RegistryUrl,
    "a registry such as embedded or zookeeper://h1:2181,h2:2181"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_contract_is_read() {
        for text in [
            "embedded",
            "zookeeper://h1:2181,h2:2181/chroot",
            "nacos://h:8848",
            "sofaregistry://h:9603",
            "file:///etc/remora/services.yaml",
            "zookeeper://[::1]:2181",
        ] {
            assert_eq!(text.parse::<RegistryUrl>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let url: RegistryUrl = "zookeeper://admin:s3cret@h1:2181/x".parse().unwrap();
        assert_eq!(url.to_string(), "zookeeper://admin:***@h1:2181/x");
        assert_eq!(format!("{url:?}"), "zookeeper://admin:***@h1:2181/x");
        assert_eq!(url.written().parse::<RegistryUrl>().unwrap(), url);
        for wrong in [
            "zookeeper://admin:s3cret@h1",
            "zookeeper://admin:/s3cret@h1:2181",
            "zookeeper:/admin:s3cret@h1:2181",
            "admin:s3cret@h1:2181",
        ] {
            let error = wrong.parse::<RegistryUrl>().unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_sofaregistry_has_settings_behind_its_hosts() {
        let text = "sofaregistry://h1:9603,h2?zone=RZ01&dataCenter=DC";
        let url: RegistryUrl = text.parse().unwrap();
        assert_eq!(url.to_string(), text);
        assert_eq!(
            (url.setting("zone"), url.setting("dataCenter")),
            (Some("RZ01"), Some("DC"))
        );
        assert!(matches!(&url, RegistryUrl::Url { hosts, .. } if hosts == "h1:9603,h2"));
        assert_eq!(
            "sofaregistry://h1:9603".parse::<RegistryUrl>().unwrap().setting("zone"),
            None
        );
    }

    #[test]
    fn what_is_not_a_registry_is_refused() {
        for text in [
            "",
            "embeded",
            "zookeeper://",
            "zookeeper://h1",
            "zookeeper://h1:0",
            "file://x",
            "://h:1",
            "zookeeper://h:1,",
            "zookeeper://h:1?x=1",
            "sofaregistry://",
            "sofaregistry://h:9603/path",
            "sofaregistry://h:9603?zones=a",
            "sofaregistry://u:p@h:9603",
        ] {
            assert!(text.parse::<RegistryUrl>().is_err(), "{text}");
        }
    }
}
