// SPDX-License-Identifier: Apache-2.0
//! One line of a file registry, and of the proxy's `publish:` key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use remora_registry::{Instance, Params, ServiceKey, Target};
use serde::{Deserialize, Serialize};

/// A provider as an operator writes it down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Protocol plugin, e.g. `dubbo`.
    pub protocol: String,
    /// Service name, e.g. `com.example.EchoService`.
    pub service: String,
    /// Version; empty is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Group; empty is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Where the instance really listens. May be on loopback: these are the operator's own words.
    pub address: SocketAddr,
    /// More URL parameters, e.g. `weight: "200"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
}

impl Entry {
    /// Where a consumer looks for it: the namespace of Dubbo's default ZooKeeper root is not a file's business, so it is
    /// empty here; [`matches`](Self::matches) compares names only.
    pub fn target(&self, namespace: &str) -> Target {
        Target::Service {
            namespace: namespace.into(),
            name: self.service.as_str().into(),
        }
    }

    /// Whether a follower of `target` sees it.
    pub fn matches(&self, target: &Target) -> bool {
        matches!(target, Target::Service { name, .. } if **name == *self.service)
    }

    /// The instance, its parameters in Dubbo's words.
    pub fn instance(&self) -> Instance {
        let mut params = Params(vec![("interface".to_owned(), self.service.clone())]);
        for (key, value) in [("version", &self.version), ("group", &self.group)] {
            if !value.is_empty() {
                params.set(key, value.as_str());
            }
        }
        for (key, value) in &self.params {
            params.set(key, value.as_str());
        }
        let host = self.address.ip().to_string();
        let text: Vec<String> = params.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let raw = format!(
            "{}://{}/{}?{}",
            self.protocol,
            self.address,
            self.service,
            text.join("&")
        );
        Instance {
            id: raw.as_str().into(),
            key: Some(ServiceKey::new(&self.service, &self.group, &self.version)),
            protocol: self.protocol.as_str().into(),
            host: Arc::from(host),
            port: self.address.port(),
            path: self.service.as_str().into(),
            params,
            raw: raw.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_becomes_an_instance_with_its_key() {
        let entry = Entry {
            protocol: "dubbo".to_owned(),
            service: "com.example.EchoService".to_owned(),
            version: "1.0.0".to_owned(),
            group: "blue".to_owned(),
            address: "127.0.0.1:20880".parse().unwrap(),
            params: BTreeMap::from([("weight".to_owned(), "200".to_owned())]),
        };
        let instance = entry.instance();
        assert_eq!(
            instance.key.as_ref().unwrap().to_string(),
            "blue/com.example.EchoService:1.0.0"
        );
        assert_eq!(
            &*instance.raw,
            "dubbo://127.0.0.1:20880/com.example.EchoService?interface=com.example.EchoService&version=1.0.0&group=blue&weight=200"
        );
        assert!(entry.matches(&entry.target("/dubbo")));
    }
}
