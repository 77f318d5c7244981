// SPDX-License-Identifier: Apache-2.0
//! The adapter on commands, for the testbed: `registry ENDPOINTS COMMANDS`, where COMMANDS is a file or a pipe. One command a
//! line, words separated by tabs; events come out as JSON, logs on standard error.
//!
//! ```text
//! follow NAME                publish NAME LINE         withdraw NAME LINE       NAME: demo.Echo, demo.Echo:1.0:blue
//! relay KEY DATAID GROUP LINE...      unrelay KEY      subscribe DATAID GROUP SCOPE      configure DATAID GROUP      quit
//! ```

#![allow(clippy::unwrap_used, reason = "a tool of the testbed: a wrong command may end it")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use remora_naming::sofa::{Service, line};
use remora_registry::{Registry, Target};
use remora_sofaregistry::adapter::{Config, RelayedPublisher, SofaRegistry, Subject};
use remora_sofaregistry::client::Endpoint;
use remora_sofaregistry::wire::{PublisherRegister, Registration, Scope};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::DEBUG)
        .init();
    let endpoints = std::env::args().nth(1).and_then(|hosts| Endpoint::parse_list(&hosts));
    let stop = CancellationToken::new();
    let registry = SofaRegistry::start("example", endpoints.unwrap(), Config::default(), stop.clone());
    tokio::spawn(tell_state(Arc::clone(&registry)));
    let (sender, mut commands) = tokio::sync::mpsc::channel(64);
    std::thread::spawn(move || {
        let from = File::open(std::env::args().nth(2).unwrap()).unwrap();
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut relayed = HashMap::new();
    while let Some(command) = commands.recv().await {
        let words: Vec<&str> = command.split('\t').collect();
        match words[..] {
            ["follow", name] => drop(tokio::spawn(follow(Arc::clone(&registry), target(name)))),
            [what @ ("publish" | "withdraw"), name, text] => {
                let (what, name, text) = (what.to_owned(), name.to_owned(), text.to_owned());
                drop(tokio::spawn(publish(Arc::clone(&registry), what, name, text)));
            }
            ["relay", key, data_id, group, ref lines @ ..] => {
                let register = PublisherRegister {
                    base: registration(data_id, group),
                    data: lines.iter().map(|line| (*line).to_owned()).collect(),
                };
                relayed
                    .entry(key.to_owned())
                    .and_modify(|relayed: &mut RelayedPublisher| relayed.update(&register))
                    .or_insert_with(|| registry.relay_publish(&register));
            }
            ["unrelay", key] => drop(relayed.remove(key)),
            ["subscribe", data_id, group, scope] => {
                let subject = Subject::of(&registration(data_id, group));
                drop(tokio::spawn(subscribe(
                    Arc::clone(&registry),
                    subject,
                    Scope::parse(scope),
                )));
            }
            ["configure", data_id, group] => {
                let subject = Subject::of(&registration(data_id, group));
                drop(tokio::spawn(configure(Arc::clone(&registry), subject)));
            }
            ["quit"] => break,
            _ => say(&json!({"event": "unknown", "command": command})),
        }
    }
    stop.cancel();
    registry.closed().await;
}

fn target(name: &str) -> Target {
    let service = Service::parse(name).unwrap();
    match name.contains(':') {
        true => service.target(),
        false => service.interface_target(),
    }
}

fn registration(data_id: &str, group: &str) -> Registration {
    Registration {
        zone: Some("DEFAULT_ZONE".into()),
        data_id: data_id.into(),
        group: group.into(),
        ..Registration::default()
    }
}

async fn tell_state(registry: Arc<SofaRegistry>) {
    let mut states = registry.state();
    loop {
        let state = states.borrow_and_update().clone();
        say(&json!({"event": "state", "up": state.is_up(), "state": format!("{state:?}")}));
        if states.changed().await.is_err() {
            return;
        }
    }
}

async fn publish(registry: Arc<SofaRegistry>, what: String, name: String, text: String) {
    let (target, service) = (target(&name), Service::parse(&name).unwrap());
    let instance = line::parse(&text, &service).unwrap();
    let done = match what.as_str() {
        "publish" => registry.publish(&target, &instance).await,
        _ => registry.withdraw(&target, &instance).await,
    };
    let done = done.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
    say(&json!({"event": what, "name": name, "done": done}));
}

async fn follow(registry: Arc<SofaRegistry>, target: Target) {
    let mut lists = registry.follow(target.clone());
    while lists.changed().await.is_ok() {
        let Some(list) = lists.borrow_and_update().clone() else {
            continue;
        };
        let lines: Vec<&str> = list.instances.iter().map(|instance| &*instance.raw).collect();
        let malformed: Vec<&str> = list.malformed.iter().map(|line| &**line).collect();
        say(
            &json!({"event": "list", "name": &**target.name(), "count": lines.len(), "lines": lines, "malformed": malformed}),
        );
    }
}

async fn subscribe(registry: Arc<SofaRegistry>, subject: Subject, scope: Scope) {
    let mut pushes = registry.relay_subscribe(&subject, scope);
    while pushes.changed().await.is_ok() {
        let Some(received) = pushes.borrow_and_update().clone() else {
            continue;
        };
        for segment in &received.segments {
            let (name, version, zone, zones) = (&segment.name, segment.version, &segment.local_zone, &segment.zones);
            say(
                &json!({"event": "received", "data_id": subject.data_id, "segment": name, "version": version, "local_zone": zone, "zones": zones}),
            );
        }
    }
}

async fn configure(registry: Arc<SofaRegistry>, subject: Subject) {
    let mut pushes = registry.relay_configure(&subject);
    while pushes.changed().await.is_ok() {
        let Some(config) = pushes.borrow_and_update().clone() else {
            continue;
        };
        let (version, data) = (config.version, &config.data);
        say(&json!({"event": "configuration", "data_id": subject.data_id, "version": version, "data": data}));
    }
}

fn say(event: &Value) {
    println!("{event}");
}
