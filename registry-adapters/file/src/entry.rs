// SPDX-License-Identifier: Apache-2.0
//! One line of a file registry, and of the proxy's `publish:` key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use remora_naming::sofa::{self, Service};
use remora_registry::{Instance, Params, ServiceKey, Target};
use serde::{Deserialize, Serialize};

/// A provider as an operator writes it down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Protocol plugin, e.g. `dubbo`. One of SOFARPC's (`bolt`, `tr`) makes it a SOFARPC service.
    pub protocol: String,
    /// Service name, e.g. `com.example.EchoService`; for SOFARPC the interface.
    pub service: String,
    /// Version; empty is none, for SOFARPC `1.0`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Group; for SOFARPC the unique id. Empty is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Where the instance really listens. May be on loopback: these are the operator's own words.
    pub address: SocketAddr,
    /// More parameters, e.g. `weight: "200"`. `sofa.group` is SOFARPC's group in the registry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
}

impl Entry {
    /// Where a consumer looks for it. `namespace` is Dubbo's, and no business of a file: [`matches`](Self::matches) compares
    /// names only.
    pub fn target(&self, namespace: &str) -> Target {
        match self.sofa() {
            Some(service) => service.target(),
            None => Target::Service {
                namespace: namespace.into(),
                name: self.service.as_str().into(),
            },
        }
    }

    /// Whether a follower of `target` sees it.
    pub fn matches(&self, target: &Target) -> bool {
        let Target::Service { name, .. } = target else {
            return false;
        };
        match (self.sofa(), sofa::group_of(target)) {
            (None, None) => **name == *self.service,
            (Some(service), Some(group)) => match Service::of_target(target) {
                Some(wanted) => wanted == service,
                None => **name == *service.interface && group == service.group,
            },
            _ => false,
        }
    }

    /// The instance, its parameters in the words of its framework.
    pub fn instance(&self) -> Instance {
        match self.sofa() {
            Some(service) => self.sofa_instance(&service),
            None => self.dubbo_instance(),
        }
    }

    /// Its identity if it is SOFARPC's.
    fn sofa(&self) -> Option<Service> {
        sofa::is_protocol(&self.protocol).then(|| {
            let mut service =
                Service::of_interface(&self.service, "").in_group(self.params.get(SOFA_GROUP).map(String::as_str));
            if !self.version.is_empty() {
                service.version.clone_from(&self.version);
            }
            service.unique_id.clone_from(&self.group);
            service
        })
    }

    fn sofa_instance(&self, service: &Service) -> Instance {
        let own = |key: &str| self.params.get(key).map(String::as_str);
        let is_word = |key: &str| matches!(key, "serialization" | "appName" | SOFA_GROUP);
        let rest = self.params.iter().filter(|(key, _)| !is_word(key));
        let properties: Vec<(String, String)> = rest.map(|(k, v)| (k.clone(), v.clone())).collect();
        sofa::Provider {
            service,
            protocol: &self.protocol,
            host: &self.address.ip().to_string(),
            port: self.address.port(),
            // What SOFARPC uses unless told otherwise.
            serialization: Some(own("serialization").unwrap_or("hessian2")),
            app_name: own("appName"),
            properties: &properties,
        }
        .instance()
    }

    fn dubbo_instance(&self) -> Instance {
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

/// Parameter that names the group in SOFARegistry.
const SOFA_GROUP: &str = "sofa.group";

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

    #[test]
    fn a_bolt_entry_is_found_as_the_service_and_in_the_interfaces_list() {
        let entry: Entry = serde_saphyr::from_str(
            "{protocol: bolt, service: demo.Echo, group: blue, address: 127.0.0.1:12200, params: {weight: '7', appName: shop}}",
        )
        .unwrap();
        let instance = entry.instance();
        assert_eq!(instance.key.as_ref().unwrap().to_string(), "blue/demo.Echo:1.0");
        assert_eq!(instance.params.get("weight"), Some("7"));
        assert_eq!(instance.params.get("serialization"), Some("hessian2"));
        assert_eq!(instance.params.get("appName"), Some("shop"));
        assert_eq!(
            entry.target("/dubbo").to_string(),
            "service /sofa-rpc/demo.Echo:1.0:blue"
        );
        let target = |name: &str| Target::Service {
            namespace: "/sofa-rpc".into(),
            name: name.into(),
        };
        assert!(entry.matches(&target("demo.Echo:1.0:blue")) && entry.matches(&target("demo.Echo")));
        let dubbo = Target::Service {
            namespace: "/dubbo".into(),
            name: "demo.Echo".into(),
        };
        assert!(!entry.matches(&target("demo.Echo:1.0")) && !entry.matches(&dubbo));
        let of_dubbo = Entry {
            protocol: "dubbo".to_owned(),
            ..entry
        };
        assert!(of_dubbo.matches(&dubbo) && !of_dubbo.matches(&target("demo.Echo")));
    }
}
