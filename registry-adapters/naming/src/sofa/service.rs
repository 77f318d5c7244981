// SPDX-License-Identifier: Apache-2.0
//! Identity of a SOFARPC service, in every spelling that a registry or a frame uses.
//!
//! ```text
//! demo.EchoService:1.0                    frame header `service`, mesh API
//! demo.EchoService:1.0:blue@DEFAULT       SOFARegistry dataId (bolt and tr), group SOFA
//! demo.EchoService:1.0@rest               dataId of another protocol
//! /sofa-rpc/demo.EchoService/providers    ZooKeeper: every version, unique id and protocol in one list
//! ```
//! As [`ServiceKey`] the interface is the name and the unique id the group. As [`Target`] there are two: the whole
//! interface (what ZooKeeper lists), and one service of it (what all others ask for), whose name is the dataId without
//! `@DEFAULT`. Source: `ConfigUniqueNameGenerator`, `SofaRegistryHelper.buildListDataId`, `ZookeeperRegistryHelper`.

use std::fmt;

use remora_registry::{Instance, ServiceKey, Target};

/// Namespace of SOFARPC's services: its root in ZooKeeper, and group `SOFA` elsewhere.
pub const NAMESPACE: &str = "/sofa-rpc";
/// SOFARegistry's group unless the parameter `sofa.group` says otherwise.
pub const GROUP: &str = "SOFA";
/// Version of a service that names none.
pub const VERSION: &str = "1.0";
/// In the version of a route's key: whatever version is asked for. ZooKeeper's layout does not tell versions: SOFARPC
/// writes [`VERSION`] for every service there.
pub const ANY_VERSION: &str = "*";

/// One SOFARPC service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service {
    /// Interface name.
    pub interface: String,
    /// Version, `1.0` unless set.
    pub version: String,
    /// Unique id; empty if none.
    pub unique_id: String,
    /// What stands behind the `@` of a dataId when it is not `DEFAULT`: `rest`, `triple`, ...; empty for bolt and tr.
    pub protocol: String,
    /// Registry group; empty for [`GROUP`].
    pub group: String,
}

impl Service {
    /// Reads `interface[:version[:uniqueId]][@protocol]`. `None` if the interface or a named protocol is empty, or a part
    /// holds a character that no name has (`/`, white space, control characters).
    pub fn parse(name: &str) -> Option<Self> {
        if name.chars().any(|c| c == '/' || c.is_whitespace() || c.is_control()) {
            return None;
        }
        let (name, protocol) = match name.rsplit_once('@') {
            Some((_, "")) => return None,
            Some((name, "DEFAULT" | "bolt" | "tr")) => (name, ""),
            Some((name, protocol)) => (name, protocol),
            None => (name, ""),
        };
        let mut parts = name.splitn(3, ':');
        let interface = parts.next().filter(|interface| !interface.is_empty())?;
        let version = parts.next().filter(|version| !version.is_empty()).unwrap_or(VERSION);
        Some(Self {
            interface: interface.to_owned(),
            version: version.to_owned(),
            unique_id: parts.next().unwrap_or_default().to_owned(),
            protocol: protocol.to_owned(),
            group: String::new(),
        })
    }

    /// The same in another registry group; `None`, empty and `SOFA` are the usual one.
    #[must_use]
    pub fn in_group(mut self, group: Option<&str>) -> Self {
        self.group = group.filter(|g| *g != GROUP).unwrap_or_default().to_owned();
        self
    }

    /// The service that a target names; `None` for a whole interface and for targets that are not SOFARPC's.
    pub fn of_target(target: &Target) -> Option<Self> {
        let group = group_of(target)?;
        let name = target.name();
        name.contains(':')
            .then(|| Self::parse(name))?
            .map(|s| s.in_group(Some(group)))
    }

    /// The service that an instance offers; `None` for one without a key. `group` as in [`group_of`].
    pub fn of_instance(instance: &Instance, group: &str) -> Option<Self> {
        let key = instance.key.as_ref()?;
        let protocol = match &*instance.protocol {
            "bolt" | "tr" => "",
            other => other,
        };
        let service = Self {
            interface: key.name.to_string(),
            version: if key.version.is_empty() { VERSION } else { &key.version }.to_owned(),
            unique_id: key.group.to_string(),
            protocol: protocol.to_owned(),
            group: String::new(),
        };
        Some(service.in_group(Some(group)))
    }

    /// The protocol of an instance that does not say: the dataId's, bolt for `DEFAULT`.
    pub fn usual_protocol(&self) -> &str {
        if self.protocol.is_empty() {
            "bolt"
        } else {
            &self.protocol
        }
    }

    /// This one service as something to follow.
    pub fn target(&self) -> Target {
        Target::Service {
            namespace: namespace(&self.group).into(),
            name: match self.protocol.is_empty() {
                true => self.unique_name().into(),
                false => format!("{}@{}", self.unique_name(), self.protocol).into(),
            },
        }
    }

