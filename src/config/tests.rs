// SPDX-License-Identifier: Apache-2.0
//! `conf/*.yaml` against the model.

use std::path::Path;

use super::keys::Keys;
use super::*;

fn conf(name: &str) -> (String, Loaded) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name);
    let overrides = Overrides {
        file: Some(path.clone()),
        ..Overrides::default()
    };
    let loaded = load(&overrides, |_| None).unwrap_or_else(|error| panic!("{error}"));
    (std::fs::read_to_string(path).unwrap(), loaded)
}

#[test]
fn every_example_loads_and_passes_the_check() {
    let served = crate::Plugins::default().served();
    let conf_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut names: Vec<String> = std::fs::read_dir(conf_dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml") && name != "services.yaml")
        .collect();
    names.sort();
    assert!(names.len() >= 8, "{names:?}");
    for name in names.iter().map(String::as_str) {
        let (_, loaded) = conf(name);
        let checked = check(&loaded, &served).unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        // The list of a file registry is on the operator's machine.
        let is_absent = |note: &&Note| note.key != "registry" || !note.text.starts_with("registry file:///etc/remora/");
        let notes: Vec<&Note> = checked.notes.iter().filter(is_absent).collect();
        assert!(notes.is_empty(), "{name}: {notes:?}");
    }
}

#[test]
fn the_full_example_holds_every_key_of_the_model() {
    let (text, _) = conf("full.yaml");
    let shown = Keys::of(&text);
    let defaults = serde_saphyr::to_string(&Config::default()).unwrap();
    for key in Keys::of(&defaults).all() {
        assert!(shown.holds(key), "conf/full.yaml lacks {key}");
    }
    // Keys that have no default, or are empty by default.
    for key in [
        "advertise",
        "data_dir",
        "publish[0].protocol",
        "publish[0].service",
        "publish[0].version",
        "publish[0].group",
        "publish[0].address",
        "publish[0].params",
        "follow[0].protocol",
        "follow[0].service",
        "follow[0].version",
        "follow[0].group",
        "facades.zookeeper.raw",
        "facades.zookeeper.service_roots",
        "facades.mesh.applications[0].address",
        "facades.mesh.applications[0].name",
        "facades.mesh.applications[0].app_ports",
        "facades.mesh.applications[0].lease",
        "facades.mesh.host_names",
        "facades.mesh.lease",
        "facades.dubbod.applications",
        "facades.dubbod.host_names",
        "facades.dubbod.lease",
        "access.users",
        "access.networks",
    ] {
        assert!(shown.holds(key), "conf/full.yaml lacks {key}");
    }
    for form in ["# registries:", "embedded", "zookeeper://", "file:///"] {
        assert!(text.contains(form), "conf/full.yaml does not show {form}");
    }
}

#[test]
fn the_full_example_shows_the_defaults() {
    let (_, loaded) = conf("full.yaml");
    let mut shown = loaded.config;
    // What has no default is shown by example.
    shown.advertise = None;
    shown.data_dir = None;
    shown.access = super::Access::default();
    shown.publish.clear();
    shown.follow.clear();
    (shown.takeover.allow, shown.takeover.deny) = (Vec::new(), Vec::new());
    let Door::On(door) = &mut shown.facades.zookeeper else {
        panic!("the door is on by default");
    };
    (door.raw, door.service_roots) = (None, None);
    shown.discovery.app_ports.clear();
    let Door::On(door) = &mut shown.facades.mesh else {
        panic!("the door is on by default");
    };
    (door.lease, door.applications, door.host_names) = (None, Vec::new(), Vec::new());
    let Door::On(door) = &mut shown.facades.dubbod else {
        panic!("the door is shown");
    };
    (door.lease, door.applications, door.host_names) = (None, Vec::new(), Vec::new());
    assert_eq!(*door, super::doors::DubbodDoor::default());
    shown.facades.dubbod = Door::Off;
    let yaml = |config: &Config| serde_saphyr::to_string(config).unwrap();
    assert_eq!(yaml(&shown), yaml(&Config::default()));
}

#[test]
fn every_key_of_the_full_example_has_a_comment() {
    let (text, _) = conf("full.yaml");
    let mut above = "";
    for line in text.lines() {
        let is_key = line.contains(':') && !line.trim_start().starts_with('#');
        if is_key {
            let explains_itself = line.contains('#') || above.trim_start().starts_with('#');
            let belongs_to_one = above.contains(':') && !above.trim().is_empty();
            assert!(explains_itself || belongs_to_one, "no comment above `{line}`");
        }
        above = line;
    }
}
