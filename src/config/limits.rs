// SPDX-License-Identifier: Apache-2.0
//! Numbers of doors with which they could not work: none at all where one is needed, more than the system could hold.

use super::doors::Facades;
use super::value::{ByteSize, Span};

/// The settings that are wrong, by their keys below `facades`, each with what was found and is allowed.
pub(super) fn wrong(facades: &Facades) -> Vec<(String, String)> {
    let mut all = Findings::default();
    if let Some(door) = facades.mesh.on() {
        all.http(
            "mesh",
            door.probe_every,
            door.max_connections,
            door.max_entries,
            door.max_body,
        );
    }
    if let Some(door) = facades.dubbod.on() {
        all.http(
            "dubbod",
            door.probe_every,
            door.max_connections,
            door.max_entries,
            door.max_body,
        );
    }
    if let Some(door) = facades.sofaregistry.on() {
        let key = |setting: &str| format!("sofaregistry.{setting}");
        all.span(key("idle_limit"), door.idle_limit);
        all.span(key("push_timeout"), door.push_timeout);
        all.span(key("write_timeout"), door.write_timeout);
        all.number(key("max_connections"), door.max_connections, MAX_CONNECTIONS);
        all.number(key("max_registrations"), door.max_registrations, usize::MAX);
        all.number(key("max_data"), door.max_data.bytes(), usize::MAX);
        all.number(key("max_frame"), door.max_frame.bytes(), usize::MAX);
        all.number(key("buffer"), door.buffer.bytes(), usize::MAX);
    }
    all.0
}

#[derive(Default)]
struct Findings(Vec<(String, String)>);

impl Findings {
    fn http(&mut self, door: &str, probe_every: Span, max_connections: usize, max_entries: usize, max_body: ByteSize) {
        self.span(format!("{door}.probe_every"), probe_every);
        self.number(format!("{door}.max_connections"), max_connections, MAX_CONNECTIONS);
        self.number(format!("{door}.max_entries"), max_entries, usize::MAX);
        self.number(format!("{door}.max_body"), max_body.bytes(), usize::MAX);
    }

    fn span(&mut self, key: String, span: Span) {
        if span.0.is_zero() {
            self.0.push((key, format!("{span}; allowed: 1ms and more")));
        }
    }

    fn number(&mut self, key: String, number: usize, most: usize) {
        if number == 0 || number > most {
            let allowed = match most {
                usize::MAX => "1 and more".to_owned(),
                most => format!("1 to {most}"),
            };
            self.0.push((key, format!("{number}; allowed: {allowed}")));
        }
    }
}

/// Above the number of open files that any system grants.
const MAX_CONNECTIONS: usize = 1_000_000;
