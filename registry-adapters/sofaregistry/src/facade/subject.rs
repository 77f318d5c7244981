// SPDX-License-Identifier: Apache-2.0
//! Whose a registration is: SOFARPC's, and then it is taken over, or anybody else's.

use remora_naming::sofa::Service;

use crate::wire::{DEFAULT_INSTANCE_ID, Registration};

/// Group of the configuration of SOFARPC's services.
pub(crate) const CONFIG_GROUP: &str = "SOFA.CONFIG";

/// The SOFARPC service that a registration is about.
///
/// `None` unless the dataId reads `interface:version[:uniqueId]@protocol` exactly as SOFARPC writes it: what would be named
/// differently at the registry is another's. The group is SOFA's or any other (parameter `sofa.group`), the instance id the
/// usual one, which SOFARPC never sets.
pub(crate) fn service(base: &Registration) -> Option<Service> {
    let is_usual = |id: &str| id.is_empty() || id == DEFAULT_INSTANCE_ID;
    let is_of_services = !base.group.is_empty() && base.group != CONFIG_GROUP;
    if !is_of_services || !base.instance_id.as_deref().is_none_or(is_usual) {
        return None;
    }
    let (name, _) = base.data_id.rsplit_once('@')?;
    let service = Service::parse(&base.data_id).filter(|_| name.contains(':'))?;
    (service.data_id() == base.data_id).then(|| service.in_group(Some(&base.group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(data_id: &str, group: &str, instance_id: Option<&str>) -> Option<String> {
        let base = Registration {
            data_id: data_id.to_owned(),
            group: group.to_owned(),
            instance_id: instance_id.map(str::to_owned),
            ..Registration::default()
        };
        service(&base).map(|service| service.target().to_string())
    }

    #[test]
    fn services_are_told_from_other_data() {
        let echo = Some("service /sofa-rpc/demo.Echo:1.0".to_owned());
        assert_eq!(of("demo.Echo:1.0@DEFAULT", "SOFA", None), echo);
        assert_eq!(of("demo.Echo:1.0@DEFAULT", "SOFA", Some("")), echo);
        assert_eq!(of("demo.Echo:1.0@DEFAULT", "SOFA", Some("DEFAULT_INSTANCE_ID")), echo);
        assert_eq!(
            of("demo.Echo:2.0:blue@rest", "G", None),
            Some("service /sofa-rpc@G/demo.Echo:2.0:blue@rest".to_owned())
        );
        for (data_id, group, instance_id) in [
            ("demo.Echo:1.0@DEFAULT", "SOFA.CONFIG", None),
            ("demo.Echo:1.0@DEFAULT", "SOFA", Some("tenant")),
            ("demo.Echo@DEFAULT", "SOFA", None),
            ("demo.Echo:1.0", "SOFA", None),
            ("demo.Echo:1.0@bolt", "SOFA", None),
            ("demo.Echo:1.0:@DEFAULT", "SOFA", None),
            ("demo.Echo:1.0@DEFAULT", "", None),
            ("my.switches", "DEFAULT_GROUP", None),
            ("", "SOFA", None),
        ] {
            assert_eq!(of(data_id, group, instance_id), None, "{data_id} {group}");
        }
    }
}
