// SPDX-License-Identifier: Apache-2.0
//! Which framework wrote an entry of a registry, and its version, as far as the parameters tell.
//!
//! | parameter | says |
//! |---|---|
//! | `release` | Dubbo from 2.7 on: its version; dubbo-go: `dubbo-golang-3.1.0` |
//! | `dubbo` | Dubbo 2.5 and early 2.6: its version; later the protocol's, `2.0.x` |
//! | `rpcVer` | SOFARPC: `51302` for 5.13.2 |

use remora_registry::Params;

use crate::error::cut;

/// `dubbo 2.7.23`, `dubbo-golang-3.1.0`, `dubbo 2.6` (which does not write more), `sofarpc 5.13.2`; `None` if nothing says so.
pub fn framework(params: &Params) -> Option<String> {
    let said = |key: &str| params.get(key).map(str::trim).filter(|value| !value.is_empty());
    if let Some(version) = said("rpcVer") {
        let number: u32 = version.parse().ok()?;
        return Some(format!(
            "sofarpc {}.{}.{}",
            number / 10_000,
            number / 100 % 100,
            number % 100
        ));
    }
    if let Some(release) = said("release") {
        let release = cut(release, MAX_BYTES);
        return Some(match release.starts_with(|c: char| c.is_ascii_digit()) {
            true => format!("dubbo {release}"),
            false => release.to_owned(),
        });
    }
    match said("dubbo")? {
        protocol if protocol.starts_with("2.0.") => Some("dubbo 2.6".to_owned()),
        version => Some(format!("dubbo {}", cut(version, MAX_BYTES))),
    }
}

/// A version is short; this is what anybody wrote.
const MAX_BYTES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_each_framework_is_told() {
        for (key, value, expected) in [
            ("release", "2.7.23", Some("dubbo 2.7.23")),
            ("release", "dubbo-golang-3.1.0", Some("dubbo-golang-3.1.0")),
            ("dubbo", "2.0.2", Some("dubbo 2.6")),
            ("dubbo", "2.5.3", Some("dubbo 2.5.3")),
            ("rpcVer", "51302", Some("sofarpc 5.13.2")),
            ("rpcVer", "50605", Some("sofarpc 5.6.5")),
            ("rpcVer", "new", None),
            ("weight", "100", None),
        ] {
            let mut params = Params::default();
            params.set("side", "provider");
            params.set(key, value);
            assert_eq!(framework(&params).as_deref(), expected, "{key}={value}");
        }
    }

    #[test]
    fn a_release_beats_the_version_of_the_protocol() {
        let mut params = Params::default();
        params.set("dubbo", "2.0.2");
        params.set("release", "3.3.6");
        assert_eq!(framework(&params).as_deref(), Some("dubbo 3.3.6"));
    }
}
