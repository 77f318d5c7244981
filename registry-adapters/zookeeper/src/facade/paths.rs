// SPDX-License-Identifier: Apache-2.0
//! Which paths are discovery's, told by their shape.
//!
//! ```text
//! <namespace>/<service>/providers[/<encoded URL>]            namespace: /dubbo, /sofa-rpc, any group root
//! <namespace>/<service>/{routers,configurators}
//! <namespace>/<service>/consumers/<encoded URL>
//! <application root>/<application>[/<instance>]              /services
//! <namespace>/metadata/<application>/<revision>              a JSON document, written by applications
//! .../config/.../<key>.condition-router                      rules of the config centre
//! /zookeeper/...                                             the server's own
//! ```
//! Whether a child's name or data is really a framework's is decided by the naming crate, not here.

use remora_naming::dubbo_url;
use remora_registry::Target;

use crate::places;

/// What a path is to the facade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape<'a> {
    /// A list of providers or of an application's instances.
    Dir,
    /// An entry of such a list.
    Child { dir: &'a str, name: &'a str },
    /// A list of rules.
    RuleDir,
    /// A rule in the config centre.
    Rule,
    /// An entry of a list of consumers.
    Consumer { service: &'a str, name: &'a str },
    /// `/zookeeper` and below.
    Frozen,
    /// `<namespace>/metadata/<application>/<revision>`.
    Metadata { application: &'a str, revision: &'a str },
    /// Anything else: relayed as it is.
    Other,
}

/// Which roots are owned.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    /// Namespaces of services; `None`: any.
    services: Option<Vec<String>>,
    /// Roots of application-level lists.
    applications: Vec<String>,
}

impl Roots {
    pub(crate) fn new(services: Option<Vec<String>>, applications: Vec<String>) -> Self {
        let trim = |roots: Vec<String>| roots.into_iter().map(|r| r.trim_end_matches('/').to_owned()).collect();
        Self {
            services: services.map(trim),
            applications: trim(applications),
        }
    }

    /// What `path` is.
    pub(crate) fn shape<'a>(&self, path: &'a str) -> Shape<'a> {
        if path == "/zookeeper" || path.starts_with("/zookeeper/") {
            return Shape::Frozen;
        }
        if self.target(path).is_some() {
            return Shape::Dir;
        }
        let Some((parent, name)) = path.rsplit_once('/') else {
            return Shape::Other;
        };
        if self.target(parent).is_some() {
            return Shape::Child { dir: parent, name };
        }
        if is_config_rule(path, name) {
            return Shape::Rule;
        }
        if matches!(name, "routers" | "configurators") && self.owns_service(parent) {
            return Shape::RuleDir;
        }
        let Some((above, dir)) = parent.rsplit_once('/') else {
            return Shape::Other;
        };
        if dir == "consumers" && self.owns_service(above) && dubbo_url::is_provider_child(name) {
            return Shape::Consumer { service: above, name };
        }
        if above.ends_with("/metadata") && is_revision(name) {
            return Shape::Metadata {
                application: dir,
                revision: name,
            };
        }
        Shape::Other
    }

    /// The list that `dir` is, if it is one.
    pub(crate) fn target(&self, dir: &str) -> Option<Target> {
        let (parent, last) = dir.rsplit_once('/')?;
        if last.is_empty() {
            return None;
        }
        if let Some(root) = self.applications.iter().find(|root| *root == parent) {
            return Some(Target::Application {
                namespace: root.as_str().into(),
                name: last.into(),
            });
        }
        if last != "providers" || !self.owns_service(parent) {
            return None;
        }
        let (namespace, service) = parent.rsplit_once('/')?;
        places::service_target(namespace, service)
    }

    /// Whether `dir` is the list of a service, and not of an application.
    pub(super) fn is_service_list(&self, dir: &str) -> bool {
        matches!(self.target(dir), Some(Target::Service { .. }))
    }

    /// Whether `path` is `<namespace>/<service>` of an owned namespace.
    fn owns_service(&self, path: &str) -> bool {
        let Some((namespace, service)) = path.rsplit_once('/') else {
            return false;
        };
        if service.is_empty() {
            return false;
        }
        match &self.services {
            None => true,
            Some(roots) => roots.iter().any(|root| root == namespace),
        }
    }
}

fn is_config_rule(path: &str, name: &str) -> bool {
    const SUFFIXES: [&str; 5] = [
        ".condition-router",
        ".tag-router",
        ".script-router",
        ".configurators",
        ".MESHAPPRULE",
    ];
    path.contains("/config/") && SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Dubbo's revisions are an MD5 in hex (`MetadataInfo.calAndGetRevision`); 2.7 writes a decimal or `0`, `N/A` never gets a node.
fn is_revision(name: &str) -> bool {
    (name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()))
        || (!name.is_empty() && name.len() <= 20 && name.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> Roots {
        Roots::new(None, vec!["/services".to_owned()])
    }

    #[test]
    fn lists_are_told_by_shape() {
        let roots = any();
        for dir in [
            "/dubbo/a.B/providers",
            "/app1/dubbo/a.B/providers",
            "/a.B/providers",
            "/sofa-rpc/a.B$C/providers",
            "/shop/sofa-rpc/a.B/providers",
            "/services/shop",
        ] {
            assert_eq!(roots.shape(dir), Shape::Dir, "{dir}");
            assert_eq!(places::dir_of(&roots.target(dir).unwrap()), dir);
        }
        for other in [
            "/",
            "",
            "/providers",
            "/dubbo",
            "/dubbo/a.B",
            "/services",
            "/services/",
            "//providers",
            // Of SOFARPC: they set attributes of consumers, none names a provider's host.
            "/sofa-rpc/a.B/configs",
            "/sofa-rpc/a.B/overrides",
            "/sofa-rpc/a.B/overrides/bolt%3A%2F%2F10.0.0.7%3Ftimeout%3D5",
        ] {
            assert_eq!(roots.shape(other), Shape::Other, "{other}");
        }
    }

    #[test]
    fn entries_and_rules_are_told_by_shape() {
        let roots = any();
        assert_eq!(
            roots.shape("/dubbo/a.B/providers/x"),
            Shape::Child {
                dir: "/dubbo/a.B/providers",
                name: "x"
            }
        );
        assert_eq!(
            roots.shape("/services/shop/10.0.0.1:20880"),
            Shape::Child {
                dir: "/services/shop",
                name: "10.0.0.1:20880"
            }
        );
        assert_eq!(roots.shape("/dubbo/a.B/routers"), Shape::RuleDir);
        assert_eq!(roots.shape("/dubbo/config/dubbo/shop.condition-router"), Shape::Rule);
        assert_eq!(roots.shape("/zookeeper/config"), Shape::Frozen);
        assert_eq!(
            roots.shape("/dubbo/metadata/shop/0123456789abcdef0123456789abcdef"),
            Shape::Metadata {
                application: "shop",
                revision: "0123456789abcdef0123456789abcdef"
            }
        );
        assert_eq!(roots.shape("/dubbo/mapping/a.B"), Shape::Other);
    }

    #[test]
    fn configured_roots_exclude_the_rest() {
        let roots = Roots::new(Some(vec!["/dubbo/".to_owned()]), vec![]);
        assert_eq!(roots.shape("/dubbo/a.B/providers"), Shape::Dir);
        assert_eq!(roots.shape("/other/a.B/providers"), Shape::Other);
        assert_eq!(roots.shape("/services/shop"), Shape::Other);
    }
}
