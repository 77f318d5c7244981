// SPDX-License-Identifier: Apache-2.0
//! The manifests and units in `deploy/`: their form, what they refer to, and that this binary understands their commands.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod site;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use site::{remora, text};

fn folder(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    let files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(!files.is_empty());
    files
}

fn documents(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let documents = text.split("\n---\n").map(serde_saphyr::from_str);
    documents
        .map(|document| document.unwrap_or_else(|error| panic!("{}: {error}", file.display())))
        .collect()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// `20s` and such.
fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().unwrap_or_else(|_| panic!("{text}"))
}

/// The pod in a document, if there is one.
fn pod(document: &Value) -> Option<&Value> {
    match word(document, "kind") {
        "Pod" => Some(&document["spec"]),
        "Deployment" | "DaemonSet" => {
            let (spec, template) = (&document["spec"], &document["spec"]["template"]);
            assert_eq!(spec["selector"]["matchLabels"], template["metadata"]["labels"]);
            Some(&template["spec"])
        }
        _ => None,
    }
}

/// Runs a command of a manifest: whatever comes of it here, its words are understood.
fn is_understood(command: &[&str]) {
    assert_eq!(command[0], "/usr/bin/remora");
    let mut arguments: Vec<&str> = command[1..].to_vec();
    if arguments[0] == "run" {
        arguments.push("--help");
    } else {
        arguments.extend(["--admin", "127.0.0.1:1"]);
        // A test does not wait for what is not there.
        let timeout = arguments.iter().position(|word| *word == "--timeout").unwrap();
        arguments[timeout + 1] = "1ms";
    }
    let output = remora(&arguments).output().unwrap();
    assert_ne!(output.status.code(), Some(2), "{command:?}: {}", text(&output));
}

fn words(command: &Value) -> Vec<&str> {
    command
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect()
}

#[test]
fn manifests_refer_to_what_is_there_and_their_commands_are_understood() {
    for file in folder("kubernetes") {
        let documents = documents(&file);
        let named = |kind: &str| -> BTreeSet<&str> {
            let of_kind = documents.iter().filter(|document| word(document, "kind") == kind);
            of_kind.map(|document| word(&document["metadata"], "name")).collect()
        };
        let mut pods = 0;
        for document in &documents {
            let version = match word(document, "kind") {
                "Pod" | "ConfigMap" => "v1",
                "Deployment" | "DaemonSet" => "apps/v1",
                other => panic!("{}: {other}", file.display()),
            };
            assert_eq!(word(document, "apiVersion"), version);
            let Some(pod) = pod(document) else { continue };
            pods += 1;
            let volumes: BTreeSet<&str> = list(pod, "volumes").iter().map(|volume| word(volume, "name")).collect();
            for volume in list(pod, "volumes")
                .iter()
                .filter(|volume| volume["configMap"].is_object())
            {
                assert!(named("ConfigMap").contains(word(&volume["configMap"], "name")));
            }
            let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
            let containers: Vec<&Value> = list(pod, "initContainers")
                .iter()
                .chain(list(pod, "containers"))
                .collect();
            let names: BTreeSet<&str> = containers.iter().map(|container| word(container, "name")).collect();
            assert_eq!(names.len(), containers.len());
            for container in containers {
                assert!(word(container, "image").contains(':'), "a version of its own");
                for mount in list(container, "volumeMounts") {
                    assert!(volumes.contains(word(mount, "name")), "{mount}");
                }
                if word(container, "name") == "remora" {
                    a_remora(container, grace);
                }
            }
        }
        assert_eq!(pods, 1, "{}", file.display());
    }
}

fn a_remora(container: &Value, grace: u64) {
    let run: Vec<&str> = std::iter::once("/usr/bin/remora")
        .chain(words(&container["args"]))
        .collect();
    is_understood(&run);
    let hooks = ["startupProbe", "readinessProbe"].map(|probe| &container[probe]);
    let ends = ["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]);
    for hook in hooks.into_iter().chain(ends).filter(|hook| hook.is_object()) {
        let command = words(&hook["exec"]["command"]);
        is_understood(&command);
        let timeout = command
            .iter()
            .position(|word| *word == "--timeout")
            .map(|at| seconds(command[at + 1]))
            .unwrap();
        if let Some(limit) = hook["timeoutSeconds"].as_u64() {
            assert!(timeout < limit, "{command:?} is cut off");
        }
    }
    let pre_stop = &container["lifecycle"]["preStop"];
    if pre_stop.is_object() {
        let command = words(&pre_stop["exec"]["command"]);
        assert_eq!(command[1], "withdraw");
        assert!(
            seconds(command.last().unwrap()) + 10 < grace,
            "time is left for the end itself"
        );
    }
    let starts = container["startupProbe"].is_object() || container["lifecycle"]["postStart"].is_object();
    assert!(starts, "an application must not start before it");
}

#[test]
fn configurations_in_manifests_are_valid() {
    let mut checked = 0;
    for file in folder("kubernetes") {
        for document in documents(&file)
            .iter()
            .filter(|document| word(document, "kind") == "ConfigMap")
        {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("remora.yaml");
            std::fs::write(&path, word(&document["data"], "remora.yaml")).unwrap();
            let output = remora(&["check", "--config"]).arg(&path).output().unwrap();
            assert!(output.status.success(), "{}: {}", file.display(), text(&output));
            checked += 1;
        }
    }
    assert_eq!(checked, 3);
}

#[test]
fn the_unit_is_told_when_remora_is_ready_and_waits_for_its_end() {
    for file in folder("systemd") {
        let unit = std::fs::read_to_string(&file).unwrap();
        let mut section = "";
        let mut of_service = Vec::new();
        for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                assert!(["Unit", "Service", "Install"].contains(&name));
                section = name;
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
            assert!(
                key.chars().all(|c| c.is_ascii_alphanumeric()) && !value.is_empty(),
                "{line}"
            );
            if section == "Service" {
                of_service.push((key, value));
            }
        }
        let of = |key: &str| {
            of_service
                .iter()
                .find(|(k, _)| *k == key)
                .map(|(_, value)| *value)
                .unwrap()
        };
        assert_eq!(of("Type"), "notify");
        for key in ["ExecStart", "ExecReload"] {
            let command: Vec<&str> = of(key).split(' ').collect();
            let mut arguments = command[1..].to_vec();
            arguments.push("--help");
            assert!(remora(&arguments).output().unwrap().status.success(), "{command:?}");
        }
        let config = remora::Config::default().lifecycle;
        let longest = config.drain_timeout.0 + config.withdraw_pause.0;
        assert!(of("TimeoutStopSec").parse::<u64>().unwrap() > longest.as_secs() + 5);
    }
}
