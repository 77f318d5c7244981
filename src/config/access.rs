// SPDX-License-Identifier: Apache-2.0
//! Keys under `access:`: who may use the doors besides applications of this machine, and which of those.

use std::collections::BTreeSet;

use remora_registry::peers::{self, Network};
use serde::de::{self, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

/// Who may use the doors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Users of this machine, by number. Default: all.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub users: BTreeSet<u32>,
    /// Networks whose hosts may, too. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkText>,
}

impl Access {
    /// As the doors take it.
    pub fn settings(&self) -> peers::Access {
        peers::Access {
            users: self.users.clone(),
            networks: self.networks.iter().map(|network| network.0).collect(),
        }
    }
}

/// `10.0.0.0/8`, or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkText(pub Network);

impl<'de> Deserialize<'de> for NetworkText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

impl Serialize for NetworkText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_networks_are_read_and_what_is_none_is_told() {
        let access: Access =
            serde_saphyr::from_str("{ users: [ 1000, 0 ], networks: [ 10.1.0.0/16, 192.0.2.7 ] }").unwrap();
        assert_eq!(access.users, BTreeSet::from([0, 1000]));
        let printed = serde_saphyr::to_string(&access).unwrap();
        assert_eq!(serde_saphyr::from_str::<Access>(&printed).unwrap(), access, "{printed}");
        for (wrong, told) in [
            ("networks: [ office ]", "`office` is no network"),
            ("networks: [ 10.0.0.0/40 ]", "no network"),
            ("users: [ app ]", "app"),
            ("user: [ 1 ]", "user"),
        ] {
            let error = serde_saphyr::from_str::<Access>(wrong).unwrap_err().to_string();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }
}