    /// The service that ZooKeeper's list stands for where others ask for one: the usual version, no unique id, bolt.
    pub fn of_interface(interface: &str, group: &str) -> Self {
        Self {
            interface: interface.to_owned(),
            version: VERSION.to_owned(),
            unique_id: String::new(),
            protocol: String::new(),
            group: String::new(),
        }
        .in_group(Some(group))
    }

    /// Every service of the interface, as ZooKeeper lists them.
    pub fn interface_target(&self) -> Target {
        Target::Service {
            namespace: namespace(&self.group).into(),
            name: self.interface.as_str().into(),
        }
    }

    /// Key of the route table: interface, unique id as group, version.
    pub fn key(&self) -> ServiceKey {
        ServiceKey::new(&self.interface, &self.unique_id, &self.version)
    }

    /// `interface:version[:uniqueId]`: the frame header `service`.
    pub fn unique_name(&self) -> String {
        match self.unique_id.is_empty() {
            true => format!("{}:{}", self.interface, self.version),
            false => format!("{}:{}:{}", self.interface, self.version, self.unique_id),
        }
    }

    /// SOFARegistry's dataId.
    pub fn data_id(&self) -> String {
        let protocol = if self.protocol.is_empty() {
            "DEFAULT"
        } else {
            &self.protocol
        };
        format!("{}@{protocol}", self.unique_name())
    }

    /// SOFARegistry's group.
    pub fn registry_group(&self) -> &str {
        if self.group.is_empty() { GROUP } else { &self.group }
    }
}

/// The dataId.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.data_id())
    }
}

/// Whether a protocol is SOFARPC's own, so that its providers are SOFARPC's wherever they are listed.
pub fn is_protocol(protocol: &str) -> bool {
    matches!(protocol, "bolt" | "tr")
}

/// Whether a list is SOFARPC's, of one service or of a whole interface.
pub fn is_sofa(target: &Target) -> bool {
    group_of(target).is_some()
}

/// Registry group of a SOFARPC list; empty for the usual one. A ZooKeeper root in front (`/shop/sofa-rpc`) is not looked
/// at: it is the same registry's business.
pub fn group_of(target: &Target) -> Option<&str> {
    let Target::Service { namespace, .. } = target else {
        return None;
    };
    let last = namespace.rsplit('/').next()?;
    match last.strip_prefix("sofa-rpc")? {
        "" => Some(""),
        group => group.strip_prefix('@'),
    }
}

fn namespace(group: &str) -> String {
    match group.is_empty() {
        true => NAMESPACE.to_owned(),
        false => format!("{NAMESPACE}@{group}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_the_same_service() {
        let plain = Service::parse("demo.EchoService:1.0").unwrap();
        for spelling in [
            "demo.EchoService",
            "demo.EchoService:1.0@DEFAULT",
            "demo.EchoService:1.0@bolt",
        ] {
            assert_eq!(Service::parse(spelling).unwrap(), plain, "{spelling}");
        }
        assert_eq!(plain.data_id(), "demo.EchoService:1.0@DEFAULT");
        assert_eq!(plain.key().to_string(), "demo.EchoService:1.0");
        assert_eq!(Service::of_target(&plain.target()), Some(plain.clone()));
        assert_eq!(Service::of_target(&plain.interface_target()), None);
        assert!(is_sofa(&plain.interface_target()));
    }

    #[test]
    fn unique_id_protocol_and_group_are_kept() {
        let full = Service::parse("demo.EchoService:1.0:blue@rest")
            .unwrap()
            .in_group(Some("G"));
        assert_eq!(full.data_id(), "demo.EchoService:1.0:blue@rest");
        assert_eq!(full.key().to_string(), "blue/demo.EchoService:1.0");
        assert_eq!(
            full.target().to_string(),
            "service /sofa-rpc@G/demo.EchoService:1.0:blue@rest"
        );
        assert_eq!(Service::of_target(&full.target()), Some(full.clone()));
        assert_eq!(full.registry_group(), "G");
        let usual = full.in_group(Some("SOFA"));
        assert_eq!((usual.group.as_str(), usual.registry_group()), ("", "SOFA"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in ["", ":1.0", "a@", "a b:1.0", "a/b:1.0", "@DEFAULT", "a\n:1.0"] {
            assert_eq!(Service::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_zookeeper_root_in_front_is_still_sofa() {
        let target = Target::Service {
            namespace: "/shop/sofa-rpc".into(),
            name: "demo.EchoService".into(),
        };
        assert!(is_sofa(&target));
        let dubbo = Target::Service {
            namespace: "/dubbo".into(),
            name: "demo.EchoService:1.0".into(),
        };
        assert!(!is_sofa(&dubbo) && Service::of_target(&dubbo).is_none());
    }
}
