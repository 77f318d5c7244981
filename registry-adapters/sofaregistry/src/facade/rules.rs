// SPDX-License-Identifier: Apache-2.0
//! Configurations of SOFARPC's services: override lines that name a provider by its address.
//!
//! ```text
//! override://10.0.0.5:12200?weight=50#override://10.0.0.6:12200?disabled=true
//! ```
//! An application compares host and port with those of its list, where Remora's egress stands for most providers. A line
//! that names an address which the application is not shown is kept from it and reported; the others pass.
//! Source: `SofaRegistrySubscribeCallback.mergeProviderInfo` of sofa-rpc.

use std::collections::HashSet;

use remora_naming::sofa::{Service, line};
use remora_registry::{RuleKind, UnappliedRule};

use crate::adapter::Subject;
use crate::wire::data_info_id;

/// Where the configuration is, for people.
pub(super) fn place(subject: &Subject) -> String {
    data_info_id(&subject.data_id, subject.instance_id.as_deref(), &subject.group)
}

/// The lines that may pass, and those that are kept, given the lines of the lists that the application is shown.
pub(crate) fn split(text: &str, shown: &[&str], subject: &Subject) -> (Option<String>, Vec<UnappliedRule>) {
    let Some(service) = Service::parse(&subject.data_id) else {
        return (Some(text.to_owned()), Vec::new());
    };
    let address = |text: &str| line::parse(text, &service).ok().map(|i| (i.protocol, i.host, i.port));
    let known: HashSet<_> = shown
        .iter()
        .filter_map(|line| address(line))
        .map(|(_, host, port)| (host, port))
        .collect();
    let mut passing = Vec::new();
    let mut kept = Vec::new();
    for part in text.split(SEPARATOR) {
        match address(part) {
            // A line of another scheme, or of none, is nothing to SOFARPC.
            Some((protocol, host, port)) if &*protocol == OVERRIDE && !known.contains(&(host.clone(), port)) => {
                if kept.len() < MAX_REPORTED {
                    kept.push(UnappliedRule {
                        kind: RuleKind::Configurator,
                        place: place(subject),
                        text: part.chars().take(MAX_SHOWN).collect(),
                        why: "it names a provider by its address, and the application is shown Remora's",
                    });
                }
            }
            _ => passing.push(part),
        }
    }
    ((!passing.is_empty()).then(|| passing.join(SEPARATOR)), kept)
}

const SEPARATOR: &str = "#";
const OVERRIDE: &str = "override";
const MAX_REPORTED: usize = 100;
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            data_id: "demo.Echo:1.0@DEFAULT".to_owned(),
            group: "SOFA.CONFIG".to_owned(),
            instance_id: None,
        }
    }

    #[test]
    fn overrides_of_addresses_that_are_not_shown_are_kept_and_reported() {
        let text = "override://10.0.0.5:12200?weight=50#override://10.0.0.6:8341?disabled=true#note=1";
        let shown = ["127.0.0.2:12220?appName=a", "10.0.0.6:8341?p=rest"];
        let (passing, kept) = split(text, &shown, &subject());
        assert_eq!(
            passing.as_deref(),
            Some("override://10.0.0.6:8341?disabled=true#note=1")
        );
        let kept: Vec<_> = kept
            .iter()
            .map(|rule| (rule.text.as_str(), rule.place.as_str()))
            .collect();
        let place = "demo.Echo:1.0@DEFAULT#@#DEFAULT_INSTANCE_ID#@#SOFA.CONFIG";
        assert_eq!(kept, [("override://10.0.0.5:12200?weight=50", place)]);
    }

    #[test]
    fn a_configuration_of_which_nothing_passes_is_none() {
        let (passing, kept) = split("override://10.0.0.5:12200?weight=50", &[], &subject());
        assert_eq!((passing, kept.len()), (None, 1));
        assert_eq!(split("", &[], &subject()).0.as_deref(), Some(""));
    }
}
