// SPDX-License-Identifier: Apache-2.0
//! Where discovery's lists stand, and how their children are named.
//!
//! ```text
//! <namespace>/<encoded service>/providers/<encoded URL>    Dubbo
//! <root>/sofa-rpc/<interface>/providers/<encoded URL>      SOFARPC; interface as it is, its name is in every URL's way
//! <application root>/<application>/<node>
//! ```
//! Source: Dubbo `ZookeeperRegistry.toServicePath`, SOFARPC `RegistryUtils.buildProviderPath`.

use bytes::Bytes;
use remora_naming::sofa::{self, Service};
use remora_naming::{NamingError, dubbo_url};
use remora_registry::{Instance, Target};

/// Where the list of `target` is kept: one slash before the namespace, none behind the name.
pub(crate) fn dir_of(target: &Target) -> String {
    let root = root(target.namespace());
    match target {
        Target::Service { name, .. } => match interface_of(target) {
            Some(interface) => format!("{root}/{interface}/providers"),
            None => format!("{root}/{}/providers", dubbo_url::encode_component(name)),
        },
        Target::Application { name, .. } => format!("{root}/{name}"),
    }
}

/// The list of a service's providers at `<namespace>/<node>/providers`.
pub(crate) fn service_target(namespace: &str, node: &str) -> Option<Target> {
    let target = |name: String| Target::Service {
        // `/` when services stand at the top.
        namespace: if namespace.is_empty() { "/" } else { namespace }.into(),
        name: name.into(),
    };
    let plain = target(node.to_owned());
    if sofa::is_sofa(&plain) {
        // A colon would make it the name of one service of an interface; no interface has one.
        return (!node.contains([':', '@'])).then_some(plain);
    }
    let name = dubbo_url::decode_component(node).ok()?;
    // A name that cannot be written back the same way would be followed at another path.
    (dubbo_url::encode_component(&name) == node).then(|| target(name))
}

/// The interface of a SOFARPC list, of one service of it or of all.
pub(crate) fn interface_of(target: &Target) -> Option<String> {
    if !sofa::is_sofa(target) {
        return None;
    }
    Some(match Service::of_target(target) {
        Some(service) => service.interface,
        None => target.name().to_string(),
    })
}

/// Reads the name of a service's child.
///
/// # Errors
/// As [`dubbo_url::parse_child`].
pub(crate) fn parse_child(target: &Target, child: &str) -> Result<Instance, NamingError> {
    match interface_of(target) {
        Some(interface) => sofa::child::parse(child, &interface),
        None => dubbo_url::parse_child(child),
    }
}

/// The name of a service's child, in the style of its framework.
pub(crate) fn print_child(target: &Target, instance: &Instance) -> String {
    match sofa::is_sofa(target) {
        true => sofa::child::print(instance),
        false => dubbo_url::print_child(instance),
    }
}

/// The data of a child that is made by us: SOFARPC's says that the provider is online, Dubbo's says nothing.
pub(crate) fn child_data(target: &Target) -> Bytes {
    match sofa::is_sofa(target) {
        true => Bytes::from_static(&ONLINE),
        false => Bytes::new(),
    }
}

/// A namespace as the front of a path: one slash before it, none behind.
fn root(namespace: &str) -> String {
    match namespace.trim_matches('/') {
        "" => String::new(),
        inner => format!("/{inner}"),
    }
}

/// `ZookeeperRegistry.PROVIDER_ONLINE` of SOFARPC.
const ONLINE: [u8; 1] = [1];
/// `ZookeeperRegistry.PROVIDER_OFFLINE`.
pub(crate) const OFFLINE: [u8; 1] = [0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_stand_under_their_own_name() {
        let inner = service_target("/shop/sofa-rpc", "demo.Outer$Echo").unwrap();
        assert_eq!(dir_of(&inner), "/shop/sofa-rpc/demo.Outer$Echo/providers");
        assert!(service_target("/dubbo", "demo.Outer$Echo").is_none());
        assert!(service_target("/sofa-rpc", "demo.Echo:1.0").is_none());
        let narrow = Service::parse("demo.Echo:2.0:blue@rest").unwrap().target();
        assert_eq!(dir_of(&narrow), "/sofa-rpc/demo.Echo/providers");
        let dubbo = service_target("/dubbo", "a%2Fb").unwrap();
        assert_eq!(
            (&**dubbo.name(), dir_of(&dubbo)),
            ("a/b", "/dubbo/a%2Fb/providers".to_owned())
        );
        assert_eq!(dir_of(&service_target("", "a.B").unwrap()), "/a.B/providers");
    }
}
