// SPDX-License-Identifier: Apache-2.0
//! What differs between two configurations, by dotted key, and which of it a running Remora can take over.

use std::collections::BTreeMap;

use serde_json::Value;

use super::model::Config;

/// Keys that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that a running Remora takes over.
    pub live: Vec<String>,
    /// Those that need a restart, or a hot upgrade.
    pub restart: Vec<String>,
}

impl Changes {
    /// Between what runs and what is wanted.
    pub fn between(now: &Config, wanted: &Config) -> Self {
        let (before, after) = (flat(now), flat(wanted));
        let mut changes = Self::default();
        let keys = before
            .keys()
            .chain(after.keys())
            .collect::<std::collections::BTreeSet<_>>();
        for key in keys.into_iter().filter(|key| before.get(*key) != after.get(*key)) {
            match is_live(key, now, wanted) {
                true => changes.live.push(key.clone()),
                false => changes.restart.push(key.clone()),
            }
        }
        // Shown without its password, which may be all that changed.
        let is_other = now.registry != wanted.registry;
        for (key, differs) in [
            ("registry", is_other),
            ("registries", !is_other && !same_registries(now, wanted)),
        ] {
            if differs && !changes.restart.iter().any(|known| known == key) {
                changes.restart.push(key.to_owned());
            }
        }
        changes
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }
}

impl Config {
    /// This one, with what a running Remora can take over from `wanted`.
    pub fn with_live(&self, wanted: &Self) -> Self {
        let mut next = self.clone();
        next.call = wanted.call.clone();
        next.discovery = wanted.discovery.clone();
        next.mode = wanted.mode;
        next.takeover = wanted.takeover.clone();
        next.lifecycle = wanted.lifecycle.clone();
        next.log.level = wanted.log.level.clone();
        next.publish.clone_from(&wanted.publish);
        next.follow.clone_from(&wanted.follow);
        for (name, door) in &mut next.protocols.0 {
            let range = wanted
                .protocols
                .0
                .get(name)
                .and_then(|ports| ports.on())
                .map(|ports| ports.ingress_range);
            if let (super::Door::On(ports), Some(range)) = (door, range) {
                ports.ingress_range = range;
            }
        }
        if same_registries(self, wanted) {
            next.facades = wanted.facades.clone();
            next.registries.clone_from(&wanted.registries);
        }
        next
    }
}

/// Whether a key can change while Remora runs.
fn is_live(key: &str, now: &Config, wanted: &Config) -> bool {
    let under = |top: &str| {
        key.strip_prefix(top)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if under("facades") || under("registries") {
        // Doors come and go; the registries behind them do not.
        return same_registries(now, wanted);
    }
    let is_range = under("protocols") && key.ends_with(".ingress_range");
    is_range || LIVE.iter().any(|top| under(top))
}

/// Whether both have the same registries, in the same form, whatever their doors are.
fn same_registries(now: &Config, wanted: &Config) -> bool {
    now.registry == wanted.registry
        && now.registries.len() == wanted.registries.len()
        && now
            .registries
            .iter()
            .zip(&wanted.registries)
            .all(|(a, b)| a.name == b.name && a.registry == b.registry)
}

const LIVE: [&str; 8] = [
    "call",
    "discovery",
    "lifecycle",
    "log.level",
    "publish",
    "follow",
    "mode",
    "takeover",
];

/// Every key with its value. Lists are values: their entries have no names.
fn flat(config: &Config) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    if let Ok(value) = serde_json::to_value(config) {
        put(String::new(), value, &mut all);
    }
    all
}

fn put(key: String, value: Value, all: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                let key = match key.is_empty() {
                    true => name,
                    false => format!("{key}.{name}"),
                };
                put(key, value, all);
            }
        }
        value => drop(all.insert(key, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(yaml: &str) -> Config {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn changed(now: &str, wanted: &str) -> (Vec<String>, Vec<String>) {
        let changes = Changes::between(&config(now), &config(wanted));
        (changes.live, changes.restart)
    }

    #[test]
    fn nothing_changed_is_nothing() {
        assert!(Changes::between(&config("workers: 1"), &Config::default()).is_empty());
    }

    #[test]
    fn each_key_is_named_with_what_it_needs() {
        let (live, restart) = changed(
            "workers: 1",
            "{workers: 2, call: {max_attempts: 2}, discovery: {guard: {enabled: false}}, log: debug, \
             admin: 127.0.0.1:1, advertise: 10.0.0.5, protocols: {dubbo: {ingress_range: 1-2, egress: 127.0.0.1:3}}}",
        );
        assert_eq!(
            live,
            [
                "call.max_attempts",
                "discovery.guard.enabled",
                "log.level",
                "protocols.dubbo.ingress_range"
            ]
        );
        assert_eq!(
            restart,
            ["admin.listen", "advertise", "protocols.dubbo.egress", "workers"]
        );
    }

    #[test]
    fn a_door_may_change_and_a_registry_may_not() {
        let (live, restart) = changed(
            "facades: {mesh: off}",
            "facades: {mesh: {listen: 127.0.0.1:5}, zookeeper: off}",
        );
        assert!(
            live.iter().all(|key| key.starts_with("facades.")) && !live.is_empty(),
            "{live:?}"
        );
        assert!(restart.is_empty());
        let (_, restart) = changed(
            "registry: zookeeper://u:one@h:2181",
            "registry: zookeeper://u:two@h:2181",
        );
        assert_eq!(restart, ["registry"]);
        let (live, restart) = changed(
            "registries: [{name: a, registry: embedded, facades: {mesh: {}}}]",
            "registries: [{name: a, registry: embedded}]",
        );
        assert_eq!((live.len(), restart.len()), (1, 0), "{live:?} {restart:?}");
    }

    #[test]
    fn what_needs_a_restart_keeps_its_value() {
        let now = config("workers: 1");
        let wanted = config(
            "{workers: 2, call: {max_attempts: 2}, publish: [{protocol: dubbo, service: a.B, address: '127.0.0.1:1'}]}",
        );
        let next = now.with_live(&wanted);
        assert_eq!((next.workers, next.call.max_attempts, next.publish.len()), (1, 2, 1));
        assert_eq!(Changes::between(&next, &wanted).restart, ["workers"]);
        assert!(Changes::between(&next, &wanted).live.is_empty());
    }

    #[test]
    fn all_that_is_live_is_taken_over() {
        // Every key with another value than its default.
        let now = Config::default();
        let wanted = config(include_str!("../../conf/full.yaml"));
        assert!(Changes::between(&now.with_live(&wanted), &wanted).live.is_empty());
    }
}
